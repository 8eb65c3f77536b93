"""Restart delays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.monitor.config import Backoff, Restart
from gimli.monitor.restart import delay_before, is_exhausted, is_wanted_again
from gimli.process import ExitStatus

backoffs = st.builds(
    lambda first_s, times: Backoff(first_s, first_s * times), st.floats(0.001, 60), st.floats(1, 1e6)
)


def test_the_first_restart_is_at_once_then_each_wait_is_twice_the_last():
    assert [delay_before(Backoff(0.1, 1.0), failures) for failures in range(1, 8)] == [
        0.0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0,
    ]  # fmt: skip


@given(backoffs, st.integers(2, 10**9))
def test_a_wait_never_shrinks_and_never_leaves_its_limits(backoff, failures):
    """Also after more failures than a float has exponents."""
    delay_s = delay_before(backoff, failures)
    assert backoff.first_s <= delay_s <= backoff.limit_s
    assert delay_s <= delay_before(backoff, failures + 1)


@pytest.mark.parametrize(
    ("attempts", "failures", "exhausted"), [(3, 2, False), (3, 3, True), (0, 10**9, False)]
)
def test_attempts_are_counted_and_zero_means_for_ever(attempts, failures, exhausted):
    assert is_exhausted(Backoff(attempts=attempts), failures) is exhausted


@pytest.mark.parametrize("signo", [4, 6, 7, 8, 9, 11, 31])
def test_the_originals_list_of_faults_restarts_on_fault(signo):
    assert is_wanted_again(Restart.ON_FAULT, ExitStatus(signo=signo), hung=False)


@pytest.mark.parametrize(
    "status", [ExitStatus(code=0), ExitStatus(code=1), ExitStatus(signo=15), ExitStatus(signo=1)]
)
def test_other_ends_do_not_restart_on_fault(status):
    assert not is_wanted_again(Restart.ON_FAULT, status, hung=False)
    assert is_wanted_again(Restart.ON_FAULT, status, hung=True)
    assert is_wanted_again(Restart.ALWAYS, status, hung=False)
    assert not is_wanted_again(Restart.NEVER, status, hung=True)
