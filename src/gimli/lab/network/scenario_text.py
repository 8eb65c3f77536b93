"""How is a topology written as a scenario file? The way back of ``scenario_file``, by the same rows. Pure.

    topology --this--> what each table says, by key --scenario_keys, scenario_values--> text

What is as it would be without a word is left out.
"""

from __future__ import annotations

from dataclasses import fields
from math import inf, nextafter
from typing import TYPE_CHECKING, Any

from gimli.lab.network import topology as model
from gimli.lab.network.scenario_keys import (
    FAULT,
    FIREWALL,
    LINK,
    REQUEST,
    SCENARIO,
    SWITCH,
    TCP,
    TRAFFIC,
    Each,
    Named,
    Table,
)
from gimli.lab.network.scenario_values import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Said = dict[str, Any]

_ONE_PLUG = {model.Client: "client", model.Balancer: "balancer", model.Server: "server"}


def write(topology: model.Topology, comment: str = "") -> str:
    """The text that is read as this topology, whatever name it is then given.

    Args:
        topology: its hosts in the order of a file: clients, firewalls, balancers, servers.
        comment: lines to begin with.
    """
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    body = "\n".join(_table((), SCENARIO, _said_of(topology))).strip("\n")
    return "\n".join([*lines, *([""] if lines else []), body, ""])


# What each table says.


def _said_of(topology: model.Topology) -> Said:
    links = _link_names(topology)
    said: Said = {
        "about": topology.about,
        "lasts": topology.lasts_s,
        "switch": [_only_special(switch, SWITCH) for switch in topology.switches],
        "link": [{"name": name, **_only_special(link, LINK)} for link, name in links.items()],
        "client": [],
        "firewall": [],
        "balancer": [],
        "server": [],
        "tcp": {
            "client": _only_special(topology.client_tcp, TCP),
            "server": _only_special(topology.server_tcp, TCP),
        },
        "traffic": _only_special(topology.traffic, TRAFFIC),
        "request": [_only_special(request, REQUEST) for request in topology.traffic.mix],
        "fault": [_fault(fault) for fault in topology.faults],
    }
    if topology.expects:
        said["expects"] = topology.expects
    servers = {
        _address(host.interface): host.name for host in topology.hosts if isinstance(host, model.Server)
    }
    for host in topology.hosts:
        if isinstance(host, model.Firewall):
            said["firewall"].append(_firewall(host, links))
        else:
            said[_ONE_PLUG[type(host)]].append(_plugged(host, links, servers))
    _say_once(said)
    return said


def _plugged(
    host: model.Client | model.Balancer | model.Server,
    links: Mapping[model.Link, str],
    servers: Mapping[str, str],
) -> Said:
    """A host with one interface."""
    said: Said = {"name": host.name, **_interface(host.interface, links), "gateway": host.gateway}
    if host.interface.name != "eth0":
        said["interface"] = host.interface.name
    match host:
        case model.Client():
            said["prefix"] = host.prefix
        case model.Balancer():
            said |= {"shared": host.address, "mac": host.mac}
            said["servers"] = [servers[address] for address in host.servers]
        case model.Server():
            pass
    return said


def _firewall(firewall: model.Firewall, links: Mapping[model.Link, str]) -> Said:
    said = _only_special(firewall, FIREWALL)
    said["interfaces"] = {each.name: _interface(each, links) for each in firewall.interfaces}
    carp = FIREWALL.keys["carp"].node
    assert isinstance(carp, Named)
    said["carp"] = {each.vhid: _only_special(each, carp.table) for each in firewall.carp}
    return said


def _interface(interface: model.Interface, links: Mapping[model.Link, str]) -> Said:
    said: Said = {"network": interface.network, "address": interface.address}
    if interface.link in links:
        said["link"] = links[interface.link]
    return said


