"""What does a message of ctnetlink say, and which message puts the same connection into another kernel?

Three forms of one connection, all of them bytes of netlink messages in this machine's byte order:

    kernel's    an event or an entry of a dump, as the owner's kernel told it
    canonical   what goes over the wire and what a replica holds: a few attributes in a fixed order
    insertion   what a replica's kernel takes: the canonical form, with NAT spelled out

A canonical message is a whole netlink message already. Its sequence number, which the kernel only echoes,
says what it does to what a replica holds (:class:`Change`); a deletion is a canonical message of its own
type. Nothing here trusts a byte: what does not hold together raises :class:`PeerError`.

Source of the attributes: linux/netfilter/nfnetlink_conntrack.h and net/netfilter/nf_conntrack_netlink.c.
"""

from __future__ import annotations

import enum
import errno
import struct
from typing import TYPE_CHECKING

from gimli.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence number, port."""

BODY = HEADER.size + 4
"""Where the attributes begin: behind nlmsghdr and nfgenmsg."""

MESSAGE_BYTES_MAX = 900
"""Longest canonical message. The kernel's are 150 to 400 bytes; 64 of the longest fit into one datagram."""

NEW, GET, DELETE = 0x100, 0x101, 0x102
ERROR, DONE = 2, 3
REQUEST, MULTI, ACK, DUMP, CREATE, EXCLUSIVE = 0x1, 0x2, 0x4, 0x300, 0x400, 0x200

_ATTRIBUTE = struct.Struct("=HH")
_NESTED = 0x8000
_TYPE = 0x3FFF

TUPLE_ORIG, TUPLE_REPLY, STATUS, PROTOINFO, HELP, NAT_SRC, TIMEOUT, MARK = range(1, 9)
NAT_DST, TUPLE_MASTER, SEQ_ADJ_ORIG, SEQ_ADJ_REPLY = range(13, 17)
ZONE, LABELS, SYNPROXY = 18, 22, 24

_ORDER = (
    *(TUPLE_ORIG, ZONE, TUPLE_REPLY, STATUS, TIMEOUT, PROTOINFO, MARK),
    *(LABELS, HELP, SEQ_ADJ_ORIG, SEQ_ADJ_REPLY, SYNPROXY, TUPLE_MASTER),
)
"""Every other attribute stays behind: ids, counters, use counts and time stamps belong to one kernel."""

_STATUS_EXPECTED, _STATUS_CONFIRMED, _STATUS_DYING = 0x1, 0x8, 0x200
STATUS_NAT = 0x30  # IPS_SRC_NAT | IPS_DST_NAT
_STATUS_DROPPED = _STATUS_EXPECTED | _STATUS_DYING | 0xD800  # ... TEMPLATE, UNTRACKED, OFFLOAD, HW_OFFLOAD

_TCP_BE_LIBERAL = 0x08
_TCP_FLAGS = (
    0x0F  # WINDOW_SCALE, SACK_PERM, CLOSE_INIT, BE_LIBERAL: the rest speaks of windows we do not have
)


class Change(enum.IntEnum):
    """What a canonical message does to what a replica holds of its key; stands in the sequence number."""

    WHOLE = 0
    """All there is to say, from a dump."""
    BEGUN = 1
    """All there is to say of a connection that did not exist before."""
    UPDATED = 2
    """What is not named stays as it was."""
    ENDED = 3
    """It is gone; the message is a deletion."""


def messages(buffer: bytes) -> Iterator[bytes]:
    """The netlink messages in what one read returned.

    Raises:
        PeerError: a length that does not fit.
    """
    offset, end = 0, len(buffer)
    while offset < end:
        if offset + HEADER.size > end:
            raise PeerError(f"{end - offset} bytes where a netlink header of {HEADER.size} was expected")
        (length,) = struct.unpack_from("=I", buffer, offset)
        if not HEADER.size <= length <= end - offset:
            raise PeerError(f"a netlink message of {length} bytes in {end - offset}")
        yield buffer[offset : offset + length]
        offset += (length + 3) & ~3


