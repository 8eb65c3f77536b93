"""Which files does a process hold whose names are gone?

Somebody has cleaned the runtime directory while no monitor ran. The service writes into a FIFO and a page
that nobody can open by name any more: a new monitor that made others of the same names would wait beside
them, and the service would stop for ever once its pipe is full.
"""

from __future__ import annotations

import os

_DELETED = " (deleted)"


def reopen(pid: int, path: str) -> int | None:
    """A descriptor of the file that had this path, out of those that a process holds.

    The kernel's own words for a descriptor decide, and they are read from ours: the process may exchange it
    for another at any moment. Only who may write to the directory of ``path`` can have made a file there.

    Returns:
        It, for reading and writing, without waiting; None when the process holds none, or it has its name.
    """
    directory = f"/proc/{pid}/fd"
    try:
        names = os.listdir(directory)
    except OSError:
        return None
    for name in names:
        if (found := _reopen_if(os.path.join(directory, name), path + _DELETED)) is not None:
            return found
    return None


def is_nameless(fd: int) -> bool:
    """Nobody can open this file by a name."""
    return os.fstat(fd).st_nlink == 0


def _reopen_if(link: str, wanted: str) -> int | None:
    try:
        if os.readlink(link) != wanted:
            return None
        handle = os.open(link, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        own = f"/proc/self/fd/{handle}"
        if os.readlink(own) != wanted or not is_nameless(handle):
            return None
        return os.open(own, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    finally:
        os.close(handle)
