"""``gimli ps``: its JSON contract and its table, of real services."""

from __future__ import annotations

import json
import signal
import sys

import pytest

pytestmark = pytest.mark.real

BEATING = (
    "from gimli import client; client.beat(); client.note('counting [red]sheep[/red]'); "
    "print('up', flush=True); import signal; signal.pause()"
)
CONTRACT = {
    "name",
    "state",
    "pid",
    "restarts",
    "uptime_s",
    "beat_age_s",
    "debugger",
    "starved",
    "last_report",
}


def test_without_a_monitor_there_is_nothing_and_that_is_no_error(gimli):
    done = gimli.call("ps")
    assert (done.returncode, done.stdout) == (0, "")
    assert "gimli up" in done.stderr
    document = json.loads(gimli.call("ps", "--json").stdout)
    assert document == {"schema": 1, "monitor": None, "monitors": [], "services": []}


def test_the_contract(gimli):
    running = gimli.up(f'[service.web]\ncommand = ["{sys.executable}", "-c", "{BEATING}"]')
    running.wait_for("heartbeat", state="running")
    document = json.loads(gimli.call("ps", "--json").stdout)
    assert document["schema"] == 1
    assert document["monitor"]["pid"] == running.pid
    assert {"pid", "started", "takeovers"} <= set(document["monitor"])
    (service,) = document["services"]
    assert set(service) >= CONTRACT
    assert service["state"] == "running"
    assert service["pid"] == running.pids()[0]
    assert 0 <= service["beat_age_s"] <= service["uptime_s"] < 60
    assert (service["restarts"], service["last_report"], service["debugger"], service["starved"]) == (
        0,
        None,
        None,
        False,
    )


def test_all_monitors_are_shown(gimli):
    gimli.up('[service.web]\ncommand = ["sleep", "1h"]').wait_for("started")
    gimli.run(command=("sleep", "1h")).wait_for("started")
    document = json.loads(gimli.call("ps", "--json").stdout)
    assert {service["name"] for service in document["services"]} == {"web", "app"}
    assert len(document["monitors"]) == 2


def test_the_table(gimli):
    running = gimli.up(
        f'[service.web]\ncommand = ["{sys.executable}", "-c", "{BEATING}"]\n'
        '[service.db]\ncommand = ["false"]\nbackoff = "1h"\n'
    )
    running.wait_for("backoff", service="db")
    running.wait_for("heartbeat", service="web") if not running.events("heartbeat") else None
    lines = gimli.call("ps").stdout.splitlines()
    assert lines[0].split() == ["SERVICE", "STATE", "PID", "UP", "RESTARTS", "BEAT", "LAST", "REPORT"]
    web, db = (next(line for line in lines if line.startswith(name)) for name in ("web", "db"))
    assert web.split()[1:3] == ["running", str(gimli.service("web")["pid"])]
    assert "sheep" in web
    assert db.split()[1:6] == ["backoff", "-", "-", "1", "-"]
    assert "ended: exit 1" in db


def test_a_failed_service_says_why(gimli):
    running = gimli.up('[service.web]\ncommand = ["sh", "-c", "exit 9"]\nbackoff = "1ms"')
    running.wait_for("failed")
    service = gimli.service("web")
    assert (service["state"], service["because"]) == ("failed", "ended 15 times in a row, last by exit 9")
    assert "ended 15 times in a row" in " ".join(gimli.call("ps").stdout.split())


def test_services_whose_monitor_was_killed_are_named_with_what_to_do(gimli):
    running = gimli.up('[service.web]\ncommand = ["sleep", "1h"]\n')
    running.wait_for("started")
    (pid,) = running.pids()
    running.send(signal.SIGKILL)
    running.wait_for_end()
    told = gimli.call("ps").stderr
    assert (
        told == f"gimli: the monitor up is gone, web (pid {pid}) runs on unwatched; to adopt them: gimli up\n"
    )
    assert gimli.call("up", "--detach").returncode == 0
    assert gimli.call("ps").stderr == ""
    assert gimli.service("web")["pid"] == pid
    gimli.call("down")
    assert gimli.call("ps").stderr.startswith("no service")
