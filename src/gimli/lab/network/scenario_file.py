r"""What does a scenario file say? Every error is found in one go, with line, key and what was expected.

text --toml_file--> tables --scenario_keys--> values by field --scenario_references--> topology.Topology
\\--> Problem(line, key, what was expected)
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gimli import toml_file
from gimli.errors import UsageError
from gimli.lab.network import topology as model
from gimli.lab.network.scenario_keys import SCENARIO, Each, Named, Node, Table
from gimli.lab.network.scenario_references import problems_of
from gimli.lab.network.scenario_values import Value
from gimli.toml_file import ConfigError, Problem, in_one_line, meant, shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Keys = tuple[str | int, ...]
    Found = Mapping[str, Any]


def load(path: str) -> model.Topology:
    """The scenario of a file, which has the path for a name.

    Raises:
        UsageError: the file cannot be read.
        ConfigError: it is not what it should be.
    """
    return parse(toml_file.read(path, usage="gimli lab run FILE.toml"), path, path)


def parse(text: str, path: str, name: str) -> model.Topology:
    """The scenario of a file's text.

    Raises:
        ConfigError: with every error of the text.
    """
    again = f"gimli lab run {path}"
    document = toml_file.parse(text, path, check=again)
    reading = _Reading(text.splitlines())
    found = reading.table((), document, SCENARIO)
    for keys, expected in problems_of(found):
        reading.problem(keys, expected)
    if reading.problems:
        raise ConfigError(path, reading.problems, again)
    return _topology(name, found)


class _Reading:
    """One pass over a document that collects problems instead of stopping at the first."""

    def __init__(self, lines: list[str]) -> None:
        self.problems: list[Problem] = []
        self._lines = lines

    def problem(self, keys: Keys, expected: str) -> None:
        """Something is wrong with what is written there."""
        self.problems.append(toml_file.problem_at(self._lines, keys, expected))

    def table(self, here: Keys, written: Any, table: Table) -> dict[str, Any]:
        """What a table says, by the fields it becomes; what has errors is left out."""
        if not isinstance(written, dict):
            self.problem(here, f"expected a table, got {shape(written)}")
            return {}
        found: dict[str, Any] = {}
        for name, item in written.items():
            key = table.keys.get(name)
            if key is None:
                what = "table" if isinstance(item, dict | list) and not here else "key"
                self.problem((*here, name), f"unknown {what}{meant(name, sorted(table.keys))}")
                continue
            for value in self._node((*here, name), item, key.node):
                found[key.becomes or name] = value
        for name, key in table.keys.items():
            if key.is_required and name not in written:
                self.problem((*here, name), f"missing; {key.about}: {_example(name, key.node)}")
        return found

    def _node(self, here: Keys, written: Any, node: Node) -> Iterator[Any]:
        """The value, or nothing when there is none to be had."""
        match node:
            case Value():
                yield from self._value(here, written, node)
            case Table():
                yield self.table(here, written, node)
            case Each(table):
                if isinstance(written, list) and written:
                    yield [self.table((*here, place), item, table) for place, item in enumerate(written)]
                else:
                    self.problem(here, f"expected tables [[{here[-1]}]], got {shape(written)}")
            case Named(table, name):
                if isinstance(written, dict) and written:
                    yield dict(self._named(here, written, table, name))
                else:
                    self.problem(here, f"expected tables by name, got {shape(written)}")

    def _named(
        self, here: Keys, written: dict[str, Any], table: Table, kind: Value
    ) -> Iterator[tuple[Any, dict[str, Any]]]:
        for key, item in written.items():
            for name in self._value((*here, key), key, kind):
                yield name, self.table((*here, key), item, table)

    def _value(self, here: Keys, written: Any, value: Value) -> Iterator[Any]:
        try:
            yield value.read(written, str(here[-1]))
        except UsageError as error:
            self.problem(here, in_one_line(error))


def _example(name: str, node: Node) -> str:
    match node:
        case Value():
            return f"{name} = {node.example}"
        case Each():
            return f"[[{name}]]"
        case Table() | Named():
            return f"[{name}]"


# What was found is complete from here on, and refers to what there is.


def _topology(name: str, found: Found) -> model.Topology:
    links = {link["name"]: model.Link(**_but(link, "name")) for link in found.get("link", ())}
    stacks = found.get("tcp", {})
    servers = {server["name"]: server["address"].partition("/")[0] for server in found["server"]}
    balancers = found.get("balancer", ())
    hosts: list[model.Host] = [
        model.Client(client["name"], _interface(client, links), client["gateway"], **_only(client, "prefix"))
        for client in found["client"]
    ]
    hosts += [_firewall(firewall, found, links) for firewall in found.get("firewall", ())]
    for balancer in balancers:
        same = [other["name"] for other in balancers if other["shared"] == balancer["shared"]]
        hosts.append(
            model.Balancer(
                name=balancer["name"],
                interface=_interface(balancer, links),
                gateway=balancer["gateway"],
                address=balancer["shared"],
                mac=balancer["mac"],
                share=same.index(balancer["name"]),
                shares=len(same),
                servers=tuple(servers[server] for server in balancer["servers"]),
            )
        )
    hosts += [
        model.Server(server["name"], _interface(server, links), server["gateway"])
        for server in found["server"]
    ]
    return model.Topology(
        name=name,
        about=found["about"],
        lasts_s=found["lasts_s"],
        switches=tuple(model.Switch(**switch) for switch in found.get("switch", ())),
        hosts=tuple(hosts),
        traffic=model.Traffic(
            **found["traffic"], mix=tuple(model.Request(**request) for request in found["request"])
        ),
        client_tcp=model.Tcp(**stacks.get("client", {})),
        server_tcp=model.Tcp(**stacks.get("server", {})),
        faults=tuple(_fault(fault) for fault in found.get("fault", ())),
        expects=found.get("expects", ()),
    )


def _interface(host: Found, links: Mapping[str, model.Link]) -> model.Interface:
    link = links[host["link"]] if "link" in host else model.Link()
    return model.Interface(host.get("interface", "eth0"), host["network"], host["address"], link)


def _firewall(firewall: Found, found: Found, links: Mapping[str, model.Link]) -> model.Firewall:
    return model.Firewall(
        name=firewall["name"],
        interfaces=tuple(
            _interface({"interface": name, **interface}, links)
            for name, interface in firewall["interfaces"].items()
        ),
        carp=tuple(model.Carp(vhid=vhid, **carp) for vhid, carp in firewall["carp"].items()),
        gateway=firewall["gateway"],
        pf=replace(model.Pf(**found.get("pf", {})), **firewall.get("pf", {})),
        linux=replace(model.Linux(**found.get("linux", {})), **firewall.get("linux", {})),
        **_only(firewall, "model", "sync", "neighbours", "guard"),
    )


def _fault(fault: Found) -> model.Fault:
    until_s = fault["at_s"] + fault["lasts_s"] if "lasts_s" in fault else None
    return model.Fault(fault["at_s"], fault["kind"], fault["what"], until_s)


def _but(found: Found, left_out: str) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != left_out}


def _only(found: Found, *wanted: str) -> dict[str, Any]:
    return {name: found[name] for name in wanted if name in found}
