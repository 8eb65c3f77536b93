"""How does a crash handler learn that it has been captured?

It waits on ``crash.release`` of the heartbeat page until that has reached its ticket
(libgimli/heartbeat_layout.h). The page is a file that the program can write, and truncate: it is read and
written as a file here, because a mapping of a truncated file kills by SIGBUS.
"""

from __future__ import annotations

import ctypes
import mmap
import os

from gimli.heartbeat import OFFSET_RELEASE, OFFSET_REQUEST, PAGE_SIZE

_SYS_FUTEX = {"x86_64": 202, "aarch64": 98}
_FUTEX_WAKE = 1  # not FUTEX_PRIVATE_FLAG: the waiter is another process
_EVERYBODY = 0x7FFFFFFF


def release_crash(page_path: str) -> None:
    """Let the crash handlers that wait go on.

    Raises:
        OSError: the page cannot be opened or written; the handlers go on when their own time is over.
    """
    fd = os.open(page_path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.pwrite(fd, os.pread(fd, 4, OFFSET_REQUEST).ljust(4, b"\0"), OFFSET_RELEASE)
        _wake(fd)
    finally:
        os.close(fd)


def _wake(fd: int) -> None:
    """Wake who waits; where this is not possible, waiters look by themselves every 100 ms."""
    number = _SYS_FUTEX.get(os.uname().machine)
    try:
        page = mmap.mmap(fd, PAGE_SIZE)
    except (OSError, ValueError):  # truncated
        return
    address = ctypes.addressof(ctypes.c_char.from_buffer(page)) + OFFSET_RELEASE
    if number is not None:
        ctypes.CDLL(None).syscall(number, ctypes.c_void_p(address), _FUTEX_WAKE, _EVERYBODY, None, None, 0)
