"""An event loop without ticks: file descriptors that are ready, and deadlines that have come.

It sleeps until one of the two; there is no tick. A callback must not block and must not raise: whatever it
raises ends the monitor, which is never what an operator wants.
"""

from __future__ import annotations

import heapq
import select

from gimli import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT


_SLEEP_S_MAX = 86_400.0
"""epoll takes 24 days at most; a pulse may have an interval of centuries."""


_CANCELLED_MAX = 100
"""Cancelled deadlines that may stay in the heap, besides as many as there are others."""


class Deadline:
    """A callback at a time. ``cancel`` forgets it; it stays in the heap for a while, and does nothing."""

    __slots__ = ("at_ns", "callback")

    def __init__(self, at_ns: int, callback: Callable[[], None] | None) -> None:
        self.at_ns = at_ns
        self.callback = callback

    def cancel(self) -> None:
        """Forget it."""
        self.callback = None

    def __lt__(self, other: Deadline) -> bool:
        return self.at_ns < other.at_ns


class Loop:
    """epoll and one heap of deadlines.

    Args:
        epoll: what is ready; a simulation has its own.
        now_ns: what time it is; likewise.
    """

    def __init__(
        self, epoll: select.epoll | None = None, now_ns: Callable[[], int] = clock.monotonic_ns
    ) -> None:
        self.now_ns = now_ns
        self.children: set[int] = set()
        """Pids of children whose end a callback collects: nobody else may reap them."""
        self._epoll = epoll or select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._deadlines: list[Deadline] = []
        self._deadlines_max = _CANCELLED_MAX
        self._forgotten: set[int] = set()

    def watch(self, fd: int, callback: Callable[[int], None], events: int = READ) -> None:
        """Call ``callback(events)`` whenever ``fd`` is ready, until :meth:`forget`."""
        self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def change(self, fd: int, events: int) -> None:
        """Watch ``fd`` for other events."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching ``fd``; to be called before it is closed."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)
            self._forgotten.add(fd)

    def at(self, at_ns: int, callback: Callable[[], None]) -> Deadline:
        """Call ``callback`` once, at ``at_ns`` on CLOCK_MONOTONIC or as soon after as possible."""
        if len(self._deadlines) > self._deadlines_max:
            # Every ring of a bell moves a deadline: those of an hour ahead would pile up until then.
            self._deadlines = [deadline for deadline in self._deadlines if deadline.callback]
            heapq.heapify(self._deadlines)
            self._deadlines_max = 2 * len(self._deadlines) + _CANCELLED_MAX
        deadline = Deadline(at_ns, callback)
        heapq.heappush(self._deadlines, deadline)
        return deadline

    def after(self, delay_s: float, callback: Callable[[], None]) -> Deadline:
        """Call ``callback`` once, ``delay_s`` from now."""
        return self.at(self.now_ns() + round(delay_s * clock.NANOSECONDS), callback)

    def run_once(self) -> None:
        """Sleep until something happens, and handle all of it."""
        ready = self._epoll.poll(self._timeout_s())
        self._forgotten.clear()
        for fd, events in ready:
            # An earlier callback of this batch may have closed it, and its number may be another's by now.
            if fd not in self._forgotten and (callback := self._callbacks.get(fd)):
                callback(events)
        now_ns = self.now_ns()
        while self._deadlines and self._deadlines[0].at_ns <= now_ns:
            if callback_due := heapq.heappop(self._deadlines).callback:
                callback_due()

    def _timeout_s(self) -> float | None:
        while self._deadlines and self._deadlines[0].callback is None:
            heapq.heappop(self._deadlines)
        if not self._deadlines:
            return None
        wait_s = (self._deadlines[0].at_ns - self.now_ns()) / clock.NANOSECONDS
        return min(max(0.0, wait_s), _SLEEP_S_MAX)
