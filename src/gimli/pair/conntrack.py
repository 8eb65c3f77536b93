"""How do connections get out of this kernel's table, and into it? Raw ctnetlink sockets, never blocking.

    Events   what has changed: one message per system call would be most of the cost, so recvmmsg
    Dump     everything there is, in slices
    Writer   many messages per system call, no acknowledgements, failures counted

Everything is of the network namespace in which the socket was made. Events come only with
net.netfilter.nf_conntrack_events=1 (its default, 2, leaves out connections that are older than the listener)
and while a rule of the namespace uses connection tracking.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from dataclasses import dataclass

from gimli.errors import GimliError
from gimli.pair import ctinsertion, ctmessage, netlink

_NETLINK_NETFILTER = 12
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_GROUPS = (1, 2, 3)  # NFNLGRP_CONNTRACK_NEW, _UPDATE, _DESTROY

_EVENTS_SYSCTL = "/proc/sys/net/netfilter/nf_conntrack_events"

_SLOTS = 128
_SLOT_BYTES = 2048
"""Events are 150 to 400 bytes, however they are made."""


class ConntrackRefused(GimliError):
    """The kernel does not let us at its connections."""


def enable_events() -> None:
    """Make this namespace tell of its connections; before the first one is to be replicated.

    Raises:
        ConntrackRefused: it cannot be set.
    """
    try:
        with open(_EVENTS_SYSCTL, "w", encoding="ascii") as file:
            file.write("1")
    except OSError as error:
        raise ConntrackRefused(
            "connection tracking does not tell of changes",
            why=f"{_EVENTS_SYSCTL}: {error.strerror}",
            fix="run as root, with nf_conntrack_netlink loaded: modprobe nf_conntrack_netlink",
        ) from error


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Msghdr(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_bytes", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iov_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_bytes", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _Mmsghdr(ctypes.Structure):
    _fields_ = [("header", _Msghdr), ("length", ctypes.c_uint32)]


_libc = ctypes.CDLL(None, use_errno=True)
_LOST = -1


@dataclass(frozen=True, slots=True)
class Batch:
    """What one reading of events brought.

    Args:
        messages: netlink messages, in order.
        lost: the kernel has dropped events: its table must be read as a whole.
        may_be_more: whether it is worth while to read at once again.
    """

    messages: list[bytes]
    lost: bool
    may_be_more: bool = False


class Events:
    """Changes of this namespace's connections.

    Args:
        receive_bytes: of the socket's buffer: how much may pile up while we are busy elsewhere.
    """

    def __init__(self, receive_bytes: int = 64 << 20) -> None:
        self._socket = _netlink_socket(receive_bytes)
        for group in _GROUPS:
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        self._buffer = (ctypes.c_char * (_SLOTS * _SLOT_BYTES))()
        self._view = memoryview(self._buffer).cast("B")
        base = ctypes.addressof(self._buffer)
        slots = [_Iovec(base + slot * _SLOT_BYTES, _SLOT_BYTES) for slot in range(_SLOTS)]
        self._iovecs = (_Iovec * _SLOTS)(*slots)
        self._headers = (_Mmsghdr * _SLOTS)()
        for slot in range(_SLOTS):
            self._headers[slot].header.iov = ctypes.addressof(self._iovecs) + slot * ctypes.sizeof(_Iovec)
            self._headers[slot].header.iov_count = 1
        words = memoryview(self._headers).cast("B").cast("I")
        stride = ctypes.sizeof(_Mmsghdr) // 4
        self._lengths = words[_Mmsghdr.length.offset // 4 :: stride]

    def fileno(self) -> int:
        """For the loop: readable when something has changed."""
        return self._socket.fileno()

    def drain(self) -> Batch:
        """Up to 128 messages, without waiting."""
        count = self._receive()
        if count == _LOST:
            # What is still queued is older than what was lost, and worth nothing: everything is read anew.
            while self._receive():
                pass
            return Batch([], lost=True)
        view, lengths = self._view, self._lengths
        messages = [
            view[slot * _SLOT_BYTES : slot * _SLOT_BYTES + lengths[slot]].tobytes() for slot in range(count)
        ]
        return Batch(messages, lost=False, may_be_more=count == _SLOTS)

    def _receive(self) -> int:
        """How many messages are in the slots."""
        count = _libc.recvmmsg(self._socket.fileno(), self._headers, _SLOTS, socket.MSG_DONTWAIT, None)
        if count >= 0:
            return int(count)
        number = ctypes.get_errno()
        if number == errno.ENOBUFS:
            return _LOST
        if number in {errno.EAGAIN, errno.EINTR}:
            return 0
        raise OSError(number, os.strerror(number))

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()


class Dump:
    """All of this namespace's connections, read when somebody has time for it: the kernel waits.

    Args:
        receive_bytes: of the socket's buffer.
    """

    def __init__(self, receive_bytes: int = 1 << 20) -> None:
        self._socket = _netlink_socket(receive_bytes)
        self.done = True
        self.again()

    def again(self) -> None:
        """Begin once more, when it has come to its end."""
        assert self.done
        self.done = False
        flags = netlink.REQUEST | netlink.DUMP
        self._socket.send(netlink.HEADER.pack(ctmessage.BODY, ctmessage.GET, flags, 1, 0) + bytes(4))

    def fileno(self) -> int:
        """For the loop: readable while there is more."""
        return self._socket.fileno()

    def drain(self, reads: int = 4) -> list[bytes]:
        """The next messages, some 100 per read; ``done`` is set when those were the last.

        Raises:
            ConntrackRefused: the kernel does not dump.
        """
        found: list[bytes] = []
        for _ in range(reads):
            try:
                chunk = self._socket.recv(65536)
            except BlockingIOError:
                return found
            for message in netlink.messages(chunk):
                kind = netlink.HEADER.unpack_from(message)[1]
                if kind == netlink.DONE:
                    self.done = True
                    return found
                if kind == netlink.ERROR:
                    (number,) = struct.unpack_from("=i", message, netlink.HEADER.size)
                    raise ConntrackRefused("connections cannot be listed", why=os.strerror(-number))
                found.append(message)
        return found

    def close(self) -> None:
        """Read no more."""
        self._socket.close()


class Writer:
    """Puts connections into this namespace's table, and takes them out.

    Nothing is acknowledged; the kernel answers failures only. One that has an answer in
    :func:`gimli.pair.ctinsertion.second_try` is tried again; the others are counted by errno.
    """

    def __init__(self) -> None:
        self._socket = _netlink_socket(8 << 20)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 8 << 20)
        self.written = 0
        self.tried_again = 0
        self.failed: dict[int, int] = {}
        """How many messages the kernel refused for good, by errno."""

    def write(self, messages: list[bytes], at_once: int = 128) -> None:
        """Write messages in their order; about 10 us each.

        Args:
            messages: deletions and insertions.
            at_once: how many in one system call.
        """
        self.written += len(messages)
        for start in range(0, len(messages), at_once):
            self._write(messages[start : start + at_once])

    def close(self) -> None:
        """Write no more."""
        self._socket.close()

    def _write(self, batch: list[bytes]) -> None:
        self._socket.send(b"".join(batch))
        settled: set[bytes] = set()
        for refused, number in self._refusals():
            again = ctinsertion.second_try(refused, number)
            if again is None:
                self._count(number)
            elif (key := ctmessage.key_of(refused)) not in settled:
                settled.add(key)
                self.tried_again += 1
                # The rest of the batch is written already. What it says of this connection stays the last
                # word.
                self._write(again + _behind(batch, refused, key))

    def _refusals(self) -> list[tuple[bytes, int]]:
        """Messages that the kernel has refused, as it echoes them, and why."""
        found: list[tuple[bytes, int]] = []
        while True:
            try:
                answer = self._socket.recv(65536)
            except BlockingIOError:
                return found
            except OSError as error:
                assert error.errno == errno.ENOBUFS  # noqa: PT017 - not a test
                self._count(errno.ENOBUFS)
                continue
            for message in netlink.messages(answer):
                kind = netlink.HEADER.unpack_from(message)[1]
                if len(message) < 2 * netlink.HEADER.size + 4:
                    continue  # no answer to what we have written
                number = -struct.unpack_from("=i", message, netlink.HEADER.size)[0]
                refused = message[netlink.HEADER.size + 4 :]
                is_gone = number == errno.ENOENT and _is_deletion(refused)  # that was wanted
                if kind == netlink.ERROR and number and not is_gone:
                    found.append((refused, number))

    def _count(self, number: int) -> None:
        self.failed[number] = self.failed.get(number, 0) + 1


def _is_deletion(message: bytes) -> bool:
    return bool(netlink.HEADER.unpack_from(message)[1] == ctmessage.DELETE)


def _behind(batch: list[bytes], refused: bytes, key: bytes) -> list[bytes]:
    """What a batch says of a connection behind one of its messages."""
    (length,) = struct.unpack_from("=I", refused)
    if refused[:length] not in batch:
        return []
    at = batch.index(refused[:length])
    return [message for message in batch[at + 1 :] if ctmessage.key_of(message) == key]


def _netlink_socket(receive_bytes: int) -> socket.socket:
    try:
        made = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
            _NETLINK_NETFILTER,
        )
        made.bind((0, 0))
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_bytes)
    except OSError as error:
        raise ConntrackRefused(
            "cannot speak with connection tracking",
            why=str(error.strerror),
            fix="it takes root (CAP_NET_ADMIN), and a kernel with CONFIG_NF_CT_NETLINK",
        ) from error
    return made
