"""When is this kernel's connection table read and written, in the daemon's loop?

Events are read some time after the first of them, and then at that pace until there are none: each reading
costs as much as twenty events, and so does each datagram that is made of it. A dump is read part by part,
when its user wants more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gimli.pair import conntrack

if TYPE_CHECKING:
    from gimli.loop import Deadline, Loop
    from gimli.pair.ctintake import Intake

READ_AFTER_S = 0.002
"""From the first event to the reading: how far the replica is behind on a host with little to do."""

_BATCHES_AT_ONCE = 16
"""Some 2,000 events, 5 ms of work; then others have their turn."""

_DUMP_READS_AT_ONCE = 2
_DUMP_AGAIN_S = 0.005


class TableUser(Protocol):
    """Who is told; each call is one turn of the loop."""

    def changed(self, changes: list[tuple[bytes, bytes]]) -> None:
        """The kernel has told this."""

    def events_lost(self) -> None:
        """The kernel has dropped events; those before are dropped as well."""

    def wants_dump(self) -> bool:
        """Whether more of the dump is wanted now."""

    def dumped(self, entries: list[tuple[bytes, bytes]]) -> None:
        """A part of the dump."""

    def dump_done(self) -> None:
        """That was all of it."""


class ConnectionTable:
    """The table of the namespace in which it is made.

    Args:
        loop: the daemon's.
        intake: decides what of it matters.
        user: is told.

    Raises:
        ConntrackRefused: not root, or no connection tracking.
    """

    def __init__(self, loop: Loop, intake: Intake, user: TableUser) -> None:
        self._loop = loop
        self._intake = intake
        self._user = user
        conntrack.enable_events()
        self.writer = conntrack.Writer()
        self._events: conntrack.Events | None = None
        self._reading: Deadline | None = None
        self._dump: conntrack.Dump | None = None
        self._dumping: Deadline | None = None

    def listen(self, *, wanted: bool) -> None:
        """Tell of changes from now on, or no more."""
        if self._reading:
            self._reading.cancel()
            self._reading = None
        elif self._events:
            self._loop.forget(self._events.fileno())
        if self._events:
            self._events.close()
            self._events = None
        if wanted:
            self._events = conntrack.Events()
            self._loop.watch(self._events.fileno(), self._something_changed)

    def dump(self) -> None:
        """Read the table from its beginning; a dump that is under way is given up."""
        self._end_dump()
        self._dump = conntrack.Dump()
        self._dumping = self._loop.after(0.0, self._read_dump)

    def apply(self, messages: list[bytes]) -> None:
        """Write messages."""
        self.writer.write(messages)

    def close(self) -> None:
        """Let go of it."""
        self.listen(wanted=False)
        self._end_dump()
        self.writer.close()

    def _something_changed(self, _: int) -> None:
        assert self._events
        self._loop.forget(self._events.fileno())
        self._reading = self._loop.after(READ_AFTER_S, self._read_events)

    def _read_events(self) -> None:
        assert self._events
        self._reading, events = None, self._events
        is_quiet = True
        for _ in range(_BATCHES_AT_ONCE):
            batch = events.drain()
            is_quiet = is_quiet and not (batch.messages or batch.lost)
            if batch.lost:
                self._user.events_lost()
            self._user.changed(self._intake.take(batch.messages))
            if self._events is not events:
                return  # who was told wants no more, or begins anew
            if not batch.may_be_more:
                break
        if is_quiet:
            self._loop.watch(events.fileno(), self._something_changed)
        else:
            self._reading = self._loop.after(READ_AFTER_S, self._read_events)

    def _read_dump(self) -> None:
        assert self._dump
        if not self._user.wants_dump():
            self._dumping = self._loop.after(_DUMP_AGAIN_S, self._read_dump)
            return
        dump = self._dump
        self._user.dumped(self._intake.take_dumped(dump.drain(_DUMP_READS_AT_ONCE)))
        if self._dump is not dump:
            return  # another one was wanted meanwhile
        if dump.done:
            self._end_dump()
            self._user.dump_done()
        else:
            self._dumping = self._loop.after(0.0, self._read_dump)

    def _end_dump(self) -> None:
        if self._dumping:
            self._dumping.cancel()
            self._dumping = None
        if self._dump:
            self._dump.close()
            self._dump = None
