"""How do the connections of one host come to the other: one way, by role?

The owner sends and the replica applies; a replica has no means to send a connection. Whose word counts is
decided by reigns (:class:`gimli.pair.syncwire.Reign`): who becomes owner takes an epoch above all that it has
seen. What a lower reign says of connections is never applied, in whatever order it comes.

    the peer       who hears   a higher reign                                a lower reign
    is owner       owner       is Outranked, follows it                      tells its own reign
    is owner       replica     follows it                                    tells the reign that it knows
    is replica     owner       takes the next epoch: nobody else is owner    -
    is replica     replica     knows it from now on                          -

A datagram counts only if it names its receiver. Who does not know its peer yet introduces itself and is
answered. So what was recorded before one of the two processes was started is worth nothing. What was recorded
since is a duplicate, for every kind that changes something has a number that only rises. Who comes in the
place of the peer that we know must have heard one of our last heartbeats.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from gimli.errors import PeerError
from gimli.pair import syncwire
from gimli.pair.ctmerging import Merger
from gimli.pair.syncactions import (
    Action,
    AdvertisementOverSync,
    Apply,
    Dump,
    Listen,
    Mode,
    Outranked,
    RememberEpoch,
    Send,
    Synchronised,
    Tell,
    Unsynchronised,
)
from gimli.pair.syncreceiver import Receiver
from gimli.pair.syncsender import Sender
from gimli.pair.syncwire import Datagram, Kind, Refused, Reign, Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

HEARTBEAT_S = 1.0
HELLO_S = 0.2
SILENCE_S_MAX = 3.5 * HEARTBEAT_S

_MESSAGES_AT_ONCE = 256
_FRESH_BEATS = 8
"""How many of our heartbeats may have been made since the one that a newcomer echoes."""

_ADVERTISERS_MAX = 1024


class StateSync:
    """State sync of one node. It begins as neither; call :meth:`follow` or :meth:`own`.

    Args:
        node_id: 64 bits of chance, not 0, drawn anew at every start.
        password: shared with the peer.
        mode: where a replica keeps connections.
        epoch: the highest that was ever seen (:class:`RememberEpoch`).
    """

    def __init__(self, node_id: int, password: bytes, mode: Mode, epoch: int = 0) -> None:
        self.node_id = node_id
        self.mode = mode
        self.reign = Reign(epoch, 0)
        """The highest that is known; of an owner, its own."""
        self.peer = 0
        """The peer's id, as long as its process lives; 0 until it is met."""
        self.is_owner = False
        self.refused: Counter[str] = Counter()
        """Datagrams, and parts of them, that were not used, by reason."""
        self.local = 0
        """Changes that this kernel has told."""
        self.owner_lag_s = 0.0
        """What the owner has told of its lag."""
        self._wire = Wire(password)
        merger = Merger()
        self._sender = Sender(self._seal, merger)
        self._receiver = Receiver(mode, merger, self.refused)
        self._taken_over: Iterator[bytes] | None = None
        self._beats = 0
        self._beat_at_s = 0.0
        self._peer_beat = 0
        self._heard_s = 0.0
        self._is_silent = False
        self._told_synchronised = True
        self._advertised = 0
        self._advertisements: dict[int, int] = {}
        """The number of the last one, by the process that sent it."""

    # What there is to see.

    @property
    def is_synchronised(self) -> bool:
        """Whether a takeover would lose nothing: the table of an owner counts, a replica has all of it."""
        return self.is_owner or self._receiver.is_complete

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
        """How many changes were given up; each time everything is sent anew."""
        return self._sender.lost

    @property
    def has_replica(self) -> bool:
        """Whether this owner serves a replica."""
        return self._sender.is_joined

    @property
    def is_taking_over(self) -> bool:
        """Whether connections that were held are on their way into this kernel."""
        return self._taken_over is not None

    @property
    def has_settled(self) -> bool:
        """Whether an owner's replica has acknowledged all that this kernel has told."""
        return self._sender.has_settled

    def lag_s(self, now_s: float) -> float:
        """How long the oldest change that is on its way has been; if there is none, the last one was."""
        return self._sender.lag_s(now_s)

    # Roles.

    def own(self, now_s: float) -> list[Action]:
        """Become the owner: this kernel's connections count."""
        if self.is_owner:
            return []
        self.is_owner = True
        held = self.held
        self._taken_over = self._receiver.take_over()
        out = [Listen(wanted=True), *self._reign_above(self.reign), *self._beat(now_s)]
        return self._noticed([*out, Tell("sync-owner", {"epoch": self.reign.epoch, "connections": held})])

    def anticipate(self) -> list[Action]:
        """An address of the owner's comes here before the ownership does: its connections are to be there."""
        if not self.is_owner and self._taken_over is None:
            self._taken_over = self._receiver.copies()
        return []

    def follow(self, now_s: float) -> list[Action]:
        """Become a replica."""
        out: list[Action] = [Listen(wanted=False)]
        if self.is_owner:
            self.is_owner = False
            self._taken_over = None
            self._sender.end()
            self._receiver.ask_again()
        self._receiver.doubt()
        return self._noticed([*out, Dump(), *self._beat(now_s), Tell("sync-replica")])

    # From this kernel.

    def put(self, changes: list[tuple[bytes, bytes]], now_s: float) -> None:
        """Take what the kernel has told, as :class:`gimli.pair.ctintake.Intake` has made it: the hot path."""
        if self.is_owner:
            self.local += len(changes)
            if self._sender.is_joined:
                self._sender.put(changes, now_s)

    def events_lost(self, now_s: float) -> list[Action]:
        """The kernel has dropped events: everything must be sent anew.

        What it had told before must have been put, or dropped: it is older than what is missing, and would be
        taken for newer than the dump that is ordered here.
        """
        if not self._sender.is_joined or not self._sender.events_lost():
            return []
        return [Tell("sync-events-lost"), *self._serve(self._sender.join, now_s)]

    @property
    def wants_dump(self) -> bool:
        """Whether more of the dump that was ordered is wanted now."""
        return self._sender.wants_dump if self.is_owner else self._receiver.wants_dump

    def put_dumped(self, changes: list[tuple[bytes, bytes]], now_s: float) -> None:
        """Take a part of the dump that was ordered."""
        if self.is_owner:
            self._sender.put_dumped(changes, now_s)
        else:
            self._receiver.put_dumped(changes)

    def dump_done(self, now_s: float) -> list[Action]:
        """The dump that was ordered is complete."""
        if not self.is_owner:
            self._receiver.dump_done()
        elif self._sender.dump_done(now_s):
            return self._serve(self._sender.join, now_s)
        return []

    # From the peer and from the clock.

    def advertise(self, carp_packet: bytes) -> list[Action]:
        """Send a CARP packet over the sync link as well."""
        self._advertised += 1
        return [Send(self._seal(Kind.ADVERTISEMENT, self._advertised, carp_packet))]

    def received(self, data: bytes, now_s: float) -> list[Action]:
        """Take a datagram. Whatever is in it, nothing is raised; what is not used is counted."""
        out: list[Action] = []
        try:
            self._heard(self._wire.parse(data), now_s, out)
        except Refused as refused:
            self.refused[refused.reason] += 1
        except PeerError:
            self.refused["malformed"] += 1
        return self._noticed(out)

    def due(self, now_s: float) -> list[Action]:
        """Do what is due."""
        out: list[Action] = []
        if self._taken_over is not None:
            messages = list(islice(self._taken_over, _MESSAGES_AT_ONCE))
            if messages:
                out.append(Apply(messages))
            if len(messages) < _MESSAGES_AT_ONCE:
                self._taken_over = None
        if self.is_owner:
            out += map(Send, self._sender.due(now_s))
        else:
            if messages := self._receiver.due(now_s):
                out.append(Apply(messages))
            if acknowledgement := self._receiver.acknowledgement(now_s):
                out.append(Send(self._seal(Kind.ACK, *acknowledgement)))
        if now_s >= self._beat_at_s:
            out += self._beat(now_s)
        if self.peer and not self._is_silent and now_s - self._heard_s >= SILENCE_S_MAX:
            self._is_silent = True
            out.append(Tell("sync-peer-silent", {"since_s": round(now_s - self._heard_s, 3)}))
        return self._noticed(out)

    def next_due_s(self) -> float:
        """When :meth:`due` is to be called."""
        if self._taken_over is not None:
            return 0.0
        other = self._sender.next_due_s() if self.is_owner else self._receiver.next_due_s()
        return self._beat_at_s if other is None else min(self._beat_at_s, other)

    # Inside.

    def _heard(self, datagram: Datagram, now_s: float, out: list[Action]) -> None:
        if datagram.sender == self.node_id:
            raise Refused("reflected", "our own datagram")
        if datagram.to not in {self.node_id, 0}:
            raise Refused("not-for-us", f"for the process {datagram.to:x}")
        if datagram.to == 0:
            out.append(Send(self._introduction(datagram.sender, datagram.beat)))
            return
        if datagram.sender != self.peer:
            if datagram.echo + _FRESH_BEATS < self._beats:
                out.append(Send(self._introduction(datagram.sender, datagram.beat)))
                raise Refused("old", f"made after our heartbeat {datagram.echo}, and this is {self._beats}")
            self._meet(datagram, now_s, out)
        self._heard_s, self._peer_beat = now_s, max(self._peer_beat, datagram.beat)
        if self._is_silent:
            self._is_silent = False
            out.append(Tell("sync-peer-heard"))
        self._compare_reigns(datagram, now_s, out)
        if datagram.kind is Kind.ADVERTISEMENT:
            self._heard_advertisement(datagram, out)
        elif datagram.owns:
            self._heard_owner(datagram, now_s, out)
        elif self.is_owner:
            self._heard_replica(datagram, now_s, out)
        elif datagram.reign.epoch > self.reign.epoch:
            # It has known an owner that came after the last one that we know.
            self.reign = datagram.reign
            self._receiver.ask_again()
            out.append(RememberEpoch(self.reign.epoch))

    def _meet(self, datagram: Datagram, now_s: float, out: list[Action]) -> None:
        """The peer is there for the first time, or has been started again."""
        self.peer, self._peer_beat = datagram.sender, 0
        self._sender.end()
        self._sender.join = 0
        out.append(Tell("sync-peer-met", {"id": f"{self.peer:016x}"}))
        if not self.is_owner:
            self._receiver.ask_again()
            out += self._beat(now_s, datagram.beat)

    def _compare_reigns(self, datagram: Datagram, now_s: float, out: list[Action]) -> None:
        if datagram.reign <= self.reign:
            return
        if self.is_owner and not datagram.owns:
            out += self._reign_above(datagram.reign)
            self._sender.end()
            return
        self.reign = datagram.reign
        out.append(RememberEpoch(self.reign.epoch))
        if self.is_owner:
            out += [Outranked(self.reign.epoch), *self.follow(now_s)]
        else:
            self._receiver.ask_again()
            out += self._beat(now_s)

    def _heard_advertisement(self, datagram: Datagram, out: list[Action]) -> None:
        """Of a lower reign as well: two MASTERs must hear each other."""
        heard = self._advertisements
        if datagram.number <= heard.get(datagram.sender, 0):
            raise Refused("duplicate", f"advertisement {datagram.number} once more")
        heard[datagram.sender] = datagram.number
        if len(heard) > _ADVERTISERS_MAX:
            del heard[next(iter(heard))]
        out.append(AdvertisementOverSync(datagram.payload))

    def _heard_owner(self, datagram: Datagram, now_s: float, out: list[Action]) -> None:
        if datagram.reign < self.reign:
            out.append(Send(self._introduction(self.peer)))
            raise Refused("stale", f"epoch {datagram.reign.epoch}, expected at least {self.reign.epoch}")
        if datagram.kind is Kind.HEARTBEAT:
            join, self.owner_lag_s = syncwire.parse_beat(datagram.payload)
            if self._receiver.heartbeat(datagram.number, join):
                out += self._beat(now_s)
        elif messages := self._receiver.received(datagram, now_s):
            out.append(Apply(messages))

    def _heard_replica(self, datagram: Datagram, now_s: float, out: list[Action]) -> None:
        if datagram.kind is Kind.HELLO:
            if datagram.number > self._sender.join or not self._sender.is_joined:
                out += self._serve(datagram.number, now_s)
        elif datagram.kind is Kind.ACK:
            gaps = syncwire.parse_gaps(datagram.payload)
            out += map(Send, self._sender.acknowledged(datagram.number, gaps, now_s))

    def _serve(self, join: int, now_s: float) -> list[Action]:
        return [*map(Send, self._sender.begin(join, now_s)), Dump()]

    def _reign_above(self, reign: Reign) -> list[Action]:
        self.reign = Reign(reign.epoch + 1, self.node_id)
        return [RememberEpoch(self.reign.epoch)]

    def _beat(self, now_s: float, echo: int | None = None) -> list[Action]:
        is_waiting = not self.is_owner and not self._receiver.has_begun
        self._beat_at_s = now_s + (HELLO_S if is_waiting else HEARTBEAT_S)
        self._beats += 1
        return [Send(self._introduction(self.peer, echo))]

    def _introduction(self, to: int, echo: int | None = None) -> bytes:
        """Who we are, where we stand and what we want."""
        if self.is_owner:
            sender = self._sender
            payload = syncwire.pack_beat(sender.join if sender.is_joined else 0, sender.last_lag_s)
            return self._seal(Kind.HEARTBEAT, sender.last, payload, to, echo)
        if not self._receiver.has_begun:
            return self._seal(Kind.HELLO, self._receiver.join, b"", to, echo)
        return self._seal(Kind.ACK, *self._receiver.position(), to, echo)

    def _seal(
        self, kind: Kind, number: int, payload: bytes, to: int | None = None, echo: int | None = None
    ) -> bytes:
        datagram = Datagram(
            kind,
            sender=self.node_id,
            to=self.peer if to is None else to,
            reign=self.reign,
            number=number,
            payload=payload,
            owns=self.is_owner,
            beat=self._beats,
            echo=self._peer_beat if echo is None else echo,
        )
        return self._wire.pack(datagram)

    def _noticed(self, out: list[Action]) -> list[Action]:
        if self.is_synchronised != self._told_synchronised:
            self._told_synchronised = self.is_synchronised
            out.append(Synchronised() if self.is_synchronised else Unsynchronised())
        return out
