"""What is the pair's daemon in the simulation? ``gimli.pair``'s own machines and runtime, on virtual time.

    frames, datagrams, links, timers --> runtime, node, state sync --> kernel of a Linux firewall

Nothing here decides: what a daemon asks of its host (a clock, presences, a link to its peer, a table of
connections) is given to it on a network that does not exist. A daemon that hangs takes nothing and does
nothing until it goes on, and then does all of it late; its host's kernel goes on meanwhile.
"""

from __future__ import annotations

import errno
from ipaddress import IPv4Address, ip_interface
from typing import TYPE_CHECKING, Any, Protocol, cast

from gimli.lab.network.simulator.ctnetlink import packed
from gimli.lab.network.simulator.fence import Fence, lease_of
from gimli.loop import Deadline
from gimli.pair import config, ctinsertion, syncactions
from gimli.pair.ctfilter import Filter
from gimli.pair.ctintake import Intake
from gimli.pair.guard import lease_length_s
from gimli.pair.node import Node
from gimli.pair.packet import pack_packet
from gimli.pair.runtime import Runtime
from gimli.pair.statesync import StateSync
from gimli.pair.tenure import Tenure

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from gimli.lab.network import topology
    from gimli.lab.network.simulator.conntrack_table import ConntrackTable
    from gimli.lab.network.simulator.engine import Engine
    from gimli.pair.packet import Advertisement

_PASSWORD = b"of the laboratory"
_NANOSECONDS = 1_000_000_000
_READ_AFTER_S = 0.002
"""How long an event waits for others, as in ``gimli.pair.replication``."""
_DUMP_AFTER_S = 0.001
_DUMPED_AT_ONCE = 100
_WRITE_S = 0.000_010
"""What the kernel takes for one message, as measured (docs/benchmarks.md)."""


class Kernel(Protocol):
    """What a daemon has its host's kernel do."""

    name: str
    fence: Fence
    table: ConntrackTable

    def send_carp(self, vhid: int, ip_packet: bytes) -> OSError | None:
        """Send a packet of CARP with the virtual MAC; why it did not go out."""

    def send_datagram(self, datagram: bytes) -> None:
        """Send a datagram to the peer."""

    def give_address(self, vhid: int, *, present: bool) -> None:
        """Have the address of a vhid, or have it no more."""

    def announce(self, vhid: int) -> None:
        """Tell the link where the address is."""

    def obstacle(self, interface: str) -> str:
        """Why a link is of no use; empty where it is of use."""

    def tell(self, event: str, details: dict[str, Any]) -> None:
        """For the journal."""

    def remember(self, epoch: int) -> None:
        """On the disk."""


