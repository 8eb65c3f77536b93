"""How fast does the laboratory simulate, and how much room does it take?

CPU time, for that is what a simulation is made of: on a machine with nothing else to do it is the time on the
clock.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from figures import Figure
from workbench import Effort

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workbench import Workbench

BUDGET_MS = 10.0
"""Of CPU for a simulated second: 100 times real time."""
_PLAY = """
import json, resource, sys, time
from dataclasses import replace
from gimli.lab.catalogue import network
from gimli.lab.network.play import streams
from gimli.lab.network.simulator.world import World

wanted = json.loads(sys.argv[1])
topology = network("pfsync-multicast")
traffic = replace(topology.traffic, **wanted["traffic"])
topology = replace(topology, traffic=traffic, lasts_s=wanted.get("lasts_s", topology.lasts_s))
peaks = []
began_s = time.process_time()
world = World(topology, streams(wanted["seed"]))
for at_s in wanted.get("looks_s", [topology.lasts_s]):
    world.play(at_s)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
taken_s = time.process_time() - began_s
print(json.dumps({"taken_s": taken_s, "lasts_s": topology.lasts_s, "events": world.engine.events,
                  "peaks_kb": peaks, "standing": len(world.visitors)}))
"""


def measure(_: Workbench, effort: Effort) -> Iterator[Figure]:
    """Incident 2 as it is, then a thousand connections at once, then for minutes."""
    runs = [_play(seed=seed) for seed in range(1, 1 + effort.runs(6))]
    yield Figure("lab: incident 2, CPU per simulated second", "ms", _ms(runs), BUDGET_MS)
    yield Figure("lab: incident 2, CPU per event", "us", _us(runs))
    crowds = [
        _play(
            seed=seed,
            traffic={"connections": 1000, "over_s": 20.0, "thinks_s": (5.0, 20.0)},
            looks_s=[30.0],
        )
        for seed in range(1, 1 + effort.runs(3))
    ]
    note = f"{min(run['standing'] for run in crowds)} stand at the end"
    yield Figure("lab: 1,000 connections, CPU per event", "us", _us(crowds), note=note)
    lasts_s = 180.0 if effort is Effort.QUICK else 600.0
    soak = _play(
        seed=1,
        traffic={"connections": int(2 * lasts_s), "over_s": lasts_s},
        lasts_s=lasts_s,
        looks_s=[120.0, lasts_s],
    )
    grown_mb = (soak["peaks_kb"][1] - soak["peaks_kb"][0]) / 1024
    note = f"from the second to the {lasts_s / 60:g}th minute, {soak['peaks_kb'][1] / 1024:.0f} MB in all"
    yield Figure("lab: growth in a long run", "MB", (grown_mb,), note=note)


def _play(seed: int, traffic: dict[str, Any] | None = None, **more: object) -> dict[str, Any]:
    """One run in a process of its own, so that its peak is its own."""
    wanted = json.dumps({"seed": seed, "traffic": traffic or {}, **more})
    done = subprocess.run([sys.executable, "-c", _PLAY, wanted], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _ms(runs: list[dict[str, Any]]) -> tuple[float, ...]:
    return tuple(1000 * run["taken_s"] / run["lasts_s"] for run in runs)


def _us(runs: list[dict[str, Any]]) -> tuple[float, ...]:
    return tuple(1e6 * run["taken_s"] / run["events"] for run in runs)
