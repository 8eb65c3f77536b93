"""How do the connections of one host come to the other, one way, by role?

The owner sends, the replica applies: a replica has no way to send a connection. Whose word counts is decided by
reigns (:class:`gimli.pair.syncwire.Reign`): an owner takes an epoch above all that it has seen. A lower reign's
datagrams are never applied, whatever the order in which they come.

    heard from                             an owner says             a replica says
    an owner of a higher reign             Outranked, follows        follows it
    an owner of a lower reign              here is my reign          here is the reign that I know
    a replica that knows a higher reign    takes the next epoch      -

A datagram counts only when it names its receiver: who does not know his peer yet introduces himself, and is
answered. So what was recorded before this process was started is worth nothing, and what was recorded since is
a duplicate.
"""

from __future__ import annotations

from collections import Counter, deque
from itertools import islice
from typing import TYPE_CHECKING

from gimli.errors import PeerError
from gimli.pair import syncwire
from gimli.pair.merging import Merger
from gimli.pair.syncactions import (
    Action,
    AdvertisementOverSync,
    Apply,
    Dump,
    Mode,
    Outranked,
    RememberEpoch,
    Send,
    Synchronised,
    Tell,
)
from gimli.pair.syncreceiver import HELLO_S, Receiver
from gimli.pair.syncsender import Sender
from gimli.pair.syncwire import Datagram, Kind, Refused, Reign, Wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HEARTBEAT_S = 1.0
APPLIED_AT_ONCE = 1000
"""Messages for the kernel in one action: 10 ms."""

_FORMER_MAX = 64


