"""``forward_hup``: the program is told once that its logs were rotated, however often the monitor was."""

from __future__ import annotations

import signal

import pytest

pytestmark = pytest.mark.real

COUNTS = "trap 'echo hup' HUP; echo up; while :; do sleep 0.01; done"
UP = f"""
[service.app]
command = ["sh", "-c", "{COUNTS}"]
log = "app.log"
forward_hup = FORWARD
"""


def hups_sent(running) -> int:
    return sum(entry["signal"] == "SIGHUP" for entry in running.events("sent"))


@pytest.fixture
def follow(gimli):
    """A follower of the program's output, which survives takeovers."""
    return lambda: gimli.popen("logs", "app", "-f", stdout=-1)


def test_a_hup_is_handed_on_after_the_takeover(gimli, follow):
    running = gimli.up(UP.replace("FORWARD", "true"))
    running.wait_for("started")
    reader = follow()
    assert gimli.read_line(reader) == "up\n"
    for _ in range(2):  # logrotate without sharedscripts
        running.send(signal.SIGHUP)
    running.wait_for("takeover")
    running.wait_for("sent", signal="SIGHUP")
    assert gimli.read_line(reader) == "hup\n"
    assert hups_sent(running) <= len(running.events("takeover"))


def test_it_is_handed_on_also_where_the_takeover_is_refused(gimli, follow):
    """The logs were rotated all the same."""
    running = gimli.up(UP.replace("FORWARD", "true"))
    running.wait_for("started")
    reader = follow()
    assert gimli.read_line(reader) == "up\n"
    gimli.write("gimli.toml", "[service.app\n")
    running.send(signal.SIGHUP)
    running.wait_for("takeover-failed")
    assert gimli.read_line(reader) == "hup\n"


def test_by_default_the_program_is_not_touched(gimli):
    running = gimli.up(UP.replace("FORWARD", "false"))
    running.wait_for("started")
    running.send(signal.SIGHUP)
    running.wait_for("takeover")
    assert gimli.call("upgrade").returncode == 0
    assert hups_sent(running) == 0
