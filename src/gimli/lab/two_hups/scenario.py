"""Incident 1, ``two-hups``: what is run, what is switched, and what it comes to."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gimli.errors import UsageError
from gimli.lab.pictures import Pictures
from gimli.lab.scenario import REAL, SIMULATED, Cause, Cure, Result
from gimli.lab.two_hups import real, words
from gimli.lab.two_hups.model import (
    FULL_LOG_BYTES,
    Empty,
    Outcome,
    Script,
    Setup,
    Takeover,
    Term,
    Timing,
)
from gimli.lab.two_hups.simulation import simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

INCIDENT = Setup()
"""As it stood that night: no sharedscripts, an empty error log, a monitor that copies itself."""
OURS = replace(INCIDENT, takeover=Takeover.IN_PLACE)
_ROTATIONS_MOST = 5
_REAL_RUNS = 3


@dataclass(frozen=True, slots=True)
class Change:
    """One thing done differently.

    Args:
        cause: the cause that it takes away; empty for a change that is only tried.
        is_real: it can be tried with real programs too.
    """

    text: str
    setup: Setup
    price: str
    cause: str = ""
    is_real: bool = True


CHANGES = (
    Change(
        "sharedscripts",
        replace(INCIDENT, script=Script.ONCE),
        "none",
        cause="the postrotate script runs once per log       (no sharedscripts)",
    ),
    Change(
        "error log with 30 MB in it",
        replace(INCIDENT, log_bytes=(FULL_LOG_BYTES, INCIDENT.log_bytes[1])),
        "until the next quiet day",
        cause="nothing to compress between the two HUPs      (the error log became empty)",
    ),
    Change(
        "takeover in place (gimli)",
        OURS,
        "none",
        cause="a takeover under way does not hold the next   (a new process by fork and execve)",
    ),
    Change(
        "TERM honoured by the naive",
        replace(INCIDENT, term=Term.HONOURED),
        "any TERM may end it",
        cause="TERM from another monitor is answered in kind (to protect the monitor)",
        is_real=False,
    ),
    Change(
        "notifempty",
        replace(INCIDENT, empty=Empty.PASSED_OVER),
        "until one error is logged",
    ),
    Change(
        "notifempty, one line in it",
        replace(INCIDENT, empty=Empty.PASSED_OVER, log_bytes=(120, INCIDENT.log_bytes[1])),
        "-",
    ),
    Change(
        "error log with 1 MB in it",
        replace(INCIDENT, log_bytes=(1_000_000, INCIDENT.log_bytes[1])),
        "-",
        is_real=False,
    ),
    Change("no compress", replace(INCIDENT, compress=False), "-"),
)


class TwoHups:
    """Two HUPs and a full disk."""

    name = "two-hups"
    runs = 200
    about = "logrotate sends HUP twice within ms: a monitor that copies itself is doubled, and fills /var"

    def simulate(self, seed: int) -> Result:
        """The naive monitor and ours, once, on virtual time."""
        naive, story = simulate(INCIDENT, Timing(), _chance(seed))
        ours, our_story = simulate(OURS, Timing(), _chance(seed))
        return Result(
            scenario=self.name,
            seed=seed,
            mode=SIMULATED,
            headline=words.headline(naive, ours),
            verdicts=words.verdicts(naive, ours),
            metrics={"naive": words.figures(naive), "gimli": words.figures(ours)},
            timeline=story + our_story,
            explanation=words.explanation(INCIDENT, naive, ours),
            sure=words.SURE,
            change=words.CHANGE,
        )

    def real(self, seed: int, gimli: tuple[str, ...], tell: Callable[[str], None], pcap: str = "") -> Result:
        """The same with logrotate, a naive monitor, and ``gimli run``; chance is the kernel's."""
        if pcap:
            raise UsageError(f"{self.name} has no packets", fix="leave out --pcap")
        naive, rotations = _until_it_happens(gimli, tell)
        ours = real.play(OURS, gimli, tell)
        return Result(
            scenario=self.name,
            seed=seed,
            mode=REAL,
            headline=words.headline(naive.outcome, ours.outcome),
            verdicts=words.verdicts(naive.outcome, ours.outcome),
            metrics={
                "naive": words.figures(naive.outcome),
                "gimli": words.figures(ours.outcome),
                "rotations": rotations,
                "measured": _measured(naive.outcome, ours.outcome),
            },
            timeline=naive.story + ours.story,
            explanation=words.explanation(INCIDENT, naive.outcome, ours.outcome),
            sure=words.SURE,
            change=words.CHANGE,
            pictures=Pictures(charts=naive.charts + ours.charts),
        )

    def explain(self, seed: int, runs: int, tell: Callable[[str], None]) -> Result:
        """Every change over the same seeds, so that only the change differs."""

        def play(what: str, setup: Setup) -> list[Outcome]:
            tell(f"{what}: {runs} seeds")
            seeds = range(seed, seed + runs)
            return [simulate(setup, Timing(), _chance(one))[0] for one in seeds]

        base = play("as it was", INCIDENT)
        tried = [(change, play(change.text, change.setup)) for change in CHANGES]
        return _switched(self.simulate(seed), base, tried)

    def explain_real(
        self, seed: int, runs: int | None, gimli: tuple[str, ...], tell: Callable[[str], None]
    ) -> Result:
        """Every change that needs no other naive monitor, a few times each."""
        rotations = range(runs or _REAL_RUNS)
        once = self.real(seed, gimli, tell)
        base = [real.play(INCIDENT, gimli, tell).outcome for _ in rotations]
        tried = []
        for change in CHANGES:
            if change.is_real:
                tell(f"{change.text}:")
                tried.append((change, [real.play(change.setup, gimli, tell).outcome for _ in rotations]))
        return _switched(once, base, tried)


