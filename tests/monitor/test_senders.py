"""Who sent it: asked of the real kernel, in the test's own process and of a whole monitor."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from gimli.errors import GimliError
from gimli.journal import Journal
from gimli.loop import Loop
from gimli.monitor import trace
from gimli.monitor.senders import Senders
from gimli.signals import Received

pytestmark = pytest.mark.real

PR_CAPBSET_DROP, CAP_SYS_ADMIN = 24, 21
libc = ctypes.CDLL(None)


def bury_all_children() -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


@pytest.fixture(scope="module")
def the_trace():
    """Skips where the kernel or our rights do not allow one."""
    try:
        trace.Trace("probe").remove()
    except GimliError as error:
        pytest.skip(error.why)
    bury_all_children()


traced = pytest.mark.usefixtures("the_trace")


def instances() -> set[str]:
    """Those of this host, whether tracefs is mounted anywhere or not."""
    fs_fd = trace._mount()
    directory = os.open("instances", os.O_RDONLY, dir_fd=fs_fd)
    try:
        return set(os.listdir(directory))
    finally:
        os.close(directory)
        os.close(fs_fd)


class Asking:
    """Senders without a monitor."""

    def __init__(self, directory: str) -> None:
        self.loop = Loop()
        self.journal = Journal(os.path.join(directory, "journal"))
        self.told = []
        self.journal.subscribers.append(self.told.append)
        self.senders = Senders(self.loop, self.journal, "test", directory)
        self.started_ns = time.monotonic_ns()

    def start(self) -> None:
        """Until the journal knows which of the two it is."""
        self.senders.start()
        while not self.told:
            self.loop.run_once()

    def death_of(self, victim: subprocess.Popen, signo: int = signal.SIGKILL):
        """What is known of the end of a process."""
        victim.wait(20)
        return self.senders.of_death(victim.pid, signo, started_ns=self.started_ns)

    def received(self, signo: int, pid: int) -> list[dict]:
        """Who is told when the test's own process has received a signal."""
        return self.senders.of_signal(Received(signo, 0, pid, 0))


@pytest.fixture
def ask():
    with tempfile.TemporaryDirectory(prefix="gimli-") as directory:
        made = []

        def make() -> Asking:
            made.append(Asking(directory))
            return made[-1]

        yield make
        for each in made:
            each.senders.close()
        bury_all_children()


@pytest.fixture
def victim():
    with subprocess.Popen(["sleep", "1h"]) as process:
        yield process
        process.kill()


@pytest.fixture
def hup_survived():
    """HUPs to this process are noted by the kernel and do nothing. Not blocked: it may have other threads."""
    before = signal.signal(signal.SIGHUP, lambda *_: None)
    yield
    signal.signal(signal.SIGHUP, before)


def shell(command: str) -> int:
    """Run a shell to its end and bury it; its pid. ``kill`` is built into it."""
    with subprocess.Popen(["sh", "-c", command]) as process:
        assert process.wait(20) == 0
    return process.pid


@traced
def test_a_killer_that_is_gone_has_a_name_and_a_parent(ask, victim):
    asking = ask()
    asking.start()
    assert asking.told[0]["source"] == "trace"
    pid = shell(f"kill -9 {victim.pid}")
    death = asking.death_of(victim)
    assert death.sender["pid"] == pid
    assert death.sender["comm"] == "sh"
    assert death.sender["parent"]["pid"] == os.getpid()
    assert death.code == 0
    assert not death.oom


@traced
def test_a_killer_that_lives_has_a_command_line_as_well(ask, victim):
    asking = ask()
    asking.start()
    command = ["sh", "-c", f"kill -9 {victim.pid}; read gone"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as killer:
        death = asking.death_of(victim)
        assert death.sender["pid"] == killer.pid
        assert death.sender["cmdline"] == command
        assert death.sender["uid"] == os.getuid()


@traced
def test_a_fault_of_its_own_has_no_sender(ask):
    asking = ask()
    asking.start()
    for kill_itself in ("os.abort()", "ctypes.string_at(0)"):
        with subprocess.Popen([sys.executable, "-c", f"import os, ctypes; {kill_itself}"]) as process:
            process.wait(20)
        assert asking.death_of(process, -process.returncode).sender is None


@traced
def test_what_was_sent_before_a_process_was_started_was_for_another_of_its_pid(ask, victim):
    asking = ask()
    asking.start()
    victim.kill()
    asking.started_ns = time.monotonic_ns() + 60_000_000_000
    assert asking.death_of(victim).sender is None


@traced
def test_a_signal_that_was_told_before_it_was_received_is_not_told_again(ask, hup_survived):
    """It was sent between the receipt of the one before it and our look at the trace."""
    asking = ask()
    asking.start()
    pids = [shell(f"kill -HUP {os.getpid()}") for _ in range(3)]
    told = [[sender["pid"] for sender in asking.received(signal.SIGHUP, pid)] for pid in pids]
    assert told == [pids, [], []]
    last = shell(f"kill -HUP {os.getpid()}")
    assert [sender["pid"] for sender in asking.received(signal.SIGHUP, last)] == [last]


@traced
def test_beats_by_signal_leave_nothing_behind(ask):
    """The original's clients beat by USR1, for years."""
    asking = ask()
    asking.start()
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    for _ in range(10):
        os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)
    assert len(asking.received(signal.SIGHUP, os.getpid())) == 1
    assert asking.senders._ours == []
    assert len(asking.senders._last) <= 1


