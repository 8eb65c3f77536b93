"""Pairs with one fault each. The invariants must notice every one of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gimli.pair import carp, carp_events
from gimli.pair.statesync import StateSync
from gimli.pair.syncactions import Send
from gimli.pair.syncreceiver import Receiver
from gimli.pair.syncsender import Sender
from gimli.pair.tenure import Tenure
from gimli.pair.vhid import Role

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from gimli.pair.syncactions import Action


def a_backup_sends_updates(patch: pytest.MonkeyPatch) -> None:
    """A former owner goes on with its stream."""
    follow, due, end = StateSync.follow, StateSync.due, Sender.end

    def follow_and_send(self: StateSync, now_s: float) -> list[Action]:
        patch.setattr(Sender, "end", lambda _: None)
        try:
            return follow(self, now_s)
        finally:
            patch.setattr(Sender, "end", end)

    def due_in_any_role(self: StateSync, now_s: float) -> list[Action]:
        more = [] if self.is_owner else [Send(datagram) for datagram in self._sender.due(now_s)]
        return due(self, now_s) + more

    patch.setattr(StateSync, "follow", follow_and_send)
    patch.setattr(StateSync, "due", due_in_any_role)


def a_lease_is_renewed_without_proof(patch: pytest.MonkeyPatch) -> None:
    """A daemon that stood still revives a lease that has lapsed."""

    def keep(self: Tenure) -> None:
        self._leases.acquire((self._lease,), self._length_s)

    patch.setattr(Tenure, "keep", keep)


def a_lease_is_prolonged_before_the_advertisement(patch: pytest.MonkeyPatch) -> None:
    """And not behind it: the peer has not heard what the lease counts from."""

    def advertise(self: Tenure, send: Callable[[], list[OSError | None]]) -> list[OSError | None]:
        self._left_s()
        self._sent_s = self._now_s()
        self.keep()
        return send()

    patch.setattr(Tenure, "advertise", advertise)


def a_master_ignores_a_higher_epoch(patch: pytest.MonkeyPatch) -> None:
    """It stays MASTER, and another node has owned the connections since."""
    row = replace(carp.TABLE[Role.MASTER][carp_events.Outranked], target=Role.MASTER, effect=carp._nothing)
    table = {**carp.TABLE[Role.MASTER], carp_events.Outranked: row}
    patch.setattr(carp, "TABLE", {**carp.TABLE, Role.MASTER: table})


def more_is_acknowledged_than_applied(patch: pytest.MonkeyPatch) -> None:
    """What came early counts as applied."""
    position = Receiver.position

    def latest(self: Receiver) -> tuple[int, bytes]:
        number, gaps = position(self)
        return max([number, *self._early]), gaps

    patch.setattr(Receiver, "position", latest)


def a_yield_is_silent(patch: pytest.MonkeyPatch) -> None:
    """Two that yield to each other, one to an address and one to an epoch, do so for ever. Gimli did."""
    real = carp._yield_outranked
    row = carp.TABLE[Role.MASTER][carp_events.PeerOutranks]

    def silent(vhid, event):
        vhid, actions = real(vhid, event)
        return vhid, actions[:-1]

    table = {**carp.TABLE[Role.MASTER], carp_events.PeerOutranks: replace(row, effect=silent)}
    patch.setattr(carp, "TABLE", {**carp.TABLE, Role.MASTER: table})


MUTANTS = (
    a_backup_sends_updates,
    a_lease_is_renewed_without_proof,
    a_lease_is_prolonged_before_the_advertisement,
    a_master_ignores_a_higher_epoch,
    more_is_acknowledged_than_applied,
    a_yield_is_silent,
)
