"""How long is a service down when its program faults, and when can its report be read?

    fault --> noticed --> helper started --> released --> ended --> executed --> first line of main
      |  `------------------------- down for ------------------------------------------'
      `---> analysed: the report is complete

The program itself stamps the fault and the first line of main; what lies between comes from the journal.
The peers restart the same program: a shell loop and runsv without evidence (the floor), a shell loop with
the kernel's core dump, and a program that always runs below gdb.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import peers
from figures import Figure
from workbench import (
    PROGRAMS,
    Effort,
    Unmeasurable,
    Up,
    Workbench,
    end,
    end_descendants,
    service_table,
    start,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

BUDGET_MS = {"C": 60, "Python": 250}
REPORT_BUDGET_MS = 1500
_STAGES = {
    "crash": "fault noticed",
    "snapshot": "helper started",
    "released": "snapshot taken",
    "exited": "program ended",
    "started": "new instance executed",
}
_RUNSV_PATIENCE_S = 1.2
"""runsv waits for a second before it restarts a program that ran for less than one."""


@dataclass(frozen=True, slots=True)
class Crash:
    """One crash under gimli, milliseconds from the fault."""

    down_ms: float
    report_ms: float
    stages_ms: dict[str, float]


def measure(bench: Workbench, effort: Effort) -> Iterator[Figure]:
    """C first, then Python."""
    commands = {
        "C": [bench.compiled("victim"), "crash"],
        "Python": [sys.executable, os.path.join(PROGRAMS, "victim.py")],
    }
    for language, command in commands.items():
        crashes = _crashes_under_gimli(bench, command, effort.runs(9))
        others = dict(_peers(bench, command, effort.runs(9)))
        down_ms = [crash.down_ms for crash in crashes]
        yield Figure(f"fault to new instance, {language}", "ms", down_ms, BUDGET_MS[language], others)
        for event, stage in _STAGES.items():
            yield Figure(f"  {stage}", "ms", [crash.stages_ms[event] for crash in crashes])
        reports = [crash.report_ms for crash in crashes]
        yield Figure(f"fault to report complete, {language}", "ms", reports, REPORT_BUDGET_MS)


def _crashes_under_gimli(bench: Workbench, command: list[str], runs: int) -> list[Crash]:
    """A service per run: the second crash in a row of the same service waits for its backoff."""
    place = bench.place("up")
    victims = {f"victim-{number}": Victim(bench.place("victim"), command) for number in range(runs)}
    with Up(place, {name: service_table(victim.command) for name, victim in victims.items()}) as up:
        return [_crash(up, name, victim) for name, victim in victims.items()]


def _crash(up: Up, name: str, victim: Victim) -> Crash:
    fault_ns, main_ns = victim.crash()
    analysed = up.wait_for_event(name, "analysed", "analysis-failed", "snapshot-failed", after_ns=fault_ns)
    if analysed["event"] != "analysed":
        raise Unmeasurable(f"{analysed['event']}: {analysed.get('what', '')} {analysed.get('why', '')}")
    stages_ms = {
        entry["event"]: (entry["monotonic_ns"] - fault_ns) / 1e6
        for entry in up.events(name)
        if entry["monotonic_ns"] > fault_ns and entry["event"] in _STAGES
    }
    return Crash((main_ns - fault_ns) / 1e6, (analysed["monotonic_ns"] - fault_ns) / 1e6, stages_ms)


class Victim:
    """The files by which one victim is told, and tells."""

    def __init__(self, place: str, command: list[str]) -> None:
        self.place = place
        self._trigger = os.path.join(place, "trigger")
        self._record = os.path.join(place, "record")
        os.mkfifo(self._trigger)
        self.command = [*command, self._trigger, self._record]

    def crash(self, *, after_s: float = 0.3) -> tuple[int, int]:
        """Wait until it runs, and some time more; tell it.

        Returns:
            When it faulted and when the next instance began, on CLOCK_MONOTONIC in nanoseconds.
        """
        instances = len(self.wait_for("main", 1))
        time.sleep(after_s)
        self.tell()
        fault_ns = self.wait_for("crash", 1)[-1]
        return fault_ns, self.wait_for("main", instances + 1)[-1]

    def tell(self) -> None:
        """Give the word."""
        with open(self._trigger, "wb", buffering=0) as fifo:
            fifo.write(b"!")

    def wait_for(self, what: str, count: int) -> list[int]:
        """The stamps of a kind of record, as soon as there are enough."""

        def look() -> list[int] | None:
            try:
                with open(self._record, encoding="ascii") as file:
                    stamps = [int(line.split()[1]) for line in file if line.split()[0] == what]
            except FileNotFoundError:
                return None
            return stamps if len(stamps) >= count else None

        return wait_for(look, f"record {what!r} number {count} of {' '.join(self.command)}")


def _peers(bench: Workbench, command: list[str], runs: int) -> Iterator[tuple[str, tuple[float, ...]]]:
    loop = 'while :; do "$@"; done'
    yield "shell loop", _under(bench, command, ["sh", "-c", loop, "sh"], runs)
    if runsv := peers.find("runsv"):
        yield "runsv", _under_runsv(bench, command, runsv, runs)
    if _kernel_writes_core_files():
        wrapped = ["sh", "-c", f"ulimit -c unlimited; {loop}", "sh"]
        yield "kernel core", _under(bench, command, wrapped, runs)
    if gdb := peers.find("gdb"):
        gdb += " -q -batch -ex run -ex 'thread apply all bt full' -ex 'generate-core-file core' --args"
        loop = f'while :; do {gdb} "$@"; done'
        yield "below gdb", _under(bench, command, ["sh", "-c", loop, "sh"], 3)


def _under(bench: Workbench, command: list[str], wrapper: list[str], runs: int) -> tuple[float, ...]:
    """Milliseconds down, with a new victim below a wrapper for each run, as under gimli."""
    downs_ms = []
    for _ in range(runs):
        victim = Victim(bench.place("peer"), command)
        process = start([*wrapper, *victim.command], victim.place)
        fault_ns, main_ns = victim.crash()
        downs_ms.append((main_ns - fault_ns) / 1e6)
        process.kill()
        process.wait()
        end_descendants()
    return tuple(downs_ms)


def _under_runsv(bench: Workbench, command: list[str], runsv: str, runs: int) -> tuple[float, ...]:
    downs_ms = []
    for _ in range(runs):
        victim = Victim(bench.place("peer"), command)
        peers.make_service_directory(victim.place, victim.command)
        process = start([runsv, victim.place], victim.place)
        fault_ns, main_ns = victim.crash(after_s=_RUNSV_PATIENCE_S)
        downs_ms.append((main_ns - fault_ns) / 1e6)
        end(process)
    return tuple(downs_ms)


def _kernel_writes_core_files() -> bool:
    with open("/proc/sys/kernel/core_pattern", encoding="utf-8") as file:
        return not file.read().startswith(("|", "@", "/"))
