"""Who is at the other end of a process' sockets?

/proc/PID/fd says ``socket:[4711]`` and no more. The tables in /proc/PID/net say the rest, of every socket of
the host: 10 us each, while a service is down. Here a copy of each descriptor is fetched instead and asked
for its names, 10 us for each that the process has, in whichever network namespace it lives.

Reading and wording are apart: the copies are made while the process is there, formatted when it is not.

Source: pidfd_getfd(2), Linux 5.6; sockaddr layouts in ip(7), ipv6(7), unix(7).
"""

from __future__ import annotations

import ctypes
import os
import struct

from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SOCKETS_MAX = 1024

_SYS_PIDFD_GETFD = 438  # the same number on every machine
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_SOL_SOCKET, _SO_TYPE, _SO_PEERCRED, _SO_ACCEPTCONN = 1, 3, 17, 30
_SOCK_STREAM, _SOCK_DGRAM = 1, 2
_INET_PROTOCOLS = {_SOCK_STREAM: "tcp", _SOCK_DGRAM: "udp"}
_SOCKADDR_BYTES = 128  # sizeof(struct sockaddr_storage)

_libc = ctypes.CDLL(None, use_errno=True)


@value
class Socket:
    """One socket as the kernel told of it; addresses are raw sockaddrs, empty when there is none."""

    type: int
    listening: bool
    local: bytes
    peer: bytes
    peer_pid: int


def read_sockets(pid: int, fds: Iterable[tuple[int, str]]) -> dict[int, Socket]:
    """The sockets among a process' descriptors; empty where the kernel does not let us."""
    numbers = [fd for fd, target in fds if target.startswith("socket:[")][:SOCKETS_MAX]
    if not numbers:
        return {}
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return {}
    try:
        found = ((fd, _read_socket(pidfd, fd)) for fd in numbers)
        return {fd: socket for fd, socket in found if socket is not None}
    finally:
        os.close(pidfd)


def _read_socket(pidfd: int, fd: int) -> Socket | None:
    copy = _libc.syscall(_SYS_PIDFD_GETFD, pidfd, fd, 0)
    if copy < 0:
        return None
    try:
        credentials = _option(copy, _SO_PEERCRED, 12)
        return Socket(
            type=int.from_bytes(_option(copy, _SO_TYPE, 4), "little"),
            listening=any(_option(copy, _SO_ACCEPTCONN, 4)),
            local=_name(_libc.getsockname, copy),
            peer=_name(_libc.getpeername, copy),
            peer_pid=struct.unpack_from("<i", credentials)[0] if len(credentials) == 12 else 0,
        )
    finally:
        os.close(copy)


def _option(fd: int, option: int, length: int) -> bytes:
    buffer = ctypes.create_string_buffer(length)
    size = ctypes.c_uint(length)
    if _libc.getsockopt(fd, _SOL_SOCKET, option, buffer, ctypes.byref(size)) < 0:
        return b""
    return buffer.raw[: size.value]


def _name(call: ctypes._NamedFuncPointer, fd: int) -> bytes:
    buffer = ctypes.create_string_buffer(_SOCKADDR_BYTES)
    size = ctypes.c_uint(_SOCKADDR_BYTES)
    if call(fd, buffer, ctypes.byref(size)) < 0:
        return b""
    return buffer.raw[: min(size.value, _SOCKADDR_BYTES)]


def describe(socket: Socket) -> str:
    """A socket in words: ``tcp 10.0.0.1:80 -> 10.0.0.2:40000``, ``unix /run/x.sock, peer pid 12``."""
    family = _family(socket.local or socket.peer)
    if family == _AF_UNIX:
        return _describe_unix(socket)
    if family in {_AF_INET, _AF_INET6}:
        protocol = _INET_PROTOCOLS.get(socket.type, "ip")
        local = format_sockaddr(socket.local)
        if socket.listening:
            return f"{protocol} {local}, listening"
        return (
            f"{protocol} {local} -> {format_sockaddr(socket.peer)}" if socket.peer else f"{protocol} {local}"
        )
    return "netlink" if family == _AF_NETLINK else f"address family {family}"


def _describe_unix(socket: Socket) -> str:
    path = format_sockaddr(socket.local) or format_sockaddr(socket.peer) or "(unnamed)"
    if socket.listening:
        return f"unix {path}, listening"
    return f"unix {path}, peer pid {socket.peer_pid}" if socket.peer_pid > 0 else f"unix {path}"


def format_sockaddr(raw: bytes) -> str:
    """An address as text; any bytes give one, empty when there is none."""
    # Loads a library, which can wait until the process is let go.
    from _socket import AF_INET, AF_INET6, inet_ntop  # noqa: PLC0415

    family = _family(raw)
    if family == _AF_INET and len(raw) >= 8:
        return f"{inet_ntop(AF_INET, raw[4:8])}:{int.from_bytes(raw[2:4], 'big')}"
    if family == _AF_INET6 and len(raw) >= 24:
        return f"[{inet_ntop(AF_INET6, raw[8:24])}]:{int.from_bytes(raw[2:4], 'big')}"
    if family == _AF_UNIX:
        path = raw[2:]
        if path[:1] == b"\0":  # abstract, written with an @ as ss(8) does
            return "@" + path[1:].decode(errors="replace") if len(path) > 1 else ""
        return path.partition(b"\0")[0].decode(errors="replace")
    return ""


def _family(raw: bytes) -> int:
    return int.from_bytes(raw[:2], "little") if len(raw) >= 2 else 0
