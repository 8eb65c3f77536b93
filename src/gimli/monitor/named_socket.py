"""How is a socket of the monitor there under its name, whatever becomes of the name?

Programs find it by its path. Who cleans the directory takes the path away; then it is made again. A monitor
that takes over in the same process goes on with the descriptor.
"""

from __future__ import annotations

import _socket as socket
import os

from gimli.control.server import listen
from gimli.paths import unlink_if_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.loop import Loop


class NamedSocket:
    """A datagram socket that everybody may send to; what comes is for the class that inherits.

    Args:
        loop: the event loop.
        path: where it is; an old one is replaced, the caller holds the lock that makes that safe.
        fd: the socket itself, when a monitor before this one in the same process has made it.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, loop: Loop, path: str, fd: int | None) -> None:
        self.path = path
        self._loop = loop
        self._socket = self._listen() if fd is None else socket.socket(fileno=fd)
        loop.watch(self._socket.fileno(), self._readable)

    def fileno(self) -> int:
        """Its number, for a monitor after this one in the same process."""
        return self._socket.fileno()

    def is_in_place(self) -> bool:
        """There is something under its path."""
        return os.path.lexists(self.path)

    def renew(self) -> None:
        """Make it again under its path; what has come is handled before.

        Raises:
            OSError: it cannot be made; all is as before.
        """
        made = self._listen()
        self.drain()
        self._forget()
        self._socket = made
        self._loop.watch(made.fileno(), self._readable)

    def drain(self) -> None:
        """Handle what is there."""
        self._readable(0)

    def close(self) -> None:
        """Close it and take it out of the directory."""
        self._forget()
        unlink_if_there(self.path)

    def _readable(self, _: int) -> None:
        raise NotImplementedError

    def _listen(self) -> socket.socket:
        return listen(self.path, socket.SOCK_DGRAM, mode=0o666)

    def _forget(self) -> None:
        self._loop.forget(self._socket.fileno())
        self._socket.close()
