"""Plays topologies from seeds, several at once where there are processors for it."""

from __future__ import annotations

import os
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gimli.lab.network import evidence, measure
from gimli.lab.network.simulator.run import simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gimli.lab.network.simulator.record import Run
    from gimli.lab.network.topology import Topology
    from gimli.lab.scenario import Verdict

_FEW = 3
"""Not worth a pool of processes."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run to be made."""

    topology: Topology
    seed: int
    events_max: int | None = None
    """It is cut short when it takes more."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is kept of it.

    Args:
        verdicts: of the topology's expectations.
        told: the connection whose story says most, and how much it says: less is more. None without a freeze.
    """

    metrics: dict[str, Any]
    verdicts: tuple[Verdict, ...]
    told: tuple[tuple[int, ...], evidence.Subject] | None


def streams(seed: int) -> Callable[[str], random.Random]:
    """A random generator by name, always the same one for the same seed and name."""

    def stream(name: str) -> random.Random:
        return random.Random(f"{seed}/{name}")  # noqa: S311 - repeatable is what it must be, not secret

    return stream


def play(topology: Topology, seed: int, events_max: int | None = None) -> Run:
    """Once."""
    return simulate(topology, streams(seed), events_max=events_max)


def trace(topology: Topology, seed: int, told: evidence.Subject | None) -> Run:
    """A second run of the same seed that traces a connection, and changes nothing else."""
    return simulate(topology, streams(seed), told.traced if told is not None else frozenset())


def play_all(jobs: Sequence[Job]) -> Iterator[Outcome]:
    """All of them, in order; what comes out does not depend on how many run at once."""
    processors = len(os.sched_getaffinity(0))
    if processors == 1 or len(jobs) <= _FEW:
        yield from map(_play, jobs)
        return
    with ProcessPoolExecutor(min(processors, len(jobs))) as pool:
        yield from pool.map(_play, jobs)


def _play(job: Job) -> Outcome:
    run = play(job.topology, job.seed, job.events_max)
    return Outcome(measure.metrics(run), measure.verdicts(run), evidence.choose(run))
