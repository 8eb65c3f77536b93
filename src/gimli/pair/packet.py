"""How does a CARP advertisement look on the wire?

CARP version 2 as OpenBSD and ucarp speak it, over IPv4 and IPv6. IP protocol 112, and 36 bytes, big-endian:

    version 2, type 1 | vhid | advskew | authlen 7 | demotion | advbase | checksum (2)
    counter (8)
    digest (20): HMAC-SHA1 by the shared password over version, type, vhid, the addresses, the counter

What a packet may hold is checked here, once; whatever else a link carries is a ``PacketRefused`` of a known
kind, which the caller counts and drops. Who sent it is another question: ``gimli.pair.authenticator``.

Source: OpenBSD sys/netinet/ip_carp.[ch] (revision 1.370), ucarp 1.5.2 src/carp.c.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from gimli.errors import PeerError

Address = IPv4Address | IPv6Address

PROTOCOL = 112
"""IPPROTO_CARP, which is VRRP's number as well."""
GROUP4 = IPv4Address("224.0.0.18")
GROUP6 = IPv6Address("ff02::12")
TTL = 255
"""What has passed no router: nobody outside of the link can send it."""
VERSION = 2
ADVERTISEMENT = 1
AUTHLEN = 7
"""Counter and digest, in words of 32 bits. VRRP has its number of addresses in this place."""
ADVERTISEMENT_BYTES = 36
BOW_OUT = 255
"""advbase and advskew of a MASTER that goes."""

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD

_ADVERTISEMENT = struct.Struct(">BBBBBBHQ20s")
_IPV4 = struct.Struct(">BBHHHBBH4s4s")
_IPV6 = struct.Struct(">IHBB16s16s")
_LOW_DELAY = 0x10
_DONT_FRAGMENT = 0x4000
_FRAGMENT = 0x3FFF  # more fragments, and the offset


class Refusal(Enum):
    """Why a packet was not believed; the value is its name in the status."""

    SHORT = "short"
    NOT_CARP = "not-carp"
    FRAGMENT = "fragment"
    IP_CHECKSUM = "ip-checksum"
    TTL = "ttl"
    VERSION = "version"
    TYPE = "type"
    AUTHLEN = "authlen"
    CHECKSUM = "checksum"
    WRONG_VHID = "wrong-vhid"
    DIGEST = "digest"
    OWN_COOKIE = "own-cookie"
    REPLAYED = "replayed"


class PacketRefused(PeerError):
    """A packet that is no advertisement of a peer.

    Args:
        kind: for the counters.
        what: what it is.
        why: the number seen and the number wanted.
        fix: what may be the matter with the link or the peer.
    """

    def __init__(self, kind: Refusal, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what, why=why, fix=fix)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Advertisement:
    """The 36 bytes of a MASTER that lives.

    Args:
        vhid: the group, 1-255.
        advbase: seconds between two advertisements, 0-255.
        advskew: 1/256 s more between them, 0-255.
        demotion: how unfit the sender holds itself, 0-255. ucarp always sends 0.
        counter: 64 bits that make the digest another one: OpenBSD keeps one cookie for as long as it runs.
        digest: HMAC-SHA1, 20 bytes.
    """

    vhid: int
    advbase: int
    advskew: int
    demotion: int
    counter: int
    digest: bytes

    @property
    def is_bow_out(self) -> bool:
        """Whether the sender says that it goes."""
        return self.advbase == BOW_OUT and self.advskew == BOW_OUT


@dataclass(frozen=True, slots=True)
class Heard:
    """An advertisement, and the two ends of the packet that had it."""

    source: Address
    destination: Address
    advertisement: Advertisement


def virtual_mac(vhid: int) -> bytes:
    """The MAC of a group: 00:00:5e:00:01:VHID, which is VRRP's as well."""
    return bytes((0, 0, 0x5E, 0, 1, vhid))


