"""How do facts of this host reach its node, and what it orders the host?

    frames, datagrams, links, guard, findings, timers --> Node --> presences, replication, hooks, journal

Nothing is decided here, and nothing of the kernel is touched but through what it is given: on a network that
does not exist, the same code runs in a simulation (docs/pair-simulation.md).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gimli import clock
from gimli.pair import carp_actions, syncactions
from gimli.pair.address import AddressRefused
from gimli.pair.lease import LeaseLapsed
from gimli.pair.linkwatch import AddressWent
from gimli.pair.nft import GuardRefused
from gimli.pair.node import Emit, Node, Note, Order
from gimli.pair.vhid import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gimli.journal import Journal
    from gimli.loop import Deadline, Loop
    from gimli.pair.config import Pair
    from gimli.pair.hooks import Hooks
    from gimli.pair.host import Host
    from gimli.pair.linkwatch import LinkEvent
    from gimli.pair.replication import Replication
    from gimli.pair.track import Tracked
    from gimli.pair.warden import Look

T = TypeVar("T")

_TRY_AGAIN_S = 1.0


class Memory(Protocol):
    """What outlives the daemon."""

    def remember_epoch(self, epoch: int, *, is_owner: bool) -> None:
        """Keep the highest epoch on disk, and for the next daemon of this boot whether it is this host's."""


