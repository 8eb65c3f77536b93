"""Signals as a person reads them: who, who started whom, how many, how far apart."""

from __future__ import annotations

from typing import Any

import pytest

from gimli.cli.story import signal_in_words, time_line, with_repeats

CRON = {"pid": 633, "comm": "cron", "parent": None}
LOGROTATE = {"pid": 4119, "comm": "logrotate", "parent": CRON}
SHELL = {"pid": 4121, "uid": 0, "comm": "sh", "cmdline": [], "parent": LOGROTATE}
TIME = "2026-11-22T04:00:01.123000+01:00"


def hup(**more: Any) -> dict[str, Any]:
    told = {"time": TIME, "monotonic_ns": 7, "service": None, "event": "signal", "signal": "SIGHUP"}
    return told | {"sender": SHELL, "first_ns": 5} | more


def test_two_hups_of_one_logrotate_are_one_line():
    """The incident, as its log should have told it."""
    (line,) = time_line([hup(), hup(repeats=1, within_ms=3.0)])
    assert line.plain == "04:00:01.123 HUP from sh(4121) < logrotate(4119) < cron(633)   x2 within 3 ms"


def test_repeats_of_another_row_are_not_added_to_this_one():
    events = [
        hup(),
        {"event": "started", "time": TIME},
        hup(first_ns=9),
        hup(repeats=3, within_ms=1.0, first_ns=9),
    ]
    first, _, second = with_repeats(events)
    assert "repeats" not in first
    assert second["repeats"] == 4


def test_repeats_whose_first_line_is_not_there_any_more_are_shown_as_they_are():
    (line,) = with_repeats([hup(repeats=98, within_ms=12.0)])
    assert signal_in_words(line).endswith("   x98 within 12 ms")


@pytest.mark.parametrize(
    "odd", [{"repeats": "many"}, {"first_ns": "x"}, {"repeats": None}, {"first_ns": None}]
)
def test_a_line_of_another_version_is_shown_by_itself(odd):
    assert len(with_repeats([hup(), hup(**odd), hup(**odd)])) >= 1
    assert time_line([hup(), hup(**odd)])


def test_a_killed_service_is_told_with_its_killer_first():
    exited = {"time": TIME, "event": "exited", "pid": 7, "status": "SIGKILL", "code": None, "signo": 9}
    (line,) = time_line([exited | {"sender": SHELL}])
    assert line.plain == "04:00:01.123 exited by SIGKILL from sh(4121) < logrotate(4119) < cron(633)   pid 7"
