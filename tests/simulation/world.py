"""What time is it, what happens next, and what has happened? One clock, one calendar, one chance."""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND_NS = 1_000_000_000


class Violated(BaseException):
    """An invariant does not hold. Not an Exception: the monitor survives those."""


class World:
    """Virtual time and everything that will happen in it.

    Args:
        seed: the same seed is the same story.
        lines: how many of it are kept.
    """

    def __init__(self, seed: int, lines: int = 60) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.now_ns = 1_000 * SECOND_NS
        self.jumped_ns = 0
        self.events: Counter[str] = Counter()
        self._calendar: list[tuple[int, int, str, Callable[[], None]]] = []
        self._count = 0
        self._story: deque[tuple[object, ...]] = deque(maxlen=lines)

    def after(self, delay_s: float, what: str, happen: Callable[[], None]) -> None:
        """Let something happen ``delay_s`` from now."""
        self._count += 1
        at_ns = self.now_ns + int(delay_s * 1e9)
        heapq.heappush(self._calendar, (at_ns, self._count, what, happen))

    @property
    def next_ns(self) -> int | None:
        """When the next event of the world comes."""
        return self._calendar[0][0] if self._calendar else None

    def advance(self) -> None:
        """Let the next event happen."""
        at_ns, _, what, happen = heapq.heappop(self._calendar)
        self.now_ns = max(self.now_ns, at_ns)
        self.events[what] += 1
        happen()

    def jump(self, jump_s: float) -> None:
        """The clock is suddenly later: what was to happen in between happens late."""
        self.now_ns += int(jump_s * 1e9)
        self.jumped_ns += int(jump_s * 1e9)

    def likely(self, probability: float) -> bool:
        """Chance."""
        return self.chance.random() < probability

    def between(self, low: float, high: float) -> float:
        """A number, evenly distributed."""
        return low + (high - low) * self.chance.random()

    def say(self, *words: object) -> None:
        """Remember what happened, for the story of a failure."""
        self._story.append((self.now_ns, *words))

    def story(self) -> str:
        """The last things that happened."""
        return "\n".join(
            f"{(at_ns - 1_000 * SECOND_NS) / 1e9:12.6f}  " + " ".join(map(str, words))
            for at_ns, *words in self._story
        )
