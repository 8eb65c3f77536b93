"""Which frames tell a link that an address has moved?

Hosts keep an address's MAC in their ARP and neighbour caches, switches keep a MAC's port. A new MASTER sends,
unasked, what both learn from: gratuitous ARP for IPv4, a neighbour advertisement for IPv6. Frames as bytes;
who sends them, and when, is not decided here.
"""

from __future__ import annotations

import struct
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from gimli.pair.packet import ETHERTYPE_IPV6, Address, checksum, group_mac

if TYPE_CHECKING:
    from collections.abc import Iterable

ETHERTYPE_ARP = 0x0806
ALL_NODES = IPv6Address("ff02::1")

_BROADCAST = b"\xff" * 6
_ARP = struct.Struct(">HHBBH6s4s6s4s")
_IPV6 = struct.Struct(">IHBB16s16s")
_NEIGHBOUR_ADVERTISEMENT = struct.Struct(">BBHI16sBB6s")
_ICMPV6 = 58
_HOP_LIMIT = 255
_ROUTER = 0x80000000
_OVERRIDE = 0x20000000


class Form(Enum):
    """A gratuitous ARP is either; hosts differ in which of the two they learn from."""

    REQUEST = 1
    REPLY = 2


def announcements(addresses: Iterable[Address], mac: bytes, *, router: bool) -> list[bytes]:
    """Every frame that tells that ``addresses`` are at ``mac``.

    Args:
        addresses: of one group.
        mac: the group's, or the interface's own.
        router: whether this host forwards IPv6.
    """
    frames = []
    for address in addresses:
        if isinstance(address, IPv4Address):
            frames += [gratuitous_arp(address, mac, form) for form in Form]
        else:
            frames.append(neighbour_advertisement(address, mac, router=router))
    return frames


def gratuitous_arp(address: IPv4Address, mac: bytes, form: Form) -> bytes:
    """An ARP frame to everybody: ``address`` is at ``mac``.

    Source: RFC 5227 section 3 and RFC 5944 section 4.6: both protocol addresses are the announced one; a
    reply's target MAC is the sender's, a request's is not used.
    """
    target = mac if form is Form.REPLY else bytes(6)
    arp = _ARP.pack(1, 0x0800, 6, 4, form.value, mac, address.packed, target, address.packed)
    return _BROADCAST + mac + ETHERTYPE_ARP.to_bytes(2, "big") + arp


def neighbour_advertisement(address: IPv6Address, mac: bytes, *, router: bool) -> bytes:
    """An unsolicited neighbour advertisement to all nodes: ``address`` is at ``mac``, whatever you knew.

    Source: RFC 4861 sections 4.4 and 7.2.6: the override flag, and the option of the target's MAC.
    """
    flags = _OVERRIDE | (_ROUTER if router else 0)
    ends = address.packed + ALL_NODES.packed

    def pack(check: int) -> bytes:
        return _NEIGHBOUR_ADVERTISEMENT.pack(136, 0, check, flags, address.packed, 2, 1, mac)

    pseudo_header = ends + struct.pack(">II", _NEIGHBOUR_ADVERTISEMENT.size, _ICMPV6)
    message = pack(checksum(pseudo_header + pack(0)))
    return (
        group_mac(ALL_NODES)
        + mac
        + ETHERTYPE_IPV6.to_bytes(2, "big")
        + _IPV6.pack(6 << 28, len(message), _ICMPV6, _HOP_LIMIT, ends[:16], ends[16:])
        + message
    )
