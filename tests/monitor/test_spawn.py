"""How a program starts (libgimli/spawn.c): by the kernel's own calls, beside the monitor, in its memory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys

import pytest

from gimli.monitor import config, records
from gimli.monitor.spawn import Given, Place, Surroundings, exec_failure, load_spawner

pytestmark = pytest.mark.real

PATIENCE_S = 20.0

BOOT_ID = "5f1a0b1c-9f0e-4d5a-8b9c-0123456789ab"


class Starter:
    """Starts commands whose output comes back as text."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.output = os.path.join(directory, "output")
        self.spawner = load_spawner()
        with open(self.output, "x"):
            pass

    def start(self, *command: str, given: Given | None = None, output: str | None = None, **service):
        """A program, and nobody waits for its exec."""
        made = config.Service("app", command, config.Log(None), **service)
        around = Surroundings(-1, output or self.output, "bell", None, (1024, 4096), given or Given())
        return self.spawner.spawn(made, around)

    def end(self, spawned) -> tuple[str, int]:
        """Why it was not executed, and its exit status."""
        assert select.select([spawned.exec_fd], [], [], PATIENCE_S)[0]
        why = exec_failure(spawned.exec_fd)
        os.close(spawned.exec_fd)
        os.close(spawned.pidfd)
        return why, os.waitstatus_to_exitcode(os.waitpid(spawned.pid, 0)[1])

    def run(self, *command: str, **told) -> str:
        """What a program says."""
        why, status = self.end(self.start(*command, **told))
        assert (why, status) == ("", 0)
        with open(self.output) as file:
            return file.read()


@pytest.fixture
def starter(tmp_path):
    return Starter(str(tmp_path))


def write_program(path: str, text: str, mode: int = 0o755) -> str:
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)
    return path


def test_it_gets_its_arguments_and_its_environment(starter):
    said = starter.run("sh", "-c", 'echo "$0 $1 $WHO"', "zero", "", environment=(("WHO", "ü x"),))
    assert said == "zero  ü x\n"


def test_a_text_that_is_no_program_is_a_script_for_the_shell(starter, tmp_path):
    """As execvp(3) has it: a script whose author forgot the first line."""
    script = write_program(f"{tmp_path}/script", 'echo "$0 said $1"\n')
    assert starter.run(script, "this") == f"{script} said this\n"


def test_it_is_looked_for_where_its_own_path_says(starter, tmp_path):
    """Past a directory that is not there, one that is a file, and a file of its name that is no program."""
    os.mkdir(tmp_path / "first")
    os.mkdir(tmp_path / "second")
    write_program(f"{tmp_path}/first/thing", "no program", mode=0o644)
    write_program(f"{tmp_path}/second/thing", "#!/bin/sh\necho found\n")
    path = f"/nowhere:{__file__}:{tmp_path}/first:{tmp_path}/second"
    assert starter.run("thing", environment=(("PATH", path),)) == "found\n"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("./missing", "./missing: No such file or directory"),
        ("missing", "missing: No such file or directory"),
        ("/", "/: Permission denied"),
    ],
)
def test_one_that_cannot_be_executed_says_why(starter, command, why):
    assert starter.end(starter.start(command)) == (why, 127)


def test_a_file_that_is_no_program_is_the_reason_when_no_other_is_found(starter, tmp_path):
    write_program(f"{tmp_path}/thing", "no program", mode=0o644)
    environment = (("PATH", f"{tmp_path}:/nowhere"),)
    assert starter.end(starter.start("thing", environment=environment)) == ("thing: Permission denied", 127)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"cwd": "/nowhere"}, "/nowhere: No such file or directory"),
        ({"limits": (config.Limit("nofile", 2**40, 2**40),)}, "limit nofile: Operation not permitted"),
    ],
)
def test_what_it_cannot_be_given_is_named(starter, told, why):
    assert starter.end(starter.start("true", **told)) == (why, 127)


def test_an_argument_with_a_nul_starts_nothing(starter):
    """The texts of a start are told one after the other, with NULs between them."""
    with pytest.raises(OSError, match="has a NUL"):
        starter.start("echo", "one\0two")


def test_its_signals_are_as_usual(starter):
    """The monitor blocks most, Python ignores two and handles another."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    try:
        said = starter.run("cat", "/proc/self/status")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGCHLD})
    masks = _signal_masks(said)
    with open("/proc/self/status", encoding="ascii") as file:
        ours = _signal_masks(file.read())
    pythons = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    # Whoever started these tests may ignore some, as a shell has its jobs in the background do: they stay so.
    assert (masks["SigBlk"], masks["SigCgt"], masks["SigIgn"]) == (0, 0, ours["SigIgn"] & ~pythons)


def _signal_masks(status: str) -> dict[str, int]:
    lines = (line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    return {name: int(mask, 16) for name, mask in lines if name != "SigQ"}


def test_what_is_started_leaves_the_signals_of_who_starts_it(starter):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    starter.run("true")
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@contextlib.contextmanager
def leased(path: str):
    """Whoever opens this file waits until the end of this, or for 45 s (fcntl(2), leases)."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    try:
        yield
    finally:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        os.close(fd)
        signal.signal(signal.SIGIO, before)


