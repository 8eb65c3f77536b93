"""The snapshots of one service: one process at a time, and no wish is forgotten."""

from __future__ import annotations

from typing import Any

from gimli.monitor.snapshots import Snapshots


class Hands:
    """Takes snapshots when a test says so."""

    def __init__(self) -> None:
        self.under_way: list[str] = []
        self.refused: list[str] = []
        self.released: list[int] = []
        self.snapshots = Snapshots(self, self.released.append, lambda: None)

    def capture(self, request: dict[str, Any], _: Snapshots) -> None:
        """Begins."""
        self.under_way.append(request["id"])

    def refuse(self, request: dict[str, Any], why: str) -> None:
        """Never begins."""
        self.refused.append(request["id"])

    def wish(self, name: str, pid: int) -> None:
        """For a snapshot."""
        self.snapshots.take({"id": name, "pid": pid})


def test_a_second_wish_for_the_same_process_waits():
    hands = Hands()
    hands.wish("request", 7)
    hands.wish("crash", 7)
    assert hands.under_way == ["request"]
    hands.snapshots.released(7)
    assert (hands.under_way, hands.released) == (["request", "crash"], [])
    hands.snapshots.released(7)
    assert hands.released == [7]


def test_each_of_several_deaths_has_its_report():
    """They have no pid any more: a program in a crash loop dies again while its last report is made."""
    hands = Hands()
    for name in ("first", "second", "third"):
        hands.wish(name, 0)
    hands.snapshots.released(0)
    hands.snapshots.released(0)
    assert hands.under_way == ["first", "second", "third"]


def test_those_that_wait_survive_a_takeover():
    hands, next_image = Hands(), Hands()
    for name in ("first", "second", "third"):
        hands.wish(name, 0)
    next_image.snapshots.restore(hands.snapshots.pack())
    next_image.snapshots.released(0)
    next_image.snapshots.released(0)
    assert next_image.under_way == ["second", "third"]


def test_too_many_are_refused_and_not_forgotten():
    hands = Hands()
    for number in range(30):
        hands.wish(str(number), 0)
    assert hands.refused == [str(number) for number in range(21, 30)]
