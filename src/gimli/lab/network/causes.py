"""What may the failure need, what may cure it, and what does each cure cost? Switches of a topology. Pure.

A cause is something that can be taken away, in one way or several; it is needed when the failure is gone
without it, whichever way. A condition is the same about the traffic or the links: not a mistake, but without
it the causes show nothing. A remedy is what an operator can do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from gimli.lab.network.topology import (
    Balancer,
    Binding,
    Fault,
    Firewall,
    Merge,
    Release,
    Request,
    Server,
    Switch,
    Topology,
)
from gimli.lab.network.topology import Kind as FaultKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.lab.network.topology import Host, Interface, Link

    Change = Callable[[Topology], Topology]

SMALL_BYTES = 30_000
"""Less than half of what a stale window forgives."""


class Kind(Enum):
    """Of a cause; the value is its name in JSON."""

    CAUSE = "cause"
    CONDITION = "condition"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to take a cause away."""

    remedy: str
    change: Change


@dataclass(frozen=True, slots=True)
class Switched:
    """Something that can be switched off alone.

    Args:
        name: for JSON and the search.
        text: what it is.
        is_there: whether a topology has it.
        ways: each takes it away.
    """

    name: str
    kind: Kind
    text: str
    is_there: Callable[[Topology], bool]
    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True)
class Remedy:
    """What an operator can do, and what it costs beside what a failover then costs, which is measured."""

    name: str
    change: Change
    price: str


# Switching.


def firewalls(topology: Topology, change: Callable[[Firewall], Firewall]) -> Topology:
    """Every firewall changed."""
    hosts = (change(host) if isinstance(host, Firewall) else host for host in topology.hosts)
    return replace(topology, hosts=tuple(hosts))


def pf(topology: Topology, **changes: Any) -> Topology:
    """Every packet filter changed."""
    return firewalls(topology, lambda host: replace(host, pf=replace(host.pf, **changes)))


def balancers(topology: Topology) -> tuple[Balancer, ...]:
    """Those who share a group MAC."""
    return tuple(host for host in topology.hosts if isinstance(host, Balancer))


def floods(topology: Topology) -> bool:
    """Whether a switch floods the balancers' group MAC."""
    networks = {host.interface.network: host.mac for host in balancers(topology)}
    return any(
        switch.name in networks
        and not (switch.snooping and switch.querier)
        and networks[switch.name] not in dict(switch.static)
        for switch in topology.switches
    )


def with_static_entries(topology: Topology) -> Topology:
    """The balancers' group MAC is sent to the balancers' ports only."""

    def change(switch: Switch) -> Switch:
        here = [host for host in balancers(topology) if host.interface.network == switch.name]
        if not here:
            return switch
        entry = (here[0].mac, tuple(host.name for host in here))
        return replace(switch, static=(*switch.static, entry))

    return replace(topology, switches=tuple(change(switch) for switch in topology.switches))


def with_snooping(topology: Topology) -> Topology:
    """Switches snoop, somebody asks, and the balancers' ports are set as routers' ports."""

    def change(switch: Switch) -> Switch:
        here = [host.name for host in balancers(topology) if host.interface.network == switch.name]
        return replace(switch, snooping=True, querier=True, router_ports=tuple(here))

    return replace(topology, switches=tuple(change(switch) for switch in topology.switches))


def without_blocks(topology: Topology) -> Topology:
    """No port is kept from group MACs."""
    return replace(topology, switches=tuple(replace(switch, blocked=()) for switch in topology.switches))


def without_sync(topology: Topology) -> Topology:
    """No pfsync: it is off, or its cable is pulled."""
    return firewalls(topology, lambda host: replace(host, sync=""))


def with_guard(topology: Topology) -> Topology:
    """Frames to group MACs that hold no group's packet are dropped at the firewalls' NICs."""
    return firewalls(topology, lambda host: replace(host, guard=True))


def with_small_requests(topology: Topology) -> Topology:
    """Nothing is larger than ``SMALL_BYTES``."""

    def change(request: Request) -> Request:
        sends = (min(request.sends[0], SMALL_BYTES), min(request.sends[1], SMALL_BYTES))
        gets = (min(request.gets[0], SMALL_BYTES), min(request.gets[1], SMALL_BYTES))
        return replace(request, sends=sends, gets=gets)

    mix = tuple(change(request) for request in topology.traffic.mix)
    return replace(topology, traffic=replace(topology.traffic, mix=mix))


def with_links(topology: Topology, change: Callable[[Interface, Link], Link]) -> Topology:
    """Every cable changed."""

    def interface(one: Interface) -> Interface:
        return replace(one, link=change(one, one.link))

    def host(one: Host) -> Host:
        if isinstance(one, Firewall):
            return replace(one, interfaces=tuple(interface(each) for each in one.interfaces))
        return replace(one, interface=interface(one.interface))

    return replace(topology, hosts=tuple(host(one) for one in topology.hosts))


def sync_networks(topology: Topology) -> set[str]:
    """The cables that pfsync talks over."""
    return {
        interface.network
        for firewall in topology.firewalls
        for interface in firewall.interfaces
        if interface.name == firewall.sync
    }


def inner_rate(topology: Topology) -> float:
    """Mb/s of the fastest network behind the firewalls."""
    rates = [host.interface.link.rate_mbit for host in topology.hosts if isinstance(host, Balancer | Server)]
    return max(rates, default=0.0)


def sync_rate(topology: Topology) -> float:
    """Mb/s of the sync cable."""
    networks = sync_networks(topology)
    rates = [
        interface.link.rate_mbit
        for firewall in topology.firewalls
        for interface in firewall.interfaces
        if interface.network in networks
    ]
    return min(rates, default=0.0)


