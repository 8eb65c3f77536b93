"""The rules of the chaos themselves: each breach is seen, and what is right is not called one."""

from __future__ import annotations

import os

import pytest

from tests.chaos.tail import Tail
from tests.chaos.timeline import Timeline
from tests.chaos.witness import Account


def lines(*numbers: int, instance: str = "7.70") -> bytes:
    return b"".join(f"web {instance} {number} {number * 10} xxx\n".encode() for number in numbers)


@pytest.mark.parametrize(
    ("data", "written", "faults"),
    [
        (lines(1, 2, 3), 3, []),
        (lines(1, 2, 3), 2, []),  # killed between its line and its count
        (lines(1, 2, 5), 5, ["lines 3 to 4 are missing"]),
        (lines(2, 3), 3, ["lines 1 to 1 are missing"]),
        (lines(1, 2, 2, 3), 3, ["line 2 came again after 2"]),
        (lines(1, 2), 4, ["the last lines, 3 to 4, are missing"]),
        (b"", 1, ["the last lines, 1 to 1, are missing"]),
        (lines(1) + b"web 7.70 2 2", 1, []),  # the rest of a line that is still to come
        (lines(1) + b"half a li\n" + lines(2), 2, ["a damaged line: 'half a li\\n'"]),
    ],
)
def test_the_account_of_the_lines(data, written, faults):
    account = Account()
    for start in range(0, len(data), 5):
        account.feed(data[start : start + 5])
    assert [fault.what for fault in account.close({"7.70": written})] == faults


def test_two_instances_do_not_disturb_each_other():
    account = Account()
    account.feed(lines(1, 2) + lines(1, instance="8.80") + lines(3) + lines(2, instance="8.80"))
    assert account.close({"7.70": 3, "8.80": 2}) == []


def entry(event: str, service: str | None = "web", **details: object) -> dict[str, object]:
    return {"schema": 1, "time": "2026-01-01T00:00:00", "service": service, "event": event, **details}


BEGIN = entry("monitor-started", None, pid=1, after_loss_of=None)
LOSS = entry("monitor-started", None, pid=2, after_loss_of=1)
END = entry("monitor-ended", None, pid=1)
SHOT = (entry("snapshot", report="R", pid=5), entry("exited", pid=5, code=None, signo=11))


@pytest.mark.parametrize(
    ("entries", "breaches"),
    [
        ([BEGIN, entry("started", pid=5), entry("exited", pid=5, code=0), entry("started", pid=6)], 0),
        ([BEGIN, entry("started", pid=5), entry("started", pid=6)], 1),
        ([BEGIN, entry("started", pid=5), END], 1),
        ([BEGIN, entry("started", pid=5), BEGIN], 1),
        (
            [
                BEGIN,
                entry("started", pid=5),
                LOSS,
                entry("adopted", pid=5),
                entry("exited", pid=5, code=0),
                END,
            ],
            0,
        ),
        ([BEGIN, entry("started", pid=5), LOSS, entry("ended-unseen", pid=5), END], 0),
        ([BEGIN, entry("started", pid=5), LOSS, entry("started", pid=6)], 1),
        ([BEGIN, entry("started", pid=5), LOSS, entry("adopted", pid=5), entry("adopted", pid=6)], 1),
        ([BEGIN, entry("started", pid=5), entry("exited", pid=6, code=0)], 1),
        ([BEGIN, entry("started", pid=5), entry("internal-error", None, traceback="x")], 1),
        ([BEGIN, entry("started", pid=5), entry("exited", pid=5, code=None, signo=None)], 1),
        ([BEGIN, entry("started", pid=5), entry("crash", pid=5), *SHOT, END], 1),
        ([BEGIN, entry("crash", pid=5), *SHOT, entry("report", report="R"), END], 0),
        ([BEGIN, entry("hang"), *SHOT, entry("snapshot-failed", report="R"), END], 0),
        ([BEGIN, entry("started", pid=5), entry("hang"), entry("exited", pid=5, code=1)], 1),
        ([BEGIN, entry("takeover-failed", None, why="x")], 1),
        ([BEGIN, entry("started", pid=5), entry("started", pid=6, lost_before=2)], 0),
    ],
)
def test_the_timeline(entries, breaches):
    timeline = Timeline()
    for each in entries:
        timeline.feed(each)
    assert len(timeline.breaches) == breaches


def test_a_tail_reads_over_a_rotation_and_knows_when_it_has_missed_one(tmp_path):
    path = str(tmp_path / "log")

    def write(text: str) -> None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)

    tail = Tail(path)
    assert tail.poll() == b""
    write("a\n")
    assert tail.poll() == b"a\n"
    write("b\n")
    os.replace(path, path + ".1")
    write("c\n")
    assert (tail.poll(), tail.is_blind) == (b"b\nc\n", False)
    os.replace(path, path + ".1")
    write("d\n")
    os.replace(path, path + ".1")
    write("e\n")
    assert (tail.poll(), tail.is_blind) == (b"e\n", True)
    tail.close()
