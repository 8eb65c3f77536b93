"""How does a topology stand on this kernel? Namespaces, bridges, nft, iptables-legacy.

    a host      a namespace; a switch: a bridge in one of its own
    a balancer  holds the shared address, takes frames to the group MAC, and drops the others' share
    a firewall  routes; its packets wait in NFQUEUE; frames to group MACs are marked; the one that would win
                an election has the virtual addresses, always

What the kernel lacks is named before anything is played.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import TYPE_CHECKING

from gimli.errors import GimliError
from gimli.lab.namespaces import Network, NetworkRefused
from gimli.lab.network import topology as model
from gimli.lab.network.real import firewall
from gimli.lab.network.real.station import master_of
from gimli.lab.network.simulator.balancer import FIRST_PORT, PORTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from gimli.lab.namespaces import Host

_PLAIN = "ethtool -K {} tso off gso off gro off tx off >/dev/null"
"""One packet of the wire is one packet of the kernel."""
_GROUP = "ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00"
_HOLDS_NO_GROUP = "ip daddr != 224.0.0.0/4 ip daddr != 255.255.255.255"
_RESETS = "resets"
_GUARDED = "guarded"


class CannotPlay(GimliError):
    """The real mode has no such part."""


@dataclass(frozen=True, slots=True)
class _Need:
    """A part of the kernel: a command that fails without it, and what to do then."""

    what: str
    command: tuple[str, ...]
    fix: str
    text: str = ""


_PROGRAMS = (
    ("nft", "nftables"),
    ("iptables-legacy", "iptables"),
    ("ethtool", "ethtool"),
)
NEEDS = (
    _Need("veth", ("ip", "link", "add", "name", "v", "type", "veth", "peer", "name", "w"), "modprobe veth"),
    _Need("a bridge", ("ip", "link", "add", "name", "b", "type", "bridge"), "modprobe bridge"),
    _Need(
        "NFQUEUE",
        ("iptables-legacy", "-t", "mangle", "-A", "PREROUTING", "-p", "tcp", "-j", "NFQUEUE"),
        "modprobe -a iptable_mangle xt_NFQUEUE nfnetlink_queue",
    ),
    _Need(
        "nft's netdev family",
        ("nft", "-f", "-"),
        "modprobe nf_tables; it takes CONFIG_NF_TABLES_NETDEV",
        'table netdev n {\n chain c {\n  type filter hook ingress device "v" priority 0\n }\n}\n',
    ),
    _Need(
        "nft's jhash",
        ("nft", "-f", "-"),
        "modprobe nft_hash",
        "table ip n {\n chain c {\n  tcp dport 1 jhash ip saddr mod 2 seed 0x1 1 drop\n }\n}\n",
    ),
)


class Ground:
    """The network of a topology; as a context it leaves nothing behind.

    Args:
        topology: what there is.

    Raises:
        GimliError: this user, this machine or this mode cannot make it; it names what is missing.
    """

    def __init__(self, topology: model.Topology) -> None:
        refuse_unplayable(topology)
        self._topology = topology
        self._network = Network()
        self._ports: dict[tuple[str, str], str] = {}
        self._switches: dict[str, Host] = {}
        self._cables: dict[str, str] = {}
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
        name, _, interface = what.partition(".")
        config = next(host for host in self._topology.hosts if host.name == name)
        for each in interfaces_of(config):
            if interface in {"", each.name}:
                self.hosts[name].run("ip", "link", "set", "dev", each.name, "down" if is_cut else "up")

    def resets(self) -> dict[str, int]:
        """RSTs that each balancer and each server has sent, as its kernel counts them."""
        kinds = (model.Balancer, model.Server)
        return {
            host.name: self._counter(host.name, "ip", _RESETS)
            for host in self._topology.hosts
            if isinstance(host, kinds)
        }

    def guarded(self) -> dict[str, int]:
        """Frames that each firewall's guard has dropped."""
        return {host.name: self._counter(host.name, "netdev", _GUARDED) for host in self._topology.firewalls}

    def _counter(self, host: str, family: str, name: str) -> int:
        told = json.loads(self.hosts[host].run("nft", "-j", "list", "counter", family, "lab", name))
        return next(int(each["counter"]["packets"]) for each in told["nftables"] if "counter" in each)

    # Making it.

    def _probe(self) -> None:
        for program, package in _PROGRAMS:
            if shutil.which(program) is None:
                raise NetworkRefused(
                    f"there is no {program}", why="it makes the network", fix=f"apt-get install {package}"
                )
        trial = self._network.host("trial")
        for need in NEEDS:
            try:
                trial.run(*need.command, text=need.text or None)
            except NetworkRefused as error:
                raise NetworkRefused(
                    f"the kernel has no {need.what.removeprefix('a ')} for us", why=error.why, fix=need.fix
                ) from error
        self._network.hosts.remove(trial)
        trial.close()

    def _build(self) -> None:
        topology = self._topology
        for switch in topology.switches:
            self._switches[switch.name] = self._network.switch(switch.name, snooping=switch.snooping)
        for config in topology.hosts:
            self.hosts[config.name] = self._network.host(config.name)
        for config in topology.hosts:
            host, interfaces = self.hosts[config.name], interfaces_of(config)
            links = [line for each in interfaces for line in self._links(config.name, each)]
            host.run("ip", "-batch", "-", text="\n".join([*links, *self._addresses(config), ""]))
            plain = [_PLAIN.format(each.name) for each in interfaces]
            host.run("sh", "-e", text="\n".join([*plain, *self._settings(config), ""]))
            if rules := self._rules(config):
                host.run("nft", "-f", "-", text=rules)
        for switch in topology.switches:
            self._settle_switch(switch)

    def _links(self, name: str, interface: model.Interface) -> Iterator[str]:
        """For ip: the interface with its cable, unless the host at the other end has made it."""
        network = interface.network
        switch = self._switches.get(network)
        if switch is not None:
            port = self._ports[name, network] = f"port{len(self._ports)}"
            yield _cable(interface.name, port, switch.pid)
        elif network not in self._cables:
            self._cables[network] = name
            other, theirs = next(
                (host.name, each)
                for host in self._topology.hosts
                for each in interfaces_of(host)
                if each.network == network and host.name != name
            )
            yield _cable(interface.name, theirs.name, self.hosts[other].pid)
        yield f"link set dev {interface.name} up"
        yield f"addr add {interface.address} dev {interface.name}"

    def _addresses(self, config: model.Host) -> Iterator[str]:
        """For ip: what a host has beside its NICs."""
        via = f"route add default via {config.gateway}"
        match config:
            case model.Client():
                yield f"route add local {config.prefix}0/24 dev lo"
            case model.Firewall():
                yield from self._virtual_addresses(config)
                yield from _neighbours(config)
            case model.Balancer():
                yield f"addr add {config.address}/32 dev lo"
                via += f" src {config.address}"
            case model.Server():
                pass
        yield via

    def _virtual_addresses(self, config: model.Firewall) -> Iterator[str]:
        if config is master_of(self._topology):
            lengths = {each.name: ip_interface(each.address).network.prefixlen for each in config.interfaces}
            for carp in config.carp:
                yield f"addr add {carp.address}/{lengths[carp.interface]} dev {carp.interface}"

    def _settings(self, config: model.Host) -> Iterator[str]:
        """For sh: how its kernel behaves."""
        is_client = isinstance(config, model.Client)
        tcp = self._topology.client_tcp if is_client else self._topology.server_tcp
        yield from _values(tcp_timestamps=0, tcp_no_metrics_save=1, tcp_sack=int(tcp.sack))
        yield from _values(conf__all__rp_filter=0)
        yield from _values(**{f"conf__{each.name}__rp_filter": 0 for each in interfaces_of(config)})
        if isinstance(config, model.Balancer):
            yield from _values(conf__all__arp_ignore=1, conf__all__arp_announce=2)
        if isinstance(config, model.Firewall):
            yield from _values(ip_forward=1, conf__all__send_redirects=0)
            for each in config.interfaces:
                if each.name != config.sync:
                    rule = f"PREROUTING -i {each.name} -p tcp -j NFQUEUE --queue-num {firewall.QUEUE}"
                    yield f"iptables-legacy -t mangle -A {rule}"

    def _rules(self, config: model.Host) -> str:
        """For nft."""
        match config:
            case model.Client():
                return ""
            case model.Firewall():
                is_backup = config is not master_of(self._topology)
                return firewall_rules(config, is_guarding=config.is_guarded and is_backup)
            case model.Balancer():
                return _RESET_RULES + _balancer_rules(config, self._topology.traffic)
            case model.Server():
                return _RESET_RULES

    def _settle_switch(self, config: model.Switch) -> None:
        members = {host for _, hosts in config.static for host in hosts}
        lines = []
        if config.snooping and config.querier:
            lines.append("link set dev br0 type bridge mcast_querier 1")
        plain = []
        for (host, network), port in self._ports.items():
            if network != config.name:
                continue
            plain.append(_PLAIN.format(port))
            lines.append(f"link set dev {port} master br0 up")
            if host in config.blocked or (members and host not in members):
                lines.append(f"link set dev {port} type bridge_slave mcast_flood off")
            if host in config.router_ports:
                lines.append(f"link set dev {port} type bridge_slave mcast_router 2")
        switch = self._switches[config.name]
        switch.run("sh", "-e", text="\n".join([*plain, ""]))
        switch.run("ip", "-batch", "-", text="\n".join([*lines, ""]))


