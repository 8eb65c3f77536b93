"""How does another process' memory get here, fast?

Into one anonymous buffer, run after run: filling memory takes a third of the time of filling the page cache,
and the process waits meanwhile. The file is written when it has been let go.

Source: process_vm_readv(2).
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct

from gimli.capture.elfcore import PAGE_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_IOV_MAX = 1024  # UIO_MAXIOV
_HUGE_PAGE_BYTES = 2 << 20
_FAILURES_MAX = 16
_ADDRESS_MAX = 1 << 63

_libc = ctypes.CDLL(None, use_errno=True)
_libc.process_vm_readv.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_ulong,
)
_libc.process_vm_readv.restype = ctypes.c_ssize_t


class Copy:
    """Runs of another process' memory, one after the other in a buffer."""

    def __init__(self, runs: Sequence[tuple[int, int]]) -> None:
        self.runs = runs
        self.bytes = sum(end - start for start, end in runs)
        self.unreadable_bytes = 0
        """Left as zeros: pages that went away, or of a file shorter than its mapping."""
        self.vanished = False
        """The process ended in the middle."""
        self._map = mmap.mmap(-1, max(self.bytes, PAGE_BYTES), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if self.bytes >= _HUGE_PAGE_BYTES:
            _want_huge_pages(self._map)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    def fill(self, pid: int) -> None:
        """Copy everything; what cannot be read stays zero and is counted."""
        position = index = offset = failures = 0
        while index < len(self.runs):
            start, end = self.runs[index]
            batch = [(start + offset, end), *self.runs[index + 1 : index + _IOV_MAX]]
            got = read_into(pid, self._address + position, batch)
            if got is None:
                self.vanished = True
                self.unreadable_bytes += self.bytes - position
                return
            if got == sum(high - low for low, high in batch):
                position += got
                index += len(batch)
                offset = failures = 0
                continue
            # It ends before a page that cannot be read. The page is left out, or after some the whole run:
            # of a file shorter than its mapping every page to the end would be tried.
            failures = 1 if got else failures + 1
            index, offset = self._advance(index, offset, got)
            start, end = self.runs[index]
            skipped = min(PAGE_BYTES if failures < _FAILURES_MAX else end, end - start - offset)
            index, offset = self._advance(index, offset, skipped)
            position += got + skipped
            self.unreadable_bytes += skipped

    def view(self) -> memoryview:
        """The bytes, in the order of the runs."""
        return memoryview(self._map)[: self.bytes]

    def _advance(self, index: int, offset: int, length: int) -> tuple[int, int]:
        """The run, and the offset in it, that lie ``length`` bytes further on."""
        offset += length
        while index < len(self.runs) and offset >= self.runs[index][1] - self.runs[index][0]:
            offset -= self.runs[index][1] - self.runs[index][0]
            index += 1
        return index, offset


def _want_huge_pages(memory: mmap.mmap) -> None:
    """One page fault instead of 512; a kernel built without them says EINVAL."""
    try:
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError:
        return


def read_memory(pid: int, address: int, length: int) -> bytes:
    """Some bytes of a process; fewer, or none, when they are not all there."""
    if not 0 < address < _ADDRESS_MAX:
        return b""
    buffer = ctypes.create_string_buffer(length)
    got = read_into(pid, ctypes.addressof(buffer), [(address, address + length)])
    return buffer.raw[: got or 0]


def read_into(pid: int, destination: int, runs: Sequence[tuple[int, int]]) -> int | None:
    """Copy runs of a process' memory to one place here.

    Returns:
        The bytes copied, up to the first that cannot be read; None when the process has ended.

    Raises:
        OSError: the kernel does not let us (EPERM), or has no memory.
    """
    length = sum(end - start for start, end in runs)
    local = struct.pack("<QQ", destination, length)
    remote = b"".join([struct.pack("<QQ", start, end - start) for start, end in runs])
    got = int(_libc.process_vm_readv(pid, local, 1, remote, len(runs), 0))
    if got >= 0:
        return got
    number = ctypes.get_errno()
    if number == errno.EFAULT:
        return 0
    if number == errno.ESRCH:
        return None
    raise OSError(number, os.strerror(number))
