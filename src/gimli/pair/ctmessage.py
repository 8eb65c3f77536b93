"""What does a message of ctnetlink say, and what of it is for the peer?

Three forms of one connection, all of them netlink messages in this machine's byte order:

    kernel's    an event or an entry of a dump, as the owner's kernel told it
    canonical   what goes over the wire and what a replica holds: a few attributes in a fixed order
    insertion   what a replica's kernel takes (ctinsertion.py): the canonical form, with NAT spelled out

A canonical message is a whole netlink message already. Its sequence number, which the kernel only echoes,
says what it does to what a replica holds (:class:`Change`). Bytes stay bytes: most attributes are passed on
as they came. Nothing is trusted; what does not hold together raises :class:`PeerError`.

Source of the attributes: linux/netfilter/nfnetlink_conntrack.h and net/netfilter/nf_conntrack_netlink.c.
"""

from __future__ import annotations

import enum
import struct

from gimli.errors import PeerError
from gimli.pair import netlink

BODY = netlink.HEADER.size + 4
"""Where the attributes begin: behind nlmsghdr and nfgenmsg."""

MESSAGE_BYTES_MAX = 900
"""Of a canonical message. They have 150 to 300; 64 of the longest must fit into a datagram."""

NEW, GET, DELETE = 0x100, 0x101, 0x102
"""Types: NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_..."""

TUPLE_ORIG, TUPLE_REPLY, STATUS, PROTOINFO, HELP, NAT_SRC, TIMEOUT, MARK = range(1, 9)
USE, ID, NAT_DST, TUPLE_MASTER, SEQ_ADJ_ORIG, SEQ_ADJ_REPLY = range(11, 17)
ZONE, LABELS, SYNPROXY = 18, 22, 24

CANONICAL_ORDER = (
    *(TUPLE_ORIG, ZONE, TUPLE_REPLY, STATUS, TIMEOUT, PROTOINFO, MARK),
    *(LABELS, HELP, SEQ_ADJ_ORIG, SEQ_ADJ_REPLY, SYNPROXY, TUPLE_MASTER),
)
"""Every other attribute stays behind: ids, counters, use counts, time stamps and security contexts belong to
one kernel."""

TIMEOUT_HEADER = netlink.ATTRIBUTE.pack(8, TIMEOUT)
REPLY4_HEADER = netlink.ATTRIBUTE.pack(52, netlink.NESTED | TUPLE_REPLY)
"""Of a tuple with ports over IPv4. Behind it, other attributes stand at fixed places too."""

_ZONE_HEADER = netlink.ATTRIBUTE.pack(6, ZONE)

_STATUS_CONFIRMED = 0x8
_STATUS_DROPPED = 0x1 | 0x80 | 0x100 | 0x200 | 0x800 | 0x1000 | 0x2000 | 0x4000 | 0x8000
"""EXPECTED, SRC_NAT_DONE, DST_NAT_DONE, DYING, TEMPLATE, UNTRACKED, HELPER, OFFLOAD, HW_OFFLOAD."""

_PROTOINFO_TCP, _TCP_FLAGS_ORIGINAL, _TCP_FLAGS_REPLY = 1, 4, 5
_BE_LIBERAL = 0x08
_TCP_FLAGS = 0x01 | 0x02 | 0x04 | _BE_LIBERAL
"""WINDOW_SCALE, SACK_PERM, CLOSE_INIT. The others speak of windows that do not come with them."""


class Change(enum.IntEnum):
    """What a canonical message does to what a replica holds of its connection."""

    WHOLE = 0
    """All there is to say, from a dump."""
    BEGUN = 1
    """All there is to say of a connection that did not exist before."""
    UPDATED = 2
    """What is not named stays as it was."""
    ENDED = 3
    """It is gone; the message is a deletion."""


_ANEW = netlink.REQUEST | netlink.CREATE | netlink.EXCLUSIVE
_FLAGS = (_ANEW, _ANEW, netlink.REQUEST, netlink.REQUEST)
"""By change. What is inserted over an entry that is there would leave of it what is not named, and an update
of what is not there may say too little to make it: both are to fail (:func:`ctinsertion.second_try`)."""

_CHANGE_AT = 8 + struct.pack("=I", 1).index(1)
"""The byte of the sequence number that is not 0, in either byte order."""


