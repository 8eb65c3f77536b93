"""``gimli run``, for real: one service in the foreground, whatever it does."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest

from gimli import journal

pytestmark = pytest.mark.real

UP = "print('up', flush=True); "
WAIT = UP + "import signal; signal.pause()"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + UP + "\nwhile True: signal.pause()"
BEAT = "from gimli import client; client.beat(); "
HANG = BEAT + WAIT
CRASH = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")


def output_of(running, expected: str) -> None:
    """Wait until the program has said something: its output goes by the monitor, which tells followers."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        if not running.pids():
            running.wait_for("started")
        peer.connect(running.socket_path)
        peer.sendall(b'{"schema": 1, "call": "logs", "service": "app", "lines": 100, "follow": true}\n')
        text = ""
        with peer.makefile("rb") as lines:
            while expected not in text:
                text += json.loads(lines.readline())["text"]


# Exit statuses.


@pytest.mark.parametrize(
    ("options", "script", "status"),
    [
        ((), "exit 0", 0),
        ((), "exit 3", 3),
        (("--restart", "never"), "kill -SEGV $$", 139),
        (("--restart", "never", "--no-preload"), "kill -SEGV $$", 139),
        (("--restart", "never"), "kill -KILL $$", 137),
        ((), "kill -TERM $$", 143),
    ],
)
def test_the_exit_status_is_the_programs_own(gimli, options, script, status):
    assert gimli.call("run", *options, "--", "sh", "-c", script).returncode == status


@pytest.mark.parametrize(
    ("command", "status", "why"),
    [
        ("./nothing", 127, "there is no such file"),
        ("no-such-program", 127, "no directory of PATH has it"),
        ("./plain", 126, "permission denied: it is not executable"),
        ("./directory", 126, "it is a directory"),
    ],
)
def test_what_cannot_be_executed_is_said_before_anything_is_started(gimli, command, status, why):
    gimli.write("plain", "not a program")
    os.mkdir(os.path.join(gimli.directory, "directory"))
    done = gimli.call("run", "--", command)
    assert done.returncode == status
    assert why in done.stderr
    assert not os.path.exists(gimli.runtime_dir)


def test_a_script_whose_interpreter_is_missing_fails_at_exec(gimli):
    os.chmod(gimli.write("script", "#!/no/such/interpreter\n"), 0o755)
    done = gimli.call("run", "--restart", "never", "--", "./script")
    assert done.returncode == 127
    assert "script: cannot start: ./script: No such file" in done.stderr
    assert "No such file or directory" in done.stderr


@pytest.mark.parametrize(
    "option", [("--watchdog", "soon"), ("--backoff", "2s..1s"), ("--env", "A"), ("--name", "a/b")]
)
def test_a_wrong_option_is_status_2(gimli, option):
    done = gimli.call("run", *option, "--", "true")
    assert done.returncode == 2
    assert done.stderr.startswith("gimli: ")


def test_nothing_is_left_in_the_runtime_directory(gimli):
    gimli.call("run", "--", "true")
    assert os.listdir(gimli.runtime_dir) == []


# Ending it.


def test_term_to_the_monitor_ends_the_program_then_the_monitor(gimli, python):
    running = gimli.run(command=python(WAIT))
    output_of(running, "up")
    running.send(signal.SIGTERM)
    received = running.wait_for("signal", signal="SIGTERM")
    assert received["sender"]["pid"] == os.getpid()
    assert running.wait_for("sent", signal="SIGTERM")["because"] == "asked to stop"
    assert running.wait() == 143


def test_a_second_int_does_not_wait_for_a_program_that_ignores_term(gimli, python):
    running = gimli.run("--watchdog-stop", "1h", command=python(DEAF))
    output_of(running, "up")
    running.send(signal.SIGINT)
    running.wait_for("sent", signal="SIGTERM")
    running.send(signal.SIGINT)
    running.wait_for("sent", signal="SIGKILL")
    assert running.wait() == 137


def test_a_program_that_ignores_term_is_killed_with_its_group_after_its_interval(gimli, python):
    child = "import subprocess; child = subprocess.Popen(['sleep', '1h']); "
    child += "open('child', 'w').write(str(child.pid)); "
    running = gimli.run("--watchdog-stop", "100ms", command=python(child + DEAF))
    output_of(running, "up")
    child_pid = int(gimli.read("child"))
    pidfd = os.pidfd_open(child_pid)
    running.send(signal.SIGTERM)
    running.wait_for("sent", signal="SIGKILL")
    assert running.wait() == 137
    assert select.select([pidfd], [], [], 20)[0], "the child of the program lives"
    os.close(pidfd)


