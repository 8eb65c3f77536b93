"""What do real runs say: one of them, and many with one thing changed? Pure: runs in, results out."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gimli.lab.network import drawing, evidence, measure, words
from gimli.lab.network.simulator.record import Dropped, Merged, Told
from gimli.lab.network.topology import Model
from gimli.lab.pictures import Spread
from gimli.lab.scenario import REAL, Cause, Cure, Moment, Result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gimli.lab.network.real.changes import Change
    from gimli.lab.network.simulator.record import Run

COMPARED = ("bad_state_drops", "application_resets", "backward_moves", "copies_on_backup", "frozen")
_SURE = {
    Model.PF: (
        (
            "BAD-state drops and RSTs are the model's and the kernel's own counts; freezes are not judged, "
            "for two filters in Python on a busy machine make some themselves"
        ),
        "the firewalls' pf and pfsync are models of OpenBSD's, everything else is this kernel's",
    ),
    Model.LINUX: (
        (
            "connection tracking, TCP and the guard are this kernel's, and the pair's daemons the real ones; "
            "the way to the internet takes no time here"
        ),
    ),
}


def one(name: str, seed: int, run: Run) -> Result:
    """What one run gives, and the story of one of its connections."""
    figures = measure.metrics(run)
    found = evidence.choose(run)
    story: tuple[Moment, ...] = evidence.tell(run, found[1].number) if found is not None else ()
    took_s = measure.failover_s(run)
    sentences = words.explanation(figures, str(found[1]) if found else "")
    if took_s is not None:
        sentences = (f"The failover took {took_s:.2f} s. {_lost(figures)}.", *sentences)
    if figures["two_masters_s"]:
        sentences = (*sentences, f"An address had two masters for {figures['two_masters_s']:.2f} s.")
    return Result(
        scenario=name,
        seed=seed,
        mode=REAL,
        headline=_headline(figures, took_s),
        verdicts=measure.verdicts(run),
        metrics=figures,
        timeline=story,
        explanation=sentences,
        sure=_SURE[run.topology.firewalls[0].model],
        pictures=drawing.draw(run, found[1] if found is not None else None),
    )


def _headline(figures: Mapping[str, Any], took_s: float | None) -> str:
    if took_s is not None:
        return f"failover after {took_s:.2f} s; {_lost(figures)}"
    return (
        f"{figures['bad_state_drops']} good packets dropped as BAD state, "
        f"{figures['application_resets']} RST from the application; "
        f"{figures['copies_on_backup']} copies reached the backup"
    )


def _lost(figures: Mapping[str, Any]) -> str:
    return f"{figures['lost_at_fault']} of {figures['open_at_fault']} connections that stood then were lost"


@dataclass(frozen=True, slots=True)
class Tried:
    """Runs with one thing changed, or with none.

    Args:
        change: None for the network as it is.
        runs: without a fault but the scenario's own.
        failovers: with the master's power lost in the middle.
    """

    change: Change | None
    runs: Sequence[Run]
    failovers: Sequence[Run]


def switched(once: Result, base: Tried, changed: Sequence[Tried], pulled: Sequence[Run]) -> Result:
    """One run, with what became of it when one thing was changed.

    Args:
        once: the first run.
        base: as it is.
        changed: with each change.
        pulled: the sync cable pulled in the middle.
    """
    as_it_was = tally(base.runs)
    cures = [(each.change, tally(each.runs), each.failovers) for each in changed if each.change]
    return Result(
        scenario=once.scenario,
        seed=once.seed,
        mode=REAL,
        headline=(
            f"{as_it_was['failed']} of {as_it_was['runs']} runs fail as they are: "
            "connections blocked for good, or reset by the application"
        ),
        verdicts=once.verdicts,
        metrics={
            **once.metrics,
            "as_it_was": as_it_was,
            "failover_as_it_was": cost_of(base.failovers),
            "cable_pulled": [after_the_pull(run) for run in pulled],
        },
        timeline=once.timeline,
        explanation=(*once.explanation, *_of_the_cable(pulled)),
        sure=once.sure,
        causes=tuple(
            Cause(
                change.cause,
                change.text,
                f"{figures['failed']} of {figures['runs']} runs fail",
                needed=bool(as_it_was["failed"]) and not figures["failed"],
            )
            for change, figures, _ in cures
            if change.cause
        ),
        cures=(
            _cure("as it was", "", as_it_was, base.failovers),
            *(_cure(change.text, change.price, figures, failovers) for change, figures, failovers in cures),
        ),
        cure_heads=("failed", "BAD state", "RSTs", "a failover loses"),
        pictures=replace(once.pictures, spreads=_spreads(base.runs, changed)),
    )


def _spreads(base: Sequence[Run], changed: Sequence[Tried]) -> tuple[Spread, ...]:
    """What each run gave."""
    groups = [("as it was", "as it was", base)]
    groups += [(each.change.text, "with one change", each.runs) for each in changed if each.change]
    return tuple(Spread(text, group, _values(runs)) for text, group, runs in groups)


def _values(runs: Sequence[Run]) -> dict[str, tuple[float, ...]]:
    figures = [measure.metrics(run) for run in runs]
    return {
        "BAD state": tuple(each["bad_state_drops"] for each in figures),
        "RST": tuple(each["application_resets"] for each in figures),
    }


def cost_of(failovers: Sequence[Run]) -> Mapping[str, Any]:
    """What a failover costs: connections that stood, and were lost; and how long it took."""
    figures = [measure.metrics(run) for run in failovers]
    took_s = [took for run in failovers if (took := measure.failover_s(run)) is not None]
    return {
        "runs": len(failovers),
        "open": sum(each["open_at_fault"] for each in figures),
        "lost": sum(each["lost_at_fault"] for each in figures),
        "took_s": [round(each, 2) for each in took_s],
    }


def after_the_pull(run: Run) -> Mapping[str, Any]:
    """BAD-state drops and backward moves before the sync cable was pulled, and after it."""
    pulled_s = next(entry.t_s for entry in run.log if isinstance(entry, Told) and entry.what == "fault")
    dropped_s = [entry.t_s for entry in run.log if isinstance(entry, Dropped) and not entry.is_copy]
    moved_s = [entry.t_s for entry in run.log if isinstance(entry, Merged) and entry.back]
    counted = {"dropped": dropped_s, "moved_back": moved_s}
    return {
        **{f"{what}_before": sum(at_s < pulled_s for at_s in times) for what, times in counted.items()},
        **{f"{what}_after": sum(at_s >= pulled_s for at_s in times) for what, times in counted.items()},
    }


def _of_the_cable(pulled: Sequence[Run]) -> tuple[str, ...]:
    """The story's cure, in a sentence; nothing where there is no such cable."""
    if not pulled:
        return ()
    found = [after_the_pull(run) for run in pulled]
    total = {what: sum(each[what] for each in found) for what in found[0]}
    return (
        (
            f"The sync cable pulled in the middle, in {len(pulled)} runs: windows moved back "
            f"{total['moved_back_before']} times before and {total['moved_back_after']} times after it; good "
            f"packets dropped as BAD state: {total['dropped_before']} and {total['dropped_after']}."
        ),
    )