def change_told(message: bytes) -> Change:
    """What a message of the kernel tells: an event of one of three groups, or an entry of a dump.

    Raises:
        PeerError: it is neither.
    """
    _, kind, flags, _, _ = netlink.HEADER.unpack_from(message)
    if kind == DELETE:
        return Change.ENDED
    if kind != NEW:
        raise PeerError(f"netlink message type {kind:#x}, expected ctnetlink's {NEW:#x} or {DELETE:#x}")
    if flags & netlink.MULTI:
        return Change.WHOLE
    return Change.BEGUN if flags & netlink.CREATE else Change.UPDATED


def canonical(message: bytes) -> tuple[bytes, bytes]:
    """The key and the canonical form of a message of the kernel.

    Raises:
        PeerError: it is not a message about a connection.
    """
    if len(message) < BODY:
        raise PeerError(f"a message of {len(message)} bytes, expected at least {BODY}")
    change = change_told(message)
    found = parts(message)
    if TUPLE_ORIG not in found or (change is not Change.ENDED and TUPLE_REPLY not in found):
        raise PeerError("a connection without its tuples")
    family = message[netlink.HEADER.size : netlink.HEADER.size + 1] + bytes(3)
    if change is Change.ENDED:
        ended = deletion(family, found[TUPLE_ORIG] + found.get(ZONE, b""))
        return key_of(ended), ended
    if STATUS in found:
        found[STATUS] = _status_for_peer(found[STATUS])
    if PROTOINFO in found:
        found[PROTOINFO] = _protoinfo_for_peer(found[PROTOINFO])
    if SYNPROXY in found and not any(any(part[4:]) for part in netlink.nested(found[SYNPROXY]).values()):
        del found[SYNPROXY]  # the kernel gives it to whatever came in by ctnetlink
    if change is not Change.UPDATED and found.get(MARK, b"")[4:] == bytes(4):
        del found[MARK]  # a dump tells it, an event does not; they are to be the same
    made = assembled(change, family, found)
    return key_of(made), made


def split(payload: bytes) -> list[tuple[bytes, bytes]]:
    """Keys and canonical messages of a datagram's payload.

    What came over the wire and is about to be written into a kernel is a message about one connection and
    nothing else: not another subsystem's, and no deletion without a tuple, which would empty the table.

    Raises:
        PeerError: one of them is not canonical; nothing of the payload may be used.
    """
    found = []
    offset, end = 0, len(payload)
    unpack, size = _START.unpack_from, _START.size
    while offset < end:
        if end - offset < size:
            raise PeerError(f"{end - offset} bytes where a message was expected")
        length, kind, change, port, _, tuple_bytes, tuple_type = unpack(payload, offset)
        key_end = BODY + ((tuple_bytes + 3) & ~3)
        if (
            not key_end <= length <= end - offset
            or length > MESSAGE_BYTES_MAX
            or length % 4
            or tuple_type != netlink.NESTED | TUPLE_ORIG
            or tuple_bytes <= 4
            or port
            or change > Change.ENDED
            or kind != _STARTS[change]
        ):
            raise PeerError(f"no canonical message at byte {offset}")
        message = payload[offset : offset + length]
        if message[key_end : key_end + 4] == _ZONE_HEADER:
            key_end += 8
        found.append((message[BODY:key_end], message))
        offset += length
    return found


_START = struct.Struct("=IIII4sHH")
_STARTS = [
    struct.unpack_from("=I", netlink.HEADER.pack(0, kind, _FLAGS[change], 0, 0), 4)[0]
    for change, kind in (
        (Change.WHOLE, NEW),
        (Change.BEGUN, NEW),
        (Change.UPDATED, NEW),
        (Change.ENDED, DELETE),
    )
]
"""Type and flags as one number, by change."""


def key_of(message: bytes) -> bytes:
    """The key of a canonical message: CTA_TUPLE_ORIG, and CTA_ZONE where there is one.

    Raises:
        PeerError: it has none.
    """
    if len(message) < BODY + 4:
        raise PeerError(f"a message of {len(message)} bytes, expected at least {BODY + 4}")
    length, kind = netlink.ATTRIBUTE.unpack_from(message, BODY)
    end = BODY + netlink.aligned(length)
    if kind != netlink.NESTED | TUPLE_ORIG or length <= 4 or end > len(message):
        raise PeerError("no original tuple where one was expected")
    if message[end : end + 4] == _ZONE_HEADER:
        end += 8
    return message[BODY:end]


def parts(message: bytes) -> dict[int, bytes]:
    """The attributes of a message by type.

    Raises:
        PeerError: a length that does not fit.
    """
    return netlink.attributes(message, BODY, len(message))


def family_of(message: bytes) -> bytes:
    """The nfgenmsg of a message."""
    return message[netlink.HEADER.size : BODY]


