"""What does a kernel say of a connection by ctnetlink, and what is said to it? Messages, byte by byte.

As net/netfilter/nf_conntrack_netlink.c makes and reads them: so what goes over the sync cable is what
``gimli pair`` sends.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from gimli.lab.network.simulator.conntrack import ORIGINAL, REPLY
from gimli.pair import ctmessage, netlink
from gimli.pair.cttuple import Tuple
from gimli.pair.netlink import attribute, nest

if TYPE_CHECKING:
    from gimli.lab.network.simulator.conntrack import Connection, Half
    from gimli.lab.network.simulator.flows import Ends
    from gimli.lab.network.simulator.frames import Flow

BEGUN, UPDATED, ENDED, DUMPED = (
    (ctmessage.NEW, netlink.CREATE | netlink.EXCLUSIVE),
    (ctmessage.NEW, 0),
    (ctmessage.DELETE, 0),
    (ctmessage.NEW, netlink.MULTI),
)
"""Types and flags of the three events, and of an entry of a dump."""

SEEN_REPLY, ASSURED, CONFIRMED, DST_NAT, DST_NAT_DONE = 0x2, 0x4, 0x8, 0x20, 0x100
"""IPS_*; SRC_NAT_DONE, 0x80, is set of a translated one as well, but nothing asks for it."""
_WINDOW_SCALE, _SACK_PERM, _BE_LIBERAL = 0x01, 0x02, 0x08
_FAMILY = bytes((2, 0, 0, 0))  # nfgenmsg: AF_INET
_TCP = 6


def pack(tracked: Connection, kind: tuple[int, int], now_s: float) -> bytes:
    """What the kernel tells of a connection.

    Args:
        tracked: which.
        kind: one of the four.
        now_s: the time.
    """
    status = _number(ctmessage.STATUS, _status(tracked))
    identity = _number(ctmessage.ID, tracked.original.connection)
    body = [pack_tuple(tracked.original, ORIGINAL), pack_tuple(tracked.reply, REPLY)]
    if kind is DUMPED:
        body += [status, _number(ctmessage.MARK, 0), identity, _number(ctmessage.USE, 1)]
    else:
        body += [identity, status]
    if kind is not ENDED:
        left_s = max(int(tracked.expires_s - now_s), 0)
        body += [_number(ctmessage.TIMEOUT, left_s), _pack_tcp(tracked)]
    data = _FAMILY + b"".join(body)
    return netlink.HEADER.pack(netlink.HEADER.size + len(data), *kind, 0, 0) + data


def pack_tuple(flow: Flow, direction: int) -> bytes:
    """CTA_TUPLE_ORIG or CTA_TUPLE_REPLY."""
    ip = nest(1, attribute(1, packed(flow.src)), attribute(2, packed(flow.dst)))
    ports = (attribute(2, struct.pack(">H", flow.sport)), attribute(3, struct.pack(">H", flow.dport)))
    return nest(ctmessage.TUPLE_ORIG + direction, ip, nest(2, attribute(1, bytes((_TCP,))), *ports))


def packed(address: str) -> bytes:
    """Four bytes."""
    return bytes(map(int, address.split(".")))


def parse_ends(tuple_attribute: bytes) -> Ends:
    """Who speaks with whom, by a tuple."""
    found = Tuple(tuple_attribute)
    return (
        ".".join(map(str, found.source)),
        int.from_bytes(found.source_port, "big"),
        ".".join(map(str, found.destination)),
        int.from_bytes(found.destination_port, "big"),
    )


def parse_translation(nat_attribute: bytes) -> tuple[str, int]:
    """The address and the port of CTA_NAT_DST."""
    found = netlink.nested(nat_attribute)
    address = ".".join(map(str, netlink.value(found[1], 4)))  # CTA_NAT_V4_MINIP
    proto = netlink.nested(found[3])  # CTA_NAT_PROTO
    return address, int.from_bytes(netlink.value(proto[1], 2), "big")


def take(tracked: Connection, found: dict[int, bytes], now_s: float, *, is_liberal: bool) -> None:
    """Make a connection what a message says of it.

    Args:
        tracked: which.
        found: the message's attributes.
        now_s: the time.
        is_liberal: whether BE_LIBERAL is heard.
    """
    if ctmessage.STATUS in found:
        bits = _read_number(found[ctmessage.STATUS])
        tracked.has_reply |= bool(bits & SEEN_REPLY)
        tracked.is_assured |= bool(bits & ASSURED)
    if ctmessage.TIMEOUT in found:
        tracked.expires_s = now_s + _read_number(found[ctmessage.TIMEOUT])
    if ctmessage.PROTOINFO in found:
        tcp = netlink.nested(netlink.nested(found[ctmessage.PROTOINFO])[1])
        tracked.state = netlink.value(tcp[1], 1)[0]
        for half, flags, scale in zip(tracked.halves, (4, 5), (2, 3), strict=True):
            bits, mask = netlink.value(tcp[flags], 2)
            if mask & _WINDOW_SCALE:
                half.has_scale = bool(bits & _WINDOW_SCALE)
            if mask & _BE_LIBERAL and is_liberal:
                half.is_liberal = bool(bits & _BE_LIBERAL)
            half.scale = netlink.value(tcp[scale], 1)[0]


def _status(tracked: Connection) -> int:
    bits = CONFIRMED
    if tracked.has_reply:
        bits |= SEEN_REPLY
    if tracked.is_assured:
        bits |= ASSURED
    if tracked.is_translated:
        bits |= DST_NAT | DST_NAT_DONE
    return bits


def _pack_tcp(tracked: Connection) -> bytes:
    original, reply = tracked.halves
    return nest(
        ctmessage.PROTOINFO,
        nest(
            1,
            attribute(1, bytes((tracked.state,))),
            attribute(2, bytes((original.scale,))),
            attribute(3, bytes((reply.scale,))),
            attribute(4, bytes((_flags(original), 0))),
            attribute(5, bytes((_flags(reply), 0))),
        ),
    )


def _flags(half: Half) -> int:
    return _SACK_PERM | (_WINDOW_SCALE if half.has_scale else 0) | (_BE_LIBERAL if half.is_liberal else 0)


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))


def _read_number(found: bytes) -> int:
    return int.from_bytes(netlink.value(found, 4), "big")
