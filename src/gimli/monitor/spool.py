"""Where is a piece of output between its FIFO and its log, so that a kill -9 loses none of it?

In a file that is mapped into memory: what was stored there stays when the process does not. The spool holds
the piece and is shared by all services, since only one piece is on its way at a time; each service has a
page of its own for its mark, made when it first writes something. Two slots and the byte that says which one
counts make a mark whole or not there. Storing into memory costs no system call.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct

from gimli.monitor.mark import SLOT_BYTES, TOKEN_BYTES, Mark, pack_mark, unpack_mark
from gimli.paths import unlink_if_there

PIECE_BYTES = 131_072
"""Read at once, and asked for as the capacity of each FIFO: the program waits less often."""
_AREA_BYTES = PIECE_BYTES + 4096
"""What is made of a piece may be longer by a few lines of our own."""
_PAGE_BYTES = 4096
_SELECTOR = 2 * SLOT_BYTES
_INT = struct.Struct("i")
_FIONREAD = 0x541B  # asm-generic/ioctls.h; the module termios is 50 kB for this number


class Spool:
    """The memory of one monitor's output, mapped when there is some.

    Args:
        path: its file, in a directory in memory; None for memory that dies with the process.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.seed = _make(path)
        """Marks of another boot, or of a spool that is gone, do not fit it."""
        self._mapped: tuple[memoryview, memoryview] | None = None
        self._token = os.urandom(TOKEN_BYTES)
        self._peek: tuple[int, int] | None = None

    @property
    def _areas(self) -> tuple[memoryview, memoryview]:
        if self._mapped is None:
            view = memoryview(_map(self.path, 2 * _AREA_BYTES))
            self._mapped = (view[:_AREA_BYTES], view[_AREA_BYTES:])
        return self._mapped

    def read(self, fifo: int, size: int) -> bytes:
        """Take bytes that are there from a FIFO. ``prepare`` came before, and the mark."""
        try:
            count = os.readv(fifo, [self._areas[0][:size]])
        except BlockingIOError:
            return b""  # somebody else reads it, who should not
        return bytes(self._areas[0][:count])

    def prepare(self, fifo: int, size: int) -> bytes:
        """Put a token where the last byte of a read will be stored.

        Returns:
            The token: random, or, where that could be what is read, different from it in every bit.
        """
        token = self._token if size >= TOKEN_BYTES else self._opposite(fifo, size)
        self._areas[0][size - len(token) : size] = token
        return token

    def put(self, area: int, data: bytes) -> None:
        """Store what is to be written."""
        self._areas[area][: len(data)] = data

    def get(self, area: int, start: int, end: int) -> bytes:
        """What is stored there."""
        return bytes(self._areas[area][start:end])

    def is_in_place(self) -> bool:
        """The next monitor will find it, unless there can be no file."""
        return self.path is None or os.path.exists(self.path)

    def renew(self) -> None:
        """Make the file anew: nothing is on its way. The marks of all services are to be made anew, too."""
        self._unmap()
        self.seed = _make(self.path)

    def close(self) -> None:
        """Remove the file."""
        self._unmap()
        for fd in self._peek or ():
            os.close(fd)
        self._peek = None
        if self.path is not None:
            unlink_if_there(self.path)

    def _unmap(self) -> None:
        for area in self._mapped or ():
            area.release()
        self._mapped = None

    def _opposite(self, fifo: int, size: int) -> bytes:
        """For a few bytes chance is not enough: look at them without taking them, by tee(2)."""
        if self._peek is None:
            self._peek = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self._tee = ctypes.CDLL(None).tee  # os.tee is not there
            self._tee.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint)
        count = self._tee(fifo, self._peek[1], size, 0)
        if count <= 0:
            return self._token[:size]
        seen = os.read(self._peek[0], count)
        return bytes(byte ^ 0xFF for byte in seen) if len(seen) == size else self._token[:size]


class MarkPage:
    """One service's mark.

    Args:
        path: its file.
        seed: the spool's.
    """

    __slots__ = ("_memory", "_seed", "path")

    def __init__(self, path: str, seed: int) -> None:
        self.path = path
        self._seed = seed
        self._memory: mmap.mmap | None = None

    @property
    def is_mapped(self) -> bool:
        """It has been read or written here."""
        return self._memory is not None

    def read(self) -> Mark | None:
        """The mark that a monitor before us has left; None when there is none that can be used."""
        if not os.path.exists(self.path):
            return None
        memory = self._mapped()
        slot = memory[_SELECTOR] & 1
        return unpack_mark(memory[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES], self._seed)

    def write(self, mark: Mark) -> None:
        """Let this be the mark: at any moment either the old one counts or the new."""
        memory = self._memory or self._mapped()
        slot = 1 - (memory[_SELECTOR] & 1)
        packed = pack_mark(mark, self._seed)
        memory[slot * SLOT_BYTES : slot * SLOT_BYTES + len(packed)] = packed
        memory[_SELECTOR] = slot

    def close(self) -> None:
        """Remove it."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        unlink_if_there(self.path)

    def _mapped(self) -> mmap.mmap:
        if self._memory is None:
            self._memory = _map(self.path, _PAGE_BYTES)
        return self._memory


def available_bytes(fifo: int) -> int:
    """How much can be read from a FIFO now."""
    count: int = _INT.unpack(fcntl.ioctl(fifo, _FIONREAD, _INT.pack(0)))[0]
    return count


def enlarge(fifo: int) -> None:
    """Ask for the capacity of one piece; an ordinary user has an allowance for that, which may be used up."""
    try:
        fcntl.fcntl(fifo, fcntl.F_SETPIPE_SZ, PIECE_BYTES)
    except OSError:
        return  # 64 KB, then


def _make(path: str | None) -> int:
    """Make the file, where there can be one; its seed."""
    fd, inode = _open(path, 2 * _AREA_BYTES)
    if fd >= 0:
        os.close(fd)
    return int.from_bytes(_boot_id() + inode.to_bytes(8, "little"), "little")


def _map(path: str | None, size: int) -> mmap.mmap:
    """A file in memory; memory of our own where there can be no file: then a kill may cost output."""
    fd, _ = _open(path, size)
    if fd < 0:
        return mmap.mmap(-1, size)
    try:
        # Populated: a fault in the middle of a read from the FIFO is where a kill could cut it short.
        return mmap.mmap(fd, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
    finally:
        os.close(fd)


def _open(path: str | None, size: int) -> tuple[int, int]:
    """A file of that size, and its inode; -1 where there can be none."""
    if path is None:
        return -1, 0
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return -1, 0
    try:
        # All of it now: to touch a page that a full file system has not got is SIGBUS.
        os.posix_fallocate(fd, 0, size)
    except OSError:
        os.close(fd)
        return -1, 0
    return fd, os.fstat(fd).st_ino


def _boot_id() -> bytes:
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
            return file.read(64)
    except OSError:
        return b""