def group_mac(group: Address) -> bytes:
    """The MAC that a multicast address is sent to (RFC 1112 section 6.4, RFC 2464 section 7)."""
    if group.version == 4:
        low = int(group) & 0x7FFFFF
        return b"\x01\x00\x5e" + low.to_bytes(3, "big")
    return b"\x33\x33" + group.packed[-4:]


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071): 0 over data that holds its own right one."""
    if len(data) % 2:
        data += b"\0"
    # Modulo 65535 a number is the sum of its words; but a sum that is not 0 folds to 65535, never to 0.
    total = int.from_bytes(data, "big")
    folded = total % 0xFFFF or (0xFFFF if total else 0)
    return 0xFFFF - folded


def pack_advertisement(advertisement: Advertisement) -> bytes:
    """The 36 bytes, with their checksum."""
    body = _pack(advertisement, 0)
    return _pack(advertisement, checksum(body))


def unpack_advertisement(payload: bytes) -> Advertisement:
    """The advertisement at the start of an IP packet's payload; who sent it is not verified.

    Raises:
        PacketRefused: it is something else.
    """
    if len(payload) < 8:
        raise PacketRefused(
            Refusal.SHORT,
            "packet is too short",
            why=f"{len(payload)} bytes, expected {ADVERTISEMENT_BYTES}",
        )
    version, kind, authlen = payload[0] >> 4, payload[0] & 15, payload[3]
    if version != VERSION:
        raise PacketRefused(
            Refusal.VERSION,
            "packet is of another version",
            why=f"{version}, expected {VERSION}",
            fix="VRRP 3 has the same protocol number: it may share the link, not the vhid",
        )
    if kind != ADVERTISEMENT:
        raise PacketRefused(
            Refusal.TYPE, "packet is no advertisement", why=f"type {kind}, expected {ADVERTISEMENT}"
        )
    if authlen != AUTHLEN:
        raise PacketRefused(
            Refusal.AUTHLEN,
            "packet has another length of its digest",
            why=f"authlen {authlen}, expected {AUTHLEN}",
            fix="VRRP 2 has the same protocol number: it may share the link, not the vhid",
        )
    if len(payload) < ADVERTISEMENT_BYTES:
        raise PacketRefused(
            Refusal.SHORT,
            "packet is too short",
            why=f"{len(payload)} bytes, expected {ADVERTISEMENT_BYTES}",
        )
    body = payload[:ADVERTISEMENT_BYTES]
    if checksum(body):
        raise PacketRefused(Refusal.CHECKSUM, "checksum of the advertisement is wrong")
    _, vhid, advskew, _, demotion, advbase, _, counter, digest = _ADVERTISEMENT.unpack(body)
    return Advertisement(vhid, advbase, advskew, demotion, counter, digest)


def parse_advertisement(ip_packet: bytes) -> Heard:
    """The advertisement in an IPv4 or IPv6 packet; who sent it is not verified.

    Args:
        ip_packet: from its IP header on. What an interface appended to it is passed over.

    Raises:
        PacketRefused: it is something else. No other exception, whatever the bytes.
    """
    version = ip_packet[0] >> 4 if ip_packet else 0
    if version == 4:
        return _parse4(ip_packet)
    if version == 6:
        return _parse6(ip_packet)
    raise PacketRefused(
        Refusal.NOT_CARP if ip_packet else Refusal.SHORT, "packet is not IP", why=f"version {version}"
    )


def pack_packet(
    advertisement: Advertisement,
    source: Address,
    destination: Address | None = None,
    *,
    identification: int = 0,
) -> bytes:
    """The IP packet of an advertisement.

    Args:
        advertisement: signed.
        source: the sender's own address; its family is the packet's.
        destination: a peer; None: the group 224.0.0.18 or ff02::12.
        identification: of an IPv4 header; 0 is right where nothing fragments (RFC 6864).
    """
    body = pack_advertisement(advertisement)
    if source.version == 6:
        return (
            _IPV6.pack(6 << 28, len(body), PROTOCOL, TTL, source.packed, (destination or GROUP6).packed)
            + body
        )
    ends = (source.packed, (destination or GROUP4).packed)
    head = (0x45, _LOW_DELAY, _IPV4.size + len(body), identification, _DONT_FRAGMENT, TTL, PROTOCOL)
    return _IPV4.pack(*head, checksum(_IPV4.pack(*head, 0, *ends)), *ends) + body


def pack_frame(
    advertisement: Advertisement,
    source: Address,
    source_mac: bytes,
    destination: Address | None = None,
    destination_mac: bytes | None = None,
    *,
    identification: int = 0,
) -> bytes:
    """The Ethernet frame of an advertisement.

    Args:
        advertisement: signed.
        source: the sender's own address; its family is the packet's.
        source_mac: the group's (from which switches learn where the MASTER is) or the interface's own.
        destination: a peer; None: the group.
        destination_mac: the peer's, or its router's; None: the group's.
        identification: of an IPv4 header.
    """
    group = destination or (GROUP4 if source.version == 4 else GROUP6)
    ethertype = ETHERTYPE_IPV4 if source.version == 4 else ETHERTYPE_IPV6
    return (
        (destination_mac or group_mac(group))
        + source_mac
        + ethertype.to_bytes(2, "big")
        + pack_packet(advertisement, source, destination, identification=identification)
    )


def _pack(advertisement: Advertisement, check: int) -> bytes:
    return _ADVERTISEMENT.pack(
        VERSION << 4 | ADVERTISEMENT,
        advertisement.vhid,
        advertisement.advskew,
        AUTHLEN,
        advertisement.demotion,
        advertisement.advbase,
        check,
        advertisement.counter,
        advertisement.digest,
    )


def _parse4(packet: bytes) -> Heard:
    if len(packet) < _IPV4.size:
        raise _short(packet)
    first, _, length, _, fragment, ttl, protocol, _, source, destination = _IPV4.unpack_from(packet)
    header_bytes = (first & 15) * 4
    if protocol != PROTOCOL:
        raise _not_carp(protocol)
    if header_bytes < _IPV4.size or not header_bytes <= length <= len(packet):
        raise _short(packet)
    if fragment & _FRAGMENT:
        raise PacketRefused(Refusal.FRAGMENT, "packet is a fragment")
    if checksum(packet[:header_bytes]):
        raise PacketRefused(Refusal.IP_CHECKSUM, "checksum of the IP header is wrong")
    _check_ttl(ttl)
    return Heard(
        IPv4Address(source), IPv4Address(destination), unpack_advertisement(packet[header_bytes:length])
    )


def _parse6(packet: bytes) -> Heard:
    if len(packet) < _IPV6.size:
        raise _short(packet)
    _, length, protocol, hop_limit, source, destination = _IPV6.unpack_from(packet)
    if protocol != PROTOCOL:
        raise _not_carp(protocol)
    if _IPV6.size + length > len(packet):
        raise _short(packet)
    _check_ttl(hop_limit)
    payload = packet[_IPV6.size : _IPV6.size + length]
    return Heard(IPv6Address(source), IPv6Address(destination), unpack_advertisement(payload))


def _check_ttl(ttl: int) -> None:
    if ttl != TTL:
        raise PacketRefused(
            Refusal.TTL,
            "advertisement has passed a router",
            why=f"time to live {ttl}, expected {TTL}",
        )


def _short(packet: bytes) -> PacketRefused:
    return PacketRefused(Refusal.SHORT, "IP packet is cut short", why=f"{len(packet)} bytes")


def _not_carp(protocol: int) -> PacketRefused:
    return PacketRefused(
        Refusal.NOT_CARP, "packet is of another protocol", why=f"{protocol}, expected {PROTOCOL}"
    )
