"""How does a service's output reach its file?

Through a FIFO that the service itself holds open, read and write: it outlives a monitor that is gone, and
the program never sees SIGPIPE. What the monitor repeats on its own output is best effort: a terminal that
nobody reads must not stop it.
"""

from __future__ import annotations

import os
import select

from gimli.logs import OutputFile
from gimli.paths import unlink_if_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.monitor.config import Log

_READ_BYTES = 65_536
_READS_AT_ONCE = 16
"""1 MB, then the other services have their turn; epoll comes back for the rest."""


class Output:
    """One service's FIFO, file and followers.

    Args:
        fifo_path: where the program writes.
        log: where it goes.
        on_loss: called when output begins to be lost.
        fd: the open FIFO, of a monitor that was here before.
    """

    def __init__(self, fifo_path: str, log: Log, on_loss: Callable[[], None], fd: int | None = None) -> None:
        self.fifo_path = fifo_path
        self.file = OutputFile(log.file, log.cap_bytes)
        self.followers: list[Callable[[bytes], None]] = []
        self._echo = log.echo
        self._on_loss = on_loss
        self._is_losing = False
        self.fd = _open_fifo(fifo_path) if fd is None else fd

    def drain(self, _: int = 0) -> None:
        """Take what is there."""
        for _round in range(_READS_AT_ONCE):
            try:
                data = os.read(self.fd, _READ_BYTES)
            except BlockingIOError:
                return
            self._keep(data)
            if self._echo:
                write_if_ready(1, data)
            for follower in tuple(self.followers):
                follower(data)

    def _keep(self, data: bytes) -> None:
        """Write it to the file; that it cannot be written is said once, until it can again."""
        lost_before = self.file.dropped_bytes
        self.file.write(data)
        is_losing = self.file.dropped_bytes > lost_before
        if is_losing and not self._is_losing:
            self._on_loss()
        self._is_losing = is_losing

    def switch_to(self, fd: int | None) -> None:
        """Read another FIFO from now on: an open one, or the one that has the path.

        Raises:
            OSError: it cannot be made; all is as before.
        """
        opened = _open_fifo(self.fifo_path) if fd is None else fd
        self.drain()
        os.close(self.fd)
        self.fd = opened

    def close(self) -> None:
        """Close the file and the FIFO, and remove it."""
        self.drain()
        self.file.close()
        os.close(self.fd)
        unlink_if_there(self.fifo_path)


def _open_fifo(path: str) -> int:
    """Read and write, so that it never reads end of file when no program holds it."""
    if not os.path.exists(path):
        os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def write_if_ready(fd: int, data: bytes) -> None:
    """Write as much as can be taken without waiting; the rest is lost here (the file has it).

    A pipe or terminal that polls writable takes PIPE_BUF bytes without blocking, so it is asked per piece:
    making it non-blocking instead would make it so for every process that shares it.
    """
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    view = memoryview(data)
    try:
        while view and poll.poll(0):
            view = view[os.write(fd, view[: select.PIPE_BUF]) :]
    except OSError:
        return
