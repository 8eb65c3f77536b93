"""What is a daemon of the pair made of here? Its node, its runtime and its state sync are gimli's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.pair.node import Node, rising
from gimli.pair.replication import Replication
from gimli.pair.runtime import Runtime
from gimli.pair.track import Tracked
from pairsim.kernel import Ends, Hooks, Host, Journal
from pairsim.machine import LAN, SYNC
from pairsim.process import Inbox, Process
from pairsim.watched import WatchedSync
from simulation.world import SECOND_NS

if TYPE_CHECKING:
    from gimli.pair.config import Pair
    from pairsim.kernel import Weather
    from pairsim.machine import Machine
    from pairsim.network import Link
    from pairsim.settings import Settings
    from pairsim.watched import Streams
    from pairsim.world import World


class Daemon(Process):
    """One life of a daemon.

    Args:
        machine: on which it runs.
        world: that goes on when it does not.
        settings: of the story.
        links: by name.
        weather: how likely its calls fail.
        streams: where it is noted what it sends and applies.
    """

    def __init__(
        self,
        machine: Machine,
        world: World,
        settings: Settings,
        links: dict[str, Link],
        weather: Weather,
        streams: Streams,
    ) -> None:
        super().__init__(machine, world)
        self.pair: Pair = settings.pairs[machine.number - 1]
        self.found = Inbox(self.wake)
        """What the tracker finds."""
        self.sync: WatchedSync | None = None
        if self.pair.sync:
            self.sync = WatchedSync(
                world.chance.getrandbits(63) + 1, self.pair.sync, machine.epoch, streams, machine
            )
        self.host = Host(self, self.pair, settings.sources(machine.number), links[LAN], weather)
        self.node = Node(self.pair, self.host.sources(), self._cookie(), self.sync)
        self.runtime = Runtime(
            self.pair,
            self.node,
            self.loop,
            self.host,  # type: ignore[arg-type]
            Journal(self),  # type: ignore[arg-type]
            Hooks(self),  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
        )
        if self.sync:
            self.sync.taken_from = lambda: self.node.leader.peer
        self.is_ending = False
        self._ends = Ends(self, links[SYNC], f"198.51.100.{3 - machine.number}", settings.events_size)

    def begin(self) -> None:
        """As ``gimli.pair.daemon`` does."""
        machine, runtime = self.machine, self.runtime
        self.call("remove leftovers")
        for vhid in tuple(machine.addresses):
            machine.give_address(vhid, present=False)
        self.host.open(self.loop, runtime.heard, runtime.links_changed, runtime.guard_changed)
        if self.sync and self.pair.sync:
            runtime.replication = Replication(
                self.pair.sync,
                self.sync,
                self.loop,
                runtime.received,
                runtime.sync_due,
                runtime.sync_ordered,
                self.host.own_addresses(),
                self._ends,  # type: ignore[arg-type]
            )
            self.sync.watch(runtime.replication)
        self.loop.watch(self.epoll.open(self.found), self._found)
        self.find(service_is_up=machine.is_service_up)
        runtime.begin(is_heir=machine.was_owner)

    def find(self, *, service_is_up: bool) -> None:
        """The tracker has looked."""
        self.found.put(Tracked("service web", "" if service_is_up else "is FAILED"))

    def stop(self, because: str) -> None:
        """SIGTERM."""
        self.is_ending = True
        self.runtime.stop(because)
        if self.runtime.replication:
            self.runtime.replication.close()
        for words in self.host.close():
            self.world.say(self.machine.name, "not let go:", words)
        self.die()

    def _cookie(self) -> int:
        """As ``gimli.pair.daemon``: by the clock on the wall where counters must rise."""
        cookie = self.world.chance.getrandbits(62)
        if any(carp.strict_replay for carp in self.pair.carp):
            cookie = rising(1_800_000_000 * SECOND_NS + self.world.now_ns, cookie)
        return cookie

    def _found(self, _: int) -> None:
        self.runtime.found(self.found.take())

    def remember_epoch(self, epoch: int, *, is_owner: bool) -> None:
        """As ``gimli.pair.runtime.Memory``."""
        self.call("remember the epoch")
        self.machine.epoch = epoch
        self.machine.was_owner = is_owner