class Runtime:
    """What lies between a node and its host.

    Args:
        pair: what the node was told.
        node: that decides.
        loop: its clock and timers.
        host: links, the guard, and a presence for each vhid.
        journal: that is told.
        hooks: that are run when a role changes.
        memory: that outlives the daemon.
    """

    def __init__(
        self,
        pair: Pair,
        node: Node,
        loop: Loop,
        host: Host,
        journal: Journal,
        hooks: Hooks,
        memory: Memory,
    ) -> None:
        self._carps = {carp.vhid: carp for carp in pair.carp}
        self._node = node
        self._loop = loop
        self._host = host
        self._journal = journal
        self._hooks = hooks
        self._memory = memory
        self._since_s = 0.0
        self._timers: dict[tuple[int, carp_actions.Timer], Deadline] = {}
        self._orders: deque[Order | Emit | Note | syncactions.Action] = deque()
        self.replication: Replication | None = None
        """Where there is a sync link."""

    # Facts, to the node.

    def begin(self, *, is_heir: bool) -> None:
        """Take part.

        Args:
            is_heir: as :meth:`gimli.pair.node.Node.begin` says.
        """
        self._node.begin(self._now_s(), is_heir=is_heir)
        self.links_changed([])

    def heard(self, interface: str, ip_packet: bytes) -> None:
        """A packet of CARP's protocol came."""
        now_s = self._now_s()
        self._node.heard(interface, ip_packet, now_s)
        self._carry_out(now_s)

    def received(self, datagram: bytes) -> None:
        """A datagram of the peer's came."""
        now_s = self._now_s()
        self._node.received(datagram, now_s)
        self._carry_out(now_s)

    def sync_due(self) -> None:
        """A deadline of the state sync has come."""
        now_s = self._now_s()
        self._node.sync_due(now_s)
        self._carry_out(now_s)

    def sync_ordered(self, actions: list[syncactions.Action]) -> None:
        """The state sync ordered something on what the kernel told."""
        now_s = self._now_s()
        self._node.sync_ordered(actions, now_s)
        self._carry_out(now_s)

    def links_changed(self, events: list[LinkEvent]) -> None:
        """A link or an address of this host is not what it was."""
        now_s = self._now_s()
        for event in events:
            if isinstance(event, AddressWent):
                self._have_again(event)
        for vhid, why in self._host.obstacles().items():
            if why:
                self._node.obstructed(vhid, "link", why, now_s)
            else:
                self._node.freed(vhid, "link", now_s)
        self._node.found(self._host.look_at_links(), now_s)
        if self.replication:
            self.replication.filter.own = self._host.own_addresses()
        self._carry_out(now_s)

    def guard_changed(self, looks: list[Look]) -> None:
        """The rules were looked at, for somebody else had changed them: without them nobody takes part."""
        now_s = self._now_s()
        for look in looks:
            for words in look.altered or look.wrong:
                self._journal.record("guard-altered", what=words, mended=not look.wrong)
            for vhid in self._carps:
                if look.wrong:
                    why = f"the guard is not in place: {look.wrong[0]}"
                    self._node.obstructed(vhid, "guard", why, now_s)
                    continue
                self._node.freed(vhid, "guard", now_s)
                if self._is_master(vhid):
                    self._hold(vhid, self._host.presences[vhid].tenure.keep)
        if looks and looks[-1].wrong:
            self._loop.after(_TRY_AGAIN_S, self._host.look_at_guard)  # what was in the way may tell nobody
        self._carry_out(now_s)

    def found(self, findings: Iterable[Tracked]) -> None:
        """What is tracked was looked at."""
        now_s = self._now_s()
        self._node.found(findings, now_s)
        self._carry_out(now_s)

    def stop(self, because: str) -> None:
        """The daemon ends."""
        now_s = self._now_s()
        self._node.stop(because, now_s)
        self._carry_out(now_s)

    def _have_again(self, event: AddressWent) -> None:
        """Somebody else has removed an address of a MASTER: it is taken again, and told."""
        for place in self._host.places:
            is_ours = event.address in {text.partition("/")[0] for text in place.addresses}
            if place.device == event.interface and is_ours and self._is_master(place.vhid):
                self._journal.record("address-removed", vhid=place.vhid, address=event.address)
                self._try(place.vhid, "addresses", self._host.presences[place.vhid].take_addresses)

    def _is_master(self, vhid: int) -> bool:
        return self._node.vhid(vhid).role is Role.MASTER

    def _expired(self, vhid: int, timer: carp_actions.Timer) -> None:
        now_s, deadline = self._now_s(), self._timers.get((vhid, timer))
        if timer is carp_actions.Timer.MASTER_DOWN:
            # Where this process stood still, the peer's word may lie in the sockets.
            self._host.hear()
            if self.replication:
                self.replication.hear()
            if self._timers.get((vhid, timer)) is not deadline:
                return
        self._node.expired(vhid, timer, now_s)
        self._carry_out(now_s)
        if timer is carp_actions.Timer.ADVERTISE:
            self._host.ask_for_carriers()

    # Orders, to the host.

    def _carry_out(self, since_s: float) -> None:
        """All that is ordered, and what the kernel's answers to it cause, in order.

        Args:
            since_s: when that happened which all this follows from.
        """
        self._since_s = since_s
        self._orders.extend(self._node.take_orders())
        while self._orders:
            self._do(self._orders.popleft())
            self._orders.extend(self._node.take_orders())
        if self.replication:
            self.replication.settle()

    def _do(self, order: Order | Emit | Note | syncactions.Action) -> None:
        match order:
            case Emit():
                self._emit(order)
            case Order(vhid, action):
                self._do_for(vhid, action)
            case Note(event, details):
                self._note(event, dict(details))
            case syncactions.Tell(event, details):
                self._note(event, dict(details))
            case syncactions.RememberEpoch(epoch):
                # Not before the addresses.
                self._loop.after(0.0, lambda: self._remember(epoch))
            case _:
                assert self.replication is not None
                self.replication.carry_out(order)

    def _emit(self, order: Emit) -> None:
        presence = self._host.presences[order.vhid]
        if order.advertisement.is_bow_out:
            presence.bow_out(order.advertisement)
        else:
            errors = self._hold(order.vhid, lambda: presence.advertise(order.advertisement))
            if errors is None:
                return
            self._node.sent(order.vhid, errors, self._now_s())
        for action in order.also:
            assert self.replication is not None
            self.replication.carry_out(action)

    def _hold(self, vhid: int, keep: Callable[[], T]) -> T | None:
        """Do what needs the lease; None when that was not possible. What follows from it the node knows."""
        tenure = self._host.presences[vhid].tenure
        try:
            return keep()
        except LeaseLapsed:
            self._node.lease_lapsed(vhid, tenure.silent_s, self._now_s())
        except GuardRefused as refused:
            self._host.look_at_guard()
            if tenure.has_time:
                return None  # until that is over it may be mended, and then nothing has happened
            self._node.obstructed(vhid, "guard", str(refused), self._now_s())
        self._withdraw(vhid)
        return None

    def _take_lease(self, vhid: int) -> None:
        tenure = self._host.presences[vhid].tenure
        try:
            tenure.begin(self._since_s)
        except LeaseLapsed:
            self._node.lease_lapsed(vhid, tenure.silent_s, self._now_s())
            self._withdraw(vhid)
        except GuardRefused as refused:
            self._host.look_at_guard()
            self._node.obstructed(vhid, "guard", str(refused), self._now_s())
            self._withdraw(vhid)

    def _withdraw(self, vhid: int) -> None:
        """What a MASTER was about to do for a vhid is void: it is none any more."""
        self._orders = deque(order for order in self._orders if not _is_masters(order, vhid))

    def _do_for(self, vhid: int, action: carp_actions.Action) -> None:
        presence = self._host.presences[vhid]
        match action:
            case carp_actions.Arm(timer, after_s):
                self._disarm(vhid, timer)
                self._timers[vhid, timer] = self._loop.after(after_s, lambda: self._expired(vhid, timer))
            case carp_actions.Disarm(timer):
                self._disarm(vhid, timer)
            case carp_actions.TakeLease():
                self._take_lease(vhid)
            case carp_actions.DropLease():
                self._let_go(vhid, presence.tenure.end)
            case carp_actions.TakeAddresses():
                self._try(vhid, "addresses", presence.take_addresses)
            case carp_actions.DropAddresses():
                self._let_go(vhid, presence.drop_addresses)
            case carp_actions.Announce():
                if error := presence.announce():
                    self._journal.record("announce-failed", vhid=vhid, why=error)
            case _:
                raise AssertionError(f"the node keeps {action} to itself")

    def _disarm(self, vhid: int, timer: carp_actions.Timer) -> None:
        if deadline := self._timers.pop((vhid, timer), None):
            deadline.cancel()

    def _try(self, vhid: int, subject: str, take: Callable[[], None]) -> None:
        """Take something; where the kernel refuses, the vhid is out for a moment."""
        try:
            take()
        except AddressRefused as refused:
            self._node.obstructed(vhid, subject, str(refused), self._now_s())
            self._withdraw(vhid)
            self._loop.after(_TRY_AGAIN_S, lambda: self._free(vhid, subject))

    def _free(self, vhid: int, subject: str) -> None:
        now_s = self._now_s()
        self._node.freed(vhid, subject, now_s)
        self._carry_out(now_s)

    def _let_go(self, vhid: int, drop: Callable[[], None]) -> None:
        """Let go of something, again and again until it is gone."""
        try:
            drop()
        except (GuardRefused, AddressRefused) as refused:
            self._journal.record("not-let-go", vhid=vhid, why=str(refused))
            self._loop.after(_TRY_AGAIN_S, lambda: self._let_go_unless_master(vhid, drop))

    def _let_go_unless_master(self, vhid: int, drop: Callable[[], None]) -> None:
        if not self._is_master(vhid):
            self._let_go(vhid, drop)

    def _note(self, event: str, details: dict[str, Any]) -> None:
        self._journal.record(event, **details)
        if event == "role":
            self._hooks.role_changed(self._carps[details["vhid"]], details["role"])

    def _remember(self, epoch: int) -> None:
        assert self._node.sync is not None
        self._memory.remember_epoch(epoch, is_owner=self._node.sync.is_owner)

    def _now_s(self) -> float:
        return self._loop.now_ns() / clock.NANOSECONDS


def _is_masters(order: Order | Emit | Note | syncactions.Action, vhid: int) -> bool:
    match order:
        case Emit(number, advertisement):
            return number == vhid and not advertisement.is_bow_out
        case Order(number, carp_actions.TakeAddresses() | carp_actions.Announce()):
            return number == vhid
    return False