def attributes(data: bytes, start: int, end: int) -> dict[int, bytes]:
    """Attributes by type, each with its header and padding; of a type that comes twice the last one.

    Raises:
        PeerError: a length that does not fit.
    """
    found = {}
    while start < end:
        if start + 4 > end:
            raise PeerError(f"{end - start} bytes where an attribute was expected")
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        after = start + ((length + 3) & ~3)
        if length < 4 or after > end:
            raise PeerError(f"an attribute of {length} bytes in {end - start}")
        found[kind & _TYPE] = data[start:after]
        start = after
    return found


def change_of(message: bytes) -> Change:
    """What a message of the kernel tells: an event of one of three groups, or an entry of a dump.

    Raises:
        PeerError: it is neither.
    """
    _, kind, flags, _, _ = HEADER.unpack_from(message)
    if kind == DELETE:
        return Change.ENDED
    if kind != NEW:
        raise PeerError(f"netlink message type {kind:#x}, expected ctnetlink's {NEW:#x} or {DELETE:#x}")
    if flags & MULTI:
        return Change.WHOLE
    return Change.BEGUN if flags & CREATE else Change.UPDATED


def canonical(message: bytes) -> tuple[bytes, bytes]:
    """The key and the canonical form of one message of the kernel.

    Raises:
        PeerError: it is not a message about a connection.
    """
    if len(message) < BODY:
        raise PeerError(f"a message of {len(message)} bytes, expected at least {BODY}")
    change = change_of(message)
    found = attributes(message, BODY, len(message))
    if TUPLE_ORIG not in found or (change is not Change.ENDED and TUPLE_REPLY not in found):
        raise PeerError("a connection without its tuples")
    key = found[TUPLE_ORIG] + found.get(ZONE, b"")
    family = message[HEADER.size : HEADER.size + 1] + bytes(3)
    if change is Change.ENDED:
        return key, deletion(family, key)
    if STATUS in found:
        found[STATUS] = status_for_insertion(found[STATUS])
    if PROTOINFO in found:
        found[PROTOINFO] = protoinfo_for_insertion(found[PROTOINFO])
    if not any(found.get(SYNPROXY, b"")[8:]):
        # The kernel gives the extension to whatever ctnetlink has inserted, with zeros in it.
        found.pop(SYNPROXY, None)
    return key, _put_together(change, family, found)


def change_in(message: bytes) -> int:
    """What a canonical message does, as a number of :class:`Change`."""
    return message[_CHANGE_AT]


def as_change(message: bytes, change: Change) -> bytes:
    """The same canonical message, to another end."""
    return HEADER.pack(len(message), NEW, _FLAGS[change], change, 0) + message[HEADER.size :]


def touch(message: bytes, timeout_s: int) -> bytes:
    """The message that gives the connection of a canonical message so many seconds from now, if it exists."""
    body = key_of(message) + _TIMEOUT_HEADER + timeout_s.to_bytes(4, "big")
    return HEADER.pack(BODY + len(body), NEW, REQUEST, Change.UPDATED, 0) + message[HEADER.size : BODY] + body


def timeout_s(message: bytes) -> int:
    """What a canonical message says of its connection's time left; 0 where it says nothing."""
    found = attributes(message, BODY, len(message))
    return int.from_bytes(_value(found[TIMEOUT], 4), "big") if TIMEOUT in found else 0


def deletion(family: bytes, key: bytes) -> bytes:
    """The message that deletes the connection of a key; ``family`` is its nfgenmsg."""
    return HEADER.pack(BODY + len(key), DELETE, REQUEST, Change.ENDED, 0) + family + key


def deletion_of(message: bytes) -> bytes:
    """The message that deletes what a canonical message is about."""
    return deletion(message[HEADER.size : BODY], key_of(message))


