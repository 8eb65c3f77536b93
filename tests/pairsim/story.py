"""One story from one seed: a pair, what goes wrong, and calm, in which all must become well."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from pairsim import faults, settings
from pairsim.daemon import Daemon
from pairsim.invariants import Invariants
from pairsim.kernel import Weather
from pairsim.machine import LAN, SYNC, Machine
from pairsim.network import Link
from pairsim.traffic import Traffic
from pairsim.watched import Streams
from pairsim.world import World
from simulation.world import SECOND_NS, Violated

if TYPE_CHECKING:
    from pairsim.process import Process

EVENTS = 400
"""Of one story, before its calm end."""
CONVERGENCE_S = 20.0
"""In which all is well after the last fault, besides five dead times: a stream that is given up after a
silence of 5 s, resent once a second, and daemons that start within one."""


class Failure(Exception):
    """A story in which an invariant did not hold."""


class Story:
    """A story.

    Args:
        seed: which.
        events: how many things happen before the calm end.
        lines: how much of the story is kept to be told.
        mood: what goes wrong; None: by chance.
    """

    def __init__(
        self, seed: int, events: int = EVENTS, lines: int = 60, mood: faults.Mood | None = None
    ) -> None:
        self.seed = seed
        self.world = world = World(seed, lines)
        self.settings = settings.draw(world.chance)
        self._events = events
        self.machines = (
            Machine(world, "a", 1, self.settings.rates[0], self.settings.hz[0]),
            Machine(world, "b", 2, self.settings.rates[1], self.settings.hz[1]),
        )
        self.links = {
            name: Link(world, name, self.machines, delay_s)
            for name, delay_s in zip((LAN, SYNC), self.settings.delays_s, strict=True)
        }
        self.weather = Weather(world.likely)
        self.has_sync = self.settings.pairs[0].sync is not None
        moods = (faults.FREEZES, faults.FREEZES, faults.SPLITS, faults.KERNELS, faults.ANYTHING)
        self._mood = mood or world.chance.choice(moods)
        self.is_strict = self._mood is faults.FREEZES
        """Nothing is worse than a daemon that stands still or is gone."""
        self.links[SYNC].is_bad = not self.is_strict and world.likely(0.4)
        self.links[SYNC].mend()
        self._pause_s = self.settings.dead_s * world.chance.choice((0.1, 0.3, 1.0))
        self._streams = Streams()
        self.invariants = Invariants(self)
        for machine in self.machines:
            machine.answers_changed = self.invariants.answers_changed
        leading = self.settings.pairs[0].carp[0].vhid
        pause_s = self.settings.traffic_pause * self.settings.dead_s
        self._traffic = Traffic(world, self.machines, leading, pause_s)
        self.start_s: float | None = None
        """After how long a daemon that ends now is started again; None: by chance."""
        self.calm_s = 0.0
        """How long it took until all was well."""

    def other(self, machine: Machine) -> Machine:
        """The other host."""
        return self.machines[machine is self.machines[0]]

    def run(self) -> None:
        """The story.

        Raises:
            Failure: an invariant does not hold.
        """
        world = self.world
        world.say(self.settings)
        try:
            for machine in self.machines:
                world.after(world.between(0, 1), "start", lambda machine=machine: self._start(machine))
            world.after(1 + world.between(0, 3) * self.settings.dead_s, "fault", self._meddle)
            while world.events.total() < self._events:
                world.advance()
            self._end_in_calm()
        except Violated as violated:
            raise self._failure(str(violated)) from violated
        except Exception as error:
            places = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
            raise self._failure(f"{type(error).__name__}: {error}, in {' > '.join(places[-6:])}") from error

    def _failure(self, what: str) -> Failure:
        return Failure(
            f"{what}\n\nthe last events:\n{self.world.story()}\n\n"
            f"again: PYTHONPATH=tests python -m pairsim --seed {self.seed}"
        )

    def _meddle(self) -> None:
        if self.world.is_calm:
            return
        deeds, weights = self._mood
        deed = self.world.chance.choices(deeds, weights)[0]
        deed(self)
        self.world.after(self.world.chance.expovariate(1 / self._pause_s), "fault", self._meddle)

    # Daemons.

    def _start(self, machine: Machine) -> None:
        if machine.process is not None:
            return
        self.world.say(machine.name, "starts a daemon")
        daemon = Daemon(machine, self.world, self.settings, self.links, self.weather, self._streams)
        machine.process = daemon
        daemon.ended = self._ended
        daemon.settled = self.invariants.settled  # type: ignore[assignment]
        self.invariants.began(daemon)
        daemon.run(daemon.begin)

    def _ended(self, process: Process) -> None:
        machine = process.machine
        longest_s = 1.0 if self.world.is_calm else self.settings.dead_s * 2
        delay_s = self.start_s or self.world.between(0.001, longest_s)
        self.world.after(delay_s, "start", lambda: self._start(machine))

    # The end.

    def _end_in_calm(self) -> None:
        """No more faults: within a bounded time all is well, and stays so."""
        world = self.world
        world.say("-- calm")
        world.is_calm = True
        self.invariants.links_change()
        self.weather.clear()
        self._traffic.pause_s = 0.0
        for link in self.links.values():
            link.is_bad = False
            link.mend()
        for machine in self.machines:
            for name, carrier in machine.links.items():
                if not carrier:
                    machine.plug(name, carrier=True)
            if machine.process:
                machine.process.thaw()
            else:
                world.after(0.5, "start", lambda machine=machine: self._start(machine))
        began_ns = world.now_ns
        bound_s = CONVERGENCE_S + 5 * self.settings.dead_s
        step_s = self.settings.dead_s / 4
        self._go_on(self.settings.dead_s)  # who has heard nothing for nearly as long may still take over
        while why := self.invariants.differences():
            self.calm_s = (world.now_ns - began_ns) / SECOND_NS
            if self.calm_s > bound_s:
                raise Violated(f"{self.calm_s:.1f} s after the last fault {why}")
            self._go_on(step_s)
        roles = self._roles()
        self._go_on(1.5 * self.settings.dead_s)
        if why := self.invariants.differences():
            raise Violated(f"all was well, and then {why}")
        if self._roles() != roles:
            raise Violated(f"roles change in calm: {roles}, then {self._roles()}")

    def _roles(self) -> list[str]:
        return [
            f"{machine.name}: {[vhid.role.value for vhid in machine.process.node.vhids]}"
            for machine in self.machines
            if machine.process
        ]

    def _go_on(self, for_s: float) -> None:
        until_ns = self.world.now_ns + int(for_s * SECOND_NS)
        self.world.after(for_s, "look", lambda: None)
        while self.world.now_ns < until_ns:
            self.world.advance()
