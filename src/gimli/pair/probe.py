"""Which frame asks a link who has an address, without disturbing anybody's cache?

The questions of duplicate address detection: they name no asker, so nobody learns from them.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from gimli.pair.announce import ETHERTYPE_ARP
from gimli.pair.packet import ETHERTYPE_IPV6, Address, checksum, group_mac

_ARP = struct.Struct(">HHBBH6s4s6s4s")
_IPV6 = struct.Struct(">IHBB16s16s")
_SOLICITATION = struct.Struct(">BBHI16s")
_SOLICITED_NODE = IPv6Address("ff02::1:ff00:0")
_BROADCAST = b"\xff" * 6
_ICMPV6 = 58
_HOP_LIMIT = 255


def question(address: Address, mac: bytes) -> bytes:
    """An Ethernet frame from ``mac`` that whoever has ``address`` answers.

    Source: RFC 5227 section 2.1.1 (ARP probe), RFC 4861 section 4.3 (from the unspecified address).
    """
    if isinstance(address, IPv4Address):
        arp = _ARP.pack(1, 0x0800, 6, 4, 1, mac, bytes(4), bytes(6), address.packed)
        return _BROADCAST + mac + ETHERTYPE_ARP.to_bytes(2, "big") + arp
    group = IPv6Address(_SOLICITED_NODE.packed[:13] + address.packed[13:])
    ends = bytes(16) + group.packed
    check = checksum(
        ends
        + struct.pack(">II", _SOLICITATION.size, _ICMPV6)
        + _SOLICITATION.pack(135, 0, 0, 0, address.packed)
    )
    message = _SOLICITATION.pack(135, 0, check, 0, address.packed)
    header = _IPV6.pack(6 << 28, len(message), _ICMPV6, _HOP_LIMIT, ends[:16], ends[16:])
    return group_mac(group) + mac + ETHERTYPE_IPV6.to_bytes(2, "big") + header + message
