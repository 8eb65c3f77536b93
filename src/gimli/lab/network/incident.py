"""A network as a scenario of the laboratory: played once, or explained by playing it again and again."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

from gimli.lab.network import causes, evidence, measure, play, search, words
from gimli.lab.network.play import Job
from gimli.lab.network.real import changes, explain
from gimli.lab.network.real import play as ground
from gimli.lab.network.topology import Fault
from gimli.lab.network.topology import Kind as FaultKind
from gimli.lab.scenario import SIMULATED, Cause, Cure, Moment, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gimli.lab.network.causes import Switched
    from gimli.lab.network.play import Outcome
    from gimli.lab.network.topology import Topology
    from gimli.lab.network.words import Metrics

    Tell = Callable[[str], None]

_FAILOVER_SEEDS = 2
"""Of each cure's price."""
_TELL_EVERY = 20
_MOST = 0.5
_REAL_RUNS = 3


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
        story: tuple[Moment, ...] = ()
        if found is not None:
            story = play.tell(self.topology, seed, found[1])
        return Result(
            scenario=self.name,
            seed=seed,
            mode=SIMULATED,
            headline=words.headline(metrics),
            verdicts=measure.verdicts(run),
            metrics=metrics,
            timeline=story,
            explanation=words.explanation(metrics, str(found[1]) if found else ""),
            sure=words.sure(self.topology),
        )

    def explain(self, seed: int, runs: int, tell: Tell) -> Result:
        """Each cause switched off and each cure tried, over the same seeds; then sets of causes."""
        seeds = range(seed, seed + runs)
        trial = _Trial(self.topology, seeds)
        trial.play(tell)
        base = trial.outcomes["base"]
        found = _telling(base)
        story: tuple[Moment, ...] = ()
        told = ""
        if found is not None:
            at, subject = found
            story = play.tell(self.topology, seeds[at], subject)
            told = f"{subject} (seed {seeds[at]})"
        found_sets, alone = self._minimal(trial)
        return Result(
            scenario=self.name,
            seed=seed,
            mode=SIMULATED,
            headline=words.many(trial.metrics("base")),
            verdicts=(),
            metrics={
                "runs": runs,
                "as_it_is": trial.metrics("base"),
                "failover_as_it_is": trial.metrics("base", failover=True),
                "minimal_sets": found_sets,
                "cable_pulled": trial.metrics("pulled"),
            },
            timeline=story,
            explanation=(
                words.sets(found_sets, alone),
                words.pulled(trial.middle_s, trial.metrics("pulled")),
            ),
            subject=told,
            sure=words.sure(self.topology),
            causes=trial.causes(),
            cures=trial.cures(),
            cure_heads=words.HEADS,
            effect="it",
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
        gimli: tuple[str, ...],  # noqa: ARG002 - other scenarios run it
        tell: Tell,
    ) -> Result:
        """As it is, and with each change, a few times each."""
        topology = changes.quick(self.topology)
        seeds = range(seed, seed + _REAL_RUNS)
        base = [ground.play(topology, each, tell) for each in seeds]
        tried = []
        for change in changes.CHANGES:
            tell(f"{change.text}:")
            tried.append((change, [ground.play(change.apply(topology), each, tell) for each in seeds]))
        return explain.switched(explain.one(self.name, seed, base[0]), base, tried)

    def _minimal(self, trial: _Trial) -> tuple[list[list[str]], list[Metrics]]:
        """Which causes by themselves are enough, and what the first such set does."""
        candidates = {cause.name: cause for cause in causes.present(self.topology)}
        whole = frozenset(candidates)
        known = {whole: trial.metrics("base")}
        for name, cause in candidates.items():
            known[whole - {name}] = trial.metrics(f"{name}: {cause.ways[0].remedy}")

        def played(kept: frozenset[str]) -> list[Metrics]:
            if kept not in known:
                gone = tuple(cause for name, cause in candidates.items() if name not in kept)
                known[kept] = trial.more(causes.without(self.topology, gone))
            return known[kept]

        found = search.minimal_sets(candidates, lambda kept: not _is_gone(played(kept)))
        sets = [[name for name in candidates if name in one] for one in found]
        return sets, played(found[0]) if found else []


