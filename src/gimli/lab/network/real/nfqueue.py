"""How does a program decide about the kernel's packets? NFQUEUE, by a netlink socket and ``struct``.

    iptables-legacy -t mangle -A PREROUTING -p tcp -j NFQUEUE --queue-num 0
    with the queue open: read() -> packets, decide(verdicts) -> they go on, or are no more

Only the first bytes of a packet are copied to us: headers are what pf looks at.

Source: include/uapi/linux/netfilter/nfnetlink_queue.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gimli.errors import GimliError
from gimli.pair import netlink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SUBSYSTEM = 3 << 8
_PACKET, _VERDICT, _CONFIG = _SUBSYSTEM, _SUBSYSTEM | 1, _SUBSYSTEM | 2
_NETFILTER = 12
_ATTRIBUTE = struct.Struct("=HH")
_NFGENMSG = struct.Struct(">BBH")  # family, version, queue: the number in network order
_ID = struct.Struct(">I")
_DECISION = struct.Struct("=IHHIIBBHHHII")
"""A whole message with a verdict. The last two fields, verdict and id, are in network order."""
_DECISION_BYTES = _DECISION.size
_HEADER, _MARK, _INDEV, _PAYLOAD = 1, 3, 5, 10
_BIND, _COPY_PACKET = 1, 2
_MAX_WAITING = 16_384
_BUFFER_BYTES = 8 << 20
_SO_RCVBUFFORCE = 33
_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Queued:
    """One packet that waits.

    Args:
        number: by which it is decided about.
        interface: the index of the interface that it came by.
        mark: that nft has put on it.
        payload: from its IP header on.
    """

    number: int
    interface: int
    mark: int
    payload: bytes


class PacketQueue:
    """One queue of this network namespace.

    Args:
        number: as in the rule.
        copied: how many bytes of each packet are wanted.

    Raises:
        GimliError: the kernel has none.
    """

    def __init__(self, number: int, copied: int) -> None:
        self._number = number
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
            self._socket.bind((0, 0))
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
            self._configure(_attribute(1, struct.pack(">BBH", _BIND, 0, socket.AF_INET)))
            self._configure(
                _attribute(2, struct.pack(">IB", copied, _COPY_PACKET))
                + _attribute(3, struct.pack(">I", _MAX_WAITING))
            )
        except OSError as error:
            raise GimliError(
                "the kernel has no NFQUEUE for us",
                why=os.strerror(error.errno or 0),
                fix="it takes root and CONFIG_NETFILTER_NETLINK_QUEUE: modprobe nfnetlink_queue",
            ) from error
        self._socket.setblocking(False)
        self.lost = 0
        """How often the kernel had to throw packets away because we were too slow."""

    def fileno(self) -> int:
        """To be watched for reading."""
        return self._socket.fileno()

    def read(self) -> Iterator[Queued]:
        """Packets that wait now; without waiting for others."""
        while True:
            try:
                data = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost += 1
                continue
            for message in netlink.messages(data):
                if _packet_of(message):
                    yield _queued(message)

    def decide(self, verdicts: Iterable[tuple[int, bool]]) -> None:
        """Let packets go on, or not: (number, whether it passes)."""
        packed = b"".join(self._verdict(number, passes=passes) for number, passes in verdicts)
        if packed:
            self._socket.send(packed)

    def close(self) -> None:
        """Without a queue, the kernel drops what a rule sends there."""
        self._socket.close()

    def _verdict(self, number: int, *, passes: bool) -> bytes:
        return _DECISION.pack(
            *(_DECISION_BYTES, _VERDICT, netlink.REQUEST, 0, 0),
            *(0, 0, socket.htons(self._number)),
            *(12, 2, socket.htonl(int(passes)), socket.htonl(number)),
        )

    def _configure(self, attributes: bytes) -> None:
        body = _NFGENMSG.pack(0, 0, self._number) + attributes
        header = netlink.HEADER.pack(
            netlink.HEADER.size + len(body), _CONFIG, netlink.REQUEST | netlink.ACK, 0, 0
        )
        self._socket.send(header + body)
        answer = self._socket.recv(_READ_BYTES)
        (code,) = struct.unpack_from("=i", answer, netlink.HEADER.size)
        if code:
            raise OSError(-code, os.strerror(-code))


def _attribute(kind: int, payload: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def _packet_of(message: bytes) -> bool:
    return bool(netlink.HEADER.unpack_from(message)[1] == _PACKET)


def _queued(message: bytes) -> Queued:
    number = interface = mark = 0
    payload = b""
    at = netlink.HEADER.size + _NFGENMSG.size
    end = len(message)
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if kind == _HEADER:
            (number,) = _ID.unpack_from(message, at + 4)
        elif kind == _PAYLOAD:
            payload = message[at + 4 : at + length]
        elif kind == _INDEV:
            (interface,) = _ID.unpack_from(message, at + 4)
        elif kind == _MARK:
            (mark,) = _ID.unpack_from(message, at + 4)
        at += (length + 3) & ~3
    return Queued(number, interface, mark, payload)
