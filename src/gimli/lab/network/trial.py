"""What becomes of a network when one thing is changed? Every cause, every way to take it away, every remedy.

All changes are played over the same seeds, so that only the change differs.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

from gimli.lab.network import causes, causes_linux, play, search, switching, words
from gimli.lab.network.play import Job
from gimli.lab.network.topology import Fault, Kind
from gimli.lab.pictures import Spread
from gimli.lab.scenario import Cause, Cure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gimli.lab.network.causes import Remedy, Switched
    from gimli.lab.network.play import Outcome
    from gimli.lab.network.topology import Topology
    from gimli.lab.network.words import Metrics

BASE, PULLED, FAILOVER = "as it is", "cable pulled", "failover"
_FAILOVER_SEEDS = 2
"""Of each remedy's price."""
_TELL_EVERY = 20
_SPREAD = {"frozen": "frozen", "RST": "application_resets"}
"""What is drawn of each run, and its name among the figures."""
_MOST = 0.5


class Trial:
    """Every run of an explanation.

    Args:
        topology: as it is.
        seeds: the same for every change.
    """

    def __init__(self, topology: Topology, seeds: Sequence[int]) -> None:
        self._topology = topology
        self._present, self._remedies, self._protections = _switches(topology)
        self._seeds = seeds
        self._changed: dict[str, Topology] = {}
        self._jobs: list[tuple[str, int]] = []
        self.middle_s = switching.middle_s(topology)
        self.outcomes: dict[str, list[Outcome]] = {}
        self._plan(BASE, topology)
        for cause in self._present:
            for way in cause.ways:
                self._plan(f"{cause.name}: {way.remedy}", way.change(topology))
        for remedy in (*self._remedies, *self._protections):
            self._plan(remedy.name, remedy.change(topology))
        self._plan_faults()

    def play(self, tell: Callable[[str], None]) -> None:
        """All of them."""
        jobs = [Job(self._changed[name], seed) for name, seed in self._jobs]
        for number, outcome in enumerate(play.play_all(jobs), 1):
            self.outcomes.setdefault(self._jobs[number - 1][0], []).append(outcome)
            if number % _TELL_EVERY == 0:
                tell(f"{number} of {len(jobs)} runs")

    def metrics(self, name: str) -> list[Metrics]:
        """Of each run of a change; none when it could not be tried here."""
        return [outcome.metrics for outcome in self.outcomes.get(name, ())]

    def causes(self) -> tuple[Cause, ...]:
        """Each cause and condition, with what is left without it."""
        has_failed = not is_gone(self.metrics(BASE))
        return tuple(self._cause(cause, has_failed=has_failed) for cause in self._present)

    def minimal_sets(self) -> tuple[list[list[str]], list[Metrics]]:
        """Which causes by themselves are enough, and what the first such set does."""
        candidates = {cause.name: cause for cause in self._present}
        whole = frozenset(candidates)
        known = {whole: self.metrics(BASE)}
        for name, cause in candidates.items():
            known[whole - {name}] = self.metrics(f"{name}: {cause.ways[0].remedy}")

        def played(kept: frozenset[str]) -> list[Metrics]:
            if kept not in known:
                gone = tuple(cause for name, cause in candidates.items() if name not in kept)
                jobs = [Job(causes.without(self._topology, gone), seed) for seed in self._seeds]
                known[kept] = [outcome.metrics for outcome in play.play_all(jobs)]
            return known[kept]

        found = search.minimal_sets(candidates, lambda kept: not is_gone(played(kept)))
        sets = [[name for name in candidates if name in one] for one in found]
        return sets, played(found[0]) if found else []

    @property
    def is_protected(self) -> bool:
        """Whether nothing fails as it is, and something that could be taken away keeps it so."""
        return bool(self._protections) and is_gone(self.metrics(BASE))

    def withstood(self) -> tuple[list[str], list[str]]:
        """What can be taken away without harm, and what can not."""
        names = [each.name for each in self._protections]
        return (
            [name for name in names if self._is_safe(name)],
            [name for name in names if not self._is_safe(name)],
        )

    def _is_safe(self, name: str) -> bool:
        failovers = self.metrics(f"{FAILOVER}: {name}")
        return is_clean(self.metrics(name)) and not any(run["lost_at_fault"] for run in failovers)

    def cures(self) -> tuple[Cure, ...]:
        """Each remedy, best first: what is left, then what a failover costs."""
        shown = self._protections if self.is_protected else self._remedies
        cures = [self._cure(each.name, each.price) for each in shown]
        return tuple(sorted(cures, key=_badness))

    def spreads(self) -> tuple[Spread, ...]:
        """What each seed gave: as it is, with each cause taken away, with each remedy."""
        found = [self._spread(BASE, BASE, BASE)]
        for cause in self._present:
            group = f"without {cause.name}"
            found += [self._spread(way.remedy, group, f"{cause.name}: {way.remedy}") for way in cause.ways]
        found += [self._spread(each.name, "remedies", each.name) for each in self._remedies]
        if self.is_protected:
            found += [self._spread(each.name, "what if", each.name) for each in self._protections]
        return tuple(found)

    def _spread(self, change: str, group: str, name: str) -> Spread:
        runs = self.metrics(name)
        values = {words: tuple(run[what] for run in runs) for words, what in _SPREAD.items()}
        return Spread(change, group, values)

    def _plan(self, name: str, topology: Topology, seeds: Sequence[int] = ()) -> None:
        self._changed[name] = topology
        self._jobs += [(name, seed) for seed in seeds or self._seeds]

    def _plan_faults(self) -> None:
        """The story's cure in the middle of a run; and a failover, with every remedy in force."""
        if not self._topology.firewalls:
            return
        master = self._topology.firewalls[0]
        if master.sync:
            pulled = Fault(self.middle_s, Kind.CUT, f"{master.name}.{master.sync}")
            self._plan(PULLED, replace(self._topology, faults=(pulled,)))
        off = (Fault(self.middle_s, Kind.POWER, master.name),)
        few = self._seeds[:_FAILOVER_SEEDS]
        self._plan(FAILOVER, replace(self._topology, faults=off), few)
        for remedy in (*self._remedies, *self._protections):
            changed = replace(self._changed[remedy.name], faults=off)
            self._plan(f"{FAILOVER}: {remedy.name}", changed, few)

    def _cause(self, cause: Switched, *, has_failed: bool) -> Cause:
        tried = [(way.remedy, self.metrics(f"{cause.name}: {way.remedy}")) for way in cause.ways]
        without = "; ".join(f"{remedy}: {words.left(runs)}" for remedy, runs in tried)
        is_needed = has_failed and all(is_gone(runs) for _, runs in tried)
        remedies = " or ".join(remedy for remedy, _ in tried)
        return Cause(cause.text, remedies, without, is_needed, cause.name, cause.kind.value)

    def _cure(self, name: str, price: str) -> Cure:
        runs = self.metrics(name)
        failovers = self.metrics(f"{FAILOVER}: {name}")
        return Cure(
            name,
            cures=is_clean(runs),
            price=price,
            metrics={"runs": runs, "failover": failovers},
            cells=(
                words.spread(runs, "frozen"),
                words.spread(runs, "application_resets"),
                words.lost(failovers),
            ),
        )


