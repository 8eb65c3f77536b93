"""What is a datagram between the two hosts of a pair?

    magic "GMLS"  version  kind  flags  0   sender  to  epoch  owner  number  beat  echo   payload   tag
         4           1      1      1    1     8     8     8      8      8      8     8        n       16

All numbers are big-endian; the connections in a payload are in their machine's order, which a flag tells. The
tag is HMAC-SHA256 over everything before it, cut to 16 bytes, under a key made of the shared password. Sender
and ``to`` are chance, drawn when a process starts: a datagram with both was made in the lifetime of both.
Beat counts the sender's heartbeats, and echo is the last that it has heard of its receiver's: so a receiver
knows how old a datagram can be, without a clock that both have.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import struct
import sys
import zlib
from dataclasses import dataclass

from gimli.errors import PeerError

_HEADER = struct.Struct(">4sBBBxQQQQQQQ")
_TAG_BYTES = 16
_MAGIC = b"GMLS"
_VERSION = 1

_COMPRESSED, _LITTLE, _OWNS = 0x01, 0x02, 0x04
_EPOCH_MAX = 2**63
_NATIVE = _LITTLE if sys.byteorder == "little" else 0

_COMPRESS_FROM = 1200
"""Shorter payloads fit into one frame as they are."""

PAYLOAD_BYTES_MAX = 60_000


class Kind(enum.IntEnum):
    """What a datagram is for."""

    HELLO = 1
    """A replica wants everything; the sequence number counts its wishes."""
    STATES = 2
    """Changes of connections, in sequence."""
    BULK_BEGIN = 3
    """In sequence: everything follows; the payload has the number of the wish."""
    BULK_END = 4
    """In sequence: that was everything."""
    ACK = 5
    """All up to the sequence number is applied; the payload names what is missing after it."""
    HEARTBEAT = 6
    """The owner lives; the sequence number is the last it has sent."""
    ADVERTISEMENT = 7
    """A CARP packet."""


class Refused(PeerError):
    """A datagram that is not used.

    Args:
        reason: one word, under which it is counted.
        what: for people.
    """

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(what)
        self.reason = reason


@dataclass(frozen=True, slots=True, order=True)
class Reign:
    """Whose connections count: the higher one's. No two reigns are equal, for no two owners are."""

    epoch: int = 0
    owner: int = 0


@dataclass(frozen=True, slots=True)
class Datagram:
    """A datagram that was authentic.

    Args:
        kind: what it is for.
        sender: who made it.
        to: for whom; 0 from a sender that does not know its peer.
        reign: the highest that the sender knows of; its own when it is the owner.
        number: the sequence number.
        payload: the rest.
        owns: whether the sender is an owner; the reign is its own then.
        beat: how many heartbeats the sender has made.
        echo: the last that it has heard of its receiver's.
    """

    kind: Kind
    sender: int
    to: int
    reign: Reign
    number: int
    payload: bytes
    owns: bool
    beat: int
    echo: int


class Wire:
    """Packs and parses under one key.

    Args:
        password: the shared one.
    """

    def __init__(self, password: bytes) -> None:
        key = hmac.digest(password, b"gimli state sync, version 1", "sha256")
        self._mac = hmac.new(key, b"", hashlib.sha256)

    def pack(self, datagram: Datagram) -> bytes:
        """The bytes of a datagram."""
        payload = datagram.payload
        flags = _NATIVE | _OWNS if datagram.owns else _NATIVE
        if len(payload) >= _COMPRESS_FROM:
            # A window of 4 kB and a table of as much: 15 us for 8 kB; with zlib's usual 256 kB it is 66.
            deflate = zlib.compressobj(1, zlib.DEFLATED, -12, 5)
            shorter = deflate.compress(payload) + deflate.flush()
            if len(shorter) < len(payload):
                payload, flags = shorter, flags | _COMPRESSED
        head = _HEADER.pack(
            _MAGIC,
            _VERSION,
            datagram.kind,
            flags,
            datagram.sender,
            datagram.to,
            datagram.reign.epoch,
            datagram.reign.owner,
            datagram.number,
            datagram.beat,
            datagram.echo,
        )
        return head + payload + self._tag(head, payload)

    def parse(self, data: bytes) -> Datagram:
        """A datagram of bytes.

        Raises:
            Refused: it is not one of ours.
        """
        if len(data) < _HEADER.size + _TAG_BYTES:
            raise Refused("short", f"{len(data)} bytes, expected at least {_HEADER.size + _TAG_BYTES}")
        magic, version, kind, flags, sender, to, epoch, owner, number, beat, echo = _HEADER.unpack_from(data)
        if magic != _MAGIC or version != _VERSION:
            raise Refused("foreign", f"starts with {data[:5].hex()}, expected {_MAGIC.hex()}{_VERSION:02x}")
        payload = data[_HEADER.size : -_TAG_BYTES]
        if not hmac.compare_digest(data[-_TAG_BYTES:], self._tag(data[: _HEADER.size], payload)):
            raise Refused("tag", "made with another password, or damaged")
        if flags & _LITTLE != _NATIVE:
            raise Refused("byte-order", "the peer's machine has another byte order")
        owns = bool(flags & _OWNS)
        if kind not in _KINDS or epoch >= _EPOCH_MAX or sender == 0 or (owns and owner != sender):
            raise Refused("malformed", f"kind {kind} from {sender:x} in epoch {epoch} of {owner:x}")
        if flags & _COMPRESSED:
            payload = _inflated(payload)
        return Datagram(Kind(kind), sender, to, Reign(epoch, owner), number, payload, owns, beat, echo)

    def _tag(self, head: bytes, payload: bytes) -> bytes:
        mac = self._mac.copy()
        mac.update(head)
        mac.update(payload)
        return mac.digest()[:_TAG_BYTES]


_KINDS = frozenset(Kind)


def _inflated(payload: bytes) -> bytes:
    inflate = zlib.decompressobj(-12)
    try:
        made = inflate.decompress(payload, PAYLOAD_BYTES_MAX)
    except zlib.error as error:
        raise Refused("compression", str(error)) from error
    if not inflate.eof or inflate.unused_data:
        raise Refused("compression", f"more than {PAYLOAD_BYTES_MAX} bytes, or not whole")
    return made


_RANGE = struct.Struct(">QQ")
_GAPS_MAX = 64


def pack_gaps(gaps: list[tuple[int, int]]) -> bytes:
    """The payload of an ACK: first and last number of each run that is missing; the earliest 64."""
    return b"".join([_RANGE.pack(*gap) for gap in gaps[:_GAPS_MAX]])


def parse_gaps(payload: bytes) -> list[tuple[int, int]]:
    """What is missing.

    Raises:
        Refused: not pairs of numbers.
    """
    if len(payload) % _RANGE.size or len(payload) > _GAPS_MAX * _RANGE.size:
        raise Refused("malformed", f"{len(payload)} bytes of gaps")
    return list(_RANGE.iter_unpack(payload))


_BEAT = struct.Struct(">QQ")


def pack_beat(join: int, lag_s: float) -> bytes:
    """The payload of HEARTBEAT and BULK_BEGIN: the wish that is served, and how far behind the replica is."""
    return _BEAT.pack(join, round(lag_s * 1e6))


def parse_beat(payload: bytes) -> tuple[int, float]:
    """Number of the wish, and seconds.

    Raises:
        Refused: not two numbers.
    """
    if len(payload) != _BEAT.size:
        raise Refused("malformed", f"{len(payload)} bytes of a heartbeat, expected {_BEAT.size}")
    join, lag_us = _BEAT.unpack(payload)
    return join, lag_us / 1e6
