"""A million things happen to the monitor, and its invariants hold (docs/simulation.md)."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from simulation.mutants import MUTANTS
from simulation.scenario import Failure, Scenario

_EVENTS = int(os.environ.get("GIMLI_SIMULATION_EVENTS", "1000000"))
_FIRST_SEED = int(os.environ.get("GIMLI_SIMULATION_SEED", "0"))
_MUTANT_STORIES = 1000


@pytest.mark.slow
def test_the_invariants_hold_whatever_happens():
    """A failure names its seed, and tells how it came to it."""
    counts: Counter[str] = Counter()
    stories = 0
    while counts.total() < _EVENTS:
        scenario = Scenario(_FIRST_SEED + stories)
        scenario.run()
        counts.update(scenario.world.events)
        stories += 1
    print(f"{counts.total()} events in {stories} stories: {dict(counts.most_common())}")
    assert stories * 300 < counts.total() + 300 * 300, "stories end early: they are not what they say"


def test_the_same_seed_is_the_same_story():
    """Else a failure could not be looked at."""

    def told(seed: int) -> str:
        scenario = Scenario(seed, lines=100_000)
        scenario.run()
        return scenario.world.story()

    for seed in range(5):
        assert told(seed).replace(f"'pid': {os.getpid()}", "") == told(seed).replace(
            f"'pid': {os.getpid()}", ""
        )


@pytest.mark.parametrize("mutate", MUTANTS, ids=lambda mutate: mutate.__name__)
def test_a_mutant_is_noticed(mutate, monkeypatch):
    """Whatever the first seeds are: ten times from different ones."""
    shell = mutate(monkeypatch)
    for attempt in range(3):
        for seed in range(attempt * 10_000, attempt * 10_000 + _MUTANT_STORIES):
            try:
                Scenario(seed, shell=shell).run()
            except Failure:
                break
        else:
            pytest.fail(f"it lives through {_MUTANT_STORIES} stories from {attempt * 10_000} on")
