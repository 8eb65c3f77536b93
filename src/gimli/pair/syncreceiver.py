"""What does a replica hold, and what does it write into its kernel?

It applies datagrams in their order and keeps those that came early. It has no way to send a connection.

Time-outs. A kernel tells when a connection begins, changes and ends, not of the packets that keep it alive.
A copy that counted down by itself would end while the connection lives: UDP after 30 s. So a replica lets
nothing expire. The owner tells every end, and a resynchronisation finds those that it could not tell. In
memory nothing counts down. In the kernel (mode "kernel") an entry has HOLD_S at least, and is given it again
before half of it is over; when this daemon dies, they are gone HOLD_S later.

At a takeover every connection has the time that its owner told last, counted anew: the packets of those that
live go on refreshing it, and those that died with the owner stay for one such time too long.

A former owner's kernel has connections that the new owner may not: those that ended since. Nor can they be
deleted: some may be another vhid's that is still here. They are left DOUBT_S: packets, if there are any, give
them their full time again.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from gimli.errors import PeerError
from gimli.pair import ctinsertion, ctmessage, syncwire
from gimli.pair.ctmessage import Change
from gimli.pair.syncactions import Mode
from gimli.pair.syncsender import WINDOW_MAX
from gimli.pair.syncwire import Kind, Refused

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Iterator

    from gimli.pair.ctmerging import Merger
    from gimli.pair.syncwire import Datagram

HOLD_S = 600
DOUBT_S = 120
_REFRESH_S = HOLD_S / 3

HELD_MAX = 1_000_000

ACK_S = 0.005
_ACK_EVERY = 8
"""An acknowledgement waits this long, or for so many datagrams."""

_EARLY_MAX = 2 * WINDOW_MAX
_DATAGRAMS_AT_ONCE = 8
_MESSAGES_AT_ONCE = 256
"""What is done before others have their turn: a few milliseconds of the kernel's time."""


