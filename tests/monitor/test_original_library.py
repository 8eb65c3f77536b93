"""The original library's handler, told from everything else that blocks signals and stops."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.monitor.original_library import tells_fault
from gimli.process import Signals

FIVE = {Signals.SIGSEGV, Signals.SIGABRT, Signals.SIGBUS, Signals.SIGILL, Signals.SIGFPE}
EVERY = set(Signals)


def status(blocked: set[int], handled: set[int]) -> bytes:
    """The lines of /proc/PID/task/TID/status that count, among others."""
    masks = (sum(1 << (signo - 1) for signo in signals) for signals in (blocked, set(), handled))
    lines = (
        f"{name}:\t{mask:016x}" for name, mask in zip(("SigBlk", "SigIgn", "SigCgt"), masks, strict=True)
    )
    return ("Name:\tSigBlk:\nSigQ:\t0/15\n" + "\n".join(lines) + "\nCapInh:\t0\n").encode()


@pytest.mark.parametrize("signo", sorted(FIVE))
def test_in_the_handler_one_of_the_five_is_blocked_and_given_back(signo):
    assert tells_fault(status({signo}, FIVE - {signo}))
    assert tells_fault(status({signo, Signals.SIGUSR1}, EVERY - {signo}))


@pytest.mark.parametrize(
    ("blocked", "handled"),
    [
        (set(), set()),
        (set(), FIVE),
        (EVERY, FIVE),  # a worker thread that leaves signals to the others
        (EVERY, set()),  # the same of a program without the library
        (EVERY - {Signals.SIGSEGV}, FIVE),
        ({Signals.SIGABRT}, set()),
        ({Signals.SIGUSR1}, FIVE - {Signals.SIGFPE}),
    ],
)
def test_any_other_stop_does_not_ask(blocked, handled):
    assert not tells_fault(status(blocked, handled))


@given(st.binary(max_size=80) | st.sampled_from([b"\nSigBlk:", b"\nSigBlk:\tx\nSigCgt:\t-\n"]))
def test_any_text_is_answered(text):
    assert not tells_fault(text)