def _switches(topology: Topology) -> tuple[tuple[Switched, ...], tuple[Remedy, ...], tuple[Remedy, ...]]:
    """Causes, remedies, and what may be taken away, of this kind of pair."""
    if causes_linux.is_linux(topology):
        found = causes_linux
        return found.present(topology), found.remedies(topology), found.protections(topology)
    remedies = tuple(each for each in causes.REMEDIES if each.change(topology) != topology)
    return causes.present(topology), remedies, ()


def _badness(cure: Cure) -> tuple[bool, bool, float]:
    """Whether anything is left, whether a failover loses most of what stands, and how much still freezes."""
    failing = statistics.mean(run["frozen"] + run["application_resets"] for run in cure.metrics["runs"])
    runs = cure.metrics["failover"]
    share = sum(run["lost_at_fault"] for run in runs) / max(1, sum(run["open_at_fault"] for run in runs))
    return not cure.cures, share > _MOST, failing


def is_gone(runs: Sequence[Metrics]) -> bool:
    """Whether most runs are free of it."""
    return not statistics.median(run["frozen"] + run["application_resets"] for run in runs)


def is_clean(runs: Sequence[Metrics]) -> bool:
    """Whether every run is free of it, down to the last packet dropped."""
    harm = ("frozen", "application_resets", "bad_state_drops", "lost")
    return not any(run[what] for run in runs for what in harm)
