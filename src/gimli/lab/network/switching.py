"""How is a network changed in one respect, and nothing else? Topology in, topology out. Pure."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface
from itertools import count
from typing import TYPE_CHECKING, Any

from gimli.lab.network.topology import (
    Balancer,
    Client,
    Firewall,
    Interface,
    Link,
    Model,
    Request,
    Server,
    Switch,
    Topology,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.lab.network.topology import Host

    Change = Callable[[Topology], Topology]

SMALL_BYTES = 30_000
"""Less than half of what a stale window forgives."""
DOWNLOAD = Request("bulk-download", 3.0, (300, 900), (90_000, 170_000))
UPLOAD = Request("bulk-upload", 1.0, (80_000, 160_000), (300, 900))
"""More than a stale window forgives."""
_SYNC = ("sync", "crossover", ("10.8.0.1/24", "10.8.0.2/24"))
"""Interface, cable and addresses of a pair that gets pfsync."""


def firewalls(topology: Topology, change: Callable[[Firewall], Firewall]) -> Topology:
    """Every firewall changed."""
    hosts = (change(host) if isinstance(host, Firewall) else host for host in topology.hosts)
    return replace(topology, hosts=tuple(hosts))


def pf(topology: Topology, **changes: Any) -> Topology:
    """Every packet filter changed."""
    return firewalls(topology, lambda host: replace(host, pf=replace(host.pf, **changes)))


def second_firewall(topology: Topology, change: Callable[[Firewall], Firewall]) -> Topology:
    """The one that is meant to be the backup changed."""
    second = topology.firewalls[1]
    hosts = tuple(change(second) if host is second else host for host in topology.hosts)
    return replace(topology, hosts=hosts)


def is_of(model: Model, topology: Topology) -> bool:
    """Whether its firewalls are a pair of that model."""
    return len(topology.firewalls) > 1 and all(host.model is model for host in topology.firewalls)


def balancers(topology: Topology) -> tuple[Balancer, ...]:
    """Those who share an address."""
    return tuple(host for host in topology.hosts if isinstance(host, Balancer))


def is_group(mac: str) -> bool:
    """Whether frames to it are for many."""
    return bool(int(mac[:2], 16) & 1)


def floods(topology: Topology) -> bool:
    """Whether a switch floods the balancers' group MAC."""
    networks = {host.interface.network: host.mac for host in balancers(topology) if is_group(host.mac)}
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
    return firewalls(topology, lambda host: host if host.is_guarded else replace(host, guard=True))


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
    return with_sync_rate(topology, inner_rate(topology))


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


def switch_of_balancers(topology: Topology, **changes: Any) -> Topology:
    """The switches that balancers are plugged into, changed alike."""
    networks = {host.interface.network for host in balancers(topology)}
    return replace(
        topology,
        switches=tuple(
            replace(switch, **changes) if switch.name in networks else switch for switch in topology.switches
        ),
    )


def with_flooding(topology: Topology) -> Topology:
    """The switch of the balancers is told nothing, and looks at nothing."""
    return switch_of_balancers(topology, static=(), snooping=False, router_ports=())


def with_lone_snooping(topology: Topology) -> Topology:
    """It snoops, and nobody asks who the members are."""
    return switch_of_balancers(topology, static=(), snooping=True, querier=False)


def with_block(topology: Topology, name: str) -> Topology:
    """That switch sends no group MAC to the second firewall."""
    backup = topology.firewalls[1].name
    switches = tuple(
        replace(switch, blocked=(backup,)) if switch.name == name else switch for switch in topology.switches
    )
    return replace(topology, switches=switches)


def with_sync(topology: Topology) -> Topology:
    """A pair that has none gets pfsync, over a cable of its own."""
    name, cable, addresses = _SYNC
    unused = iter(addresses)

    def change(firewall: Firewall) -> Firewall:
        interface = Interface(name, cable, next(unused))
        return replace(firewall, interfaces=(*firewall.interfaces, interface), sync=name)

    return firewalls(topology, change)


def could_have_sync(topology: Topology) -> bool:
    """Whether it is a pair without pfsync in which name, cable and addresses are unused."""
    name, cable, addresses = _SYNC
    plugs = interfaces(topology)
    return (
        len(topology.firewalls) == len(addresses)
        and not any(firewall.sync for firewall in topology.firewalls)
        and not {cable, *addresses} & {text for plug in plugs for text in (plug.network, plug.address)}
        and not any(plug.name == name for firewall in topology.firewalls for plug in firewall.interfaces)
    )


