"""Which frames of a virtual address does a kernel let pass? Those of a vhid whose lease is held.

As the sets of ``gimli.pair.guard`` with their time-outs, and ``gimli.pair.lease`` that moves them: a lease
that nobody renews lapses by itself, whatever became of the daemon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.pair.guard import Lease, lease_set
from gimli.pair.lease import LeaseLapsed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gimli.lab.network.simulator.engine import Engine


def lease_of(vhid: int) -> Lease:
    """The lease of a vhid."""
    return Lease(lease_set(vhid), ())


class Fence:
    """The leases of one kernel.

    Args:
        engine: whose time it lives in.
        changed: called when a lease is taken, given up, or lapses.
    """

    def __init__(self, engine: Engine, changed: Callable[[], None]) -> None:
        self._engine = engine
        self._changed = changed
        self._until_s: dict[str, float] = {}

    def holds(self, vhid: int) -> bool:
        """Whether frames of a vhid pass."""
        return self._until_s.get(lease_set(vhid), 0.0) > self._engine.now_s

    def clear(self) -> None:
        """No lease is held."""
        self._until_s.clear()
        self._changed()

    def acquire(self, leases: Iterable[Lease], length_s: float) -> None:
        """Hold leases from now on."""
        for lease in leases:
            self._set(lease, length_s)
        self._changed()

    def renew(self, leases: Iterable[Lease], length_s: float) -> None:
        """Hold leases for longer.

        Raises:
            LeaseLapsed: one has ended; none is renewed.
        """
        wanted = tuple(leases)
        if any(self._until_s.get(lease.set_name, 0.0) <= self._engine.now_s for lease in wanted):
            raise LeaseLapsed("the lease has lapsed")
        for lease in wanted:
            self._set(lease, length_s)

    def release(self, leases: Iterable[Lease]) -> None:
        """Hold leases no more."""
        for lease in leases:
            self._until_s.pop(lease.set_name, None)
        self._changed()

    def _set(self, lease: Lease, length_s: float) -> None:
        until_s = self._until_s[lease.set_name] = self._engine.now_s + length_s
        self._engine.at(until_s, self._lapse, (lease.set_name, until_s))

    def _lapse(self, entry: tuple[str, float]) -> None:
        name, until_s = entry
        if self._until_s.get(name) == until_s:
            del self._until_s[name]
            self._changed()
