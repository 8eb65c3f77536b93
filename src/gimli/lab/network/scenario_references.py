"""Does what one table of a scenario file names exist in another one?

What was found of the tables comes in, by field, without what had errors of its own; what is missing is told
elsewhere, so it is passed over here.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, NamedTuple

from gimli.errors import UsageError
from gimli.lab.network.topology import Kind, Model
from gimli.pair.guard import lease_length_s
from gimli.toml_file import in_one_line, meant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Keys = tuple[str | int, ...]
    Found = Mapping[str, Any]
    Problems = Iterator[tuple[Keys, str]]

_HOSTS = ("client", "firewall", "balancer", "server")
_ONE_PLUG = ("client", "balancer", "server")


class _Plug(NamedTuple):
    """One interface of a host, and where it stands."""

    keys: Keys
    host: str
    name: str
    found: Found

    @property
    def address(self) -> str:
        """Without its prefix; empty when there is none."""
        return str(self.found.get("address", "")).partition("/")[0]

    def reaches(self, address: str) -> bool:
        """Whether an address is in its network; what is not known is."""
        written = self.found.get("address")
        return written is None or ipaddress.ip_address(address) in ipaddress.ip_interface(written).network


def problems_of(found: Found) -> Problems:
    """Keys of what refers to nothing, and what to say of it."""
    plugs = list(_plugs(found))
    yield from _unique_names(found)
    yield from _networks(found, plugs)
    yield from _links(found, plugs)
    yield from _addresses(found, plugs)
    yield from _switches(found, plugs)
    for place, firewall in enumerate(found.get("firewall", ())):
        yield from _firewall(("firewall", place), firewall, plugs)
    yield from _models(found)
    yield from _vhids(found)
    yield from _gateways(found, plugs)
    yield from _traffic(found)
    yield from _faults(found, plugs)


def _plugs(found: Found) -> Iterator[_Plug]:
    for table in _ONE_PLUG:
        for place, host in enumerate(found.get(table, ())):
            yield _Plug((table, place), host.get("name", ""), host.get("interface", "eth0"), host)
    for place, host in enumerate(found.get("firewall", ())):
        for name, interface in host.get("interfaces", {}).items():
            yield _Plug(("firewall", place, "interfaces", name), host.get("name", ""), name, interface)


def _unique_names(found: Found) -> Problems:
    for tables in (("switch",), ("link",), _HOSTS, ("request",)):
        seen: dict[str, str] = {}
        for table in tables:
            for place, item in enumerate(found.get(table, ())):
                name = item.get("name", "")
                if name in seen:
                    yield (table, place, "name"), f'"{name}" is the name of a {seen[name]} already'
                elif name:
                    seen[name] = table


def _networks(found: Found, plugs: list[_Plug]) -> Problems:
    switches = _names(found, "switch")
    ends: dict[str, list[_Plug]] = {}
    for plug in plugs:
        if network := plug.found.get("network"):
            ends.setdefault(network, []).append(plug)
    for network, plugged in ends.items():
        if network in switches:
            seen: set[str] = set()
            for plug in plugged:
                if plug.host in seen:
                    yield (
                        (*plug.keys, "network"),
                        f'{plug.host} is plugged into "{network}" already; a host has one port there',
                    )
                seen.add(plug.host)
        elif len(plugged) == 1:
            yield (
                (*plugged[0].keys, "network"),
                f"no switch is named so, and a cable has a second end{meant(network, switches)}",
            )
        elif len(plugged) > 2:
            yield (
                (*plugged[2].keys, "network"),
                f'a cable has two ends, not {len(plugged)}; for a switch: [[switch]] name = "{network}"',
            )


def _links(found: Found, plugs: list[_Plug]) -> Problems:
    links = _names(found, "link")
    for plug in plugs:
        link = plug.found.get("link")
        if link is not None and link not in links:
            yield (*plug.keys, "link"), f'there is no [[link]] "{link}"{meant(link, links)}'


def _addresses(found: Found, plugs: list[_Plug]) -> Problems:
    """One of its own for each; shared ones are shared with their like only."""
    owners: dict[str, str] = {}
    for plug in plugs:
        if not plug.address:
            continue
        if plug.address in owners:
            yield (*plug.keys, "address"), f"{plug.address} is {owners[plug.address]} already"
        owners.setdefault(plug.address, f"that of {plug.host}.{plug.name}")
    for place, balancer in enumerate(found.get("balancer", ())):
        shared = balancer.get("shared")
        if shared in owners:
            yield ("balancer", place, "shared"), f"{shared} is {owners[shared]} already"
        servers = _names(found, "server")
        for server in balancer.get("servers", ()):
            if server not in servers:
                yield ("balancer", place, "servers"), f'there is no server "{server}"{meant(server, servers)}'
        if not balancer.get("servers", "?"):
            yield ("balancer", place, "servers"), "expected at least one server"


def _switches(found: Found, plugs: list[_Plug]) -> Problems:
    for place, switch in enumerate(found.get("switch", ())):
        ports = [plug.host for plug in plugs if plug.found.get("network") == switch.get("name")]
        named = [(key, host) for key in ("router_ports", "blocked") for host in switch.get(key, ())]
        named += [("static", host) for _, hosts in switch.get("static", ()) for host in hosts]
        for key, host in named:
            if host not in ports:
                yield ("switch", place, key), f'no host "{host}" is plugged into it{meant(host, ports)}'


def _firewall(here: Keys, firewall: Found, plugs: list[_Plug]) -> Problems:
    own = {plug.name: plug for plug in plugs if plug.keys[:2] == here}
    sync = firewall.get("sync")
    if sync is not None and sync not in own:
        yield (*here, "sync"), f'it has no interface "{sync}"{meant(sync, list(own))}'
    for vhid, carp in firewall.get("carp", {}).items():
        name, address = carp.get("interface"), carp.get("address")
        if name is not None and name not in own:
            yield (
                (*here, "carp", str(vhid), "interface"),
                f'it has no interface "{name}"{meant(name, list(own))}',
            )
        elif name is not None and address is not None and not own[name].reaches(address):
            yield (
                (*here, "carp", str(vhid), "address"),
                f"{address} is not in the network of {name}, {own[name].found['address']}",
            )
    for address, _ in firewall.get("neighbours", ()):
        if not any(plug.reaches(address) for plug in own.values()):
            yield (*here, "neighbours"), f"{address} is in the network of none of its interfaces"


def _model_of(firewall: Found) -> Model:
    model: Model = firewall.get("model", Model.PF)
    return model


def _daemons(found: Found) -> list[str]:
    """Firewalls on which a daemon of the pair runs."""
    return [each.get("name", "") for each in found.get("firewall", ()) if _model_of(each) is Model.LINUX]


def _models(found: Found) -> Problems:
    """Both of a pair are of one model, and are told nothing of the other one."""
    firewalls = found.get("firewall", ())
    if "linux" in found and not _daemons(found):
        yield ("linux",), 'there is no firewall with model = "linux"'
    for place, firewall in enumerate(firewalls):
        here, model = ("firewall", place), _model_of(firewall)
        if model is not _model_of(firewalls[0]):
            yield (*here, "model"), "of a pair, both are of one model"
        for other in Model:
            if other is not model and other.value in firewall:
                yield (*here, other.value), f'its model is "{model.value}"'
        for vhid, carp in firewall.get("carp", {}).items():
            yield from _timers((*here, "carp", str(vhid)), carp, model)


def _timers(here: Keys, carp: Found, model: Model) -> Problems:
    """What an election can be held with."""
    advbase, advskew = carp.get("advbase", 1), carp.get("advskew", 0)
    if model is Model.PF:
        if not advbase:
            yield (*here, "advbase"), 'expected 1 to 254; 0 is the fast mode of model = "linux"'
        return
    try:
        lease_length_s(advbase, advskew)
    except UsageError as error:
        yield (*here, "advskew"), in_one_line(error)


def _vhids(found: Found) -> Problems:
    first: dict[int, tuple[str, str]] = {}
    for place, firewall in enumerate(found.get("firewall", ())):
        for vhid, carp in firewall.get("carp", {}).items():
            address = carp.get("address", "")
            name, known = first.setdefault(vhid, (firewall.get("name", ""), address))
            if address and known and address != known:
                yield (
                    ("firewall", place, "carp", str(vhid), "address"),
                    f"{name} has {known} there; a vhid has the same address at both",
                )


def _gateways(found: Found, plugs: list[_Plug]) -> Problems:
    """On a link of its own, and somebody's."""
    there = {plug.address for plug in plugs}
    is_known = "" not in there
    for firewall in found.get("firewall", ()):
        there |= {carp.get("address", "") for carp in firewall.get("carp", {}).values()}
    for table in _HOSTS:
        for place, host in enumerate(found.get(table, ())):
            gateway = host.get("gateway")
            if gateway is None:
                continue
            own = [plug for plug in plugs if plug.keys[:2] == (table, place)]
            if not any(plug.reaches(gateway) for plug in own):
                yield (table, place, "gateway"), f"{gateway} is in the network of none of its interfaces"
            elif is_known and gateway not in there:
                yield (table, place, "gateway"), f"nobody has the address {gateway}"


