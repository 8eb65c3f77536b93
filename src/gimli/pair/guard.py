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

This module makes the rules' text and compares what ``nft -j list`` says with it. It touches nothing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any

from gimli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FAMILY = "netdev"
TABLE = "gimli"

INGRESS_PRIORITY = -500
"""Before whatever else hooks ingress: flow tables, other people's filters."""

EGRESS_PRIORITY = 500
"""Behind whatever else hooks egress: what it makes of a frame is looked at too."""

_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_CARP = 112
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


@dataclass(frozen=True, slots=True)
class Count:
    """What a counter has seen."""

    packets: int
    bytes: int


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
"""The kernel counts a timeout in whole jiffies (10 ms at HZ=100, the coarsest), and begins within one."""


def lease_s(interval_s: float, dead_s: float) -> float:
    """For how long one renewal may hold, in whole milliseconds.

    The lease is renewed right **before** each advertisement. So it ends ``lease_s`` after a moment that is
    earlier than the peer's hearing of us, and the peer takes over ``dead_s`` after that: between the two
    there is a time in which nobody answers, and never one in which both do. (Renewed after the
    advertisement, a daemon that is stopped between the two would hold on for longer than its peer waits.)

    It must also outlast the wait for the next renewal, by half an interval for a late timer and by a jiffy.

    Args:
        interval_s: between two of our advertisements.
        dead_s: after how long a silence the most eager peer takes over.

    Raises:
        UsageError: there is no such time.
    """
    length_s = math.floor(LEASE_SHARE * dead_s * 1000) / 1000
    wanted_s = 1.5 * interval_s + JIFFY_S_MAX
    if length_s < wanted_s:
        raise UsageError(
            f"advertisements every {interval_s * 1000:.0f} ms are too rare for a peer that waits "
            f"{dead_s * 1000:.0f} ms",
            why=f"a lease of {length_s * 1000:.0f} ms would lapse between two of them; it takes "
            f"{wanted_s * 1000:.0f} ms",
            fix="give the node a smaller advskew, or both nodes a larger advbase",
        )
    return length_s


# ---- the rules -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Match:
    """One comparison of a rule: as nft reads it, and as its JSON tells it."""

    text: str
    left: Any
    operator: str
    right: frozenset[Any]


@dataclass(frozen=True, slots=True)
class _Rule:
    """Matches, and what becomes of a frame that fits them all."""

    matches: tuple[_Match, ...]
    counter: str = ""
    jump: str = ""

    def __str__(self) -> str:
        verdict = f"jump {self.jump}" if self.jump else f'counter name "{self.counter}" drop'
        return " ".join((*(match.text for match in self.matches), verdict))


@dataclass(frozen=True, slots=True)
class _Chain:
    """A chain; with a hook when it has a device."""

    name: str
    rules: tuple[_Rule, ...]
    hook: str = ""
    device: str = ""

    @property
    def priority(self) -> int:
        return INGRESS_PRIORITY if self.hook == "ingress" else EGRESS_PRIORITY


def _payload(protocol: str, field: str, operator: str, values: Iterable[str]) -> _Match:
    values = tuple(values)
    left = {"payload": {"protocol": protocol, "field": field}}
    return _match(f"{protocol} {field}", left, operator, values)


def _raw(base: str, offset: int, bits: int, values: Iterable[int]) -> _Match:
    left = {"payload": {"base": base, "offset": offset, "len": bits}}
    return _match(f"@{base},{offset},{bits}", left, "==", tuple(hex(value) for value in values))


def _match(text: str, left: Any, operator: str, values: tuple[str, ...]) -> _Match:
    right = values[0] if len(values) == 1 else f"{{ {', '.join(values)} }}"
    shown = "" if operator == "==" else f"{operator} "
    return _Match(f"{text} {shown}{right}", left, operator, frozenset(_canonical(value) for value in values))


def _without_lease(direction: str, vhid: int) -> _Match:
    name = "iifname" if direction == "ingress" else "oifname"
    return _match(name, {"meta": {"key": name}}, "!=", (f"@{lease_set(vhid)}",))


def _families(vhid: Vhid) -> tuple[tuple[str, ...], tuple[str, ...]]:
    addresses = [ip_address(address) for address in vhid.addresses]
    return (
        tuple(str(address) for address in addresses if address.version == 4),
        tuple(str(address) for address in addresses if address.version == 6),
    )


def _in_chain(vhid: Vhid) -> _Chain:
    """Frames for the vhid: none reaches a host that is not its MASTER, least of all its ARP."""
    counter = f"dropped_in_{vhid.vhid}"
    ipv4, ipv6 = _families(vhid)
    matches: list[tuple[_Match, ...]] = []
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
    return _Chain(f"in_{vhid.vhid}", tuple(_Rule(each, counter) for each in matches))


