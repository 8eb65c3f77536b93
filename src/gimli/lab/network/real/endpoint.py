"""Does a connection move? The kernel's own count of what was acknowledged and what was received.

Every end of a connection is watched in the same way by the program that has it: what counts as progress is
what the peer's kernel has acknowledged, and what has come, not what was written into a buffer.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.lab.network.topology import Tcp

_INFO_BYTES = 136
_MOVED = struct.Struct("=QQ")
_MOVED_AT = 120
"""Of tcpi_bytes_acked and tcpi_bytes_received in struct tcp_info, since Linux 4.1."""
_SIOCOUTQ = 0x5411
_LOOK_EVERY_S = 0.05
_NO_LINGER = struct.pack("ii", 1, 0)

REQUEST = struct.Struct(">III")
"""What a request begins with: its bytes, those of its answer, microseconds of work."""


class Watched:
    """One end of a connection.

    Args:
        sock: of it.
        began_s: of the run, on the monotonic clock.

    Attributes:
        progress_s: when something moved last, in the run's time.
        froze_s: the longest standstill while something was owed.
        frozen_at_s: when that began.
        owed_since_s: since when something is owed to the program; None when nothing is.
        is_busy: in the middle of a request.
    """

    def __init__(self, sock: socket.socket, began_s: float) -> None:
        self.sock = sock
        self._began_s = began_s
        self._moved = (0, 0)
        self.progress_s = self.now_s
        self.froze_s = 0.0
        self.frozen_at_s = 0.0
        self.owed_since_s: float | None = None
        self.is_busy = False

    @property
    def now_s(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began_s

    @property
    def is_sending(self) -> bool:
        """Whether something is not acknowledged."""
        try:
            waiting = fcntl.ioctl(self.sock.fileno(), _SIOCOUTQ, bytes(4))
        except (OSError, ValueError):
            return False
        return bool(struct.unpack("i", waiting)[0])

    def look(self) -> None:
        """Has it moved?"""
        try:
            info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        except OSError:
            return
        moved = _MOVED.unpack_from(info, _MOVED_AT)
        if moved != self._moved:
            self._moved = moved
            self.note()
            self.progress_s = self.now_s

    @property
    def still_s(self) -> float:
        """For how long nothing has moved though something is owed."""
        return 0.0 if self.owed_since_s is None else self.now_s - max(self.progress_s, self.owed_since_s)

    def note(self) -> None:
        """How long has it stood still?"""
        still_s = self.still_s
        if still_s > self.froze_s:
            self.froze_s, self.frozen_at_s = still_s, self.now_s - still_s

    def reset(self) -> None:
        """Let closing it send RST."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        except OSError:
            return  # it is closed already


class Watch:
    """All ends of one program.

    Args:
        gives_up_s: a connection on which nothing moves for so long is given up.
        give_up: is told of it.
    """

    def __init__(self, gives_up_s: float, give_up: Callable[[Watched], None]) -> None:
        self._gives_up_s = gives_up_s
        self._give_up = give_up
        self._ends: set[Watched] = set()

    def add(self, end: Watched) -> None:
        """Look at it from now on."""
        self._ends.add(end)

    def remove(self, end: Watched) -> None:
        """It is over."""
        self._ends.discard(end)

    def settle(self) -> None:
        """The run is over: what stands still now is frozen as well."""
        for end in self._ends:
            end.look()
            end.note()

    async def run(self) -> None:
        """Look at all of them, again and again."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            for end in list(self._ends):
                end.look()
                if end.now_s - end.progress_s >= self._gives_up_s:
                    self.remove(end)
                    self._give_up(end)


def shape(sock: socket.socket, tcp: Tcp) -> None:
    """Let a socket that is not yet connected offer the window, and so the factor, of the topology."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, tcp.window)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, tcp.window)  # the kernel doubles it
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