def test_nobody_waits_for_one_that_hangs_before_its_exec_and_nobody_takes_its_room(starter, tmp_path):
    """As on a file server that is gone. What it was told stays as it is, whoever is started meanwhile."""
    slow_output = os.path.join(tmp_path, "slow")
    write_program(slow_output, "", mode=0o600)
    given = Given(environment=(("WHO", "the slow one"),))
    with leased(slow_output):
        slow = starter.start("sh", "-c", 'echo "$WHO"', given=given, output=slow_output)
        hasty = Given(environment=(("WHO", "another"),))
        said = [starter.run("sh", "-c", 'echo "$WHO"', given=hasty) for _ in range(3)]
        assert os.waitpid(slow.pid, os.WNOHANG) == (0, 0)
    assert starter.end(slow) == ("", 0)
    assert said == ["another\n"] * 3
    with open(slow_output) as file:
        assert file.read() == "the slow one\n"


@contextlib.contextmanager
def before_its_children():
    """What is started here runs when this waits, and not before: first in, first out, on one processor."""
    cpus, policy, parameters = os.sched_getaffinity(0), os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setaffinity(0, {min(cpus)})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)
        os.sched_setaffinity(0, cpus)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: real-time priority")
def test_the_news_of_an_exec_does_not_wait_for_another_child(starter, tmp_path):
    """Both begin in the monitor's table, with each other's status pipes; one hangs before its exec."""
    starter.spawner.reserve_berths()
    slow_output = os.path.join(tmp_path, "slow")
    write_program(slow_output, "", mode=0o600)

    def begin(name: str, output: str):
        record_fd = records.begin_start(os.path.join(tmp_path, f"{name}.run"))
        made = config.Service(name, ("true",), config.Log(None))
        around = Surroundings(-1, output, "bell", None, (1024, 4096))
        try:
            return starter.spawner.spawn(made, around, Place(record_fd, -1, BOOT_ID))
        finally:
            os.close(record_fd)

    with leased(slow_output):
        with before_its_children():
            slow, quick = begin("slow", slow_output), begin("quick", starter.output)
            while not starter.spawner.let_go():
                os.sched_yield()
        assert starter.end(quick) == ("", 0)
        assert os.waitpid(slow.pid, os.WNOHANG) == (0, 0)
    assert starter.end(slow) == ("", 0)


def test_what_one_start_has_used_serves_the_next(starter):
    """The room of one that has left it is given to the next: a thousand starts need the memory of one."""
    starter.run("true")
    before = _mappings()
    for _ in range(50):
        starter.run("true", environment=(("LONG", "x" * 50_000),))
        starter.run("true")
    assert _mappings() - before <= 2


def _mappings() -> int:
    with open("/proc/self/maps") as file:
        return sum(1 for _ in file)


def test_a_service_gets_its_page_and_nothing_else_of_what_the_monitor_holds(starter, tmp_path):
    """It begins in the monitor's own table of descriptors, and takes a copy of the lowest numbers first."""
    spawner = starter.spawner
    spawner.reserve_berths()
    many = [os.memfd_create("of another service") for _ in range(300)]
    page = os.memfd_create("page")
    os.write(page, b"this page")
    record_path = os.path.join(tmp_path, "app.run")
    before = set(os.listdir("/proc/self/fd"))
    # The shell's end of its own pipe may be gone while ls looks at it.
    command = ("sh", "-c", "ls -l /proc/$$/fd 2>/dev/null | grep -c memfd:; cat /proc/self/fd/$GIMLI_HB_FD")
    for _ in range(20):
        record_fd = records.begin_start(record_path)
        made = config.Service("app", command, config.Log(None))
        around = Surroundings(page, starter.output, "bell", None, (1024, 4096))
        spawned = spawner.spawn(made, around, Place(record_fd, -1, BOOT_ID))
        os.close(record_fd)
        while not spawner.let_go():
            os.sched_yield()
        assert starter.end(spawned) == ("", 0)
        recorded = records.read_record(record_path)
        assert (recorded.kind, recorded.process.pid) == ("running", spawned.pid)
        with open(starter.output) as file:
            assert file.read() == "1\nthis page"
    assert set(os.listdir("/proc/self/fd")) == before
    for fd in (page, *many):
        os.close(fd)


_REFUSE_CLONE3 = """
import ctypes, os, struct, sys
sys.path[:0] = {path!r}
from gimli.monitor import config, records
from gimli.monitor.spawn import Surroundings, load_spawner
# Load the number of the call; clone3 is "no such system call", all others pass (seccomp(2)).
program = b"".join(struct.pack("HBBI", *each) for each in [
    (0x20, 0, 0, 0), (0x15, 0, 1, 435), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7FFF0000)])
buffer = ctypes.create_string_buffer(program)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer)))
assert libc.prctl(22, 2, filter, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
assert libc.syscall(435, None, 0) == -1 and ctypes.get_errno() == 38
service = config.Service("app", ("sh", "-c", "echo started"), config.Log(None))
spawned = load_spawner().spawn(service, Surroundings(-1, None, "bell", None, (1024, 1024)))
os.waitid(os.P_PIDFD, spawned.pidfd, os.WEXITED)
"""


def test_without_clone3_it_starts_by_clone():
    """Containers of an older Docker answer clone3 with ENOSYS."""
    script = _REFUSE_CLONE3.format(path=sys.path)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("started\n", "")
