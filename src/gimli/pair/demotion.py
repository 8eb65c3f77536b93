"""How unfit is this node to be MASTER, and why? Pure.

Every reason adds its amount while it holds; the sum goes out with each advertisement. A peer whose sum is
lower takes over, preempting or not (``carp``).
"""

from __future__ import annotations

from dataclasses import dataclass

DEMOTION_MAX = 255
"""One byte on the wire."""
SYNC_INCOMPLETE = 32
"""OpenBSD's for pfsync: a node that does not know the connections yet must not be given them."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """Reasons in words, each with its amount."""

    reasons: tuple[tuple[str, int], ...] = ()

    @property
    def total(self) -> int:
        """What is advertised."""
        return min(sum(amount for _, amount in self.reasons), DEMOTION_MAX)

    @property
    def because(self) -> str:
        """All reasons, for the journal; empty when there is none."""
        return ", ".join(reason for reason, _ in self.reasons)

    def with_reason(self, reason: str, amount: int) -> Ledger:
        """The same with one reason more, or with another amount of it."""
        return Ledger((*self.without(reason).reasons, (reason, amount)))

    def without(self, reason: str) -> Ledger:
        """The same without one."""
        return Ledger(tuple(item for item in self.reasons if item[0] != reason))