def test_a_stop_right_after_the_start_is_never_lost(gimli, python):
    """TERM and INT as fast as they can be sent, at a moment between fork and exec or thereabouts."""
    running = gimli.run("--watchdog-stop", "1h", command=python(DEAF))
    running.wait_for("monitor-started")
    running.send(signal.SIGTERM)
    with contextlib.suppress(ProcessLookupError):
        running.send(signal.SIGINT)
    assert running.wait() in {137, 143}


def test_it_is_stopped_while_it_is_being_captured(gimli, python):
    running = gimli.run(command=python(CRASH))
    running.wait_for("snapshot")
    running.send(signal.SIGTERM)
    assert running.wait() == 139
    assert len(running.pids()) == 1
    assert running.events("report") or [entry for entry in running.seen if "report" in entry]


# Output.


def test_output_passes_in_order(gimli):
    done = gimli.call("run", "--", "sh", "-c", "for i in $(seq 2000); do echo out $i; done; echo end >&2")
    assert done.stdout.splitlines() == [f"out {i}" for i in range(1, 2001)] + ["end"]
    assert gimli.read("state/logs/sh.log") == done.stdout


@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2), (0, 1, 2)])
def test_closed_descriptors_do_no_harm(gimli, closed):
    """A file of the monitor's would get their numbers, and the output that was meant for a terminal."""
    redirections = " ".join(f"{fd}>&-" if fd else "<&-" for fd in closed)
    command = " ".join(["exec", *map(shell_word, gimli_command("run", "--", "sh", "-c", SHOW)), redirections])
    done = subprocess.run(
        ["sh", "-c", command], env=gimli.environment, cwd=gimli.directory, timeout=20, check=False
    )
    assert done.returncode == 3
    fds = gimli.read("state/logs/sh.log").splitlines()
    assert len(fds) == 3
    assert all(fds[fd] == "/dev/null" for fd in closed)
    assert os.listdir(gimli.runtime_dir) == []


SHOW = "for fd in 0 1 2; do readlink /proc/$PPID/fd/$fd; done; exit 3"


def gimli_command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from gimli.cli import main; main()", *arguments]


def shell_word(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def test_a_reader_that_has_gone_does_no_harm(gimli):
    read_fd, write_fd = os.pipe()
    process = gimli.popen("run", "--", "sh", "-c", "seq 1000; exit 4", stdout=write_fd)
    os.close(write_fd)
    os.close(read_fd)
    assert process.wait(20) == 4
    assert gimli.read("state/logs/sh.log").split() == [str(i) for i in range(1, 1001)]


def test_a_reader_that_does_not_read_stops_nothing(gimli):
    read_fd, write_fd = os.pipe()
    process = gimli.popen("run", "--", "sh", "-c", "seq 100000; exit 4", stdout=write_fd)
    os.close(write_fd)
    assert process.wait(20) == 4
    os.close(read_fd)
    assert gimli.read("state/logs/sh.log").endswith("\n100000\n")


def test_a_flood_stays_below_the_cap(gimli):
    """90 MB from a program that never stops to think: the file and five predecessors, whole lines."""
    done = gimli.call("run", "--log", "app.log", "--", "sh", "-c", "seq 10000000 20000000")
    assert done.returncode == 0
    names = ["app.log", *(f"app.log.{number}" for number in range(1, 6))]
    assert all(os.stat(os.path.join(gimli.directory, name)).st_size <= 10_000_000 for name in names)
    lines = "".join(gimli.read(name) for name in reversed(names)).split()
    assert lines == [str(number) for number in range(20000001 - len(lines), 20000001)]
    assert not os.path.exists(os.path.join(gimli.directory, "app.log.6"))


def test_more_of_a_log_than_the_monitor_would_send_is_its_end(gimli):
    running = gimli.run(command=("sh", "-c", "seq 1000000; kill -ALRM $PPID; exec sleep 1h"))
    running.wait_for("signal", signal="SIGALRM")
    lines = gimli.call("logs", "app", "-n", "1000000").stdout.split()
    assert len(lines) > 50_000
    assert lines == [str(number) for number in range(1_000_001 - len(lines), 1_000_001)]


def test_hup_reopens_a_log_that_was_renamed(gimli, python):
    script = (
        UP
        + "import signal\nfor i in range(9): signal.sigwait([signal.SIGUSR1]); print('said', i, flush=True)"
    )
    blocked = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); "
    running = gimli.run("--log", "app.log", command=python(blocked + script))
    output_of(running, "up\n")  # the line end is written by itself: into the old file
    pid = running.pids()[0]
    path = os.path.join(gimli.directory, "app.log")
    os.rename(path, path + ".kept")
    running.send(signal.SIGHUP)
    running.wait_for("signal", signal="SIGHUP")
    os.kill(pid, signal.SIGUSR1)
    process = gimli.popen("logs", "app", "-f", stdout=subprocess.PIPE)
    assert gimli.read_line(process) == "said 0\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert gimli.read("app.log.kept") == "up\n"
    assert gimli.read("app.log") == "said 0\n"