@traced
def test_what_a_killed_monitor_leaves_is_reused_and_removed_at_the_end(ask, victim):
    first = ask()
    first.start()
    (name,) = {each for each in instances() if each.startswith("gimli-test-") and "." not in each}
    first.senders._trace.close()  # as its death would
    first.senders._trace = None
    pid = shell(f"kill -9 {victim.pid}")
    second = ask()
    second.started_ns = first.started_ns
    second.start()
    assert second.death_of(victim).sender["pid"] == pid, "what was noted meanwhile is lost"
    second.senders.close()
    bury_all_children()  # the one that removes it among them
    assert not instances() & {name, f"{name}.births"}


@traced
def test_a_takeover_opens_the_same_trace_and_tells_nothing(ask, victim, hup_survived):
    first = ask()
    first.start()
    os.kill(os.getpid(), signal.SIGHUP)
    pid = shell(f"kill -9 {victim.pid}")
    first.senders._drain()
    packed = json.loads(json.dumps(first.senders.pack()))
    first.senders._trace.close()  # as execve does
    first.senders._trace = None
    second = ask()
    second.started_ns = first.started_ns
    second.senders.resume(packed)
    assert second.told == []
    assert second.death_of(victim).sender["pid"] == pid
    assert len(second.received(signal.SIGHUP, os.getpid())) == 1, "told by neither, or by both"


def test_without_a_trace_the_signal_itself_says_who_and_the_journal_why(ask, monkeypatch):
    asking = ask()
    monkeypatch.setattr(trace, "_INITIAL_PID_NAMESPACE", "pid:[1]")
    asking.start()
    (told,) = asking.told
    assert (told["event"], told["source"]) == ("senders", "siginfo")
    assert "pid namespace" in told["why"]
    (sender,) = asking.received(signal.SIGHUP, os.getpid())
    assert sender["comm"]
    assert sender["parent"]["pid"] == os.getppid()
    assert asking.senders.of_death(1, signal.SIGKILL, started_ns=0).sender is None


# A whole monitor.


def drop_sys_admin() -> None:
    """Between fork and exec: root without the right to trace; another user never had it."""
    libc.prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0)


def report_of(gimli, running) -> dict:
    running.wait_for("analysed")
    return json.loads(gimli.call("show", "latest", "--json").stdout)


@traced
def test_the_report_of_a_killed_service_names_the_shell_that_did_it(gimli):
    running = gimli.run("--restart", "always", command=("sleep", "1h"))
    pid = running.wait_for("started")["pid"]
    running.wait_for("senders", source="trace")
    killer = shell(f"kill -9 {pid}")
    exited = running.wait_for("exited", pid=pid)
    assert (exited["sender"]["pid"], exited["sender"]["comm"]) == (killer, "sh")
    running.wait_for("started", restarts=1)
    report = report_of(gimli, running)
    assert report["pid"] == pid
    assert report["signal"]["sender"] == exited["sender"]
    assert f"sent by sh (pid {killer}) of " in report["findings"][0]["text"]
    assert f"ended: SIGKILL, sent by sh (pid {killer}) of " in gimli.read("stderr")


@traced
def test_the_report_of_a_crash_that_was_sent_names_a_sender_that_is_gone(gimli, python):
    running = gimli.run("--restart", "never", command=python("import signal; signal.pause()"))
    pid = running.wait_for("started")["pid"]
    running.wait_for("senders", source="trace")
    os.kill(running.pid, signal.SIGSTOP)  # until the sender is gone
    killer = shell(f"kill -SEGV {pid}")
    os.kill(running.pid, signal.SIGCONT)
    assert running.wait_for("exited", pid=pid)["sender"]["pid"] == killer
    sender = report_of(gimli, running)["signal"]["sender"]
    assert (sender["pid"], sender["comm"], sender["parent"]["pid"]) == (killer, "sh", os.getpid())


