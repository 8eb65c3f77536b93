"""What is each host's kernel told? Addresses, settings, and rules of nft and iptables, as text. Pure.

    a balancer  holds the shared address, takes frames to the group MAC, and drops the others' share
    a firewall  routes; frames to group MACs are marked. With pf its packets wait in NFQUEUE; with Linux they
                are tracked, and what fits no connection is dropped

Who has the virtual addresses, and the guard, is ``gimli pair``'s business (``elector``).
"""

from __future__ import annotations

from ipaddress import ip_address, ip_interface
from typing import TYPE_CHECKING

from gimli.lab.network import topology as model
from gimli.lab.network.simulator.balancer import FIRST_PORT, PORTS
from gimli.lab.network.simulator.sender import INITIAL_WINDOW

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

QUEUE = 0
"""The number of our NFQUEUE."""
GROUP_MARK = 1
"""Of packets that came in a frame to a group MAC."""
RESETS = "resets"
TRACKED, INVALID, FORWARDED = "tracked", "invalid", "forwarded"
"""Counters of a Linux firewall: copies that connection tracking saw, packets that fitted no connection, and
those that were passed on."""
_GROUP = "ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00"
_HOLDS_NO_GROUP = "ip daddr != 224.0.0.0/4 ip daddr != 255.255.255.255"


def addresses(config: model.Host) -> Iterator[str]:
    """For ip: what a host has beside its NICs."""
    via = f"route add default via {config.gateway}"
    match config:
        case model.Client():
            yield f"route add local {config.prefix}0/24 dev lo"
        case model.Firewall():
            yield from _neighbours(config)
        case model.Balancer():
            yield f"addr add {config.address}/32 dev lo"
            via += f" src {config.address}"
        case model.Server():
            pass
    yield via


def settings(topology: model.Topology, config: model.Host) -> Iterator[str]:
    """For sh: how its kernel behaves."""
    tcp = topology.client_tcp if isinstance(config, model.Client) else topology.server_tcp
    yield from _values(tcp_timestamps=0, tcp_no_metrics_save=1, tcp_sack=int(tcp.sack))
    # What the simulation has: a machine's own choice may be another one on each, and BBR spreads its bursts.
    yield from _values(tcp_congestion_control="reno")
    starts = f"initcwnd {INITIAL_WINDOW} rto_min {1000 * tcp.rto_min_s:.0f}ms"
    # A cable may not be up yet; that is shown, but is none of a route's words.
    yield f"ip route show | sed 's/ linkdown//' | while read -r it; do ip route change $it {starts}; done"
    yield from _values(conf__all__rp_filter=0)
    yield from _values(**{f"conf__{each.name}__rp_filter": 0 for each in model.interfaces_of(config)})
    if isinstance(config, model.Balancer):
        yield from _values(conf__all__arp_ignore=1, conf__all__arp_announce=2)
    if isinstance(config, model.Firewall):
        yield from _values(ip_forward=1, conf__all__send_redirects=0)
        if config.model is model.Model.PF:
            yield f"iptables-legacy -t mangle -A PREROUTING -p tcp -j NFQUEUE --queue-num {QUEUE}"


def tracking(config: model.Firewall) -> Iterator[str]:
    """For sh, when the rules stand: before, the kernel has no such setting."""
    if config.model is model.Model.LINUX:
        yield f"echo {int(config.linux.loose)} >/proc/sys/net/netfilter/nf_conntrack_tcp_loose"


def rules(topology: model.Topology, config: model.Host) -> str:
    """For nft."""
    match config:
        case model.Client():
            return ""
        case model.Firewall(model=model.Model.PF):
            return _marking(config) + _translation(config)
        case model.Firewall():
            return _marking(config) + _tracking_rules(config)
        case model.Balancer():
            return _RESET_RULES + _balancer_rules(config, topology.traffic)
        case model.Server():
            return _RESET_RULES


def one_way(device: str, hook: str) -> str:
    """For nft: what comes by a device, or leaves by it, is no more."""
    chain = f'type filter hook {hook} device "{device}" priority -400'
    return f"table netdev cut_{hook}_{device} {{\n chain c {{\n  {chain}\n  drop\n }}\n}}\n"


def static_entries(switch: model.Switch, ports: Mapping[str, str]) -> str:
    """For nft: frames for a MAC that has an entry leave by no other port. The bridge's own are for groups.

    Args:
        switch: whose entries.
        ports: of the switch, by the hosts behind them.
    """
    others = {
        port: [mac for mac, hosts in switch.static if host not in hosts] for host, port in ports.items()
    }
    chains = [
        f"""\
 chain to_{port} {{
  type filter hook egress device "{port}" priority 0
  ether daddr {{ {", ".join(macs)} }} drop
 }}
"""
        for port, macs in others.items()
        if macs
    ]
    return f"table netdev static {{\n{''.join(chains)}}}\n" if chains else ""


