"""Where do the subjects work, and who cleans up?

A directory of its own per run, everything compiled and started in it, and nothing left behind: whatever
this process has started, and what that has started in turn, is ended with it. It makes itself their reaper,
so that a daemon which loses its parent stays ours to end.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, TypeVar

from gimli import journal
from gimli.cli.library import compiler_flags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Any, NoReturn, Self

T = TypeVar("T")

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = os.path.join(HERE, "programs")
GIMLI = os.path.join(os.path.dirname(sys.executable), "gimli")
PATIENCE_S = 30.0
_END_PATIENCE_S = 10.0
_MEMORY_DIR = "/dev/shm"
_LOOK_EVERY_S = 0.002
_PR_SET_CHILD_SUBREAPER = 36


class Effort(enum.Enum):
    """How long somebody is ready to wait."""

    QUICK = enum.auto()
    USUAL = enum.auto()
    FULL = enum.auto()

    def runs(self, usual: int) -> int:
        """How often something is measured that is usually measured this often."""
        return max(3, usual // 3) if self is Effort.QUICK else usual


class Unmeasurable(Exception):
    """Something that a subject needs is not here, or did not happen; the text says what."""


class Workbench:
    """One run's directory and processes."""

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="gimli-bench-")
        self._made = 0

    def __enter__(self) -> Self:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        for signo in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(signo, _leave)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After a failure something may still run. Asked to end, gimli takes its cgroup and its trace with it.
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        with contextlib.suppress(Unmeasurable):
            wait_for(lambda: not descendants(os.getpid()), "the end of everything", _END_PATIENCE_S)
        end_descendants()
        for directory in (self.directory, in_memory(self.directory)):
            shutil.rmtree(directory, ignore_errors=True)

    def place(self, name: str) -> str:
        """A new directory; its path is short, for sockets are made in it."""
        self._made += 1
        path = os.path.join(self.directory, f"{self._made}-{name}")
        os.mkdir(path)
        return path

    def compiled(self, name: str) -> str:
        """A program of ``bench/programs``, linked with libgimli."""
        program = os.path.join(self.directory, name)
        if not os.path.exists(program):
            source = os.path.join(PROGRAMS, f"{name}.c")
            flags = f"{compiler_flags('cflags')} {compiler_flags('libs')}".split()
            compiler = shutil.which("cc")
            if compiler is None:
                raise Unmeasurable("there is no C compiler: apt install gcc libc6-dev")
            subprocess.run(
                [compiler, "-g", "-O2", "-pthread", "-Wall", "-o", program, source, *flags], check=True
            )
        return program


def _leave(signo: int, _: object) -> NoReturn:
    """On the way out everything is ended; by default the signal would leave it all running."""
    sys.exit(128 + signo)


def in_memory(path: str) -> str:
    """A directory of the workbench as it is called in memory, or itself where there is none to write to."""
    if not os.access(_MEMORY_DIR, os.W_OK):
        return path
    return os.path.join(_MEMORY_DIR, os.path.relpath(path, tempfile.gettempdir()))


class Up:
    """A ``gimli up`` in a place of its own.

    Args:
        place: an empty directory.
        services: by name, the lines of its table in gimli.toml.
    """

    def __init__(self, place: str, services: Mapping[str, str]) -> None:
        self.place = place
        self.state_dir = os.path.join(place, "state")
        self._journal_path = os.path.join(self.state_dir, "journal", "up.jsonl")
        file = os.path.join(place, "gimli.toml")
        with open(file, "w", encoding="utf-8") as config:
            config.writelines(f"[service.{name}]\n{lines}\n" for name, lines in services.items())
        # In memory, where that of a real system is.
        runtime_dir = os.path.join(in_memory(place), "run")
        os.makedirs(runtime_dir, mode=0o700)
        self.started_ns = time.monotonic_ns()
        self.process = start(
            [GIMLI, "up", "-f", file],
            place,
            GIMLI_STATE_DIR=self.state_dir,
            GIMLI_RUNTIME_DIR=runtime_dir,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End the monitor, and so its services."""
        end(self.process)

    def events(self, service: str | None = None) -> Iterator[dict[str, Any]]:
        """The journal up to now, of one service or of all."""
        for entry in journal.read(self._journal_path):
            if service is None or entry["service"] == service:
                yield entry

    def wait_for_event(self, service: str, *names: str, after_ns: int = 0) -> dict[str, Any]:
        """The first event of one of these names.

        Raises:
            Unmeasurable: there was none.
        """

        def look() -> dict[str, Any] | None:
            if self.process.poll() is not None:
                raise Unmeasurable(f"the monitor has ended with {self.process.returncode}: {self.place}/out")
            return next(
                (
                    entry
                    for entry in self.events(service)
                    if entry["event"] in names and entry["monotonic_ns"] > after_ns
                ),
                None,
            )

        return wait_for(look, f"{' or '.join(names)} of {service}")


def service_table(command: Sequence[str], *lines: str) -> str:
    """A service's lines in gimli.toml; a list of text is the same in TOML and in JSON."""
    return "\n".join((f"command = {json.dumps(command)}", *lines))


def start(command: list[str], place: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own; what it says goes to ``out`` in its place."""
    with open(os.path.join(place, "out"), "ab") as out:
        return subprocess.Popen(
            command,
            cwd=place,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes], signo: int = signal.SIGTERM) -> None:
    """End a process that we started, politely first, and what it leaves behind."""
    try:
        process.send_signal(signo)
        process.wait(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(look: Callable[[], T | None], what: str, patience_s: float = PATIENCE_S) -> T:
    """What ``look`` sees, as soon as it is neither None nor empty.

    Raises:
        Unmeasurable: it has not come in time.
    """
    give_up_s = time.monotonic() + patience_s
    while time.monotonic() < give_up_s:
        if seen := look():
            return seen
        time.sleep(_LOOK_EVERY_S)
    raise Unmeasurable(f"waited {patience_s:.0f} s in vain for {what}")


def descendants(pid: int) -> list[int]:
    """The processes below one, without itself and without zombies."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue  # it has ended while we looked
        if state != b"Z":
            children.setdefault(int(parent), []).append(int(name))
    found: list[int] = []
    left = [pid]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def cpu_ns(pid: int) -> int:
    """CPU time that a process of one thread has used."""
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0])


def end_descendants() -> None:
    """Kill all that we have started, and what that has started."""
    while pids := descendants(os.getpid()):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_EVERY_S)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return  # that was the last
