"""What of a network's run can be drawn? Pure: a run in, pictures out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.lab.network import evidence, lanes_linux, lanes_pf, sketch, windows
from gimli.lab.pictures import Pictures

if TYPE_CHECKING:
    from gimli.lab.network.simulator.record import Run
    from gimli.lab.pictures import Spread


def draw(run: Run, told: evidence.Subject | None = None, spreads: tuple[Spread, ...] = ()) -> Pictures:
    """The map, and the pictures of one connection.

    Args:
        run: in which that connection was traced.
        told: that connection; None when there is none to be told of.
        spreads: of the runs that this one is one of.
    """
    plan = sketch.of(run.topology, run)
    if told is None:
        return Pictures(map=plan, spreads=spreads)
    chain = evidence.find(run, told.number)
    if chain.drop is None:
        return Pictures(plan, *lanes_linux.of(run, chain.fate, str(told)), spreads)
    return Pictures(plan, lanes_pf.of(run, chain, str(told)), windows.of(run, chain), spreads)
