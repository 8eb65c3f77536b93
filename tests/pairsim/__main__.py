"""Run stories: ``python -m pairsim [--seed N] [--stories N] [--events N] [--from N]``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pairsim.story import EVENTS, Failure, Story
from simulation.runner import run_stories

if TYPE_CHECKING:
    from collections.abc import Iterator


def main() -> int:
    """Run them, and say how long it took until all was well."""
    calm_s: list[float] = []

    def sum_up() -> Iterator[str]:
        calm_s.sort()
        yield (
            f"all was well {calm_s[len(calm_s) // 2]:.1f} s (median) to {calm_s[-1]:.1f} s "
            "after the last fault"
        )

    return run_stories(
        "pairsim",
        lambda seed, events, lines: Story(seed, events, lines=lines),
        Failure,
        stories=1000,
        events=EVENTS,
        over=lambda story: calm_s.append(story.calm_s),
        sum_up=sum_up,
    )


if __name__ == "__main__":
    sys.exit(main())