def _until_it_happens(gimli: tuple[str, ...], tell: Callable[[str], None]) -> tuple[real.Observed, int]:
    """Rotate until the naive monitor is doubled: as in the story, a night may pass well.

    It does when the machine is so busy, or its caches so cold, that a rotation takes longer than a takeover.
    """
    for rotations in range(1, _ROTATIONS_MOST + 1):
        observed = real.play(INCIDENT, gimli, tell)
        if observed.outcome.monitors_after > 1:
            break
        tell(f"rotation {rotations} went well: the HUPs came {words.gaps(observed.outcome)} apart")
    return observed, rotations


def _switched(
    once: Result, base: Sequence[Outcome], tried: Sequence[tuple[Change, Sequence[Outcome]]]
) -> Result:
    """One run, with what became of it when one thing was changed."""
    as_it_was = words.tally(base)
    tallies = [(change, words.tally(outcomes)) for change, outcomes in tried]
    causes = tuple(
        Cause(
            change.cause,
            change.text,
            _left(metrics),
            needed=bool(as_it_was["endless"]) and not metrics["endless"],
        )
        for change, metrics in tallies
        if change.cause
    )
    cures = tuple(
        Cure(
            change.text,
            not metrics["doubled"] and not metrics["endless"],
            change.price,
            metrics,
            cells=(str(metrics["doubled"]), str(metrics["endless"]), _gap(metrics)),
        )
        for change, metrics in tallies
    )
    headline = (
        f"{as_it_was['endless']} of {as_it_was['runs']} rotations end in two monitors and an endless log"
        f", {_rate(as_it_was)}"
    )
    return replace(
        once,
        headline=headline,
        metrics={**once.metrics, "as_it_was": as_it_was},
        causes=causes,
        cures=cures,
        cure_heads=("doubled", "endless", "gap of HUPs"),
        effect="the endless log",
    )


def _gap(metrics: Mapping[str, Any]) -> str:
    gap = metrics["gap_ms"]
    return f"{gap['min']:.0f} to {gap['max']:.0f} ms" if gap else "one HUP"


def _left(metrics: Mapping[str, int]) -> str:
    """What still fails without a cause."""
    runs, doubled, endless = metrics["runs"], metrics["doubled"], metrics["endless"]
    if doubled > endless:
        return f"{endless} of {runs} endless, {doubled} keep two monitors in silence"
    return f"{endless} of {runs}"


def _rate(metrics: Mapping[str, int]) -> str:
    return f"{metrics['log_bytes_per_s'] / 1e6:.1f} MB/s"


def _measured(naive: Outcome, ours: Outcome) -> dict[str, float | None]:
    """The figures of ``Timing`` on this machine."""
    return {
        "rotate_ms": round(naive.gaps_ms[0], 3) if naive.gaps_ms else None,
        "takeover_new_process_ms": round(min(naive.takeover_ms), 3) if naive.takeover_ms else None,
        "takeover_in_place_ms": round(min(ours.takeover_ms), 3) if ours.takeover_ms else None,
        "log_bytes_per_s": round(naive.log_bytes_per_s),
    }


def _chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - repeatable is what it must be, not secret