def _cable(device: str, peer: str, pid: int) -> str:
    return f"link add name {device} type veth peer name {peer} netns {pid}"


def _neighbours(config: model.Firewall) -> Iterator[str]:
    """For ip: a group MAC is learnt from nobody's ARP."""
    for address, mac in config.neighbours:
        for each in config.interfaces:
            if ip_address(address) in ip_interface(each.address).network:
                yield f"neigh add {address} lladdr {mac} dev {each.name} nud permanent"


def _values(**values: int) -> Iterator[str]:
    for name, value in values.items():
        yield f"echo {value} >/proc/sys/net/ipv4/{name.replace('__', '/')}"


def interfaces_of(config: model.Host) -> tuple[model.Interface, ...]:
    """Every NIC of a host."""
    return config.interfaces if isinstance(config, model.Firewall) else (config.interface,)


def refuse_unplayable(topology: model.Topology) -> None:
    """What only the simulation has is refused, not left out in silence.

    Raises:
        CannotPlay: with the part's name.
    """
    if len(topology.firewalls) != 2:
        raise _only_simulated(f"a network with {len(topology.firewalls)} firewalls")
    for config in topology.firewalls:
        if config.pf.redirect is not None:
            raise _only_simulated(f"{config.name}: pf's redirect")
        if config.pf.block is model.Block.RETURN:
            raise _only_simulated(f"{config.name}: pf's block return")
    for host in topology.hosts:
        for each in interfaces_of(host):
            link = each.link
            if link.loss or link.duplicate or link.reorder:
                raise _only_simulated(f"{host.name}.{each.name}: loss, duplication or reordering of a link")
    for fault in topology.faults:
        name, _, interface = fault.what.partition(".")
        failing = [each for each in topology.firewalls if each.name == name and each.sync != interface]
        if fault.kind is not model.Kind.CUT or failing:
            # Whoever has the virtual addresses here keeps them.
            raise _only_simulated(f"the fault {fault.kind.value} of {fault.what}")


