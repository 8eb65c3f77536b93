"""``gimli up`` and the commands that talk to its monitor, for real."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys

import pytest

pytestmark = pytest.mark.real

SLEEPER = f'command = ["{sys.executable}", "-c", "import signal; print(\'up\', flush=True); signal.pause()"]'
DEAF = "import signal; signal.signal(15, 1); print('up', flush=True)\\nwhile True: signal.pause()"
TWO = f"""
[service.web]
{SLEEPER}
watchdog_stop = "2s"

[service.db]
{SLEEPER}
autostart = false
"""


@pytest.fixture
def two(gimli):
    """A monitor with a service that runs and one that does not."""
    running = gimli.up(TWO)
    running.wait_for("started", service="web")
    return running


def test_up_in_the_background_says_its_pid_once_it_stands(gimli, two):
    assert gimli.service("web")["state"] == "running"
    assert gimli.service("db")["state"] == "down"
    assert os.getsid(two.pid) == two.pid


def test_up_in_the_foreground_runs_until_term(gimli):
    gimli.write("gimli.toml", TWO)
    process = gimli.popen("up")
    running = gimli.follow("up", process)
    running.wait_for("started", service="web")
    running.send(signal.SIGTERM)
    running.wait_for("exited", service="web", status="SIGTERM")
    assert running.wait() == 0


def test_down_stops_every_service_then_the_monitor(gimli, two):
    done = gimli.call("down")
    assert (done.returncode, done.stdout) == (0, "down\n")
    assert f"(pid {two.pid}) is stopping its services" in done.stderr
    two.wait_for_end()
    assert two.events("stopped")
    assert os.listdir(gimli.runtime_dir) == []
    assert gimli.call("down").returncode == 1


def test_down_then_up_at_once(gimli, two):
    assert gimli.call("down").returncode == 0
    again = gimli.up(TWO)
    assert again.pid != two.pid


def test_a_second_up_is_refused(gimli, two):
    done = gimli.call("up", "--detach")
    assert done.returncode == 1
    assert "runs already" in done.stderr
    assert str(two.pid) in done.stderr


def test_start_stop_restart(gimli, two):
    first = gimli.service("web")["pid"]
    assert gimli.call("start", "web").stdout == f"web runs as pid {first}\n"
    done = gimli.call("restart", "web")
    second = gimli.service("web")["pid"]
    assert done.stdout == f"web runs as pid {second}\n"
    assert second != first
    assert gimli.call("stop", "web").stdout == "web is down\n"
    assert gimli.call("stop", "web").returncode == 0
    assert gimli.service("web")["pid"] is None
    started = gimli.call("start", "db").stdout
    assert started == f"db runs as pid {gimli.service('db')['pid']}\n"
    assert two.wait_for("sent", service="web")["because"] == "asked to restart"


def test_a_restart_of_one_that_is_down_starts_it(gimli, two):
    assert gimli.call("restart", "db").stdout == f"db runs as pid {gimli.service('db')['pid']}\n"


def test_a_service_that_nobody_has_is_refused_with_the_names_there_are(gimli, two):
    for command in (
        ["start", "wbe"],
        ["stop", "wbe"],
        ["signal", "wbe", "HUP"],
        ["logs", "wbe"],
        ["snapshot", "wbe"],
    ):
        done = gimli.call(*command)
        assert done.returncode == 1
        assert "no service is called 'wbe'" in done.stderr
        assert "db, web" in done.stderr


def test_without_a_monitor_every_command_says_so(gimli):
    for command in (["start", "web"], ["logs", "web"], ["down"], ["snapshot", "web"]):
        done = gimli.call(*command)
        assert done.returncode == 1
        assert "gimli up" in done.stderr


def test_signals(gimli, two):
    pid = gimli.service("web")["pid"]
    assert gimli.call("signal", "web", "usr1").stdout == f"sent usr1 to web (pid {pid})\n"
    assert two.wait_for("sent", service="web", signal="SIGUSR1")["because"] == "the operator asked"
    two.wait_for("exited", status="SIGUSR1")
    assert "is not a signal" in gimli.call("signal", "web", "NOPE").stderr
    done = gimli.call("signal", "db", "HUP")
    assert done.returncode == 1
    assert "it is down" in done.stderr


def test_logs(gimli, two):
    done = gimli.call("logs", "web")
    if done.stdout != "up\n":  # not said yet
        gimli.call("restart", "web")
    process = gimli.popen("logs", "web", "-f", stdout=subprocess.PIPE)
    assert gimli.read_line(process) == "up\n"
    gimli.call("restart", "web")
    assert gimli.read_line(process) == "up\n"
    gimli.call("down")
    assert process.wait(20) == 0


def test_a_character_that_comes_in_two_pieces_is_one_for_a_follower(gimli):
    script = "import os, signal; os.write(1, b'\\\\xc3'); signal.sigwait([10]); "
    script += "os.write(1, b'\\\\xa4\\\\n'); signal.pause()"
    blocked = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [10]); "
    running = gimli.up(f'[service.web]\ncommand = ["{sys.executable}", "-c", "{blocked}{script}"]')
    running.wait_for("started")
    follower = socket.socket(socket.AF_UNIX)
    follower.settimeout(20)
    follower.connect(running.socket_path)
    follower.sendall(b'{"schema": 1, "call": "logs", "service": "web", "follow": true, "lines": 0}\n')
    with follower, follower.makefile("rb") as lines:
        lines.readline()
        gimli.call("signal", "web", "USR1")
        text = ""
        while not text.endswith("\n"):
            text += json.loads(lines.readline())["text"]
    assert text in {"\N{LATIN SMALL LETTER A WITH DIAERESIS}\n", "\N{REPLACEMENT CHARACTER}\n"}


def test_events(gimli, two):
    done = gimli.call("events", "web", "--json")
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    assert [entry["event"] for entry in entries] == ["started"]
    assert all(entry["schema"] == 1 and entry["service"] == "web" for entry in entries)
    process = gimli.popen("events", "-f", "--json", "-n", "0", stdout=subprocess.PIPE)
    # It follows from when it has connected; a wrong signal tells nothing, so ask until it answers.
    while not select.select([process.stdout], [], [], 0)[0]:
        gimli.call("signal", "web", "WINCH")
    entry = json.loads(gimli.read_line(process))
    assert (entry["event"], entry["signal"]) == ("sent", "SIGWINCH")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert "SIGWINCH" in gimli.call("events").stdout
    assert gimli.call("events", "-n", "0").stdout == ""


def test_a_snapshot_of_a_service_that_goes_on(gimli, two):
    pid = gimli.service("web")["pid"]
    done = gimli.call("snapshot", "web")
    assert done.returncode == 0
    report = two.wait_for("report", service="web")["report"]
    assert report in done.stdout
    assert gimli.service("web")["pid"] == pid
    done = gimli.call("snapshot", "db")
    assert done.returncode == 1
    assert "it is down" in done.stderr


def test_a_snapshot_of_any_process(gimli):
    process = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); import signal; signal.pause()"], stdout=-1
    )
    process.stdout.readline()
    done = gimli.call("snapshot", "--pid", str(process.pid))
    process.kill()
    process.wait()
    assert done.returncode == 0, done.stderr
    assert "gimli show" in done.stdout
    assert gimli.call("snapshot", "--pid", str(process.pid)).returncode == 1
    assert gimli.call("snapshot").returncode == 2


@pytest.mark.parametrize(
    "sent",
    [
        b"garbage\n",
        b'{"schema": 1, "call": []}\n',
        b'{"schema": 1, "call": "events", "service": []}\n',
        b'{"schema": 1, "call": "events", "service": {}}\n',
        b'{"schema": 1, "call": "logs", "service": "web", "lines": 1e400}\n',
        b'{"schema": 1, "call": "logs", "service": "web", "lines": 1' + b"0" * 400 + b', "follow": []}\n',
        b'{"schema": 1, "call": "start", "service": "\\ud800"}\n',
        b'{"schema": 1, "call": "signal", "service": "web", "signal": "\\ud800"}\n',
        b'{"schema": 1, "call": "stop"}\n',
        b'{"schema": 1, "call": "events"}\n' * 3,
    ],
)
def test_no_client_can_end_the_monitor(gimli, two, sent):
    """One that stays, and one that does not even read its answer."""
    for is_patient in (True, False):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(20)
            peer.connect(two.socket_path)
            peer.sendall(sent)
            if is_patient:
                assert peer.recv(100)
            gimli.call("signal", "web", "WINCH")  # something to tell
            two.wait_for("sent", signal="SIGWINCH")
    assert gimli.service("web")["state"] == "running"


def test_a_stop_of_one_that_ignores_term_is_answered_after_its_interval(gimli):
    running = gimli.up(
        f'[service.web]\ncommand = ["{sys.executable}", "-c", "{DEAF}"]\nwatchdog_stop = "100ms"'
    )
    running.wait_for("started")
    process = gimli.popen("logs", "web", "-f", stdout=subprocess.PIPE)
    assert gimli.read_line(process) == "up\n"
    process.kill()
    process.wait()
    assert gimli.call("stop", "web").returncode == 0
    assert running.wait_for("exited")["status"] == "SIGKILL"


def test_a_start_that_cannot_succeed_is_refused(gimli):
    script = gimli.write("script", "#!/bin/sh\nexec sleep 1h\n")
    os.chmod(script, 0o755)
    running = gimli.up('[service.web]\ncommand = ["./script"]\nrestart = "never"')
    running.wait_for("started")
    gimli.call("stop", "web")
    os.unlink(script)
    done = gimli.call("start", "web")
    assert done.returncode == 1
    assert "web did not start" in done.stderr
    assert "No such file or directory" in done.stderr


def test_one_who_waits_for_a_start_hears_of_a_stop(gimli):
    """A restart waits for the old one, and somebody else wants none: waiting on would be for ever."""
    running = gimli.up(f'[service.web]\ncommand = ["{sys.executable}", "-c", "{DEAF}"]\nwatchdog_stop = "1h"')
    running.wait_for("started")
    process = gimli.popen("logs", "web", "-f", stdout=subprocess.PIPE)
    assert gimli.read_line(process) == "up\n"
    process.kill()
    process.wait()
    restarting = gimli.popen("restart", "web", stderr=subprocess.PIPE)
    running.wait_for("sent", signal="SIGTERM")
    with socket.socket(socket.AF_UNIX) as stopping:
        stopping.settimeout(20)
        stopping.connect(running.socket_path)
        stopping.sendall(b'{"schema": 1, "call": "stop", "service": "web"}\n')
        gimli.call("signal", "web", "KILL")  # handled in the order they came
        assert json.loads(stopping.recv(1000)) == {"ok": True}
    assert restarting.wait(20) == 1
    assert "web did not start" in restarting.stderr.read()


def test_a_worker_that_crashes_gets_a_report_and_the_service_goes_on(gimli):
    script = """