def _neighbours(config: model.Firewall) -> Iterator[str]:
    """For ip: a group MAC is learnt from nobody's ARP."""
    for address, mac in config.neighbours:
        for each in config.interfaces:
            if ip_address(address) in ip_interface(each.address).network:
                yield f"neigh add {address} lladdr {mac} dev {each.name} nud permanent"


def _values(**values: int | str) -> Iterator[str]:
    for name, value in values.items():
        yield f"echo {value} >/proc/sys/net/ipv4/{name.replace('__', '/')}"


def _marking(config: model.Firewall) -> str:
    """At the NIC, behind the guard's hook: a mark on packets that came in a frame to a group MAC."""
    lines = ["table netdev lab {"]
    is_forwarding_groups = config.model is model.Model.PF and config.pf.is_forwarding_groups
    to_us = " meta pkttype set host" if is_forwarding_groups else ""
    for each in config.interfaces:
        if each.name != config.sync:
            lines += [
                f" chain in_{each.name} {{",
                f'  type filter hook ingress device "{each.name}" priority 0',
                f"  {_GROUP} {_HOLDS_NO_GROUP} meta mark set {GROUP_MARK}{to_us}",
                " }",
            ]
    return "\n".join([*lines, "}", ""])


def _translation(config: model.Firewall) -> str:
    """Pf's rdr: pf's model decides by its states whether a packet passes, and here addresses are changed."""
    if config.pf.redirect is None:
        return ""
    outside, inside = config.pf.redirect
    return f"""\
table ip lab {{
 chain in {{
  type filter hook prerouting priority -100
  ip protocol tcp ip daddr {outside} ip daddr set {inside}
 }}
 chain out {{
  type filter hook postrouting priority 100
  oifname "{_side_of(config, outside)}" ip protocol tcp ip saddr {inside} ip saddr set {outside}
 }}
}}
"""


def _side_of(config: model.Firewall, address: str) -> str:
    """The interface in whose network an address is."""
    there = ip_address(address)
    return next(each.name for each in config.interfaces if there in ip_interface(each.address).network)


def _tracking_rules(config: model.Firewall) -> str:
    """What is no beginning needs a connection, as with pf: antispoof, then pass."""
    begins = "" if config.linux.loose else "tcp flags & (syn|ack) == syn "
    sides = [
        f"""\
  iifname {{ {", ".join(_devices(config, each.name))} }} {_comes_from(config, each)} \
ct state new {begins}accept
"""
        for each in config.interfaces
        if each.name != config.sync
    ]
    verdict = "drop" if config.linux.drops_invalid else "accept"
    translation = ""
    if config.linux.redirect is not None:
        outside, inside = config.linux.redirect
        translation = f"""\
 chain translate {{
  type nat hook prerouting priority dstnat
  ip protocol tcp ip daddr {outside} dnat to {inside}
 }}
"""
    return f"""\
table ip lab {{
 counter {TRACKED} {{ }}
 counter {INVALID} {{ }}
 counter {FORWARDED} {{ }}
 chain before_tracking {{
  type filter hook prerouting priority -201
  meta mark {GROUP_MARK} counter name {TRACKED}
 }}
{translation} chain forward {{
  type filter hook forward priority 0; policy drop
  ct state invalid counter name {INVALID} {verdict}
  counter name {FORWARDED}
  ct state established,related accept
{"".join(sides)} }}
}}
"""


def _devices(config: model.Firewall, interface: str) -> list[str]:
    """By which frames of a side come: those for a virtual MAC have a device of their own."""
    return [interface, *(f"carp{carp.vhid}" for carp in config.carp if carp.interface == interface)]


def _comes_from(config: model.Firewall, interface: model.Interface) -> str:
    """The sources that are behind an interface: behind that to the gateway, what is behind no other."""
    own = ip_interface(interface.address).network
    if ip_address(config.gateway) not in own:
        return f"ip saddr {own}"
    others = [str(ip_interface(each.address).network) for each in config.interfaces if each is not interface]
    return f"ip saddr != {{ {', '.join(others)} }}"


_RESET_RULES = f"""\
table ip lab {{
 counter {RESETS} {{ }}
 chain out {{
  type filter hook output priority 0
  tcp flags & rst == rst counter name "{RESETS}"
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
