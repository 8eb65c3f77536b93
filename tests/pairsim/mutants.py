"""Pairs with one fault each. The invariants must notice every one of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gimli.pair import carp, carp_events, node
from gimli.pair.statesync import StateSync
from gimli.pair.syncactions import Listen, Send
from gimli.pair.syncreceiver import Receiver
from gimli.pair.syncsender import Sender
from gimli.pair.tenure import Tenure
from gimli.pair.vhid import Role
from pairsim import faults

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from gimli.pair.syncactions import Action
    from gimli.pair.syncwire import Datagram


def a_backup_sends_updates(patch: pytest.MonkeyPatch) -> None:
    """As OpenBSD does: whoever sees a connection change tells the other node."""
    follow, due, end = StateSync.follow, StateSync.due, Sender.end

    def follow_and_send(self: StateSync, now_s: float) -> list[Action]:
        patch.setattr(Sender, "end", lambda _: None)
        try:
            return [action for action in follow(self, now_s) if not isinstance(action, Listen)]
        finally:
            patch.setattr(Sender, "end", end)

    def due_in_any_role(self: StateSync, now_s: float) -> list[Action]:
        more = [] if self.is_owner else [Send(datagram) for datagram in self._sender.due(now_s)]
        return due(self, now_s) + more

    def put(self: StateSync, changes: list[tuple[bytes, bytes]], now_s: float) -> None:
        if self._sender.is_joined:
            self._sender.put(changes, now_s)

    patch.setattr(StateSync, "follow", follow_and_send)
    patch.setattr(StateSync, "due", due_in_any_role)
    patch.setattr(StateSync, "put", put)


def epochs_do_not_count(patch: pytest.MonkeyPatch) -> None:
    """What an owner says is merged by its sequence number, whatever its reign."""
    heard_owner = StateSync._heard_owner

    def heard(self: StateSync, datagram: Datagram, now_s: float, out: list[Action]) -> None:
        heard_owner(self, replace(datagram, reign=max(datagram.reign, self.reign)), now_s, out)

    patch.setattr(StateSync, "_heard_owner", heard)
    patch.setattr(StateSync, "_compare_reigns", lambda *_: None)


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


def who_knows_no_connections_is_not_demoted(patch: pytest.MonkeyPatch) -> None:
    """It takes over from a MASTER that has them."""
    patch.setattr(node, "SYNC_INCOMPLETE", 0)


def more_is_acknowledged_than_applied(patch: pytest.MonkeyPatch) -> None:
    """What came early counts as applied."""
    position = Receiver.position

    def latest(self: Receiver) -> tuple[int, bytes]:
        number, gaps = position(self)
        return max([number, *self._early]), gaps

    patch.setattr(Receiver, "position", latest)


MUTANTS = {
    a_backup_sends_updates: faults.SPLITS,
    epochs_do_not_count: faults.SPLITS,
    a_lease_is_renewed_without_proof: faults.FREEZES,
    a_lease_is_prolonged_before_the_advertisement: faults.FREEZES,
    a_master_ignores_a_higher_epoch: faults.SPLITS,
    who_knows_no_connections_is_not_demoted: faults.KERNELS,
    more_is_acknowledged_than_applied: faults.SPLITS,
}
"""And what must go wrong for it to be noticed soon."""
