"""Runs stories one after the other from the command line, and says which fail."""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Story(Protocol):
    """What can be run, once."""

    world: Any

    def run(self) -> None:
        """From its beginning to its end."""


def run_stories(
    prog: str,
    make: Callable[[int, int, int], Story],
    failure: type[Exception],
    *,
    stories: int,
    events: int,
    over: Callable[[Story], None] = lambda _: None,
    sum_up: Callable[[], Iterator[str]] = lambda: iter(()),
) -> int:
    """Run them; print the first one that fails, or with ``--keep-going`` what fails how often.

    Args:
        prog: the module.
        make: a story of a seed, a number of events, and how many lines of it are kept.
        failure: what it raises.
        stories: how many, if nobody says.
        events: of one, likewise.
        over: called with each story.
        sum_up: more lines for the end.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {prog}")
    parser.add_argument("--seed", type=int, help="one story")
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--stories", type=int, default=stories)
    parser.add_argument("--events", type=int, default=events)
    parser.add_argument(
        "--keep-going", action="store_true", help="count failures instead of ending at the first"
    )
    parser.add_argument("--lines", type=int, default=60, help="of the story of a failure")
    told = parser.parse_args()
    seeds = [told.seed] if told.seed is not None else range(told.first, told.first + told.stories)
    counts: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    example: dict[str, int] = {}
    began = time.perf_counter()
    for seed in seeds:
        story = make(seed, told.events, told.lines)
        try:
            story.run()
        except failure as failed:
            if not told.keep_going:
                print(failed)
                return 1
            what = re.sub(r"\d+", "N", str(failed).partition("\n\nthe last")[0][-150:])
            failures[what] += 1
            example.setdefault(what, seed)
        counts.update(story.world.events)
        over(story)
    took_s = time.perf_counter() - began
    print(f"{counts.total()} events in {len(seeds)} stories, {took_s:.1f} s: {dict(counts.most_common())}")
    for line in sum_up():
        print(line)
    for what, count in failures.most_common(25):
        print(f"{count:5} e.g. seed {example[what]}: {what}")
    return 1 if failures else 0
