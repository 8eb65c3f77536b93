"""What does it cost to hold N services, and how fast does one that was killed come back?

The same program N times, under three supervisors at once that do not disturb each other, because each sleeps
until something happens: gimli, the floor (floor.py) and runit. The program stamps its first instruction, so
a restart is the time from kill -9 to main, and a start the time from the supervisor's own to the last main.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import struct
import sys
import time
from typing import TYPE_CHECKING

from figures import Figure
from workbench import (
    HERE,
    Effort,
    Unmeasurable,
    Up,
    Workbench,
    descendants,
    end,
    end_descendants,
    start,
    wait_for,
)

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

RATIO_MAX = 1.5
RSS_BUDGET_MB = {1: 12, 100: 20, 1000: 20}
_ENTRY = struct.Struct("<QQ")  # programs/idle.c
_SETTLE_S = 1.5
"""runsv waits for a second before it restarts a program that ran for less than one."""
_IDLE_S = 5.0
_PATIENCE_S = 120.0


def measure(bench: Workbench, effort: Effort) -> Iterator[Figure]:
    """N = 1 and 100; 1000 takes a minute more and 2 GB (of runit's)."""
    for count in (1, 100, 1000) if effort is Effort.FULL else (1, 100):
        yield from _measure_fleets(bench, count, effort)


class Fleet:
    """N programs below one supervisor.

    Args:
        bench: where.
        count: how many.
        name: for the table.
    """

    name = ""

    def __init__(self, bench: Workbench, count: int) -> None:
        self.count = count
        self.place = bench.place(self.name.split()[0])
        self._record = os.path.join(self.place, "record")
        with open(self._record, "wb"):
            pass
        self.program = [bench.compiled("idle"), self._record]
        self.prepare()
        started_ns = time.monotonic_ns()
        self.process = self.launch()
        entries = self.wait_for_entries(count)
        self.start_ms = (entries[-1][1] - started_ns) / 1e6
        self._victims = [pid for pid, _ in entries]

    def prepare(self) -> None:
        """What an operator has done before."""

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the supervisor."""
        raise NotImplementedError

    def end(self) -> None:
        """End it, and its programs."""
        self.process.kill()
        self.process.wait()

    def wait_for_entries(self, count: int) -> list[tuple[int, int]]:
        """(pid, time of main) of every program started so far, as soon as there are enough."""
        size = count * _ENTRY.size

        def look() -> list[tuple[int, int]] | None:
            if self.process.poll() is not None:
                raise Unmeasurable(f"{self.name} has ended with {self.process.returncode}")
            if os.stat(self._record).st_size < size:
                return None
            with open(self._record, "rb") as file:
                return list(_ENTRY.iter_unpack(file.read()))

        return wait_for(look, f"{count} starts below {self.name}", _PATIENCE_S)

    def kill_one(self) -> float:
        """Milliseconds from kill -9 of a program to the first instruction of its successor."""
        before = os.stat(self._record).st_size // _ENTRY.size
        killed_ns = time.monotonic_ns()
        os.kill(self._victims.pop(), signal.SIGKILL)
        return (self.wait_for_entries(before + 1)[-1][1] - killed_ns) / 1e6

    def supervisors(self) -> list[int]:
        """The processes that are not the programs."""
        programs = {pid for pid, _ in self.wait_for_entries(self.count)}
        below = descendants(self.process.pid)
        return [self.process.pid, *(pid for pid in below if pid not in programs)]

    def resident_mb(self) -> float:
        """Resident memory of the supervisor's processes."""
        return sum(_resident_kb(pid) for pid in self.supervisors()) / 1024

    def cpu_ns(self) -> int:
        """CPU time that the supervisor's processes have used."""
        return sum(_cpu_ns(pid) for pid in self.supervisors())


class Gimli(Fleet):
    """``gimli up``, as it comes: each program with its log, its page, and libgimli preloaded."""

    name = "gimli"
    table = ""

    def launch(self) -> subprocess.Popen[bytes]:
        """See Fleet."""
        table = f"command = {self.program}\n{self.table}".replace("'", '"')
        self.up = Up(self.place, {f"idle-{number}": table for number in range(self.count)})
        return self.up.process

    def end(self) -> None:
        """See Fleet."""
        self.up.end()

    def own_start_ms(self) -> float:
        """Milliseconds from the command to the monitor's first line: the command line, and imports."""
        first = next(entry for entry in self.up.events() if entry["event"] == "monitor-started")
        return (first["monotonic_ns"] - self.up.started_ns) / 1e6


class GimliBare(Gimli):
    """``gimli up`` with what the floor does not have switched off where that is possible."""

    name = "gimli without log and preload"
    table = "preload = false\nlog = 'inherit'"


class Floor(Fleet):
    """floor.py."""

    name = "floor"

    def launch(self) -> subprocess.Popen[bytes]:
        """See Fleet."""
        script = os.path.join(HERE, "floor.py")
        python = os.path.realpath(sys.executable)
        return start([python, "-I", "-S", script, str(self.count), *self.program], self.place)


class Runit(Fleet):
    """runsvdir, and a runsv per program."""

    name = "runit"

    def prepare(self) -> None:
        """A directory per service."""
        for number in range(self.count):
            service = os.path.join(self.place, "services", f"idle-{number}")
            os.makedirs(service)
            script = os.path.join(service, "run")
            with open(script, "w", encoding="utf-8") as file:
                file.write(f"#!/bin/sh\nexec {shlex.join(self.program)}\n")
            os.chmod(script, 0o755)

    def launch(self) -> subprocess.Popen[bytes]:
        """See Fleet."""
        return start(["runsvdir", os.path.join(self.place, "services")], self.place)

    def end(self) -> None:
        """HUP: runsvdir ends every runsv, which ends its program."""
        end(self.process, signal.SIGHUP)


def _measure_fleets(bench: Workbench, count: int, effort: Effort) -> Iterator[Figure]:
    kinds: list[type[Fleet]] = [Gimli, GimliBare, Floor, *([Runit] if shutil.which("runsvdir") else [])]
    starts: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    restarts: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    resident: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    idle: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    own_starts = []
    # A second kill of the same service would wait for its backoff: with few services, more rounds.
    rounds = effort.runs(9) if count == 1 else 3
    kills = min(count, effort.runs(15))
    for number in range(rounds):
        fleets = [kind(bench, count) for kind in kinds]
        time.sleep(_SETTLE_S)
        if number == 0:
            before = {fleet.name: fleet.cpu_ns() for fleet in fleets}
            time.sleep(_IDLE_S)
            for fleet in fleets:
                idle[fleet.name].append((fleet.cpu_ns() - before[fleet.name]) / _IDLE_S / 1e7)
        for fleet in fleets:
            starts[fleet.name].append(fleet.start_ms)
            resident[fleet.name].append(fleet.resident_mb())
        own_starts += [fleet.own_start_ms() for fleet in fleets if type(fleet) is Gimli]
        for _ in range(kills):
            for fleet in fleets:
                restarts[fleet.name].append(fleet.kill_one())
        for fleet in fleets:
            fleet.end()
        end_descendants()
    note = "" if shutil.which("runsvdir") else "runit is not installed (apt install runit)"
    yield from _compare(
        f"kill -9 to main of the next, N={count}", "ms", restarts, {Floor: RATIO_MAX, Runit: 1}
    )
    yield from _compare(f"start of N={count}", "ms", starts, {Floor: RATIO_MAX} if count > 1 else {})
    yield Figure("  of that, until the monitor is there", "ms", tuple(own_starts))
    yield from _compare(f"resident memory, N={count}", "MB", resident, {}, RSS_BUDGET_MB[count])
    yield from _compare(f"idle CPU, N={count}", "% of a core", idle, {}, 0, note)


def _compare(
    what: str,
    unit: str,
    samples: dict[str, list[float]],
    ratios: dict[type[Fleet], float],
    budget: float | None = None,
    note: str = "",
) -> Iterator[Figure]:
    """A line for each peer; the budget stands in the first."""
    ours = tuple(samples[Gimli.name])
    limits = {kind.name: limit for kind, limit in ratios.items()}
    for peer, measured in samples.items():
        if peer != Gimli.name:
            yield Figure(what, unit, ours, budget, peer, tuple(measured), limits.get(peer), note)


def _resident_kb(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


def _cpu_ns(pid: int) -> int:
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0])
