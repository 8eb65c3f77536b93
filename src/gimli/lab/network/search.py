"""Which of the candidates must come together? Minimal sets of causes, by trying. Pure.

    fails(set): whether it still fails when only these are there

It is taken for granted that more causes never cure: then every set that fails has all the candidates without
which nothing fails, and the search begins with those.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Name = TypeVar("Name")


def minimal_sets(
    candidates: Iterable[Name], fails: Callable[[frozenset[Name]], bool]
) -> tuple[frozenset[Name], ...]:
    """Every smallest set of candidates that fails by itself; none when all of them together do not.

    Args:
        candidates: in the order in which sets are tried.
        fails: asked for each set once.
    """
    every = list(candidates)
    whole = frozenset(every)
    if not fails(whole):
        return ()
    needed = frozenset(one for one in every if not fails(whole - {one}))
    others = [one for one in every if one not in needed]
    found: list[frozenset[Name]] = []
    for size in range(len(others) + 1):
        for more in combinations(others, size):
            tried = needed | set(more)
            if any(smaller <= tried for smaller in found):
                continue
            # The whole was tried, and what is one short of it as well.
            if tried == whole or len(tried) == len(whole) - 1 or fails(tried):
                found.append(tried)
    return tuple(found)
