"""The C library against a small monitor that this file plays, and its own tests under sanitizers.

Nothing sleeps to win a race: the monitor waits on its bell, on pipes and on pidfds.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from gimli import heartbeat
from gimli.heartbeat import PageFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
LIBRARY = os.path.join(ROOT, "libgimli")
SOURCES = [os.path.join(LIBRARY, name) for name in sorted(os.listdir(LIBRARY)) if name.endswith(".c")]
FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-pthread"]
INCLUDES = [f"-I{LIBRARY}/include", f"-I{LIBRARY}"]
ASAN = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
TSAN = ["-O1", "-fsanitize=thread"]

# The handlers and the alternate stacks are to be the library's, not the sanitizer's.
SANITIZER_OPTIONS = ":".join(
    [f"handle_{name}=0" for name in ("segv", "abort", "sigbus", "sigfpe", "sigill")] + ["use_sigaltstack=0"]
)

LONG_S = 20  # until a test that hangs fails; no test waits for it when all is well
SYS_FUTEX = {"x86_64": 202, "aarch64": 98}
FUTEX_WAKE = 1


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> Callable[..., str]:
    """Compile once per session: the name of the result and gcc's arguments give its path."""
    directory = tmp_path_factory.mktemp("compiled")

    def compile_(name: str, *arguments: str) -> str:
        path = str(directory / name)
        if not os.path.exists(path):
            subprocess.run(["gcc", *FLAGS, *INCLUDES, "-o", path, *arguments], check=True)
        return path

    return compile_


