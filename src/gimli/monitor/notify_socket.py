"""Where do a monitor's services send their sd_notify messages?

To one datagram socket beside the bell. The kernel writes the sender's pid onto each message (SO_PASSCRED), so
that a socket per service would say no more; and one is what a thousand services can afford. A program sends
its messages in order and blocks while the queue is full: none is lost.

Descriptors that come with a message belong to it until somebody takes them out of ``fds``. What is left there
is closed when the message has been handled, whatever became of it: that is also what BARRIER=1 asks for.
"""

from __future__ import annotations

import _socket as socket
import os
import struct

from gimli.monitor.named_socket import NamedSocket
from gimli.monitor.notify import DATAGRAM_BYTES_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.loop import Loop

_MESSAGES_AT_ONCE = 64
"""Then the others have their turn; epoll comes back for the rest."""
_FDS_MAX = 253
"""SCM_MAX_FD of the kernel: what one message can carry."""
_CREDENTIALS = struct.Struct("iii")
_INT = struct.Struct("i")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(_FDS_MAX * _INT.size)


class Message:
    """One datagram, who sent it, and the descriptors that came with it."""

    __slots__ = ("data", "fds", "is_whole", "pid", "uid")

    def __init__(self, data: bytes, pid: int, uid: int, fds: list[int], *, is_whole: bool) -> None:
        self.data = data
        self.pid = pid
        """0: a process that this PID namespace does not see."""
        self.uid = uid
        self.fds = fds
        self.is_whole = is_whole

    def close(self) -> None:
        """Close the descriptors that nobody has taken."""
        while self.fds:
            os.close(self.fds.pop())


class NotifySocket(NamedSocket):
    """The socket, and what to do with a message; by ``drain`` the last words of a program that has ended.

    Args:
        loop: the event loop.
        path: where it is.
        on_message: called with each message.
        fd: of a monitor before this one.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(
        self, loop: Loop, path: str, on_message: Callable[[Message], None], *, fd: int | None = None
    ) -> None:
        self._on_message = on_message
        super().__init__(loop, path, fd)

    def _listen(self) -> socket.socket:
        # Programs of other users send here as well; which messages count is decided by their sender's pid.
        made = super()._listen()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        return made

    def _readable(self, _: int) -> None:
        for _round in range(_MESSAGES_AT_ONCE):
            try:
                data, ancillary, flags, _sender = self._socket.recvmsg(
                    DATAGRAM_BYTES_MAX + 1, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC
                )
            except OSError:
                return  # nothing there; or no memory, and epoll comes back
            message = _message(data, ancillary, flags)
            try:
                self._on_message(message)
            finally:
                message.close()


def _message(data: bytes, ancillary: list[tuple[int, int, bytes]], flags: int) -> Message:
    pid, uid, fds = 0, -1, []
    for level, kind, payload in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_RIGHTS:
            # Cut off where the kernel had no number free: whole integers are open files, and ours to close.
            fds += [number for (number,) in _INT.iter_unpack(payload[: len(payload) // 4 * 4])]
        elif kind == socket.SCM_CREDENTIALS and len(payload) >= _CREDENTIALS.size:
            pid, uid, _gid = _CREDENTIALS.unpack_from(payload)
    return Message(data, pid, uid, fds, is_whole=not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC))
