"""Which frames may pass on a host that is not MASTER, and are the rules that say so in place?

The rules stand in one table, ``netdev gimli``, at the first hook that a frame passes and at the last one,
before and behind everything that tracks, forwards or answers. They are written once. Nothing in them
changes with the role: each asks whether the interface's name is in the set ``lease_VHID``, whose elements
have a timeout. Being MASTER is being in the set; who does not renew its lease falls out of it and is, in the
kernel and without anybody's help, guarded and silent.

    frame in --> ingress_lan0 --- name in lease_1? -- no --> in_1: for the virtual MAC or address? drop
                              +--- name in lease_1? -- no --> group_lan0: group MAC, unicast IP? drop
    frame out -> egress_lan0 ---- name in lease_1? -- no --> out_1: from the virtual MAC or address? drop

``group_lan0`` is the guard proper: a switch floods frames for a group MAC to every port, and a standby
firewall that looks at them harms the connections of the active one (docs/pair.md). The others make
the lease a fence: a MASTER that hangs neither answers for the address nor teaches the switch its MAC.

This module makes the rules' text; ``readback.py`` compares what the kernel has with it. It touches nothing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any

from gimli.errors import UsageError
from gimli.pair.vhid import advertise_interval_s, master_down_interval_s

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FAMILY = "netdev"
TABLE = "gimli"

INGRESS_PRIORITY = -500
"""Before whatever else hooks ingress: flow tables, other people's filters."""

EGRESS_PRIORITY = 500
"""Behind whatever else hooks egress: what it makes of a frame is looked at too."""

_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
CARP = 112
_GROUP_BIT = "01:00:00:00:00:00"
_ALWAYS_MULTICAST = ("224.0.0.0/4", "255.255.255.255")


@dataclass(frozen=True, slots=True)
class Vhid:
    """What belongs to whoever is MASTER of one vhid.

    Args:
        vhid: 1 to 255.
        interface: where its address is.
        addresses: without prefix length, IPv4 and IPv6.
        mac: its virtual MAC; empty when the address is on the interface's own MAC.
    """

    vhid: int
    interface: str
    addresses: tuple[str, ...]
    mac: str = ""


@dataclass(frozen=True, slots=True)
class Guarded:
    """An interface that is guarded against group MACs.

    Args:
        interface: its name.
        subnets: of this interface and of every VLAN on it, such as ``192.0.2.0/24``; their broadcast
            addresses are ours to hear in any role.
    """

    interface: str
    subnets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Guard:
    """What the rules are made from.

    Args:
        vhids: the first one leads: its lease also lifts the guard from the guarded interfaces.
        guarded: the interfaces of ``[guard]``.
        egress: whether this kernel has the hook (Linux 5.16).
    """

    vhids: tuple[Vhid, ...]
    guarded: tuple[Guarded, ...] = ()
    egress: bool = True

    def __post_init__(self) -> None:
        for name in (*(vhid.interface for vhid in self.vhids), *(each.interface for each in self.guarded)):
            if not _INTERFACE.fullmatch(name):
                raise UsageError(
                    f"cannot guard the interface {name!r}",
                    why="nft takes letters, digits, '_', '.' and '-' in the names of our chains",
                    fix="rename it: ip link set dev OLD name NEW",
                )


@dataclass(frozen=True, slots=True)
class Lease:
    """Which elements, together, are the mastership of one vhid.

    Args:
        set_name: the set in the kernel.
        interfaces: the elements.
    """

    set_name: str
    interfaces: tuple[str, ...]


def lease_set(vhid: int) -> str:
    """The name of a vhid's set."""
    return f"lease_{vhid}"


def lease_of(guard: Guard, vhid: int) -> Lease:
    """The lease of one vhid; the leading one's has the guarded interfaces in it too."""
    position, found = next((at, each) for at, each in enumerate(guard.vhids) if each.vhid == vhid)
    others = (each.interface for each in guard.guarded) if position == 0 else ()
    return Lease(lease_set(vhid), tuple(dict.fromkeys((found.interface, *others))))


LEASE_SHARE = 0.8
"""Of the peer's patience; the rest is for its clock, the frame's way, and what a takeover takes."""

JIFFY_S_MAX = 0.010
"""The kernel counts a timeout in jiffies, of 10 ms at HZ=100, the coarsest; it may end one early or late."""

LATE_S_MAX = 0.3
"""How late a timer may be, at most: more than a busy machine makes it."""