_START = struct.Struct("=IIII4sHH")
_FLAGS = {
    Change.WHOLE: REQUEST | CREATE,
    Change.BEGUN: REQUEST | CREATE,
    Change.UPDATED: REQUEST,
    Change.ENDED: REQUEST,
}
_KINDS = [
    struct.unpack_from(
        "=I", HEADER.pack(0, DELETE if change is Change.ENDED else NEW, _FLAGS[change], 0, 0), 4
    )[0]
    for change in Change
]
_CHANGE_AT = 8 + struct.pack("=I", 1).index(1)
_ZONE_HEADER = _ATTRIBUTE.pack(6, ZONE)


def key_of(message: bytes) -> bytes:
    """The key of a canonical message: the attribute of the original tuple, and of the zone where there is one.

    Raises:
        PeerError: it has none.
    """
    length, kind = _ATTRIBUTE.unpack_from(message, BODY)
    end = BODY + ((length + 3) & ~3)
    if kind & _TYPE != TUPLE_ORIG or length <= 4 or end > len(message):
        raise PeerError("no original tuple where one was expected")
    if message[end : end + 4] == _ZONE_HEADER:
        end += 8
    return message[BODY:end]


def split(payload: bytes) -> list[tuple[bytes, bytes]]:
    """Keys and canonical messages of a datagram's payload.

    What came over the wire and is about to be written into a kernel may be a message about one connection
    and nothing else: not another subsystem's, and no deletion without a tuple, which would empty the table.

    Raises:
        PeerError: one of the messages is not canonical; nothing of the payload may be used.
    """
    found = []
    offset, end = 0, len(payload)
    unpack, size = _START.unpack_from, _START.size
    while offset < end:
        if end - offset < size:
            raise PeerError(f"{end - offset} bytes where a message was expected")
        length, kind, change, port, _, tuple_bytes, tuple_type = unpack(payload, offset)
        tuple_end = BODY + ((tuple_bytes + 3) & ~3)
        if (
            not tuple_end <= length <= end - offset
            or length > MESSAGE_BYTES_MAX
            or length % 4
            or tuple_type != _NESTED | TUPLE_ORIG
            or tuple_bytes <= 4
            or change > Change.ENDED
            or port
            or kind != _KINDS[change]
        ):
            raise PeerError(f"no canonical message at byte {offset}")
        message = payload[offset : offset + length]
        if message[tuple_end : tuple_end + 4] == _ZONE_HEADER:
            tuple_end += 8
        found.append((message[BODY:tuple_end], message))
        offset += length
    return found


def status_for_insertion(attribute: bytes) -> bytes:
    """CTA_STATUS without the bits that a kernel refuses or sets itself, and CONFIRMED.

    EXPECTED, DYING and a missing CONFIRMED are EBUSY (ctnetlink_change_status).
    """
    bits = int.from_bytes(_value(attribute, 4), "big") & ~_STATUS_DROPPED | _STATUS_CONFIRMED
    return attribute[:4] + bits.to_bytes(4, "big")


def protoinfo_for_insertion(attribute: bytes) -> bytes:
    """CTA_PROTOINFO with TCP told not to check windows.

    ctnetlink carries a connection's state, flags and window scale, not its sequence windows. A kernel without
    them would drop what it sees first as out of window: BE_LIBERAL for both directions. The mask says which
    flags are to be taken from us; the kernel tells it as 0.
    """
    inner = attributes(attribute, 4, len(attribute))
    if 1 not in inner:  # CTA_PROTOINFO_TCP
        return attribute
    tcp = inner[1]
    found = attributes(tcp, 4, len(tcp))
    for direction in (4, 5):  # CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, _REPLY
        flags = _value(found[direction], 2)[0] if direction in found else 0
        found[direction] = _attribute(direction, bytes(((flags | _TCP_BE_LIBERAL) & _TCP_FLAGS, _TCP_FLAGS)))
    return _nest(PROTOINFO, _nest(1, *found.values()))


def merged(held: bytes, update: bytes) -> bytes:
    """What is known of a connection after an update: an event names only what has changed.

    Args:
        held: a canonical message.
        update: a later one of the same key.

    Raises:
        PeerError: one of them is not well formed.
    """
    found = attributes(held, BODY, len(held)) | attributes(update, BODY, len(update))
    return _put_together(Change(change_in(held)), held[HEADER.size : BODY], found)


