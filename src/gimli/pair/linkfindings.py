"""What is wrong with a link: with its switch, and with who else speaks and answers on it?

Judged from what ``traffic.py`` has seen. Nothing is looked at here.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from gimli.pair.config import Mac
from gimli.pair.finding import Finding, Severity
from gimli.pair.packet import PacketRefused, parse_advertisement, virtual_mac

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from gimli.pair.authenticator import Authenticator
    from gimli.pair.config import Carp, Pair
    from gimli.pair.finding import Interface
    from gimli.pair.packet import Heard
    from gimli.pair.traffic import Traffic

IGMP_QUERY_INTERVAL_S = 125
"""How often a querier asks (RFC 3376 section 8.2). Who has listened for less has not missed it."""

_FLOODED_MIN = 5
"""Frames for one foreign MAC; a switch that is still learning lets a few through."""


def judge_switch(traffic: Traffic, pair: Pair, interface: Interface) -> Iterator[Finding]:
    """What a link's frames say about its switch."""
    name = traffic.interface
    if traffic.grouped:
        yield _flooded_groups(traffic, is_guarded=pair.guard.is_on and name in pair.guard.interfaces)
    ours = {virtual_mac(carp.vhid).hex(":"): carp for carp in pair.carp if carp.interface == name}
    for mac in [mac for mac in traffic.foreign if mac in ours]:
        yield _flooded_virtual_mac(traffic, mac, ours[mac])
    others = {
        mac: count for mac, count in traffic.foreign.items() if mac not in ours and count >= _FLOODED_MIN
    }
    if others:
        yield _flooded_unicast(name, others)
    if not traffic.igmp_queriers and interface.groups:
        yield _no_querier(traffic, interface)
    if traffic.unseen:
        yield Finding(
            Severity.NOTE,
            name,
            f"{traffic.unseen} of {traffic.unseen + traffic.frames} frames were not looked at",
            "more came than this check can read: what it has not seen it cannot tell",
            "run it again when there is less traffic",
        )


def _flooded_groups(traffic: Traffic, *, is_guarded: bool) -> Finding:
    (mac, address), _ = traffic.grouped.most_common(1)[0]
    here = "the guard drops them here" if is_guarded else "no guard drops them here"
    name_it = "" if is_guarded else f'name "{traffic.interface}" in [guard] interfaces of pair.toml; '
    return Finding(
        Severity.WARNING if is_guarded else Severity.ERROR,
        traffic.interface,
        f"{traffic.grouped.total()} frames in {traffic.seconds:.0f} s came to a group MAC, most of them to "
        f"{mac}, with the IP address of one host, {address}",
        "the switch floods what is for hosts that share a MAC to every port: a standby firewall that "
        f"tracks these frames breaks the active one's connections; {here}",
        f"{name_it}on the switch: IGMP snooping with a querier, or static entries for that MAC at the ports "
        "of its hosts",
    )


def _flooded_virtual_mac(traffic: Traffic, mac: str, carp: Carp) -> Finding:
    return Finding(
        Severity.WARNING,
        traffic.interface,
        f"{traffic.foreign[mac]} frames for the MASTER of vhid {carp.vhid}, to {mac}, came here too",
        "the switch does not know behind which port the virtual MAC is, and floods what is for it",
        'let advertisements come from that MAC (mac = "virtual" at both nodes, no peers), and see that the '
        "switch learns MACs on this VLAN",
    )


def _flooded_unicast(interface: str, counts: Mapping[str, int]) -> Finding:
    mac = max(counts, key=lambda each: counts[each])
    return Finding(
        Severity.WARNING,
        interface,
        f"{sum(counts.values())} frames for other hosts ({len(counts)}) came here, most of them for {mac}",
        "the switch does not know where these hosts are, or copies other ports' traffic to this one",
        "see that its table of MACs is not full, that hosts send from the MAC they answer for, and that "
        "this port is no mirror",
    )


def _no_querier(traffic: Traffic, interface: Interface) -> Finding:
    has_waited = traffic.seconds > IGMP_QUERY_INTERVAL_S
    return Finding(
        Severity.WARNING if has_waited else Severity.NOTE,
        traffic.interface,
        f"no IGMP query in {traffic.seconds:.0f} s, and this host has joined {', '.join(interface.groups)}",
        "a switch that snoops, and hears no querier ask who listens, forgets it after some minutes: group "
        "frames then reach nobody, or everybody",
        "switch on a querier on the switch or the router"
        if has_waited
        else f"a querier asks every {IGMP_QUERY_INTERVAL_S} s: check for longer than that to be sure",
    )


# ---- who else speaks ---------------------------------------------------------------------------------------


