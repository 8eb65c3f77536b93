"""Which single changes are tried on the real kernel, and how is a scenario shortened for it? Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gimli.lab.network.switching import firewalls, with_guard, with_static_entries, without_sync
from gimli.lab.network.topology import Expect, Fault, Firewall, Kind, Merge, Model, Topology

if TYPE_CHECKING:
    from collections.abc import Callable

_QUICKER = 4.0
_BEGINS_S = 0.5
"""The master has been elected before."""
_IDLE_MARGIN_S = 1.5
_FAILOVER_S = 5.0
"""No fault is over sooner, and nobody gives up sooner: an election takes its time, however fast all come."""
_AFTERWARDS_S = 6.0
"""For what is given up to be seen to the end."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing done differently.

    Args:
        text: what is done.
        cause: what is taken away by it; empty for a cure that takes no cause away.
        price: what it costs.
        apply: makes it.
    """

    text: str
    cause: str
    price: str
    apply: Callable[[Topology], Topology]


def quick(topology: Topology) -> Topology:
    """The same in about twenty seconds: people come faster, and applications give up earlier.

    What moves on a connection is as it was: requests, answers, and the pauses between them.
    """
    traffic = topology.traffic
    over_s = traffic.over_s / _QUICKER
    idle_s = traffic.thinks_s[1] + _IDLE_MARGIN_S + (_FAILOVER_S if topology.faults else 0.0)
    gives_up_s = min(traffic.gives_up_s, max(traffic.gives_up_s / _QUICKER, idle_s))
    faults = tuple(_quick_fault(fault, traffic.begins_s) for fault in topology.faults)
    over = [_BEGINS_S + over_s, *(fault.until_s or fault.at_s for fault in faults)]
    return replace(
        topology,
        lasts_s=max(over) + gives_up_s + _AFTERWARDS_S,
        traffic=replace(traffic, begins_s=_BEGINS_S, over_s=over_s, gives_up_s=gives_up_s),
        faults=faults,
        expects=tuple(each for each in topology.expects if each.expect not in _not_judged(topology)),
    )


def _not_judged(topology: Topology) -> set[Expect]:
    """What would not be the network's.

    Freezes: two filters in Python on a busy machine make some of their own. With Linux, BAD state: the kernel
    does not tell what does not fit its connection from what has none.
    """
    is_linux = any(config.model is Model.LINUX for config in topology.firewalls)
    return {Expect.FREEZE, Expect.BAD_STATE} if is_linux else {Expect.FREEZE}


def _quick_fault(fault: Fault, begins_s: float) -> Fault:
    at_s = _BEGINS_S + max(fault.at_s - begins_s, 0.0) / _QUICKER
    if fault.until_s is None:
        return replace(fault, at_s=at_s)
    lasts_s = fault.until_s - fault.at_s
    return replace(fault, at_s=at_s, until_s=at_s + max(lasts_s / _QUICKER, min(lasts_s, _FAILOVER_S)))


def _merging(topology: Topology) -> Topology:
    def merge(config: Firewall) -> Firewall:
        return replace(config, pf=replace(config.pf, merge=Merge.PER_PEER))

    return firewalls(topology, lambda config: merge(config) if config.model is Model.PF else config)


def pulled(topology: Topology) -> Topology:
    """The sync cable is pulled when everybody has come: half of the run is behind, half is to come."""
    first = topology.firewalls[0]
    return _with_fault(topology, Kind.CUT, f"{first.name}.{first.sync}")


def failing_over(topology: Topology) -> Topology:
    """The first firewall, which is MASTER, loses its power at the same moment."""
    return _with_fault(topology, Kind.POWER, topology.firewalls[0].name)


def _with_fault(topology: Topology, kind: Kind, what: str) -> Topology:
    traffic = topology.traffic
    fault = Fault(traffic.begins_s + traffic.over_s, kind, what)
    return replace(
        topology,
        lasts_s=topology.lasts_s + _FAILOVER_S,
        traffic=replace(traffic, gives_up_s=traffic.gives_up_s + _FAILOVER_S),
        faults=(*topology.faults, fault),
    )


CHANGES = (
    Change(
        "static MAC entries for the group",
        "the switch floods frames for the balancers' group MAC to the backup",
        "by hand, per port",
        with_static_entries,
    ),
    Change(
        "no pfsync",
        "the backup sends back the states that the copies have moved",
        "failover loses all",
        without_sync,
    ),
    Change(
        "OpenBSD 7.4's merge",
        "a peer that was judged stale is copied all the same",
        "an upgrade",
        _merging,
    ),
    Change("gimli's guard on the backup", "", "none", with_guard),
)
