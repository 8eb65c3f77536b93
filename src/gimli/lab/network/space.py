"""Which designs are there to be tried? Drawn at random, a setting here and there away from a plain one. Pure.

    plain + the first setting that was picked + the next one ... = the design

A design with fewer picks is as near to the plain one as that: what a search shrinks is the picks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gimli.lab.network.causes import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from random import Random

    from gimli.lab.network.causes import Setting, Switched
    from gimli.lab.network.topology import Topology


@dataclass(frozen=True, slots=True)
class Pick:
    """One thing that a design has and the plain one has not."""

    switched: Switched
    setting: Setting

    @property
    def name(self) -> str:
        """Of what was switched."""
        return self.switched.name

    @property
    def kind(self) -> str:
        """By what it is grouped: whatever way it came about in, but of what breaks each thing by itself."""
        return self.setting.text if self.switched.kind is Kind.HARM else self.name


def draw(plain: Topology, space: Sequence[Switched], chance: Random) -> tuple[Pick, ...]:
    """What a random design has; each thing by its odds, and in one of the ways in which it may come about."""
    picks: list[Pick] = []
    topology = plain
    for switched in space:
        if chance.random() >= switched.odds or switched.is_there(topology):
            continue
        settings = switched.arises(topology)
        if not settings:
            continue
        setting = chance.choice(settings)
        changed = setting.change(topology)
        if changed != topology:
            picks.append(Pick(switched, setting))
            topology = changed
    return tuple(picks)


def build(plain: Topology, picks: Iterable[Pick]) -> Topology:
    """The design that has these, in the order in which they were picked."""
    topology = plain
    for pick in picks:
        topology = pick.setting.change(topology)
    return topology
