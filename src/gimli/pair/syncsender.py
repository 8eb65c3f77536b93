"""How does an owner's stream of changes reach its replica: all of it, in order, and in bounded memory?

    put -> pending (the latest of each connection) -> leaving -> datagrams in the window -> acknowledged

What is pending coalesces, and leaves as a whole once what left before is in the window. The window resends.
If nothing is heard for too long, or too much is pending, the stream ends and all of it is forgotten: the
replica notices, and asks for everything again.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from gimli.pair import ctmessage, syncwire
from gimli.pair.ctmessage import Change
from gimli.pair.syncwire import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.pair.ctmerging import Merger

BATCH = 64
"""Changes in a datagram: 12 kB, of which compression leaves one or two frames."""

WINDOW_MAX = 256
"""Datagrams on their way, about: 16,000 changes, a third of a second at full speed."""

PENDING_MAX = 500_000
_PENDING_MAX_FOR_DUMP = 4096

_RESEND_S_MIN, _RESEND_S_MAX = 0.05, 1.0
_RESENT_AT_ONCE = 32
SILENCE_S_MAX = 5.0
"""How long a replica may acknowledge nothing while something is on its way."""

_END = b""
"""Stands in pending for the end of the bulk; no connection has an empty key."""


class _Sent:
    """A datagram that is not acknowledged.

    Args:
        datagram: its bytes.
        since_s: when the oldest change in it was told.
        now_s: when it is sent.
    """

    __slots__ = ("covers", "datagram", "sent_s", "since_s", "tries")

    def __init__(self, datagram: bytes, since_s: float, now_s: float) -> None:
        self.datagram = datagram
        self.covers: int | None = None
        """How many of the stream's changes the replica has when it has applied this; None: not known."""
        self.since_s = since_s
        self.sent_s = now_s
        self.tries = 1