def timeout_for_replica(message: bytes, timeout_s_min: int) -> bytes:
    """A canonical message whose CTA_TIMEOUT is at least so many seconds; it gets one where it has none."""
    least = timeout_s_min.to_bytes(4, "big")
    if message[132:136] == _TIMEOUT_HEADER and message[72:76] == _REPLY4_HEADER:  # IPv4 and ports
        return message if message[136:140] >= least else message[:136] + least + message[140:]
    found = attributes(message, BODY, len(message))
    if TIMEOUT in found and _value(found[TIMEOUT], 4) >= least:
        return message
    found[TIMEOUT] = _TIMEOUT_HEADER + least
    return _put_together(Change(change_in(message)), message[HEADER.size : BODY], found)


_TIMEOUT_HEADER = _ATTRIBUTE.pack(8, TIMEOUT)
_REPLY4_HEADER = _ATTRIBUTE.pack(52, TUPLE_REPLY | _NESTED)


def insertion(message: bytes) -> bytes:
    """The form in which a kernel that does not have the connection takes it.

    A connection with NAT is given its reply tuple as if there was none, and what to translate to: the kernel
    derives the translated reply tuple from the two, and only then knows that packets must be changed. An
    entry that exists refuses these attributes (EOPNOTSUPP), so an update is the canonical form.

    Raises:
        PeerError: the message is not well formed.
    """
    if (
        message[72:76] == _REPLY4_HEADER
        and message[124:128] == _STATUS_HEADER
        and not message[131] & STATUS_NAT
    ):
        return message
    found = attributes(message, BODY, len(message))
    if STATUS not in found or not found[STATUS][-1] & STATUS_NAT:
        return message
    original = _Tuple(found[TUPLE_ORIG])
    reply = _Tuple(found[TUPLE_REPLY])
    bits = found[STATUS][-1]
    if bits & 0x10:
        found[NAT_SRC] = _translation(NAT_SRC, reply.destination, reply.destination_port or reply.icmp_id)
    if bits & 0x20:
        found[NAT_DST] = _translation(NAT_DST, reply.source, reply.source_port)
    found[TUPLE_REPLY] = reply.answering(original)
    return _put_together(
        Change(change_in(message)), message[HEADER.size : BODY], found, (*_ORDER, NAT_SRC, NAT_DST)
    )


_STATUS_HEADER = _ATTRIBUTE.pack(8, STATUS)


class _Tuple:
    """The addresses and ports of one direction, as attributes' values; empty where it has none."""

    def __init__(self, attribute: bytes) -> None:
        top = attributes(attribute, 4, len(attribute))
        self._top = top
        self._ip = _inner(top, 1)
        self._proto = _inner(top, 2)
        self._offset = 0 if 1 in self._ip else 2  # CTA_IP_V4_SRC, _DST or V6

        def value(found: dict[int, bytes], kind: int, length: int) -> bytes:
            return _value(found[kind], length) if kind in found else b""

        address_bytes = 4 if 1 in self._ip else 16
        self.source = value(self._ip, 1 + self._offset, address_bytes)
        self.destination = value(self._ip, 2 + self._offset, address_bytes)
        self.protocol = value(self._proto, 1, 1)
        self.source_port = value(self._proto, 2, 2)
        self.destination_port = value(self._proto, 3, 2)
        self._icmp = 4 if 4 in self._proto else 7  # CTA_PROTO_ICMP_ID or _ICMPV6_ID; type and code follow
        self.icmp_id = value(self._proto, self._icmp, 2)
        self.icmp_type = value(self._proto, self._icmp + 1, 1)

    def answering(self, original: _Tuple) -> bytes:
        """The reply tuple of the same connection without NAT."""
        ip = {
            1 + self._offset: _attribute(1 + self._offset, original.destination),
            2 + self._offset: _attribute(2 + self._offset, original.source),
        }
        proto = dict(self._proto)
        for kind, value in (
            (2, original.destination_port),
            (3, original.source_port),
            (self._icmp, original.icmp_id),
        ):
            if kind in proto:
                proto[kind] = _attribute(kind, value)
        rest = (raw for kind, raw in self._top.items() if kind not in {1, 2})
        return _nest(TUPLE_REPLY, _nest(1, *ip.values()), _nest(2, *proto.values()), *rest)


