"""Adoption on the real kernel: the monitor is killed, and whatever it left, one copy stays one copy."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from gimli import journal, process
from gimli.monitor.records import RECORD_BYTES, format_record
from tests.chaos import witness
from tests.conftest import COMMAND, PATIENCE_S, WITHOUT_CGROUPS, Running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.real, pytest.mark.slow]

BOOT_ID = "/proc/sys/kernel/random/boot_id"
TABLE = """
[service.web]
command = {command}
watchdog_stop = "1s"
restart = "never"
"""
FORGETFUL = """
import ctypes, os, signal, sys
# The strings of the environment lie at the top of the stack; some programs write their title over them.
libc = ctypes.CDLL(None)
words = open("/proc/self/stat").read().rpartition(")")[2].split()
start, end = int(words[47]), int(words[48])
ctypes.memset(start, 0, end - start)
print("forgotten", flush=True)
signal.pause()
"""


class Left:
    """A service whose monitor was killed."""

    def __init__(self, gimli, *, command: list[str] | None = None) -> None:
        self.gimli = gimli
        self.place = witness.prepare(os.path.join(gimli.directory, "witness"))
        self.text = TABLE.format(command=json.dumps(command or witness.command(self.place)))
        self.running = gimli.up(self.text)
        self.pid = int(self.running.wait_for("started")["pid"])
        self.pidfd = os.pidfd_open(self.pid)
        self.record_path = os.path.join(gimli.runtime_dir, "up", "web.run")
        self.log_path = os.path.join(gimli.state_dir, "logs", "web.log")

    def kill_monitor(self) -> None:
        """Kill -9."""
        self.running.send(signal.SIGKILL)
        self.running.wait_for_end()

    def up_again(self) -> Running:
        """The next monitor."""
        self.running = self.gimli.up(self.text)
        return self.running

    def kill_service(self, signo: int = signal.SIGKILL) -> None:
        """End the service itself, and wait until it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signo)
        until(lambda: process.state_of(self.pid) in {"", "Z"}, "the service does not end")

    def expect_one_copy(self) -> None:
        """It lives, and no other was ever started."""
        assert process.state_of(self.pid) not in {"", "Z"}
        assert witness.alarms(self.place) == []
        assert self.gimli.service("web")["pid"] == self.pid


@pytest.fixture
def left(gimli) -> Iterator[Left]:
    """A witness whose monitor was killed."""
    made = Left(gimli)
    made.kill_monitor()
    yield made
    made.kill_service()
    os.close(made.pidfd)


