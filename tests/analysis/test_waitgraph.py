"""Cycles of waiting."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gimli.analysis.waitgraph import Edge, cycles


def edge(waiter: int, holder: int, confidence: float = 0.9) -> Edge:
    return Edge(waiter, holder, f"lock{holder}", "a.c:1", "f", confidence)


def walks(found) -> list[list[int]]:
    return [[each.waiter for each in cycle] for cycle in found]


def test_two_threads_that_wait_for_each_other_are_a_cycle():
    assert walks(cycles([edge(1, 2), edge(2, 1)])) == [[1, 2]]


def test_a_chain_is_no_cycle():
    assert cycles([edge(1, 2), edge(2, 3), edge(4, 2)]) == []


def test_a_thread_that_waits_for_itself_is_a_cycle_of_one():
    assert walks(cycles([edge(5, 5)])) == [[5]]


def test_the_surest_cycle_is_first_and_a_chain_is_as_sure_as_its_weakest_link():
    found = cycles([edge(1, 2), edge(2, 1, 0.5), edge(3, 4, 0.8), edge(4, 3)])
    assert walks(found) == [[3, 4], [1, 2]]


@given(st.lists(st.builds(edge, st.integers(1, 6), st.integers(1, 6), st.floats(0, 1)), max_size=20))
def test_every_cycle_closes_and_names_each_thread_once(edges):
    for cycle in cycles(edges):
        assert [each.holder for each in cycle] == [each.waiter for each in cycle[1:] + cycle[:1]]
        assert len({each.waiter for each in cycle}) == len(cycle)
        assert set(cycle) <= set(edges)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), max_size=12))
def test_a_graph_with_a_cycle_is_not_called_free(pairs):
    """Against the plain definition: some thread can reach itself."""
    reach = set(pairs)
    for _ in range(6):
        reach |= {(a, d) for a, b in reach for c, d in reach if b == c}
    assert bool(cycles(edge(a, b) for a, b in pairs)) == any(a == b for a, b in reach)
