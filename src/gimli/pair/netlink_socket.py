"""How does one ask the kernel something by netlink, and hear its answer?

Messages are bytes made with ``struct``; a socket stays open, so that a request costs two system calls and
no process. Every message of a request is acknowledged, and every acknowledgement is read: nothing is
thought done that the kernel has not said is done.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gimli.pair import bpf, netlink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ROUTE = 0
NETFILTER = 12

_SOL_NETLINK = 270
_CAP_ACK, _EXT_ACK = 10, 11
_ACK_TLVS, _ACK_CAPPED = 0x200, 0x100

_RECEIVE_BYTES = 1 << 18
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Message:
    """One request: its type, its flags besides REQUEST and ACK, its body."""

    type: int
    body: bytes
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the kernel said to one message: errno, 0 for done, and its words, if it had any."""

    errno: int
    words: str = ""

    def __str__(self) -> str:
        return f"{os.strerror(self.errno)}{f' ({self.words})' if self.words else ''}"


class Netlink:
    """A socket that asks.

    Args:
        protocol: ROUTE or NETFILTER.
        timeout_s: for an answer. The kernel answers within the call that asks, so its end means a bug.
    """

    def __init__(self, protocol: int, *, timeout_s: float = 2.0) -> None:
        self._timeout_s = timeout_s
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        self._socket.bind((0, 0))
        self.port: int = self._socket.getsockname()[0]

    def close(self) -> None:
        """Close it; twice is once."""
        self._socket.close()

    def ask(
        self, requests: Sequence[Message], *, before: Message | None = None, behind: Message | None = None
    ) -> list[Answer]:
        """Send messages in one call, and read an answer to each.

        Args:
            requests: each is acknowledged.
            before: opens a batch; not acknowledged.
            behind: closes it.

        Raises:
            TimeoutError: the kernel has not answered.
            OSError: it has not taken the messages.
        """
        if not requests:
            return []
        first = self._sequence + 1
        packed = [self._packed(before, 0)] if before else []
        begin = self._sequence + 1
        packed += [self._packed(each, netlink.ACK) for each in requests]
        if behind:
            packed.append(self._packed(behind, 0))
        answers: dict[int, Answer] = {}
        wanted = range(begin, begin + len(requests))
        self._socket.send(b"".join(packed))
        deadline_s = time.monotonic() + self._timeout_s
        while len(answers) < len(requests):
            for kind, flags, sequence, _, body in _parsed(self._receive(deadline_s)):
                if kind != netlink.ERROR or sequence < first:
                    continue  # an answer that an earlier request did not wait for
                answer = _answer(flags, body)
                if sequence not in wanted:  # the batch as a whole was refused
                    return [answer] * len(requests)
                answers[sequence] = answer
        return [answers[sequence] for sequence in wanted]

    def get(self, request: Message) -> tuple[int, bytes]:
        """Type and body of one object.

        Raises:
            TimeoutError: the kernel has not answered.
            OSError: it refuses, or has no such object.
        """
        self._socket.send(self._packed(request, netlink.ACK))
        found: tuple[int, bytes] | None = None
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            for kind, flags, sequence, _, body in _parsed(self._receive(deadline_s)):
                if sequence != self._sequence:
                    continue
                if kind != netlink.ERROR:
                    found = (kind, body)
                    continue
                answer = _answer(flags, body)
                if answer.errno or found is None:
                    raise OSError(answer.errno, str(answer))
                return found

    def dump(self, request: Message) -> Iterator[tuple[int, bytes]]:
        """Type and body of every object the kernel has.

        Raises:
            TimeoutError: the kernel has not answered.
            OSError: it refuses.
        """
        self._socket.send(self._packed(request, netlink.DUMP))
        sequence = self._sequence
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            for kind, flags, number, _, body in _parsed(self._receive(deadline_s)):
                if number != sequence:
                    continue
                if kind == netlink.DONE:
                    return
                if kind == netlink.ERROR:
                    answer = _answer(flags, body)
                    raise OSError(answer.errno, str(answer))
                yield kind, body

    def _packed(self, message: Message, flags: int) -> bytes:
        self._sequence += 1
        length = 16 + len(message.body)
        flags |= netlink.REQUEST | message.flags
        header = netlink.HEADER.pack(length, message.type, flags, self._sequence, 0)
        return header + message.body + bytes(-length % 4)

    def _receive(self, deadline_s: float) -> bytes:
        while True:
            try:
                return self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError(f"the kernel has not answered within {self._timeout_s} s") from None
                select.select([self._socket], [], [], left_s)


def _parsed(data: bytes) -> Iterator[tuple[int, int, int, int, bytes]]:
    """Type, flags, sequence number, port and body of the messages in one datagram."""
    for message in netlink.messages(data):
        _, kind, flags, sequence, port = netlink.HEADER.unpack_from(message)
        yield kind, flags, sequence, port, message[netlink.HEADER.size :]


def _answer(flags: int, body: bytes) -> Answer:
    (error,) = struct.unpack_from("=i", body)
    words = ""
    if flags & _ACK_TLVS:
        length = 0 if flags & _ACK_CAPPED else struct.unpack_from("=I", body, 4)[0] - 16
        for kind, payload in netlink.contents(body, 20 + ((length + 3) & ~3)):
            if kind == 1:  # NLMSGERR_ATTR_MSG
                words = payload.rstrip(b"\0").decode(errors="replace")
    return Answer(-error, words)


class Subscription:
    """A socket that hears what changes.

    Args:
        protocol: ROUTE or NETFILTER.
        groups: numbers of multicast groups.
    """

    def __init__(self, protocol: int, groups: Iterable[int]) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._socket.bind((0, 0))
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, 1, group)  # NETLINK_ADD_MEMBERSHIP

    def fileno(self) -> int:
        """To be watched for reading."""
        return self._socket.fileno()

    def filter(self, program: bpf.Program) -> None:
        """Let the kernel throw away what the program does not want."""
        bpf.attach(self._socket, program)

    def close(self) -> None:
        """Close it; twice is once."""
        self._socket.close()

    def read(self) -> tuple[list[tuple[int, int, bytes]], bool]:
        """Type, causer's port and body of what has come, without waiting; and whether some was lost."""
        heard: list[tuple[int, int, bytes]] = []
        lost = False
        while True:
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return heard, lost
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more came than the buffer holds
                    raise
                lost = True
                continue
            heard += [(kind, port, body) for kind, _, _, port, body in _parsed(data)]
