"""Resource limits as they are written."""

from __future__ import annotations

import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.errors import UsageError
from gimli.monitor.config import Limit
from gimli.monitor.limits import NAMES, parse_assignment, parse_limit


@pytest.mark.parametrize(
    ("name", "written", "limit"),
    [
        ("nofile", 1000, Limit("nofile", 1000, 1000)),
        ("nofile", "1000", Limit("nofile", 1000, 1000)),
        ("nofile", [100, 200], Limit("nofile", 100, 200)),
        ("core", "unlimited", Limit("core", -1, -1)),
        ("core", [0, "infinity"], Limit("core", 0, -1)),
        ("memory", "1GB", Limit("as", 10**9, 10**9)),
        ("stack", "8 MB", Limit("stack", 8_000_000, 8_000_000)),
        ("ofile", 10, Limit("nofile", 10, 10)),
    ],
)
def test_a_limit(name, written, limit):
    assert parse_limit(name, written) == limit


@pytest.mark.parametrize(
    ("name", "written", "expected"),
    [
        ("nofiles", 1, "nofiles is no limit"),
        ("nofile", "1GB", "nofile: expected a number"),
        ("nofile", True, "nofile: expected a number"),
        ("nofile", -1, "nofile: expected a number"),
        ("nofile", 2**64, "nofile: expected a number"),
        ("nofile", "", "nofile: expected a number"),
        ("nofile", [1], "expected one value, or two"),
        ("nofile", [2, 1], "the soft limit is above the hard one"),
        ("core", ["unlimited", 1], "the soft limit is above the hard one"),
        ("memory", {"soft": 1}, "as: expected a number"),
    ],
)
def test_a_wrong_limit_is_told(name, written, expected):
    with pytest.raises(UsageError, match=expected):
        parse_limit(name, written)


def test_a_limit_as_an_option():
    assert parse_assignment("nofile=10:20") == Limit("nofile", 10, 20)
    assert parse_assignment("memory=1MB") == Limit("as", 10**6, 10**6)
    for wrong in ("nofile", "nofile=", "=1", "nofile=1:2:3"):
        with pytest.raises(UsageError):
            parse_assignment(wrong)


def test_every_name_is_one_of_this_kernel():
    assert {f"RLIMIT_{name.upper()}" for name in NAMES} <= set(dir(resource))


@given(st.sampled_from(NAMES), st.text(max_size=8) | st.integers() | st.lists(st.text(max_size=3)))
def test_any_value_is_a_limit_or_an_error(name, written):
    try:
        limit = parse_limit(name, written)
    except UsageError:
        return
    assert -1 <= limit.soft < 2**63