# Faults.


def test_a_crash_is_captured_and_the_program_restarted(gimli, python):
    script = "import os, signal\nif os.path.exists('again'): print('up', flush=True); signal.pause()\n"
    script += "open('again', 'w').close(); "
    running = gimli.run(command=python(script + "os.kill(os.getpid(), 11)"))
    crash = running.wait_for("crash", signo=11)
    running.wait_for("snapshot", reason="crash", pid=crash["pid"])
    running.wait_for("exited", status="SIGSEGV")
    again = running.wait_for("started", restarts=1)
    assert again["after_ms"] < 1000
    running.wait_for("analysed")
    assert gimli.service()["last_report"]["reason"] == "crash"
    assert "restarted as pid" in gimli.read("stderr")


def test_killed_by_somebody_it_is_restarted(gimli, python):
    running = gimli.run(command=python(WAIT))
    pid = running.wait_for("started")["pid"]
    os.kill(pid, signal.SIGKILL)
    assert running.wait_for("exited")["status"] == "SIGKILL"
    assert running.wait_for("started", restarts=1)["pid"] != pid


def test_a_program_that_ends_again_and_again_fails_and_its_status_is_the_last(gimli):
    done = gimli.call("run", "--restart", "always", "--backoff", "1ms", "--", "sh", "-c", "exit 7")
    assert done.returncode == 7
    assert "ended 15 times in a row, last by exit 7" in done.stderr
    assert sum("sh restarted as pid" in line for line in done.stderr.splitlines()) == 14


def test_a_program_that_vanishes_is_tried_again_and_found(gimli):
    script = os.path.join(gimli.directory, "script")
    gimli.write("script", "#!/bin/sh\nmv script elsewhere; kill -KILL $$\n")
    os.chmod(script, 0o755)
    running = gimli.run("--backoff", "50ms", command=("./script",))
    running.wait_for("exec-failed", failures=2)
    os.chmod(gimli.write("elsewhere", "#!/bin/sh\nexit 5\n"), 0o755)
    os.rename(os.path.join(gimli.directory, "elsewhere"), script)
    assert running.wait() == 5


def test_killed_while_it_is_being_captured_it_is_restarted(gimli, python):
    """The capture fails or not; the service must come back either way."""
    running = gimli.run("--watchdog", "100ms", command=python(HANG))
    pid = running.wait_for("snapshot", reason="hang")["pid"]
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    assert running.wait_for("exited", pid=pid)["signo"] in {signal.SIGKILL, signal.SIGABRT}
    running.wait_for("started", restarts=1)


# The watchdog.


def test_a_python_program_that_hangs_is_noticed_on_time_captured_and_restarted(gimli, python):
    running = gimli.run(
        "--watchdog", "200ms", command=python(BEAT + "client.note('counting sheep'); " + WAIT)
    )
    hang = running.wait_for("hang")
    print(f"noticed {hang['late_ms']} ms late")
    assert 0 <= hang["late_ms"] < 100
    assert hang["silent_s"] == pytest.approx(hang["allowed_s"] + hang["late_ms"] / 1000, abs=0.001)
    running.wait_for("released")
    running.wait_for("sent", signal="SIGABRT")
    running.wait_for("exited", status="SIGABRT")
    running.wait_for("started", restarts=1)


def test_a_hung_program_that_ignores_abrt_is_killed_after_its_interval(gimli, python):
    script = (
        "import signal; signal.signal(signal.SIGABRT, signal.SIG_IGN); "
        + BEAT
        + "\nwhile True: signal.pause()"
    )
    running = gimli.run("--watchdog", "100ms", "--watchdog-stop", "200ms", command=python(script))
    abrt = running.wait_for("sent", signal="SIGABRT")
    kill = running.wait_for("sent", signal="SIGKILL")
    assert 0.2 <= (kill["monotonic_ns"] - abrt["monotonic_ns"]) / 1e9 < 1
    running.wait_for("exited", status="SIGKILL")
    running.wait_for("started", restarts=1)


