"""Late beats for which nobody can blame the program, for real: debuggers, starvation, SIGSTOP."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.real, pytest.mark.slow]

WATCHDOG_S = 0.4
BEATS = """
import signal, time
from gimli import client
signal.signal(signal.SIGUSR1, lambda *_: time.sleep(3600))
while True:
    client.beat()
    time.sleep(0.02)
"""
"""Beats until USR1 makes it hang."""
FREEZER = "/sys/fs/cgroup/freezer"
QUOTAS = "/sys/fs/cgroup/cpu"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def program(name: str):
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"needs {name}: apt-get install {name}")


BUSY = """
from gimli import client
while True:
    client.beat()
    for _ in range(200_000):
        pass
"""
"""Computes all the time, and beats in between."""


@pytest.fixture
def beating(gimli, python):
    """A program that beats, and its pid."""

    def start(*options: str, watchdog_s: float = WATCHDOG_S, source: str = BEATS):
        running = gimli.run("--watchdog", f"{watchdog_s}s", *options, command=python(source))
        pid = running.wait_for("started")["pid"]
        running.wait_for("heartbeat", state="running")
        return running, pid

    return start


def status_of(running) -> dict[str, Any]:
    """What its monitor says of it, without the time that a command takes to start."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.connect(running.socket_path)
        peer.sendall(b'{"schema": 1, "call": "ps"}\n')
        with peer.makefile("rb") as lines:
            return json.loads(lines.readline())["services"][0]


def stays_up(running, pid: int, for_s: float) -> None:
    """Nothing happens for as long as that: the end of either would wake us."""
    pidfd = os.pidfd_open(pid)
    try:
        assert not running._is_ended(for_s)
        signal.pidfd_send_signal(pidfd, 0)
    finally:
        os.close(pidfd)
    running._read_file()
    assert not running.events("hang")
    assert running.pids() == [pid]


def ends_by_hang(running, pid: int) -> dict[str, Any]:
    """Make it hang: the watchdog does its work."""
    os.kill(pid, signal.SIGUSR1)
    hang = running.wait_for("hang")
    assert running.wait_for("started")["pid"] != pid
    return hang


@contextlib.contextmanager
def debugger(*command: str) -> Iterator[subprocess.Popen]:
    """A debugger that ends when its standard input does."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


GDB = ("gdb", "-q", "-nx", "-batch", "-iex", "set debuginfod enabled off", "-p")


@program("gdb")
def test_gdb_may_hold_a_program_for_as_long_as_it_likes(beating):
    """Stopped for three watchdog periods: no kill; who it was is told; then the deadline starts anew."""
    running, pid = beating()
    with debugger(*GDB, str(pid), "-ex", "shell cat") as gdb:
        attached = running.wait_for("debugger-attached")
        assert attached["debugger"]["pid"] == gdb.pid
        assert attached["debugger"]["comm"] == "gdb"
        assert attached["debugger"]["uid"] == os.geteuid()
        assert attached["pid"] == pid
        stays_up(running, pid, 3 * WATCHDOG_S)
        service = status_of(running)
        assert service["state"] == "running"
        assert service["debugger"] == attached["debugger"]
        gdb.stdin.close()
        gdb.wait(20)
    detached = running.wait_for("debugger-detached")
    assert detached["debugger"] == attached["debugger"]
    assert detached["for_s"] >= 3 * WATCHDOG_S
    stays_up(running, pid, 2 * WATCHDOG_S)
    assert status_of(running)["debugger"] is None
    ends_by_hang(running, pid)


@program("gdb")
def test_gdb_that_lets_go_without_ending_is_seen_at_the_next_look(beating):
    running, pid = beating()
    with debugger(*GDB, str(pid), "-ex", "shell read x", "-ex", "detach", "-ex", "shell cat") as gdb:
        running.wait_for("debugger-attached")
        gdb.stdin.write(b"\n")
        gdb.stdin.flush()
        assert 0 < running.wait_for("debugger-detached")["for_s"] < 15
        assert gdb.poll() is None
        ends_by_hang(running, pid)


@program("gdb")
def test_a_program_that_gdb_killed_is_restarted(beating):
    running, pid = beating()
    with debugger(*GDB, str(pid), "-ex", "shell read x", "-ex", "kill", "-ex", "shell cat") as gdb:
        running.wait_for("debugger-attached")
        gdb.stdin.write(b"\n")
        gdb.stdin.flush()
        running.wait_for("exited", pid=pid)
        assert running.events("debugger-detached")


@program("gdb")
def test_a_stop_is_honoured_while_gdb_holds_the_program(beating):
    """The watchdog waits for a debugger; the operator does not."""
    running, pid = beating("--watchdog-stop", "200ms")
    with debugger(*GDB, str(pid), "-ex", "shell cat"):
        running.wait_for("debugger-attached")
        running.send(signal.SIGTERM)
        running.wait_for("sent", signal="SIGTERM")
        running.wait_for("sent", signal="SIGKILL")
        assert running.wait() == 137


@program("strace")
def test_strace_of_a_beating_program_is_told_and_disturbs_nothing(gimli, beating):
    running, pid = beating()
    with debugger("strace", "-f", "-o", "/dev/null", "-p", str(pid)) as strace:
        attached = running.wait_for("debugger-attached")
        assert (attached["debugger"]["pid"], attached["debugger"]["comm"]) == (strace.pid, "strace")
        stays_up(running, pid, 3 * WATCHDOG_S)
        table = " ".join(gimli.call("ps").stdout.split())
        assert "app debugged" in table
        assert f"watchdog paused: strace (pid {strace.pid}) of" in table
        strace.send_signal(signal.SIGINT)
        strace.wait(20)
    running.wait_for("debugger-detached")
    ends_by_hang(running, pid)


@program("strace")
def test_a_program_that_takes_long_to_stop_is_not_killed_while_it_is_traced(beating):
    """Nobody asked it to stop: whoever looks why it does not end is not interrupted."""
    source = BEATS.replace("time.sleep(3600)", "(client.stopping(), time.sleep(3600))")
    running, pid = beating("--watchdog-stop", "200ms", source=source)
    with debugger("strace", "-f", "-o", "/dev/null", "-p", str(pid)) as strace:
        running.wait_for("debugger-attached")
        os.kill(pid, signal.SIGUSR1)
        running.wait_for("heartbeat", state="stopping")
        stays_up(running, pid, 0.8)
        strace.send_signal(signal.SIGINT)
        strace.wait(20)
    running.wait_for("debugger-detached")
    running.wait_for("sent", signal="SIGKILL")
    assert running.wait_for("started")["pid"] != pid


HELPER = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
pid = int(sys.stdin.readline())
libc.ptrace(0x4206, pid, 0, 0)  # PTRACE_SEIZE
libc.ptrace(0x4207, pid, 0, 0)  # PTRACE_INTERRUPT
os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED)
sys.stdin.readline()
"""