@pytest.fixture
def library(compiled) -> str:
    """The path of the shared library."""
    return compiled("libgimli.so", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-z,now", *SOURCES)


def link_to(library: str) -> list[str]:
    """What `gimli --libs` prints."""
    where = os.path.dirname(library)
    return [f"-L{where}", f"-Wl,-rpath,{where}", "-lgimli"]


@pytest.fixture
def program(compiled, library) -> Callable[[str], tuple[str, dict[str, str]]]:
    """Each way to have the library: the path of the crasher and the environment that it needs."""
    crasher = os.path.join(LIBRARY, "tests", "crasher.c")

    def build(way: str) -> tuple[str, dict[str, str]]:
        match way:
            case "preloaded":
                return compiled("preloaded", "-O1", crasher), {"LD_PRELOAD": library}
            case "linked":
                return compiled("linked", "-O1", "-DLINKED", crasher, *link_to(library)), {}
            case "linked and preloaded":
                return build("linked")[0], {"LD_PRELOAD": library}
            case "asan":
                path = compiled("asan", *ASAN, "-DLINKED", crasher, *SOURCES)
                return path, {"ASAN_OPTIONS": SANITIZER_OPTIONS}
        raise ValueError(way)

    return build


class Program:
    """A program under the monitor."""

    def __init__(self, command: list[str], env: dict[str, str], page: PageFile) -> None:
        self.popen = subprocess.Popen(
            command,
            env={**os.environ, **env},
            pass_fds=[page.fd],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.pid = self.popen.pid
        self._pidfd = os.pidfd_open(self.pid)

    def tell(self) -> None:
        """Let it go on from where it waits for a word."""
        self.popen.stdin.write(b"x")
        self.popen.stdin.flush()

    def line(self) -> str:
        """The next line it prints."""
        return self.popen.stdout.readline().decode()

    def is_alive(self) -> bool:
        """Whether it runs, or waits in its handler."""
        return not select.select([self._pidfd], [], [], 0)[0]

    def status(self) -> int:
        """Wait for its end: the exit status, or minus the signal."""
        assert select.select([self._pidfd], [], [], LONG_S)[0], "it did not end"
        return self.popen.wait()

    def close(self) -> None:
        """End it if a test left it alive."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        os.close(self._pidfd)


class Monitor:
    """As much of a monitor as a crash needs: a page, a bell, and an answer."""

    def __init__(self, directory: Path) -> None:
        self.page = PageFile(str(directory / "page"))
        self.page.reset()
        self.memory = mmap.mmap(self.page.fd, heartbeat.PAGE_SIZE)
        self.bell_path = str(directory / "bell")
        self.bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.bell.bind(self.bell_path)
        self.bell.settimeout(LONG_S)
        self.programs: list[Program] = []

    def run(self, *command: str, env: dict[str, str]) -> Program:
        """Start a program with the page and the bell in its environment."""
        ours = {
            heartbeat.ENV_PAGE_FD: str(self.page.fd),
            heartbeat.ENV_BELL: self.bell_path,
            heartbeat.ENV_SERVICE: "orders",
        }
        self.programs.append(Program(list(command), {**ours, **env}, self.page))
        return self.programs[-1]

    def set_wait_ms(self, wait_ms: int) -> None:
        """Set how long a crash may wait."""
        struct.pack_into("<I", self.memory, heartbeat.OFFSET_WAIT_MS, wait_ms)

    def wait_for_ring(self) -> heartbeat.Page:
        """The page when the bell rings next."""
        assert self.bell.recv(4096) == b"orders"
        return self.page.read()

    def wait_for_crash(self) -> heartbeat.Crash:
        """The crash that rings next; other rings are of no interest here."""
        while (crash := self.wait_for_ring().crash) is None:
            pass
        return crash

    def fill_bell(self) -> None:
        """Have another service ring until the queue is full."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while other.sendto(b"another", self.bell_path):
                    pass

    def count_rings(self) -> int:
        """Rings of ours that nobody has heard yet."""
        self.bell.setblocking(False)
        count = 0
        with contextlib.suppress(BlockingIOError):
            while ring := self.bell.recv(4096):
                count += ring == b"orders"
        self.bell.settimeout(LONG_S)
        return count

    def release(self) -> None:
        """Answer, and wake whoever waits; this is the release of the real monitor and a futex call."""
        self.page.release()
        word = ctypes.c_uint32.from_buffer(self.memory, heartbeat.OFFSET_RELEASE)
        libc = ctypes.CDLL(None)
        libc.syscall(SYS_FUTEX[platform.machine()], ctypes.byref(word), FUTEX_WAKE, 1000, None, None, 0)

    def close_bell(self) -> None:
        """Die, as far as a program can see."""
        self.bell.close()

    def close(self) -> None:
        """End all programs."""
        for program in self.programs:
            program.close()
        self.bell.close()
        self.memory.close()
        self.page.close()


@pytest.fixture
def monitor(tmp_path) -> Iterator[Monitor]:
    fake = Monitor(tmp_path)
    yield fake
    fake.close()


def memory(pid: int, address: int, size: int) -> bytes:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        file.seek(address)
        return file.read(size)


WAYS = ["preloaded", "linked", "linked and preloaded", "asan"]
FAULTS = {
    "segv": signal.SIGSEGV,
    "abort": signal.SIGABRT,
    "overflow": signal.SIGSEGV,
    "fpe": signal.SIGFPE,
    "ill": signal.SIGILL,
    "sent": signal.SIGSEGV,
    "thread_segv": signal.SIGSEGV,
    "thread_abort": signal.SIGABRT,
    "thread_overflow": signal.SIGSEGV,
    "close_all": signal.SIGSEGV,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", FAULTS)
def test_a_crash_is_recorded_then_waits_then_dies_by_its_own_signal(monitor, program, way, mode):
    path, env = program(way)
    crasher = monitor.run(path, mode, env=env)
    crash = monitor.wait_for_crash()
    assert (crash.signo, crash.pid) == (FAULTS[mode], crasher.pid)
    assert (crash.tid != crash.pid) == mode.startswith("thread")
    assert crasher.is_alive()
    released_ns = time.monotonic_ns()
    assert 0 < crash.time_ns <= released_ns
    assert struct.unpack("<i", memory(crasher.pid, crash.siginfo, 4)) == (crash.signo,)
    assert len(memory(crasher.pid, crash.ucontext, 128)) == 128
    monitor.release()
    assert crasher.status() == -crash.signo
    assert crasher.line() == "ready\n"
    if way == "preloaded":  # a program that does not beat must not look as if it did
        page = monitor.page.read()
        assert (page.state, page.ticks, page.library) == (heartbeat.NOT_SUPPORTED, 0, heartbeat.LIBRARY_NONE)
        assert crasher.line() == ""
    else:
        assert monitor.page.read().state == heartbeat.STOPPING
        what, signo, siginfo_signo, at_ns = crasher.line().split()
        assert (what, int(signo), int(siginfo_signo)) == ("shutdown", crash.signo, crash.signo)
        assert int(at_ns) > released_ns


def test_the_record_names_the_address_and_code_of_the_fault(monitor, program):
    path, env = program("preloaded")
    monitor.run(path, "segv", env=env)
    crash = monitor.wait_for_crash()
    assert (crash.address, crash.code) == (0x10, 1)  # SEGV_MAPERR
    monitor.release()


def test_a_signal_that_was_sent_has_no_address(monitor, program):
    path, env = program("preloaded")
    monitor.run(path, "sent", env=env)
    crash = monitor.wait_for_crash()
    assert (crash.address, crash.code) == (0, 0)  # SI_USER
    monitor.release()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads a register by its offset")
def test_the_ucontext_of_the_record_holds_the_registers_of_the_fault(monitor, program):
    path, env = program("preloaded")
    crasher = monitor.run(path, "segv", env=env)
    crash = monitor.wait_for_crash()
    (rip,) = struct.unpack("<Q", memory(crasher.pid, crash.ucontext + 40 + 16 * 8, 8))  # gregs[REG_RIP]
    with open(f"/proc/{crasher.pid}/maps") as maps:
        where = [line for line in maps if path in line]
    assert any(int(low, 16) <= rip < int(high, 16) for low, high in (s.split()[0].split("-") for s in where))
    monitor.release()


@pytest.mark.parametrize("way", ["preloaded", "asan"])
def test_two_threads_that_crash_at_once_make_one_crash(monitor, program, way):
    path, env = program(way)
    crasher = monitor.run(path, "two_threads", env=env)
    monitor.wait_for_crash()
    monitor.release()
    assert crasher.status() == -signal.SIGSEGV
    assert monitor.page.read().request == 1


@pytest.mark.parametrize("way", ["preloaded", "asan"])
def test_two_workers_that_crash_at_once_are_recorded_one_after_the_other(monitor, program, way):
    """They share one page; each has a ticket and its own pid, and the service itself goes on."""
    path, env = program(way)
    service = monitor.run(path, "workers", env=env)
    pids = set()
    for ticket in (1, 2):
        crash = monitor.wait_for_crash()
        assert monitor.page.read().request == ticket
        assert crash.pid == crash.tid
        pids.add(crash.pid)
        monitor.release()
    assert service.status() == 0
    assert len(pids) == 2
    assert service.pid not in pids
    assert monitor.page.read().state != heartbeat.STOPPING  # a worker's end is not the service's


def test_a_descendant_started_by_a_shell_is_recorded_with_its_own_pid(monitor, program):
    path, env = program("preloaded")
    shell = monitor.run("/bin/sh", "-c", f"{path} segv; echo shell goes on", env=env)
    crash = monitor.wait_for_crash()
    assert crash.pid != shell.pid
    monitor.release()
    assert shell.status() == 0
    assert [shell.line(), shell.line()] == ["ready\n", "shell goes on\n"]


def test_a_dead_owner_of_the_record_does_not_hold_up_the_next_crash(monitor, program):
    dead = subprocess.Popen(["true"])
    dead.wait()
    struct.pack_into("<I", monitor.memory, heartbeat.OFFSET_OWNER, dead.pid)
    path, env = program("preloaded")
    crasher = monitor.run(path, "segv", env=env)
    assert monitor.wait_for_crash().pid == crasher.pid
    monitor.release()
    assert crasher.status() == -signal.SIGSEGV


@pytest.mark.slow
def test_an_owner_that_lives_but_never_lets_go_holds_up_the_next_crash_for_half_the_wait(monitor, program):
    monitor.set_wait_ms(200)
    struct.pack_into("<I", monitor.memory, heartbeat.OFFSET_OWNER, os.getpid())
    path, env = program("preloaded")
    crasher = monitor.run(path, "segv", env=env)
    assert monitor.wait_for_crash().pid == crasher.pid
    assert crasher.status() == -signal.SIGSEGV


def test_a_monitor_that_is_gone_is_not_waited_for(monitor, program):
    """The wait would be ten seconds; without a monitor it takes milliseconds."""
    path, env = program("linked")
    crasher = monitor.run(path, "segv", "on the monitor's word", env=env)
    assert crasher.line() == "ready\n"
    monitor.close_bell()
    crasher.tell()
    started_s = time.monotonic()
    assert crasher.status() == -signal.SIGSEGV
    assert time.monotonic() - started_s < 1
    assert crasher.line().startswith("shutdown 11 ")


def test_a_monitor_that_dies_during_the_wait_is_noticed(monitor, program):
    path, env = program("preloaded")
    crasher = monitor.run(path, "segv", env=env)
    monitor.wait_for_crash()
    died_s = time.monotonic()
    monitor.close_bell()
    assert crasher.status() == -signal.SIGSEGV
    assert time.monotonic() - died_s < 2


def test_a_monitor_that_never_answers_is_waited_for_as_long_as_the_page_says(monitor, program):
    monitor.set_wait_ms(150)
    path, env = program("preloaded")
    crasher = monitor.run(path, "segv", env=env)
    crash = monitor.wait_for_crash()
    assert crasher.status() == -signal.SIGSEGV
    assert 0.1 < (time.monotonic_ns() - crash.time_ns) / 1e9 < 2


def test_the_bell_is_rung_once_for_a_crash_that_waits(monitor, program):
    """Whether the monitor lives is asked without ringing."""
    monitor.set_wait_ms(250)
    path, env = program("preloaded")
    crasher = monitor.run(path, "segv", env=env)
    assert crasher.status() == -signal.SIGSEGV
    assert monitor.count_rings() == 1


def test_a_crash_rings_a_full_bell_until_it_is_heard(monitor, program):
    monitor.fill_bell()
    path, env = program("preloaded")
    crasher = monitor.run(path, "segv", env=env)
    while monitor.page.read().crash is None:
        assert crasher.is_alive()
    while monitor.bell.recv(4096) == b"another":
        pass
    monitor.release()
    assert crasher.status() == -signal.SIGSEGV


def test_a_beat_makes_up_for_a_ring_that_a_full_bell_refused(monitor, program):
    """Else a monitor with many services would sleep on the start interval of one that runs."""
    path, env = program("linked")
    healthy = monitor.run(path, "beat_by_beat", env=env)
    assert monitor.wait_for_ring().state == heartbeat.STARTING
    monitor.fill_bell()
    for _ in range(2):  # the first says RUNNING, which rings; neither is heard
        healthy.tell()
        assert healthy.line() in {"ready\n", "beat\n"}
    assert healthy.line() == "beat\n"
    assert monitor.count_rings() == 0
    healthy.tell()
    assert healthy.line() == "beat\n"
    assert monitor.count_rings() == 1
    healthy.tell()
    assert healthy.line() == "beat\n"
    assert monitor.count_rings() == 0


@pytest.mark.parametrize("way", ["linked", "preloaded"])
def test_a_crash_waits_also_where_signals_interrupt_everything(monitor, program, way):
    """Every 50 us, without SA_RESTART: the program attaches, crashes, and is there until it is released."""
    path, env = program(way)
    crasher = monitor.run(path, "segv", env={**env, "STORM": "1"})
    crash = monitor.wait_for_crash()
    assert (crash.signo, crash.pid) == (signal.SIGSEGV, crasher.pid)
    assert not select.select([crasher._pidfd], [], [], 0.2)[0], "it did not wait"
    assert monitor.page.read().crash == crash
    monitor.release()
    assert crasher.status() == -signal.SIGSEGV


def test_beats_arrive_also_where_signals_interrupt_everything(monitor, program):
    path, env = program("linked")
    healthy = monitor.run(path, "beat_by_beat", env={**env, "STORM": "1"})
    assert monitor.wait_for_ring().state == heartbeat.STARTING
    assert healthy.line() == "ready\n"
    for beat in range(1, 200):
        healthy.tell()
        assert healthy.line() == "beat\n"
        assert monitor.page.read().ticks == 1 + beat  # STARTING was one
    assert monitor.wait_for_ring().state == heartbeat.RUNNING


def test_nobody_waits_when_no_snapshot_is_wanted(monitor, program):
    monitor.page.die_at_once()
    path, env = program("linked")
    crasher = monitor.run(path, "segv", env=env)
    assert crasher.status() == -signal.SIGSEGV
    assert monitor.page.read().request == 0
    assert crasher.popen.stdout.read().startswith(b"ready\nshutdown 11 ")


def test_a_wait_ends_when_no_snapshot_is_wanted_any_more(monitor, program):
    path, env = program("preloaded")
    crasher = monitor.run(path, "segv", env=env)
    monitor.wait_for_crash()
    monitor.page.die_at_once()
    assert crasher.status() == -signal.SIGSEGV


@pytest.mark.parametrize("way", ["linked", "asan"])
def test_a_crash_in_the_shutdown_function_ends_the_program_at_once(monitor, program, way):
    path, env = program(way)
    crasher = monitor.run(path, "twice", env=env)
    monitor.wait_for_crash()
    monitor.release()
    assert crasher.status() == -signal.SIGABRT
    assert crasher.popen.stdout.read() == b"ready\nagain\n"
    assert monitor.page.read().request == 1


@pytest.mark.parametrize("way", ["linked", "asan"])
def test_a_program_that_overwrote_the_page_is_still_recorded(monitor, program, way):
    """Its owner, tickets, flags and wait are garbage; the flag "die at once" seems to be set."""
    path, env = program(way)
    crasher = monitor.run(path, "garbage", env=env)
    while monitor.wait_for_ring().intact:
        pass
    crash = monitor.page.read().crash
    assert crash is not None
    assert (crash.pid, crash.signo) == (crasher.pid, signal.SIGSEGV)
    monitor.release()
    assert crasher.status() == -signal.SIGSEGV


def test_a_signal_that_the_program_ignores_stays_ignored(monitor, program):
    path, env = program("linked")
    crasher = monitor.run("/bin/sh", "-c", f"trap '' ABRT; exec {path} ignored_abort", env=env)
    assert crasher.status() == 0
    assert crasher.popen.stdout.read() == b"ready\nalive\n"


@pytest.mark.parametrize("way", ["linked", "preloaded"])
def test_without_a_monitor_a_crash_shuts_down_and_dies(program, tmp_path, way):
    path, env = program(way)
    result = subprocess.run([path, "segv"], env={**os.environ, **env}, capture_output=True, check=False)
    assert result.returncode == -signal.SIGSEGV
    assert (b"shutdown 11 11 " in result.stdout) == (way == "linked")


def test_what_a_healthy_program_writes_and_when_it_rings(monitor, program):
    path, env = program("linked")
    healthy = monitor.run(path, "beats", env=env)
    assert monitor.wait_for_ring().state == heartbeat.STARTING
    assert healthy.line() == "ready\n"
    page = monitor.page.read()
    assert (page.library, page.intact, page.crash) == (heartbeat.LIBRARY_C, True, None)

    healthy.tell()
    assert healthy.line() == "running\n"
    page = monitor.page.read()
    assert (page.state, page.ticks, page.note) == (heartbeat.RUNNING, 3, "order 7 of lunch")
    (pulse,) = page.pulses
    assert (pulse.name, pulse.tid, pulse.interval_ns) == ("worker", healthy.pid, 1_500_000_000)
    assert pulse.active
    assert 0 < pulse.beat_ns <= page.beat_ns <= time.monotonic_ns()
    assert monitor.count_rings() == 2  # the pulse and the state, not the second beat

    healthy.tell()
    assert healthy.line() == "stopping\n"
    page = monitor.page.read()
    assert page.state == heartbeat.STOPPING
    assert not page.pulses[0].active
    assert monitor.count_rings() == 1  # a pause needs none
    healthy.tell()
    assert healthy.status() == 0


@pytest.mark.parametrize("options", [[], ["-X", "faulthandler"]], ids=["plain", "faulthandler"])
def test_a_python_program_is_caught_by_preload_also_with_its_own_fault_handler(monitor, program, options):
    _, env = program("preloaded")
    command = [sys.executable, *options, "-c", "import ctypes; ctypes.string_at(0)"]
    python = monitor.run(*command, env=env)
    crash = monitor.wait_for_crash()
    assert (crash.signo, crash.pid) == (signal.SIGSEGV, python.pid)
    monitor.release()
    assert python.status() == -signal.SIGSEGV
    assert (b"Fatal Python error" in python.popen.stderr.read()) == bool(options)


@pytest.mark.parametrize("way", ["preloaded", "linked"])
def test_a_file_that_took_the_number_of_the_page_is_not_touched(monitor, program, tmp_path, way):
    """A watched program starts another after it closed the page, whose number is a database by then."""
    foreign = tmp_path / "database"
    content = bytes(range(256)) * 16
    foreign.write_bytes(content)
    fd = os.open(foreign, os.O_RDWR)
    os.set_inheritable(fd, True)
    path, env = program(way)
    result = subprocess.run(
        [path, "segv"],
        env={**os.environ, **env, heartbeat.ENV_PAGE_FD: str(fd), heartbeat.ENV_BELL: monitor.bell_path},
        pass_fds=[fd],
        stdout=subprocess.DEVNULL,
        check=False,
    )
    os.close(fd)
    assert result.returncode == -signal.SIGSEGV
    assert foreign.read_bytes() == content
    assert monitor.count_rings() == 0


@pytest.mark.parametrize("client", ["ours", "the original's"])
def test_under_an_original_monitor_a_crash_stops_itself_to_be_traced(compiled, program, client):
    """Eight bytes, SIGUSR2 to the parent, SIGSTOP to itself; after SIGCONT it says STOPPING and dies.

    tests/programs/original_client.c does as the original's clients do, and ours does the same.
    """
    if client == "ours":
        command = [program("linked")[0], "segv"]
    else:
        command = [compiled("original_client", f"{ROOT}/tests/programs/original_client.c"), "crash"]
    segment = os.memfd_create("segment")
    os.write(segment, bytes(8))
    received: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda signo, _: received.append(signo))
    try:
        crasher = subprocess.Popen(
            command,
            env={**os.environ, "GIMLI_HB_FD": str(segment), "GIMLI_MONITOR_PID": str(os.getpid())},
            pass_fds=[segment],
            stdout=subprocess.PIPE,
        )
        stopped = os.waitid(os.P_PID, crasher.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert stopped.si_status == signal.SIGSTOP
        assert received == [signal.SIGUSR2]
        assert struct.unpack("<ii", os.pread(segment, 9, 0))[0] != heartbeat.STOPPING
        os.kill(crasher.pid, signal.SIGCONT)
        output, _ = crasher.communicate(timeout=LONG_S)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert crasher.returncode == -signal.SIGSEGV
    assert (b"shutdown 11 11 " in output) == (client == "ours")
    assert struct.unpack("<ii", os.pread(segment, 9, 0))[0] == heartbeat.STOPPING
    os.close(segment)


@pytest.fixture
def example(compiled, library) -> Callable[[str], str]:
    """Compile one of examples/, as its first comment says."""

    def build(name: str) -> str:
        return compiled(name, f"{ROOT}/examples/{name}.c", *link_to(library))

    return build


def test_the_example_that_crashes_beats_and_prices_two_orders_first(monitor, example):
    orders = monitor.run(example("price_orders"), env={})
    crash = monitor.wait_for_crash()
    assert (crash.signo, crash.address < 4096, crash.pid) == (signal.SIGSEGV, True, orders.pid)
    page = monitor.page.read()
    assert (page.state, page.note) == (heartbeat.RUNNING, "pricing order 3")
    monitor.release()
    assert orders.status() == -signal.SIGSEGV
    assert orders.popen.stdout.read().count(b"costs") == 2


@pytest.mark.parametrize("kind", ["lock", "pipe"])
def test_in_the_example_that_gets_stuck_all_pulses_but_one_go_on(monitor, example, kind):
    stuck = monitor.run(example("stuck_worker"), "50", "1", kind, env={})
    while (line := stuck.line()) and "keeps" not in line and "waits" not in line:
        pass

    def beats_after(rounds: int) -> dict[str, int]:
        while rounds:
            rounds -= "round" in stuck.line()
        return {pulse.name: pulse.beat_ns for pulse in monitor.page.read().pulses}

    before, after = beats_after(4), beats_after(4)
    assert {name for name in before if before[name] == after[name]} == {"mailer"}
    assert len(after) == 4


@pytest.mark.parametrize(
    ("name", "build", "only"),
    [("page_plain", ["-O2"], ""), ("page_asan", ASAN, ""), ("page_tsan", TSAN, "many_threads")],
)
def test_the_library_alone(compiled, name, build, only):
    """libgimli/tests/test_page.c: what a file must be like to be written to, pulses, notes, threads."""
    path = compiled(name, *build, os.path.join(LIBRARY, "tests", "test_page.c"), *SOURCES)
    names = {heartbeat.ENV_PAGE_FD, heartbeat.ENV_BELL, heartbeat.ENV_SERVICE}
    env = {key: value for key, value in os.environ.items() if key not in names}
    env["ASAN_OPTIONS"] = SANITIZER_OPTIONS
    result = subprocess.run(
        [path, *([only] if only else [])],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert "ok " in result.stdout


def test_only_the_interface_is_exported(library):
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", "--format=posix", library], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    names = {line.split()[0] for line in symbols if line}
    assert {name for name in names if not name.startswith("gimli_")} == {"pthread_create"}


def test_the_header_serves_c_plus_plus(tmp_path):
    source = tmp_path / "main.cc"
    source.write_text(
        '#include <libgimli.h>\nint main() { gimli_note("%d", 1); return GIMLI_HB_NOT_SUPP; }\n'
    )
    command = ["g++", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", INCLUDES[0], str(source)]
    subprocess.run(command, check=True)