class Receiver:
    """The replica's side.

    Args:
        mode: where connections are kept.
        merger: merges an update with what is held.
        refused: counts what can not be applied, by reason.
    """

    def __init__(self, mode: Mode, merger: Merger, refused: Counter[str]) -> None:
        self._in_kernel = mode is Mode.KERNEL
        self._merger = merger
        self._refused = refused
        self.held: dict[bytes, bytes] = {}
        """Canonical messages by key."""
        self.join = 1
        """Number of the present wish for everything."""
        self.has_begun = False
        """Whether the wish is being served."""
        self.is_complete = False
        """Whether it has been."""
        self._applied = 0
        self._early: dict[int, Datagram] = {}
        self._unnamed: dict[bytes, bytes] | None = None
        """What is held and the bulk that is being received has not named yet."""
        self._unacknowledged = 0
        self._acknowledge_at_s: float | None = None
        self._doubtful: dict[bytes, bytes] | None = None
        self._is_doubt_complete = False
        self._for_kernel: list[Iterator[bytes]] = []
        self._copied: dict[bytes, bytes] = {}
        """What is held and, as it is, in the kernel too."""
        self._refresh_at_s: float | None = None

    # Wishes and roles.

    def ask_again(self) -> None:
        """Whatever was under way is void: wish for everything."""
        self.join += 1
        self.has_begun = self.is_complete = False
        self._early.clear()
        self._unnamed = None
        self._unacknowledged, self._acknowledge_at_s = 0, None

    def doubt(self) -> None:
        """The kernel's table is going to be handed over: what of it the owner does not have is in doubt."""
        self._doubtful, self._is_doubt_complete = {}, False

    def put_dumped(self, changes: list[tuple[bytes, bytes]]) -> None:
        """Take entries of this kernel's table."""
        if self._doubtful is not None:
            self._doubtful.update(changes)

    def dump_done(self) -> None:
        """This kernel's table is complete."""
        self._is_doubt_complete = self._doubtful is not None
        self._settle_doubt()

    @property
    def wants_dump(self) -> bool:
        """Whether this kernel's table is wanted."""
        return self._doubtful is not None and not self._is_doubt_complete

    def take_over(self) -> Iterator[bytes]:
        """Hand over everything that is held.

        Returns:
            Messages for the kernel, newest first: those are the likeliest to live.
        """
        copied, self._copied = self._copied, {}
        held = [(key, message) for key, message in self.held.items() if copied.get(key) is not message]
        self.held = {}
        self.ask_again()
        self._doubtful, self._for_kernel, self._refresh_at_s = None, [], None
        return self._later(reversed(held), self._taken_over)

    def copies(self) -> Iterator[bytes]:
        """Messages that put what is held into the kernel as well; newest first."""
        if not self._in_kernel:
            yield from self._later(reversed(list(self.held.items())), self._copy)

    # Datagrams.

    def received(self, datagram: Datagram, now_s: float) -> list[bytes]:
        """Take a datagram of the stream.

        Returns:
            Messages for the kernel.

        Raises:
            Refused: it has no place in the stream.
        """
        number = datagram.number
        if datagram.kind is Kind.BULK_BEGIN and (not self.has_begun or number > self._applied):
            self._begin_bulk(datagram, now_s)
            return self._apply_early()
        if not self.has_begun:
            raise Refused("not-joined", f"number {number} of a stream that has not begun")
        self._unacknowledged += 1
        if self._unacknowledged >= _ACK_EVERY:
            self._acknowledge_at_s = now_s
        elif self._acknowledge_at_s is None:
            self._acknowledge_at_s = now_s + ACK_S
        if number <= self._applied or number in self._early:
            raise Refused("duplicate", f"number {number} once more")
        if number > self._applied + _EARLY_MAX:
            raise Refused("beyond-window", f"number {number} after {self._applied}")
        self._early[number] = datagram
        return self._apply_early()

    def heartbeat(self, number: int, join: int) -> bool:
        """The owner has told the last number it has sent, and which wish it serves.

        Returns:
            Whether it has given up ours. One that was overtaken says nothing about now.
        """
        if not self.has_begun or number < self._applied or join == self.join:
            return False
        self.ask_again()
        return True

    def acknowledgement(self, now_s: float) -> tuple[int, bytes] | None:
        """Number and payload of an ACK, if one is due."""
        if self._acknowledge_at_s is None or now_s < self._acknowledge_at_s:
            return None
        self._unacknowledged, self._acknowledge_at_s = 0, None
        return self.position()

    def position(self) -> tuple[int, bytes]:
        """Number and payload of an ACK."""
        gaps = []
        awaited = self._applied + 1
        for early in sorted(self._early):
            if early > awaited:
                gaps.append((awaited, early - 1))
            awaited = early + 1
        return self._applied, syncwire.pack_gaps(gaps)

    # The clock.

    def due(self, now_s: float) -> list[bytes]:
        """Messages for the kernel that have waited for their turn."""
        if self._early and (messages := self._apply_early()):
            return messages
        if self._in_kernel and self.held:
            if self._refresh_at_s is None:
                self._refresh_at_s = now_s + _REFRESH_S
            elif now_s >= self._refresh_at_s:
                self._refresh_at_s = now_s + _REFRESH_S
                self._for_kernel.append(self._later(list(self.held.items()), self._refreshment))
        messages = []
        while self._for_kernel and not messages:
            messages = list(islice(self._for_kernel[0], _MESSAGES_AT_ONCE))
            if not messages:
                del self._for_kernel[0]
        return messages

    def next_due_s(self) -> float | None:
        """When :meth:`due` or :meth:`acknowledgement` has something."""
        if self._for_kernel or self._applied + 1 in self._early:
            return 0.0
        times = [at_s for at_s in (self._acknowledge_at_s, self._refresh_at_s) if at_s is not None]
        return min(times, default=None)

    # Inside.

    def _begin_bulk(self, datagram: Datagram, now_s: float) -> None:
        join, _ = syncwire.parse_beat(datagram.payload)
        if join != self.join:
            raise Refused("not-joined", f"serves wish {join}, expected {self.join}")
        number = self._applied = datagram.number
        self.has_begun, self.is_complete = True, False
        self._unnamed = dict(self.held)
        self._early = {early: kept for early, kept in self._early.items() if early > number}
        self._acknowledge_at_s = now_s

    def _apply_early(self) -> list[bytes]:
        out: list[bytes] = []
        for _ in range(_DATAGRAMS_AT_ONCE):
            datagram = self._early.pop(self._applied + 1, None)
            if datagram is None:
                break
            self._applied += 1
            if datagram.kind is Kind.STATES:
                self._apply(datagram.payload, out)
            elif datagram.kind is Kind.BULK_END:
                self._end_bulk()
        return out

    def _apply(self, payload: bytes, out: list[bytes]) -> None:
        unnamed = self._unnamed
        try:
            changes = ctmessage.split(payload)
        except PeerError:
            self._refused["malformed"] += 1
            return
        for key, message in changes:
            if unnamed is not None:
                unnamed.pop(key, None)
            try:
                self._change(key, message, out)
            except PeerError:
                self._refused["malformed"] += 1

    def _change(self, key: bytes, message: bytes, out: list[bytes]) -> None:
        change, held = ctmessage.change_in(message), self.held.get(key)
        if change == Change.ENDED:
            if held is None:
                return
            del self.held[key]
            if self._copied.pop(key, None) is not None:
                out.append(message)
        elif held is None:
            if len(self.held) >= HELD_MAX:
                self._refused["full"] += 1
                return
            if change == Change.UPDATED:
                message = ctmessage.as_change(message, Change.WHOLE)
            self.held[key] = message
            if self._in_kernel:
                message = _insertion(message)
        elif change == Change.UPDATED:
            self.held[key] = merged = self._merger.merged(held, message)
            if self._in_kernel:
                message = _update(merged)
        elif ctmessage.is_same(held, message):
            self.held[key] = message
            return  # the time that it has left is not worth a write: it is refreshed anyway
        else:
            # Another connection with the same addresses and ports, or one of which much was missed.
            self.held[key] = message
            if self._in_kernel:
                out.append(ctmessage.deletion_of(held))
                message = _insertion(message)
        if self._in_kernel:
            out.append(message)

    def _end_bulk(self) -> None:
        gone, self._unnamed = self._unnamed or {}, None
        for key in gone:
            self.held.pop(key, None)
        if self._in_kernel:
            self._for_kernel.append(self._later(gone.items(), self._deletion))
        self.is_complete = True
        self._settle_doubt()

    def _settle_doubt(self) -> None:
        if self._doubtful is not None and self._is_doubt_complete and self.is_complete:
            self._for_kernel.append(self._later(self._doubtful.items(), self._shortening))
            self._doubtful = None

    def _later(
        self, entries: Iterable[tuple[bytes, bytes]], make: Callable[[bytes, bytes], bytes | None]
    ) -> Iterator[bytes]:
        """Messages for the kernel that are made when their turn has come: the stream goes on meanwhile."""
        for key, message in entries:
            try:
                made = make(key, message)
            except PeerError:
                self._refused["malformed"] += 1
                continue
            if made is not None:
                yield made

    def _taken_over(self, _key: bytes, message: bytes) -> bytes | None:
        if not self._in_kernel:
            return ctinsertion.insertion(ctmessage.as_change(message, Change.WHOLE))
        # It is there, and its packets may have changed it already: nothing but the time is to be put right.
        left_s = ctmessage.timeout_s(message)
        return ctmessage.touch(message, left_s) if left_s < HOLD_S else None

    def _copy(self, key: bytes, message: bytes) -> bytes | None:
        self._copied[key] = message
        return self._taken_over(key, message)

    def _deletion(self, key: bytes, message: bytes) -> bytes | None:
        return None if key in self.held else ctmessage.deletion_of(message)

    def _shortening(self, key: bytes, message: bytes) -> bytes | None:
        if key in self.held or ctmessage.timeout_s(message) <= DOUBT_S:
            return None
        return ctmessage.touch(message, DOUBT_S)

    def _refreshment(self, key: bytes, _message: bytes) -> bytes | None:
        held = self.held.get(key)
        if held is None:
            return None
        return _update(held)


def _insertion(held: bytes) -> bytes:
    return ctinsertion.insertion(ctinsertion.with_timeout_of_at_least(held, HOLD_S))


def _update(held: bytes) -> bytes:
    """The update that makes an entry what is held.

    It says everything: the kernel may have dropped the entry under pressure, or may refuse to make this one
    of it, and it is made anew then (second_try).
    """
    return ctinsertion.with_timeout_of_at_least(ctmessage.as_change(held, Change.UPDATED), HOLD_S)
