r"""What does one host of a pair do, all in all?

Its vhids with their elections (``carp``), how unfit it is (``demotion``), and whose connections it holds
(``statesync``), put together. Facts come in by methods, each with the time; out come orders, which the daemon
carries out on the kernel, and a simulator on a network that does not exist. Nothing here touches anything.

    frames, timers, links, findings --> Node --> orders: (vhid, lease, addresses, frames, deadlines)
    datagrams, connection events  --/        \-> orders of the state sync, journal lines

The first vhid leads: its MASTER owns the connections, and the other node follows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gimli.pair import carp_actions, carp_events, packet
from gimli.pair.authenticator import PASSWORD_BYTES_MAX, Authenticator, Replay
from gimli.pair.carp import step
from gimli.pair.demotion import SYNC_INCOMPLETE, Ledger
from gimli.pair.election import judge_advertisement
from gimli.pair.packet import PacketRefused, Refusal
from gimli.pair.syncactions import (
    AdvertisementOverSync,
    Outranked,
    RememberEpoch,
    Synchronised,
    Unsynchronised,
)
from gimli.pair.vhid import Role, Vhid, newcomer_patience_s

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gimli.pair.carp_actions import Action
    from gimli.pair.carp_events import Event
    from gimli.pair.config import Carp, Pair
    from gimli.pair.packet import Address, Advertisement, Heard
    from gimli.pair.statesync import StateSync
    from gimli.pair.syncactions import Action as SyncAction
    from gimli.pair.track import Tracked

SEND_ERROR = 1
"""Added per advertisement that could not be sent, as OpenBSD does (carp_send_ad_error)."""
SEND_ERRORS_MAX = 3
"""Errors in a row from which on the sender is unfit; as many advertisements without one make it fit again."""
COUNTER_STEP = 1 << 16
"""From one counter to the next, where they rise: what is below says whose they are."""
_SYNC_REASON = "the connections are not here yet"


@dataclass(frozen=True, slots=True)
class Order:
    """An action of one vhid."""

    vhid: int
    action: Action


@dataclass(frozen=True, slots=True)
class Emit:
    """Send a signed advertisement by every path of the vhid; a bow-out too.

    Args:
        vhid: whose.
        advertisement: for the vhid's interface.
        also: orders that send the same over the sync link, where there is one.
    """

    vhid: int
    advertisement: Advertisement
    also: tuple[SyncAction, ...] = ()


@dataclass(frozen=True, slots=True)
class Note:
    """For the journal."""

    event: str
    details: Mapping[str, object]


@dataclass(slots=True)
class _Seat:
    """One vhid and what belongs to it here."""

    config: Carp
    vhid: Vhid
    authenticator: Authenticator
    counters: range
    """Of the advertisements sent so far, the next one's last. They rise only where all nodes are ours: ucarp
    answers with the counter that it has heard plus one, which must not look like one of ours."""
    replays: dict[str, Replay] = field(default_factory=dict)
    """By path: what comes by two is no replay."""
    obstacles: dict[str, str] = field(default_factory=dict)
    """What keeps it from taking part: subject and words."""
    heard_s: float = 0.0
    since_s: float = 0.0
    send_errors: int = 0
    refused: dict[Refusal, int] = field(default_factory=dict)


class Node:
    """One host of a pair.

    Args:
        pair: what it was told.
        sources: for each vhid the address that its advertisements come from.
        cookie: a random number of 63 bits: where the counters begin; where they must rise, of :func:`rising`.
        sync: the state sync, where there is one; the node begins as a replica.
    """

    def __init__(
        self,
        pair: Pair,
        sources: Mapping[int, Address],
        cookie: int,
        sync: StateSync | None = None,
    ) -> None:
        self.ledger = Ledger()
        self.sync = sync
        self._seats = {carp.vhid: _seat(carp, sources[carp.vhid], cookie) for carp in pair.carp}
        self._leader = pair.carp[0].vhid
        self._amount = pair.track.demotion
        self._is_heir = self._is_stopped = False
        self._held: list[Order] = []
        """Orders that wait until the connections are in the kernel."""
        self._orders: list[Order | Emit | Note | SyncAction] = []

    @property
    def leader(self) -> Vhid:
        """The vhid whose MASTER owns the connections."""
        return self._seats[self._leader].vhid

    def vhid(self, number: int) -> Vhid:
        """One of them, as it is now."""
        return self._seats[number].vhid

    @property
    def vhids(self) -> tuple[Vhid, ...]:
        """All of them, in the order of the file."""
        return tuple(seat.vhid for seat in self._seats.values())

    def take_orders(self) -> list[Order | Emit | Note | SyncAction]:
        """What is to be carried out, in order; each is handed out once."""
        orders, self._orders = self._orders, []
        return orders

    def refused(self, number: int) -> dict[str, int]:
        """How many packets a vhid did not believe, by kind."""
        return {kind.value: count for kind, count in self._seats[number].refused.items()}

    def obstacles(self, number: int) -> dict[str, str]:
        """What keeps a vhid from taking part, in words by subject."""
        return dict(self._seats[number].obstacles)

    def since_s(self, number: int) -> float:
        """When a vhid's role has changed last."""
        return self._seats[number].since_s

    def heard_s(self, number: int) -> float:
        """When a vhid's peer was heard last."""
        return self._seats[number].heard_s

    # Facts in.

    def begin(self, now_s: float, *, is_heir: bool = False) -> None:
        """It takes part from now on, where nothing is in the way.

        Args:
            now_s: the time.
            is_heir: this host was the owner of the connections when its daemon ended.
        """
        self._is_heir = is_heir
        if self.sync:
            self.sync_ordered(self.sync.follow(now_s), now_s)
        for seat in self._seats.values():
            self._enable_if_free(seat, now_s)

    def obstructed(self, vhid: int, subject: str, why: str, now_s: float) -> None:
        """Something keeps a vhid from taking part, until :meth:`freed`: guard, link, addresses."""
        seat = self._seats[vhid]
        seat.obstacles[subject] = why
        self._apply(seat, carp_events.Disabled(why), now_s)
        # The other vhids are to go where this one goes: a firewall with one side is none.
        self._demote(self.ledger.with_reason(_out_of(seat), self._amount), now_s)

    def freed(self, vhid: int, subject: str, now_s: float) -> None:
        """That is in the way no more."""
        seat = self._seats[vhid]
        if seat.obstacles.pop(subject, None) is not None and not seat.obstacles:
            self._demote(self.ledger.without(_out_of(seat)), now_s)
            self._enable_if_free(seat, now_s)

    def heard(self, interface: str, ip_packet: bytes, now_s: float) -> None:
        """A packet of CARP's protocol came on an interface. Whatever it is, nothing falls."""
        try:
            heard = packet.parse_advertisement(ip_packet)
        except PacketRefused as refused:
            self._refuse(
                [seat for seat in self._seats.values() if seat.config.interface == interface], refused
            )
            return
        seat = self._seats.get(heard.advertisement.vhid)
        if seat is None or seat.config.interface != interface:
            return  # other people's groups may share a link with ours
        self._judge(seat, heard, interface, now_s)

    def expired(self, vhid: int, timer: carp_actions.Timer, now_s: float) -> None:
        """A timer of a vhid has run out."""
        seat = self._seats[vhid]
        match timer:
            case carp_actions.Timer.MASTER_DOWN:
                self._apply(seat, carp_events.MasterDownExpired(now_s - seat.heard_s), now_s)
            case carp_actions.Timer.ADVERTISE:
                self._apply(seat, carp_events.AdvertiseDue(), now_s)
            case carp_actions.Timer.ANNOUNCE:
                self._apply(seat, carp_events.AnnounceDue(), now_s)

    def lease_lapsed(self, vhid: int, silent_s: float, now_s: float) -> None:
        """The kernel had taken the right to the addresses before it could be renewed."""
        seat = self._seats[vhid]
        seat.heard_s = now_s
        self._apply(seat, carp_events.LeaseLapsed(silent_s), now_s)

    def sent(self, vhid: int, error: str, now_s: float) -> None:
        """An advertisement went out, or did not: ``error`` says why."""
        seat = self._seats[vhid]
        subject = f"vhid {vhid} cannot send"
        if error:
            seat.send_errors = min(seat.send_errors + 1, SEND_ERRORS_MAX)
            # Not at once: that would be sent as well, and fail, and so on.
            ledger = self.ledger.with_reason(subject, SEND_ERROR * seat.send_errors)
            self._demote(ledger, now_s, at_once=False)
        elif seat.send_errors:
            seat.send_errors -= 1
            if not seat.send_errors:
                self._demote(self.ledger.without(subject), now_s, at_once=False)
                self._apply(seat, carp_events.SendRecovered(), now_s)

    def found(self, findings: Iterable[Tracked], now_s: float) -> None:
        """What is tracked was looked at. Who is looked at is told by subject; what is not told stays."""
        ledger = self.ledger
        for finding in findings:
            for reason, _ in ledger.reasons:
                if reason.startswith(f"{finding.subject} ") and reason != str(finding):
                    ledger = ledger.without(reason)
            if finding.wrong:
                ledger = ledger.with_reason(str(finding), self._amount)
        if ledger != self.ledger:
            self._demote(ledger, now_s)

    def received(self, datagram: bytes, now_s: float) -> None:
        """A datagram of the state sync came."""
        assert self.sync is not None
        self.sync_ordered(self.sync.received(datagram, now_s), now_s)

    def sync_due(self, now_s: float) -> None:
        """A deadline of the state sync has come."""
        assert self.sync is not None
        self.sync_ordered(self.sync.due(now_s), now_s)
        if not self.sync.is_taking_over:
            self._orders += self._held
            self._held = []

    def stop(self, because: str, now_s: float) -> None:
        """The daemon ends: bow out, and have nothing any more. What comes after is ignored."""
        self._is_stopped = True
        for seat in self._seats.values():
            self._apply(seat, carp_events.StopWanted(because), now_s)

    # What follows from them.

    def _enable_if_free(self, seat: _Seat, now_s: float) -> None:
        if not (seat.obstacles or self._is_stopped) and seat.vhid.role is Role.INIT:
            seat.heard_s = now_s
            self._apply(seat, carp_events.Enabled(self._first_patience_s(seat.vhid)), now_s)

    def _first_patience_s(self, vhid: Vhid) -> float | None:
        if self.sync is None or self.sync.is_synchronised or self._is_heir:
            return None
        return newcomer_patience_s(vhid.advbase, vhid.advskew)

    def _disinherit(self) -> None:
        """Another host has owned the connections since: it is to have the time to say so."""
        self._is_heir = False
        for seat in self._seats.values():
            if seat.vhid.role is Role.BACKUP:
                patience_s = newcomer_patience_s(seat.vhid.advbase, seat.vhid.advskew)
                self._order(seat, carp_actions.Arm(carp_actions.Timer.MASTER_DOWN, patience_s))

    def _judge(self, seat: _Seat, heard: Heard, path: str, now_s: float) -> None:
        try:
            seat.authenticator.verify(heard.advertisement, seat.counters)
            if seat.config.strict_replay:
                seat.replays[path] = seat.replays.get(path, Replay({})).accept(heard)
        except PacketRefused as refused:
            self._refuse([seat], refused)
            return
        seat.heard_s = now_s
        self._apply(seat, judge_advertisement(seat.vhid, heard), now_s)

    def _refuse(self, seats: Iterable[_Seat], refused: PacketRefused) -> None:
        """Count it; the first of a kind is told, so that nobody can write our journal full."""
        for seat in seats:
            if refused.kind not in seat.refused:
                details = {"vhid": seat.vhid.vhid, "kind": refused.kind.value, "why": str(refused)}
                self._orders.append(Note("packet-refused", details))
            seat.refused[refused.kind] = seat.refused.get(refused.kind, 0) + 1

    def _demote(self, ledger: Ledger, now_s: float, *, at_once: bool = True) -> None:
        if ledger.total != self.ledger.total:
            details = {"demotion": ledger.total, "before": self.ledger.total, "because": ledger.because}
            self._orders.append(Note("demotion", details))
        self.ledger = ledger
        for seat in self._seats.values():
            self._apply(seat, carp_events.DemotionChanged(ledger.total, ledger.because, at_once), now_s)

    def _apply(self, seat: _Seat, event: Event, now_s: float) -> None:
        before = seat.vhid.role
        seat.vhid, actions = step(seat.vhid, event)
        leads = seat.vhid.vhid == self._leader
        is_leaving = leads and before is Role.MASTER and seat.vhid.role is Role.INIT
        late = self._leave_with_leader(now_s) if is_leaving else []
        for action in actions:
            if self.sync and isinstance(action, carp_actions.TakeAddresses):
                # Before the addresses: what comes for them finds its connection. Behind the advertisement, by
                # which the peer learns why it is to yield.
                self.sync_ordered(self.sync.own(now_s) if leads else self.sync.anticipate(), now_s)
                self.sync_ordered(self.sync.due(now_s), now_s)
            self._order(seat, action)
            if leads and self.sync and isinstance(action, carp_actions.DropLease) and self._is_to_follow:
                # Before a bow-out that follows: who hears it is to know that this node owns nothing any more.
                self.sync_ordered(self.sync.follow(now_s), now_s)
        self._orders += late
        if seat.vhid.role is not before:
            seat.since_s = now_s
            self._is_heir = self._is_heir and before is Role.INIT

    def _leave_with_leader(self, now_s: float) -> list[Order | Emit | Note | SyncAction]:
        """Give up the other vhids where the peer has the connections. What takes its time is for later.

        Else packets would go there by one host and back by the other. What comes here answers what this
        kernel has not seen, which is invalid to it; and where that is for an address of its own (source NAT),
        it resets the connection.
        """
        if self.sync is None or not self.sync.has_replica:
            return []
        begun = len(self._orders)
        for seat in self._seats.values():
            if seat.vhid.vhid != self._leader:
                self._apply(seat, carp_events.LeaderLeft(self._leader), now_s)
        ordered = self._orders[begun:]
        self._orders[begun:] = [order for order in ordered if _is_quick(order)]
        return [order for order in ordered if not _is_quick(order)]

    @property
    def _is_to_follow(self) -> bool:
        return self.sync is not None and self.sync.is_owner and not self._is_stopped

    @property
    def _is_taking_over(self) -> bool:
        return self.sync is not None and self.sync.is_taking_over

    def _order(self, seat: _Seat, action: Action) -> None:
        vhid = seat.vhid.vhid
        match action:
            case carp_actions.SendAdvertisement(advbase, advskew, demotion):
                made = seat.authenticator.sign(advbase, advskew, demotion, _use_counter(seat))
            case carp_actions.SendBowOut():
                made = seat.authenticator.bow_out(_use_counter(seat))
            case carp_actions.SendBowOutOverSync():
                if self.sync:
                    made = seat.authenticator.bow_out(_use_counter(seat))
                    self._orders += self.sync.advertise(packet.pack_packet(made, seat.vhid.source))
                return
            case carp_actions.Tell(role, why):
                self._orders.append(Note("role", {"vhid": vhid, "role": role.value, "why": why}))
                return
            case carp_actions.TellDeaf(peer, why):
                self._orders.append(Note("peer-deaf", {"vhid": vhid, "peer": str(peer.source), "why": why}))
                return
            case carp_actions.TakeAddresses() | carp_actions.Announce() if self._is_taking_over:
                # With the address and without its connections, this host would reset those that end on it
                # (source NAT). It has begun to advertise: nobody else takes the address meanwhile.
                self._held.append(Order(vhid, action))
                return
            case carp_actions.DropAddresses():
                self._held = [order for order in self._held if order.vhid != vhid]
                self._orders.append(Order(vhid, action))
                return
            case _:
                self._orders.append(Order(vhid, action))
                return
        also = self.sync.advertise(packet.pack_packet(made, seat.vhid.source)) if self.sync else []
        self._orders.append(Emit(vhid, made, tuple(also)))

    def sync_ordered(self, actions: Iterable[SyncAction], now_s: float) -> None:
        """The state sync ordered something: what concerns the election stays here, the rest is handed out."""
        for action in actions:
            match action:
                case AdvertisementOverSync(ip_packet):
                    self._heard_over_sync(ip_packet, now_s)
                case RememberEpoch() if self._is_heir and not (self.sync and self.sync.is_owner):
                    self._orders.append(action)
                    self._disinherit()
                case Outranked(epoch):
                    self._apply(self._seats[self._leader], carp_events.Outranked(epoch), now_s)
                case Synchronised():
                    self._demote(self.ledger.without(_SYNC_REASON), now_s)
                case Unsynchronised():
                    # Who does not hold the connections is no good MASTER.
                    self._demote(self.ledger.with_reason(_SYNC_REASON, SYNC_INCOMPLETE), now_s)
                case _:
                    self._orders.append(action)

    def _heard_over_sync(self, ip_packet: bytes, now_s: float) -> None:
        """The peer's advertisement by the other path: two nodes that hear each other anywhere agree."""
        try:
            heard = packet.parse_advertisement(ip_packet)
        except PacketRefused as refused:
            self._refuse([self._seats[self._leader]], refused)
            return
        if seat := self._seats.get(heard.advertisement.vhid):
            self._judge(seat, heard, "sync", now_s)


