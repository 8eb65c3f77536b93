"""Where do programs ring when there is news in their page? At a datagram socket in the runtime directory."""

from __future__ import annotations

from gimli.monitor.named_socket import NamedSocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.loop import Loop

_RING_BYTES_MAX = 256
_RINGS_AT_ONCE = 256


class Bell(NamedSocket):
    """The socket, and whom a ring is for.

    Args:
        loop: the event loop.
        path: where it is.
        on_ring: called with each ring: the name of a service, as whoever rang says it.
        fd: of a monitor before this one.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(
        self, loop: Loop, path: str, on_ring: Callable[[str], None], *, fd: int | None = None
    ) -> None:
        self._on_ring = on_ring
        super().__init__(loop, path, fd)

    def _readable(self, _: int) -> None:
        for _round in range(_RINGS_AT_ONCE):
            try:
                name = self._socket.recv(_RING_BYTES_MAX)
            except BlockingIOError:
                return
            self._on_ring(name.decode(errors="replace"))
