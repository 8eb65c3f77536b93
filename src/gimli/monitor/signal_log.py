"""What does the journal say of the signals that the monitor receives?

Each with its sender; repeats counted (``monitor.signal_folding``) and told before anything else is.
"""

from __future__ import annotations

from gimli import clock, process
from gimli.monitor.signal_folding import Folding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gimli.journal import Journal
    from gimli.loop import Deadline, Loop
    from gimli.monitor.senders import Senders
    from gimli.monitor.signal_folding import Line
    from gimli.signals import Received


class SignalLog:
    """Writes ``signal`` events: one for the first of a row, one with ``repeats`` for those that follow."""

    def __init__(self, loop: Loop, journal: Journal, senders: Senders) -> None:
        self._loop = loop
        self._journal = journal
        self._senders = senders
        self._folding = Folding()
        self._due: Deadline | None = None
        self._is_writing = False
        journal.before = self.flush

    def tell(self, received: Received) -> None:
        """One signal, which may have been sent more than once."""
        name = process.signal_name(received.signo)
        for sender in self._senders.of_signal(received):
            self._write(self._folding.add(name, sender, clock.monotonic_ns()))
        self._wait()

    def flush(self) -> None:
        """Tell what has been counted: something else is about to be told, or the monitor to end."""
        if self._is_writing:
            return  # the first signal of another kind ends no row: two senders in turn would end each other's
        self._write(self._folding.flush())
        self._wait()

    def _expire(self) -> None:
        self._due = None
        self._write(self._folding.expire(clock.monotonic_ns()))
        self._wait()

    def _wait(self) -> None:
        """Sleep until the next line is due; not at all when none is."""
        if self._due is not None:
            self._due.cancel()
        due_ns = self._folding.due_ns
        self._due = None if due_ns is None else self._loop.at(due_ns, self._expire)

    def _write(self, lines: list[Line]) -> None:
        self._is_writing = True
        try:
            for line in lines:
                self._journal.record("signal", signal=line.signal, sender=line.sender, **_row(line))
        finally:
            self._is_writing = False


def _row(line: Line) -> dict[str, Any]:
    """How a line of repeats and the one before it belong together: by ``first_ns``."""
    if line.is_first:
        return {"first_ns": line.first_ns}
    span_ms = (line.last_ns - line.first_ns) / 1e6
    return {"repeats": line.repeats, "within_ms": round(span_ms, 3), "first_ns": line.first_ns}