@traced
def test_a_hundred_hups_are_few_lines_with_the_right_total(gimli):
    running = gimli.run(command=("sleep", "1h"))
    running.wait_for("started")
    running.wait_for("senders", source="trace")
    running.send(signal.SIGSTOP)  # until all are pending: the kernel merges them into one
    for _ in range(100):
        running.send(signal.SIGHUP)
    running.send(signal.SIGCONT)
    running.wait_for("signal", signal="SIGHUP")
    running.send(signal.SIGTERM)
    running.wait()
    told = [entry for entry in running.events("signal") if entry["signal"] == "SIGHUP"]
    assert sum(entry.get("repeats", 1) for entry in told) == 100
    assert len(told) <= 4
    assert "HUP from " in (shown := gimli.call("events").stdout)
    assert " x" in shown


def test_without_the_rights_of_root_the_journal_says_what_is_not_known(gimli):
    """Not as another user, who might not be let into the directory of this Python."""
    running = gimli.run("--restart", "never", command=("sleep", "1h"), preexec_fn=drop_sys_admin)
    told = running.wait_for("senders")
    pid = running.wait_for("started")["pid"]
    assert told["source"] == "siginfo"
    assert "root" in told["why"]
    running.send(signal.SIGHUP)
    assert running.wait_for("signal", signal="SIGHUP")["sender"]["pid"] == os.getpid()
    os.kill(pid, signal.SIGKILL)
    assert running.wait_for("exited", pid=pid)["sender"] is None
    running.wait_for("analysed", summary="killed by SIGKILL, sender unknown")


@traced
@pytest.mark.skipif(not shutil.which("logrotate"), reason="needs logrotate")
def test_two_hups_of_a_real_logrotate_are_one_line_that_names_it(gimli):
    """The first incident: two logs in one stanza, no sharedscripts, and shells that are gone at once."""
    running = gimli.run(command=("sleep", "1h"))
    running.wait_for("senders", source="trace")
    for name in ("access.log", "error.log"):
        gimli.write(name, "a line\n")
    stanza = f"{gimli.directory}/*.log {{\n rotate 2\n postrotate\n kill -HUP {running.pid}\n endscript\n}}\n"
    conf, state = gimli.write("conf", stanza), os.path.join(gimli.directory, "logrotate.state")
    os.chmod(conf, 0o644)
    subprocess.run(["logrotate", "--force", "--state", state, conf], check=True, timeout=20)
    running.send(signal.SIGTERM)
    running.wait()
    (line,) = [each for each in gimli.call("events").stdout.splitlines() if "HUP from" in each]
    assert re.search(r"HUP from sh\(\d+\) < logrotate\(\d+\) < .*   x2 within \S+ ms$", line), line


@pytest.fixture
def small_cgroup():
    """A cgroup of 40 MB, of version 1 or 2; whoever writes its pid into the path is in it."""
    for top, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        directory = os.path.join("/sys/fs/cgroup", top, f"gimli-test-{os.getpid()}")
        try:
            os.mkdir(directory)
        except OSError:
            continue
        try:
            with open(os.path.join(directory, limit), "w", encoding="ascii") as file:
                file.write("40000000")
        except OSError:
            os.rmdir(directory)
            continue
        yield os.path.join(directory, "cgroup.procs")
        os.rmdir(directory)
        return
    pytest.skip("no cgroup with a memory limit can be made here")


@traced
def test_the_oom_killer_is_told_apart_from_any_other(gimli, small_cgroup):
    eat = "import os\nkept = []\nwhile True: kept.append(os.urandom(1 << 20))"
    program = f'echo $$ > {small_cgroup}; read go < go; exec {sys.executable} -c "$0"'
    os.mkfifo(os.path.join(gimli.directory, "go"))
    running = gimli.run("--restart", "never", command=("sh", "-c", program, eat))
    running.wait_for("senders", source="trace")
    gimli.write("go", "now\n")
    exited = running.wait_for("exited", status="SIGKILL")
    assert exited["oom"] is True
    assert exited["sender"]["comm"] == "kernel"
    assert 10e6 < exited["anon_rss_bytes"] < 40e6
    report = report_of(gimli, running)
    assert report["findings"][0]["kind"] == "out-of-memory"
    assert "ended: SIGKILL, sent by the kernel, which was out of memory" in gimli.read("stderr")


def test_a_kill_that_the_operator_asked_for_makes_no_report(gimli):
    running = gimli.run("--restart", "always", command=("sleep", "1h"))
    pid = running.wait_for("started")["pid"]
    assert gimli.call("signal", "app", "KILL").returncode == 0
    assert running.wait_for("exited", pid=pid)["ordered"] is True
    running.wait_for("started", restarts=1)
    running.send(signal.SIGTERM)
    running.wait()
    assert not running.events("snapshot")
