"""A pair on a network and a time that do not exist: what must hold, holds, and would be missed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pairsim.mutants import MUTANTS
from pairsim.story import Failure, Story

if TYPE_CHECKING:
    from pairsim.faults import Mood

STORIES = int(os.environ.get("GIMLI_PAIR_STORIES", "400"))
FIRST = int(os.environ.get("GIMLI_SIMULATION_SEED", "0"))
MUTANT_STORIES_MAX = 400


@pytest.mark.slow
def test_a_pair_keeps_its_invariants():
    """At most one answers, who comes back learns first, and nothing of an earlier owner is applied."""
    for seed in range(FIRST, FIRST + STORIES):
        Story(seed).run()


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mutant_is_caught(mutant, monkeypatch):
    """Rules that nobody could break would be worth nothing."""
    mutant(monkeypatch)
    with pytest.raises(Failure):
        _play_many(MUTANTS[mutant])


def _play_many(mood: Mood) -> None:
    for seed in range(MUTANT_STORIES_MAX):
        Story(seed, mood=mood).run()