def _use_counter(seat: _Seat) -> int:
    used = seat.counters[-1]
    if seat.config.strict_replay:
        seat.counters = range(seat.counters.start, used + COUNTER_STEP + 1, COUNTER_STEP)
    return used


def rising(wall_ns: int, chance: int) -> int:
    """Where counters begin that rise over a restart, and are no other node's.

    By the clock alone, two nodes that are started together would take each other's for their own.

    Args:
        wall_ns: the time of day; it passes faster than counters are used up.
        chance: a random number of at least 16 bits.
    """
    return wall_ns // COUNTER_STEP * COUNTER_STEP + chance % COUNTER_STEP


def _is_quick(order: Order | Emit | Note | SyncAction) -> bool:
    """Whether it makes the host silent, or tells the peer; to remove an address takes 20 ms."""
    if isinstance(order, Order):
        return isinstance(order.action, carp_actions.DropLease)
    return not isinstance(order, Note)


def _out_of(seat: _Seat) -> str:
    return f"vhid {seat.vhid.vhid} is out"


def _seat(carp: Carp, source: Address, cookie: int) -> _Seat:
    vhid = Vhid(carp.vhid, carp.advbase_s, carp.advskew, carp.preempt, source)
    addresses = [address.ip for address in carp.addresses]
    authenticator = Authenticator(carp.password[:PASSWORD_BYTES_MAX], carp.vhid, addresses)
    return _Seat(carp, vhid, authenticator, range(cookie, cookie + 1))
