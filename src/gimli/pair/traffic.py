"""What do the frames on a link tell about its switch and its hosts?

Frames go in one by one, from a socket that hears even what is for others; what stays is counts and names.
Frames are hostile: whatever is cut short or makes no sense tells nothing.
"""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeVar

from gimli.pair.packet import ETHERTYPE_IPV4, ETHERTYPE_IPV6

_Name = TypeVar("_Name")

FRAME_BYTES = 128
"""As much of a frame as is looked at."""

_ETHERTYPE_ARP = 0x0806
_IGMP, _ICMPV6, _CARP = 2, 58, 112
_IGMP_QUERY, _MLD_QUERY, _NEIGHBOUR_ADVERTISEMENT = 0x11, 130, 136
_NAMES_MAX = 100
"""Different MACs and addresses that are remembered of each kind: a scan must not fill the memory."""
_ADVERTISEMENTS_MAX = 1000
_BROADCAST = b"\xff" * 6
_EVERYBODY = IPv4Address("255.255.255.255")


@dataclass(slots=True)
class Traffic:
    """What was seen on one interface.

    Args:
        interface: its name.
        own_macs: of the interface and of every device on it.
        broadcasts: of the subnets there.
        virtual: the addresses whose holders are of interest.
    """

    interface: str
    own_macs: frozenset[bytes] = frozenset()
    broadcasts: frozenset[IPv4Address] = frozenset()
    virtual: frozenset[str] = frozenset()
    seconds: float = 0.0
    frames: int = 0
    unseen: int = 0
    """Frames that came faster than they were looked at."""
    grouped: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Group MAC and unicast IP of frames that have both."""
    foreign: Counter[str] = field(default_factory=Counter)
    """Destination MACs of unicast frames that are for somebody else."""
    igmp_queriers: set[str] = field(default_factory=set)
    mld_queriers: set[str] = field(default_factory=set)
    holders: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Who has said, by ARP or neighbour advertisement, to have a virtual address: address to MACs."""
    advertisements: list[tuple[str, bytes]] = field(default_factory=list)
    """Source MAC and IP packet of everything of protocol 112, CARP and VRRP."""

    def see(self, frame: bytes) -> None:
        """Learn from a frame, or from its first 128 bytes."""
        self.frames += 1
        if len(frame) < 14:
            return
        destination, source = frame[:6], frame[6:12]
        (kind,) = struct.unpack_from(">H", frame, 12)
        if kind == _ETHERTYPE_ARP:
            self._see_arp(frame)
        address = _destination(kind, frame)
        if address is not None:
            self._see_ip(frame, source)
        if destination[0] & 1:
            if address is not None and destination != _BROADCAST and self._is_one_hosts(address):
                _count(self.grouped, (destination.hex(":"), str(address)))
        elif destination not in self.own_macs:
            _count(self.foreign, destination.hex(":"))

    def _is_one_hosts(self, address: IPv4Address | IPv6Address) -> bool:
        return not (address.is_multicast or address == _EVERYBODY or address in self.broadcasts)

    def _see_arp(self, frame: bytes) -> None:
        sender, address = frame[22:28], frame[28:32]
        if len(address) == 4:
            self._see_holder(str(ip_address(address)), sender)

    def _see_ip(self, frame: bytes, source: bytes) -> None:
        is_ipv4 = frame[14] >> 4 == 4
        protocol, start = (frame[23], 14 + (frame[14] & 15) * 4) if is_ipv4 else (frame[20], 54)
        if protocol == _CARP:
            if len(self.advertisements) < _ADVERTISEMENTS_MAX:
                self.advertisements.append((source.hex(":"), frame[14:]))
        elif protocol == _IGMP and is_ipv4 and frame[start : start + 1] == bytes([_IGMP_QUERY]):
            self.igmp_queriers.add(str(ip_address(frame[26:30])))
        elif not is_ipv4:
            self._see_ipv6(protocol, frame)

    def _see_ipv6(self, protocol: int, frame: bytes) -> None:
        start = 54
        if protocol == 0 and len(frame) > 62:  # MLD comes behind a hop-by-hop header with a router alert
            protocol, start = frame[54], 54 + (frame[55] + 1) * 8
        kind = frame[start] if protocol == _ICMPV6 and len(frame) > start else -1
        if kind == _MLD_QUERY:
            self.mld_queriers.add(str(ip_address(frame[22:38])))
        elif kind == _NEIGHBOUR_ADVERTISEMENT and len(frame) >= 86 and frame[78:80] == b"\x02\x01":
            self._see_holder(str(ip_address(frame[62:78])), frame[80:86])

    def _see_holder(self, address: str, mac: bytes) -> None:
        if address in self.virtual:
            self.holders[address].add(mac.hex(":"))


def _destination(kind: int, frame: bytes) -> IPv4Address | IPv6Address | None:
    if kind == ETHERTYPE_IPV4 and len(frame) >= 34:
        return IPv4Address(frame[30:34])
    if kind == ETHERTYPE_IPV6 and len(frame) >= 54:
        return IPv6Address(frame[38:54])
    return None


def _count(counter: Counter[_Name], name: _Name) -> None:
    if name in counter or len(counter) < _NAMES_MAX:
        counter[name] += 1
