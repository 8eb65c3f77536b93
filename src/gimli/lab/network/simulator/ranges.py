"""Which ranges of bytes are there? Of what a receiver keeps beyond a hole, and a sender is told of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Range = tuple[int, int]
"""From the first byte to the one behind the last."""


class Ranges:
    """Disjoint ranges that do not touch, in order; false when there is none."""

    __slots__ = ("_held", "newest")

    def __init__(self) -> None:
        self._held: list[Range] = []
        self.newest: Range = (0, 0)
        """The one that was added or grew last."""

    def __bool__(self) -> bool:
        return bool(self._held)

    def __iter__(self) -> Iterator[Range]:
        return iter(self._held)

    def clear(self) -> None:
        """Have none."""
        self._held.clear()

    def add(self, low: int, high: int) -> None:
        """Have these, too."""
        kept = []
        for held in self._held:
            if held[1] < low or held[0] > high:
                kept.append(held)
            else:
                low, high = min(low, held[0]), max(high, held[1])
        self.newest = (low, high)
        kept.append(self.newest)
        kept.sort()
        self._held = kept

    def forget_below(self, seq: int) -> None:
        """What is below is not asked for any more."""
        self._held = [held for held in self._held if held[1] > seq]

    def end_of(self, seq: int) -> int:
        """Behind the range that has this byte; the byte itself when none has it."""
        for low, high in self._held:
            if low <= seq < high:
                return high
        return seq

    def next_start(self, seq: int) -> int | None:
        """Where the next range begins, behind this byte."""
        return next((low for low, _ in self._held if low > seq), None)

    @property
    def top(self) -> int:
        """Behind the last of them; there must be one."""
        return self._held[-1][1]

    @property
    def size(self) -> int:
        """Bytes, all together."""
        return sum(high - low for low, high in self._held)

    def missing(self, start: int, seq: int) -> int:
        """Bytes from ``seq`` on that are left out between ``start`` and the top."""
        total = 0
        for low, high in self._held:
            if low > start:
                total += max(0, low - max(start, seq))
            start = max(start, high)
        return total

    def blocks(self, most: int) -> tuple[Range, ...]:
        """Of them, the newest first: RFC 2018 section 4."""
        others = [held for held in self._held if held != self.newest]
        return (self.newest, *others[: most - 1])
