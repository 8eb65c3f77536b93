"""Minimal sets of causes, against predicates of which they are known."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from gimli.lab.network.search import minimal_sets

NAMES = "abcde"


def test_three_that_must_come_together_are_one_set():
    found = minimal_sets(NAMES, lambda kept: {"a", "b", "d"} <= kept)
    assert found == (frozenset("abd"),)


def test_two_ways_to_fail_are_two_sets():
    found = minimal_sets(NAMES, lambda kept: "a" in kept and bool(kept & {"c", "d"}))
    assert found == (frozenset("ac"), frozenset("ad"))


def test_what_never_fails_has_no_set():
    assert minimal_sets(NAMES, lambda kept: False) == ()


def test_what_always_fails_needs_nothing():
    assert minimal_sets(NAMES, lambda kept: True) == (frozenset(),)


def test_no_set_is_tried_twice():
    """Each costs several runs."""
    tried = []

    def fails(kept):
        tried.append(kept)
        return {"a", "b", "d"} <= kept

    minimal_sets(NAMES, fails)
    assert len(tried) == len(set(tried)) == 1 + len(NAMES) + 1


@given(st.sets(st.frozensets(st.sampled_from(NAMES)), min_size=1, max_size=4))
def test_every_smallest_set_is_found_and_no_other(ways):
    """Whatever fails when one of these is complete."""
    smallest = {way for way in ways if not any(other < way for other in ways)}
    assert set(minimal_sets(NAMES, lambda kept: any(way <= kept for way in ways))) == smallest


def test_an_order_is_kept():
    found = minimal_sets(NAMES, lambda kept: len(kept) >= 2)
    assert found == tuple(frozenset(pair) for pair in combinations(NAMES, 2))
