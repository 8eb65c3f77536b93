"""What travels? Light objects instead of bytes.

A :class:`Frame` is what one hop sees: two MACs, a TTL, and the packet, which no hop changes and all copies
share. A :class:`Flow` stands for the four fields by which TCP segments belong together; there is one object
per direction and address translation, so that tables are keyed by identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gimli.pair.packet import Heard

GROUP_BIT = 1 << 40
"""Of a MAC: the lowest bit of its first byte."""
BROADCAST = (1 << 48) - 1
CARP_GROUP_MAC = 0x01005E000012
"""Of 224.0.0.18."""
IP_GROUP_MAC = 0x01005E000000
"""An IPv4 group's MAC has the group's lowest 23 bits in this one."""

FIN, SYN, RST, ACK = 1, 2, 4, 16
"""Bits of TCP's flags, as on the wire."""

TTL = 64
_ETHERNET_BYTES = 38
"""Header, checksum, preamble and gap: what a frame takes of a cable beside its packet."""
_TCP_IP_BYTES = 40
_UDP_IP_BYTES = 28
_SACK_BYTES = 12
SMALL_BYTES = 84
"""The shortest frame and its gap."""


class Flow:
    """One direction of one connection, as it is on one side of an address translation."""

    __slots__ = ("__weakref__", "connection", "dport", "dst", "reverse", "sport", "src")

    def __init__(self, src: str, sport: int, dst: str, dport: int, connection: int) -> None:
        self.src = src
        self.sport = sport
        self.dst = dst
        self.dport = dport
        self.connection = connection
        """The number it is told by, on every host and in every translation."""
        self.reverse: Flow

    def __repr__(self) -> str:
        return f"{self.src}:{self.sport} -> {self.dst}:{self.dport}"

    def redirected(self, dst: str) -> Flow:
        """The same behind an address translation."""
        return pair_of_flows(self.src, self.sport, dst, self.dport, self.connection)


def pair_of_flows(src: str, sport: int, dst: str, dport: int, connection: int) -> Flow:
    """The forward one; its ``reverse`` is the other."""
    forward = Flow(src, sport, dst, dport, connection)
    backward = Flow(dst, dport, src, sport, connection)
    forward.reverse, backward.reverse = backward, forward
    return forward


class Segment:
    """TCP over IP. Sequence numbers do not wrap: no connection here moves 2 GB.

    Attributes:
        win: as in the header, scaled down by the sender's ``wscale``.
        wscale: the option of a SYN; -1 where there is none.
        sack: ranges received beyond ``ack``.
        is_again: it was sent before.
    """

    __slots__ = ("ack", "bytes", "flags", "flow", "is_again", "length", "sack", "seq", "win", "wscale")

    def __init__(  # noqa: PLR0913, PLR0917 - a header's fields; millions are made, and keywords cost
        self,
        flow: Flow,
        flags: int,
        seq: int,
        ack: int,
        length: int,
        win: int,
        wscale: int = -1,
        sack: tuple[tuple[int, int], ...] = (),
        is_again: bool = False,  # noqa: FBT001, FBT002 - millions are made
    ) -> None:
        self.flow = flow
        self.flags = flags
        self.seq = seq
        self.ack = ack
        self.length = length
        self.win = win
        self.wscale = wscale
        self.sack = sack
        self.is_again = is_again
        size = length + _TCP_IP_BYTES + _ETHERNET_BYTES + (_SACK_BYTES if sack else 0)
        self.bytes = size if size > SMALL_BYTES else SMALL_BYTES

    def __repr__(self) -> str:
        return f"{words_of_flags(self.flags)} seq {self.seq}..{self.seq + self.length} ack {self.ack}"


def words_of_flags(flags: int) -> str:
    """As tcpdump has them."""
    named = ((SYN, "S"), (FIN, "F"), (RST, "R"), (ACK, "."))
    return "".join(letter for bit, letter in named if flags & bit) or "none"


class Arp:
    """Who has ``target``? Or, as an answer or unasked: ``sender`` is at ``sender_mac``."""

    __slots__ = ("bytes", "is_request", "sender", "sender_mac", "target")

    def __init__(self, sender: str, sender_mac: int, target: str, *, is_request: bool) -> None:
        self.sender = sender
        self.sender_mac = sender_mac
        self.target = target
        self.is_request = is_request
        self.bytes = SMALL_BYTES


class Carp:
    """An advertisement, as ``gimli.pair`` judges it."""

    __slots__ = ("bytes", "heard")

    def __init__(self, heard: Heard) -> None:
        self.heard = heard
        self.bytes = 36 + 20 + _ETHERNET_BYTES


class Packed:
    """Bytes that ``gimli pair`` has packed itself: a packet of CARP, or a datagram of its state sync."""

    __slots__ = ("bytes", "data", "is_carp")

    def __init__(self, data: bytes, *, is_carp: bool) -> None:
        self.data = data
        self.is_carp = is_carp
        self.bytes = len(data) + _ETHERNET_BYTES + (0 if is_carp else _UDP_IP_BYTES)


class Packet(Protocol):
    """Whatever a frame may hold."""

    bytes: int
    """What its frame takes of a cable."""


class Frame:
    """One hop of a packet."""

    __slots__ = ("dst", "packet", "src", "ttl")

    def __init__(self, dst: int, src: int, packet: Packet, ttl: int = TTL) -> None:
        self.dst = dst
        self.src = src
        self.packet = packet
        self.ttl = ttl
