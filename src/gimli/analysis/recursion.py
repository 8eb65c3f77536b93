"""What of a very deep stack is worth showing?

Pure. A stack overflow is a thousand times the same few calls: a group of calls that repeats is shown
twice, then counted, then shown once more; and of what is still too long, the two ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gimli.report import Frame

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

PERIOD_MAX = 16
"""Functions that call each other in a circle, at most."""
_REPEATS_MIN = 5


@dataclass(frozen=True, slots=True)
class Omitted:
    """Calls left out between two that are shown."""

    count: int
    group: tuple[Hashable, ...] = ()
    """The keys of the calls that repeat; empty when it is merely the middle of a long stack."""


def fold(keys: Sequence[Hashable], *, head: int, tail: int) -> list[int | Omitted]:
    """The indices to show, in order, with what is left out between them.

    Args:
        keys: one per call, innermost first; calls with equal keys are the same call again.
        head: how many to keep from the innermost end when even the folded stack is too long.
        tail: how many to keep from the outermost end.
    """
    folded = _fold_repeats(keys)
    if len(folded) <= head + tail:
        return folded
    middle = folded[head : len(folded) - tail]
    count = sum(each.count if isinstance(each, Omitted) else 1 for each in middle)
    return [*folded[:head], Omitted(count), *folded[len(folded) - tail :]]


def marker(omitted: Omitted) -> Frame:
    """The frame that stands for calls left out; their keys are tuples that start with the function."""
    names = " <- ".join(str(key[0]) for key in omitted.group if isinstance(key, tuple))
    what = f"more calls of {names}" if names else "calls left out"
    return Frame(language="marker", function=f"{omitted.count} {what}")


def _fold_repeats(keys: Sequence[Hashable]) -> list[int | Omitted]:
    shown: list[int | Omitted] = []
    at = 0
    while at < len(keys):
        period, repeats = _repetition(keys, at)
        if repeats < _REPEATS_MIN:
            shown.append(at)
            at += 1
            continue
        end = at + period * repeats
        group = tuple(keys[at : at + period])
        shown += range(at, at + 2 * period)
        shown.append(Omitted(period * (repeats - 3), group))
        shown += range(end - period, end)
        at = end
    return shown


def _repetition(keys: Sequence[Hashable], at: int) -> tuple[int, int]:
    """Length and number of the group that repeats from ``at`` on: the shortest that repeats often enough."""
    for period in range(1, PERIOD_MAX + 1):
        repeats = 1
        while all(
            at + repeats * period + step < len(keys) and keys[at + repeats * period + step] == keys[at + step]
            for step in range(period)
        ):
            repeats += 1
        if repeats >= _REPEATS_MIN:
            return period, repeats
    return 1, 1