def _out_chain(vhid: Vhid) -> _Chain:
    """Frames of the vhid: advertisements, announcements, whatever a hung host's kernel goes on sending."""
    counter = f"dropped_out_{vhid.vhid}"
    ipv4, ipv6 = _families(vhid)
    carp = _match("meta l4proto", {"meta": {"key": "l4proto"}}, "==", (str(_CARP),))
    matches: list[tuple[_Match, ...]] = [(carp, _raw("th", 8, 8, (vhid.vhid,)))]
    if vhid.mac:
        matches.append((_payload("ether", "saddr", "==", (vhid.mac,)),))
    if ipv4:
        matches.append((_payload("arp", "saddr ip", "==", ipv4),))
        matches.append((_payload("ip", "saddr", "==", ipv4),))
    if ipv6:
        matches.append((_payload("ip6", "saddr", "==", ipv6),))
    return _Chain(f"out_{vhid.vhid}", tuple(_Rule(each, counter) for each in matches))


def _group_chain(guarded: Guarded) -> _Chain:
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
    return _Chain(
        f"group_{guarded.interface}",
        (
            _Rule((group, _payload("ip", "daddr", "!=", (*_ALWAYS_MULTICAST, *broadcasts))), counter),
            _Rule((group, _payload("ip6", "daddr", "!=", ("ff00::/8",))), counter),
        ),
    )


def _chains(guard: Guard) -> Iterator[_Chain]:
    for vhid in guard.vhids:
        yield _in_chain(vhid)
        if guard.egress:
            yield _out_chain(vhid)
    for guarded in guard.guarded:
        yield _group_chain(guarded)
    for device in _devices(guard):
        mine = [vhid.vhid for vhid in guard.vhids if vhid.interface == device]
        rules = [_Rule((_without_lease("ingress", vhid),), jump=f"in_{vhid}") for vhid in mine]
        if any(each.interface == device for each in guard.guarded):
            leading = guard.vhids[0].vhid
            rules.append(_Rule((_without_lease("ingress", leading),), jump=f"group_{device}"))
        yield _Chain(f"ingress_{device}", tuple(rules), "ingress", device)
        if guard.egress and mine:
            out = tuple(_Rule((_without_lease("egress", vhid),), jump=f"out_{vhid}") for vhid in mine)
            yield _Chain(f"egress_{device}", out, "egress", device)


def _devices(guard: Guard) -> tuple[str, ...]:
    names = [vhid.interface for vhid in guard.vhids] + [each.interface for each in guard.guarded]
    return tuple(dict.fromkeys(names))


def _counters(chains: Iterable[_Chain]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(rule.counter for chain in chains for rule in chain.rules if rule.counter))


def ruleset(guard: Guard, *, fresh: bool = True) -> str:
    """The table as ``nft -f`` reads it, one transaction.

    Args:
        guard: what to guard.
        fresh: begin with an empty table, and so without any lease. Else what is missing is added and
            every chain's rules are written again, while leases and counters stay: a repair.
    """
    table = f"{FAMILY} {TABLE}"
    chains = tuple(_chains(guard))
    lines = [f"add table {table}"]
    if fresh:
        lines += [f"delete table {table}", f"add table {table}"]
    lines += [f"add counter {table} {name}" for name in _counters(chains)]
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


# ---- reading back --------------------------------------------------------------------------------------


def verify(listing: Mapping[str, Any] | None, guard: Guard) -> tuple[str, ...]:
    """In which respects the kernel's table is not the wanted one, in words; none when it is.

    Args:
        listing: what ``nft -j list table netdev gimli`` has said, each chain's ``dev`` filled in; None
            when there is no such table.
        guard: what is to be guarded.
    """
    parts = tuple(listing["nftables"]) if listing else ()
    tables = [part["table"] for part in parts if "table" in part]
    if not tables:
        return (f"there is no table {FAMILY} {TABLE}",)
    chains = tuple(_chains(guard))
    return (
        *(f"the table is {tables[0]['flags']}: no rule of it acts" for _ in tables if tables[0].get("flags")),
        *_strangers(parts, chains, guard),
        *_set_differences([part["set"] for part in parts if "set" in part], guard),
        *(difference for chain in chains for difference in _chain_differences(parts, chain)),
    )


def _strangers(parts: Iterable[Mapping[str, Any]], chains: tuple[_Chain, ...], guard: Guard) -> Iterator[str]:
    wanted = {
        "metainfo": None,
        "table": {TABLE},
        "rule": None,  # judged chain by chain
        "set": {lease_set(vhid.vhid) for vhid in guard.vhids},
        "counter": set(_counters(chains)),
        "chain": {chain.name for chain in chains},
    }
    for part in parts:
        for kind, body in part.items():
            names = wanted.get(kind, set())
            if names is not None and body["name"] not in names:
                yield f"{kind} {body['name']} is not ours"
    there = {body["name"] for part in parts for kind, body in part.items() if kind == "counter"}
    yield from (f"counter {name} is missing" for name in _counters(chains) if name not in there)