def until(look: Callable[[], object], what: str) -> None:
    """Wait for something that has no event."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < give_up_s, what
        time.sleep(0.005)


def overwrite(path: str, content: bytes) -> None:
    """Put something else into a run record."""
    with open(path, "r+b") as file:
        file.truncate(0)
        file.write(content)


def record_of(pid: int, start_ticks: int, boot_id: str) -> bytes:
    """A run record of a process."""
    return format_record(f"running {pid} {start_ticks} {boot_id}")


def test_killed_at_random_moments_the_monitor_loses_and_doubles_nothing(gimli):
    """15 kills; `bench/run.py takeovers --full` has 300."""
    left = Left(gimli)
    dice = random.Random(11)
    for _ in range(15):
        time.sleep(dice.uniform(0, 0.1))
        if dice.random() < 0.3:
            left.running.send(signal.SIGHUP)
            time.sleep(dice.uniform(0, 0.2))
        left.kill_monitor()
        assert left.up_again().wait_for("adopted")["pid"] == left.pid
    left.expect_one_copy()
    os.kill(left.pid, signal.SIGUSR1)
    assert left.running.wait_for("exited")["code"] == witness.EXIT_AS_TOLD
    left.running.send(signal.SIGTERM)
    left.running.wait_for_end()
    assert witness.alarms(left.place) == []
    faults = witness.account_of(left.place, [left.log_path + ".1", left.log_path])
    os.close(left.pidfd)
    assert faults == []


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * RECORD_BYTES, b"running 12", os.urandom(RECORD_BYTES), b"x" * 5000],
    ids=["empty", "zeros", "truncated", "garbage", "long"],
)
def test_a_damaged_record_leaves_the_environment_to_find_it_by(left, content):
    overwrite(left.record_path, content)
    assert left.up_again().wait_for("adopted")["pid"] == left.pid
    left.expect_one_copy()


def test_without_a_record_the_environment_finds_it(left):
    os.unlink(left.record_path)
    assert left.up_again().wait_for("adopted")["pid"] == left.pid
    left.expect_one_copy()


def test_what_cannot_be_found_is_not_doubled_and_the_way_out_is_said(gimli):
    left = Left(gimli, command=[sys.executable, "-S", "-c", FORGETFUL])
    until(lambda: not process.environment(left.pid).get("GIMLI_SERVICE"), "it does not forget")
    left.kill_monitor()
    overwrite(left.record_path, b"garbage")
    refused = left.up_again().wait_for("adoption-refused", service="web")
    assert f"rm {left.record_path}" in refused["why"]
    assert not left.running.events("started")
    status = gimli.service("web")
    assert (status["state"], status["pid"]) == ("failed", None)
    shown = " ".join(gimli.call("ps").stdout.split())
    assert "web failed - - 0 -" in shown
    assert f"rm {left.record_path}" in shown
    assert "a copy may still run" in gimli.call("events").stdout
    done = gimli.call("start", "web")
    assert done.returncode == 1
    assert f"rm {left.record_path}" in done.stderr
    assert process.state_of(left.pid) not in {"", "Z"}
    # The operator does what was said: looks, ends the copy, removes the record, starts it.
    left.kill_service()
    os.close(left.pidfd)
    os.unlink(left.record_path)
    assert gimli.call("start", "web").returncode == 0
    assert gimli.service("web")["pid"] != left.pid


@pytest.mark.parametrize("leads", [False, True], ids=["follows", "leads a session"])
def test_a_reused_pid_is_somebody_else(left, leads):
    """Nor are those in a session of that number what the service has left behind."""
    left.kill_service()
    program = [sys.executable, "-S", "-c", "import signal; signal.pause()"]
    stranger = subprocess.Popen(program, start_new_session=leads)
    with open(BOOT_ID, encoding="ascii") as file:
        boot_id = file.read().strip()
    named = process.identify(stranger.pid)
    assert named
    overwrite(left.record_path, record_of(stranger.pid, named.start_ticks - 1, boot_id))
    running = left.up_again()
    assert running.wait_for("ended-unseen")["why"] == "its pid belongs to another process now"
    assert running.wait_for("started")["pid"] != left.pid
    running.send(signal.SIGTERM)
    running.wait_for_end()
    assert stranger.poll() is None, "a stranger was ended"
    stranger.kill()
    stranger.wait()


def test_a_record_of_another_boot_names_nobody(left):
    """Pid and start time agree with a living process by chance: the boot decides."""
    left.kill_service()
    stranger = subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"])
    named = process.identify(stranger.pid)
    assert named
    boot_id = "00000000-0000-4000-8000-000000000000"
    overwrite(left.record_path, record_of(stranger.pid, named.start_ticks, boot_id))
    running = left.up_again()
    running.wait_for("started")
    assert not running.events("adopted")
    running.send(signal.SIGTERM)
    running.wait_for_end()
    assert stranger.poll() is None, "a stranger was ended"
    stranger.kill()
    stranger.wait()


@pytest.fixture
def removed(gimli) -> Iterator[Left]:
    """A witness whose monitor was killed, and whose runtime directory is gone; it writes 2 MB/s."""
    place = witness.prepare(os.path.join(gimli.directory, "witness"))
    left = Left(gimli, command=witness.command(place, width=2000))
    left.kill_monitor()
    shutil.rmtree(gimli.runtime_dir)
    yield left
    left.kill_service()
    os.close(left.pidfd)


def test_the_runtime_directory_is_removed_under_a_live_service(removed):
    """Its FIFO and its page have no names any more: they are taken over from the process itself."""
    running = removed.up_again()
    assert running.wait_for("adopted")["pid"] == removed.pid
    removed.expect_one_copy()
    size = os.stat(removed.log_path).st_size
    # More than a pipe holds: somebody reads it.
    until(lambda: os.stat(removed.log_path).st_size > size + 300_000, "its output does not arrive")
    running.send(signal.SIGHUP)
    running.wait_for("takeover")
    assert removed.gimli.call("restart", "web").returncode == 0
    running.wait_for("exited", pid=removed.pid, code=0)
    size = os.stat(removed.log_path).st_size
    until(lambda: os.stat(removed.log_path).st_size > size + 300_000, "nor does its successor's")
    assert removed.gimli.call("stop", "web").stdout == "web is down\n"
    faults = witness.account_of(removed.place, [removed.log_path + ".1", removed.log_path])
    assert witness.alarms(removed.place) == []
    assert faults == []


def test_the_heartbeat_survives_the_runtime_directory(gimli):
    beating = "from gimli import client; client.beat(); import signal; signal.pause()"
    left = Left(gimli, command=[sys.executable, "-c", beating])
    left.running.wait_for("heartbeat", state="running")
    left.kill_monitor()
    shutil.rmtree(gimli.runtime_dir)
    running = left.up_again()
    running.wait_for("adopted")
    running.wait_for("heartbeat", state="running")
    assert gimli.service("web")["beat_age_s"] is not None
    os.close(left.pidfd)


def test_a_report_that_a_killed_monitor_has_not_begun_is_made_by_the_next(left):
    """A program that is killed is started again first; its report is begun 20 ms later."""
    died = {"pid": 4711, "status": "SIGKILL", "code": None, "signo": 9, "unreported": True}
    sender = {"pid": 4712, "uid": 0, "comm": "sh", "cmdline": ["sh"], "parent": None}
    path = os.path.join(left.gimli.state_dir, "journal", "up.jsonl")
    with open(path, "a", encoding="utf-8") as file:
        for service in ("web", "gone"):
            entry = {"time": "2026-01-01T00:00:00+00:00", "service": service, "event": "exited"}
            stamp = {"schema": journal.SCHEMA, "monotonic_ns": time.monotonic_ns()}
            file.write(json.dumps(stamp | entry | died | {"sender": sender}) + "\n")
    running = left.up_again()
    asked = running.wait_for("snapshot", service="web", pid=0)
    missing = running.wait_for("snapshot-failed", service="gone")
    assert missing["what"] == "the death of pid 4711 by SIGKILL"
    running.wait_for("report", report=asked["report"])
    shown = json.loads(left.gimli.call("show", asked["report"], "--json").stdout)
    assert (shown["pid"], shown["signal"]["number"]) == (4711, 9)
    assert shown["signal"]["sender"] == sender
    assert "exited" in [entry["event"] for entry in shown["journal"]]
    left.kill_monitor()
    again = left.up_again()
    again.wait_for("adopted")
    again.send(signal.SIGTERM)
    again.wait_for_end()
    assert not [entry for entry in again.events("snapshot") if entry["pid"] == 0], "once is enough"


def test_a_service_that_ended_while_no_monitor_ran_is_told_and_started_again(left):
    left.kill_service()
    running = left.up_again()
    unseen = running.wait_for("ended-unseen", service="web")
    assert (unseen["pid"], unseen["why"]) == (left.pid, "it has ended since")
    assert running.wait_for("started")["pid"] != left.pid
    assert witness.alarms(left.place) == []


@pytest.mark.parametrize(
    ("signo", "expected"),
    [
        (signal.SIGUSR1, {"code": witness.EXIT_AS_TOLD, "signo": None, "status": "exit 7"}),
        (signal.SIGKILL, {"code": None, "signo": signal.SIGKILL, "status": "SIGKILL"}),
    ],
    ids=["exit 7", "killed"],
)
def test_the_exit_status_of_an_adopted_service_is_known(left, signo, expected):
    running = left.up_again()
    running.wait_for("adopted")
    left.kill_service(signo)
    ended = running.wait_for("exited", pid=left.pid)
    assert {key: ended[key] for key in expected} == expected
    assert running.wait_for("stopped")


def test_run_adopts_what_a_run_of_the_same_name_has_left(gimli):
    place = witness.prepare(os.path.join(gimli.directory, "witness"))
    command = tuple(witness.command(place))
    first = gimli.run("--restart", "never", command=command)
    pid = first.wait_for("started")["pid"]
    first.send(signal.SIGKILL)
    first.wait()
    second = gimli.run("--restart", "never", command=command)
    assert second.wait_for("adopted")["pid"] == pid
    assert witness.alarms(place) == []
    os.kill(pid, signal.SIGUSR1)
    assert second.wait() == witness.EXIT_AS_TOLD


def test_what_nobody_names_any_more_is_ended_and_not_forgotten(left):
    """The file was changed while no monitor ran: what is gone from it must not run on unwatched."""
    other = json.dumps([sys.executable, "-S", "-c", "import signal; signal.pause()"])
    left.text = f"[service.other]\ncommand = {other}\n"
    running = left.up_again()
    running.wait_for("exited", service="web", pid=left.pid)
    until(lambda: process.state_of(left.pid) in {"", "Z"}, "it runs on")
    status: dict[str, Any] = json.loads(left.gimli.call("ps", "--json").stdout)
    assert [service["name"] for service in status["services"]] == ["other"]


def test_an_adopted_service_is_stopped_and_restarted_as_any_other(left):
    running = left.up_again()
    running.wait_for("adopted")
    assert left.gimli.call("restart", "web").returncode == 0
    running.wait_for("exited", pid=left.pid, code=0)
    again = left.gimli.service("web")["pid"]
    assert again != left.pid
    assert witness.alarms(left.place) == []


def test_an_adopted_service_survives_takeovers(left):
    running = left.up_again()
    running.wait_for("adopted")
    for _ in range(3):
        running.send(signal.SIGHUP)
        running.wait_for("takeover")
    left.expect_one_copy()
    os.kill(left.pid, signal.SIGUSR1)
    assert running.wait_for("exited", pid=left.pid)["code"] == witness.EXIT_AS_TOLD


def test_many_monitors_started_at_once_are_one(left):
    """Several starts race after a kill: one wins, the others say who; the service is adopted once."""
    left.gimli.write("gimli.toml", left.text)
    starts = [left.gimli.popen("up", "--detach") for _ in range(4)]
    statuses = sorted(start.wait(PATIENCE_S) for start in starts)
    assert statuses == [0, 1, 1, 1]
    told = [
        entry["event"]
        for entry in journal.read(os.path.join(left.gimli.state_dir, "journal", "up.jsonl"))
        if entry["event"] in {"monitor-started", "adopted"}
    ]
    assert told == ["monitor-started", "monitor-started", "adopted"]
    left.expect_one_copy()
    assert left.gimli.call("down").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a process as another user")
def test_another_users_process_with_a_services_environment_is_not_it(gimli):
    """Anybody can put anything into the environment of a process of theirs: it must hold up no start."""
    bell = os.path.join(gimli.runtime_dir, "up", "bell")
    forged = subprocess.Popen(
        ["setpriv", "--reuid=65534", "--clear-groups", "sleep", "1h"],
        env={"GIMLI_BELL": bell, "GIMLI_SERVICE": "web", "PATH": os.environ["PATH"]},
        start_new_session=True,
    )
    gimli._processes.append(forged)
    while process.owner_of(forged.pid) != 65534:
        os.sched_yield()
    running = gimli.up('[service.web]\ncommand = ["sleep", "1h"]\n')
    assert running.wait_for("started")["pid"] != forged.pid
    assert running.events("adopted") == []
    assert forged.poll() is None


NEIGHBOUR = """
import signal, subprocess, sys
for _ in range(2):
    subprocess.run(sys.argv[1:])  # the second monitor adopts what the first has left
print("the shell goes on", flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root")
def test_a_program_without_a_session_of_its_own_takes_no_neighbour_with_it(gimli):
    """``setsid = 0`` of the original: it is in the session of the shell, with everything else there."""
    options = ("monitor", "--detach=0", "--setsid=0", "--name=app", "--run-once=1", "sleep", "1h")
    shell = subprocess.Popen(
        [*WITHOUT_CGROUPS, sys.executable, "-c", NEIGHBOUR, *COMMAND, *options],
        cwd=gimli.directory, env=gimli.environment, start_new_session=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    gimli._processes.append(shell)
    path = os.path.join(gimli.state_dir, "journal", "run.app.jsonl")

    def told(event: str) -> list[dict[str, Any]]:
        return [entry for entry in journal.read(path) if entry["event"] == event]

    until(lambda: told("started"), "it does not start")
    os.kill(told("monitor-started")[0]["pid"], signal.SIGKILL)
    until(lambda: told("adopted"), "it is not adopted")
    os.kill(told("adopted")[0]["pid"], signal.SIGTERM)
    assert gimli.read_line(shell) == "the shell goes on\n"
    assert shell.wait(PATIENCE_S) == 0