def _cure(text: str, price: str, figures: Mapping[str, Any], failovers: Sequence[Run]) -> Cure:
    cost = cost_of(failovers)
    cells = (*_cells(figures), f"{cost['lost']} of {cost['open']}")
    return Cure(text, not figures["failed"], price, {**figures, "failover": cost}, cells=cells)


def tally(runs: Sequence[Run]) -> Mapping[str, Any]:
    """Of several runs: how many failed, and least, middle and most of each figure."""
    figures = [measure.metrics(run) for run in runs]
    return {
        "runs": len(runs),
        "failed": sum(is_failed(each) for each in figures),
        "lasting": _spread([sum(each["frozen_by"].values()) for each in figures]),
        **{name: _spread([each[name] for each in figures]) for name in COMPARED},
    }


def is_failed(figures: Mapping[str, Any]) -> bool:
    """Whether a connection was blocked for good, or given up: what the next packet heals, nobody notices."""
    return bool(sum(figures["frozen_by"].values()) or figures["application_resets"])


def _cells(figures: Mapping[str, Any]) -> tuple[str, ...]:
    """How many runs failed, and least to most of what was counted."""
    failed = f"{figures['failed']} of {figures['runs']}"
    return failed, *(_range(figures[name]) for name in ("bad_state_drops", "application_resets"))


def _range(figure: Mapping[str, float]) -> str:
    least, most = figure["min"], figure["max"]
    return f"{most:g}" if least == most else f"{least:g} to {most:g}"


def _spread(values: Sequence[float]) -> Mapping[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}
