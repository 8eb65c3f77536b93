"""What does it cost to hold N services, and how fast does one that was killed come back?

The same program N times under each supervisor, all at once: they do not disturb each other, because each
sleeps until something happens. Who comes first is drawn anew for each start and each kill, and a kill waits
until what the last one has set off is over.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import peers
from figures import Figure
from fleets import KINDS, Fleet, Floor, Gimli, Runit
from workbench import Effort, Workbench, cpu_ns, end_descendants

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

RATIO_MAX = 1.5
RSS_BUDGET_MB = {1: 12, 100: 20, 1000: 20}
_SEED = 1
_SETTLE_S = 1.5
"""A program that ends in its first second has failed to start, for runit and for supervisor."""
_QUIET_S = 0.1
"""After a restart, for what is left to do; gimli begins its report of a kill after 20 ms."""
_IDLE_S = 5.0
_HEALTHY_S = 11.0
"""After 10 s of health gimli forgets earlier failures: a deadline of each service, and no idleness."""


def measure(bench: Workbench, effort: Effort) -> Iterator[Figure]:
    """N = 1 and 100; 1000 takes minutes more, and 2 GB."""
    for count in (1, 100, 1000) if effort is Effort.FULL else (1, 100):
        yield from _figures(bench, count, effort)


def _samples() -> defaultdict[str, list[float]]:
    return defaultdict(list)


@dataclass(frozen=True, slots=True)
class Taken:
    """What was measured, by the name of the fleet."""

    starts_ms: dict[str, list[float]] = field(default_factory=_samples)
    own_starts_ms: dict[str, list[float]] = field(default_factory=_samples)
    restarts_ms: dict[str, list[float]] = field(default_factory=_samples)
    resident_mb: dict[str, list[float]] = field(default_factory=_samples)
    share_mb: dict[str, list[float]] = field(default_factory=_samples)
    idle_percent: dict[str, list[float]] = field(default_factory=_samples)


def _figures(bench: Workbench, count: int, effort: Effort) -> Iterator[Figure]:
    kinds = [kind for kind in KINDS if not kind.package or peers.is_here(kind.package)]
    absent = sorted({kind.package for kind in KINDS} - {kind.package for kind in kinds})
    note = f"without {', '.join(absent)}, not installed here" if absent else ""
    taken = _measured(bench, kinds, count, effort)
    floor = {Floor.name: RATIO_MAX}
    ahead = floor | {Runit.name: 1.0}
    yield _figure(f"kill -9 to main, N={count}", "ms", taken.restarts_ms, ratios_max=ahead, note=note)
    # With one service the start is that of the command line, for which there is no budget.
    yield _figure(f"start of N={count}", "ms", taken.starts_ms, ratios_max=floor if count > 1 else {})
    yield _figure("  until the monitor stands", "ms", taken.own_starts_ms)
    yield _figure(f"resident memory, N={count}", "MB", taken.resident_mb, RSS_BUDGET_MB[count])
    yield _figure("  with shared pages divided", "MB", taken.share_mb)
    yield _figure(f"idle CPU, N={count}", "%", taken.idle_percent, 0)


def _measured(bench: Workbench, kinds: Sequence[type[Fleet]], count: int, effort: Effort) -> Taken:
    taken, dice = Taken(), random.Random(_SEED)
    # A second kill of the same service would wait for its backoff: with one service, more rounds.
    for number in range(effort.runs(15 if count == 1 else 5)):
        fleets = [kind(bench, count) for kind in dice.sample(kinds, len(kinds))]
        time.sleep(_SETTLE_S)
        _measure_standing(fleets, taken)
        if number == 0:  # once is enough: it takes longest
            _measure_idle(fleets, taken)
        for _ in range(min(count, effort.runs(9))):
            _measure_restarts(dice.sample(fleets, len(fleets)), taken)
        for fleet in fleets:
            fleet.end()
        end_descendants()
    return taken


def _figure(
    what: str,
    unit: str,
    samples: Mapping[str, Sequence[float]],
    budget: float | None = None,
    *,
    ratios_max: Mapping[str, float] | None = None,
    note: str = "",
) -> Figure:
    others = {kind.name: samples[kind.name] for kind in KINDS if kind.name in samples}
    return Figure(what, unit, others.pop(Gimli.name), budget, others, ratios_max or {}, note)


def _measure_standing(fleets: Sequence[Fleet], taken: Taken) -> None:
    """How they started, and what they hold."""
    for fleet in fleets:
        taken.starts_ms[fleet.name].append(fleet.start_ms)
        if isinstance(fleet, Gimli):
            taken.own_starts_ms[fleet.name].append(fleet.own_start_ms())
        pids = fleet.supervisors()
        taken.resident_mb[fleet.name].append(sum(_kb(pid, "Rss:") for pid in pids) / 1024)
        taken.share_mb[fleet.name].append(sum(_kb(pid, "Pss:") for pid in pids) / 1024)


def _measure_idle(fleets: Sequence[Fleet], taken: Taken) -> None:
    """What they use when nothing happens."""
    time.sleep(_HEALTHY_S)
    supervisors = {fleet.name: fleet.supervisors() for fleet in fleets}
    before_ns = {name: sum(map(cpu_ns, pids)) for name, pids in supervisors.items()}
    time.sleep(_IDLE_S)
    for name, pids in supervisors.items():
        used_ns = sum(map(cpu_ns, pids)) - before_ns[name]
        taken.idle_percent[name].append(used_ns / 1e9 / _IDLE_S * 100)


def _measure_restarts(fleets: Sequence[Fleet], taken: Taken) -> None:
    """One after the other, each when nothing of the last one runs any more."""
    for fleet in fleets:
        taken.restarts_ms[fleet.name].append(fleet.kill_one())
        time.sleep(_QUIET_S)
        fleet.rest()


def _kb(pid: int, field: str) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))
