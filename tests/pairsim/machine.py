"""What is a host without its daemon? What stays when that is killed: a clock, a kernel, a disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pairsim.conntrack import Conntrack
from simulation.world import SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pairsim.process import Process
    from simulation.world import World

LAN, SYNC = "lan0", "sync0"


class Machine:
    """One host.

    Args:
        world: where it stands.
        name: for the story.
        number: last byte of its addresses.
        rate: how fast its clock runs; 1.0 is right.
        hz: how many jiffies its kernel counts in a second.
    """

    def __init__(self, world: World, name: str, number: int, rate: float, hz: int) -> None:
        self.world = world
        self.name = name
        self.number = number
        self.rate = rate
        self.addresses: set[int] = set()
        """Vhids whose addresses are on an interface."""
        self.links = {LAN: True, SYNC: True}
        """Whether each has a carrier."""
        self.fence: set[str] | None = None
        """The names of its sets; None: the guard's table is not there."""
        self.is_guard_whole = False
        """Whether its rules are what they should be."""
        self.conntrack = Conntrack()
        self.is_service_up = True
        """What the tracker looks at."""
        self.epoch = 0
        """On the disk."""
        self.was_owner = False
        """In the runtime directory: this kernel has the connections."""
        self.journal: list[tuple[int, str, dict[str, Any]]] = []
        self.process: Process | None = None
        self.answers_changed: Callable[[Machine, int], None] = lambda _machine, _vhid: None
        self._leases: dict[str, int] = {}
        self._tick_ns = SECOND_NS // hz
        self._booted_ns = world.now_ns
        self._uptime_ns = 0
        self.boot()

    def boot(self) -> None:
        """Start anew: nothing of the kernel is left."""
        self._booted_ns = self.world.now_ns
        self._uptime_ns = int(self.world.between(10, 1000) * SECOND_NS)
        self.fence, self.is_guard_whole = None, False
        self.was_owner = False
        self._leases.clear()
        self.conntrack = Conntrack()
        gone, self.addresses = self.addresses, set()
        for vhid in gone:
            self.answers_changed(self, vhid)

    # Its clock.

    def now_ns(self) -> int:
        """CLOCK_MONOTONIC, as good as it is."""
        return self._uptime_ns + int((self.world.now_ns - self._booted_ns) * self.rate)

    def world_ns(self, local_ns: int) -> int:
        """When its clock will show that, or a little later."""
        return self._booted_ns + int((local_ns - self._uptime_ns) / self.rate) + 2

    # Its fence.

    def build_fence(self, names: set[str], *, fresh: bool) -> None:
        """Set up the guard's table; a fresh one is without any lease."""
        if fresh or self.fence is None:
            self._leases.clear()
        self.fence, self.is_guard_whole = set(names), True
        self._all_changed()

    def break_fence(self, *, all_of_it: bool) -> None:
        """Somebody flushes the ruleset, or alters a rule."""
        self.is_guard_whole = False
        if all_of_it:
            self.fence = None
            self._leases.clear()
        self._all_changed()

    def lease(self, name: str, length_s: float) -> None:
        """Put the elements into a set, with a timeout that is counted in jiffies."""
        ticks = -(-round(length_s * 1000) * 1_000_000 // self._tick_ns)
        self._leases[name] = self.now_ns() // self._tick_ns + ticks
        self._changed(name)

    def unlease(self, name: str) -> None:
        """Take them out."""
        self._leases.pop(name, None)
        self._changed(name)

    def holds(self, name: str) -> bool:
        """Whether they are in the set, and not past their time."""
        return self._leases.get(name, 0) > self.now_ns() // self._tick_ns

    def held_until_ns(self, vhid: int) -> int:
        """In the world's time; 0 when it holds nothing."""
        name = f"lease_{vhid}"
        return self.world_ns(self._leases[name] * self._tick_ns) if self.holds(name) else 0

    # What the neighbours see.

    def may_send(self, vhid: int) -> bool:
        """Whether frames of the vhid come in and go out."""
        return not self.is_guard_whole or self.holds(f"lease_{vhid}")

    def answers(self, vhid: int) -> bool:
        """Whether this host, alive or not, answers for the address of a vhid."""
        return vhid in self.addresses and self.links[LAN] and self.may_send(vhid)

    def give_address(self, vhid: int, *, present: bool) -> None:
        """Have the addresses of a vhid, or have them no more."""
        (self.addresses.add if present else self.addresses.discard)(vhid)
        self.answers_changed(self, vhid)

    def plug(self, link: str, *, carrier: bool) -> None:
        """Plug a cable in or pull it out."""
        self.links[link] = carrier
        self._all_changed()
        if self.process:
            self.process.link_events.put(link)

    def _changed(self, name: str) -> None:
        self.answers_changed(self, int(name.removeprefix("lease_")))

    def _all_changed(self) -> None:
        for vhid in tuple(self.addresses):
            self.answers_changed(self, vhid)