class _Trial:
    """Every run of an explanation.

    Args:
        topology: as it is.
        seeds: the same for every change.
    """

    def __init__(self, topology: Topology, seeds: Sequence[int]) -> None:
        self._present = causes.present(topology)
        self._seeds = seeds
        self.middle_s = words.middle_s(topology)
        self._changed: dict[str, Topology] = {"base": topology}
        for cause in self._present:
            for way in cause.ways:
                self._changed[f"{cause.name}: {way.remedy}"] = way.change(topology)
        for remedy in causes.REMEDIES:
            self._changed[remedy.name] = remedy.change(topology)
        master = topology.firewalls[0]
        pulled = Fault(self.middle_s, FaultKind.CUT, f"{master.name}.{master.sync}")
        self._changed["pulled"] = replace(topology, faults=(pulled,))
        self._jobs = [(name, seed) for name in self._changed for seed in seeds]
        off = Fault(self.middle_s, FaultKind.POWER, master.name)
        for name in ["base", *(remedy.name for remedy in causes.REMEDIES)]:
            failover = f"failover: {name}"
            self._changed[failover] = replace(self._changed[name], faults=(off,))
            self._jobs += [(failover, seed) for seed in seeds[:_FAILOVER_SEEDS]]
        self.outcomes: dict[str, list[Outcome]] = {}

    def play(self, tell: Tell) -> None:
        """All of them."""
        jobs = [Job(self._changed[name], seed) for name, seed in self._jobs]
        for number, outcome in enumerate(play.play_all(jobs)):
            self.outcomes.setdefault(self._jobs[number][0], []).append(outcome)
            if number % _TELL_EVERY == _TELL_EVERY - 1:
                tell(f"{number + 1} of {len(jobs)} runs")

    def more(self, topology: Topology) -> list[Metrics]:
        """Runs of something that was not foreseen."""
        return [outcome.metrics for outcome in play.play_all([Job(topology, seed) for seed in self._seeds])]

    def metrics(self, name: str, *, failover: bool = False) -> list[Metrics]:
        """Of each run of a change."""
        return [outcome.metrics for outcome in self.outcomes[f"failover: {name}" if failover else name]]

    def causes(self) -> tuple[Cause, ...]:
        """Each cause and condition, with what is left without it."""
        has_failed = not _is_gone(self.metrics("base"))
        return tuple(self._cause(cause, has_failed=has_failed) for cause in self._present)

    def _cause(self, cause: Switched, *, has_failed: bool) -> Cause:
        tried = [(way.remedy, self.metrics(f"{cause.name}: {way.remedy}")) for way in cause.ways]
        without = "; ".join(f"{remedy}: {words.left(runs)}" for remedy, runs in tried)
        is_needed = has_failed and all(_is_gone(runs) for _, runs in tried)
        remedies = " or ".join(remedy for remedy, _ in tried)
        return Cause(cause.text, remedies, without, is_needed, cause.name, cause.kind.value)

    def cures(self) -> tuple[Cure, ...]:
        """Each of them, best first: what is left, then what a failover costs."""
        cures = []
        for remedy in causes.REMEDIES:
            runs = self.metrics(remedy.name)
            failovers = self.metrics(remedy.name, failover=True)
            cures.append(
                Cure(
                    remedy.name,
                    cures=_is_clean(runs),
                    price=remedy.price,
                    metrics={"runs": runs, "failover": failovers},
                    cells=(
                        words.spread(runs, "frozen"),
                        words.spread(runs, "application_resets"),
                        words.lost(failovers),
                    ),
                )
            )
        return tuple(sorted(cures, key=_badness))


def _badness(cure: Cure) -> tuple[bool, bool, float]:
    """Whether anything is left, whether a failover loses most of what stands, and how much still freezes."""
    failing = statistics.mean(run["frozen"] + run["application_resets"] for run in cure.metrics["runs"])
    runs = cure.metrics["failover"]
    share = sum(run["lost_at_fault"] for run in runs) / max(1, sum(run["open_at_fault"] for run in runs))
    return not cure.cures, share > _MOST, failing


def _is_gone(runs: Sequence[Metrics]) -> bool:
    """Whether most runs are free of it."""
    return not statistics.median(run["frozen"] + run["application_resets"] for run in runs)


def _is_clean(runs: Sequence[Metrics]) -> bool:
    """Whether every run is free of it, down to the last packet dropped."""
    harm = ("frozen", "application_resets", "bad_state_drops", "lost")
    return not any(run[what] for run in runs for what in harm)


def _telling(outcomes: Sequence[Outcome]) -> tuple[int, evidence.Subject] | None:
    """The run whose story says most, by its number, and the connection."""
    found = [
        (outcome.told[0], number, outcome.told[1])
        for number, outcome in enumerate(outcomes)
        if outcome.told is not None
    ]
    if not found:
        return None
    _, number, subject = min(found, key=lambda one: one[:2])
    return number, subject
