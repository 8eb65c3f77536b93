"""What does a beat of a Python program cost? Budget: 150 ns.

    python bench/beat_python.py [--json]

Each figure is the best of several runs, with the floor beside it in the same run: a call of an empty
function, which any beat pays, and the clock, which it must read.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import timeit
from time import monotonic_ns
from typing import TYPE_CHECKING

from gimli import client, heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable

BUDGET_NS = 150
CALLS = 500_000
RUNS = 9


def main() -> int:
    """Measure, print, and fail when the budget is exceeded."""
    figures = measure()
    if "--json" in sys.argv[1:]:
        print(json.dumps({"schema": 1, "budget_ns": BUDGET_NS, "ns": figures}))
    else:
        for name, cost_ns in figures.items():
            print(f"{name:24} {cost_ns:7.1f} ns")
    return 0 if figures["beat"] <= BUDGET_NS else 1


def measure() -> dict[str, float]:
    """Nanoseconds per call, against a real page."""
    with tempfile.TemporaryDirectory() as directory:
        page = heartbeat.PageFile(os.path.join(directory, "page"))
        page.reset()
        os.environ[heartbeat.ENV_PAGE_FD] = str(page.fd)
        assert client.attach()
        with client.pulse("bench", interval=30) as alive:
            return {
                "empty function": cost_ns(empty),
                "clock": cost_ns(monotonic_ns),
                "beat": cost_ns(client.beat),
                "pulse.beat": cost_ns(alive.beat),
            }


def cost_ns(function: Callable[[], object]) -> float:
    """The best of several runs: noise only ever adds."""
    return round(min(timeit.repeat(function, number=CALLS, repeat=RUNS)) / CALLS * 1e9, 1)


def empty() -> None:
    """What calling any function costs."""


if __name__ == "__main__":
    sys.exit(main())
