"""What happens next? A calendar of events on virtual time.

Events of the same moment happen in the order in which they were entered, so a run depends on nothing but its
topology and its seed.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Engine:
    """Virtual time, and what is to come.

    Attributes:
        now_s: seconds since the start.
        heap: entries of (time, order, what, with what). Hot paths push on it themselves.
        order: numbers that rise; of two entries of one time the lower is first.
        events: how many have happened.
    """

    __slots__ = ("events", "heap", "now_s", "order")

    def __init__(self) -> None:
        self.now_s = 0.0
        self.heap: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self.order = count()
        self.events = 0

    def at(self, when_s: float, what: Callable[[Any], None], argument: object = None) -> None:
        """Let ``what(argument)`` happen then."""
        heappush(self.heap, (when_s, next(self.order), what, argument))

    def run(self, until_s: float) -> None:
        """Let everything happen that is due until then."""
        heap = self.heap
        events = 0
        while heap and heap[0][0] <= until_s:
            self.now_s, _, what, argument = heappop(heap)
            what(argument)
            events += 1
        self.events += events
        self.now_s = until_s
