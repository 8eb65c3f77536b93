"""One story from one seed: a configuration, what the operator does, what goes wrong, and a calm end."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING

from gimli.monitor import config
from gimli.process import ExitStatus
from simulation.computer import Computer, MonitorKilled, MonitorProcess
from simulation.invariants import Invariants
from simulation.monitor_shell import Replaced, Shell
from simulation.processes import CONT, KILL, STOP, TERM, Stranger, Terminal
from simulation.programs import Program
from simulation.world import SECOND_NS, Violated, World

if TYPE_CHECKING:
    from collections.abc import Callable

HUP, INT = 1, 2
EVENTS = 400
"""Of one story, before its calm end."""
_NAMES = ("a", "b", "c", "d")
_ROUNDS_AFTER_MAX = 20_000


class Failure(Exception):
    """A story in which an invariant did not hold."""


class Scenario:
    """A story.

    Args:
        seed: which.
        events: how many things happen before the calm end.
        shell: the monitor; a mutant of it shows that the invariants notice.
        lines: how much of the story is kept to be told.
    """

    def __init__(self, seed: int, events: int = EVENTS, shell: type[Shell] = Shell, lines: int = 60) -> None:
        self.seed = seed
        self.world = World(seed, lines)
        self.computer = Computer(self.world)
        self.invariants = Invariants(self.computer)
        self.shell: Shell | None = None
        self._events = events
        self._shell_class = shell
        self._paused_until_ns = 0
        chance = self.world.chance
        self._kill_rate = chance.choice((0.0, 0.5, 0.9))
        self.computer.error_rate = chance.choice((0.0, 0.0, 0.01, 0.05))
        self._moods = chance.choice((_QUIET, _BUSY, _BUSY, _STORMY))
        self._is_run = self.world.likely(0.15)
        """``gimli run``: one service, no file, and an end with it; else ``gimli up``."""
        self._untidy = chance.choice((*_NAMES, *_NAMES, None, None))
        """The service whose descendants may outlive it."""
        names = _NAMES[: 1 if self._is_run else chance.randint(1, 4)]
        self.computer.told = self._configuration(tuple(self._service(name) for name in names))
        self.computer.on_hang = lambda program: self.world.after(4, "inspection", lambda: self._hung(program))
        self.computer.on_spawn = self._spawned
        self._note_wishes(self.computer.told)

    def run(self) -> None:
        """The story.

        Raises:
            Failure: an invariant does not hold.
        """
        world = self.world
        try:
            world.after(0, "monitor", self._start_monitor)
            world.after(0.5, "inspection", self._inspect)
            world.after(1, "operator", self._meddle)
            while world.events.total() < self._events:
                self._step()
            self._end_in_calm()
        except Violated as violated:
            raise self._failure(str(violated)) from violated
        except Exception as error:
            places = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
            raise self._failure(f"{type(error).__name__}: {error}, in {' > '.join(places[-6:])}") from error

    def _failure(self, what: str) -> Failure:
        return Failure(
            f"{what}\n\nthe last events:\n{self.world.story()}\n\n"
            f"again: PYTHONPATH=tests python -m simulation --seed {self.seed}"
        )

    # The course of things.

    def _step(self) -> None:
        """Whatever comes next: a round of the monitor, or an event of the world."""
        world, shell = self.world, self.shell
        next_ns = world.next_ns
        if shell is not None and world.now_ns >= self._paused_until_ns:
            due_ns = shell.loop.next_ns
            if (due_ns is not None and due_ns <= world.now_ns) or shell.loop.ready():
                self._round(shell)
                return
            if due_ns is not None and (next_ns is None or due_ns <= next_ns):
                world.now_ns = due_ns
                self._round(shell)
                return
        if next_ns is None:
            raise Violated("nothing will ever happen again")
        try:
            world.advance()
        except MonitorKilled:
            self._lost()
        self.invariants.time_passes()
        if self.shell is not None and self.shell.me.is_dead:
            self._lost()

    def _round(self, shell: Shell) -> None:
        self.invariants.round_begins()
        before = len(self.computer.journal)
        try:
            shell.run_once()
            self._check_errors(before)
            if shell.supervision.is_over():
                status = shell.end()
                if self._is_run:
                    self.invariants.status_is_the_programs(status)
                self._ended()
        except MonitorKilled:
            self._lost()
        except Replaced as replaced:
            self._go_on(replaced.process, replaced.document)

    def _check_errors(self, before: int) -> None:
        for entry in self.computer.journal[before:]:
            if entry["event"] == "internal-error":
                raise Violated(entry["traceback"])

    # Monitors.

    def _start_monitor(self) -> None:
        computer = self.computer
        if self.shell:
            return
        me = MonitorProcess(computer)
        computer.monitor = me
        computer.monitor_since_ns = self.world.now_ns
        self._mortal(me)
        self.world.say("a monitor starts:", me.pid)
        self._note_wishes(computer.told)
        try:
            self.shell = self._shell_class(computer, me, computer.told)
            self.shell.begin()
            self._tempt()
        except MonitorKilled:
            self._lost()
        except OSError as error:
            if self.shell:
                raise
            self.world.say("it cannot:", error)
            me.die("it refuses to start")
            self._lost()

    def _tempt(self) -> None:
        """Who was found by its mark has a record again, and may overwrite its environment."""
        assert self.shell
        held = {service.pid for service in self.shell.services.values()}
        for process in self.computer.processes.values():
            if isinstance(process, Program) and process.is_honest and process.pid in held:
                process.is_honest = self.computer.is_disk_full
                process.is_marked = process.is_honest or self.world.likely(0.5)

    def _mortal(self, me: MonitorProcess) -> None:
        chance = self.world.chance
        me.kill_at = me.calls + int(10 ** chance.uniform(0, 3.2)) if self.world.likely(self._kill_rate) else 0

    def _go_on(self, me: MonitorProcess, document: bytes) -> None:
        """As ``main._go_on``."""
        packed = json.loads(document)
        self._mortal(me)
        self.world.say("the monitor is replaced in place")
        me.is_replaced = False
        told = config.unpack_monitor(packed["config"])
        before = [json.loads(item) for item in packed["supervision"]["services"]]
        known = {item["name"] for item in before} - set(packed["supervision"]["retired"])
        down = {item["name"] for item in before if item["child"]["state"] == "down"}
        self._note_new_wishes(told, known, down)
        try:
            self.shell = self._shell_class(self.computer, me, told, packed)
        except MonitorKilled:
            self._lost()

    def _lost(self) -> None:
        """It is gone: somebody starts it again, maybe after a reboot, or after meddling with its files."""
        if self.shell:
            self.shell.me.die("it is lost")
        self.shell = None
        self.invariants.term_ns = None
        self.invariants.lost()
        world = self.world
        self._paused_until_ns = 0
        if not self.computer.is_calm:
            for _ in range(world.chance.choice((0, 0, 2))):
                world.after(world.between(0, 1), "stranger", lambda: Stranger(self.computer))
            if world.likely(0.03):
                world.after(world.between(0, 0.5), "reboot", self._reboot)
            if world.likely(0.15):
                world.after(world.between(0, 0.5), "damage", self._damage)
        world.after(world.between(0.0001, 2), "monitor", self._start_monitor)

    def _ended(self) -> None:
        assert self.shell
        known = {self.shell._signals.fd, *self.shell.evidence.descriptors()}  # analyses go on without it
        left = self.shell.me.fds.keys() - known
        if left and not self.shell.takeover._is_under_way:
            raise Violated(
                f"the monitor ends with descriptors open: {[self.shell.me.fds[fd] for fd in left]}"
            )
        self.world.say("the monitor has ended")
        self.shell.me.die("its end")
        self.shell = None
        self.invariants.term_ns = None
        self.world.after(self.world.between(0.1, 2), "monitor", self._start_monitor)

    # What goes wrong around it.

    def _reboot(self) -> None:
        computer = self.computer
        if self.shell or computer.monitor:
            return
        self.world.say("the machine is started again")
        for process in tuple(computer.processes.values()):
            process.end(ExitStatus(signo=KILL))
            process.reaped()
        computer.terminal = Terminal(computer).pid
        computer.boot += 1
        computer.booted_ns = self.world.now_ns - SECOND_NS
        computer.unborn.clear()

    def _damage(self) -> None:
        computer, chance = self.computer, self.world.chance
        if self.shell or computer.monitor or not computer.records:
            return
        path = chance.choice(sorted(computer.records))
        name = path.split("/")[-1].removesuffix(".run")
        programs = [
            p for p in computer.processes.values() if getattr(p, "service", "") == name and p.is_alive
        ]
        self.world.say("somebody damages", path)
        self.invariants.damaged.add(name)
        if self.world.likely(0.3):
            for program in programs:
                program.is_marked = program.is_honest
        is_named = any(made.name == name for made in computer.told.services)
        if is_named and all(program.is_marked for program in programs) and self.world.likely(0.3):
            del computer.records[path]
            for program in programs:
                program.is_honest = True  # no record and no mark: then nothing could find it
        else:
            raw = bytearray(computer.records[path])
            computer.records[path] = bytes(raw[: chance.randrange(1, 120)]) or b"?"

    def _meddle(self) -> None:
        """The operator, and chance."""
        world = self.world
        if self.computer.is_calm:
            return
        deeds, weights, pause_s = self._moods
        deed: Callable[[Scenario], None] = world.chance.choices(deeds, weights)[0]
        world.say("--", deed.__name__.strip("_"))
        deed(self)
        world.after(world.chance.expovariate(1 / pause_s), "operator", self._meddle)

    def _hang_up(self) -> None:
        """HUPs in a row, as logrotate without sharedscripts sends them."""
        for _ in range(self.world.chance.choice((1, 2, 2, 10))):
            delay_s = self.world.between(0, 0.005)
            self.world.after(delay_s, "signal", lambda: self.computer.tell_monitor(HUP, 0))

    def _terminate(self) -> None:
        if self.shell is None:
            return
        self.computer.tell_monitor(self.world.chance.choice((TERM, TERM, INT)), 0)
        if self.invariants.term_ns is None:
            self.invariants.term_ns = self.world.now_ns
            self.invariants.patience_s = 0.0

    def _terminate_twice(self) -> None:
        self._terminate()
        self.world.after(self.world.between(0, 3), "signal", self._terminate)

    def _kill_monitor(self) -> None:
        if self.shell:
            self.shell.me.die("kill -9")
            self._lost()

    def _ask(self, call: str) -> None:
        shell = self.shell
        if shell is None or not shell.services:
            return
        name = self.world.chance.choice(sorted(shell.services))
        if not shell.is_ending:
            if call == "stop":
                self.invariants.wanted[name] = False
            elif call in {"start", "restart"}:
                self.invariants.wanted[name] = True
        shell._control.ask(call=call, service=name, signal="USR1")

    def _stop(self) -> None:
        self._ask("stop")

    def _start(self) -> None:
        self._ask("start")

    def _restart(self) -> None:
        self._ask("restart")

    def _snapshot(self) -> None:
        self._ask("snapshot")

    def _snapshot_and_terminate(self) -> None:
        """TERM while a snapshot is taken, most likely."""
        self._snapshot()
        self.world.after(self.world.between(0, 0.5), "signal", self._terminate)

    def _upgrade(self) -> None:
        self._ask("upgrade")

    def _look(self) -> None:
        self._ask("ps")

    def _signal_service(self) -> None:
        self._ask("signal")

    def _kill_somebody(self) -> None:
        processes = [
            p for p in self.computer.processes.values() if p.is_alive and not isinstance(p, Stranger)
        ]
        if processes:
            signo = self.world.chance.choice((KILL, KILL, TERM, STOP, CONT, 6))
            self.world.chance.choice(processes).signalled(signo)

    def _fill_disk(self) -> None:
        self.computer.is_disk_full = True
        self.world.after(self.world.between(0, 10), "disk", self._empty_disk)

    def _empty_disk(self) -> None:
        self.computer.is_disk_full = False

    def _pause_monitor(self) -> None:
        """It is not let run for a while: a busy machine, SIGSTOP, a virtual machine that was suspended."""
        pause_s = self.world.chance.choice((0.01, 0.1, 1.0, 30.0))
        self._paused_until_ns = self.world.now_ns + int(pause_s * 1e9)
        self.invariants.patience_s += pause_s

    def _jump(self) -> None:
        """The clock jumps: everything that was to happen in between happens late."""
        jump_s = self.world.chance.choice((0.1, 1.0, 3600.0))
        self.world.jump(jump_s)
        self.invariants.patience_s += jump_s

    def _configure(self) -> None:
        """Somebody edits gimli.toml; and may forget to say so."""
        if self._is_run:
            return
        chance = self.world.chance
        services = {made.name: made for made in self.computer.told.services}
        name = chance.choice(_NAMES)
        if name in services and len(services) > 1 and self.world.likely(0.7):
            del services[name]
        else:
            services[name] = self._service(name)
        self.computer.told = self._configuration(tuple(services.values()))
        if self.world.likely(0.8):
            self._hang_up()

    def _configure_and_regret(self) -> None:
        """A service leaves gimli.toml, and comes back while it still stops."""
        told = self.computer.told
        if len(told.services) < 2:
            return
        self.computer.told = self._configuration(told.services[1:])
        self._hang_up()
        self.world.after(self.world.between(0.05, 1), "operator", lambda: self._come_back(told.services[0]))

    def _come_back(self, made: config.Service) -> None:
        others = tuple(other for other in self.computer.told.services if other.name != made.name)
        self.computer.told = self._configuration((made, *others))
        self._hang_up()

    # Configurations.

    def _configuration(self, services: tuple[config.Service, ...]) -> config.Monitor:
        return config.Monitor(
            services,
            "/state",
            "/run",
            "up",
            None,
            foreground=self._is_run,
            monitor_command=("monitor",),
            capture_command=("capture",),
            analysis_command=("analysis",),
            reread_command=() if self._is_run else ("reread",),
        )

    def _service(self, name: str) -> config.Service:
        chance = self.world.chance
        policy = config.Policy(
            config.Intervals(chance.uniform(0.5, 3), chance.uniform(1, 4), chance.uniform(0.2, 2)),
            chance.choice(
                (config.Restart.ALWAYS, config.Restart.ALWAYS, config.Restart.ON_FAULT, config.Restart.NEVER)
            ),
            config.Backoff(0.1, 2.0, chance.choice((0.5, 3.0)), chance.choice((0, 0, 3, 15))),
        )
        log = config.Log(f"/logs/{name}.log") if self.world.likely(0.8) else config.Log(None)
        return config.Service(
            name,
            (name,),
            log,
            policy,
            autostart=self.world.likely(0.9),
            leave_leftovers=name == self._untidy,
            has_session=self.world.likely(0.9),
        )

    def _note_wishes(self, told: config.Monitor) -> None:
        """A monitor that starts wants what its configuration says."""
        self.invariants.wanted = {made.name: made.autostart for made in told.services}

    def _note_new_wishes(self, told: config.Monitor, known: set[str], down: set[str]) -> None:
        """A takeover wants what is new in the configuration."""
        for made in told.services:
            if made.name not in known:
                self.invariants.wanted[made.name] = made.autostart
            elif made.name in down:
                self.invariants.wanted[made.name] = False  # by the policy it had
        named = {made.name for made in told.services}
        for name in tuple(self.invariants.wanted):
            if name not in named:
                del self.invariants.wanted[name]

    # Looking at it.

    def _inspect(self) -> None:
        if self.shell and not self._is_behind():
            self.invariants.inspect(self.shell)
        self.world.after(self.world.between(1, 3), "inspection", self._inspect)

    def _spawned(self, program: Program) -> None:
        self.invariants.only_its_own_are_left(program.service, program)

    def _is_behind(self) -> bool:
        """The monitor was not let run, and has not caught up."""
        assert self.shell
        due_ns = self.shell.loop.next_ns
        is_late = due_ns is not None and due_ns <= self.world.now_ns
        return self.world.now_ns < self._paused_until_ns or is_late or bool(self.shell.loop.ready())

    def _hung(self, program: Program) -> None:
        if not program.is_alive:
            return
        if not self.shell or self._is_behind() or not self.invariants.hang_is_noticed(self.shell, program):
            self.world.after(3, "inspection", lambda: self._hung(program))

    def _end_in_calm(self) -> None:
        """No more faults: a monitor is started, if there is none, and ends in order by TERM."""
        self.world.say("-- calm")
        self.computer.is_calm = True
        self.computer.is_disk_full = False
        while self.shell is None:
            self._step()
        calm_until_ns = self.world.now_ns + int(self.world.between(0, 5) * 1e9)
        while self.world.now_ns < calm_until_ns:
            self._step()
        while self.shell is None:
            self._step()
        self._terminate()
        for _ in range(_ROUNDS_AFTER_MAX):
            self._step()
            if self.shell is None:
                break
        else:
            raise Violated("TERM has not ended the monitor")
        self.invariants.at_the_end()


_Mood = tuple[tuple["Callable[[Scenario], None]", ...], tuple[int, ...], float]


def _mood(pause_s: float, **weights: int) -> _Mood:
    deeds = tuple(getattr(Scenario, f"_{name}") for name in weights)
    return deeds, tuple(weights.values()), pause_s


_QUIET = _mood(
    5,
    hang_up=3,
    kill_monitor=1,
    stop=2,
    start=2,
    restart=2,
    snapshot=2,
    terminate=1,
    look=1,
    snapshot_and_terminate=1,
)
_BUSY = _mood(
    1,
    hang_up=5,
    kill_monitor=2,
    stop=3,
    start=3,
    restart=3,
    snapshot=4,
    upgrade=1,
    look=1,
    signal_service=1,
    kill_somebody=4,
    fill_disk=1,
    pause_monitor=1,
    jump=1,
    configure=3,
    configure_and_regret=2,
    terminate=1,
    terminate_twice=1,
    snapshot_and_terminate=1,
)
_STORMY = _mood(
    0.05,
    hang_up=5,
    kill_monitor=2,
    stop=3,
    start=6,
    restart=4,
    snapshot=4,
    upgrade=2,
    kill_somebody=6,
    fill_disk=1,
    pause_monitor=1,
    configure=4,
    configure_and_regret=3,
    terminate=1,
    terminate_twice=1,
    snapshot_and_terminate=1,
)