def interfaces(topology: Topology) -> list[Interface]:
    """Of every host."""
    plugs: list[Interface] = []
    for host in topology.hosts:
        plugs += host.interfaces if isinstance(host, Firewall) else [host.interface]
    return plugs


def with_requests(topology: Topology, *requests: Request) -> Topology:
    """Clients ask for these as well, as often as their weights say against all the others together."""
    traffic = topology.traffic
    share = sum(request.weight for request in traffic.mix) / 10
    more = tuple(replace(request, weight=round(request.weight * share, 3)) for request in requests)
    return replace(topology, traffic=replace(traffic, mix=(*traffic.mix, *more)))


def with_sync_rate(topology: Topology, rate_mbit: float) -> Topology:
    """The sync cable has this rate."""
    networks = sync_networks(topology)

    def change(interface: Interface, link: Link) -> Link:
        return replace(link, rate_mbit=rate_mbit) if interface.network in networks else link

    return with_links(topology, change)


def with_shared_mac(topology: Topology) -> Topology:
    """The balancers share a group MAC; one that was alone gets a second one beside it.

    The switch sends it to them only, and the firewalls are told of it: what is right, and done by hand.
    """
    first = balancers(topology)[0]
    mac = group_mac(first.address)
    same = [host for host in balancers(topology) if host.address == first.address]
    if len(same) == 1:
        same.append(_beside(topology, first))
    shared = tuple(replace(host, mac=mac, share=share, shares=len(same)) for share, host in enumerate(same))
    names = [host.name for host in same]
    hosts: list[Host] = []
    for host in topology.hosts:
        if host == first:
            hosts += shared
        elif host.name not in names:
            hosts.append(host)
    entry = (first.address, mac)

    def tell(firewall: Firewall) -> Firewall:
        if not any(plug.network == first.interface.network for plug in firewall.interfaces):
            return firewall
        others = tuple(each for each in firewall.neighbours if each[0] != first.address)
        return replace(firewall, neighbours=(*others, entry))

    return with_static_entries(firewalls(replace(topology, hosts=tuple(hosts)), tell))


def group_mac(address: str) -> str:
    """The group MAC that goes with an address: RFC 1112's."""
    _, b, c, d = map(int, address.split("."))
    return f"01:00:5e:{b & 127:02x}:{c:02x}:{d:02x}"


def _beside(topology: Topology, first: Balancer) -> Balancer:
    """Another one, with a name and an address that nobody has."""
    taken = {host.name for host in topology.hosts}
    name = next(name for number in count(2) if (name := f"lb{number}") not in taken)
    used = {plug.address.partition("/")[0] for plug in interfaces(topology)} | {first.address}
    used |= {carp.address for firewall in topology.firewalls for carp in firewall.carp}
    own = IPv4Interface(first.interface.address)
    address = next(each for each in own.network.hosts() if each > own.ip and str(each) not in used)
    return replace(
        first,
        name=name,
        interface=replace(first.interface, address=f"{address}/{own.network.prefixlen}"),
    )


def with_redirect(topology: Topology) -> Topology:
    """Clients talk to an address of the pair, which stands for the one that they talked to."""
    outside = next(host.gateway for host in topology.hosts if isinstance(host, Client))
    traffic = topology.traffic
    changed = pf(topology, redirect=(outside, traffic.target))
    return replace(changed, traffic=replace(traffic, target=outside))


def with_client_link(topology: Topology, **changes: Any) -> Topology:
    """The clients' cable changed."""
    clients = [host.interface for host in topology.hosts if isinstance(host, Client)]
    return with_links(
        topology, lambda interface, link: replace(link, **changes) if interface in clients else link
    )


def with_inner_links(topology: Topology, **changes: Any) -> Topology:
    """The cables of whoever is behind the firewalls changed."""
    inner = [host.interface for host in topology.hosts if isinstance(host, Balancer | Server)]
    return with_links(
        topology, lambda interface, link: replace(link, **changes) if interface in inner else link
    )


def with_stacks(topology: Topology, **changes: Any) -> Topology:
    """Every TCP stack changed."""
    return replace(
        topology,
        client_tcp=replace(topology.client_tcp, **changes),
        server_tcp=replace(topology.server_tcp, **changes),
    )


def middle_s(topology: Topology) -> float:
    """When two thirds of the connections have begun."""
    return round(topology.traffic.begins_s + topology.traffic.over_s * 2 / 3, 1)
