"""The report's model: hostile JSON gives a report or one clear error, and nothing is lost on the way."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli import report
from gimli.report import Finding, Frame, Reason, Report, Signal, Thread, Variable

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
json_objects = st.dictionaries(st.text(max_size=8), json_values, max_size=4)
texts = st.text(max_size=8)
variables = st.builds(Variable, texts, texts, texts, st.booleans())
frames = st.builds(
    Frame,
    texts,
    texts,
    file=st.none() | texts,
    line=st.none() | st.integers(),
    module=st.none() | texts,
    address=st.none() | st.integers(),
    variables=st.lists(variables, max_size=2).map(tuple),
    inline=st.booleans(),
    interpreter=st.booleans(),
)
threads = st.builds(
    Thread,
    st.integers(),
    texts,
    crashed=st.booleans(),
    culprit=st.booleans(),
    doing=texts,
    frames=st.lists(frames, max_size=2).map(tuple),
)
codes = st.none() | st.integers()
signals = st.builds(Signal, texts, st.integers(), codes, sender=st.none() | json_objects)
reports = st.builds(
    Report,
    id=texts,
    service=texts,
    reason=st.sampled_from(get_args(Reason)),
    time=texts,
    pid=st.integers(),
    command=st.lists(texts, max_size=3).map(tuple),
    signature=texts,
    summary=texts,
    signal=st.none()
    | st.builds(Signal, texts, st.integers(), st.none() | st.integers(), sender=st.none() | json_objects),
    hang=st.none() | json_objects,
    findings=st.lists(
        st.builds(Finding, texts, texts, st.floats(0, 1), st.lists(texts, max_size=2).map(tuple)), max_size=2
    ).map(tuple),
    threads=st.lists(threads, max_size=2).map(tuple),
    process=json_objects,
    heartbeat=st.none() | json_objects,
    journal=st.lists(json_objects, max_size=2).map(tuple),
    output=st.lists(texts, max_size=2).map(tuple),
    notes=st.lists(texts, max_size=2).map(tuple),
    timings_ms=st.dictionaries(texts, st.floats(0, 1e6), max_size=2),
    core=st.none() | texts,
)
# Documents that get past the first checks, with anything in any place.
identity = {"schema": 1, "id": "a", "service": "b", "reason": "hang", "time": "now", "pid": 1}
keys = "threads findings signal hang process heartbeat journal notes timings_ms core crash_tid facts output"
item_keys = "tid name frames kind text confidence evidence comm syscall state number sender silent_s pulse"
items = st.fixed_dictionaries({}, optional=dict.fromkeys(item_keys.split(), json_values))
nearly = st.fixed_dictionaries(
    {key: st.just(value) for key, value in identity.items()},
    optional=dict.fromkeys(keys.split(), json_values | items | st.lists(items, max_size=2)),
)


@given(reports)
def test_a_report_survives_json(original):
    assert report.from_json(json.loads(json.dumps(report.to_json(original)))) == original


@given(json_values | nearly)
def test_any_json_gives_a_report_or_says_what_is_wrong(document):
    try:
        made = report.from_json(document)
    except ValueError:
        return
    else:
        assert report.from_json(json.loads(json.dumps(report.to_json(made)))) == made


@given(json_values | nearly)
def test_any_facts_give_a_report_or_say_what_is_wrong(document):
    try:
        made = report.from_facts(document)
    except ValueError:
        return
    else:
        assert made.summary
        assert report.from_json(json.loads(json.dumps(report.to_json(made)))) == made


def facts(**changes):
    return {
        "schema": 1,
        "id": "01KAP3",
        "service": "orders",
        "reason": "crash",
        "time": "2026-11-22T04:00:07+01:00",
        "pid": 7990,
        "command": ["./orders", "--fast"],
    } | changes


def test_facts_of_a_crash_name_its_signal_and_its_thread():
    made = report.from_facts(
        facts(
            signal={"name": "SIGSEGV", "number": 11, "code": 1, "code_name": "SEGV_MAPERR", "address": 8},
            crash_tid=7992,
            threads=[
                {
                    "tid": 7990,
                    "comm": "orders",
                    "state": "S",
                    "syscall": {"name": "read", "file": "pipe:[7]"},
                },
                {"tid": 7992, "comm": "writer", "state": "t", "syscall": None},
            ],
            process={"exe": "/srv/orders"},
            facts={"restarts": 3},
            core={"file": "core", "bytes": 12},
        )
    )
    assert made.summary == "SIGSEGV at address 0x8 (SEGV_MAPERR)"
    assert [(each.tid, each.name, each.crashed) for each in made.threads] == [
        (7992, "writer", True),
        (7990, "orders", False),
    ]
    assert made.threads[1].doing == "in read of pipe:[7]"
    assert made.process == {"exe": "/srv/orders", "service": {"restarts": 3}}
    assert made.core == "core"


def test_facts_of_a_hang_name_the_pulse_and_the_silence():
    made = report.from_facts(facts(reason="hang", hang={"pulse": "writer-2", "tid": 7, "silent_s": 30.04}))
    assert made.summary == 'pulse "writer-2" silent for 30.0 s'


def test_a_signature_does_not_know_pids_and_times():
    one = report.from_facts(facts(signal={"name": "SIGSEGV", "number": 11, "address": 1}))
    other = report.from_facts(
        facts(pid=1, time="later", signal={"name": "SIGSEGV", "number": 11, "address": 2})
    )
    assert one.signature == other.signature


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "schema 2, expected 1"),
        ({"reason": "boredom"}, "'boredom'"),
        ({"pid": "7990"}, "pid is str, expected int"),
        ({"pid": True}, "pid is bool, expected int"),
        ({"signal": {"name": "SIGSEGV"}}, "number"),
        ({"signal": {"name": "SIGSEGV", "number": "11"}}, "number is str, expected int"),
        ({"threads": [{"comm": "x"}]}, "tid is NoneType"),
    ],
)
def test_an_error_names_the_field_and_both_types(changes, message):
    with pytest.raises(ValueError, match=message):
        report.from_facts(facts(**changes))
