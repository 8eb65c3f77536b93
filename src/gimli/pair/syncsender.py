"""How does an owner's stream of changes reach one replica, all of it, in order?

    put -> pending (latest per connection) -> datagrams in the window -> acknowledged

Pending coalesces, the window resends. When either stands still for too long, or too much is pending, the
stream ends: everything is forgotten, and the replica asks for the whole again. So nothing here grows for ever.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from gimli.pair import ctmessage, syncwire
from gimli.pair.ctmessage import Change
from gimli.pair.syncwire import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gimli.pair.merging import Merger

BATCH = 64
"""Changes in one datagram: 12 kB, 1.3 kB of it left after compression."""

WINDOW_MAX = 256
"""Datagrams on their way."""

FLUSH_S = 0.001
"""How long a change may wait for company."""

PENDING_MAX = 500_000
PENDING_FOR_DUMP_MAX = 4 * BATCH * WINDOW_MAX // 16
RESEND_S_MIN, RESEND_S_MAX = 0.02, 1.0
SILENCE_S_MAX = 5.0
_RESENT_AT_ONCE = 32

_END = b""
"""Key in pending of the bulk's end."""


class _Sent:
    __slots__ = ("changes", "created_s", "datagram", "sent_s", "tries")

    def __init__(self, datagram: bytes, changes: int, created_s: float, now_s: float) -> None:
        self.datagram = datagram
        self.changes = changes
        self.created_s = created_s
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
        self.joined = False
        """Whether a replica is being served."""
        self.join = 0
        """Which of its wishes."""
        self.replicated = 0
        self.lost = 0
        self.lag_s = 0.0
        self._pending: dict[bytes, bytes] = {}
        self._pending_since_s = 0.0
        self._pending_changes = 0
        self._window: dict[int, _Sent] = {}
        self._next = 1
        self._base = 1
        self._touched: set[bytes] | None = None
        self._heard_s = 0.0
        self._round_trip_s = RESEND_S_MIN
        self._patience = 1

    @property
    def last(self) -> int:
        """The last number given out."""
        return self._next - 1

    @property
    def has_room(self) -> bool:
        """Whether a dump may go on."""
        return len(self._pending) < PENDING_FOR_DUMP_MAX

    @property
    def is_dumping(self) -> bool:
        """Whether the whole table is wanted."""
        return self._touched is not None

    def begin(self, join: int, now_s: float) -> list[bytes]:
        """Start a stream with everything; what was on its way before is void."""
        self._forget()
        self.joined, self.join = True, join
        self._touched = set()
        self._heard_s = now_s
        self._base = self._next
        return [self._send(Kind.BULK_BEGIN, syncwire.pack_beat(join, 0), 0, now_s, now_s)]

    def end(self) -> None:
        """No replica is there."""
        if self.joined:
            self.lost += self._pending_changes + sum(sent.changes for sent in self._window.values())
        self._forget()

    def put(self, changes: Iterable[tuple[bytes, bytes]], now_s: float) -> int:
        """Take changes that the kernel told of.

        Returns:
            How many.
        """
        pending, count = self._pending, 0
        if not pending:
            self._pending_since_s = now_s
        for key, message in changes:
            count += 1
            held = pending.get(key)
            if held is None or ctmessage.change_in(message) != Change.UPDATED:
                pending[key] = message
            elif ctmessage.change_in(held) != Change.ENDED:
                pending[key] = self._merger.merged(held, message)
        if self._touched is not None:
            self._touched.update([key for key, _ in changes])
        self._pending_changes += count
        return count

    def put_dumped(self, changes: Iterable[tuple[bytes, bytes]], now_s: float) -> None:
        """Take entries of the dump; an event since its beginning knows better."""
        if self._touched is None:
            return
        if not self._pending:
            self._pending_since_s = now_s
        for key, message in changes:
            if key not in self._touched:
                self._pending[key] = message

    def dump_done(self, now_s: float) -> None:
        """The dump is complete."""
        if self._touched is None:
            return
        self._touched = None
        if not self._pending:
            self._pending_since_s = now_s
        self._pending[_END] = b""

    def acknowledged(self, number: int, gaps: list[tuple[int, int]], now_s: float) -> list[bytes]:
        """The replica has applied all up to ``number``, and misses ``gaps`` after it."""
        if not self.joined or number >= self._next or number < self._base - 1:
            return []
        self._heard_s = now_s
        window = self._window
        for passed in range(self._base, number + 1):
            sent = window.pop(passed)
            self.replicated += sent.changes
            if passed == number:
                self.lag_s = now_s - sent.created_s
                if sent.tries == 1:
                    self._round_trip_s += (now_s - sent.sent_s - self._round_trip_s) / 8
            self._patience = 1
        self._base = number + 1
        again = []
        for first, last in gaps:
            for missing in range(max(first, self._base), min(last, self._next - 1) + 1):
                if now_s - window[missing].sent_s >= self._round_trip_s and len(again) < _RESENT_AT_ONCE:
                    again.append(self._resend(window[missing], now_s))
        return again

    def due(self, now_s: float) -> list[bytes]:
        """What is to be sent now."""
        if not self.joined:
            return []
        waiting = bool(self._pending or self._window)
        if (waiting and now_s - self._heard_s >= SILENCE_S_MAX) or len(self._pending) > PENDING_MAX:
            self.end()
            return []
        out = []
        if self._window and now_s >= self._resend_at_s():
            self._patience *= 2
            for number in islice(self._window, _RESENT_AT_ONCE):
                out.append(self._resend(self._window[number], now_s))
        if self._pending and (len(self._pending) >= BATCH or now_s >= self._pending_since_s + FLUSH_S):
            out += self._flush(now_s)
        return out

    def next_due_s(self) -> float | None:
        """When :meth:`due` has something to do."""
        if not self.joined or not (self._pending or self._window):
            return None
        times = [self._heard_s + SILENCE_S_MAX]
        if self._window:
            times.append(self._resend_at_s())
        if self._pending and len(self._window) < WINDOW_MAX:
            times.append(0.0 if len(self._pending) >= BATCH else self._pending_since_s + FLUSH_S)
        return min(times)

    def _resend_at_s(self) -> float:
        oldest = self._window[next(iter(self._window))]
        wait_s = min(max(RESEND_S_MIN, 3 * self._round_trip_s) * self._patience, RESEND_S_MAX)
        return oldest.sent_s + wait_s

    def _flush(self, now_s: float) -> list[bytes]:
        room = (WINDOW_MAX - len(self._window)) * BATCH
        if room <= 0:
            return []
        pending = self._pending
        if len(pending) <= room:
            items, self._pending = pending, {}
        else:
            items = dict(islice(pending.items(), room))
            for key in items:
                del pending[key]
        changes, created_s = self._pending_changes, self._pending_since_s
        self._pending_changes = 0 if not self._pending else changes - min(changes, len(items))
        changes -= self._pending_changes
        self._pending_since_s = now_s
        ends = _END in items
        after: list[bytes] = []
        messages = list(items.values())
        if ends:
            at = list(items).index(_END)
            messages, after = messages[:at], messages[at + 1 :]
        out = self._send_states(messages, changes, created_s, now_s)
        if ends:
            out.append(self._send(Kind.BULK_END, b"", 0, created_s, now_s))
            out += self._send_states(after, 0, created_s, now_s)
        return out

    def _send_states(
        self, messages: list[bytes], changes: int, created_s: float, now_s: float
    ) -> list[bytes]:
        out = []
        for start in range(0, len(messages), BATCH):
            batch = messages[start : start + BATCH]
            last = start + BATCH >= len(messages)
            counted = changes if last else min(changes, len(batch))
            changes -= counted
            out.append(self._send(Kind.STATES, b"".join(batch), counted, created_s, now_s))
        return out

    def _send(self, kind: Kind, payload: bytes, changes: int, created_s: float, now_s: float) -> bytes:
        if not self._window:
            # Nothing was awaited until now: the silence before was no sign of death.
            self._heard_s = now_s
        datagram = self._seal(kind, self._next, payload)
        self._window[self._next] = _Sent(datagram, changes, created_s, now_s)
        self._next += 1
        return datagram

    def _resend(self, sent: _Sent, now_s: float) -> bytes:
        sent.sent_s = now_s
        sent.tries += 1
        return sent.datagram

    def _forget(self) -> None:
        self.joined = False
        self._pending.clear()
        self._pending_changes = 0
        self._window.clear()
        self._touched = None
        self._patience = 1