def lease_s(interval_s: float, dead_s: float) -> float:
    """For how long a lease goes on after an advertisement that went out, in whole milliseconds.

    The peer takes over ``dead_s`` after it has heard us last. The lease ends before that, a jiffy at least:
    between the two nobody answers, and there is no time in which both do. That is so for a daemon that
    hangs or dies. It is no cure for a network that parts: advertisements that are lost on their way keep
    the lease going and the peer waiting for nothing (decision 11 has how they are sent by every way).

    It must also outlast the wait for the next renewal, by half an interval for a late timer and by a jiffy. A
    timer is not later for a longer interval: every advskew is allowed with an advbase from 1 on.

    Args:
        interval_s: between two of our advertisements.
        dead_s: after how long a silence the most eager peer takes over.

    Raises:
        UsageError: there is no such time.
    """
    length_s = math.floor(min(LEASE_SHARE * dead_s, dead_s - JIFFY_S_MAX) * 1000) / 1000
    wanted_s = interval_s + min(interval_s / 2, LATE_S_MAX) + JIFFY_S_MAX
    if length_s < wanted_s:
        raise UsageError(
            f"advertisements every {interval_s * 1000:.0f} ms are too rare for a peer that waits "
            f"{dead_s * 1000:.0f} ms",
            why=f"a lease of {length_s * 1000:.0f} ms would lapse between two of them; it takes "
            f"{wanted_s * 1000:.0f} ms",
            fix="in the fast mode (advbase 0) give both nodes an advskew of 4 or more; else advbase 1",
        )
    return length_s


def lease_length_s(advbase_s: int, advskew: int) -> float:
    """How long the fence stays open after an advertisement: less than the most eager peer waits.

    Args:
        advbase_s: whole seconds between two advertisements, the same at both nodes.
        advskew: 1/256 s more at this one; the peer may have none.

    Raises:
        UsageError: with these settings there is no such time.
    """
    handicap = advskew if advbase_s == 0 else 0
    return lease_s(advertise_interval_s(advbase_s, advskew), master_down_interval_s(advbase_s, handicap))


# ---- the rules -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Match:
    """One comparison of a rule: as nft reads it, and as its JSON tells it."""

    text: str
    left: Any
    operator: str
    right: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """Matches, and what becomes of a frame that fits them all."""

    matches: tuple[Match, ...]
    counter: str = ""
    jump: str = ""

    def __str__(self) -> str:
        verdict = f"jump {self.jump}" if self.jump else f'counter name "{self.counter}" drop'
        return " ".join((*(match.text for match in self.matches), verdict))


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain; with a hook when it has a device."""

    name: str
    rules: tuple[Rule, ...]
    hook: str = ""
    device: str = ""

    @property
    def priority(self) -> int:
        """The place among the other chains of its hook."""
        return INGRESS_PRIORITY if self.hook == "ingress" else EGRESS_PRIORITY


def _payload(protocol: str, field: str, operator: str, values: Iterable[str]) -> Match:
    values = tuple(values)
    left = {"payload": {"protocol": protocol, "field": field}}
    return _match(f"{protocol} {field}", left, operator, values)


def _raw(base: str, offset: int, bits: int, values: Iterable[int]) -> Match:
    left = {"payload": {"base": base, "offset": offset, "len": bits}}
    return _match(f"@{base},{offset},{bits}", left, "==", tuple(hex(value) for value in values))


def _match(text: str, left: Any, operator: str, values: tuple[str, ...]) -> Match:
    right = values[0] if len(values) == 1 else f"{{ {', '.join(values)} }}"
    shown = "" if operator == "==" else f"{operator} "
    return Match(f"{text} {shown}{right}", left, operator, values)


def _without_lease(direction: str, vhid: int) -> Match:
    name = "iifname" if direction == "ingress" else "oifname"
    return _match(name, {"meta": {"key": name}}, "!=", (f"@{lease_set(vhid)}",))


def _families(vhid: Vhid) -> tuple[tuple[str, ...], tuple[str, ...]]:
    addresses = [ip_address(address) for address in vhid.addresses]
    return (
        tuple(str(address) for address in addresses if address.version == 4),
        tuple(str(address) for address in addresses if address.version == 6),
    )


def _in_chain(vhid: Vhid) -> Chain:
    """Frames for the vhid: none reaches a host that is not its MASTER, least of all its ARP."""
    counter = f"dropped_in_{vhid.vhid}"
    ipv4, ipv6 = _families(vhid)
    matches: list[tuple[Match, ...]] = []
    if vhid.mac:
        matches.append((_payload("ether", "daddr", "==", (vhid.mac,)),))
    if ipv4:
        matches.append((_payload("arp", "daddr ip", "==", ipv4),))
        matches.append((_payload("ip", "daddr", "==", ipv4),))
    if ipv6:
        matches.append((_payload("ip6", "daddr", "==", ipv6),))
        solicit = _payload("icmpv6", "type", "==", ("nd-neighbor-solicit",))
        # The target stands 8 bytes into the message; nft 1.0.6 has no word for it yet.
        matches.append((solicit, _raw("th", 64, 128, (int(ip_address(address)) for address in ipv6))))
    return Chain(f"in_{vhid.vhid}", tuple(Rule(each, counter) for each in matches))


def _out_chain(vhid: Vhid) -> Chain:
    """Frames of the vhid: advertisements, announcements, whatever a hung host's kernel goes on sending."""
    counter = f"dropped_out_{vhid.vhid}"
    ipv4, ipv6 = _families(vhid)
    carp = _match("meta l4proto", {"meta": {"key": "l4proto"}}, "==", (str(CARP),))
    matches: list[tuple[Match, ...]] = [(carp, _raw("th", 8, 8, (vhid.vhid,)))]
    if vhid.mac:
        matches.append((_payload("ether", "saddr", "==", (vhid.mac,)),))
    if ipv4:
        matches.append((_payload("arp", "saddr ip", "==", ipv4),))
        matches.append((_payload("ip", "saddr", "==", ipv4),))
    if ipv6:
        matches.append((_payload("ip6", "saddr", "==", ipv6),))
    return Chain(f"out_{vhid.vhid}", tuple(Rule(each, counter) for each in matches))