def test_while_it_starts_a_program_has_its_start_interval(gimli, python):
    script = "from gimli import client; client.starting(); " + WAIT
    running = gimli.run("--watchdog", "1ms", "--watchdog-start", "300ms", command=python(script))
    running.wait_for("heartbeat", state="starting")
    assert running.wait_for("hang")["allowed_s"] == 0.3


def test_a_program_that_says_it_stops_has_the_stop_interval_and_is_then_killed(gimli, python):
    script = BEAT + "client.stopping(); " + WAIT
    running = gimli.run("--watchdog-stop", "200ms", "--restart", "never", command=python(script))
    running.wait_for("heartbeat", state="stopping")
    running.wait_for("sent", signal="SIGKILL")
    assert running.wait() == 137


def test_a_silent_thread_among_healthy_ones_is_named(gimli, python):
    script = """
import threading, time
from gimli import client
def stuck():
    with client.pulse("writer-2", 0.2):
        threading.Event().wait()
threading.Thread(target=stuck).start()
while True:
    client.beat()
    time.sleep(0.02)
"""
    running = gimli.run("--watchdog", "10s", command=python(script))
    hang = running.wait_for("hang")
    assert hang["pulse"] == "writer-2"
    assert hang["tid"] not in {None, running.pids()[0]}


def test_a_program_that_beats_goes_on_after_its_snapshot(gimli, python):
    script = "import time\n" + BEAT + UP + "\nwhile True: client.beat(); time.sleep(0.02)"
    running = gimli.run("--watchdog", "500ms", command=python(script))
    output_of(running, "up")
    done = gimli.call("snapshot", "app")
    assert done.returncode == 0, done.stderr
    running.wait_for("released")
    assert gimli.service()["pid"] == running.pids()[0]
    running.send(signal.SIGTERM)
    running.wait()
    assert not running.events("hang")


def test_the_time_it_was_stopped_for_a_snapshot_is_not_its_silence(gimli, python):
    running = gimli.run("--watchdog", "700ms", "--restart", "never", command=python(HANG))
    running.wait_for("heartbeat", state="running")
    assert gimli.call("snapshot", "app").returncode == 0
    released, hang = running.wait_for("released"), running.wait_for("hang")
    assert hang["monotonic_ns"] - released["monotonic_ns"] >= 700_000_000


# Programs that harm their page.

PAGE = "import os, struct, mmap, socket; fd = int(os.environ['GIMLI_HB_FD'])\n"
RING = "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'app', os.environ['GIMLI_BELL'])\n"


@pytest.mark.parametrize(
    ("harm", "damaged"),
    [
        ("os.pwrite(fd, b'\\xa5' * 4096, 0)\n", True),
        ("os.ftruncate(fd, 0)\n", True),
        ("os.ftruncate(fd, 10)\n", True),
        ("os.pwrite(fd, os.urandom(3584), 512)\n", False),
        ("os.pwrite(fd, struct.pack('<IiQQ', 2, 7, 2**64 - 1, 1), 512)\n", False),  # a pulse of centuries
        ("os.close(fd)\n", False),
    ],
    ids=["garbage", "truncated", "shortened", "garbage in the pulses", "a pulse of centuries", "closed"],
)
def test_a_program_that_overwrites_its_page_harms_itself_alone(gimli, python, harm, damaged):
    """Also by a pulse with garbage in it, which hangs at once: the monitor captures it and goes on."""
    running = gimli.run(
        "--watchdog-stop", "100ms", "--backoff", "1h", command=python(PAGE + harm + RING + WAIT)
    )
    output_of(running, "up")
    if damaged:
        running.wait_for("heartbeat-damaged")
    service = gimli.service()
    assert service["state"] in ({"running"} if damaged else {"running", "capturing", "stopping", "backoff"})
    running.send(signal.SIGTERM)
    running.wait_for("monitor-ended")


def test_a_page_that_names_a_stranger_has_nobody_captured(gimli, python):
    """A program may write any pid there; the monitor may be root."""
    forge = "os.pwrite(fd, struct.pack('<iiQiiI', 11, 1, 0, os.getppid(), os.getppid(), 7), 32)\n"
    running = gimli.run(command=python(PAGE + forge + RING + WAIT))
    assert running.wait_for("crash-refused")["pid"] == running.pid
    output_of(running, "up")
    running.send(signal.SIGTERM)
    assert running.wait() == 143
    assert not running.events("snapshot")


