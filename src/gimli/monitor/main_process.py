"""Which process is the main one, when the program names another than the one that was started?

``MAINPID`` of sd_notify: a program that forks and lets the child do the work, or that hands over to a new
version of itself. From then on that process is watched; the service has ended when it has.
"""

from __future__ import annotations

import os
import signal

from gimli import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.loop import Loop


def open_member(pid: int, leader: int) -> int | None:
    """A pidfd of a process of the service that ``leader`` began; None when it is gone, or a stranger."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    # Asked while the pidfd holds the number: before it, the answer might be about another process.
    if pid == leader or process.belongs_to(pid, leader):
        return pidfd
    os.close(pidfd)
    return None


class Former:
    """A process that was the main one and is not any more: collected when it ends.

    Args:
        loop: the event loop.
        pid: the process.
        pidfd: of it; closed here.
    """

    def __init__(self, loop: Loop, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._loop = loop
        self._pidfd = pidfd
        loop.watch(pidfd, self._ended)

    def kill(self) -> None:
        """End it: it must not live beside the next instance."""
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                return  # gone, and about to be collected; or of another user, and out of our hands

    def release(self) -> None:
        """Watch it no more: it is the main process again."""
        if self._pidfd >= 0:
            self._loop.forget(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _ended(self, _: int) -> None:
        # Reaped as a stranger from here on: nobody wants to know how it ended.
        self._loop.children.discard(self.pid)
        self.release()
