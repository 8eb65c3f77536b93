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
    wanted = _real(path) + _DELETED
    for link in _links(pid):
        if (found := _reopen_if(link, wanted)) is not None:
            return found
    return None


def holds(pid: int, paths: list[str]) -> bool:
    """Whether a process holds a file that has, or had, one of these paths."""
    wanted = {_real(path) + suffix for path in paths for suffix in ("", _DELETED)}
    return any(_target(link) in wanted for link in _links(pid))


def is_nameless(fd: int) -> bool:
    """Nobody can open this file by a name."""
    return os.fstat(fd).st_nlink == 0


def _links(pid: int) -> list[str]:
    directory = f"/proc/{pid}/fd"
    try:
        return [os.path.join(directory, name) for name in os.listdir(directory)]
    except OSError:
        return []


def _real(path: str) -> str:
    """As the kernel writes it: without the links on the way."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


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
