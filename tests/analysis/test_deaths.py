"""Who ended a program that left no core."""

from __future__ import annotations

from typing import Any

import pytest

from gimli.analysis.deaths import explain_death
from gimli.report import Report, Signal

SHELL = {
    "pid": 4121,
    "uid": 0,
    "comm": "sh",
    "cmdline": ["sh", "-c", "kill -9 7"],
    "parent": {"pid": 633, "comm": "cron", "parent": None},
}


def died(sender: Any, *, number: int = 9, name: str = "SIGKILL", **process: Any) -> Report:
    signal = Signal(name, number, sender=sender)
    return Report("1", "web", "crash", "", 7, (), signal=signal, process=process)


def test_it_names_the_shell_and_who_started_it():
    (cause,) = explain_death(died(SHELL))
    assert cause.finding.text == "Killed by SIGKILL, sent by sh (pid 4121) of cron (pid 633)."
    assert cause.finding.evidence == ("the sender's command: sh -c 'kill -9 7'",)


def test_killings_by_the_same_hand_share_a_signature():
    """Pids change from night to night; cron's shell stays cron's shell."""
    (one,) = explain_death(died(SHELL))
    (other,) = explain_death(died(SHELL | {"pid": 9, "parent": SHELL["parent"] | {"pid": 8}}))
    (by_hand,) = explain_death(died(SHELL | {"parent": {"pid": 5, "comm": "bash"}}))
    assert one.key == other.key
    assert one.key != by_hand.key


@pytest.mark.parametrize(
    ("sender", "kind", "text"),
    [
        (None, "killed", "Killed by SIGKILL; by whom is not known."),
        (SHELL | {"pid": 7}, "killed", "It sent itself SIGKILL."),
        ({"pid": 0, "comm": "kernel"}, "killed", "sent by the kernel itself: a limit was reached"),
        ({"pid": 0, "oom": True}, "out-of-memory", "OOM killer: the memory of its cgroup, or of the machine"),
    ],
)
def test_the_kernel_itself_and_nobody_known_are_told_apart(sender, kind, text):
    (cause,) = explain_death(died(sender))
    assert cause.finding.kind == kind
    assert text in cause.finding.text


def test_what_an_oom_victim_held_is_told():
    (cause,) = explain_death(died({"pid": 0, "oom": True}, service={"oom": {"anon_rss_bytes": 52_000_000}}))
    assert cause.finding.text.endswith("It held 52 MB.")


def test_a_fault_without_a_sender_is_not_explained_here():
    assert explain_death(died(None, number=11, name="SIGSEGV")) == []


@pytest.mark.parametrize(
    "hostile", [{"parent": 3}, {"cmdline": 5}, {"comm": ["x"], "parent": []}, {"pid": "x"}]
)
def test_a_sender_from_a_damaged_file_is_still_one(hostile):
    (cause,) = explain_death(died(SHELL | hostile))
    assert cause.finding.kind == "killed"
