"""How can a network be made smaller? Each reducer gives smaller ones, the boldest first. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from gimli.lab.network.topology import Balancer, Firewall, Host, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gimli.lab.network.topology import Switch, Topology

_LEAST_S = 1.0


def with_fewer_requests(topology: Topology) -> Iterator[Topology]:
    """Without one kind of request."""
    traffic = topology.traffic
    for left_out in traffic.mix:
        if mix := tuple(request for request in traffic.mix if request is not left_out):
            yield replace(topology, traffic=replace(traffic, mix=mix))


def with_fewer_hosts(topology: Topology) -> Iterator[Topology]:
    """Without one balancer, or one server that has work: of each the last one stays."""
    counts = Counter(type(host) for host in topology.hosts)
    for host in topology.hosts:
        if isinstance(host, Balancer | Server) and counts[type(host)] > 1:
            yield without_host(topology, host)


def with_fewer_connections(topology: Topology) -> Iterator[Topology]:
    """Fewer people, in a time that is shorter by as much."""
    traffic = topology.traffic
    for fewer in _fewer(traffic.connections):
        over_s = round(traffic.over_s * fewer / traffic.connections, 3)
        yield replace(topology, traffic=replace(traffic, connections=fewer, over_s=over_s))


def with_shorter_visits(topology: Topology) -> Iterator[Topology]:
    """Fewer requests on each connection."""
    least, most = topology.traffic.requests
    for fewer in _fewer(most):
        requests = (min(least, fewer), fewer)
        yield replace(topology, traffic=replace(topology.traffic, requests=requests))


def with_less_time(topology: Topology) -> Iterator[Topology]:
    """A shorter run, by whole seconds."""
    begins_s = topology.traffic.begins_s
    if topology.faults:
        begins_s = max(begins_s, *(fault.at_s for fault in topology.faults))
    for share in (0.5, 0.75, 0.9):
        lasts_s = float(round(topology.lasts_s * share))
        if begins_s + _LEAST_S <= lasts_s < topology.lasts_s:
            yield replace(topology, lasts_s=lasts_s)


REDUCERS = (
    with_fewer_requests,
    with_fewer_hosts,
    with_fewer_connections,
    with_shorter_visits,
    with_less_time,
)


def without_host(topology: Topology, gone: Host) -> Topology:
    """A balancer or a server is not there, and nobody speaks of it."""

    def switch(one: Switch) -> Switch:
        def others(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(name for name in names if name != gone.name)

        return replace(
            one,
            router_ports=others(one.router_ports),
            blocked=others(one.blocked),
            static=tuple((mac, others(hosts)) for mac, hosts in one.static),
        )

    hosts = [host for host in topology.hosts if host is not gone]
    if isinstance(gone, Server):
        address = gone.interface.address.partition("/")[0]
        hosts = [
            replace(host, servers=tuple(each for each in host.servers if each != address) or host.servers)
            if isinstance(host, Balancer)
            else host
            for host in hosts
        ]
    return replace(
        topology,
        hosts=tuple(_numbered(hosts)),
        switches=tuple(switch(one) for one in topology.switches),
        faults=tuple(each for each in topology.faults if each.what.partition(".")[0] != gone.name),
    )


def _numbered(hosts: list[Host]) -> Iterator[Host]:
    """Balancers of one address numbered anew."""
    shares = Counter(host.address for host in hosts if isinstance(host, Balancer))
    seen: Counter[str] = Counter()
    for host in hosts:
        if isinstance(host, Balancer):
            yield replace(host, share=seen[host.address], shares=shares[host.address])
            seen[host.address] += 1
        else:
            yield host


def sizes(topology: Topology) -> dict[str, float]:
    """How large it is, by what a reducer makes less of."""
    counts = Counter(type(host) for host in topology.hosts)
    return {
        "connections": topology.traffic.connections,
        "requests on each": topology.traffic.requests[1],
        "kinds of requests": len(topology.traffic.mix),
        "firewalls": counts[Firewall],
        "balancers": counts[Balancer],
        "servers": counts[Server],
        "seconds": topology.lasts_s,
    }


def _fewer(number: int) -> Iterator[int]:
    """By half of it, by a quarter, and so on to one less; never none."""
    less = (number + 1) // 2
    while less:
        if less < number:
            yield number - less
        less //= 2