def _only_simulated(what: str) -> CannotPlay:
    return CannotPlay(f"{what} is simulated only", fix="play it without --real")


def firewall_rules(config: model.Firewall, *, is_guarding: bool) -> str:
    """At the NIC: the guard, and a mark on packets that came in a frame to a group MAC."""
    lines = ["table netdev lab {", f" counter {_GUARDED} {{ }}"]
    for each in config.interfaces:
        if each.name == config.sync:
            continue
        lines += [
            f" chain in_{each.name} {{",
            f'  type filter hook ingress device "{each.name}" priority 0',
        ]
        if is_guarding:
            lines.append(f'  {_GROUP} {_HOLDS_NO_GROUP} counter name "{_GUARDED}" drop')
        to_us = " meta pkttype set host" if config.pf.is_forwarding_groups else ""
        lines += [f"  {_GROUP} {_HOLDS_NO_GROUP} meta mark set {firewall.GROUP_MARK}{to_us}", " }"]
    return "\n".join([*lines, "}", ""])


_RESET_RULES = f"""\
table ip lab {{
 counter {_RESETS} {{ }}
 chain out {{
  type filter hook output priority 0
  tcp flags & rst == rst counter name "{_RESETS}"
 }}
}}
"""


def _balancer_rules(config: model.Balancer, traffic: model.Traffic) -> str:
    """What is another one's is dropped; what is ours is taken for ours."""
    share = config.share
    first = FIRST_PORT + PORTS * share
    split = f"jhash ip saddr . tcp sport mod {config.shares} seed 0x1"
    ours = f"ether daddr {config.mac} ip daddr {config.address}"
    return f"""\
table ip share {{
 chain in {{
  type filter hook prerouting priority -300
  {ours} tcp dport {traffic.port} {split} != {share} drop
  {ours} tcp sport {traffic.backend_port} tcp dport != {first}-{first + PORTS - 1} drop
  {ours} meta pkttype set host
 }}
}}
"""
