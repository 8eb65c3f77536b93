"""What does a beat cost, next to the clock that it must read?

The two beat benches, several times.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from figures import Figure
from workbench import HERE, Effort, Workbench

from gimli.cli.library import library_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

C_BUDGET_NS = 25
PYTHON_BUDGET_NS = 150


def measure(_: Workbench, effort: Effort) -> Iterator[Figure]:
    """Each sample is the best of one process: noise only ever adds to so short a thing."""
    runs = effort.runs(5)
    in_c = [_json_of("beat_c.py", os.path.dirname(library_path())) for _ in range(runs)]
    yield _figure("beat, C", in_c, "beat_ns", C_BUDGET_NS, "clock_gettime", "clock_ns")
    yield _figure("beat of a pulse, C", in_c, "pulse_ns", C_BUDGET_NS, "clock_gettime", "clock_ns")
    in_python = [_json_of("beat_python.py", "--json")["ns"] for _ in range(runs)]
    yield _figure("beat, Python", in_python, "beat", PYTHON_BUDGET_NS, "time.monotonic_ns", "clock")
    yield _figure(
        "beat of a pulse, Python", in_python, "pulse.beat", PYTHON_BUDGET_NS, "time.monotonic_ns", "clock"
    )


def _figure(
    what: str, found: list[dict[str, float]], key: str, budget_ns: float, floor: str, floor_key: str
) -> Figure:
    ours, floors = (tuple(item[name] for item in found) for name in (key, floor_key))
    return Figure(what, "ns", ours, budget_ns, {floor: floors})


def _json_of(script: str, *arguments: str) -> dict[str, Any]:
    # Its status says whether the budget holds; here that is for the table to say.
    done = subprocess.run(
        [sys.executable, os.path.join(HERE, script), *arguments], stdout=subprocess.PIPE, check=False
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
