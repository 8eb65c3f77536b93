"""What all tests share: golden files, stories, and gimli itself as a running program.

Golden files and stories are written anew by ``pytest --rewrite``; review the diff.
"""

from __future__ import annotations

import contextlib
import glob
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
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

import gimli as gimli_package
from gimli import journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STORIES = os.path.join(os.path.dirname(__file__), "stories")
PATIENCE_S = 20.0
"""How long a real test waits for what must come. A test that passes never waits for all of it."""

COMMAND = (sys.executable, "-c", "from gimli.cli import main; main()")


# Each mount is made private first: what is unmounted here must stay mounted outside, and in a chroot there is
# no root mount to do it for all.
_UNMOUNT = """
cut -d" " -f5 /proc/self/mountinfo | while read m; do mount --make-private "$m"; done
umount -a -t cgroup2
exec "$@"
"""
WITHOUT_CGROUPS = ("unshare", "--mount", "--propagation", "unchanged", "sh", "-c", _UNMOUNT, "sh")
"""As on a machine, or in a container, where no control group can be made."""

settings.register_profile("gimli", deadline=None)  # a deadline would test the machine, not the code
settings.load_profile("gimli")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write the golden files and stories anew")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with a file of tests/stories, or write it there."""

    def compare(name: str, text: str) -> None:
        path = os.path.join(STORIES, name)
        if request.config.getoption("--rewrite"):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        with open(path, encoding="utf-8") as file:
            assert text == file.read(), f"{name} differs; after review: pytest --rewrite"

    return compare