def judge_speakers(
    traffic: Traffic, pair: Pair, authenticators: Mapping[int, Authenticator], held: Collection[int]
) -> Iterator[Finding]:
    """Who else uses our vhids, or our virtual MACs.

    Args:
        traffic: of one interface.
        pair: what was configured.
        authenticators: by vhid.
        held: the vhids that this host is MASTER of.
    """
    here = {carp.vhid for carp in pair.carp if carp.interface == traffic.interface}
    masters: dict[int, list[str]] = {}
    findings: dict[tuple[str, int], Finding] = {}
    for mac, packet in traffic.advertisements:
        try:
            heard = parse_advertisement(packet)
        except PacketRefused:
            for vhid in here:
                if virtual_mac(vhid).hex(":") == mac:
                    findings[mac, vhid] = _shared_mac(traffic.interface, mac, vhid)
            continue
        vhid = heard.advertisement.vhid
        if vhid not in here:
            continue
        try:
            authenticators[vhid].verify(heard.advertisement)
        except PacketRefused as refused:
            findings[str(heard.source), vhid] = _strangers_vhid(traffic.interface, heard, refused)
        else:
            masters.setdefault(vhid, []).append(str(heard.source))
    yield from findings.values()
    for vhid, sources in masters.items():
        if _take_turns(sources) or (vhid in held and len(sources) > 1):
            yield _two_masters(traffic.interface, vhid, sources, is_one=vhid in held)


def _take_turns(sources: list[str]) -> bool:
    """Whether two nodes advertise, and not one after the other has ceased to."""
    for family in ([each for each in sources if ":" in each], [each for each in sources if ":" not in each]):
        changes = sum(before != after for before, after in pairwise(family))
        if changes > 1:
            return True
    return False


def _two_masters(interface: str, vhid: int, sources: list[str], *, is_one: bool) -> Finding:
    names = [*(["this host"] if is_one else []), *sorted(set(sources))]
    return Finding(
        Severity.ERROR,
        interface,
        f"vhid {vhid} has more than one MASTER: {', '.join(names)}",
        "both answer for its addresses, and neither hears the other",
        "see that multicast to 224.0.0.18 (IPv6: ff02::12) reaches every node, or name the nodes as peers",
    )


def _shared_mac(interface: str, mac: str, vhid: int) -> Finding:
    return Finding(
        Severity.ERROR,
        interface,
        f"somebody sends VRRP, or malformed CARP, from {mac}, the virtual MAC of vhid {vhid}",
        "two pairs with one MAC take each other's frames; VRRP makes its MACs as CARP does",
        "give one of them another number",
    )


def _strangers_vhid(interface: str, heard: Heard, refused: PacketRefused) -> Finding:
    return Finding(
        Severity.ERROR,
        interface,
        f"{heard.source} advertises vhid {heard.advertisement.vhid} and is not believed: {refused}",
        "it is another pair with our number, and then with our virtual MAC, or a peer that is set up "
        "otherwise: then both nodes will be MASTER",
        refused.fix or "give every pair on the link a vhid of its own",
    )


# ---- who answers -------------------------------------------------------------------------------------------


def judge_holders(traffic: Traffic, pair: Pair, own: Mapping[str, str]) -> Iterator[Finding]:
    """Who answers for the virtual addresses.

    Args:
        traffic: of one interface.
        pair: what was configured.
        own: the virtual addresses that this host has, each with the MAC that answers for it.
    """
    for carp in pair.carp:
        if carp.interface != traffic.interface:
            continue
        for address in (str(each.ip) for each in carp.addresses):
            macs = traffic.holders.get(address, set()) | ({own[address]} if address in own else set())
            if len(macs) > 1:
                yield _two_holders(traffic.interface, address, sorted(macs))
            elif macs and carp.mac is Mac.VIRTUAL and virtual_mac(carp.vhid).hex(":") not in macs:
                yield _unvirtual_holder(traffic.interface, address, macs.pop(), carp.vhid)


def _two_holders(interface: str, address: str, macs: list[str]) -> Finding:
    return Finding(
        Severity.ERROR,
        interface,
        f"{address} is held by more than one: {', '.join(macs)}",
        "each neighbour reaches the one that it has heard last",
        "find the host with the other MAC; in the seconds of a takeover this is no fault",
    )


def _unvirtual_holder(interface: str, address: str, mac: str, vhid: int) -> Finding:
    return Finding(
        Severity.WARNING,
        interface,
        f"{address} is held by {mac}, which is not the virtual MAC of vhid {vhid}",
        "at a takeover every neighbour has to learn another MAC; who does not is cut off for minutes",
        'give both nodes the same: mac = "virtual" or mac = "real"; ucarp has the interface\'s own only',
    )