def test_a_capture_helper_is_no_debugger_though_its_monitor_has_gone(gimli, beating):
    """One that lost its monitor is nobody's child of ours: it is known by its command."""
    os.makedirs(os.path.join(gimli.directory, "gimli", "capture"))
    file = gimli.write("gimli/capture/__main__.py", HELPER)
    running, pid = beating()
    with debugger(sys.executable, "-I", "-S", file) as helper:
        helper.stdin.write(b"%d\n" % pid)
        helper.stdin.flush()
        assert running.wait_for("beat-late")["cause"] == "snapshot"
        helper.stdin.close()
        helper.wait(20)
    running.wait_for("beats-again", cause="snapshot")
    stays_up(running, pid, WATCHDOG_S)
    assert not running.events("debugger-attached")


@contextlib.contextmanager
def hogs(cpu: int) -> Iterator[None]:
    """A busy loop on a CPU, far more important than others."""
    process = subprocess.Popen(
        (
            sys.executable,
            "-c",
            f"import os; os.sched_setaffinity(0, [{cpu}]); os.nice(-20); print(flush=True)\nwhile True: pass",
        ),
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    process.stdout.readline()
    rank(process.pid, -20)
    try:
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def rank(pid: int, nice: int) -> None:
    """Where sessions share a CPU fairly (sched_autogroup), the niceness of one."""
    with contextlib.suppress(FileNotFoundError):
        write(str(nice), f"/proc/{pid}/autogroup")


def starve(pid: int) -> int:
    """Let a program have what nobody else wants of one CPU, which is told."""
    cpu = max(os.sched_getaffinity(0))
    rank(pid, 19)
    os.sched_setaffinity(pid, [cpu])
    os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    return cpu


@as_root
def test_a_starved_program_is_told_from_one_that_hangs_and_lives(beating):
    running, pid = beating(watchdog_s=0.8, source=BUSY)
    with hogs(starve(pid)):
        starved = running.wait_for("starved")
        assert status_of(running)["starved"]
    assert starved["because"].startswith("starved: ")
    assert starved["silent_s"] >= starved["allowed_s"] == 0.8
    assert 2 * starved["waited_s"] >= starved["window_s"] or not starved["ran_s"]
    running.wait_for("beats-again")
    assert not status_of(running)["starved"]
    stays_up(running, pid, 0.8)
    os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))


@as_root
def test_a_program_that_is_starved_for_ever_hangs_in_the_end_and_its_report_says_why(beating):
    running, pid = beating(watchdog_s=0.3, source=BUSY)
    with hogs(starve(pid)):
        running.wait_for("starved")
        hang = running.wait_for("hang")
    assert hang["because"].startswith("starved: ")
    assert hang["silent_s"] >= 0.6
    assert "starved" in running.wait_for("analysed")["summary"]


