"""What does it cost to hold a lease, how exactly does it end, and what does the guard cost a frame?

In a network namespace of its own, for which it takes root: ``programs/leases.py`` measures there.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from figures import Figure
from workbench import PROGRAMS, Effort, Unmeasurable, Workbench

from gimli.lab.namespaces import Network, NetworkRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

RENEWAL_BUDGET_US = 200
"""A hundredth of the shortest interval between advertisements, 16 ms, rounded up."""


def measure(bench: Workbench, effort: Effort) -> Iterator[Figure]:  # noqa: ARG001 - every subject gets both
    """Renewals beside the nft program; the rest has no peer."""
    try:
        with Network() as network:
            host = network.host("node")
            for name, other in (("lan0", "peer0"), ("dmz0", "peer1")):
                network.cable(host, name, host, other)
            host.address("lan0", "192.0.2.2/24", "2001:db8::2/64")
            program = os.path.join(PROGRAMS, "leases.py")
            told: dict[str, list[float]] = json.loads(host.run(sys.executable, program, str(effort.runs(15))))
    except NetworkRefused as error:
        raise Unmeasurable(str(error)) from error
    samples = {name: tuple(values) for name, values in told.items()}
    by_program = samples.pop("renewal by the nft program")
    for name, values in samples.items():
        if name == "renewal, one interface":
            yield Figure(name, "us", values, RENEWAL_BUDGET_US, {"nft": by_program}, {"nft": 0.1})
        elif name.startswith("renewal"):
            yield Figure(name, "us", values, RENEWAL_BUDGET_US)
        else:
            yield Figure(name, "ns" if name.startswith("frame") else "ms", values)
