"""Run stories: ``python -m pairsim [--seed N] [--stories N] [--events N] [--from N]``."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from pairsim.story import EVENTS, Failure, Story


def main() -> int:
    """Run them; print the first one that fails."""
    parser = argparse.ArgumentParser(prog="python -m pairsim")
    parser.add_argument("--seed", type=int, help="one story")
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--stories", type=int, default=1000)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument(
        "--keep-going", action="store_true", help="count failures instead of ending at the first"
    )
    parser.add_argument("--lines", type=int, default=60, help="of the story of a failure")
    told = parser.parse_args()
    seeds = [told.seed] if told.seed is not None else range(told.first, told.first + told.stories)
    counts: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    example: dict[str, int] = {}
    calm_s: list[float] = []
    began = time.perf_counter()
    for seed in seeds:
        story = Story(seed, told.events, lines=told.lines)
        try:
            story.run()
        except Failure as failure:
            if not told.keep_going:
                print(failure)
                return 1
            what = str(failure).partition("\n\nthe last")[0][-150:]
            failures[what] += 1
            example.setdefault(what, seed)
        counts.update(story.world.events)
        calm_s.append(story.calm_s)
    took_s = time.perf_counter() - began
    print(f"{counts.total()} events in {len(seeds)} stories, {took_s:.1f} s: {dict(counts.most_common())}")
    calm_s.sort()
    print(f"all was well {calm_s[len(calm_s) // 2]:.1f} s (median) to {calm_s[-1]:.1f} s after the last fault")
    for what, count in failures.most_common(25):
        print(f"{count:5} e.g. seed {example[what]}: {what}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
