"""Connections as the kernel tells them: its messages byte by byte, as Linux 6.18 sends them.

``tests/pair/test_conntrack_real.py`` holds the kernel itself against the same code.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field, replace

TCP, UDP, ICMP, SCTP, ICMPV6 = 6, 17, 1, 132, 58
SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT = 1, 2, 3, 4
EXPECTED, SEEN_REPLY, ASSURED, CONFIRMED, SRC_NAT, DST_NAT, DYING = 1, 2, 4, 8, 16, 32, 512

BEGUN, UPDATED, ENDED, DUMPED = (0x100, 0x600), (0x100, 0), (0x102, 0), (0x100, 0x2)
"""Type and flags of the messages."""


def attribute(kind, value):
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def nest(kind, *parts):
    return attribute(kind | 0x8000, b"".join(parts))


def number(kind, value):
    return attribute(kind, struct.pack(">I", value))


def packed(address):
    return ipaddress.ip_address(address).packed


@dataclass(frozen=True)
class End:
    """An address and a port; of ICMP the id."""

    address: str
    port: int = 0


@dataclass(frozen=True)
class Connection:
    """What a kernel knows of one connection."""

    source: End = End("10.0.0.1", 40122)
    destination: End = End("192.0.2.10", 80)
    protocol: int = TCP
    reply_source: End | None = None
    reply_destination: End | None = None
    status: int = CONFIRMED
    timeout_s: int = 120
    state: int | None = SYN_SENT
    scales: tuple[int, int] = (7, 7)
    flags: tuple[int, int] = (0x23, 0x23)
    mark: int = 0
    labels: bytes = b""
    helper: str = ""
    zone: int = 0
    identity: int = 0x1234
    extra: bytes = b""
    counters: bool = field(default=False)

    def but(self, **changes):
        """The same but for."""
        return replace(self, **changes)

    @property
    def family(self):
        """AF_INET or AF_INET6."""
        return 2 if ":" not in self.source.address else 10

    def tuple(self, kind):
        """CTA_TUPLE_ORIG, 1, or CTA_TUPLE_REPLY, 2."""
        if kind == 1:
            return self._tuple(kind, self.source, self.destination, 8)
        return self._tuple(
            kind, self.reply_source or self.destination, self.reply_destination or self.source, 0
        )

    def _tuple(self, kind, source, destination, icmp_type):
        first = 1 if self.family == 2 else 3
        ip = nest(
            1, attribute(first, packed(source.address)), attribute(first + 1, packed(destination.address))
        )
        parts = [attribute(1, bytes((self.protocol,)))]
        if self.protocol in {ICMP, ICMPV6}:
            at = 4 if self.protocol == ICMP else 7
            identity = source.port or destination.port
            parts += [
                attribute(at, struct.pack(">H", identity)),
                attribute(at + 1, bytes((icmp_type,))),
                attribute(at + 2, b"\0"),
            ]
        else:
            parts += [
                attribute(2, struct.pack(">H", source.port)),
                attribute(3, struct.pack(">H", destination.port)),
            ]
        return nest(kind, ip, nest(2, *parts))

    def protoinfo(self):
        """CTA_PROTOINFO as the kernel tells it."""
        if self.state is None:
            return b""
        if self.protocol == SCTP:
            return nest(4, nest(3, attribute(1, bytes((self.state,))), number(2, 7), number(3, 8)))
        (one, other), (flags, reply_flags) = self.scales, self.flags
        return nest(
            4,
            nest(
                1,
                attribute(1, bytes((self.state,))),
                attribute(2, bytes((one,))),
                attribute(3, bytes((other,))),
                attribute(4, bytes((flags, 0))),
                attribute(5, bytes((reply_flags, 0))),
            ),
        )

    def message(self, kind, *, names=("protoinfo", "mark", "labels", "helper")):
        """The kernel's message; an update names only what has changed."""
        kind_type, flags = kind
        body = [self.tuple(1), self.tuple(2)]
        if self.zone:
            body.append(attribute(18, struct.pack(">H", self.zone)))
        if kind == DUMPED:
            body += [number(3, self.status), number(8, self.mark), number(12, self.identity), number(11, 1)]
        else:
            body += [number(12, self.identity), number(3, self.status)]
        if kind != ENDED:
            body.append(number(7, self.timeout_s))
            if "protoinfo" in names:
                body.append(self.protoinfo())
            if self.helper and "helper" in names:
                body.append(nest(5, attribute(1, self.helper.encode() + b"\0")))
            if self.labels and "labels" in names:
                body.append(attribute(22, self.labels))
            body.append(self.extra)
            if kind != DUMPED and self.mark and "mark" in names:
                body.append(number(8, self.mark))
        if self.counters:
            body.append(nest(9, attribute(1, bytes(8)), attribute(2, bytes(8))))
        data = bytes((self.family, 0, 0, 0)) + b"".join(body)
        return struct.pack("=IHHII", 16 + len(data), kind_type, flags, 0, 77) + data
