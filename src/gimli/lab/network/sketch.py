"""How is a topology drawn: who is plugged into what, who gets frames of others, what breaks? Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.lab.network import switching
from gimli.lab.network.topology import Balancer, Client, Firewall, Kind, Model, Server
from gimli.lab.pictures import Map, Network, Place, Plug

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gimli.lab.network.simulator.record import Run
    from gimli.lab.network.topology import Fault, Host, Interface, Switch, Topology
    from gimli.lab.pictures import PlaceKind

_KINDS: dict[type[Host], PlaceKind] = {
    Client: "client",
    Firewall: "firewall",
    Balancer: "balancer",
    Server: "server",
}
_FAULTS = {
    Kind.CUT: "cut",
    Kind.CUT_TO: "nothing comes in",
    Kind.CUT_FROM: "nothing goes out",
    Kind.POWER: "off",
    Kind.HANG: "hangs",
}


def of(topology: Topology, run: Run | None = None) -> Map:
    """The map of a topology.

    Args:
        topology: what there is.
        run: of it, for who was MASTER, and how much was flooded; None before there is any.
    """
    return Map(
        places=tuple(_place(host, topology, run) for host in topology.hosts),
        networks=tuple(_networks(topology)),
        plugs=tuple(
            _plug(host, interface, topology, run)
            for host in topology.hosts
            for interface in _interfaces(host)
        ),
    )


def flooded(topology: Topology, switch: Switch, host: str) -> bool:
    """Whether frames to the balancers' group MAC come out of a port that is no balancer's."""
    here = [each for each in switching.balancers(topology) if each.interface.network == switch.name]
    if not here or host in {each.name for each in here}:
        return False
    entries = dict(switch.static)
    if here[0].mac in entries:
        return host in entries[here[0].mac]
    if switch.snooping and switch.querier:
        return host in switch.router_ports
    return host not in switch.blocked


def role(run: Run, name: str, at_s: float) -> str:
    """MASTER or BACKUP at a time: MASTER is who became it last."""
    before = {host: since_s for host, since_s in run.masters.items() if since_s <= at_s}
    return "MASTER" if before and max(before, key=lambda host: before[host]) == name else "BACKUP"


def _roles(run: Run, name: str) -> Iterator[str]:
    """What it is at first, and what it becomes."""
    since_s = run.masters.get(name)
    first_s = min(run.masters.values(), default=0.0)
    yield "MASTER" if since_s == first_s else "BACKUP"
    if since_s is not None and since_s > first_s:
        yield f"MASTER at {since_s:.1f} s"


def _place(host: Host, topology: Topology, run: Run | None) -> Place:
    notes: list[str] = []
    if isinstance(host, Firewall):
        if run is not None:
            notes += _roles(run, host.name)
        notes.append("gimli pair" if host.model is Model.LINUX else f"pf {host.pf.release.value}")
        if host.is_guarded:
            notes.append("guard")
    return Place(host.name, _KINDS[type(host)], tuple(notes), _faults(topology, host.name))


def _networks(topology: Topology) -> Iterator[Network]:
    """Switches as they are listed, then cables."""
    switches = {switch.name for switch in topology.switches}
    for switch in topology.switches:
        yield Network(switch.name, is_switch=True, notes=tuple(_treats(topology, switch)))
    plugged = [interface.network for host in topology.hosts for interface in _interfaces(host)]
    for name in dict.fromkeys(plugged):
        if name not in switches:
            yield Network(name, is_switch=False)


def _treats(topology: Topology, switch: Switch) -> Iterator[str]:
    """How a switch treats group MACs, where one is in use; and what was set by hand."""
    here = [host for host in switching.balancers(topology) if host.interface.network == switch.name]
    if here:
        yield f"{here[0].address} at {here[0].mac}"
        if here[0].mac in dict(switch.static):
            yield "static entry for the group MAC"
        elif switch.snooping:
            yield "IGMP snooping" if switch.querier else "IGMP snooping, but no querier: floods"
        else:
            yield "floods group MACs"
    if switch.blocked:
        yield f"no group MAC to {', '.join(switch.blocked)}"


def _plug(host: Host, interface: Interface, topology: Topology, run: Run | None) -> Plug:
    switch = next((each for each in topology.switches if each.name == interface.network), None)
    words = ""
    if switch is not None and flooded(topology, switch, host.name):
        words = _copies(run, host) if run is not None else "copies"
    fault = _faults(topology, f"{host.name}.{interface.name}")
    return Plug(host.name, interface.network, interface.name, words, fault)


def _copies(run: Run, host: Host) -> str:
    """How many came; none come to the firewall whose own frames they are. Nobody else's are counted."""
    if not isinstance(host, Firewall):
        return "copies"
    dropped, copies = run.count("guarded", host.name), run.count("copies", host.name)
    if dropped:
        return f"{dropped:,} dropped by guard"
    return f"{copies:,} copies" if copies else ""


def _interfaces(host: Host) -> tuple[Interface, ...]:
    return host.interfaces if isinstance(host, Firewall) else (host.interface,)


def _faults(topology: Topology, what: str) -> str:
    return ", ".join(_words(fault) for fault in _of(topology.faults, what))


def _of(faults: Iterable[Fault], what: str) -> list[Fault]:
    return [fault for fault in faults if fault.what == what]


def _words(fault: Fault) -> str:
    until = "" if fault.until_s is None else f" until {fault.until_s:g} s"
    return f"{_FAULTS[fault.kind]} at {fault.at_s:g} s{until}"