def _set_differences(sets: Iterable[Mapping[str, Any]], guard: Guard) -> Iterator[str]:
    there = {body["name"]: body for body in sets}
    for vhid in guard.vhids:
        lease = lease_of(guard, vhid.vhid)
        body = there.get(lease.set_name)
        if body is None:
            yield f"set {lease.set_name} is missing"
            continue
        kind = (body.get("type"), body.get("flags"), body.get("timeout"), body.get("map"))
        if kind != ("ifname", ["timeout"], None, None):
            yield f"set {lease.set_name} is not a plain set of interface names with timeouts"
        for element in body.get("elem", ()):
            name, timeout = (
                (element["elem"]["val"], element["elem"].get("timeout"))
                if isinstance(element, dict)
                else (element, None)
            )
            if timeout is None:
                yield f"{name} is in set {lease.set_name} without a timeout: it would never lapse"
            elif name not in lease.interfaces:
                yield f"{name} is in set {lease.set_name} and does not belong there"


def _chain_differences(parts: Iterable[Mapping[str, Any]], chain: _Chain) -> Iterator[str]:
    parts = tuple(parts)
    body = next((part["chain"] for part in parts if part.get("chain", {}).get("name") == chain.name), None)
    if body is None:
        yield f"chain {chain.name} is missing"
        return
    hook = tuple(body.get(key) for key in ("type", "hook", "dev", "prio", "policy"))
    wanted_hook = (
        ("filter", chain.hook, chain.device, chain.priority, "accept") if chain.hook else (None,) * 5
    )
    if hook != wanted_hook:
        yield f"chain {chain.name} is {_hook_words(hook)}, not {_hook_words(wanted_hook)}"
    there = [
        _canonical_rule(part["rule"]) for part in parts if part.get("rule", {}).get("chain") == chain.name
    ]
    wanted = [_wanted_rule(rule) for rule in chain.rules]
    for rule, form in zip(chain.rules, wanted, strict=True):
        if form not in there:
            yield f"chain {chain.name} has lost the rule: {rule}"
    strangers = sum(form not in wanted for form in there)
    if strangers:
        yield f"chain {chain.name} has {strangers} rule{'s' * (strangers > 1)} that are not ours"
    elif sorted(map(repr, there)) == sorted(map(repr, wanted)) and there != wanted:
        yield f"chain {chain.name} has its rules in another order"
    elif len(there) > len(set(map(repr, there))):
        yield f"chain {chain.name} has a rule twice"


def _hook_words(hook: tuple[Any, ...]) -> str:
    kind, place, device, priority, policy = hook
    if place is None:
        return "without a hook"
    return f"a {kind} at {place} of {device}, priority {priority}, policy {policy}"


def _wanted_rule(rule: _Rule) -> tuple[Any, ...]:
    matches = tuple((repr(match.left), match.operator, match.right) for match in rule.matches)
    verdict = (("jump", rule.jump),) if rule.jump else (("counter", rule.counter), ("drop", None))
    return (*matches, *verdict)


def _canonical_rule(rule: Mapping[str, Any]) -> tuple[Any, ...]:
    """A rule as :func:`_wanted_rule` makes it; what is not known there stays as it is, and differs."""
    return tuple(_canonical_statement(statement) for statement in rule.get("expr", ()))


def _canonical_statement(statement: Mapping[str, Any]) -> tuple[Any, ...]:
    match statement:
        case {"match": {"op": operator, "left": left, "right": right}}:
            values = right["set"] if isinstance(right, dict) and "set" in right else [right]
            return repr(left), operator, frozenset(_canonical(value) for value in values)
        case {"jump": {"target": target}}:
            return "jump", target
        case {"counter": str(name)}:
            return "counter", name
        case {"drop": None}:
            return "drop", None
    return ("unknown", repr(statement))


def _canonical(value: Any) -> Any:
    """One spelling for a value that nft may spell in several ways."""
    match value:
        case {"prefix": {"addr": str(address), "len": int(length)}}:
            return f"{address}/{length}"
        case "vrrp" | "carp":  # what protocol 112 is called depends on /etc/protocols
            return _CARP
        case str() if re.fullmatch(r"0x[0-9a-f]+|[0-9]+", value):
            return int(value, 0)
        case str() | int():
            return value
    return repr(value)


def counts(listing: Mapping[str, Any]) -> dict[str, Count]:
    """What each counter has seen, by name.

    ``dropped_group_INTERFACE``: frames for group MACs with another node's unicast IP. ``dropped_in_VHID``
    and ``dropped_out_VHID``: frames for and of a vhid that this host was not MASTER of.
    """
    return {
        part["counter"]["name"]: Count(part["counter"]["packets"], part["counter"]["bytes"])
        for part in listing["nftables"]
        if "counter" in part
    }
