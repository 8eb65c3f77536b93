"""Requests, malformed ones too."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.capture.request import parse_request
from gimli.errors import UsageError

GOOD = {"id": "01ARYZ6S41", "state_dir": "/var/lib/gimli", "pid": 7}
CRASH = {"signo": 11, "code": 1, "address": 0, "pid": 7, "tid": 7, "time_ns": 1, "ucontext": 8, "siginfo": 9}


def test_a_request_is_read_with_its_defaults():
    request = parse_request(json.dumps(GOOD | {"crash": CRASH}))
    assert (request.pid, request.crash.signo, request.cap_bytes) == (7, 11, 8 << 20)
    assert request.document["state_dir"] == "/var/lib/gimli"


BAD_CHANGES = (
    {"id": "../../etc"},
    {"id": ".hidden"},
    {"id": ""},
    {"id": 7},
    {"pid": -1},
    {"pid": 2**40},
    {"pid": True},
    {"pid": None},
    {"crash": {}},
    {"crash": []},
    {"crash": CRASH | {"signo": 0}},
    {"crash": CRASH | {"address": 2**64}},
    {"cap_bytes": "8"},
    {"stop_timeout_s": float("nan")},
    {"page": 3},
)
BAD_TEXTS = ("", "{", "[]", "{} {}", "nul", "NaN", "[" * 100_000)


@pytest.mark.parametrize("text", [*BAD_TEXTS, *(json.dumps(GOOD | change) for change in BAD_CHANGES)])
def test_a_malformed_request_is_refused_with_its_reason(text):
    with pytest.raises(UsageError) as caught:
        parse_request(text)
    assert caught.value.why
    assert caught.value.fix


@given(st.text())
def test_any_text_is_a_request_or_a_usage_error(text):
    with contextlib.suppress(UsageError):
        parse_request(text)


def test_numbers_out_of_all_proportion_are_cut():
    request = parse_request(json.dumps(GOOD | {"cap_bytes": -5, "stop_timeout_s": 1e300}))
    assert (request.cap_bytes, request.stop_timeout_s) == (0, 60.0)