def _traffic(found: Found) -> Problems:
    """Somebody answers where the clients connect to."""
    traffic = found.get("traffic", {})
    target = traffic.get("target")
    if target is None:
        return
    tables = (found, *found.get("firewall", ()))
    filters = [table.get(model.value, {}) for table in tables for model in Model]
    redirects = dict(filter(None, (each.get("redirect") for each in filters)))
    reached = redirects.get(target, target)
    servers = {server.get("address", "").partition("/")[0] for server in found.get("server", ())}
    port, backend_port = traffic.get("port", 80), traffic.get("backend_port", 8080)
    if reached in servers:
        if port != backend_port:
            yield (
                ("traffic", "port"),
                f"no balancer is between, and servers listen at backend_port: port = {backend_port}",
            )
    elif reached not in {balancer.get("shared") for balancer in found.get("balancer", ())}:
        yield (
            ("traffic", "target"),
            f"nobody answers at {reached}; a balancer's shared address, a server's, or a redirect to one",
        )


def _faults(found: Found, plugs: list[_Plug]) -> Problems:
    hosts = [name for table in _HOSTS for name in _names(found, table)]
    lasts_s = found.get("lasts_s")
    for place, fault in enumerate(found.get("fault", ())):
        what, at_s = fault.get("what"), fault.get("at_s", 0.0)
        if lasts_s is not None and at_s >= lasts_s:
            yield ("fault", place, "at"), f"the run is over by then: it lasts {lasts_s:g} s"
        if what is None:
            continue
        host, dot, interface = what.partition(".")
        own = [plug.name for plug in plugs if plug.host == host]
        if host not in hosts:
            yield ("fault", place, "of"), f'there is no host "{host}"{meant(host, hosts)}'
        elif fault.get("kind") is Kind.HANG and what not in _daemons(found):
            yield ("fault", place, "of"), f'"hang" is of a firewall with model = "linux", not of {what}'
        elif dot and interface not in own:
            yield ("fault", place, "of"), f'{host} has no interface "{interface}"{meant(interface, own)}'


def _names(found: Found, table: str) -> list[str]:
    return [item["name"] for item in found.get(table, ()) if "name" in item]