def with_fast_sync(topology: Topology) -> Topology:
    """The sync cable is as fast as the network."""
    networks, rate = sync_networks(topology), inner_rate(topology)

    def change(interface: Interface, link: Link) -> Link:
        return replace(link, rate_mbit=rate) if interface.network in networks else link

    return with_links(topology, change)


def with_rate(rate_mbit: float) -> Change:
    """Every network but the sync cable has this rate."""

    def change(topology: Topology) -> Topology:
        networks = sync_networks(topology)
        return with_links(
            topology,
            lambda interface, link: (
                link if interface.network in networks else replace(link, rate_mbit=rate_mbit)
            ),
        )

    return change


def _any_pf(topology: Topology, has: Callable[[Firewall], bool]) -> bool:
    return any(has(firewall) for firewall in topology.firewalls)


def _largest(topology: Topology) -> int:
    return max(max(request.sends[1], request.gets[1]) for request in topology.traffic.mix)


_FAULTS = {
    FaultKind.CUT: "the cable of {} is cut",
    FaultKind.CUT_TO: "nothing reaches {} any more, and nobody is told",
    FaultKind.CUT_FROM: "nothing leaves {} any more, and nobody is told",
    FaultKind.POWER: "{} is switched off",
    FaultKind.HANG: "the daemon of {} stands still",
}

CAUSES = (
    Switched(
        "flooding",
        Kind.CAUSE,
        "the switch floods the balancers' group MAC to the backup       (no IGMP snooping)",
        floods,
        (Way("static MAC entries", with_static_entries),),
    ),
    Switched(
        "replicas",
        Kind.CAUSE,
        "the backup's pf tracks the copies with replicated states       (pfsync up, floating states)",
        lambda topology: _any_pf(
            topology, lambda host: bool(host.sync) and host.pf.binding is Binding.FLOATING
        ),
        (
            Way("pfsync off", without_sync),
            Way("if-bound states", lambda topology: pf(topology, binding=Binding.IF_BOUND)),
        ),
    ),
    Switched(
        "forced-copy",
        Kind.CAUSE,
        "merging copies a peer already judged stale                     (OpenBSD 4.6 to 7.3)",
        lambda topology: _any_pf(topology, lambda host: host.pf.merging is Merge.FORCED),
        (Way("merging per peer", lambda topology: pf(topology, merge=Merge.PER_PEER)),),
    ),
    Switched(
        "forwarding",
        Kind.CAUSE,
        "a frame to a group MAC is forwarded like any other             (OpenBSD up to 4.6)",
        lambda topology: _any_pf(topology, lambda host: host.pf.is_forwarding_groups),
        (Way("not forwarded", lambda topology: pf(topology, forwards_groups=False)),),
    ),
    Switched(
        "blocked-port",
        Kind.CAUSE,
        "no group MAC is sent to a firewall's port, so no advertisement",
        lambda topology: any(switch.blocked for switch in topology.switches),
        (Way("ports not blocked", without_blocks),),
    ),
    Switched(
        "bursts",
        Kind.CONDITION,
        "more than 67 kB are moved at once, after a pause",
        lambda topology: _largest(topology) > SMALL_BYTES,
        (Way(f"nothing above {SMALL_BYTES // 1000} kB", with_small_requests),),
    ),
    Switched(
        "slow-sync",
        Kind.CONDITION,
        "the sync cable is slower than the network",
        lambda topology: bool(sync_networks(topology)) and sync_rate(topology) < inner_rate(topology),
        (Way("a sync cable as fast as the network", with_fast_sync),),
    ),
)

REMEDIES = (
    Remedy("guard on the backup", with_guard, "none"),
    Remedy(
        "IGMP snooping + querier",
        with_snooping,
        "needs a querier; 224.0.0.18 still floods",
    ),
    Remedy("static MAC entries", with_static_entries, "by hand at every port"),
    Remedy("pull the sync cable", without_sync, "without states, a failover ends them"),
    Remedy(
        "OpenBSD 7.4+",
        lambda topology: pf(topology, release=Release.V7_4),
        "upgrade; seqhi can still move back",
    ),
    Remedy(
        "if-bound states",
        lambda topology: pf(topology, binding=Binding.IF_BOUND),
        "both firewalls must name interfaces alike",
    ),
    Remedy("sync cable as fast", with_fast_sync, "windows still move back"),
    Remedy("network at 100 Mb/s", with_rate(100.0), "a tenth of the speed"),
    Remedy("network at 500 Mb/s", with_rate(500.0), "-"),
)


def present(topology: Topology) -> tuple[Switched, ...]:
    """The causes and conditions that a topology has, its faults among them."""
    known = tuple(cause for cause in CAUSES if cause.is_there(topology))
    return (*(_of_fault(fault) for fault in topology.faults), *known)


def _of_fault(fault: Fault) -> Switched:
    def without(topology: Topology) -> Topology:
        return replace(topology, faults=tuple(other for other in topology.faults if other != fault))

    return Switched(
        f"{fault.kind.value} {fault.what}",
        Kind.CAUSE,
        f"at {fault.at_s:g} s {_FAULTS[fault.kind].format(fault.what)}",
        lambda topology: fault in topology.faults,
        (Way("without this fault", without),),
    )


def without(topology: Topology, causes: tuple[Switched, ...]) -> Topology:
    """A topology with these taken away, each in its first way."""
    for cause in causes:
        topology = cause.ways[0].change(topology)
    return topology
