"""What does a search look for, and is a run one? Pure.

When nothing is asked for it is what takes days to find: something that is expected does not hold, and yet
many connections are well, there is one MASTER all the time, and nothing is broken. A network that hardly
works is noticed on its first day, and two MASTERs are told in a log: such designs are counted, no more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from gimli.lab.network.topology import Expect, Expectation

if TYPE_CHECKING:
    from gimli.lab.network.play import Outcome
    from gimli.lab.network.topology import Topology

FREEZE = Expectation(Expect.FREEZE, 1.0)
_MOST = 0.75
"""Of the connections. In the story two of three requests froze, and nobody knew why."""
_TWO_MASTERS_S = 1.0
STORM = 10
"""Times the events of the plain design: a run that takes more is cut short."""


class Judgement(Enum):
    """Of a run."""

    FINE = "fine"
    """What is expected holds."""
    FAILS = "fails"
    """It is what is looked for."""
    DEAD = "hardly worked at all"
    """Most connections froze, or a storm had to be cut short."""
    TWO_MASTERS = "had two masters"


LOUD = (Judgement.DEAD, Judgement.TWO_MASTERS)
"""Failures that somebody would notice."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What is looked for.

    Args:
        expects: one of these does not hold.
        is_silent: and nobody would notice otherwise.
    """

    expects: tuple[Expectation, ...]
    is_silent: bool

    @classmethod
    def silent(cls, plain: Topology) -> Goal:
        """What a network expects of itself, or that nothing freezes where it expects nothing."""
        return cls(plain.expects or (FREEZE,), is_silent=True)

    def of(self, topology: Topology) -> Topology:
        """The topology that expects this and nothing else."""
        return replace(topology, expects=self.expects)

    def judge(self, outcome: Outcome, events_max: int | None) -> Judgement:
        """What a run of such a topology is."""
        figures = outcome.metrics
        is_storm = events_max is not None and figures["events"] > events_max
        if all(verdict.holds for verdict in outcome.verdicts):
            return Judgement.DEAD if self.is_silent and is_storm else Judgement.FINE
        if self.is_silent:
            if figures["frozen"] > _MOST * figures["connections"] or is_storm:
                return Judgement.DEAD
            if figures["two_masters_s"] >= _TWO_MASTERS_S:
                return Judgement.TWO_MASTERS
        return Judgement.FAILS
