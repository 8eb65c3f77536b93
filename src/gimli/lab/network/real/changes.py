"""Which single changes are tried on the real kernel, and how is a scenario shortened for it? Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gimli.lab.network.topology import Balancer, Expect, Fault, Firewall, Kind, Merge, Topology

if TYPE_CHECKING:
    from collections.abc import Callable

_QUICKER = 4.0
_BEGINS_S = 0.5
"""Nobody has to be elected first."""
_IDLE_MARGIN_S = 1.5
_AFTERWARDS_S = 10.0
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

    What moves on a connection is as it was: requests, answers, and the pauses between them. Freezes are no
    expectation here: two filters in Python on a busy machine make some of their own.
    """
    traffic = topology.traffic
    over_s = traffic.over_s / _QUICKER
    gives_up_s = min(
        traffic.gives_up_s, max(traffic.gives_up_s / _QUICKER, traffic.thinks_s[1] + _IDLE_MARGIN_S)
    )

    def at(at_s: float) -> float:
        return _BEGINS_S + max(at_s - traffic.begins_s, 0.0) / _QUICKER

    faults = tuple(
        replace(fault, at_s=at(fault.at_s), until_s=None if fault.until_s is None else at(fault.until_s))
        for fault in topology.faults
    )
    return replace(
        topology,
        lasts_s=_BEGINS_S + over_s + gives_up_s + _AFTERWARDS_S,
        traffic=replace(traffic, begins_s=_BEGINS_S, over_s=over_s, gives_up_s=gives_up_s),
        faults=faults,
        expects=tuple(each for each in topology.expects if each.expect is not Expect.FREEZE),
    )


def _without_flooding(topology: Topology) -> Topology:
    balancers = [host for host in topology.hosts if isinstance(host, Balancer)]
    entries = tuple(
        (mac, tuple(host.name for host in balancers if host.mac == mac))
        for mac in dict.fromkeys(host.mac for host in balancers)
    )
    networks = {host.interface.network for host in balancers}
    switches = tuple(
        replace(switch, static=entries) if switch.name in networks else switch for switch in topology.switches
    )
    return replace(topology, switches=switches)


def _without_sync(topology: Topology) -> Topology:
    return _firewalls(topology, lambda config: replace(config, sync=""))


def _merging(topology: Topology) -> Topology:
    return _firewalls(topology, lambda config: replace(config, pf=replace(config.pf, merge=Merge.PER_PEER)))


def _guarded(topology: Topology) -> Topology:
    return _firewalls(topology, lambda config: replace(config, guard=True))


def pulled(topology: Topology) -> Topology:
    """The sync cable is pulled when everybody has come: half of the run is behind, half is to come."""
    first = topology.firewalls[0]
    traffic = topology.traffic
    fault = Fault(traffic.begins_s + traffic.over_s, Kind.CUT, f"{first.name}.{first.sync}")
    return replace(topology, faults=(*topology.faults, fault))


def _firewalls(topology: Topology, change: Callable[[Firewall], Firewall]) -> Topology:
    hosts = tuple(change(host) if isinstance(host, Firewall) else host for host in topology.hosts)
    return replace(topology, hosts=hosts)


CHANGES = (
    Change(
        "static MAC entries for the group",
        "the switch floods frames for the balancers' group MAC to the backup",
        "by hand, per port",
        _without_flooding,
    ),
    Change(
        "no pfsync",
        "the backup sends back the states that the copies have moved",
        "failover loses all",
        _without_sync,
    ),
    Change(
        "OpenBSD 7.4's merge",
        "a peer that was judged stale is copied all the same",
        "an upgrade",
        _merging,
    ),
    Change("gimli's guard on the backup", "", "none", _guarded),
)