import os, signal, sys
if os.fork() == 0:
    os.kill(os.getpid(), signal.SIGSEGV)
signal.pause()
"""
    gimli.write("prefork.py", script)
    running = gimli.up(f'[service.web]\ncommand = ["{sys.executable}", "prefork.py"]\ncwd = "."')
    crash = running.wait_for("crash", service="web", worker=True)
    pid = running.pids()[0]
    assert crash["pid"] != pid
    assert running.wait_for("snapshot")["pid"] == crash["pid"]
    running.wait_for("report")
    service = gimli.service("web")
    assert (service["pid"], service["restarts"], service["state"]) == (pid, 0, "running")


def test_a_service_of_two_monitors_is_told_apart_by_words(gimli):
    """The same name under `gimli up` and `gimli run`: a command for it does not just take the first."""
    up = gimli.up('[service.app]\ncommand = ["sleep", "1h"]\n')
    up.wait_for("started")
    run = gimli.run("--log", "inherit", command=("sleep", "1h"))
    run.wait_for("started")
    done = gimli.call("stop", "app")
    assert done.returncode == 1
    assert "2 monitors hold a service called 'app'" in done.stderr


@pytest.mark.slow
def test_reports_beyond_the_quota_go_and_the_journal_says_which(gimli):
    running = gimli.up('[reports]\nmax_count = 1\n[service.app]\ncommand = ["sleep", "1h"]\n')
    running.wait_for("started")
    assert gimli.call("snapshot", "app").returncode == 0
    first = running.wait_for("report")["report"]
    running.wait_for("analysed")  # until then it is in use
    assert gimli.call("snapshot", "app").returncode == 0
    pruned = running.wait_for("pruned")
    assert pruned["reports"] == [f"report of {first}: there are 2 reports, and the limit is 1"]
    assert first not in os.listdir(os.path.join(gimli.state_dir, "reports"))
