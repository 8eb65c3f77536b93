"""Programs to capture, and the helper to capture them with, run as the monitor runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

import gimli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HERE = os.path.dirname(os.path.abspath(__file__))
LIBRARY = os.path.join(HERE, "..", "..", "libgimli")
HELPER = os.path.join(os.path.dirname(os.path.abspath(gimli.__file__)), "capture", "__main__.py")
REPORT_ID = "01ARYZ6S41"


@dataclass
class Outcome:
    """What one run of the helper said and left."""

    status: int
    messages: list[dict[str, Any]]
    stderr: str
    state_dir: str
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def last(self) -> dict[str, Any]:
        """The message that ends the run."""
        return self.messages[-1]

    @property
    def core(self) -> str:
        """Path of the core."""
        return os.path.join(self.last["path"], "core")


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Compile a program of tests/capture/programs once; skips where there is no compiler."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc: apt-get install gcc libc6-dev")
    directory = tmp_path_factory.mktemp("programs")

    def build(name: str) -> str:
        path = str(directory / name)
        source = os.path.join(HERE, "programs", f"{name}.c")
        if not os.path.exists(path):
            subprocess.run(
                ["gcc", "-std=gnu11", "-g", "-O0", "-pthread", f"-I{LIBRARY}", "-o", path, source], check=True
            )
        return path

    return build


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a program and wait for its line; it is gone after the test."""
    started = []

    def begin(*command: str, line: bytes = b"ready\n", **more: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == line
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def request_for(pid: int, state_dir: str, **changes: Any) -> dict[str, Any]:
    """A request as the monitor makes it."""
    return {
        "id": REPORT_ID,
        "state_dir": state_dir,
        "service": "web",
        "reason": "request",
        "command": ["web", "--port", "80"],
        "time": "2026-11-22T04:00:07.412345+01:00",
        "monotonic_ns": 12_345_678_901,
        "pid": pid,
        "service_pid": pid,
        "start_ticks": None,
        "crash": None,
        "signal": None,
        "hang": None,
        "heartbeat": None,
        "page": None,
        "output": ["last words"],
        "journal": [],
        "facts": {"restarts": 2, "started": "2026-11-22T03:00:00.000000+01:00"},
        "cap_bytes": 8 << 20,
        "stop_timeout_s": 1.0,
    } | changes


def run_helper(text: str, state_dir: str, **more: Any) -> Outcome:
    """Run the helper on a request as text."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", HELPER],
        input=text.encode(),
        capture_output=True,
        timeout=60,
        check=False,
        **more,
    )
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    outcome = Outcome(done.returncode, messages, done.stderr.decode(), state_dir)
    if path := messages[-1].get("path"):
        with open(os.path.join(path, "facts.json"), "rb") as file:
            outcome.facts = json.load(file)
    return outcome


@pytest.fixture
def capture(tmp_path: Path) -> Callable[..., Outcome]:
    """Capture a process; keyword arguments change the request."""

    def run(
        pid: int, *, state_dir: str | None = None, options: dict[str, Any] | None = None, **changes: Any
    ) -> Outcome:
        state = state_dir or str(tmp_path / "state")
        return run_helper(json.dumps(request_for(pid, state, **changes)), state, **(options or {}))

    return run
