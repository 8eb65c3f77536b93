"""Who holds an instance? One daemon, by a lock that the kernel lets go of when it ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import time

from gimli import process
from gimli.errors import AlreadyRunning, StoreError
from gimli.paths import unlink_if_there

_TRIES = 200
_TRY_S = 0.01


class InstanceLock:
    """The lock of an instance, held.

    Args:
        path: its file.
        what: who holds it: ``a monitor for 'up'``.
        fix: what to do when another one does.
        fd: the descriptor, when an image before this one in the same process has taken it.

    Raises:
        AlreadyRunning: another one holds it.
        StoreError: the file cannot be opened.
    """

    def __init__(self, path: str, what: str, fix: str, fd: int | None = None) -> None:
        self.path = path
        self._what, self._fix = what, fix
        self.lost_pid: int | None = None
        """A holder that ended without taking the file away."""
        if fd is None:
            self.fd, self.lost_pid = hold_instance(path, what, fix)
        else:
            self.fd = fd

    def is_in_place(self) -> bool:
        """Its file has its name: nobody else can take it."""
        return _is_still_at(self.fd, self.path)

    def renew(self) -> None:
        """Take it again, in the file that has the name now.

        Raises:
            AlreadyRunning, StoreError: as the constructor; all is as before.
        """
        made, _ = hold_instance(self.path, self._what, self._fix)
        os.close(self.fd)
        self.fd = made

    def close(self) -> None:
        """Take the file away, then let go of it."""
        unlink_if_there(self.path)
        os.close(self.fd)


def hold_instance(path: str, what: str, fix: str) -> tuple[int, int | None]:
    """Take the lock of an instance.

    Args:
        path: the file.
        what: who would hold it: ``a monitor for 'up'``.
        fix: what to do when another one does.

    Returns:
        The descriptor; and the pid of a holder that ended without taking the file away.

    Raises:
        AlreadyRunning: another one holds it.
        StoreError: the file cannot be opened.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StoreError(f"cannot open {path}", why=error.strerror or "") from error
    if not _lock(fd):
        holder = _holder(fd)
        os.close(fd)
        raise AlreadyRunning(
            f"{what} runs already",
            why=f"pid {holder or 'unknown'} holds {path}",
            fix=fix,
        )
    if not _is_still_at(fd, path):
        # Its holder ended between our open and our lock, and took the file away: that lock holds nobody off.
        os.close(fd)
        return hold_instance(path, what, fix)
    before = _holder(fd)
    os.ftruncate(fd, 0)
    os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd, before


def _lock(fd: int) -> bool:
    """A child of a dead holder holds its lock until its exec: that is over in a moment, and waited for."""
    for _try in range(_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(fd)
            if holder is None or process.state_of(holder) not in {"", "Z", "X"}:
                return False
            time.sleep(_TRY_S)
        else:
            return True
    return False


def _holder(fd: int) -> int | None:
    """The process that has written itself into the file."""
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None


def _is_still_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False
