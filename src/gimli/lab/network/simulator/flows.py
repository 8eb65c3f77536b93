"""Which flow has these ends? What is told in bytes, all hosts of a network have as the same object."""

from __future__ import annotations

from weakref import WeakValueDictionary

from gimli.lab.network.simulator.frames import Flow, pair_of_flows

Ends = tuple[str, int, str, int]
"""Source and destination with their ports."""


class Flows:
    """Flows by their ends, as long as anybody has them."""

    def __init__(self) -> None:
        self._by_ends: WeakValueDictionary[Ends, Flow] = WeakValueDictionary()

    def know(self, flow: Flow) -> None:
        """It is seen."""
        for one in (flow, flow.reverse):
            self._by_ends[one.src, one.sport, one.dst, one.dport] = one

    def find(self, ends: Ends, connection: int = 0) -> Flow:
        """By its ends; of one that nobody has, or has any more, a new one."""
        found = self._by_ends.get(ends)
        return pair_of_flows(*ends, connection) if found is None else found
