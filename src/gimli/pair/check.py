"""Is this host, and its switch, fit for a pair?

Gathers facts: it listens to everything on the pair's interfaces for some seconds, reads the kernel's
settings and the guard's rules back, and asks, where it is told to, who has the virtual addresses. It changes
nothing but that its interfaces hear what is for others (promiscuous mode) for that time. What the facts mean
is judged elsewhere: ``linkfindings.py``, ``hostfindings.py``.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from ipaddress import IPv4Address, IPv4Interface
from typing import TYPE_CHECKING

from gimli import paths
from gimli.errors import GimliError
from gimli.pair import bpf, ethtool, netlink, nft, wire
from gimli.pair import settings as kernel_settings
from gimli.pair.address import AddressRefused
from gimli.pair.authenticator import Authenticator
from gimli.pair.config import Mac
from gimli.pair.finding import Finding, Interface, Severity
from gimli.pair.host import wanted_guard
from gimli.pair.hostfindings import judge_devices, judge_guard, judge_interface, judge_tracking
from gimli.pair.linkfindings import judge_holders, judge_speakers, judge_switch
from gimli.pair.links import LOWER_UP, UP, Links
from gimli.pair.probe import question
from gimli.pair.readback import verify
from gimli.pair.traffic import FRAME_BYTES, Traffic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gimli.pair.config import Carp, Pair
    from gimli.pair.links import Link

_SOL_PACKET = 263
_ADD_MEMBERSHIP, _MR_PROMISCUOUS = 1, 1
_STATISTICS = 6
_IGNORE_OUTGOING = 23
_ETH_P_ALL = 3
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 8 << 20
_HOST = 0  # PACKET_HOST: for our MAC

# Everything for others and for groups; of what is for us, only who speaks CARP or has an address.
_INTERESTING: bpf.Program = (
    (bpf.LOAD_BYTE, 0, 0, bpf.VLAN_TAG_PRESENT),
    (bpf.JUMP_EQUAL, 0, 10, 0),
    (bpf.LOAD_BYTE, 0, 0, bpf.PACKET_TYPE),
    (bpf.JUMP_EQUAL, 0, 9, _HOST),
    (bpf.LOAD_HALF, 0, 0, 12),
    (bpf.JUMP_EQUAL, 7, 0, 0x0806),
    (bpf.JUMP_EQUAL, 3, 0, 0x0800),
    (bpf.JUMP_EQUAL, 0, 4, 0x86DD),
    (bpf.LOAD_BYTE, 0, 0, 20),
    (bpf.JUMP_EQUAL, 3, 1, 58),
    (bpf.LOAD_BYTE, 0, 0, 23),
    (bpf.JUMP_EQUAL, 1, 0, 112),
    (bpf.RETURN, 0, 0, 0),
    (bpf.RETURN, 0, 0, FRAME_BYTES),
)

_SETTINGS = ("rp_filter", "arp_ignore", "arp_announce")
_TRACKING = ("max", "count", "events", "tcp_loose")


def check(pair: Pair, *, seconds: float = 5.0, probe: bool = False) -> tuple[Finding, ...]:
    """What is wrong, the worst first.

    Args:
        pair: what pair.toml says.
        seconds: to listen. A switch's querier is heard for certain after 125.
        probe: ask the link who has the virtual addresses. No cache learns from that.

    Raises:
        GimliError: it takes root.
    """
    if os.geteuid() != 0:
        raise GimliError("cannot check", why="it takes root to listen to a link", fix="sudo gimli pair check")
    facts = _Facts(pair)
    try:
        traffics = _listen(facts, seconds, probe=probe)
        found = [*_judge_host(facts), *_judge_links(facts, traffics)]
    finally:
        facts.close()
    order = list(Severity)
    return tuple(sorted(found, key=lambda finding: order.index(finding.severity)))


class _Facts:
    """What the kernel says of this host.

    Args:
        pair: what pair.toml says.
    """

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self._links = Links()
        self.links = self._links.links()
        self.addresses = self._links.addresses()
        names = (*(carp.interface for carp in pair.carp), *pair.guard.interfaces)
        self.interfaces = tuple(self._interface(name) for name in dict.fromkeys(names))

    def close(self) -> None:
        """Ask no more."""
        self._links.close()

    def link(self, name: str) -> Link | None:
        """The link of that name."""
        return next((link for link in self.links if link.name == name), None)

    def on(self, name: str) -> tuple[Link, ...]:
        """A link and the macvlans on it that are up."""
        below = self.link(name)
        return tuple(
            link
            for link in self.links
            if below and (link == below or (link.parent == below.index and link.kind == "macvlan"))
            if link.flags & UP
        )

    def held(self) -> dict[int, dict[str, str]]:
        """The virtual addresses that this host has, with the MAC that answers for each, by vhid."""
        macs = {link.index: link.mac for link in self.links if link.flags & UP}
        there = {each.address.ip: macs[each.index] for each in self.addresses if each.index in macs}
        return {
            carp.vhid: {str(each.ip): there[each.ip] for each in carp.addresses}
            for carp in self.pair.carp
            if all(each.ip in there for each in carp.addresses)
        }

    def _interface(self, name: str) -> Interface:
        link = self.link(name)
        if link is None or not link.flags & UP or not link.flags & LOWER_UP:
            trouble = "it has no carrier" if link else "there is no such interface"
            return Interface(name, "it is switched off" if link and not link.flags & UP else trouble)
        masters = (each for each in self.links if each.index in {link.index, link.master})
        bridge = next((each for each in masters if each.kind == "bridge"), None)
        options = dict(netlink.contents(bridge.info)) if bridge else {}
        return Interface(
            name,
            bridge=bridge.name if bridge else "",
            is_port=bool(bridge and bridge.name != name),
            snooping=options.get(23, b"\0") != b"\0",  # IFLA_BR_MCAST_SNOOPING
            querier=options.get(25, b"\0") != b"\0",  # IFLA_BR_MCAST_QUERIER
            features=ethtool.features(name),
            has_xdp=link.has_xdp,
            groups=_joined(name),
        )


def _joined(interface: str) -> tuple[str, ...]:
    """The groups in /proc/net/igmp: a line for each interface, below it one for each group, backwards."""
    groups, is_ours = [], False
    with open("/proc/net/igmp", encoding="ascii") as file:
        for line in list(file)[1:]:
            words = line.split()
            if not line.startswith("\t"):
                is_ours = words[1] == interface
            elif is_ours:
                groups.append(IPv4Address(bytes.fromhex(words[0])[::-1]))
    return tuple(str(group) for group in groups if group.packed[:3] != b"\xe0\0\0")


# ---- listening ---------------------------------------------------------------------------------------


def _listen(facts: _Facts, seconds: float, *, probe: bool) -> list[Traffic]:
    """Hear everything on every interface that can be used."""
    with contextlib.ExitStack() as opened:
        sockets = {}
        for interface in facts.interfaces:
            if not interface.trouble:
                made = opened.enter_context(_promiscuous(interface.name))
                sockets[made] = _traffic(facts, interface.name)
        if probe:
            for carp in facts.pair.carp:
                _ask(facts, carp)
        began_s = time.monotonic()
        while (left_s := began_s + seconds - time.monotonic()) > 0:
            for ready in select.select(sockets, [], [], left_s)[0]:
                _read(ready, sockets[ready])
        for made, traffic in sockets.items():
            traffic.seconds = seconds
            _, traffic.unseen = struct.unpack("=II", made.getsockopt(_SOL_PACKET, _STATISTICS, 8))
        return list(sockets.values())


def _traffic(facts: _Facts, name: str) -> Traffic:
    devices = facts.on(name)
    here = [each.address for each in facts.addresses if each.index in {link.index for link in devices}]
    carps = [carp for carp in facts.pair.carp if carp.interface == name]
    wanted = [address for carp in carps for address in carp.addresses]
    networks = [each.network for each in [*here, *wanted] if isinstance(each, IPv4Interface)]
    return Traffic(
        name,
        own_macs=frozenset(bytes.fromhex(link.mac.replace(":", "")) for link in devices),
        broadcasts=frozenset(network.broadcast_address for network in networks),
        virtual=frozenset(str(address.ip) for address in wanted),
    )


def _promiscuous(interface: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    bpf.attach(made, _INTERESTING)
    made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    made.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
    # packet_mreq: index, type, length, address
    wish = struct.pack("=iHH8s", socket.if_nametoindex(interface), _MR_PROMISCUOUS, 0, b"")
    made.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, wish)
    made.bind((interface, _ETH_P_ALL))
    return made


def _read(ready: socket.socket, traffic: Traffic) -> None:
    for _ in range(1000):  # then the time is looked at again
        try:
            traffic.see(ready.recv(FRAME_BYTES))
        except BlockingIOError:
            return
        except OSError:
            return  # it has gone down meanwhile; the socket says so once


def _ask(facts: _Facts, carp: Carp) -> None:
    link = facts.link(carp.interface)
    if link is None or not link.flags & UP:
        return
    sender = wire.Sender(carp.interface)
    for address in carp.addresses:
        sender.send(question(address.ip, bytes.fromhex(link.mac.replace(":", ""))))
    sender.close()


# ---- judging -----------------------------------------------------------------------------------------


def _judge_links(facts: _Facts, traffics: Iterable[Traffic]) -> Iterator[Finding]:
    pair = facts.pair
    interfaces = {interface.name: interface for interface in facts.interfaces}
    authenticators = {
        carp.vhid: Authenticator(carp.password, carp.vhid, (each.ip for each in carp.addresses))
        for carp in pair.carp
    }
    held = facts.held()
    own = {address: mac for macs in held.values() for address, mac in macs.items()}
    for traffic in traffics:
        yield from judge_switch(traffic, pair, interfaces[traffic.interface])
        yield from judge_speakers(traffic, pair, authenticators, held)
        yield from judge_holders(traffic, pair, own)


def _judge_host(facts: _Facts) -> Iterator[Finding]:
    pair = facts.pair
    virtual = {carp.interface for carp in pair.carp if carp.mac is Mac.VIRTUAL}
    for interface in facts.interfaces:
        yield from judge_interface(interface, has_virtual_mac=interface.name in virtual)
    # Of an interface that is not there the line above tells; there can be no guard on it.
    with contextlib.suppress(AddressRefused):
        differences = verify(nft.read(), wanted_guard(pair, has_egress=nft.has_egress()))
        yield from judge_guard(differences, pair, runs=_runs())
    yield from judge_devices(_interface_settings(pair), pair, {link.name for link in facts.links})
    if pair.sync is not None:
        yield from judge_tracking(_values(f"netfilter/nf_conntrack_{name}" for name in _TRACKING))


def _runs() -> bool:
    """Whether a daemon answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        return asking.connect_ex(os.path.join(paths.runtime_dir(), "pair", "status.sock")) == 0


def _interface_settings(pair: Pair) -> dict[str, str]:
    names = {name for carp in pair.carp for name in (carp.interface, f"carp{carp.vhid}")}
    return _values(f"ipv4/conf/{name}/{setting}" for name in {"all", *names} for setting in _SETTINGS)


def _values(names: Iterable[str]) -> dict[str, str]:
    return {name: kernel_settings.read(name) for name in names if kernel_settings.exists(name)}
