"""Does incident 2 happen on the real kernel, with and without each cause, as it does in the simulation?

    python bench/incident.py real.jsonl --runs 20     # plays what is not in the file yet; root; 25 s a run
    python bench/incident.py real.jsonl --table       # what is in it, beside as many simulated runs

The cases take turns, so that a machine that is busy for a while is so for all of them. Every run is a line of
the file as soon as it is over: it may be stopped at any time, and goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gimli.lab.catalogue import network
from gimli.lab.network import measure
from gimli.lab.network.play import streams
from gimli.lab.network.real import changes, explain, play
from gimli.lab.network.simulator.run import simulate
from gimli.lab.network.topology import Firewall, Model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gimli.lab.network.simulator.record import Run
    from gimli.lab.network.topology import Topology

    Case = Callable[[Topology], Topology]
    Line = dict[str, Any]


def linux(topology: Topology) -> Topology:
    """The same wiring with gimli pair on Linux for its firewalls."""
    hosts = (
        replace(host, model=Model.LINUX) if isinstance(host, Firewall) else host for host in topology.hosts
    )
    return replace(topology, hosts=tuple(hosts))


CASES: dict[str, Case] = {"as it is": lambda topology: topology}
CASES |= {change.text: change.apply for change in changes.CHANGES}
FAULTS: dict[str, Case] = {"the sync cable is pulled": changes.pulled}
FAULTS |= {
    f"{name}, and a failover": lambda topology, change=change: changes.failing_over(change(topology))
    for name, change in {**CASES, "Linux with gimli pair": linux}.items()
}
KEPT = (
    "answered",
    "bad_state_drops",
    "application_resets",
    "backward_moves",
    "copies_on_backup",
    "guard_drops",
    "frozen",
    "frozen_by",
    "open_at_fault",
    "lost_at_fault",
    "longest_freeze_s",
)
_FAULT_SHARE = 10
"""Of the cases with a fault, one run for so many of the others."""
_ELECTION_S = 5.0
_CONNECTIONS_MAX = 10_000
"""Numbers of connections in a simulation are below this; with a fault all are traced, as in a real run."""


def main() -> int:
    """Play, or print."""
    parser = argparse.ArgumentParser(
        description="Incident 2 with and without each cause, on the real kernel."
    )
    parser.add_argument("file", help="a line per run; what is in it is not played again")
    parser.add_argument("--runs", type=int, default=20, help="of each case (20)")
    parser.add_argument("--table", action="store_true", help="print what is in the file")
    arguments = parser.parse_args()
    lines = list(_read(arguments.file))
    if arguments.table:
        _print(lines)
        return 0
    topology = changes.quick(network("pfsync-multicast"))
    done = {(line["case"], line["seed"]) for line in lines}
    for seed in range(1, 1 + arguments.runs):
        cases = CASES | FAULTS if (seed - 1) % _FAULT_SHARE == 0 else CASES
        for name, case in cases.items():
            if (name, seed) not in done:
                _append(arguments.file, _real(name, case(topology), seed))
    return 0


def _real(name: str, topology: Topology, seed: int) -> Line:
    began_s = time.monotonic()
    run = play.play(topology, seed, lambda _: None)
    line = {"case": name, "seed": seed, "load": os.getloadavg()[0], **_figures(run)}
    took_s = time.monotonic() - began_s
    sys.stderr.write(f"{name}, seed {seed}: {took_s:.0f} s, load {line['load']:.1f}\n")
    return line


def _simulated(topology: Topology, seed: int) -> Line:
    """The same on virtual time, where the election is a part of the run."""
    traffic = replace(topology.traffic, begins_s=topology.traffic.begins_s + _ELECTION_S)
    faults = tuple(replace(fault, at_s=fault.at_s + _ELECTION_S) for fault in topology.faults)
    later = replace(topology, lasts_s=topology.lasts_s + _ELECTION_S, traffic=traffic, faults=faults)
    traced = frozenset(range(_CONNECTIONS_MAX)) if faults else frozenset[int]()
    return _figures(simulate(later, streams(seed), traced))


def _figures(run: Run) -> Line:
    metrics = measure.metrics(run)
    figures: Line = {what: metrics[what] for what in KEPT} | {"failed": explain.is_failed(metrics)}
    if run.topology.faults:
        figures |= {"took_s": measure.failover_s(run), **explain.after_the_pull(run)}
    return figures


def _print(lines: list[Line]) -> None:
    topology = changes.quick(network("pfsync-multicast"))
    for name, case in CASES.items():
        real = [line for line in lines if line["case"] == name]
        played = [_simulated(case(topology), line["seed"]) for line in real]
        print(_row(name, "real", real))
        print(_row("", "simulated", played))
    print()
    for name, case in FAULTS.items():
        real = [line for line in lines if line["case"] == name]
        played = [_simulated(case(topology), line["seed"]) for line in real]
        for mode, runs in (("real", real), ("simulated", played)):
            print(_fault_row(name, mode, runs))


def _row(name: str, mode: str, runs: list[Line]) -> str:
    kinds = [sum(run["frozen_by"][kind] for run in runs) for kind in ("F1", "F2", "F4")]
    cells = [
        name,
        mode,
        len(runs),
        sum(run["bad_state_drops"] > 0 for run in runs),
        sum(run["failed"] for run in runs),
        _spread([run["bad_state_drops"] for run in runs]),
        ", ".join(map(str, kinds)),
        *(
            _spread([run[what] for run in runs])
            for what in ("application_resets", "backward_moves", "copies_on_backup")
        ),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _fault_row(name: str, mode: str, runs: list[Line]) -> str:
    took_s = [run["took_s"] for run in runs if run["took_s"] is not None]
    lost = f"{sum(run['lost_at_fault'] for run in runs)} of {sum(run['open_at_fault'] for run in runs)}"
    sums = [
        sum(run[what] for run in runs)
        for what in ("dropped_before", "dropped_after", "moved_back_before", "moved_back_after")
    ]
    cells = [name, mode, len(runs), _spread(took_s), lost, *sums]
    return f"| {' | '.join(map(str, cells))} |"


def _spread(values: list[float]) -> str:
    """Least, middle and most."""
    if not values:
        return "-"
    least_middle_most = (min(values), statistics.median(values), max(values))
    shown = [f"{round(value, 2):.6g}" for value in least_middle_most]
    return shown[0] if min(values) == max(values) else ", ".join(shown)


def _read(path: str) -> Iterable[Line]:
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            yield from map(json.loads, file)


def _append(path: str, line: Line) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    sys.exit(main())
