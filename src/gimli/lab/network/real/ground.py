"""How does a topology stand on this kernel? Namespaces, bridges, nft, iptables-legacy.

    a host      a namespace; a switch: a bridge in one of its own
    a balancer  holds the shared address, takes frames to the group MAC, and drops the others' share
    a firewall  routes; its packets wait in NFQUEUE; frames to group MACs are marked; the first one has the
                virtual addresses

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
from gimli.lab.network.simulator.balancer import FIRST_PORT, PORTS

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from gimli.lab.namespaces import Host

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
        self._cables: dict[str, tuple[Host, model.Interface]] = {}
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
        for switch in self._topology.switches:
            self._switches[switch.name] = self._network.switch(switch.name, snooping=switch.snooping)
        for config in self._topology.hosts:
            self._host(config)
        for switch in self._topology.switches:
            self._settle_switch(switch)

    def _host(self, config: model.Host) -> None:
        host = self.hosts[config.name] = self._network.host(config.name)
        for interface in interfaces_of(config):
            self._plug(host, interface)
        tcp = self._topology.client_tcp if isinstance(config, model.Client) else self._topology.server_tcp
        host.sysctl(ipv4__tcp_timestamps=0, ipv4__tcp_no_metrics_save=1, ipv4__tcp_sack=int(tcp.sack))
        match config:
            case model.Client():
                host.run("ip", "route", "add", "local", f"{config.prefix}0/24", "dev", "lo")
            case model.Firewall():
                self._settle_firewall(host, config)
            case model.Balancer():
                host.address("lo", f"{config.address}/32")
                host.sysctl(ipv4__conf__all__arp_ignore=1, ipv4__conf__all__arp_announce=2)
                host.run("nft", "-f", "-", text=_balancer_rules(config, self._topology.traffic))
            case model.Server():
                pass
        if isinstance(config, model.Balancer | model.Server):
            host.run("nft", "-f", "-", text=_RESET_RULES)
        via: tuple[str, ...] = ("ip", "route", "add", "default", "via", config.gateway)
        if isinstance(config, model.Balancer):
            via += ("src", config.address)
        host.run(*via)

    def _plug(self, host: Host, interface: model.Interface) -> None:
        switch = self._switches.get(interface.network)
        if switch is not None:
            port = self._network.plug(host, interface.name, switch, interface.address)
            self._ports[host.name, switch.name] = port
            _plain(switch, port)
        elif interface.network in self._cables:
            other, theirs = self._cables[interface.network]
            self._network.cable(other, theirs.name, host, interface.name)
            other.address(theirs.name, theirs.address)
            host.address(interface.name, interface.address)
        else:
            self._cables[interface.network] = (host, interface)
            return
        _plain(host, interface.name)
        host.sysctl(**{f"ipv4__conf__{interface.name}__rp_filter": 0, "ipv4__conf__all__rp_filter": 0})

    def _settle_firewall(self, host: Host, config: model.Firewall) -> None:
        host.sysctl(ipv4__ip_forward=1, ipv4__conf__all__send_redirects=0)
        by_name = {each.name: each for each in config.interfaces}
        if config is self._topology.firewalls[0]:
            for carp in config.carp:
                length = ip_interface(by_name[carp.interface].address).network.prefixlen
                host.address(carp.interface, f"{carp.address}/{length}")
        for address, mac in config.neighbours:
            for each in config.interfaces:
                if ip_address(address) in ip_interface(each.address).network:
                    host.run(
                        *("ip", "neigh", "add", address, "lladdr", mac),
                        *("dev", each.name, "nud", "permanent"),
                    )
        is_backup = config is not self._topology.firewalls[0]
        rules = firewall_rules(config, is_guarding=config.guard and is_backup)
        host.run("nft", "-f", "-", text=rules)
        for each in config.interfaces:
            if each.name != config.sync:
                host.run(
                    *("iptables-legacy", "-t", "mangle", "-A", "PREROUTING", "-i", each.name, "-p", "tcp"),
                    *("-j", "NFQUEUE", "--queue-num", str(firewall.QUEUE)),
                )

    def _settle_switch(self, config: model.Switch) -> None:
        switch = self._switches[config.name]
        if config.snooping and config.querier:
            switch.run("ip", "link", "set", "dev", "br0", "type", "bridge", "mcast_querier", "1")
        members = {host for _, hosts in config.static for host in hosts}
        for (host, network), port in self._ports.items():
            if network != config.name:
                continue
            options: tuple[str, ...] = ()
            if host in config.blocked or (members and host not in members):
                options += ("mcast_flood", "off")
            if host in config.router_ports:
                options += ("mcast_router", "2")
            if options:
                switch.run("ip", "link", "set", "dev", port, "type", "bridge_slave", *options)


def interfaces_of(config: model.Host) -> tuple[model.Interface, ...]:
    """Every NIC of a host."""
    return config.interfaces if isinstance(config, model.Firewall) else (config.interface,)


def refuse_unplayable(topology: model.Topology) -> None:
    """What only the simulation has is refused, not left out in silence.

    Raises:
        CannotPlay: with the part's name.
    """
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
        if fault.kind is not model.Kind.CUT:
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


def _plain(host: Host, device: str) -> None:
    """One packet of the wire is one packet of the kernel."""
    host.run("ethtool", "-K", device, "tso", "off", "gso", "off", "gro", "off", "tx", "off", check=False)
