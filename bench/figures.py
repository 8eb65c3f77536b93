"""What is a figure, and does it keep its budget?

A figure is a list of samples with a budget: an absolute one, a ratio to a peer measured in the same run, or
both. The median is judged; minimum and maximum show how far to trust it.
"""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gimli

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Args:
        what: what was measured.
        unit: of the samples and of the budget.
        samples: ours; empty when it could not be measured, and ``note`` says why.
        budget: most that the median may be.
        peer: what it is compared with; a figure may have several lines, one per peer.
        peer_samples: the peer's, in the same unit and run.
        ratio_max: most that our median may be of the peer's.
        note: what a reader must know.
    """

    what: str
    unit: str
    samples: tuple[float, ...]
    budget: float | None = None
    peer: str = ""
    peer_samples: tuple[float, ...] = ()
    ratio_max: float | None = None
    note: str = ""

    @property
    def median(self) -> float:
        """Of our samples."""
        return statistics.median(self.samples)

    @property
    def ratio(self) -> float | None:
        """Our median to the peer's."""
        if not self.samples or not self.peer_samples:
            return None
        peer_median = statistics.median(self.peer_samples)
        return self.median / peer_median if peer_median else None

    @property
    def verdict(self) -> str:
        """``holds``, ``MISSED``, ``not measured``, or nothing where no budget is."""
        if not self.samples:
            return "not measured"
        verdicts = []
        if self.budget is not None:
            verdicts.append(self.median <= self.budget)
        if self.ratio_max is not None and self.ratio is not None:
            verdicts.append(self.ratio <= self.ratio_max)
        return "" if not verdicts else "holds" if all(verdicts) else "MISSED"

    def to_json(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "what": self.what,
            "unit": self.unit,
            "samples": list(self.samples),
            "budget": self.budget,
            "peer": self.peer,
            "peer_samples": list(self.peer_samples),
            "ratio": self.ratio,
            "ratio_max": self.ratio_max,
            "verdict": self.verdict,
            "note": self.note,
        }


def compared(
    what: str,
    unit: str,
    ours: Sequence[float],
    peers: Mapping[str, Sequence[float]],
    budget: float | None = None,
    ratios: Mapping[str, float] | None = None,
) -> Iterator[Figure]:
    """A figure next to several peers, a line each; the absolute budget is judged in the first.

    Args:
        what: as in :class:`Figure`, like ``unit`` and ``budget``.
        unit: of all samples.
        ours: our samples.
        peers: each peer's; none is allowed.
        budget: in that unit.
        ratios: for the peers by which we are judged, how many times theirs we may be.
    """
    for peer, samples in (peers or {"": ()}).items():
        yield Figure(what, unit, tuple(ours), budget, peer, tuple(samples), (ratios or {}).get(peer))
        budget = None


def table(figures: list[Figure]) -> str:
    """The figures as text, one line each, notes below."""
    head = ("what", "min / median / max", "unit", "budget", "peer", "peer's median", "ratio", "verdict")
    rows = [head, *(_row(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    notes = dict.fromkeys(f"{figure.what}: {figure.note}" for figure in figures if figure.note)
    return "\n".join([*(line.rstrip() for line in lines), *(["", *notes] if notes else [])])


def _row(figure: Figure) -> tuple[str, ...]:
    spread = ""
    if figure.samples:
        spread = " / ".join(map(_short, (min(figure.samples), figure.median, max(figure.samples))))
    limits = [_short(figure.budget)] if figure.budget is not None else []
    limits += [f"{figure.ratio_max:g} x"] if figure.ratio_max is not None else []
    return (
        figure.what,
        spread,
        figure.unit,
        ", ".join(limits),
        figure.peer,
        _short(statistics.median(figure.peer_samples)) if figure.peer_samples else "",
        f"{figure.ratio:.2f}" if figure.ratio is not None else "",
        figure.verdict,
    )


def _short(number: float) -> str:
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and when the figures were made."""

    date: str
    cpu: str
    cores: int
    kernel: str
    python: str
    gimli: str
    gdb: str

    def __str__(self) -> str:
        return (
            f"{self.date}, {self.cores} cores of {self.cpu}, Linux {self.kernel}, Python {self.python}, "
            f"gimli {self.gimli}, gdb {self.gdb}"
        )


def this_machine() -> Machine:
    """The one we run on."""
    return Machine(
        date=time.strftime("%Y-%m-%d %H:%M %z"),
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        kernel=platform.release(),
        python=platform.python_version(),
        gimli=gimli.__version__,
        gdb=_gdb_version(),
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


def _gdb_version() -> str:
    if not shutil.which("gdb"):
        return "not installed"
    told = subprocess.run(["gdb", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return told.splitlines()[0].split()[-1]