def addresses(tuple_attribute: bytes) -> tuple[bytes, bytes]:
    """Source and destination of a tuple."""
    found = _Tuple(tuple_attribute)
    return found.source, found.destination


def service(tuple_attribute: bytes) -> tuple[int, int]:
    """IP protocol number and destination port of a tuple; the port is 0 where the protocol has none."""
    found = _Tuple(tuple_attribute)
    return found.protocol[0], int.from_bytes(found.destination_port, "big")


def _translation(kind: int, address: bytes, port: bytes) -> bytes:
    lowest, highest = (1, 2) if len(address) == 4 else (4, 5)  # CTA_NAT_V4_MINIP, _MAXIP or V6
    parts = [_attribute(lowest, address), _attribute(highest, address)]
    if port:
        parts.append(_nest(3, _attribute(1, port), _attribute(2, port)))  # CTA_NAT_PROTO: PORT_MIN, PORT_MAX
    return _nest(kind, *parts)


def second_try(message: bytes, error: int) -> list[bytes] | None:
    """What to write instead of a message that the kernel refused, if anything.

    The kernel echoes the refused message, and with it its sequence number, which counts the tries.

    Args:
        message: as the kernel echoed it.
        error: the errno.

    Returns:
        Messages to write; None when nothing is left to try.
    """
    try:
        if error not in {
            errno.EBUSY,
            errno.EOPNOTSUPP,
            errno.EEXIST,
            errno.ENOENT,
            errno.EINVAL,
            errno.EAGAIN,
        }:
            return None
        length, kind, flags, tries, _ = HEADER.unpack_from(message)
        if kind != NEW or tries & _LAST_TRY:
            return None
        if error == errno.ENOENT and not flags & CREATE:
            # An update of what this kernel has lost: it says enough to make it again.
            return (
                [insertion(as_change(message[:length], Change.WHOLE))]
                if STATUS in attributes(message, BODY, length)
                else None
            )
        found = attributes(message, BODY, min(length, len(message)))
        if tries & _SECOND_TRY:
            # What is left to refuse are a helper that this kernel has not, or a master that is gone.
            for dispensable in (HELP, TUPLE_MASTER, SYNPROXY, SEQ_ADJ_ORIG, SEQ_ADJ_REPLY):
                found.pop(dispensable, None)
        body = b"".join(found.values())
        tries |= _LAST_TRY if tries & _SECOND_TRY else _SECOND_TRY
        again = HEADER.pack(BODY + len(body), kind, flags, tries, 0) + message[HEADER.size : BODY] + body
        # An entry that stands in the way: what it has can not be changed into what is wanted.
        return [deletion_of(again), again]
    except (PeerError, struct.error):
        return None


_SECOND_TRY, _LAST_TRY = 0x100, 0x200


def _put_together(
    change: Change, family: bytes, found: dict[int, bytes], order: tuple[int, ...] = _ORDER
) -> bytes:
    body = b"".join([found[kind] for kind in order if kind in found])
    if BODY + len(body) > MESSAGE_BYTES_MAX:
        raise PeerError(f"a connection in {BODY + len(body)} bytes, expected at most {MESSAGE_BYTES_MAX}")
    return HEADER.pack(BODY + len(body), NEW, _FLAGS[change], change, 0) + family + body


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def _nest(kind: int, *parts: bytes) -> bytes:
    return _attribute(kind | _NESTED, b"".join(parts))


def _inner(found: dict[int, bytes], kind: int) -> dict[int, bytes]:
    if kind not in found:
        raise PeerError("a tuple without addresses or protocol")
    return attributes(found[kind], 4, len(found[kind]))


def _value(attribute: bytes, length: int) -> bytes:
    value = attribute[4 : 4 + length]
    if len(value) != length:
        raise PeerError(f"an attribute's value of {len(value)} bytes, expected {length}")
    return value
