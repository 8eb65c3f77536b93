"""Run stories: ``python -m simulation [--seed N] [--stories N] [--events N] [--from N]``."""

from __future__ import annotations

import sys

from simulation.runner import run_stories
from simulation.scenario import EVENTS, Failure, Scenario

if __name__ == "__main__":
    sys.exit(
        run_stories(
            "simulation",
            lambda seed, events, lines: Scenario(seed, events, lines=lines),
            Failure,
            stories=2500,
            events=EVENTS,
        )
    )