class Loop:
    """As ``gimli.loop.Loop``: a daemon's clock and timers.

    Args:
        engine: whose time it is.

    Attributes:
        is_hung: nothing happens until it is false again.
        is_dead: nothing will.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._late: list[Callable[[], None]] = []
        self.is_hung = False
        self.is_dead = False

    def now_ns(self) -> int:
        """What time it is."""
        return round(self._engine.now_s * _NANOSECONDS)

    def after(self, delay_s: float, callback: Callable[[], None]) -> Deadline:
        """Call back later."""
        due_s = self._engine.now_s + delay_s
        deadline = Deadline(round(due_s * _NANOSECONDS), callback)
        self._engine.at(due_s, self._expire, deadline)
        return deadline

    def do(self, what: Callable[[], None]) -> None:
        """Something has come: now, or when it hangs no more."""
        if self.is_hung:
            self._late.append(what)
        elif not self.is_dead:
            what()

    def go_on(self) -> None:
        """It hangs no more: all that has come meanwhile, in its order."""
        self.is_hung = False
        late, self._late = self._late, []
        for what in late:
            self.do(what)

    def _expire(self, deadline: Deadline) -> None:
        self.do(lambda: self._call(deadline))

    @staticmethod
    def _call(deadline: Deadline) -> None:
        callback, deadline.callback = deadline.callback, None
        if callback is not None:
            callback()


class Presence:
    """As ``gimli.pair.presence.Presence``: one vhid in a kernel."""

    def __init__(self, kernel: Kernel, carp: topology.Carp, source: IPv4Address, loop: Loop) -> None:
        self._kernel = kernel
        self._vhid = carp.vhid
        self._source = source
        length_s = lease_length_s(carp.advbase, carp.advskew)
        leases = cast("Any", kernel.fence)  # it has what a Tenure asks of its leases
        self.tenure = Tenure(lease_of(carp.vhid), length_s, leases, lambda: loop.now_ns() / _NANOSECONDS)

    def take_addresses(self) -> None:
        """Have them."""
        self._kernel.give_address(self._vhid, present=True)

    def drop_addresses(self) -> None:
        """Have none of them."""
        self._kernel.give_address(self._vhid, present=False)

    def advertise(self, advertisement: Advertisement) -> str:
        """Under the lease; why that did not go out."""
        (error,) = self.tenure.advertise(lambda: [self._send(advertisement)])
        return str(error.strerror) if error else ""

    def bow_out(self, advertisement: Advertisement) -> None:
        """The last one of a MASTER."""
        self._send(advertisement)

    def announce(self) -> str:
        """Tell the link where the address is."""
        self._kernel.announce(self._vhid)
        return ""

    def _send(self, advertisement: Advertisement) -> OSError | None:
        return self._kernel.send_carp(self._vhid, pack_packet(advertisement, self._source))


class Site:
    """As ``gimli.pair.host.Host``: what a runtime asks of its host."""

    def __init__(self, kernel: Kernel, firewall: topology.Firewall, loop: Loop) -> None:
        self._kernel = kernel
        self._carps = firewall.carp
        own = {each.name: each.address.partition("/")[0] for each in firewall.interfaces}
        self._own = frozenset(map(packed, own.values()))
        self.sources = {carp.vhid: IPv4Address(own[carp.interface]) for carp in firewall.carp}
        self.presences = {
            carp.vhid: Presence(kernel, carp, self.sources[carp.vhid], loop) for carp in firewall.carp
        }
        self.places: tuple[()] = ()  # nobody else removes an address here

    def obstacles(self) -> dict[int, str]:
        """For each vhid why its link is of no use."""
        return {carp.vhid: self._kernel.obstacle(carp.interface) for carp in self._carps}

    def look_at_links(self) -> list[Any]:
        """None is tracked besides."""
        return []

    def own_addresses(self) -> frozenset[bytes]:
        """Those that do not move."""
        return self._own

    def hear(self) -> None:
        """What has come was heard."""

    def ask_for_carriers(self) -> None:
        """Links tell at once."""

    def look_at_guard(self) -> None:
        """Nobody touches the rules."""


class Link:
    """As ``gimli.pair.replication.Replication``: between this kernel's connections and the peer.

    Args:
        kernel: with the table of connections.
        sync: the machine.
        loop: that calls back.
        due: called when the machine has a deadline.
        ordered: called with what the machine ordered on what the kernel told.
    """

    def __init__(
        self,
        kernel: Kernel,
        sync: StateSync,
        loop: Loop,
        due: Callable[[], None],
        ordered: Callable[[list[syncactions.Action]], None],
    ) -> None:
        self._kernel = kernel
        self._sync = sync
        self._loop = loop
        self._due = due
        self._ordered = ordered
        self._deadline: Deadline | None = None
        self._events: list[bytes] = []
        self._dump: list[bytes] = []
        self._dumps = 0
        self._writes_until_s = 0.0
        self.filter = Filter()
        self._intake = Intake(self.filter)

    def carry_out(self, action: syncactions.Action) -> None:
        """An order of the machine."""
        match action:
            case syncactions.Send(datagram):
                self._kernel.send_datagram(datagram)
            case syncactions.Apply(messages):
                self._write(messages)
            case syncactions.Listen(wanted):
                self._events.clear()
                self._kernel.table.tell = self._told if wanted else None
            case syncactions.Dump():
                self._dumps += 1
                number = self._dumps
                self._loop.after(_DUMP_AFTER_S, lambda: self._begin_dump(number))
            case _:
                raise AssertionError(f"{action} is for somebody else")

    def hear(self) -> None:
        """What has come was heard."""

    def settle(self) -> None:
        """After orders: wake when the machine has something to do."""
        now_s = self._loop.now_ns() / _NANOSECONDS
        due_s = max(self._sync.next_due_s(), self._writes_until_s, now_s)
        if self._deadline is not None:
            if self._deadline.callback is not None and self._deadline.at_ns <= due_s * _NANOSECONDS:
                return
            self._deadline.cancel()
        # The nanosecond behind it: a hair before it, nothing is due, and it is asked for again at once.
        self._deadline = self._loop.after(due_s - now_s + 1e-9, self._due)

    def close(self) -> None:
        """The daemon has ended."""
        self._kernel.table.tell = None

    def _told(self, message: bytes) -> None:
        self._events.append(message)
        if len(self._events) == 1:
            self._loop.after(_READ_AFTER_S, self._read)

    def _read(self) -> None:
        events, self._events = self._events, []
        self._sync.put(self._intake.take(events), self._loop.now_ns() / _NANOSECONDS)
        self._due()

    def _begin_dump(self, number: int) -> None:
        if number == self._dumps:
            self._dump = self._kernel.table.dump()
            self._go_on_dumping(number)

    def _go_on_dumping(self, number: int) -> None:
        if number != self._dumps:
            return  # another one was ordered since
        now_s = self._loop.now_ns() / _NANOSECONDS
        if self._sync.wants_dump:
            part, self._dump = self._dump[:_DUMPED_AT_ONCE], self._dump[_DUMPED_AT_ONCE:]
            self._sync.put_dumped(self._intake.take_dumped(part), now_s)
        if self._dump:
            self._loop.after(_DUMP_AFTER_S, lambda: self._go_on_dumping(number))
        else:
            self._ordered(self._sync.dump_done(now_s))
        self._due()

    def _write(self, messages: list[bytes]) -> None:
        self._writes_until_s = self._loop.now_ns() / _NANOSECONDS + _WRITE_S * len(messages)
        for message in messages:
            number = self._kernel.table.asked(message)
            if number and number != errno.ENOENT:
                for again in ctinsertion.second_try(message, number) or ():
                    self._kernel.table.asked(again)


class Daemon:
    """One life of a daemon.

    Args:
        engine: whose time it lives in.
        kernel: of its host.
        firewall: what it was told.
        peer: the other one's address on the sync link; empty where there is none.
        chance: for what it draws when it starts.
        epoch: the highest that its host has seen.
    """

    def __init__(
        self,
        engine: Engine,
        kernel: Kernel,
        firewall: topology.Firewall,
        peer: str,
        chance: Random,
        epoch: int,
    ) -> None:
        self._kernel = kernel
        self.loop = Loop(engine)
        pair = pair_of(firewall, peer)
        sync = None
        if pair.sync:
            sync = StateSync(chance.getrandbits(63) + 1, pair.sync.password, pair.sync.mode, epoch)
        site = Site(kernel, firewall, self.loop)
        self.node = Node(pair, dict(site.sources), chance.getrandbits(62), sync)
        # A runtime asks of its host what these have, on a host that is one.
        self._runtime = Runtime(
            pair,
            self.node,
            cast("Any", self.loop),
            cast("Any", site),
            cast("Any", self),
            cast("Any", self),
            self,
        )
        self._link: Link | None = None
        if sync is not None:
            runtime = self._runtime
            self._link = Link(kernel, sync, self.loop, runtime.sync_due, runtime.sync_ordered)
            runtime.replication = cast("Any", self._link)

    def begin(self) -> None:
        """Take part."""
        self._runtime.begin(is_heir=False)

    def end(self) -> None:
        """It is killed: nothing is let go of."""
        self.loop.is_dead = True
        if self._link is not None:
            self._link.close()

    def heard(self, interface: str, ip_packet: bytes) -> None:
        """A packet of CARP came."""
        self.loop.do(lambda: self._runtime.heard(interface, ip_packet))

    def received(self, datagram: bytes) -> None:
        """A datagram of the peer's came."""
        if self._link is not None:
            self.loop.do(lambda: self._runtime.received(datagram))

    def links_changed(self) -> None:
        """A link is not what it was."""
        self.loop.do(lambda: self._runtime.links_changed([]))

    # What a runtime asks of a journal, of hooks and of what outlives the daemon.

    def record(self, event: str, **details: Any) -> None:
        """Write a line."""
        self._kernel.tell(event, details)

    def role_changed(self, carp: config.Carp, role: str) -> None:
        """A command would run."""

    def remember_epoch(self, epoch: int, *, is_owner: bool) -> None:
        """Write it to the disk; who is owner is forgotten with the power, which is how daemons end here."""
        self._kernel.remember(epoch)


def pair_of(firewall: topology.Firewall, peer: str) -> config.Pair:
    """The pair.toml of a firewall.

    Args:
        firewall: which.
        peer: the other one's address on the sync link; empty where there is none.
    """
    carps = tuple(
        config.Carp(
            carp.vhid,
            carp.interface,
            (ip_interface(f"{carp.address}/32"),),
            _PASSWORD,
            carp.advbase,
            carp.advskew,
            carp.preempt,
        )
        for carp in firewall.carp
    )
    guarded = tuple(dict.fromkeys(carp.interface for carp in firewall.carp))
    sync = None
    if firewall.sync and peer:
        sync = config.Sync(firewall.sync, IPv4Address(peer), _PASSWORD, mode=firewall.linux.mode)
    return config.Pair(carps, config.Guard(guarded, firewall.is_guarded), sync)
