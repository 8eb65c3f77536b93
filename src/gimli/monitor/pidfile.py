"""Who is the monitor that a pidfile names, and is it still there?

The number alone cannot say: pids are reused, and a file outlives a crash. So the monitor keeps the file
locked; a file that nobody locks is stale and is taken over. The lock is the kind that the original's monitor
tries (fcntl, whole file), so that either refuses the file of the other, and it belongs to the open file:
closing another descriptor of the same file does not lose it, and an ``execve`` of the monitor keeps it as
long as the descriptor is inherited.

Source: fcntl(2), "Open file description locks (non-POSIX)".
"""

from __future__ import annotations

import fcntl
import os
import struct

from gimli.errors import AlreadyRunning, StoreError
from gimli.paths import unlink_if_there

_FLOCK = struct.Struct("@hhqqi0q")
"""``struct flock``: l_type, l_whence, l_start, l_len, l_pid, as 64-bit Linux lays it out."""


class Pidfile:
    """A pidfile that this process holds.

    Args:
        path: the file, absolute.
        fd: its descriptor, when the process had it before it became a new image.

    Raises:
        AlreadyRunning: another monitor holds it.
        StoreError: it cannot be made.
    """

    def __init__(self, path: str, fd: int | None = None) -> None:
        self.path = path
        self.fd = _hold(path) if fd is None else fd
        os.set_inheritable(self.fd, False)

    def close(self) -> None:
        """Take the file away, then let go of it: whoever has opened it meanwhile sees that it is gone."""
        if _is_still_at(self.fd, self.path):
            unlink_if_there(self.path)
        os.close(self.fd)


def _hold(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise StoreError(
            f"cannot open the pidfile {path}",
            why=error.strerror or "",
            fix="name one in a directory that exists and can be written",
        ) from error
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except (BlockingIOError, PermissionError) as error:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
        os.close(fd)
        who = f"process {holder}" if holder.isdecimal() else "another process"
        raise AlreadyRunning(
            f"the pidfile {path} is held by {who}",
            why="the monitor that it names is running",
            fix=f"end that one: kill {holder if holder.isdecimal() else 'PID'}; or name another pidfile",
        ) from error
    if not _is_still_at(fd, path):
        # Its holder ended between our open and our lock, and took the file away: that lock holds nobody off.
        os.close(fd)
        return _hold(path)
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
    except OSError as error:
        os.close(fd)
        raise StoreError(f"cannot write the pidfile {path}", why=error.strerror or "") from error
    return fd


def _is_still_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except OSError:
        return False
