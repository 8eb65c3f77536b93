"""Durations and time stamps."""

from __future__ import annotations

import time
from datetime import datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gimli.clock import format_duration, parse_duration, rfc3339
from gimli.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30.0),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("1d", 86400.0),
        ("1m30s", 90.0),
        ("1h1m1s1ms", 3661.001),
        ("0.5s", 0.5),
        (" 5s ", 5.0),
        ("3650d", 3650 * 86400.0),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text, "--watchdog") == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "5", "s", "5 s", "1m 30s", "-5s", "+5s", "1e3s", ".5s", "5.s", "5S", "5min", "5s5", "1,5s"],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match=r"is not a duration \(--watchdog\)") as caught:
        parse_duration(text, "--watchdog")
    assert "1m30s" in caught.value.fix


@pytest.mark.parametrize("text", ["0s", "0.0ms", "0h0m", "3651d", "9" * 500 + "d"])
def test_impossible_durations_are_refused(text):
    with pytest.raises(UsageError, match="not a possible duration"):
        parse_duration(text, "--watchdog")


@given(st.text(max_size=30))
def test_any_text_is_a_duration_or_a_usage_error(text):
    try:
        assert parse_duration(text, "") > 0
    except UsageError:
        return


@given(
    st.lists(st.tuples(st.integers(1, 59), st.sampled_from(["ms", "s", "m", "h"])), min_size=1, max_size=4)
)
def test_the_parts_add_up(parts):
    unit_s = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert parse_duration(text, "") == pytest.approx(sum(number * unit_s[unit] for number, unit in parts))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.0000412, "0.0412 ms"),
        (0.041, "41 ms"),
        (0.0999, "99.9 ms"),
        (0.1, "0.1 s"),
        (0.4, "0.4 s"),
        (59.94, "59.9 s"),
        (60.0, "1 min"),
        (61.0, "1 min 1 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h"),
        (11520.0, "3 h 12 min"),
        (172_799.6, "2 days"),
        (5 * 86400.0, "5 days"),
        (-41.0, "-41.0 s"),
    ],
)
def test_durations_for_people(seconds, text):
    assert format_duration(seconds) == text


@given(st.floats(0, 1e9))
def test_a_formatted_duration_has_two_units_at_most_and_is_nearly_the_number(seconds):
    text = format_duration(seconds)
    words = text.split()
    assert len(words) in {2, 4}
    unit_s = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "days": 86400}
    read_s = sum(float(words[i]) * unit_s[words[i + 1]] for i in range(0, len(words), 2))
    # Two units: never off by more than the smaller one, and only days drop a remainder.
    off_s_max = max(0.05, seconds * 0.01 if seconds < 172_799 else 86_400)
    assert abs(read_s - seconds) <= off_s_max + 1e-9  # 0.8 - 0.75 is a little more than 0.05


@pytest.fixture
def in_zone(monkeypatch):
    def change(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield change
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("zone", "wall_s", "text"),
    [
        ("UTC", 0.0, "1970-01-01T00:00:00.000000+00:00"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", 1_795_316_407.412345, "2026-11-22T04:00:07.412345+01:00"),
        ("XXX3:30", 1_700_000_000.5, "2023-11-14T18:43:20.500000-03:30"),
        ("XXX-5:45", 1_700_000_000.5, "2023-11-15T03:58:20.500000+05:45"),
        # The fraction rounds up into the next second, minute, hour, day and year.
        ("UTC", 1_798_761_599.9999996, "2027-01-01T00:00:00.000000+00:00"),
    ],
)
def test_time_stamps(in_zone, zone, wall_s, text):
    in_zone(zone)
    assert rfc3339(wall_s) == text


@given(st.floats(0, 4e9))
def test_a_time_stamp_is_read_back_to_the_microsecond(wall_s):
    assume(wall_s < 4e9)
    assert abs(datetime.fromisoformat(rfc3339(wall_s)).timestamp() - wall_s) < 1e-6
