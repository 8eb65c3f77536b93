"""What is a scenario, and what does a run of one give?

A scenario plays one incident. ``simulate`` is pure but for the seed it is given; ``real`` plays it with real
programs; ``explain`` plays it many times with one cause switched off at a time. All three give plain values:
who prints them, and how, is the command line's business.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from gimli.lab.pictures import NOTHING, Pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SCHEMA = 1
SIMULATED = "simulated"
REAL = "real"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One expectation of a scenario: what was expected, whether it holds, and the figure that decides."""

    expect: str
    holds: bool
    figure: str


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the time line.

    Args:
        t_ms: since the scenario's first event.
        where: which of the compared systems it happened in.
        text: who did what.
        what: which kind of event it is, where there are kinds.
        fields: the values it is about, where there are any.
    """

    t_ms: float
    where: str
    text: str
    what: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cure:
    """One change to the scenario, and what becomes of it.

    Args:
        change: what is done differently.
        cures: whether the incident is gone.
        price: what it costs, or what it leaves; ``none`` if nothing.
        metrics: the figures of the runs with the change.
        cells: those of them that a table shows, in words; their heads are the result's.
    """

    change: str
    cures: bool
    price: str
    metrics: Mapping[str, Any]
    cells: tuple[str, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True, slots=True)
class Cause:
    """One of the things that must come together.

    Args:
        text: what it is.
        remedy: how it is taken away.
        without: how many of the runs still fail without it, in words.
        needed: whether the incident is gone without it.
        name: for programs.
        kind: ``cause``, or ``condition``: nobody's mistake, but without it the causes do no harm.
    """

    text: str
    remedy: str
    without: str
    needed: bool
    name: str = ""
    kind: str = "cause"


@dataclass(frozen=True, slots=True)
class Result:
    """What one run gives, or many of them when ``causes`` and ``cures`` are there.

    Args:
        headline: the result in one line.
        explanation: sentences, the most important first.
        sure: how sure which claim is, and why.
        change: what to change, as the lines of a diff.
        cure_heads: of the columns that the cures' cells are in.
        cures_title: of their table.
        effect: what is gone without a cause, in words.
        subject: whose story the time line is.
        pictures: what of it can be drawn.
    """

    scenario: str
    seed: int
    mode: str
    headline: str
    verdicts: tuple[Verdict, ...]
    metrics: Mapping[str, Any]
    timeline: tuple[Moment, ...]
    explanation: tuple[str, ...]
    sure: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    cures: tuple[Cure, ...] = ()
    change: tuple[str, ...] = ()
    cure_heads: tuple[str, ...] = ()
    cures_title: str = "CURES"
    effect: str = "it"
    subject: str = ""
    pictures: Pictures = NOTHING

    @property
    def holds(self) -> bool:
        """Every expectation was met."""
        return all(verdict.holds for verdict in self.verdicts)

    def to_json(self) -> dict[str, Any]:
        """The document of ``--json``; ``causes`` and ``cures`` only where causes were switched."""
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "scenario": self.scenario,
            "seed": self.seed,
            "mode": self.mode,
            "headline": self.headline,
            "verdicts": [_plain(verdict) for verdict in self.verdicts],
            "metrics": dict(self.metrics),
            "subject": self.subject,
            "timeline": [_plain(moment) for moment in self.timeline],
            "explanation": "\n".join(self.explanation),
            "change": list(self.change),
            "sure": list(self.sure),
            "pictures": asdict(self.pictures),
        }
        if self.causes or self.cures:
            document["causes"] = [_plain(cause) for cause in self.causes]
            document["cures"] = [_plain(cure) for cure in self.cures]
        return document


class Scenario(Protocol):
    """One incident that the laboratory can play."""

    name: str
    about: str
    runs: int
    """Seeds for each change when nobody says how many."""

    def simulate(self, seed: int) -> Result:
        """Play it once on virtual time: same seed, same result."""
        ...

    def real(self, seed: int, gimli: tuple[str, ...], tell: Callable[[str], None], pcap: str = "") -> Result:
        """Play it once with real programs.

        Args:
            seed: of what is random in it.
            gimli: the command that is ``gimli``.
            tell: called with what is done now, for a person who waits.
            pcap: a directory for what was on the cables; empty for none.

        Raises:
            GimliError: a program that it needs is not there.
        """
        ...

    def explain(self, seed: int, runs: int, tell: Callable[[str], None]) -> Result:
        """Simulate it ``runs`` times as it is, and again with each cause switched off."""
        ...

    def explain_real(
        self, seed: int, runs: int | None, gimli: tuple[str, ...], tell: Callable[[str], None]
    ) -> Result:
        """The same with real programs, each case a few times.

        Raises:
            GimliError: a program that it needs is not there.
        """
        ...


def _plain(item: object) -> dict[str, Any]:
    """The fields of a value by name, in order."""
    return {name: getattr(item, name) for name in type(item).__match_args__}  # type: ignore[attr-defined]  # a dataclass has it
