"""Which pages of a process hold something of its own?

Private pages that were written, wherever they are now: in memory or swapped out. Not the kernel's zero page,
and not pages of files, which the file itself still has.

``ioctl(PAGEMAP_SCAN)`` answers for a whole mapping in one call (Linux 6.7); before it, the 8 bytes that
/proc/PID/pagemap has for each page are read and looked at here, which takes ten times as long.

Source: Documentation/admin-guide/mm/pagemap.rst; include/uapi/linux/fs.h, struct pm_scan_arg.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct

from gimli.capture.elfcore import PAGE_BYTES

_PM_SCAN_ARG = struct.Struct("<12Q")
_PAGE_REGION = struct.Struct("<QQQ")
_PAGEMAP_SCAN = (3 << 30) | (_PM_SCAN_ARG.size << 16) | (ord("f") << 8) | 16
_IS_FILE, _IS_PRESENT, _IS_SWAPPED, _IS_PFNZERO = 4, 8, 16, 32
_WALK_END = 4  # index of walk_end in pm_scan_arg

_ENTRY_PRESENT, _ENTRY_SWAPPED, _ENTRY_FILE = 1 << 63, 1 << 62, 1 << 61
_ENTRIES_PER_READ = 1 << 16  # 512 KB, for 256 MB of addresses

_REGIONS = 4096
_UNLIMITED_PAGES = 1 << 40


class Pagemap:
    """The pages of one process. Close it."""

    def __init__(self, pid: int) -> None:
        self._fd = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self._regions = ctypes.create_string_buffer(_PAGE_REGION.size * _REGIONS)
        self._has_scan = True

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def scan(
        self, start: int, end: int, pages_max: int = _UNLIMITED_PAGES
    ) -> tuple[list[tuple[int, int]], bool]:
        """The runs of own pages between two addresses.

        Args:
            start: first address, page aligned.
            end: address after the last one.
            pages_max: stop after so many pages: the walk, not only its result, is bounded by it.

        Returns:
            The runs in order, and whether these are all.

        Raises:
            OSError: the process has ended (ESRCH), or its pagemap cannot be read.
        """
        if self._has_scan:
            try:
                return self._scan(start, end, pages_max)
            except OSError as error:
                if error.errno not in {errno.ENOTTY, errno.EINVAL, errno.ENOSYS}:
                    raise
                self._has_scan = False  # older than Linux 6.7
        return self._read(start, end, pages_max)

    def _scan(self, start: int, end: int, pages_max: int) -> tuple[list[tuple[int, int]], bool]:
        runs: list[tuple[int, int]] = []
        left = pages_max
        while start < end and left > 0:
            request = bytearray(
                _PM_SCAN_ARG.pack(
                    _PM_SCAN_ARG.size,
                    0,
                    start,
                    end,
                    0,
                    ctypes.addressof(self._regions),
                    _REGIONS,
                    left,
                    _IS_FILE | _IS_PFNZERO,  # inverted, so that the next line asks for "neither"
                    _IS_FILE | _IS_PFNZERO,
                    _IS_PRESENT | _IS_SWAPPED,  # any of them
                    _IS_PRESENT | _IS_SWAPPED,
                )
            )
            count = fcntl.ioctl(self._fd, _PAGEMAP_SCAN, request)
            found = ctypes.string_at(self._regions, count * _PAGE_REGION.size)
            for low, high, _ in _PAGE_REGION.iter_unpack(found):
                left -= (high - low) // PAGE_BYTES
                _extend(runs, low, high)
            walked_to = _PM_SCAN_ARG.unpack(request)[_WALK_END]
            if walked_to <= start:
                break
            start = walked_to
        return runs, start >= end

    def _read(self, start: int, end: int, pages_max: int) -> tuple[list[tuple[int, int]], bool]:
        runs: list[tuple[int, int]] = []
        left = pages_max
        while start < end and left > 0:
            count = min((end - start) // PAGE_BYTES, _ENTRIES_PER_READ)
            raw = os.pread(self._fd, count * 8, start // PAGE_BYTES * 8)
            if len(raw) < 8:
                break
            for low, high in runs_of(raw, start):
                high_kept = min(high, low + left * PAGE_BYTES)
                _extend(runs, low, high_kept)
                left -= (high_kept - low) // PAGE_BYTES
                if left <= 0:
                    return runs, False
            start += len(raw) // 8 * PAGE_BYTES
        return runs, start >= end


def runs_of(entries: bytes, start: int) -> list[tuple[int, int]]:
    """The runs of own pages that pagemap entries tell of.

    Args:
        entries: 8 bytes per page.
        start: address of the first page.
    """
    runs: list[tuple[int, int]] = []
    address = start
    for (entry,) in struct.iter_unpack("<Q", entries[: len(entries) // 8 * 8]):
        if entry & (_ENTRY_PRESENT | _ENTRY_SWAPPED) and not entry & _ENTRY_FILE:
            _extend(runs, address, address + PAGE_BYTES)
        address += PAGE_BYTES
    return runs


def _extend(runs: list[tuple[int, int]], low: int, high: int) -> None:
    """Append a run, or make the last one longer when they touch."""
    if runs and runs[-1][1] == low:
        runs[-1] = (runs[-1][0], high)
    else:
        runs.append((low, high))
