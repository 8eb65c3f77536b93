"""What does a replica hold, and what does it write into its kernel?

It applies datagrams in their order, and keeps those that came early. It never sends a connection.

Time-outs. An owner's kernel tells of a connection's beginning, changes and end, not of every packet that
keeps it alive; so a copy that counted down by itself would be gone while the connection lives (UDP: 30 s).
A replica therefore lets nothing expire: the owner says when a connection has ended, and a resynchronisation
finds what it could not say. In memory nothing counts. In the kernel (mode "kernel") an entry has at least
HOLD_S, and is given it again before half of it is over; if this daemon dies, they are gone HOLD_S later.
At a takeover every connection has the time that its owner told last, counted anew: those that are alive are
refreshed by their packets, those that are dead live too long once, by at most their protocol's time-out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.pair import ctmessage, syncwire
from gimli.pair.ctmessage import Change
from gimli.pair.syncactions import Mode
from gimli.pair.syncsender import WINDOW_MAX
from gimli.pair.syncwire import Kind, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gimli.pair.merging import Merger
    from gimli.pair.syncwire import Datagram

HOLD_S = 600
HELD_MAX = 1_000_000
ACK_S = 0.002
_ACK_EVERY = 8
HELLO_S = 0.2


class Receiver:
    """The replica's side.

    Args:
        mode: where connections are kept.
        merger: merges an update with what is held.
    """

    def __init__(self, mode: Mode, merger: Merger) -> None:
        self._mode = mode
        self._merger = merger
        self.held: dict[bytes, bytes] = {}
        """Canonical messages by key."""
        self.join = 1
        """Number of the present wish for everything."""
        self.begun = False
        self.complete = False
        """Whether the last bulk has come to its end."""
        self.refused_full = 0
        self._applied = 0
        self._early: dict[int, Datagram] = {}
        self._unnamed: dict[bytes, bytes] | None = None
        self._unacknowledged = 0
        self._acknowledge_at_s: float | None = None
        self._refresh: Iterator[bytes] = iter(())
        self._refresh_at_s = 0.0

    def ask_again(self) -> None:
        """Whatever was under way is void: a new wish for everything."""
        self.join += 1
        self.begun = False
        self.complete = False
        self._early.clear()
        self._unnamed = None
        self._unacknowledged = 0
        self._acknowledge_at_s = None

    def received(self, datagram: Datagram, now_s: float) -> list[bytes]:
        """One datagram of the stream.

        Returns:
            Messages for the kernel.

        Raises:
            Refused: it does not belong into the stream.
        """
        number = datagram.number
        if datagram.kind is Kind.BULK_BEGIN and (not self.begun or number > self._applied):
            join, _ = syncwire.parse_beat(datagram.payload)
            if join != self.join:
                raise Refused("not-joined", f"begins wish {join}, expected {self.join}")
            self.begun, self.complete = True, False
            self._unnamed = dict(self.held)
            self._early = {early: kept for early, kept in self._early.items() if early > number}
            self._applied = number
            self._acknowledge_at_s = now_s
            return self._apply_early()
        if not self.begun:
            raise Refused("not-joined", f"number {number} of a stream that has not begun")
        self._unacknowledged += 1
        if self._acknowledge_at_s is None:
            self._acknowledge_at_s = now_s + ACK_S
        if number <= self._applied or number in self._early:
            raise Refused("duplicate", f"number {number} once more")
        if number != self._applied + 1:
            if number > self._applied + 4 * WINDOW_MAX:
                raise Refused("beyond-window", f"number {number} after {self._applied}")
            self._early[number] = datagram
            return []
        self._applied = number
        return self._apply(datagram) + self._apply_early()

    def acknowledgement(self, now_s: float) -> tuple[int, bytes] | None:
        """Number and payload of an ACK, if one is due."""
        at_s = self._acknowledge_at_s
        if at_s is None or not (now_s >= at_s or self._unacknowledged >= _ACK_EVERY):
            return None
        self._acknowledge_at_s, self._unacknowledged = None, 0
        return self.position()

    def position(self) -> tuple[int, bytes]:
        """What an ACK says now."""
        gaps = []
        after = self._applied + 1
        for early in sorted(self._early):
            if early > after:
                gaps.append((after, early - 1))
            after = early + 1
        return self._applied, syncwire.pack_gaps(gaps)

    def next_due_s(self) -> float | None:
        """When :meth:`acknowledgement` has one."""
        return self._acknowledge_at_s

    def taken_over(self) -> Iterator[bytes]:
        """What the kernel is to be told at a takeover, newest first: those are the likeliest to be alive."""
        held = list(self.held.values())
        self.held = {}
        self.ask_again()
        for message in reversed(held):
            if self._mode is Mode.CACHE:
                yield ctmessage.insertion(ctmessage.as_change(message, Change.WHOLE))
            elif 0 < (left_s := ctmessage.timeout_s(message)) < HOLD_S:
                yield ctmessage.touch(message, left_s)

    def _apply_early(self) -> list[bytes]:
        out: list[bytes] = []
        while early := self._early.pop(self._applied + 1, None):
            self._applied += 1
            out += self._apply(early)
        return out

    def _apply(self, datagram: Datagram) -> list[bytes]:
        match datagram.kind:
            case Kind.STATES:
                return self._apply_states(datagram.payload)
            case Kind.BULK_END:
                return self._end_bulk()
            case _:
                return []

    def _apply_states(self, payload: bytes) -> list[bytes]:
        out: list[bytes] = []
        held_of, unnamed, writes = self.held, self._unnamed, self._mode is Mode.KERNEL
        for key, message in ctmessage.split(payload):
            if unnamed is not None:
                unnamed.pop(key, None)
            change = ctmessage.change_in(message)
            held = held_of.get(key)
            if change == Change.ENDED:
                if held is not None:
                    del held_of[key]
                    out.append(message)
            elif held is None:
                if len(held_of) >= HELD_MAX:
                    self.refused_full += 1
                    continue
                if change == Change.UPDATED:
                    message = ctmessage.as_change(message, Change.WHOLE)
                held_of[key] = message
                if writes:
                    out.append(ctmessage.insertion(ctmessage.timeout_for_replica(message, HOLD_S)))
            elif change == Change.UPDATED:
                held_of[key] = self._merger.merged(held, message)
                if writes:
                    out.append(ctmessage.timeout_for_replica(message, HOLD_S))
            elif message != held:
                held_of[key] = message
                if writes:
                    out.append(ctmessage.deletion_of(held))
                    out.append(ctmessage.insertion(ctmessage.timeout_for_replica(message, HOLD_S)))
        return out if writes else []

    def _end_bulk(self) -> list[bytes]:
        unnamed, self._unnamed = self._unnamed or {}, None
        self.complete = True
        for key in unnamed:
            self.held.pop(key, None)
        if self._mode is Mode.CACHE:
            return []
        return [ctmessage.deletion_of(message) for message in unnamed.values()]