@pytest.mark.parametrize("library", [(), ("--no-preload",)])
def test_usr2_without_a_stop_does_not_end_the_monitor(gimli, library):
    """Half of the original's crash protocol, and it has ended before the monitor, held here, hears of it."""
    script = "read go; kill -STOP $PPID; kill -USR2 $PPID; exit 6"
    running = gimli.run(*library, command=("sh", "-c", script), stdin=subprocess.PIPE)
    pidfd = os.pidfd_open(running.wait_for("started")["pid"])
    running.process.stdin.close()
    assert select.select([pidfd], [], [], 20)[0]
    os.close(pidfd)
    running.send(signal.SIGCONT)
    assert running.wait() == 6
    assert running.events("signal")[0]["signal"] == "SIGUSR2"


# The original library: ticks, USR1, USR2 and STOP.


@pytest.fixture(scope="module")
def original_client(tmp_path_factory):
    source = os.path.join(os.path.dirname(__file__), os.pardir, "programs", "original_client.c")
    compiler = shutil.which("gcc") or pytest.skip("needs gcc")
    path = str(tmp_path_factory.mktemp("original") / "client")
    subprocess.run([compiler, "-g", "-o", path, source], check=True)
    return path


@pytest.mark.parametrize("library", [(), ("--no-preload",)])
def test_a_program_of_the_original_library_is_captured_continued_and_dies_by_its_signal(
    gimli, original_client, library
):
    running = gimli.run("--restart", "never", *library, command=(original_client, "crash"))
    crash = running.wait_for("crash")
    assert running.wait_for("snapshot")["pid"] == crash["pid"]
    assert running.wait_for("released")["pause_ms"] < 1000
    running.wait_for("exited", status="SIGSEGV")
    assert running.wait() == 139
    assert running.events("report")


def test_a_program_of_the_original_library_that_hangs_is_noticed(gimli, original_client):
    """It rings no bell when it attaches: the monitor has to look."""
    running = gimli.run(
        "--watchdog", "200ms", "--restart", "never", "--no-preload", command=(original_client, "hang")
    )
    running.wait_for("heartbeat", state="running")
    running.wait_for("hang")
    running.wait_for("sent", signal="SIGABRT")
    assert running.wait() == 134


def test_usr1_is_a_beat(gimli, original_client):
    options = ("--watchdog", "500ms", "--watchdog-stop", "100ms", "--no-preload")
    running = gimli.run(*options, command=(original_client, "signal"))
    running.wait_for("heartbeat", state="running")
    output_of(running, "running")
    assert gimli.service()["beat_age_s"] < 0.5
    os.kill(running.pids()[0], signal.SIGSTOP)
    assert running.wait_for("beat-late")["cause"] == "stopped"
    assert running.wait_for("hang")["late_ms"] < 100


# One monitor for one name.


def test_a_second_monitor_of_the_same_name_is_refused(gimli, python):
    running = gimli.run(command=python(WAIT))
    running.wait_for("started")
    done = gimli.call("run", "--name", "app", "--", "true")
    assert done.returncode == 1
    assert "a monitor for 'run.app' runs already" in done.stderr
    assert f"pid {running.pid} holds" in done.stderr
    assert gimli.service()["state"] == "running"


