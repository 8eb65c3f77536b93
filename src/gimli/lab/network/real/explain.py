"""What do real runs say: one of them, and many with one thing changed? Pure: runs in, results out."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gimli.lab.network import drawing, evidence, measure
from gimli.lab.pictures import Spread
from gimli.lab.scenario import REAL, Cause, Cure, Moment, Result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gimli.lab.network.real.changes import Change
    from gimli.lab.network.simulator.record import Run

COMPARED = ("bad_state_drops", "application_resets", "backward_moves", "copies_on_backup", "frozen")
SURE = (
    (
        "BAD-state drops and RSTs are the model's and the kernel's own counts; freezes are not judged, for "
        "two filters in Python on a busy machine make some themselves"
    ),
    "the firewalls' pf and pfsync are models of OpenBSD's, everything else is this kernel's",
)


def one(name: str, seed: int, run: Run) -> Result:
    """What one run gives, and the story of one of its connections."""
    figures = measure.metrics(run)
    found = evidence.choose(run)
    story: tuple[Moment, ...] = evidence.tell(run, found[1].number) if found is not None else ()
    sentences = [
        (
            f"{figures['answered']} requests were answered. The backup saw {figures['copies_on_backup']} "
            f"frames that were not for it; windows moved back {figures['backward_moves']} times, by "
            f"{figures['backward_bytes_most']} bytes at most, and {figures['bad_state_drops']} good packets "
            "were dropped as BAD state."
        ),
    ]
    if found is not None:
        sentences.append(f"The story is that of {found[1]}.")
    return Result(
        scenario=name,
        seed=seed,
        mode=REAL,
        headline=(
            f"{figures['bad_state_drops']} good packets dropped as BAD state, "
            f"{figures['application_resets']} RST from the application; "
            f"{figures['copies_on_backup']} copies reached the backup"
        ),
        verdicts=measure.verdicts(run),
        metrics=figures,
        timeline=story,
        explanation=tuple(sentences),
        sure=SURE,
        pictures=drawing.draw(run, found[1] if found is not None else None),
    )


def switched(once: Result, base: Sequence[Run], tried: Sequence[tuple[Change, Sequence[Run]]]) -> Result:
    """One run, with what became of it when one thing was changed."""
    as_it_was = tally(base)
    cures = [(change, tally(runs)) for change, runs in tried]
    return Result(
        scenario=once.scenario,
        seed=once.seed,
        mode=REAL,
        headline=(
            f"{as_it_was['failed']} of {as_it_was['runs']} runs fail as they are: "
            "connections blocked for good, or reset by the application"
        ),
        verdicts=once.verdicts,
        metrics={**once.metrics, "as_it_was": as_it_was},
        timeline=once.timeline,
        explanation=once.explanation,
        sure=SURE,
        causes=tuple(
            Cause(
                change.cause,
                change.text,
                f"{figures['failed']} of {figures['runs']} runs fail",
                needed=bool(as_it_was["failed"]) and not figures["failed"],
            )
            for change, figures in cures
            if change.cause
        ),
        cures=(
            Cure("as it was", not as_it_was["failed"], "", as_it_was, cells=_cells(as_it_was)),
            *(
                Cure(change.text, not figures["failed"], change.price, figures, cells=_cells(figures))
                for change, figures in cures
            ),
        ),
        cure_heads=("failed", "BAD state", "lasting", "RSTs"),
        pictures=replace(once.pictures, spreads=_spreads(base, tried)),
    )


def _spreads(base: Sequence[Run], tried: Sequence[tuple[Change, Sequence[Run]]]) -> tuple[Spread, ...]:
    """What each run gave."""
    groups = [("as it was", "as it was", base)]
    groups += [(change.text, "with one change", runs) for change, runs in tried]
    return tuple(Spread(text, group, _values(runs)) for text, group, runs in groups)


def _values(runs: Sequence[Run]) -> dict[str, tuple[float, ...]]:
    figures = [measure.metrics(run) for run in runs]
    return {
        "BAD state": tuple(each["bad_state_drops"] for each in figures),
        "RST": tuple(each["application_resets"] for each in figures),
    }


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
    return failed, *(_range(figures[name]) for name in ("bad_state_drops", "lasting", "application_resets"))


def _range(figure: Mapping[str, float]) -> str:
    return f"{figure['min']:g} to {figure['max']:g}" if figure["max"] else "0"


def _spread(values: Sequence[float]) -> Mapping[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}
