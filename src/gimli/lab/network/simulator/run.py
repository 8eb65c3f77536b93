"""One run of a topology, from its first moment to its last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.lab.network.simulator.world import World

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet
    from random import Random

    from gimli.lab.network.simulator.record import Run
    from gimli.lab.network.topology import Topology


def simulate(
    topology: Topology, streams: Callable[[str], Random], traced: AbstractSet[int] = frozenset()
) -> Run:
    """Play a topology once.

    Args:
        topology: what there is, and what happens to it.
        streams: a random generator by name.
        traced: numbers of connections of which everything is wanted.
    """
    world = World(topology, streams, traced)
    world.play(topology.lasts_s)
    return world.result()