class StateSync:
    """State sync of one node. It begins as a replica.

    Args:
        node_id: 64 bits of chance, not 0, drawn at every start.
        password: shared with the peer.
        mode: where a replica keeps connections.
        epoch: the highest epoch that was seen before.
    """

    def __init__(self, node_id: int, password: bytes, mode: Mode, epoch: int = 0) -> None:
        self.node_id = node_id
        self.mode = mode
        self.reign = Reign(epoch, 0)
        self.peer = 0
        """The peer's id; 0 until it is known."""
        self.refused: Counter[str] = Counter()
        self.local = 0
        self._wire = Wire(password)
        self._merger = Merger()
        self._sender = Sender(self._seal, self._merger)
        self._receiver = Receiver(mode, self._merger)
        self._is_owner = False
        self._former: deque[int] = deque(maxlen=_FORMER_MAX)
        self._beat_at_s = 0.0
        self._takeover: Iterator[bytes] = iter(())
        self._taking_over = False
        self._advertised = 0
        self._advertisement_heard = 0

    # What there is to see.

    @property
    def is_owner(self) -> bool:
        """Whether this node's kernel is the one that counts."""
        return self._is_owner

    @property
    def is_synchronised(self) -> bool:
        """Whether this replica has all that its owner has."""
        return not self._is_owner and self._receiver.complete

    @property
    def held(self) -> int:
        """How many connections a replica holds."""
        return len(self._receiver.held)

    @property
    def replicated(self) -> int:
        """How many changes the peer has acknowledged."""
        return self._sender.replicated

    @property
    def lost(self) -> int:
        """How many changes were given up; a whole resynchronisation follows."""
        return self._sender.lost

    @property
    def lag_s(self) -> float:
        """How long the last acknowledged change took."""
        return self._sender.lag_s

    @property
    def wants_dump(self) -> bool:
        """Whether there is room for more of the dump that was asked for."""
        return self._sender.is_dumping and self._sender.has_room

    # Roles.

    def own(self, now_s: float) -> list[Action]:
        """Become the owner."""
        if self._is_owner:
            return []
        self._is_owner = True
        self._takeover, self._taking_over = self._receiver.taken_over(), True
        return [*self._reign_above(self.reign), *self._beat(now_s), *self.due(now_s)]

    def follow(self, now_s: float) -> list[Action]:
        """Become a replica."""
        if self._is_owner:
            self._is_owner = False
            self._sender.end()
            self._takeover, self._taking_over = iter(()), False
            self._receiver.ask_again()
        return self._beat(now_s)

    # Owner: from the kernel.

    def put(self, changes: list[tuple[bytes, bytes]], now_s: float) -> None:
        """Take what the kernel has told, as :class:`gimli.pair.ctintake.Intake` made it; the hot path."""
        if self._is_owner:
            self.local += len(changes)
            if self._sender.joined:
                self._sender.put(changes, now_s)

    def put_dumped(self, changes: Iterable[tuple[bytes, bytes]], now_s: float) -> None:
        """Take a part of the dump that was asked for."""
        self._sender.put_dumped(changes, now_s)

    def dump_done(self, now_s: float) -> None:
        """The dump that was asked for is complete."""
        self._sender.dump_done(now_s)

    def events_lost(self, now_s: float) -> list[Action]:
        """The kernel has dropped events: resynchronise as a whole."""
        if not self._sender.joined:
            return []
        self._sender.lost += 1
        return [Tell("sync-events-lost"), *self._resynchronise(self._sender.join, now_s)]

    # Both: from the peer and from the clock.

    def advertise(self, carp_packet: bytes) -> list[Action]:
        """Send a CARP packet over the sync link, too."""
        self._advertised += 1
        return [Send(self._seal(Kind.ADVERTISEMENT, self._advertised, carp_packet))]

    def received(self, data: bytes, now_s: float) -> list[Action]:
        """Take a datagram; one that is not used is counted in ``refused``."""
        try:
            datagram = self._wire.parse(data)
            return self._heard(datagram, now_s)
        except Refused as refused:
            self.refused[refused.reason] += 1
        except PeerError:
            self.refused["malformed"] += 1
        return []

    def due(self, now_s: float) -> list[Action]:
        """Do what is due."""
        out: list[Action] = []
        if self._is_owner:
            if self._taking_over and (messages := list(islice(self._takeover, APPLIED_AT_ONCE))):
                out.append(Apply(messages))
            else:
                self._taking_over = False
            out += map(Send, self._sender.due(now_s))
        elif acknowledgement := self._receiver.acknowledgement(now_s):
            out.append(Send(self._seal(Kind.ACK, *acknowledgement)))
        if now_s >= self._beat_at_s:
            out += self._beat(now_s)
        return out

    def next_due_s(self) -> float:
        """When :meth:`due` is to be called."""
        if self._taking_over:
            return 0.0
        other = self._sender.next_due_s() if self._is_owner else self._receiver.next_due_s()
        return self._beat_at_s if other is None else min(self._beat_at_s, other)

    # Inside.

    def _heard(self, datagram: Datagram, now_s: float) -> list[Action]:
        self._know(datagram)
        if datagram.to == 0:
            return [Send(self._introduction(datagram.sender))]
        out = self._meet(datagram, now_s)
        if datagram.kind is Kind.ADVERTISEMENT:
            if datagram.number <= self._advertisement_heard:
                raise Refused("duplicate", "an advertisement once more")
            self._advertisement_heard = datagram.number
            return [*out, AdvertisementOverSync(datagram.payload)]
        if datagram.from_owner:
            return out + self._heard_owner(datagram, now_s)
        return out + (self._heard_replica(datagram, now_s) if self._is_owner else [])

    def _know(self, datagram: Datagram) -> None:
        if datagram.sender in {self.node_id, 0}:
            raise Refused("reflected", "our own datagram")
        if datagram.to not in {self.node_id, 0}:
            raise Refused("not-for-us", "made for another process")
        if datagram.sender in self._former:
            raise Refused("former", "from a process of the peer's that has ended")

    def _meet(self, datagram: Datagram, now_s: float) -> list[Action]:
        if datagram.sender == self.peer:
            return []
        if self.peer:
            self._former.append(self.peer)
        self.peer = datagram.sender
        self._advertisement_heard = 0
        self._sender.end()
        if not self._is_owner:
            self._receiver.ask_again()
            return [Tell("sync-peer-met"), *self._beat(now_s)]
        return [Tell("sync-peer-met")]

    def _heard_owner(self, datagram: Datagram, now_s: float) -> list[Action]:
        if datagram.reign < self.reign:
            self.refused["stale"] += 1
            return [Send(self._introduction(datagram.sender))]
        out: list[Action] = []
        if datagram.reign > self.reign:
            was_owner = self._is_owner
            self.reign = datagram.reign
            out = [RememberEpoch(self.reign.epoch), *self.follow(now_s)]
            if was_owner:
                out.append(Outranked(self.reign.epoch))
            else:
                self._receiver.ask_again()
                out += self._beat(now_s)
        if datagram.kind is Kind.HEARTBEAT:
            join, _ = syncwire.parse_beat(datagram.payload)
            if self._receiver.begun and join != self._receiver.join:
                self._receiver.ask_again()
                out += self._beat(now_s)
            return out
        was_complete = self._receiver.complete
        messages = self._receiver.received(datagram, now_s)
        if messages:
            out.append(Apply(messages))
        if self._receiver.complete and not was_complete:
            out.append(Synchronised())
        return out

    def _heard_replica(self, datagram: Datagram, now_s: float) -> list[Action]:
        out: list[Action] = []
        if datagram.reign > self.reign:
            out = self._reign_above(datagram.reign)
            self._sender.end()
        if datagram.kind is Kind.HELLO:
            if not self._sender.joined or self._sender.join != datagram.number:
                out += self._resynchronise(datagram.number, now_s)
        elif datagram.kind is Kind.ACK:
            gaps = syncwire.parse_gaps(datagram.payload)
            out += map(Send, self._sender.acknowledged(datagram.number, gaps, now_s))
        return out

    def _resynchronise(self, join: int, now_s: float) -> list[Action]:
        return [*map(Send, self._sender.begin(join, now_s)), Dump()]

    def _reign_above(self, reign: Reign) -> list[Action]:
        self.reign = Reign(reign.epoch + 1, self.node_id)
        return [RememberEpoch(self.reign.epoch)]

    def _beat(self, now_s: float) -> list[Action]:
        waits = not self._is_owner and not self._receiver.begun
        self._beat_at_s = now_s + (HELLO_S if waits else HEARTBEAT_S)
        return [Send(self._introduction(self.peer))]

    def _introduction(self, to: int) -> bytes:
        """Who we are and what we want, to a peer that is known or not."""
        if self._is_owner:
            served = self._sender.join if self._sender.joined else 0
            payload = syncwire.pack_beat(served, round(self._sender.lag_s * 1e6))
            return self._seal(Kind.HEARTBEAT, self._sender.last, payload, to)
        if not self._receiver.begun:
            return self._seal(Kind.HELLO, self._receiver.join, b"", to)
        return self._seal(Kind.ACK, *self._receiver.position(), to)

    def _seal(self, kind: Kind, number: int, payload: bytes, to: int | None = None) -> bytes:
        to = self.peer if to is None else to
        return self._wire.pack(Datagram(kind, self.node_id, to, self.reign, number, payload))
