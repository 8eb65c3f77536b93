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


_STEP_S = 0.05


def simulate(
    topology: Topology,
    streams: Callable[[str], Random],
    traced: AbstractSet[int] = frozenset(),
    events_max: int | None = None,
) -> Run:
    """Play a topology once.

    Args:
        topology: what there is, and what happens to it.
        streams: a random generator by name.
        traced: numbers of connections of which everything is wanted.
        events_max: the run is cut short soon after it has taken more events: a storm may take any number.
    """
    world = World(topology, streams, traced)
    if events_max is not None:
        until_s = _STEP_S
        while until_s < topology.lasts_s and world.engine.events <= events_max:
            world.play(until_s)
            until_s += _STEP_S
        if world.engine.events > events_max:
            return world.result()
    world.play(topology.lasts_s)
    return world.result()
