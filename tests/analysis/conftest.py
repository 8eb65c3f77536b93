"""Programs to bring down, and the helpers to capture and analyse them, run as the monitor runs them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import gimli
from gimli import report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = os.path.dirname(os.path.abspath(gimli.__file__))
CAPTURE = os.path.join(PACKAGE, "capture", "__main__.py")
ANALYSIS = os.path.join(PACKAGE, "analysis", "__main__.py")
REPORT_ID = "01ARYZ6S41"


def facts(**changes: Any) -> dict[str, Any]:
    """What a capture writes down at the least."""
    return {
        "schema": 1,
        "id": REPORT_ID,
        "service": "orders",
        "reason": "crash",
        "time": "2026-11-22T04:00:07+01:00",
        "monotonic_ns": 1000,
        "pid": 4711,
        "service_pid": 4711,
        "command": ["./orders"],
    } | changes


def analyse(directory: Path | str, *options: str) -> report.Report:
    """Run the analysis helper on a directory and read what it wrote."""
    done = run_analysis(directory, *options)
    assert done.returncode == 0, done.stderr
    message = json.loads(done.stdout)
    with open(os.path.join(directory, "report.json"), encoding="ascii") as file:
        made = report.from_json(json.load(file))
    assert message == {
        "event": "analysed",
        "id": made.id,
        "signature": made.signature,
        "summary": made.summary,
    }
    return made


def run_analysis(directory: Path | str, *options: str) -> subprocess.CompletedProcess[str]:
    """The analysis helper as the monitor starts it."""
    return subprocess.run(
        [sys.executable, "-I", ANALYSIS, str(directory), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program with every way to go down, compiled."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc: apt-get install gcc libc6-dev")
    return compile_faults(str(tmp_path_factory.mktemp("programs") / "faults"))


def compile_faults(path: str, *options: str) -> str:
    """Compile programs/faults.c to ``path``, without optimising: its variables are what is tested."""
    source = os.path.join(HERE, "programs", "faults.c")
    subprocess.run(
        ["gcc", "-std=gnu11", "-g", "-O0", "-w", "-pthread", *options, "-o", path, source], check=True
    )
    return path


@pytest.fixture
def crash(tmp_path: Path) -> Callable[..., str]:
    """Let a program crash and make a report directory of the kernel's core of it."""
    with open("/proc/sys/kernel/core_pattern", encoding="ascii") as file:
        if file.read().startswith(("|", "@", "/")):
            pytest.skip("needs cores in the current directory: sysctl kernel.core_pattern=core")

    def make(*command: str, **changes: Any) -> str:
        done = subprocess.run(
            ["sh", "-c", 'ulimit -c unlimited; echo $$; exec "$0" "$@"', *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode < 0, done.stderr
        pid = int(done.stdout.split()[0])
        core = next(name for name in os.listdir(tmp_path) if name.startswith("core"))
        directory = tmp_path / "report"
        directory.mkdir()
        os.rename(tmp_path / core, directory / "core")
        told = facts(
            pid=pid,
            crash_tid=pid,
            signal=signal_of(str(directory / "core")),
            core={"file": "core"},
            output=done.stderr.splitlines(),
        )
        (directory / "facts.json").write_text(json.dumps(told | changes))
        return str(directory)

    return make


def signal_of(core: str) -> dict[str, Any]:
    """The signal of the first thread, from the core's NT_SIGINFO."""
    with open(core, "rb") as file:
        head = file.read(1 << 20)
    at = head.index(struct.pack("<I", 0x53494749) + b"CORE") + 12
    number, _, code = struct.unpack_from("<iii", head, at)
    (address,) = struct.unpack_from("<Q", head, at + 16)
    has_address = number in {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
    return {
        "name": signal.Signals(number).name,
        "number": number,
        "code": code,
        "address": address if has_address else None,
    }


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a program and wait for its first line ``ready``; it is killed at the end of the test."""
    started: list[subprocess.Popen[str]] = []

    def run(*command: str, **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
        started.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "ready":
                return process
        raise AssertionError("the program ended before it was ready")

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def capture(tmp_path: Path) -> Callable[..., str]:
    """Capture a running process as the monitor does after a hang; the report's directory."""

    def run(pid: int, **changes: Any) -> str:
        request = facts(
            state_dir=str(tmp_path / "state"),
            reason="hang",
            pid=pid,
            service_pid=pid,
            start_ticks=None,
            crash=None,
            signal=None,
            hang={"pulse": None, "tid": None, "silent_s": 30.02, "allowed_s": 30.0, "late_ms": 1.2},
            heartbeat=None,
            page=None,
            output=[],
            journal=[],
            facts={},
            cap_bytes=8 << 20,
            stop_timeout_s=2.0,
        )
        done = subprocess.run(
            [sys.executable, "-I", "-S", CAPTURE],
            input=json.dumps(request | changes),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return str(json.loads(done.stdout.splitlines()[-1])["path"])

    return run
