"""The wishes for a takeover, with steps that a test carries out by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from gimli.monitor.takeover import Takeover

if TYPE_CHECKING:
    from collections.abc import Callable


class Hands:
    """The steps, waiting to be carried out; ``execute`` fails with ``refusal`` or ends this image."""

    def __init__(self) -> None:
        self.waiting: Callable[[str], None] | None = None
        self.executed: list[bool] = []
        self.failures: list[str] = []
        self.refusal = ""
        self.rereads = 0

    def reread(self, done: Callable[[dict[str, Any] | None, str], None]) -> None:
        """Waits."""
        self.rereads += 1
        self.waiting = lambda wrong: done(None if wrong else {"a": 1}, wrong)

    def verify(self, configuration: dict[str, Any] | None, done: Callable[[str], None]) -> None:
        """Waits."""
        assert configuration == {"a": 1}
        self.waiting = done

    def execute(self, configuration: dict[str, Any] | None, *, wished_again: bool) -> str:
        """Fails, or would not return."""
        self.executed.append(wished_again)
        return self.refusal

    def failed(self, why: str) -> None:
        """Noted."""
        self.failures.append(why)

    def go_on(self, wrong: str = "") -> None:
        """The step under way has ended."""
        done, self.waiting = self.waiting, None
        assert done
        done(wrong)


def test_one_wish_reads_verifies_and_executes():
    hands = Hands()
    Takeover(hands).wish()
    hands.go_on()
    hands.go_on()
    assert (hands.executed, hands.failures) == ([False], [])


def test_wishes_in_a_row_are_one_and_one_more():
    """The configuration may have changed after it was read; how many HUPs said so does not matter."""
    hands = Hands()
    takeover = Takeover(hands)
    for _ in range(100):
        takeover.wish()
    hands.go_on()
    takeover.wish()
    hands.go_on()
    assert hands.rereads == 1
    assert hands.executed == [True]


def test_what_is_refused_leaves_the_old_image_and_says_why():
    hands = Hands()
    takeover = Takeover(hands)
    takeover.wish()
    hands.go_on("line 3: unknown key")
    assert (hands.executed, hands.failures, takeover.failure) == (
        [],
        ["line 3: unknown key"] * 1,
        hands.failures[0],
    )
    takeover.wish()
    assert takeover.failure == ""
    hands.go_on()
    hands.go_on("it does not understand the state")
    assert hands.executed == []
    assert len(hands.failures) == 2


def test_an_exec_that_fails_leaves_the_old_image():
    hands = Hands()
    hands.refusal = "out of memory"
    Takeover(hands).wish()
    hands.go_on()
    hands.go_on()
    assert hands.failures == ["out of memory"]


def test_a_wish_during_one_that_fails_is_tried():
    hands = Hands()
    takeover = Takeover(hands)
    takeover.wish()
    takeover.wish()
    hands.go_on("broken")
    assert hands.rereads == 2
    hands.go_on("still broken")
    assert hands.waiting is None


def test_a_monitor_that_ends_does_not_take_over():
    """TERM in the middle of a takeover ends the monitor, and nothing begins anew."""
    hands = Hands()
    takeover = Takeover(hands)
    takeover.wish()
    hands.go_on()
    takeover.cancel()
    hands.go_on()
    takeover.wish()
    assert (hands.executed, hands.waiting) == ([], None)


@given(st.lists(st.sampled_from(["wish", "go on", "refuse"])))
def test_there_is_one_at_a_time_and_none_is_forgotten(moves):
    hands = Hands()
    hands.refusal = "exec fails here, so that the test goes on"
    takeover = Takeover(hands)
    for move in moves:
        if move == "wish":
            takeover.wish()
            assert hands.waiting, "a wish that nobody works on"
        elif hands.waiting:
            hands.go_on("no" if move == "refuse" else "")
