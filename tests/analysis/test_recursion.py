"""A deep stack, folded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gimli.analysis.recursion import Omitted, fold


def test_a_call_that_repeats_is_shown_twice_counted_and_shown_once_more():
    assert fold(["leaf", *["walk"] * 100, "main"], head=50, tail=10) == [
        0, 1, 2, Omitted(97, ("walk",)), 100, 101,
    ]  # fmt: skip


def test_functions_that_call_each_other_are_one_group():
    shown = fold(["even", "odd"] * 50, head=50, tail=10)
    assert shown == [0, 1, 2, 3, Omitted(94, ("even", "odd")), 98, 99]


def test_of_a_long_stack_without_repetition_the_middle_is_left_out():
    assert fold(range(10), head=3, tail=2) == [0, 1, 2, Omitted(5), 8, 9]


@given(st.lists(st.sampled_from("abc"), max_size=60), st.integers(1, 20), st.integers(1, 5))
def test_every_call_is_shown_once_or_counted_once(keys, head, tail):
    shown = fold(keys, head=head, tail=tail)
    indices = [each for each in shown if isinstance(each, int)]
    omitted = sum(each.count for each in shown if isinstance(each, Omitted))
    assert indices == sorted(set(indices))
    assert len(indices) + omitted == len(keys)
    assert len(shown) <= head + tail + 1
