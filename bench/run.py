"""Measure gimli against its budgets, next to its peers (docs/benchmarks.md).

python bench/run.py [NAME...] [--quick | --full] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import beats
import crashes
import hangs
import leases
import output
import pauses
import services
import sync
import takeovers
from figures import Figure, load, table, this_machine
from workbench import Effort, Unmeasurable, Workbench

import failover
import lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUBJECTS: dict[str, Callable[[Workbench, Effort], Iterator[Figure]]] = {
    "beats": beats.measure,
    "crashes": crashes.measure,
    "pauses": pauses.measure,
    "hangs": hangs.measure,
    "services": services.measure,
    "output": output.measure,
    "takeovers": takeovers.measure,
    "lab": lab.measure,
    "leases": leases.measure,
    "sync": sync.measure,
    "failover": failover.measure,
}


def main() -> int:
    """Measure, and print one table; 1 when something could not be measured."""
    arguments = parse_arguments()
    machine, load_before = this_machine(), load()
    figures: list[Figure] = []
    with Workbench() as bench:
        for name in arguments.subjects or SUBJECTS:
            print(f"measuring {name} ...", file=sys.stderr)
            try:
                figures.extend(SUBJECTS[name](bench, arguments.effort))
            except (Unmeasurable, OSError, subprocess.SubprocessError) as error:
                figures.append(Figure(name, "", (), note=str(error)))
    loads = {"before": load_before, "after": load()}
    print(f"{machine}\nbefore: {loads['before']}; after: {loads['after']}\n\n{table(figures)}")
    if arguments.json:
        document = {
            "schema": 2,
            "machine": asdict(machine),
            "load": loads,
            "figures": [figure.to_json() for figure in figures],
        }
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
    return 0 if all(figure.samples for figure in figures) else 1


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("subjects", nargs="*", metavar="NAME", help=f"one of: {', '.join(SUBJECTS)}")
    parser.set_defaults(effort=Effort.USUAL)
    efforts = parser.add_mutually_exclusive_group()
    for effort, what in ((Effort.QUICK, "fewer runs"), (Effort.FULL, "also a thousand services")):
        efforts.add_argument(
            f"--{effort.name.lower()}", dest="effort", action="store_const", const=effort, help=what
        )
    parser.add_argument("--json", metavar="FILE", help="write every sample there")
    arguments = parser.parse_args()
    if unknown := set(arguments.subjects) - set(SUBJECTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are: {', '.join(SUBJECTS)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