class Sender:
    """The owner's side.

    Args:
        seal: makes a datagram of kind, sequence number and payload.
        merger: merges two changes of one connection.
    """

    def __init__(self, seal: Callable[[Kind, int, bytes], bytes], merger: Merger) -> None:
        self._seal = seal
        self._merger = merger
        self.is_joined = False
        """Whether a replica is being served."""
        self.join = 0
        """The last of its wishes that was served."""
        self.replicated = 0
        """Changes that were acknowledged."""
        self.lost = 0
        """Changes that were given up; whenever there are some, everything is sent anew."""
        self.last_lag_s = 0.0
        """How long it took from the kernel's word to the last acknowledgement."""
        self._pending: dict[bytes, bytes] = {}
        self._pending_since_s = 0.0
        self._leaving: deque[tuple[bytes, bytes]] = deque()
        self._leaving_since_s = 0.0
        self._leaving_covers = 0
        self._taken = 0
        """Changes since the stream began, and how many of them are acknowledged."""
        self._covered = 0
        self._window: dict[int, _Sent] = {}
        """By consecutive numbers from ``_base`` on."""
        self._next = 1
        """Goes on from stream to stream: no datagram of one can be taken for another's."""
        self._base = 1
        self._touched: dict[bytes, bytes] | None = None
        """What events have told since the dump began, by connection: updates, or ``b""`` for all there is to
        say. None when there is no dump."""
        self._again = False
        self._heard_s = 0.0
        self._round_trip_s = _RESEND_S_MIN
        self._patience = 1

    @property
    def last(self) -> int:
        """The last number that was given out."""
        return self._next - 1

    @property
    def wants_dump(self) -> bool:
        """Whether a dump is wanted, and there is room for more of it."""
        waiting = len(self._pending) + len(self._leaving)
        return self._touched is not None and waiting < _PENDING_MAX_FOR_DUMP

    @property
    def has_settled(self) -> bool:
        """Whether all that was told is acknowledged."""
        on_the_way = self._pending or self._leaving or self._window
        return self.is_joined and self._touched is None and not on_the_way

    def lag_s(self, now_s: float) -> float:
        """How long the oldest change that is on its way has been; when there is none, the last one was."""
        if self._window:
            return now_s - self._window[self._base].since_s
        if self._leaving:
            return now_s - self._leaving_since_s
        return now_s - self._pending_since_s if self._pending else self.last_lag_s

    def begin(self, join: int, now_s: float) -> list[bytes]:
        """Start a stream with everything; whatever was on its way is void."""
        self.end()
        self.is_joined, self.join = True, join
        self._touched = {}
        self._base = self._next
        return [self._send(Kind.BULK_BEGIN, syncwire.pack_beat(join, 0.0), now_s, now_s)]

    def end(self) -> None:
        """No replica is served."""
        self.lost += self._taken - self._covered
        self.is_joined = False
        self._taken = self._covered = 0
        self._pending.clear()
        self._leaving.clear()
        self._window.clear()
        self._touched = None
        self._again = False
        self._patience = 1

    def put(self, changes: list[tuple[bytes, bytes]], now_s: float) -> None:
        """Take changes that the kernel has told, in their order."""
        pending, change_in = self._pending, ctmessage.change_in
        if not pending:
            self._pending_since_s = now_s
        for key, message in changes:
            held = pending.get(key)
            # What began, ended or was dumped says everything; an update goes on top of what it changes.
            if held is None or change_in(message) != Change.UPDATED or change_in(held) == Change.ENDED:
                pending[key] = message
            else:
                pending[key] = self._merger.merged(held, message)
        self._taken += len(changes)
        if self._touched is not None:
            self._touch(self._touched, changes)

    def put_dumped(self, changes: list[tuple[bytes, bytes]], now_s: float) -> None:
        """Take entries of the dump, which may be older than an event that came before them.

        What events have told since it began goes on top. Should it be older than the entry, the events that
        make it as new are still to come.
        """
        if self._touched is None:
            return
        if not self._pending:
            self._pending_since_s = now_s
        for key, message in changes:
            told = self._touched.get(key)
            if told is None:
                self._pending[key] = message
            elif told:
                self._pending[key] = self._merger.merged(message, told)

    def _touch(self, touched: dict[bytes, bytes], changes: list[tuple[bytes, bytes]]) -> None:
        for key, message in changes:
            told = touched.get(key)
            if ctmessage.change_in(message) != Change.UPDATED:
                touched[key] = b""
            elif told is None:
                touched[key] = message
            elif told:
                touched[key] = self._merger.merged(told, message)

    def events_lost(self) -> bool:
        """The kernel has dropped events.

        Returns:
            Whether the stream must begin anew now. While a dump is read, it must when that is done: a loss
            that repeats would else never let one come to its end.
        """
        self.lost += 1
        if self._touched is None:
            return True
        self._again = True
        return False

    def dump_done(self, now_s: float) -> bool:
        """The dump is complete.

        Returns:
            Whether the stream must begin anew.
        """
        if self._touched is None or self._again:
            return self._again
        self._touched = None
        if not self._pending:
            self._pending_since_s = now_s
        self._pending[_END] = b""
        return False

    def acknowledged(self, number: int, gaps: list[tuple[int, int]], now_s: float) -> list[bytes]:
        """The replica has applied all up to ``number``, and misses ``gaps`` behind it.

        Returns:
            What is to be sent again.
        """
        if not self.is_joined or not self._base - 1 <= number < self._next:
            return []
        self._heard_s = now_s
        if number >= self._base:
            self._patience = 1
        for passed in range(self._base, number + 1):
            sent = self._window.pop(passed)
            self.last_lag_s = now_s - sent.since_s
            if sent.tries == 1:  # else nobody knows which of them it answers
                self._round_trip_s += (now_s - sent.sent_s - self._round_trip_s) / 8
            if sent.covers is not None:
                self.replicated += sent.covers - self._covered
                self._covered = sent.covers
        self._base = number + 1
        missing = (
            self._window[number]
            for first, last in gaps
            for number in range(max(first, self._base), min(last, self.last) + 1)
        )
        late = (sent for sent in missing if now_s - sent.sent_s >= self._round_trip_s)
        return [self._resend(sent, now_s) for sent in islice(late, _RESENT_AT_ONCE)]

    def due(self, now_s: float) -> list[bytes]:
        """What is to be sent now."""
        if not self.is_joined:
            return []
        silent = self._window and now_s - self._heard_s >= SILENCE_S_MAX
        if silent or len(self._pending) > PENDING_MAX:
            self.end()
            return []
        out: list[bytes] = []
        if self._window and now_s >= self._resend_at_s():
            self._patience *= 2
            oldest = islice(self._window.values(), _RESENT_AT_ONCE)
            out += [self._resend(sent, now_s) for sent in oldest]
        return out + self._flush(now_s)

    def next_due_s(self) -> float | None:
        """When :meth:`due` has something to do."""
        if not self.is_joined:
            return None
        times = []
        if self._window:
            times += [self._resend_at_s(), self._heard_s + SILENCE_S_MAX]
        has_room = len(self._window) < WINDOW_MAX
        if (has_room and (self._pending or self._leaving)) or len(self._pending) > PENDING_MAX:
            times.append(0.0)
        return min(times, default=None)

    def _resend_at_s(self) -> float:
        wait_s = max(_RESEND_S_MIN, 3 * self._round_trip_s) * self._patience
        return self._window[self._base].sent_s + min(wait_s, _RESEND_S_MAX)

    def _flush(self, now_s: float) -> list[bytes]:
        """As many datagrams as the window takes, oldest changes first."""
        out = []
        while len(self._window) < WINDOW_MAX:
            if not self._leaving:
                if not self._pending:
                    break
                self._leaving.extend(self._pending.items())
                self._leaving_since_s, self._leaving_covers = self._pending_since_s, self._taken
                self._pending.clear()
            kind, payload = self._next_payload()
            out.append(self._send(kind, payload, self._leaving_since_s, now_s))
            if not self._leaving:
                self._window[self.last].covers = self._leaving_covers
        return out

    def _next_payload(self) -> tuple[Kind, bytes]:
        """The next changes that leave, up to the end of the bulk."""
        leaving = self._leaving
        if leaving[0][0] == _END:
            leaving.popleft()
            return Kind.BULK_END, b""
        batch: list[bytes] = []
        while leaving and len(batch) < BATCH and leaving[0][0] != _END:
            batch.append(leaving.popleft()[1])
        return Kind.STATES, b"".join(batch)

    def _send(self, kind: Kind, payload: bytes, since_s: float, now_s: float) -> bytes:
        if not self._window:
            self._heard_s = now_s  # nothing was awaited until now: the silence before means nothing
        datagram = self._seal(kind, self._next, payload)
        self._window[self._next] = _Sent(datagram, since_s, now_s)
        self._next += 1
        return datagram

    def _resend(self, sent: _Sent, now_s: float) -> bytes:
        sent.sent_s = now_s
        sent.tries += 1
        return sent.datagram
