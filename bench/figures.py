"""What is a figure, and does it keep its budget?

A figure is a list of samples with a budget: an absolute one, a ratio to a peer measured in the same run, or
both. The median is judged; minimum and maximum show how far to trust it.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import peers

import gimli

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Args:
        what: what was measured.
        unit: of the samples and of the budget.
        samples: ours; empty when it could not be measured, and ``note`` says why.
        budget: most that the median may be.
        peers: what it is compared with: their samples, in the same unit and run.
        ratios_max: for the peers by which we are judged, how many times theirs our median may be.
        note: what a reader must know.
    """

    what: str
    unit: str
    samples: Sequence[float]
    budget: float | None = None
    peers: Mapping[str, Sequence[float]] = field(default_factory=dict)
    ratios_max: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def median(self) -> float:
        """Of our samples."""
        return statistics.median(self.samples)

    @property
    def ratios(self) -> dict[str, float]:
        """How many times each peer's median ours is; a peer whose median is 0 has none."""
        if not self.samples:
            return {}
        medians = {peer: statistics.median(samples) for peer, samples in self.peers.items()}
        return {peer: self.median / median for peer, median in medians.items() if median}

    @property
    def verdict(self) -> str:
        """``holds``, ``missed``, ``not measured``, or nothing where no budget is."""
        if not self.samples:
            return "not measured"
        kept = [self.median <= self.budget] if self.budget is not None else []
        kept += [
            ratio <= self.ratios_max[peer] for peer, ratio in self.ratios.items() if peer in self.ratios_max
        ]
        return "" if not kept else "holds" if all(kept) else "missed"

    def to_json(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "what": self.what,
            "unit": self.unit,
            "samples": list(self.samples),
            "budget": self.budget,
            "peers": {peer: list(samples) for peer, samples in self.peers.items()},
            "ratios": self.ratios,
            "ratios_max": dict(self.ratios_max),
            "verdict": self.verdict,
            "note": self.note,
        }


def table(figures: Sequence[Figure]) -> str:
    """The figures as a table in Markdown, aligned so that it can be read as it is; notes below."""
    head = ("figure", "median (spread)", "budget", "verdict", "next to")
    rows = [head, *map(_row, figures)]
    # The last column is not aligned: its cells are often longer than a line as it is.
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)] + [0]
    rows.insert(1, tuple("-" * max(3, width) for width in widths))
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    notes = dict.fromkeys(f"{figure.what.strip()}: {figure.note}" for figure in figures if figure.note)
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def _row(figure: Figure) -> tuple[str, ...]:
    spread, unit = "", f" {figure.unit}".rstrip()
    if figure.samples:
        least, middle, most = map(_short, (min(figure.samples), figure.median, max(figure.samples)))
        spread = f"{middle}{unit} ({least} to {most})"
    budgets = [f"{_short(figure.budget)}{unit}"] if figure.budget is not None else []
    budgets += [f"{most:g} x {peer}" for peer, most in figure.ratios_max.items()]
    verdict = figure.verdict
    return (
        figure.what,
        spread,
        ", ".join(budgets),
        f"**{verdict}**" if verdict == "missed" else verdict,
        ", ".join(_next_to(figure, peer) for peer in figure.peers),
    )


def _next_to(figure: Figure, peer: str) -> str:
    ratio = figure.ratios.get(peer)
    told = f"{peer} {_short(statistics.median(figure.peers[peer]))}"
    return told if ratio is None else f"{told} ({_short(ratio)} x)"


def _short(number: float) -> str:
    """Three digits, and one of what is small."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}" if number >= 0.1 else f"{number:.1g}"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and when the figures were made."""

    date: str
    cpu: str
    cores: int
    kernel: str
    scheduling: str
    python: str
    gimli: str
    peers: Mapping[str, str]

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.peers.items())
        return (
            f"{self.date}, {self.cores} cores of {self.cpu}, Linux {self.kernel}, {self.scheduling}, "
            f"Python {self.python}, gimli {self.gimli}, {versions}"
        )


_SCHEDULING = {os.SCHED_OTHER: "SCHED_OTHER", os.SCHED_FIFO: "SCHED_FIFO", os.SCHED_RR: "SCHED_RR"}


def this_machine() -> Machine:
    """The one we run on."""
    return Machine(
        date=time.strftime("%Y-%m-%d %H:%M %z"),
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        scheduling=_SCHEDULING.get(os.sched_getscheduler(0), "an unusual scheduling"),
        python=platform.python_version(),
        gimli=gimli.__version__,
        peers=peers.versions(),
    )


def load() -> str:
    """What else runs, in words: load average, and the share of time in which somebody waited for a CPU."""
    try:
        with open("/proc/pressure/cpu", encoding="ascii") as file:
            waiting = file.readline().split()[1].partition("=")[2]
    except OSError:
        waiting = "unknown"
    return f"load average {os.getloadavg()[0]:.2f}, CPU pressure {waiting} % (10 s)"


def _cpu_model() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