class Running:
    """A monitor that runs, seen through its journal.

    Its file holds what has happened, its control socket tells what happens: nothing is missed and nothing is
    polled. ``wait_for`` goes through the events in their order and never back.
    """

    def __init__(self, gimli: Gimli, instance: str, process: subprocess.Popen[str] | None, pid: int) -> None:
        self.process = process
        self.pid = pid
        self.seen: list[dict[str, Any]] = []
        self.socket_path = os.path.join(gimli.runtime_dir, instance, "control.sock")
        self._journal_path = os.path.join(gimli.state_dir, "journal", f"{instance}.jsonl")
        self._since_ns = time.monotonic_ns()
        self._pidfd = os.pidfd_open(pid)
        self._lines: Iterator[bytes] | None = None
        self._socket: socket.socket | None = None
        self._next = 0

    def wait_for(self, event: str, **fields: Any) -> dict[str, Any]:
        """The next event of that name with those fields; others are passed over."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            while self._next < len(self.seen):
                entry = self.seen[self._next]
                self._next += 1
                if entry["event"] == event and all(entry.get(key) == fields[key] for key in fields):
                    return entry
            if not self._learn(deadline_s):
                told = "\n".join(map(str, self.seen))
                raise AssertionError(f"no event {event} {fields} after\n{told}")

    def wait(self) -> int:
        """Wait for the monitor's end; its exit status."""
        assert self.process is not None
        status = self.process.wait(PATIENCE_S)
        self._read_file()
        return status

    def wait_for_end(self) -> None:
        """The same for one that is not our child."""
        assert self._is_ended(PATIENCE_S), "it does not end"
        self._read_file()

    def send(self, signo: int) -> None:
        """A signal to the monitor."""
        signal.pidfd_send_signal(self._pidfd, signo)

    def events(self, name: str) -> list[dict[str, Any]]:
        """All events of that name that were seen."""
        return [entry for entry in self.seen if entry["event"] == name]

    def pids(self) -> list[int]:
        """The instances of all services, oldest first."""
        return [entry["pid"] for entry in self.events("started")]

    def close(self) -> None:
        """End it, and whatever it leaves."""
        with contextlib.suppress(ProcessLookupError):
            self.send(signal.SIGTERM)
            if not self._is_ended(5.0):
                self.send(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(PATIENCE_S)
        self._read_file()
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(pid) == pid:  # else the number is somebody else's by now
                    os.killpg(pid, signal.SIGKILL)
        if self._socket is not None:
            self._socket.close()
        os.close(self._pidfd)

    def _is_ended(self, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def _learn(self, deadline_s: float) -> bool:
        """Wait for more events. False when there will be none."""
        if time.monotonic() > deadline_s:
            return False
        if self._lines is None:
            # No socket yet, or none any more. Not a sleep: its end wakes us.
            if not self._subscribe() and self._is_ended(0.005):
                return self._read_file()
            return True
        try:
            line = next(self._lines, b"")
        except OSError:
            line = b""
        if not line:
            self._lines = None
            return self._read_file() or not self._is_ended(PATIENCE_S)
        answer = json.loads(line)
        if "entry" in answer:
            self._add(answer["entry"])
        return True

    def _subscribe(self) -> bool:
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(PATIENCE_S)
        try:
            peer.connect(self.socket_path)
            peer.sendall(b'{"schema": 1, "call": "events"}\n')
            self._lines = peer.makefile("rb")
            json.loads(next(self._lines))
        except (OSError, StopIteration):
            peer.close()
            self._lines = None
            return False
        self._socket = peer
        self._read_file()
        return True

    def _read_file(self) -> bool:
        before = len(self.seen)
        for entry in journal.read(self._journal_path):
            self._add(entry)
        return len(self.seen) > before

    def _add(self, entry: dict[str, Any]) -> None:
        last_ns = self.seen[-1]["monotonic_ns"] if self.seen else self._since_ns
        if entry["monotonic_ns"] > last_ns:
            self.seen.append(entry)


class Gimli:
    """The command, with directories of its own."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.state_dir = os.path.join(directory, "state")
        self.runtime_dir = os.path.join(directory, "run")
        self.environment = os.environ | {
            "GIMLI_STATE_DIR": self.state_dir,
            "GIMLI_RUNTIME_DIR": self.runtime_dir,
            "PYTHONUNBUFFERED": "1",
        }
        self._running: list[Running] = []
        self._processes: list[subprocess.Popen[str]] = []
        self._complaints: list[str] = []

    def call(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        options = {"capture_output": True, "cwd": self.directory, "env": self.environment} | options
        done = subprocess.run([*COMMAND, *arguments], text=True, timeout=PATIENCE_S, check=False, **options)
        self._complaints.append(done.stderr or "")
        return done

    def popen(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command; its output goes to ``stdout`` and ``stderr`` in the directory, unless told."""
        with (
            open(os.path.join(self.directory, "stdout"), "a", encoding="utf-8") as out,
            open(os.path.join(self.directory, "stderr"), "a", encoding="utf-8") as err,
        ):
            usual = {"cwd": self.directory, "env": self.environment, "stdin": subprocess.DEVNULL}
            process = subprocess.Popen(
                [*COMMAND, *arguments], text=True, **({"stdout": out, "stderr": err} | usual | options)
            )
        self._processes.append(process)
        return process

    def read_line(self, process: subprocess.Popen[str]) -> str:
        """The next line of a command whose output is a pipe, which must come."""
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], PATIENCE_S)[0], "it says nothing"
        return process.stdout.readline()

    def run(self, *options: str, command: tuple[str, ...], name: str = "app", **popen: Any) -> Running:
        """``gimli run`` in the background."""
        process = self.popen("run", "--name", name, *options, "--", *command, **popen)
        return self.follow(f"run.{name}", process)

    def follow(self, instance: str, process: subprocess.Popen[str]) -> Running:
        """A monitor that was started by ``popen``."""
        return self._keep(Running(self, instance, process, process.pid))

    def up(self, text: str) -> Running:
        """``gimli up --detach`` of a configuration."""
        self.write("gimli.toml", text)
        since_ns = time.monotonic_ns()
        done = self.call("up", "--detach")
        assert done.returncode == 0, done.stderr
        running = Running(self, "up", None, int(done.stdout.split(" pid ")[1].split()[0]))
        running._since_ns = since_ns
        return self._keep(running)

    def _keep(self, running: Running) -> Running:
        self._running.append(running)
        return running

    def write(self, name: str, text: str) -> str:
        """A file in the directory; its path."""
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def read(self, name: str) -> str:
        """A file of the directory."""
        with open(os.path.join(self.directory, name), encoding="utf-8", errors="replace") as file:
            return file.read()

    def service(self, name: str = "app") -> dict[str, Any]:
        """What ``gimli ps`` says of a service."""
        found: list[dict[str, Any]] = json.loads(self.call("ps", "--json").stdout)["services"]
        return next(service for service in found if service["name"] == name)

    def bugs(self) -> str:
        """Errors of gimli itself: its monitors survive them, and say so in the journal or on the terminal."""
        texts = list(self._complaints)
        with contextlib.suppress(FileNotFoundError):
            texts.append(self.read("stderr"))
        for path in glob.glob(os.path.join(self.state_dir, "journal", "*")):
            texts += [str(entry) for entry in journal.read(path) if entry["event"] == "internal-error"]
        return "\n".join(text for text in texts if "Traceback" in text or "internal" in text)

    def close(self) -> None:
        """End everything."""
        for running in self._running:
            running.close()
        for process in self._processes:
            process.kill()
            process.wait()
            for stream in filter(None, (process.stdin, process.stdout, process.stderr)):
                stream.close()


@pytest.fixture
def gimli() -> Iterator[Gimli]:
    """The command, with directories of its own; what it started has ended when the test has."""
    # Not tmp_path: a unix socket's path has 107 bytes at most.
    directory = tempfile.mkdtemp(prefix="gimli-")
    made = Gimli(directory)
    yield made
    made.close()
    bugs = made.bugs()
    shutil.rmtree(directory, ignore_errors=True)
    assert not bugs, bugs


def reachable_by_all(gimli: Gimli) -> Gimli:
    """Let it run from a copy that any user may read, where this checkout lies in a private directory."""
    os.chmod(gimli.directory, 0o711)
    copy = os.path.join(gimli.directory, "package")
    package = os.path.dirname(os.path.abspath(gimli_package.__file__))
    shutil.copytree(package, os.path.join(copy, "gimli"), ignore=shutil.ignore_patterns("__pycache__"))
    gimli.environment["PYTHONPATH"] = copy
    return gimli


def python(source: str) -> tuple[str, ...]:
    """The command of a small Python program."""
    return (sys.executable, "-c", source)


@pytest.fixture(name="python")
def _python() -> Callable[[str], tuple[str, ...]]:
    return python
