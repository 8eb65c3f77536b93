"""How do datagrams reach the peer? One connected UDP socket on the dedicated link, never blocking."""

from __future__ import annotations

import ipaddress
import socket

from gimli.errors import GimliError

PORT = 3781

_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_BUFFER_BYTES = 16 << 20
"""Several windows: what is in the window is never lost for want of it."""

_AT_ONCE = 64


class LinkRefused(GimliError):
    """The socket towards the peer cannot be made."""


class Link:
    """Datagrams from and to one peer; others' do not come in.

    Args:
        own: this host's address on the link.
        peer: the peer's.
        port: of both.

    Raises:
        LinkRefused: the address is not there, or the port is taken.
    """

    def __init__(self, own: str, peer: str, port: int = PORT) -> None:
        family = socket.AF_INET6 if ipaddress.ip_address(own).version == 6 else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self.unsent = 0
        """Datagrams that the kernel did not take: no route, no room. Who needs them sends them again."""
        try:
            for option in (_SO_SNDBUFFORCE, _SO_RCVBUFFORCE):
                self._socket.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
            self._socket.bind((own, port))
            self._socket.connect((peer, port))
        except OSError as error:
            self._socket.close()
            raise LinkRefused(
                f"no state sync from {own} to {peer} on UDP port {port}",
                why=str(error.strerror),
                fix="give the address to the sync interface first: ip addr add ADDRESS dev INTERFACE",
            ) from error

    def fileno(self) -> int:
        """For the loop: readable when something has come."""
        return self._socket.fileno()

    def drain(self) -> list[bytes]:
        """Up to 64 datagrams, without waiting."""
        found: list[bytes] = []
        while len(found) < _AT_ONCE:
            try:
                found.append(self._socket.recv(65536))
            except BlockingIOError:
                break
            except OSError:
                continue  # an ICMP error to what we have sent: the peer is not there yet, or no longer
        return found

    def send(self, datagram: bytes) -> None:
        """Send a datagram, if that is possible now."""
        try:
            self._socket.send(datagram)
        except OSError:
            self.unsent += 1

    def close(self) -> None:
        """Let go of the port."""
        self._socket.close()
