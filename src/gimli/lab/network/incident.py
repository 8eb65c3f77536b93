"""A network as a scenario of the laboratory: played once, or explained by playing it again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.lab.network import drawing, evidence, measure, play, words
from gimli.lab.network.real import changes, explain
from gimli.lab.network.real import play as ground
from gimli.lab.network.trial import BASE, FAILOVER, PULLED, Trial
from gimli.lab.scenario import SIMULATED, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gimli.lab.network.play import Outcome
    from gimli.lab.network.real.changes import Change
    from gimli.lab.network.simulator.record import Run
    from gimli.lab.network.topology import Topology
    from gimli.lab.scenario import Moment

    Tell = Callable[[str], None]

_REAL_RUNS = 3
_FAILOVER_SHARE = 3
"""Of each change, one run in so many is played again with a failover."""


class NetworkScenario:
    """A topology that can be played.

    Args:
        topology: what there is.
    """

    runs = 4

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self.name = topology.name
        self.about = topology.about

    def simulate(self, seed: int) -> Result:
        """Once, on virtual time."""
        run = play.play(self.topology, seed)
        metrics = measure.metrics(run)
        found = evidence.choose(run)
        subject = found[1] if found is not None else None
        if subject is not None:
            run = play.trace(self.topology, seed, subject)
        return Result(
            scenario=self.name,
            seed=seed,
            mode=SIMULATED,
            headline=words.headline(metrics),
            verdicts=measure.verdicts(run),
            metrics=metrics,
            timeline=_story(run, subject),
            explanation=words.explanation(metrics, str(subject or "")),
            sure=words.sure(self.topology),
            pictures=drawing.draw(run, subject),
        )

    def explain(self, seed: int, runs: int, tell: Tell) -> Result:
        """Each cause switched off and each cure tried, over the same seeds; then sets of causes."""
        seeds = range(seed, seed + runs)
        trial = Trial(self.topology, seeds)
        trial.play(tell)
        base = trial.outcomes[BASE]
        at, subject = _telling(base)
        run = play.trace(self.topology, seeds[at], subject)
        sets, alone = trial.minimal_sets()
        return Result(
            scenario=self.name,
            seed=seed,
            mode=SIMULATED,
            headline=words.many(trial.metrics(BASE)),
            verdicts=(),
            metrics={
                "runs": runs,
                "as_it_is": trial.metrics(BASE),
                "failover_as_it_is": trial.metrics(FAILOVER),
                "minimal_sets": sets,
                "cable_pulled": trial.metrics(PULLED),
            },
            timeline=_story(run, subject),
            explanation=(
                words.withstood(*trial.withstood())
                if trial.is_protected
                else words.tried(sets, alone, trial.middle_s, trial.metrics(PULLED))
            ),
            subject=f"{subject} (seed {seeds[at]})" if subject else "",
            sure=words.sure(self.topology),
            causes=trial.causes(),
            cures=trial.cures(),
            cure_heads=words.HEADS,
            cures_title="WHAT IF" if trial.is_protected else "CURES",
            effect="it",
            pictures=drawing.draw(run, subject, trial.spreads()),
        )

    def real(
        self,
        seed: int,
        gimli: tuple[str, ...],  # noqa: ARG002 - other scenarios run it
        tell: Tell,
        pcap: str = "",
    ) -> Result:
        """Once, in namespaces of this kernel."""
        return explain.one(self.name, seed, ground.play(changes.quick(self.topology), seed, tell, pcap))

    def explain_real(
        self,
        seed: int,
        runs: int | None,
        gimli: tuple[str, ...],  # noqa: ARG002 - other scenarios run it
        tell: Tell,
    ) -> Result:
        """As it is, and with each change, a few times each; and what a failover costs then."""
        topology = changes.quick(self.topology)
        seeds = range(seed, seed + (runs or _REAL_RUNS))
        few = seeds[: max(1, len(seeds) // _FAILOVER_SHARE)]

        def played(what: str, changed: Topology, seeds: Sequence[int]) -> list[Run]:
            tell(f"{what}:")
            return [ground.play(changed, each, tell) for each in seeds]

        def tried(change: Change | None) -> explain.Tried:
            what, changed = (change.text, change.apply(topology)) if change else ("as it is", topology)
            runs = played(what, changed, seeds)
            failing = changes.failing_over(changed)
            return explain.Tried(change, runs, played(f"{what}, and a failover", failing, few))

        base = tried(None)
        others = [tried(change) for change in changes.CHANGES if change.apply(topology) != topology]
        has_sync = bool(topology.firewalls[0].sync)
        pulled = played("the sync cable is pulled", changes.pulled(topology), few) if has_sync else []
        return explain.switched(explain.one(self.name, seed, base.runs[0]), base, others, pulled)


def _story(run: Run, subject: evidence.Subject | None) -> tuple[Moment, ...]:
    return () if subject is None else evidence.tell(run, subject.number)


def _telling(outcomes: Sequence[Outcome]) -> tuple[int, evidence.Subject | None]:
    """The run whose story says most, by its number, and the connection; the first run where there is none."""
    found = [
        (outcome.told[0], number, outcome.told[1])
        for number, outcome in enumerate(outcomes)
        if outcome.told is not None
    ]
    if not found:
        return 0, None
    _, number, subject = min(found, key=lambda one: one[:2])
    return number, subject
