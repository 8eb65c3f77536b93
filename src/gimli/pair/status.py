"""What does one host of a pair say of itself? The contract of ``gimli pair status --json``. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gimli.pair.config import Carp
    from gimli.pair.node import Node
    from gimli.pair.statesync import StateSync
    from gimli.pair.vhid import Peer

SCHEMA = 1


def describe(
    node: Node, carps: tuple[Carp, ...], guard: Mapping[str, int] | None, now_s: float
) -> dict[str, Any]:
    """The status.

    Args:
        node: as it is now.
        carps: what its vhids were told.
        guard: frames dropped, by counter; None where the rules are not in place.
        now_s: the node's time.
    """
    leader = node.leader
    vhids = [_vhid(node, carp, now_s) for carp in carps]
    return {
        "schema": SCHEMA,
        "role": leader.role.value,
        "vhid": leader.vhid,
        "demotion": node.ledger.total,
        "reasons": [{"reason": reason, "amount": amount} for reason, amount in node.ledger.reasons],
        "peer": vhids[0]["peer"],
        "states": _states(node.sync, now_s),
        "guard": {
            "installed": guard is not None,
            "dropped": sum(guard.values()) if guard else 0,
            "counters": dict(guard or {}),
        },
        "vhids": vhids,
    }


def _vhid(node: Node, carp: Carp, now_s: float) -> dict[str, Any]:
    vhid = node.vhid(carp.vhid)
    return {
        "vhid": vhid.vhid,
        "interface": carp.interface,
        "addresses": [str(address) for address in carp.addresses],
        "mac": carp.mac.value,
        "role": vhid.role.value,
        "role_for_s": round(now_s - node.since_s(carp.vhid), 3),
        "advbase": vhid.advbase,
        "advskew": vhid.advskew,
        "preempt": vhid.preempt,
        "peer": _peer(vhid.peer, now_s - node.heard_s(carp.vhid)),
        "obstacles": node.obstacles(carp.vhid),
        "refused": node.refused(carp.vhid),
    }


def _peer(peer: Peer | None, silent_s: float) -> dict[str, Any] | None:
    if peer is None:
        return None
    return {
        "address": str(peer.source),
        "advbase": peer.advbase,
        "advskew": peer.advskew,
        "demotion": peer.demotion,
        "heard_s_ago": round(silent_s, 3),
    }


def _states(sync: StateSync | None, now_s: float) -> dict[str, Any] | None:
    if sync is None:
        return None
    return {
        "local": sync.local,
        "replicated": sync.replicated,
        "lost": sync.lost,
        "held": sync.held,
        "owner": sync.is_owner,
        "synchronised": sync.is_synchronised,
        "epoch": sync.reign.epoch,
        "lag_s": round(sync.lag_s(now_s), 6),
        "refused": dict(sync.refused),
    }
