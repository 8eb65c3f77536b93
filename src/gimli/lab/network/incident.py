"""A network as a scenario of the laboratory: what is run, what is told of it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from gimli.errors import GimliError
from gimli.lab.network import evidence, measure
from gimli.lab.network.real import changes, explain
from gimli.lab.network.real.play import play
from gimli.lab.network.simulator.run import simulate
from gimli.lab.scenario import SIMULATED, Moment, Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.lab.network.simulator.record import Run
    from gimli.lab.network.topology import Topology

_REAL_RUNS = 3


class NetworkScenario:
    """A topology that can be played.

    Args:
        topology: what there is.
    """

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.name = topology.name
        self.about = topology.about

    def simulate(self, seed: int) -> Result:
        """Once, on virtual time; what it tells of one connection comes from a second run of the same seed."""
        run = simulate(self.topology, streams(seed))
        told = evidence.choose(run)
        story: tuple[Moment, ...] = ()
        if told is not None:
            traced = simulate(self.topology, streams(seed), {told.number, told.serves} - {0})
            story = evidence.tell(traced, told.number)
        return Result(
            scenario=self.name,
            seed=seed,
            mode=SIMULATED,
            headline=_headline(run),
            verdicts=measure.verdicts(run),
            metrics=measure.metrics(run),
            timeline=story,
            explanation=_explanation(run, f"connection {told.number}, {told.flow}" if told else ""),
        )

    def real(
        self,
        seed: int,
        gimli: tuple[str, ...],  # noqa: ARG002 - other scenarios run it
        tell: Callable[[str], None],
        pcap: str = "",
    ) -> Result:
        """Once, in namespaces of this kernel."""
        return explain.one(self.name, seed, play(changes.quick(self.topology), seed, tell, pcap))

    def explain(
        self,
        seed: int,  # noqa: ARG002 - not yet
        runs: int,  # noqa: ARG002 - not yet
        tell: Callable[[str], None],  # noqa: ARG002 - not yet
    ) -> Result:
        """Not yet."""
        raise GimliError(f"{self.name} is not explained yet", fix=f"run: gimli lab run {self.name}")

    def explain_real(
        self,
        seed: int,
        gimli: tuple[str, ...],  # noqa: ARG002 - other scenarios run it
        tell: Callable[[str], None],
    ) -> Result:
        """As it is, and with each change, a few times each."""
        topology = changes.quick(self.topology)
        seeds = range(seed, seed + _REAL_RUNS)
        base = [play(topology, each, tell) for each in seeds]
        tried = []
        for change in changes.CHANGES:
            tell(f"{change.text}:")
            tried.append((change, [play(change.apply(topology), each, tell) for each in seeds]))
        return explain.switched(explain.one(self.name, seed, base[0]), base, tried)


def streams(seed: int) -> Callable[[str], random.Random]:
    """A random generator by name, always the same one for the same seed and name."""

    def stream(name: str) -> random.Random:
        return random.Random(f"{seed}/{name}")  # noqa: S311 - repeatable is what it must be, not secret

    return stream


def _headline(run: Run) -> str:
    count = len(measure.frozen(run))
    resets = measure.application_resets(run)
    return (
        f"{count} of {run.topology.traffic.connections} connections froze longer than 1 s, "
        f"{resets} RST from the application; {run.count('copies')} copies reached the backup"
    )


def _explanation(run: Run, told: str) -> tuple[str, ...]:
    figures = measure.metrics(run)
    sentences = [
        (
            f"{figures['answered']} requests were answered; {figures['frozen']} connections stood still, "
            f"the longest for {figures['longest_freeze_s']:.1f} s."
        ),
        (
            f"The backup saw {figures['copies_on_backup']} frames that were not for it. Windows moved back "
            f"{figures['backward_moves']} times, by {figures['backward_bytes_most']} bytes at most, and "
            f"{figures['bad_state_drops']} good packets were dropped as BAD state."
        ),
    ]
    if told:
        sentences.append(f"The story is that of {told}.")
    return tuple(sentences)