def _group_chain(guarded: Guarded) -> Chain:
    """Frames for a group MAC whose IP destination is neither a group nor everybody: another node's."""
    counter = f"dropped_group_{guarded.interface}"
    networks = (ip_network(subnet, strict=False) for subnet in guarded.subnets)
    broadcasts = sorted(
        {
            str(each.broadcast_address)
            for each in networks
            if isinstance(each, IPv4Network) and each.prefixlen < 31
        }
    )
    address = {"payload": {"protocol": "ether", "field": "daddr"}}
    group = _match(f"ether daddr & {_GROUP_BIT} ==", {"&": [address, _GROUP_BIT]}, "==", (_GROUP_BIT,))
    return Chain(
        f"group_{guarded.interface}",
        (
            Rule((group, _payload("ip", "daddr", "!=", (*_ALWAYS_MULTICAST, *broadcasts))), counter),
            Rule((group, _payload("ip6", "daddr", "!=", ("ff00::/8",))), counter),
        ),
    )


def chains_of(guard: Guard) -> Iterator[Chain]:
    """The chains of the table; one that another jumps to comes first."""
    for vhid in guard.vhids:
        yield _in_chain(vhid)
        if guard.egress:
            yield _out_chain(vhid)
    for guarded in guard.guarded:
        yield _group_chain(guarded)
    for device in _devices(guard):
        mine = [vhid.vhid for vhid in guard.vhids if vhid.interface == device]
        rules = [Rule((_without_lease("ingress", vhid),), jump=f"in_{vhid}") for vhid in mine]
        if any(each.interface == device for each in guard.guarded):
            leading = guard.vhids[0].vhid
            rules.append(Rule((_without_lease("ingress", leading),), jump=f"group_{device}"))
        yield Chain(f"ingress_{device}", tuple(rules), "ingress", device)
        if guard.egress and mine:
            out = tuple(Rule((_without_lease("egress", vhid),), jump=f"out_{vhid}") for vhid in mine)
            yield Chain(f"egress_{device}", out, "egress", device)


def _devices(guard: Guard) -> tuple[str, ...]:
    names = [vhid.interface for vhid in guard.vhids] + [each.interface for each in guard.guarded]
    return tuple(dict.fromkeys(names))


def counters_of(chains: Iterable[Chain]) -> tuple[str, ...]:
    """The names of the counters that the rules use.

    ``dropped_group_INTERFACE``: frames for group MACs with another node's unicast IP. ``dropped_in_VHID``
    and ``dropped_out_VHID``: frames for and of a vhid that this host was not MASTER of.
    """
    return tuple(dict.fromkeys(rule.counter for chain in chains for rule in chain.rules if rule.counter))


def ruleset(guard: Guard, *, fresh: bool = True) -> str:
    """The table as ``nft -f`` reads it, one transaction.

    Args:
        guard: what to guard.
        fresh: begin with an empty table, and so without any lease. Else what is missing is added and
            every chain's rules are written again, while leases and counters stay: a repair.
    """
    table = f"{FAMILY} {TABLE}"
    chains = tuple(chains_of(guard))
    lines = [f"add table {table}"]
    if fresh:
        lines += [f"delete table {table}", f"add table {table}"]
    lines += [f"add counter {table} {name}" for name in counters_of(chains)]
    lines += [
        f"add set {table} {lease_set(vhid.vhid)} {{ type ifname; flags timeout; }}" for vhid in guard.vhids
    ]
    for chain in chains:
        hook = f' {{ type filter hook {chain.hook} device "{chain.device}" priority {chain.priority}; }}'
        lines += [
            f"add chain {table} {chain.name}{hook if chain.hook else ''}",
            f"flush chain {table} {chain.name}",
        ]
    lines += [f"add rule {table} {chain.name} {rule}" for chain in chains for rule in chain.rules]
    return "\n".join(lines) + "\n"
