"""Where do programs ring when there is news in their page? At a datagram socket in the runtime directory."""

from __future__ import annotations

import _socket as socket
import os

from gimli.control.server import listen
from gimli.paths import unlink_if_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.loop import Loop

_RING_BYTES_MAX = 256
_RINGS_AT_ONCE = 256


class Bell:
    """The socket.

    Args:
        loop: the event loop.
        path: where it is; an old one is replaced, the caller holds the lock that makes that safe.
        on_ring: called with each ring: the name of a service, as whoever rang says it.
        fd: the socket itself, when a monitor before this one in the same process has made it.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(
        self, loop: Loop, path: str, on_ring: Callable[[str], None], *, fd: int | None = None
    ) -> None:
        self.path = path
        self._loop = loop
        self._on_ring = on_ring
        self._socket = self._listen() if fd is None else socket.socket(fileno=fd)
        loop.watch(self._socket.fileno(), self._rung)

    def fileno(self) -> int:
        """Its number, for a monitor after this one in the same process."""
        return self._socket.fileno()

    def is_in_place(self) -> bool:
        """There is something under its path."""
        return os.path.lexists(self.path)

    def renew(self) -> None:
        """Make it again under its path.

        Raises:
            OSError: it cannot be made; all is as before.
        """
        made = self._listen()
        self._rung(0)
        self._close()
        self._socket = made
        self._loop.watch(made.fileno(), self._rung)

    def close(self) -> None:
        """Close it and take it out of the directory."""
        self._close()
        unlink_if_there(self.path)

    def _listen(self) -> socket.socket:
        return listen(self.path, socket.SOCK_DGRAM, mode=0o666)

    def _close(self) -> None:
        self._loop.forget(self._socket.fileno())
        self._socket.close()

    def _rung(self, _: int) -> None:
        for _round in range(_RINGS_AT_ONCE):
            try:
                name = self._socket.recv(_RING_BYTES_MAX)
            except BlockingIOError:
                return
            self._on_ring(name.decode(errors="replace"))
