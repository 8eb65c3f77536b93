"""What is in a netlink message? Bytes in this machine's order, hostile until they are parsed."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from gimli.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence number, port."""

ERROR, DONE = 2, 3
"""Types of every family's messages; the others begin at 16."""

REQUEST, MULTI, ACK, DUMP, CREATE, EXCLUSIVE = 0x1, 0x2, 0x4, 0x300, 0x400, 0x200
"""Flags."""

ATTRIBUTE = struct.Struct("=HH")
"""nlattr: length, type."""

NESTED = 0x8000
_TYPE = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER


def messages(buffer: bytes) -> Iterator[bytes]:
    """The messages in what one read returned.

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
        offset += aligned(length)


def fixed(layout: struct.Struct, body: bytes) -> tuple[Any, ...]:
    """What stands before a body's attributes.

    Raises:
        PeerError: it is shorter than that.
    """
    if len(body) < layout.size:
        raise PeerError(f"a body of {len(body)} bytes, expected at least {layout.size}")
    return layout.unpack_from(body)


def attributes(data: bytes, start: int, end: int) -> dict[int, bytes]:
    """Attributes by type, each with its header and padding; of a type that comes twice the last one.

    Raises:
        PeerError: a length that does not fit.
    """
    found = {}
    while start < end:
        if start + 4 > end:
            raise PeerError(f"{end - start} bytes where an attribute was expected")
        length, kind = ATTRIBUTE.unpack_from(data, start)
        after = start + aligned(length)
        if length < 4 or after > end:
            raise PeerError(f"an attribute of {length} bytes in {end - start}")
        found[kind & _TYPE] = data[start:after]
        start = after
    return found


def contents(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Type and content, without header and padding, of the attributes in ``data``, in order.

    Raises:
        PeerError: a length that does not fit.
    """
    while start < len(data):
        if start + ATTRIBUTE.size > len(data):
            raise PeerError(f"{len(data) - start} bytes where an attribute was expected")
        length, kind = ATTRIBUTE.unpack_from(data, start)
        if not ATTRIBUTE.size <= length <= len(data) - start:
            raise PeerError(f"an attribute of {length} bytes in {len(data) - start}")
        yield kind & _TYPE, data[start + ATTRIBUTE.size : start + length]
        start += aligned(length)


def nested(attribute: bytes) -> dict[int, bytes]:
    """The attributes in an attribute.

    Raises:
        PeerError: a length that does not fit.
    """
    return attributes(attribute, 4, len(attribute))


def value(attribute: bytes, length: int) -> bytes:
    """The first bytes of an attribute's value.

    Raises:
        PeerError: it has fewer.
    """
    found = attribute[4 : 4 + length]
    if len(found) != length:
        raise PeerError(f"an attribute's value of {len(found)} bytes, expected {length}")
    return found


def attribute(kind: int, content: bytes) -> bytes:
    """An attribute, padded."""
    return ATTRIBUTE.pack(4 + len(content), kind) + content + bytes(-len(content) % 4)


def nest(kind: int, *parts: bytes) -> bytes:
    """An attribute of attributes."""
    return attribute(kind | NESTED, b"".join(parts))


def text(kind: int, content: str) -> bytes:
    """An attribute that is a string."""
    return attribute(kind, content.encode() + b"\0")


def aligned(length: int) -> int:
    """Where the next one begins: everything in netlink starts at a multiple of four."""
    return (length + 3) & ~3
