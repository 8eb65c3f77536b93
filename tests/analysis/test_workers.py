"""Readers in processes of their own: one's crash costs neither its own first values nor the other's."""

from __future__ import annotations

import os
import signal
import time

import pytest

from gimli.analysis.workers import Outcome, run_steps

pytestmark = pytest.mark.real


def crashes():
    yield "before"
    os.kill(os.getpid(), signal.SIGSYS)  # not SIGSEGV: pytest has a handler for it
    yield "never"


def raises():
    yield 1
    raise LookupError("no such thread")


def hangs():
    yield "first"
    time.sleep(60)


def test_all_values_of_all_steps_arrive():
    outcomes = run_steps({"a": lambda: range(3), "b": lambda: ["x" * 3_000_000]}, limit_s=20)
    assert outcomes["a"] == Outcome((0, 1, 2), None)
    assert outcomes["b"] == Outcome(("x" * 3_000_000,), None)


def test_a_crash_keeps_what_came_before_it():
    outcomes = run_steps({"bad": crashes, "good": lambda: ["fine"]}, limit_s=20)
    assert outcomes["bad"] == Outcome(("before",), "it was ended by SIGSYS")
    assert outcomes["good"] == Outcome(("fine",), None)


def test_an_exception_is_the_reason():
    assert run_steps({"x": raises}, limit_s=20)["x"] == Outcome((1,), "LookupError: no such thread")


@pytest.mark.slow
def test_a_step_that_does_not_end_is_killed_and_keeps_its_values():
    outcome = run_steps({"x": hangs}, limit_s=0.3)["x"]
    assert outcome.values == ("first",)
    assert outcome.failure is not None
    assert "longer than" in outcome.failure
