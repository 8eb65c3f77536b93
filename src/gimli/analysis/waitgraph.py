"""Who waits for whom?

Pure. Threads that wait for what others hold are a graph; a cycle in it is a deadlock. An edge says where
its thread waits, for which lock, who holds it, and how sure that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Edge:
    """One thread waits for a lock that another holds."""

    waiter: int
    holder: int
    lock: str
    """As its program calls it: ``ledger``, ``self.index``."""
    waits_at: str
    """``orders.py:88``."""
    function: str
    confidence: float
    evidence: tuple[str, ...] = ()


def cycles(edges: Iterable[Edge]) -> list[tuple[Edge, ...]]:
    """Every cycle once, the surest first; each starts at its smallest tid.

    Of two ways from one thread to another only the surer is looked at, and a thread waits for one lock at a
    time: when several were possible (``with a, b:``), those that close a cycle are told.
    """
    by_waiter: dict[int, dict[int, Edge]] = {}
    for edge in edges:
        known = by_waiter.setdefault(edge.waiter, {}).get(edge.holder)
        if known is None or known.confidence < edge.confidence:
            by_waiter[edge.waiter][edge.holder] = edge
    found = []
    for start in sorted(by_waiter):
        found += _cycles_from(start, by_waiter)
    return sorted(found, key=lambda cycle: -confidence_of(cycle))


def confidence_of(cycle: Iterable[Edge]) -> float:
    """A chain is as sure as its weakest link."""
    return min(edge.confidence for edge in cycle)


def _cycles_from(start: int, by_waiter: dict[int, dict[int, Edge]]) -> list[tuple[Edge, ...]]:
    """Cycles whose smallest tid is ``start``, by a depth-first walk without recursion."""
    found = []
    seen: set[int] = set()
    pending: list[tuple[int, tuple[Edge, ...]]] = [(start, ())]
    while pending:
        at, path = pending.pop()
        for holder, edge in by_waiter.get(at, {}).items():
            if holder == start:
                found.append((*path, edge))
            elif holder > start and holder not in seen:
                seen.add(holder)
                pending.append((holder, (*path, edge)))
    return found
