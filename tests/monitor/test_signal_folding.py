"""Many signals, few lines, none lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gimli.monitor.signal_folding import WINDOW_NS, Folding

MS = 1_000_000
LOGROTATE = {"pid": 4119, "comm": "logrotate", "parent": None}


def shell(pid: int, parent: dict | None = LOGROTATE) -> dict:
    return {"pid": pid, "uid": 0, "comm": "sh", "cmdline": [], "parent": parent}


def test_the_first_is_told_at_once_and_the_second_counted():
    """The incident: two shells of one logrotate, 3 ms apart."""
    folding = Folding()
    (first,) = folding.add("SIGHUP", shell(4121), 5)
    assert first.is_first
    assert folding.due_ns is None
    assert folding.add("SIGHUP", shell(4123), 5 + 3 * MS) == []
    assert folding.due_ns == 5 + WINDOW_NS
    (second,) = folding.expire(folding.due_ns)
    assert not second.is_first
    assert (second.repeats, second.first_ns, second.last_ns) == (1, 5, 5 + 3 * MS)
    assert second.sender["pid"] == 4123
    assert folding.due_ns is None


def test_a_lone_signal_wakes_nobody_a_second_later():
    folding = Folding()
    folding.add("SIGHUP", shell(1), 0)
    assert folding.due_ns is None
    assert folding.flush() == []


def test_another_signal_or_another_parent_is_another_kind():
    folding = Folding()
    folding.add("SIGHUP", shell(1), 0)
    assert folding.add("SIGTERM", shell(1), 1)[0].is_first
    assert folding.add("SIGHUP", shell(2, {"pid": 7, "comm": "cron", "parent": None}), 2)[0].is_first


def test_two_senders_in_turn_do_not_end_each_others_rows():
    folding = Folding()
    others = {"pid": 9, "uid": 0, "comm": "cron", "parent": None}
    lines = [line for at in range(100) for line in folding.add("SIGHUP", (shell(1), others)[at % 2], at)]
    assert len(lines) == 2
    assert [line.repeats for line in folding.flush()] == [49, 49]


def test_after_its_second_a_row_begins_anew():
    folding = Folding()
    folding.add("SIGHUP", shell(1), 0)
    folding.add("SIGHUP", shell(1), 1)
    counted, first = folding.add("SIGHUP", shell(1), WINDOW_NS)
    assert counted.repeats == 1
    assert first.is_first


@given(
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["SIGHUP", "SIGTERM"]), st.integers(0, 400 * MS)))
)
def test_every_signal_is_told_exactly_once(sent):
    """Whoever adds up the lines has the number of signals: 1 for a first one, else its repeats."""
    folding = Folding()
    now_ns, lines = 0, []
    for parent, signal, pause_ns in sent:
        now_ns += pause_ns
        lines += folding.add(signal, shell(5, {"pid": parent, "comm": "x", "parent": None}), now_ns)
    lines += folding.flush()
    assert sum(line.repeats for line in lines) == len(sent)


@given(st.integers(1, 10_000))
def test_ten_thousand_in_ten_seconds_are_two_lines_a_second(count):
    folding = Folding()
    lines = [
        line for at in range(count) for line in folding.add("SIGHUP", shell(at), at * 10 * WINDOW_NS // count)
    ]
    lines += folding.flush()
    assert sum(line.repeats for line in lines) == count
    assert len(lines) <= 20