def test_a_stopped_program_is_told_as_stopped_and_goes_on_with_cont(beating):
    running, pid = beating()
    os.kill(pid, signal.SIGSTOP)
    late = running.wait_for("beat-late")
    assert (late["cause"], late["because"]) == ("stopped", "stopped by SIGSTOP")
    assert status_of(running)["late"] == "stopped by SIGSTOP"
    os.kill(pid, signal.SIGCONT)
    running.wait_for("beats-again", cause="stopped")
    stays_up(running, pid, 2 * WATCHDOG_S)


def test_a_program_that_stays_stopped_is_restarted_and_the_report_says_by_what(gimli, beating):
    """It can take the ABRT that ends it: no need to wait for the stop interval, here of a minute."""
    running, pid = beating()
    os.kill(pid, signal.SIGSTOP)
    assert running.wait_for("hang")["because"] == "stopped by SIGSTOP"
    assert running.wait_for("sent", signal="SIGCONT")["pid"] == pid
    assert running.wait_for("started")["pid"] != pid
    assert running.wait_for("analysed")["summary"] == "stopped by SIGSTOP"


def test_a_stopped_program_takes_the_term_that_the_operator_wants_it_to(beating):
    running, pid = beating("--watchdog-stop", "1h", watchdog_s=60)
    os.kill(pid, signal.SIGSTOP)
    os.kill(running.pid, signal.SIGTERM)
    assert running.wait() == 143


def test_a_program_that_hangs_has_no_grace(beating):
    running, pid = beating(watchdog_s=1)
    hang = ends_by_hang(running, pid)
    assert "because" not in hang
    assert hang["late_ms"] < 1000
    assert not running.events("starved")
    assert not running.events("beat-late")


def test_a_monitor_that_slept_blames_no_program_that_beat_on(beating):
    running, pid = beating()
    running.send(signal.SIGSTOP)
    stays_up(running, pid, 3 * WATCHDOG_S)
    running.send(signal.SIGCONT)
    assert status_of(running)["state"] == "running"
    stays_up(running, pid, 2 * WATCHDOG_S)


def test_a_monitor_that_slept_with_its_program_gives_it_fresh_time(beating):
    """As when a virtual machine is paused: both were stopped, and the clock ran on."""
    running, pid = beating()
    os.kill(pid, signal.SIGSTOP)
    running.send(signal.SIGSTOP)
    assert not running._is_ended(3 * WATCHDOG_S)
    running.send(signal.SIGCONT)
    late = running.wait_for("beat-late")
    os.kill(pid, signal.SIGCONT)
    assert late["cause"] == "monitor late"
    assert late["monitor_late_s"] > WATCHDOG_S
    running.wait_for("beats-again", cause="monitor late")
    stays_up(running, pid, 2 * WATCHDOG_S)


@contextlib.contextmanager
def cgroup(root: str) -> Iterator[str]:
    path = os.path.join(root, f"gimli-test-{os.getpid()}")
    os.mkdir(path)
    try:
        yield path
    finally:
        while True:
            with open(os.path.join(path, "cgroup.procs"), encoding="ascii") as file:
                members = file.read().split()
            if not members:
                break
            for pid in members:
                with (
                    contextlib.suppress(ProcessLookupError),
                    open(os.path.join(root, "cgroup.procs"), "w", encoding="ascii") as file,
                ):
                    file.write(pid)
        os.rmdir(path)


def write(text: str, *path: str) -> None:
    with open(os.path.join(*path), "w", encoding="ascii") as file:
        file.write(text)


@as_root
@pytest.mark.skipif(not os.access(FREEZER, os.W_OK), reason="needs the freezer of cgroups, version 1")
def test_a_frozen_program_is_told_as_frozen(beating):
    running, pid = beating()
    with cgroup(FREEZER) as path:
        write(str(pid), path, "cgroup.procs")
        write("FROZEN", path, "freezer.state")
        try:
            assert running.wait_for("beat-late")["cause"] == "frozen"
        finally:
            write("THAWED", path, "freezer.state")
        running.wait_for("beats-again", cause="frozen")
        stays_up(running, pid, WATCHDOG_S)


@as_root
@pytest.mark.skipif(
    not os.access(os.path.join(QUOTAS, "cpu.cfs_quota_us"), os.F_OK)
    and not os.access(os.path.join(QUOTAS, "cpu.shares"), os.F_OK),
    reason="needs the cpu controller of cgroups, version 1",
)
def test_a_program_held_back_by_its_quota_is_told_as_starved(beating):
    running, pid = beating(source=BUSY)
    with cgroup(QUOTAS) as path:
        if not os.path.exists(os.path.join(path, "cpu.cfs_quota_us")):
            pytest.skip("this kernel has no quotas")
        write("1000000", path, "cpu.cfs_period_us")
        write("1000", path, "cpu.cfs_quota_us")
        write(str(pid), path, "cgroup.procs")
        starved = running.wait_for("starved")
        write("-1", path, "cpu.cfs_quota_us")
        # The kernel adds up how long it was held back when that is over: the first time, it is not yet.
        assert starved["cause"] in {"throttled", "starved"}
        running.wait_for("beats-again")
