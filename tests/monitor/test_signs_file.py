"""The words for signs of life: each form comes out as it was meant, and every slip is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.errors import UsageError
from gimli.monitor.config import Access, Intervals, ReadyBy, Signs, Target
from gimli.monitor.signs_file import build, parse_ready, parse_target

PORT_80 = Target("tcp", "127.0.0.1", 80)


@pytest.mark.parametrize(
    ("text", "signs"),
    [
        ("notify", Signs(ReadyBy.NOTIFY, access=Access.MAIN)),
        ("fd", Signs(ReadyBy.FD)),
        ("fd:7", Signs(ReadyBy.FD, ready_fd=7)),
        ("delay:1m30s", Signs(ReadyBy.DELAY, ready_delay_s=90.0)),
        ("tcp:80", Signs(ReadyBy.PROBE, ready_probe=PORT_80)),
        ("http://[::1]/up", Signs(ReadyBy.PROBE, ready_probe=Target("http", "::1", 80, "/up"))),
    ],
)
def test_ways_to_be_ready(text, signs):
    assert parse_ready(text, "ready") == signs


@pytest.mark.parametrize(
    "text", ["", "exec", "probe", "fd:", "fd:2", "fd:1024", "fd:٣", "fd:" + "9" * 5000, "delay", "delay:soon"]
)
def test_what_is_no_way_to_be_ready_is_refused(text):
    with pytest.raises(UsageError, match="ready"):
        parse_ready(text, "ready")


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("tcp:80", PORT_80),
        ("tcp:192.0.2.1:65535", Target("tcp", "192.0.2.1", 65535)),
        ("tcp:[::1]:80", Target("tcp", "::1", 80)),
        ("http://localhost:8080", Target("http", "127.0.0.1", 8080, "/")),
        ("http://127.0.0.1/health?deep=1#top", Target("http", "127.0.0.1", 80, "/health?deep=1")),
    ],
)
def test_targets(text, target):
    assert parse_target(text, "probe") == target


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("tcp:", "no port"),
        ("tcp:0", "no port"),
        ("tcp:65536", "no port"),
        ("tcp:http", "no port"),
        ("tcp:db:5432", "looks up no names"),
        ("http://db/", "looks up no names"),
        ("http:///x", "looks up no names"),
        ("http://127.0.0.1:99999/", "Port"),
        ("http://[::1/", "URL"),
        ("http://127.0.0.1/a b", "escaped"),
        ("http://127.0.0.1/\u00e9", "escaped"),
        ("https://127.0.0.1/", "no TLS"),
        ("ftp://127.0.0.1/", "no probe"),
    ],
)
def test_what_cannot_be_asked_is_refused(text, why):
    with pytest.raises(UsageError) as caught:
        parse_target(text, "probe")
    assert why in f"{caught.value} {caught.value.fix}"


@given(st.text(max_size=30).map(lambda rest: f"http://{rest}") | st.text(max_size=20).map("tcp:{}".format))
def test_any_text_is_a_target_or_a_usage_error(text):
    try:
        target = parse_target(text, "probe")
    except UsageError:
        return
    assert "\r" not in target.path
    assert "\n" not in target.path
    assert parse_target(str(target), "probe") == target


def test_a_probe_says_ready_unless_something_else_does():
    assert build({"probe": PORT_80}, Intervals()).ready_probe == PORT_80
    said = build({"probe": PORT_80, "ready": parse_ready("fd", "ready")}, Intervals())
    assert (said.ready, said.ready_probe, said.probe) == (ReadyBy.FD, None, PORT_80)


def test_a_probe_is_asked_often_enough_for_any_watchdog():
    signs = build({"probe": PORT_80}, Intervals(watchdog_s=3.0))
    assert signs.probe_interval_s + signs.probe_timeout_s <= 3.0


@pytest.mark.parametrize(
    "found",
    [
        {"probe": PORT_80, "probe_interval": 50.0, "probe_timeout": 11.0},
        {"ready": parse_ready("notify", ""), "notify_access": Access.NONE},
        {"ready": parse_ready("fd:66", ""), "notify_access": Access.ALL},
    ],
)
def test_what_does_not_go_together_is_refused(found):
    with pytest.raises(UsageError):
        build(found, Intervals())
