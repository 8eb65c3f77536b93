"""How does a topology stand on this kernel? A namespace for each host, and a bridge for each switch.

A cable is pulled at its far end: both ends see it, and the host keeps its routes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gimli.lab.namespaces import Network
from gimli.lab.network import topology as model
from gimli.lab.network.real import needs, rules
from gimli.pair import guard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from gimli.lab.namespaces import Host

_PLAIN = "ethtool -K {} tso off gso off gro off tx off >/dev/null"
"""One packet of the wire is one packet of the kernel."""
_WAYS = {model.Kind.CUT_TO: "egress", model.Kind.CUT_FROM: "ingress"}
"""The hook at a switch's port where one direction of a cable ends."""


class Ground:
    """The network of a topology; as a context it leaves nothing behind.

    Args:
        topology: what there is.

    Raises:
        GimliError: this user, this machine or this mode cannot make it; it names what is missing.
    """

    def __init__(self, topology: model.Topology) -> None:
        needs.refuse_unplayable(topology)
        self._topology = topology
        self._network = Network()
        self._ports: dict[tuple[str, str], str] = {}
        self._far_ends: dict[tuple[str, str], tuple[Host, str]] = {}
        """Of each host's interfaces: where the other end of the cable is."""
        self._switches: dict[str, Host] = {}
        self.hosts: dict[str, Host] = {}
        try:
            self._probe()
            self._build()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let it go."""
        self._network.close()

    # While it is played.

    def cut(self, what: str, *, is_cut: bool) -> None:
        """Pull a cable of a host, ``fw1.sync``, or all of them, ``fw1``; or put it back."""
        for _, _, far, device in self._cables(what):
            far.run("ip", "link", "set", "dev", device, "down" if is_cut else "up")

    def cut_one_way(self, what: str, kind: model.Kind, *, is_cut: bool) -> None:
        """Let nothing reach a host, or nothing leave it, by a cable, and nobody see it."""
        for host, interface, far, device in self._cables(what):
            place, name, hook = far, device, _WAYS[kind]
            if far not in self._switches.values():
                # Without a switch between them, it is lost where it arrives.
                hook = "ingress"
                if kind is model.Kind.CUT_TO:
                    place, name = self.hosts[host], interface
            if is_cut:
                place.run("nft", "-f", "-", text=rules.one_way(name, hook))
            else:
                place.run("nft", "delete", "table", "netdev", f"cut_{hook}_{name}")

    def resets(self) -> dict[str, int]:
        """RSTs that each balancer and each server has sent, as its kernel counts them."""
        kinds = (model.Balancer, model.Server)
        return {
            host.name: self.counters(host.name, "ip", "lab")[rules.RESETS]
            for host in self._topology.hosts
            if isinstance(host, kinds)
        }

    def guarded(self) -> dict[str, int]:
        """Frames for group MACs that each firewall's guard has dropped."""
        return self._dropped("dropped_group_")

    def fenced(self) -> dict[str, int]:
        """Frames for virtual addresses that each firewall has dropped for want of the lease."""
        return self._dropped("dropped_in_")

    def _dropped(self, prefix: str) -> dict[str, int]:
        """By counters of ``gimli pair``."""
        found = {}
        for host in self._topology.firewalls:
            counters = self.counters(host.name, guard.FAMILY, guard.TABLE)
            found[host.name] = sum(count for name, count in counters.items() if name.startswith(prefix))
        return found

    def counters(self, host: str, family: str, table: str) -> dict[str, int]:
        """Packets, by the names of a table's counters."""
        told = json.loads(self.hosts[host].run("nft", "-j", "list", "counters", "table", family, table))
        counters = [each["counter"] for each in told["nftables"] if "counter" in each]
        return {each["name"]: int(each["packets"]) for each in counters}

    def _cables(self, what: str) -> Iterator[tuple[str, str, Host, str]]:
        """Of a host, or one of them: host, interface, and where its far end is."""
        name, _, interface = what.partition(".")
        for (host, near), (far, device) in self._far_ends.items():
            if host == name and interface in {"", near}:
                yield host, near, far, device

    # Making it.

    def _probe(self) -> None:
        trial = self._network.host("trial")
        needs.probe(trial)
        self._network.hosts.remove(trial)
        trial.close()

    def _build(self) -> None:
        topology = self._topology
        for switch in topology.switches:
            self._switches[switch.name] = self._network.switch(switch.name, snooping=switch.snooping)
        for config in topology.hosts:
            self.hosts[config.name] = self._network.host(config.name)
        for config in topology.hosts:
            host, interfaces = self.hosts[config.name], model.interfaces_of(config)
            links = [line for each in interfaces for line in self._links(config.name, each)]
            host.run("ip", "-batch", "-", text="\n".join([*links, *rules.addresses(config), ""]))
            plain = [_PLAIN.format(each.name) for each in interfaces]
            host.run("sh", "-e", text="\n".join([*plain, *rules.settings(topology, config), ""]))
            if text := rules.rules(topology, config):
                host.run("nft", "-f", "-", text=text)
            if isinstance(config, model.Firewall) and (lines := [*rules.tracking(config)]):
                host.run("sh", "-e", text="\n".join([*lines, ""]))
        for switch in topology.switches:
            self._settle_switch(switch)

    def _links(self, name: str, interface: model.Interface) -> Iterator[str]:
        """For ip: the interface with its cable, unless the host at the other end has made it."""
        network, here = interface.network, (name, interface.name)
        switch = self._switches.get(network)
        if switch is not None:
            port = self._ports[name, network] = f"port{len(self._ports)}"
            self._far_ends[here] = (switch, port)
            yield _cable(interface.name, port, switch.pid)
        elif here not in self._far_ends:
            other, theirs = next(
                (host.name, each)
                for host in self._topology.hosts
                for each in model.interfaces_of(host)
                if each.network == network and host.name != name
            )
            self._far_ends[here] = (self.hosts[other], theirs.name)
            self._far_ends[other, theirs.name] = (self.hosts[name], interface.name)
            yield _cable(interface.name, theirs.name, self.hosts[other].pid)
        yield f"link set dev {interface.name} up"
        yield f"addr add {interface.address} dev {interface.name}"

    def _settle_switch(self, config: model.Switch) -> None:
        ports = {host: port for (host, network), port in self._ports.items() if network == config.name}
        lines = ["link set dev br0 type bridge mcast_querier 1"] if config.snooping and config.querier else []
        for host, port in ports.items():
            lines.append(f"link set dev {port} master br0 up")
            if host in config.blocked:
                lines.append(f"link set dev {port} type bridge_slave mcast_flood off")
            if host in config.router_ports:
                lines.append(f"link set dev {port} type bridge_slave mcast_router 2")
        switch = self._switches[config.name]
        plain = [_PLAIN.format(port) for port in ports.values()]
        switch.run("sh", "-e", text="\n".join([*plain, ""]))
        switch.run("ip", "-batch", "-", text="\n".join([*lines, ""]))
        if text := rules.static_entries(config, ports):
            switch.run("nft", "-f", "-", text=text)


def _cable(device: str, peer: str, pid: int) -> str:
    return f"link add name {device} type veth peer name {peer} netns {pid}"
