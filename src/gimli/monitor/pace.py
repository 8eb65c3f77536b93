"""When is a FIFO read into which a program keeps writing?

A line that comes alone is taken at once. Where lines come close together each of them would wake the monitor,
and waking costs more than what there is to do: the FIFO is then looked at after a pause, in which more has
come.
"""

from __future__ import annotations

from gimli.loop import READ
from gimli.monitor.spool import PIECE_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.loop import Deadline, Loop
    from gimli.monitor.output import Output

_OFTEN_NS = 5_000_000
"""Twice within this time is often."""
_PAUSE_S, _SHORT_PAUSE_S = 0.005, 0.001
"""The short one where a pause has brought so much that the FIFO might become full, and the program wait."""
_MUCH_BYTES = PIECE_BYTES // 4
_WORTH_IT_BYTES = PIECE_BYTES // 2
"""Less than that is left for the next turn."""


class Pace:
    """Reads a service's output, from now until :meth:`close`.

    Args:
        loop: that waits for it.
        output: that takes it.
    """

    __slots__ = ("_deadline", "_last_ns", "_loop", "_output")

    def __init__(self, loop: Loop, output: Output) -> None:
        self._loop = loop
        self._output = output
        self._last_ns = 0
        self._deadline: Deadline | None = None
        loop.watch(output.fd, self._ready)

    def close(self) -> None:
        """Read no more; to be called before the FIFO is closed."""
        if self._deadline:
            self._deadline.cancel()
        self._loop.forget(self._output.fd)

    def _ready(self, _: int) -> None:
        before_ns, self._last_ns = self._last_ns, self._loop.now_ns()
        taken = self._output.drain(_WORTH_IT_BYTES)
        if self._last_ns - before_ns < _OFTEN_NS:
            self._loop.change(self._output.fd, 0)
            self._pause(taken)

    def _pause(self, taken: int) -> None:
        pause_s = _SHORT_PAUSE_S if taken >= _MUCH_BYTES else _PAUSE_S
        self._deadline = self._loop.after(pause_s, self._look)

    def _look(self) -> None:
        self._deadline = None
        if taken := self._output.drain(_WORTH_IT_BYTES):
            self._pause(taken)
        else:
            self._loop.change(self._output.fd, READ)