def test_of_many_that_start_at_once_one_runs(gimli, python):
    processes = [
        gimli.popen(
            "run", "--name", "app", "--", *python("input()"), stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    for process in processes:
        process.stdin.close()
    statuses = [process.wait(20) for process in processes]
    refused = [process for process in processes if "runs already" in process.stderr.read()]
    assert len(refused) == statuses.count(1) - (len(processes) - len(refused))
    entries = list(journal.read(os.path.join(gimli.state_dir, "journal", "run.app.jsonl")))
    running = 0
    for entry in entries:
        running += {"monitor-started": 1, "monitor-ended": -1}.get(entry["event"], 0)
        assert running in {0, 1}, "two monitors"


def test_what_a_killed_monitor_has_left_does_not_stop_the_next(gimli, python):
    running = gimli.run(command=python(WAIT))
    pid = running.wait_for("started")["pid"]
    running.send(signal.SIGKILL)
    running.wait()
    os.kill(pid, signal.SIGKILL)
    assert gimli.call("run", "--name", "app", "--", "sh", "-c", "exit 8").returncode == 8


# Directories and disks.


def test_a_runtime_directory_that_was_cleaned_up_does_not_disturb_the_end(gimli, python):
    """In /tmp that happens after ten days. What is left is to end with the program's status."""
    running = gimli.run(command=python(WAIT))
    output_of(running, "up")
    shutil.rmtree(gimli.runtime_dir)
    running.send(signal.SIGTERM)
    assert running.wait() == 143


def test_a_state_directory_that_is_a_file_is_refused(gimli):
    gimli.write("state", "")
    done = gimli.call("run", "--", "true")
    assert done.returncode == 1
    assert "it exists and is a file" in done.stderr
    assert "mv " in done.stderr


def test_a_runtime_directory_with_too_long_a_path_is_refused(gimli):
    gimli.environment["GIMLI_RUNTIME_DIR"] = os.path.join(gimli.directory, "a" * 100)
    done = gimli.call("run", "--", "true")
    assert done.returncode == 2
    assert "a unix socket may have 107" in done.stderr


@pytest.fixture
def small_disk():
    """A file system of 64 kB."""
    directory = tempfile.mkdtemp(prefix="gimli-disk-")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", directory], check=True)
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)
    os.rmdir(directory)


@as_root
def test_a_full_disk_costs_evidence_and_never_the_service(gimli, python, small_disk):
    """No report, half a journal, lost output: the service runs, is restarted, and answers."""
    gimli.state_dir = gimli.environment["GIMLI_STATE_DIR"] = os.path.join(small_disk, "state")
    noise = "import os; print('x' * 100_000, flush=True); "
    running = gimli.run("--backoff", "1ms", "--watchdog", "200ms", command=python(noise + HANG))
    running.wait_for("started", restarts=2)
    service = gimli.service()
    assert service["restarts"] >= 2
    failed = running.events("snapshot-failed")
    assert all("No space left on device" in str(entry) for entry in failed), failed
    assert len({entry["report"] for entry in failed}) == len(failed), "said twice"
    running.send(signal.SIGTERM)
    running.wait_for("monitor-ended")
    assert running.wait() in {134, 143}
    assert "Traceback" not in gimli.read("stderr")


@as_root
def test_a_read_only_state_directory_is_refused_with_words(gimli, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = gimli.call("run", "--state-dir", os.path.join(small_disk, "state"), "--", "true")
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr
    assert "--state-dir" in done.stderr


@as_root
def test_a_full_runtime_directory_is_refused_with_words(gimli, small_disk):
    with contextlib.suppress(OSError), open(os.path.join(small_disk, "fill"), "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    gimli.environment["GIMLI_RUNTIME_DIR"] = os.path.join(small_disk, "run")
    done = gimli.call("run", "--", "true")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_state_directory_whose_name_is_no_utf_8(gimli):
    """Its path is in the status and in the journal, and both are JSON."""
    directory = os.fsencode(gimli.directory) + b"/st\xe4te"
    gimli.environment["GIMLI_STATE_DIR"] = os.fsdecode(directory)
    done = gimli.call("run", "--restart", "never", "--", "sh", "-c", "kill -SEGV $$")
    assert done.returncode == 139
    assert "Traceback" not in done.stderr
    assert os.listdir(directory + b"/reports")


def test_time_is_not_wasted(gimli):
    """Not a benchmark: a guard against a second of sleep somewhere."""
    began_s = time.monotonic()
    gimli.call("run", "--", "true")
    assert time.monotonic() - began_s < 5


def test_output_that_cannot_be_written_is_said_once(gimli):
    """/dev/full stands for a full disk: the program goes on, and its loss is one event."""
    script = "for i in 1 2 3; do echo line $i; sleep 0.05; done"
    running = gimli.run("--log", "/dev/full", command=("sh", "-c", script))
    assert running.wait() == 0
    running.wait_for("monitor-ended")
    assert len(running.events("output-lost")) == 1


def test_a_second_int_during_a_snapshot_does_not_wait_for_the_stop_interval(gimli, python):
    """Haste asked for while it is captured is remembered until it is released."""
    source = """
import signal, time
from gimli import client
signal.signal(signal.SIGTERM, signal.SIG_IGN)
client.running()
time.sleep(99)
"""
    running = gimli.run("--watchdog-stop", "60s", command=python(source))
    running.wait_for("heartbeat", state="running")
    gimli.popen("snapshot", "app")
    running.wait_for("snapshot")
    running.send(signal.SIGINT)
    running.send(signal.SIGTERM)  # another one: two of a kind are one to the kernel
    running.wait_for("sent", signal="SIGKILL")
    assert running.wait() == 137
