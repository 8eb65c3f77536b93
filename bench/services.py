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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from figures import Figure, compared
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
    from collections.abc import Callable, Iterator

RATIO_MAX = 1.5
RSS_BUDGET_MB = {1: 12, 100: 20, 1000: 20}
_ENTRY = struct.Struct("<QQ")  # programs/idle.c
_SETTLE_S = 1.5
"""runsv waits for a second before it restarts a program that ran for less than one."""
_IDLE_S = 5.0
_HEALTHY_S = 11.0
"""After 10 s of health gimli forgets earlier failures: a deadline of each service, and no idleness."""
_PATIENCE_S = 120.0


def measure(bench: Workbench, effort: Effort) -> Iterator[Figure]:
    """N = 1 and 100; 1000 takes a minute more and 2 GB (of runit's)."""
    for count in (1, 100, 1000) if effort is Effort.FULL else (1, 100):
        yield from _figures(bench, count, effort)


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
        return (int(first["monotonic_ns"]) - self.up.started_ns) / 1e6


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


@dataclass(frozen=True, slots=True)
class Samples:
    """What was measured of one kind of fleet."""

    starts_ms: list[float] = field(default_factory=list)
    own_starts_ms: list[float] = field(default_factory=list)
    restarts_ms: list[float] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)
    idle_percent: list[float] = field(default_factory=list)


def _figures(bench: Workbench, count: int, effort: Effort) -> Iterator[Figure]:
    kinds: list[type[Fleet]] = [Gimli, GimliBare, Floor, *([Runit] if shutil.which("runsvdir") else [])]
    taken = {kind.name: Samples() for kind in kinds}
    # A second kill of the same service would wait for its backoff: with one service, more rounds.
    rounds = effort.runs(9) if count == 1 else 3
    for _ in range(rounds):
        _measure_round(bench, kinds, count, min(count, effort.runs(15)), taken)
    ours = taken.pop(Gimli.name)

    def each(of: Callable[[Samples], list[float]]) -> dict[str, list[float]]:
        return {name: of(samples) for name, samples in taken.items()}

    restarts, starts = each(lambda of: of.restarts_ms), each(lambda of: of.starts_ms)
    ratios = {Floor.name: RATIO_MAX}
    restart_ratios = {**ratios, Runit.name: 1.0}
    yield from compared(
        f"kill -9 to main of the next, N={count}", "ms", ours.restarts_ms, restarts, None, restart_ratios
    )
    # With one service the start is that of the command line, for which there is no budget.
    yield from compared(
        f"start of N={count}", "ms", ours.starts_ms, starts, None, ratios if count > 1 else None
    )
    yield Figure("  of that, until the monitor stands", "ms", tuple(ours.own_starts_ms))
    resident, idle = each(lambda of: of.resident_mb), each(lambda of: of.idle_percent)
    yield from compared(f"resident memory, N={count}", "MB", ours.resident_mb, resident, RSS_BUDGET_MB[count])
    yield from compared(f"idle CPU, N={count}", "% of a core", ours.idle_percent, idle, 0)


def _measure_round(
    bench: Workbench, kinds: list[type[Fleet]], count: int, kills: int, taken: dict[str, Samples]
) -> None:
    """All kinds of fleets at the same time, and their victims in turns."""
    fleets = [kind(bench, count) for kind in kinds]
    time.sleep(_SETTLE_S)
    if not taken[Gimli.name].idle_percent:  # once is enough: it takes longest
        time.sleep(_HEALTHY_S)
        before = {fleet.name: fleet.cpu_ns() for fleet in fleets}
        time.sleep(_IDLE_S)
        for fleet in fleets:
            used_ns = fleet.cpu_ns() - before[fleet.name]
            taken[fleet.name].idle_percent.append(used_ns / 1e9 / _IDLE_S * 100)
    for fleet in fleets:
        taken[fleet.name].starts_ms.append(fleet.start_ms)
        taken[fleet.name].resident_mb.append(fleet.resident_mb())
        if isinstance(fleet, Gimli):
            taken[fleet.name].own_starts_ms.append(fleet.own_start_ms())
    for _ in range(kills):
        for fleet in fleets:
            taken[fleet.name].restarts_ms.append(fleet.kill_one())
    for fleet in fleets:
        fleet.end()
    end_descendants()


def _resident_kb(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


def _cpu_ns(pid: int) -> int:
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0])
