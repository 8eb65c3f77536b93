"""How long does a program stand still while a snapshot of it is taken?

As the program itself feels it: one of its threads reads the clock every 50 us and keeps the longest gap. The
first line is what it feels when nobody does anything; the peers get the same evidence in their own way, from
the same process, in turns with gimli.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import peers
from figures import Figure
from workbench import GIMLI, PROGRAMS, Effort, Unmeasurable, Workbench, start, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NATIVE_BUDGET_MS = 15
PYTHON_BUDGET_MS = 50
THREADS = 10
_SETTLE_S = 0.3


@dataclass(frozen=True, slots=True)
class Target:
    """A program that feels its pauses."""

    name: str
    command: list[str]
    megabytes: int
    budget_ms: float


def measure(bench: Workbench, effort: Effort) -> Iterator[Figure]:
    """Native at two sizes, for the pause must not grow with the program; then Python."""
    sampler = bench.compiled("sampler")
    threads = str(THREADS)
    targets = [
        Target(f"C, {size} MB", [sampler, "gap", str(size), threads], size, NATIVE_BUDGET_MS)
        for size in (50, 500)
    ]
    python = [sys.executable, os.path.join(PROGRAMS, "sampler.py"), "gap", threads]
    targets += [
        Target("Python, small", [*python, "0"], 5, PYTHON_BUDGET_MS),
        Target("Python, 100 MB", [*python, "100"], 100, PYTHON_BUDGET_MS),
    ]
    for target in targets:
        yield from _pauses(bench, target, effort)


def _pauses(bench: Workbench, target: Target, effort: Effort) -> Iterator[Figure]:
    place = bench.place("pause")
    with open(os.path.join(place, "gap"), "wb") as file:
        file.write(bytes(8))
    process = start(target.command, place)
    gap = Gap(os.path.join(place, "gap"))
    try:
        wait_for(lambda: _has_grown(process, target.megabytes), f"{target.name} to be {target.megabytes} MB")
        told: list[float] = []
        ways = _ways(place, process.pid, told)
        felt: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(effort.runs(7)):
            for name, way in ways.items():
                felt[name].append(gap.during(way))
    finally:
        process.kill()
        process.wait()
    ours, quiet = felt.pop("gimli"), felt.pop("nobody")
    yield Figure(f"pause by a snapshot, {target.name}", "ms", ours, target.budget_ms, felt)
    yield Figure("  as gimli says itself", "ms", told)
    yield Figure("  longest gap undisturbed", "ms", quiet)


class Gap:
    """The longest gap that a target has felt since it was last looked at."""

    def __init__(self, path: str) -> None:
        self._path = path

    def during(self, disturb: Callable[[], None]) -> float:
        """Milliseconds, while something is done to it."""
        time.sleep(_SETTLE_S)
        self._take()
        disturb()
        time.sleep(_SETTLE_S)
        return self._take() / 1e6

    def _take(self) -> int:
        with open(self._path, "r+b", buffering=0) as file:
            longest_ns = int.from_bytes(file.read(8), "little")
            file.seek(0)
            file.write(bytes(8))
        return longest_ns


def _ways(place: str, pid: int, told: list[float]) -> dict[str, Callable[[], None]]:
    state_dir = os.path.join(place, "state")
    core = os.path.join(place, "core")

    def gimli() -> None:
        _run([GIMLI, "snapshot", "--pid", str(pid), "--state-dir", state_dir])
        (facts,) = glob.glob(os.path.join(state_dir, "reports", "*", "facts.json"))
        with open(facts, encoding="utf-8") as file:
            told.append(json.load(file)["timings_ms"]["pause"])
        shutil.rmtree(state_dir)

    def gcore() -> None:
        _run([peers.find("gcore"), "-o", core, str(pid)])
        os.unlink(f"{core}.{pid}")

    def gdb() -> None:
        _run([peers.find("gdb"), "-q", "-batch", "-p", str(pid), "-ex", "thread apply all bt full"])

    ways = {"nobody": lambda: time.sleep(0.5), "gimli": gimli, "gcore": gcore, "gdb bt full": gdb}
    if not peers.is_here("gdb"):
        del ways["gcore"], ways["gdb bt full"]
    return ways


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise Unmeasurable(f"{command[0]} failed with {done.returncode}: {done.stderr.decode()[-300:]}")


def _has_grown(process: subprocess.Popen[bytes], megabytes: int) -> bool:
    if process.poll() is not None:
        raise Unmeasurable(f"the target has ended with {process.returncode}")
    with open(f"/proc/{process.pid}/statm", encoding="ascii") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
        threads = next(int(line.split()[1]) for line in file if line.startswith("Threads:"))
    return resident >= megabytes << 20 and threads == THREADS
