"""Minimal sets of causes, against predicates of which they are known."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from gimli.lab.network.search import minimal_sets, shrink, without_needless

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


# One set that is enough, whatever the candidates do to each other.

PREDICATES = st.sets(st.frozensets(st.sampled_from(NAMES)), max_size=12)


@given(PREDICATES)
def test_without_any_one_of_what_is_left_it_no_longer_fails(failing):
    """For any predicate, also one in which a candidate cures others."""
    failing |= {frozenset(NAMES)}
    left = without_needless(NAMES, lambda kept: frozenset(kept) in failing)
    assert frozenset(left) in failing
    assert not any(frozenset(left) - {one} in failing for one in left)
    assert list(left) == sorted(left), "an order is kept"


@given(st.sets(st.frozensets(st.sampled_from(NAMES)), min_size=1, max_size=4))
def test_where_more_never_cures_it_is_one_of_the_minimal_sets(ways):
    def fails(kept):
        return any(way <= frozenset(kept) for way in ways)

    assert frozenset(without_needless(NAMES, fails)) in minimal_sets(NAMES, fails)


def test_it_is_asked_about_as_often_as_there_are_candidates():
    asked = []

    def fails(kept):
        asked.append(kept)
        return {"b", "d"} <= set(kept)

    assert without_needless(NAMES, fails) == ("b", "d")
    assert len(asked) <= len(NAMES) + 2


# Smaller things.


def halves(number):
    """By half of it, by a quarter, and so on to one less."""
    less = (number + 1) // 2
    while less:
        yield number - less
        less //= 2


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_a_number_is_shrunk_to_the_least_that_fails(number, least):
    """By halves first: in about as many steps as it has digits, not one by one."""
    asked = []

    def fails(tried):
        asked.append(tried)
        return tried >= least

    number += least
    assert shrink(number, [halves], fails) == least
    assert len(asked) < 120


@given(st.tuples(*[st.integers(0, 40)] * 2), st.sets(st.tuples(*[st.integers(0, 40)] * 2)))
def test_whatever_is_shrunk_still_fails(pair, failing):
    """For any predicate: what came last was tried, or is what was there at first."""

    def fails(tried):
        return tried in failing

    left = shrink(
        pair,
        [
            lambda both: [(less, both[1]) for less in halves(both[0])],
            lambda both: [(both[0], less) for less in halves(both[1])],
        ],
        fails,
    )
    assert left == pair or left in failing
    assert not any((left[0], less) in failing for less in halves(left[1])), "the last reducer is through"
