"""What is enough for a failure? Minimal sets of causes and smaller networks, by trying. Pure.

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
Thing = TypeVar("Thing")


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


def without_needless(
    candidates: Iterable[Name], fails: Callable[[tuple[Name, ...]], bool]
) -> tuple[Name, ...]:
    """Candidates that fail together, and no longer do when any one of them is left out.

    Unlike :func:`minimal_sets` it asks about as often as there are candidates, and takes nothing for granted:
    a candidate that cures others is no trouble.

    Args:
        candidates: together they fail.
        fails: may be asked for the same again.
    """
    left = tuple(candidates)
    was_left: tuple[Name, ...] = ()
    while left != was_left:
        was_left = left
        for one in was_left:
            fewer = tuple(other for other in left if other is not one)
            if fails(fewer):
                left = fewer
    return left


def shrink(
    thing: Thing, reducers: Iterable[Callable[[Thing], Iterable[Thing]]], fails: Callable[[Thing], bool]
) -> Thing:
    """Something smaller that still fails, by steps that each still fail.

    Args:
        thing: it fails.
        reducers: each gives smaller things, the boldest first; one is through when none of its things fails.
        fails: whether one does.
    """
    for reduce in reducers:
        smaller: Thing | None = thing
        while smaller is not None:
            thing = smaller
            smaller = next(filter(fails, reduce(thing)), None)
    return thing