def change_in(message: bytes) -> int:
    """What a canonical message does, as a number of :class:`Change`."""
    return message[_CHANGE_AT]


def as_change(message: bytes, change: Change) -> bytes:
    """The same canonical message, to another end."""
    header = netlink.HEADER.pack(len(message), NEW, _FLAGS[change], change, 0)
    return header + message[netlink.HEADER.size :]


def merged(held: bytes, update: bytes) -> bytes:
    """What is known of a connection after an update.

    Args:
        held: a canonical message.
        update: a later one about the same connection.

    Raises:
        PeerError: one of them is not well formed.
    """
    return assembled(Change(change_in(held)), family_of(held), parts(held) | parts(update))


def is_same(one: bytes, other: bytes) -> bool:
    """Whether two canonical messages about one connection differ at most in the time left.

    Raises:
        PeerError: one of them is not well formed.
    """
    if one[132:136] == TIMEOUT_HEADER == other[132:136] and one[72:76] == REPLY4_HEADER:  # IPv4, with ports
        return one[16:132] == other[16:132] and one[140:] == other[140:]
    return parts(one) | {TIMEOUT: b""} == parts(other) | {TIMEOUT: b""}


def timeout_s(message: bytes) -> int:
    """The time left that a canonical message tells; 0 where it tells none.

    Raises:
        PeerError: it is not well formed.
    """
    found = parts(message)
    return int.from_bytes(netlink.value(found[TIMEOUT], 4), "big") if TIMEOUT in found else 0


def deletion(family: bytes, key: bytes) -> bytes:
    """The message that deletes a connection; ``family`` is its nfgenmsg."""
    return netlink.HEADER.pack(BODY + len(key), DELETE, netlink.REQUEST, Change.ENDED, 0) + family + key


def deletion_of(message: bytes) -> bytes:
    """The message that deletes what a canonical message is about."""
    return deletion(family_of(message), key_of(message))


def touch(message: bytes, left_s: int) -> bytes:
    """The message that gives a canonical message's connection so much time from now, if it is there."""
    found = {TIMEOUT: TIMEOUT_HEADER + left_s.to_bytes(4, "big")}
    return assembled(Change.UPDATED, family_of(message), parts(key_message(message)) | found)


def key_message(message: bytes) -> bytes:
    """The beginning of a canonical message, up to the end of its key."""
    return message[: BODY + len(key_of(message))]


def assembled(
    change: Change, family: bytes, found: dict[int, bytes], order: tuple[int, ...] = CANONICAL_ORDER
) -> bytes:
    """A message of attributes.

    Raises:
        PeerError: it is longer than any connection needs.
    """
    body = b"".join([found[kind] for kind in order if kind in found])
    length = BODY + len(body)
    if length > MESSAGE_BYTES_MAX:
        raise PeerError(f"a connection of {length} bytes, expected at most {MESSAGE_BYTES_MAX}")
    return netlink.HEADER.pack(length, NEW, _FLAGS[change], change, 0) + family + body


def _status_for_peer(attribute: bytes) -> bytes:
    """CTA_STATUS without the bits that a kernel refuses to change (EBUSY) or sets itself, and confirmed.

    The bits of NAT stay: a kernel ignores them, and they tell the replica that there is NAT.
    """
    bits = int.from_bytes(netlink.value(attribute, 4), "big") & ~_STATUS_DROPPED | _STATUS_CONFIRMED
    return netlink.attribute(STATUS, bits.to_bytes(4, "big"))


def _protoinfo_for_peer(attribute: bytes) -> bytes:
    """CTA_PROTOINFO with TCP told not to check windows.

    ctnetlink carries a connection's state, flags and window scale, not its sequence windows. A kernel without
    them would drop what it sees first as out of window: BE_LIBERAL for both directions. The mask says which
    flags are to be taken from us; the kernel tells it as 0.
    """
    inner = netlink.nested(attribute)
    if _PROTOINFO_TCP not in inner:
        return attribute
    found = netlink.nested(inner[_PROTOINFO_TCP])
    for kind in (_TCP_FLAGS_ORIGINAL, _TCP_FLAGS_REPLY):
        flags = netlink.value(found[kind], 1)[0] if kind in found else 0
        found[kind] = netlink.attribute(kind, bytes(((flags | _BE_LIBERAL) & _TCP_FLAGS, _TCP_FLAGS)))
    return netlink.nest(PROTOINFO, netlink.nest(_PROTOINFO_TCP, *found.values()))
