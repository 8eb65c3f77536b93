"""The world of ``tests/simulation``, and whether things go wrong in it still."""

from __future__ import annotations

from simulation import world


class World(world.World):
    """Virtual time, a calendar and chance."""

    is_calm = False
    """Nothing goes wrong any more."""