def _fault(fault: model.Fault) -> Said:
    said = _only_special(fault, FAULT)
    if fault.until_s is not None:
        said["lasts"] = _between(fault.at_s, fault.until_s)
    return said


def _between(at_s: float, until_s: float) -> float:
    """What is to be added to the one for the other: of few digits if that will do, to the last bit if not."""
    exact = until_s - at_s
    near = (round(exact, 6), exact, nextafter(exact, 0.0), nextafter(exact, inf))
    return next((lasts_s for lasts_s in near if at_s + lasts_s == until_s), exact)


def _say_once(said: Said) -> None:
    """What all firewalls have alike stands in the table of the whole file that is named like theirs."""
    firewalls: list[Said] = said["firewall"]
    for name in FIREWALL.keys:
        if name not in SCENARIO.keys or not firewalls:
            continue
        first, *others = (firewall.get(name, {}) for firewall in firewalls)
        alike = {
            key: value
            for key, value in first.items()
            if all(key in other and other[key] == value for other in others)
        }
        said[name] = alike
        for firewall in firewalls:
            firewall[name] = {key: value for key, value in firewall.get(name, {}).items() if key not in alike}


def _only_special(value: object, table: Table) -> Said:
    """The keys of a table by a value's fields, without what is so by itself."""
    defaults = {field.name: field.default for field in fields(value)}  # type: ignore[arg-type]  # a dataclass
    said: Said = {}
    for name, key in table.keys.items():
        field = key.becomes or name
        if field not in defaults:
            continue
        found = getattr(value, field)
        if isinstance(key.node, Table):
            said[name] = _only_special(found, key.node)
        elif isinstance(key.node, Value) and (key.is_required or found != defaults[field]):
            said[name] = found
    return said


def _link_names(topology: model.Topology) -> dict[model.Link, str]:
    """One name for cables that are alike, of the network where the first of them is."""
    names: dict[model.Link, str] = {}
    for interface in _interfaces(topology):
        if interface.link != model.Link() and interface.link not in names:
            taken = interface.network in names.values()
            names[interface.link] = f"link-{len(names) + 1}" if taken else interface.network
    return names


def _interfaces(topology: model.Topology) -> Iterator[model.Interface]:
    for host in topology.hosts:
        if isinstance(host, model.Firewall):
            yield from host.interfaces
        else:
            yield host.interface


def _address(interface: model.Interface) -> str:
    return interface.address.partition("/")[0]


# The text.


def _table(here: tuple[str, ...], table: Table, said: Said) -> Iterator[str]:
    """Its values, then the tables in it; a table that says nothing is left out."""
    for name, key in table.keys.items():
        if isinstance(key.node, Value) and name in said:
            yield f"{name} = {key.node.write(said[name])}"
    for name, key in table.keys.items():
        found = said.get(name)
        if isinstance(key.node, Value) or not found:
            continue
        inside = (*here, name)
        match key.node:
            case Table() as inner:
                yield from _headed(f"[{'.'.join(inside)}]", _table(inside, inner, found), is_first=not here)
            case Each(inner):
                for item in found:
                    yield from ("", f"[[{name}]]", *_table(inside, inner, item))
            case Named(inner, _):
                rows = (f"{key} = {_inline(inner, item)}" for key, item in found.items())
                yield from _headed(f"[{'.'.join(inside)}]", rows, is_first=False)


def _headed(header: str, rows: Iterator[str], *, is_first: bool) -> Iterator[str]:
    """Rows below their header; nothing for no rows, and no header when the first of them is one."""
    lines = list(rows)
    if not lines:
        return
    if is_first:
        yield ""
    if not lines[0].startswith("["):
        yield header
    yield from lines


def _inline(table: Table, said: Said) -> str:
    values = []
    for name, key in table.keys.items():
        if name in said:
            assert isinstance(key.node, Value)
            values.append(f"{name} = {key.node.write(said[name])}")
    return f"{{ {', '.join(values)} }}"
