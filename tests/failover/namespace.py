"""How does one program have sockets in several network namespaces?

A socket belongs to the namespace of the thread that makes it, for ever. So one loop can send in the client's,
serve in the server's and listen at a switch's ports, with one clock.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_CLONE_NEWNET = 0x4000_0000
_SO_TIMESTAMPNS = 35
_libc = ctypes.CDLL(None, use_errno=True)


def within(pid: int, make: Callable[[], T]) -> T:
    """What ``make`` makes in the network namespace of a process.

    Raises:
        OSError: there is no such process, or no right to enter.
    """
    made: list[T] = []
    failed: list[BaseException] = []

    def enter_and_make() -> None:
        try:
            fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(fd, _CLONE_NEWNET):
                    error = ctypes.get_errno()
                    raise OSError(error, os.strerror(error), f"the network of {pid}")
            finally:
                os.close(fd)
            made.append(make())
        except BaseException as error:  # noqa: BLE001 - handed on to the caller
            failed.append(error)

    thread = threading.Thread(target=enter_and_make)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def with_arrival_times(made: socket.socket) -> socket.socket:
    """Let the kernel note when each packet of a socket came: our own delay does not count."""
    made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    return made


def receive_with_time(through: socket.socket, size: int = 2048) -> tuple[bytes, int]:
    """A packet, and when it came, in ns of CLOCK_REALTIME.

    Raises:
        BlockingIOError: none is there.
    """
    data, notes, _, _ = through.recvmsg(size, 64)
    for level, kind, content in notes:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("=qq", content[:16])
            return data, seconds * 1_000_000_000 + nanoseconds
    raise AssertionError("the kernel has noted no time")
