"""How much may be written before a file system is too full?

Logs, journal and cores leave a floor free: 1 % of the file system, at most 100 MB. The disk that a fault
fills is often the one that everything else on the machine needs.
"""

from __future__ import annotations

import os

from gimli import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_FLOOR_SHARE = 100
_FLOOR_BYTES_MAX = 100_000_000
_LOOK_EVERY_NS = clock.NANOSECONDS
_UNKNOWN = 1 << 62
_ROOM_SHARE = 4
"""Others write too: a quarter of what is free may be used before the next look."""


def floor_bytes(total_bytes: int) -> int:
    """What stays free on a file system of that size."""
    return min(total_bytes // _FLOOR_SHARE, _FLOOR_BYTES_MAX)


def free_above_floor(path: str, floor: int | None = None) -> int | None:
    """Bytes that may be written below a directory, negative where the floor is passed already.

    Args:
        path: a directory.
        floor: what must stay free; None for the usual.

    Returns:
        None when it cannot be known.
    """
    try:
        info = os.statvfs(path)
    except OSError:
        return None
    usual = floor_bytes(info.f_blocks * info.f_frsize)
    return info.f_bavail * info.f_frsize - (usual if floor is None else floor)


class Gauge:
    """Asked before each write; looks at the file system once a second while there are any.

    Args:
        path: a directory on it.
        floor: what must stay free; None for the usual.
        monotonic_ns: the clock.
    """

    __slots__ = ("_floor", "_look_at_ns", "_monotonic_ns", "_path", "_room")

    def __init__(
        self, path: str, floor: int | None = None, monotonic_ns: Callable[[], int] = clock.monotonic_ns
    ) -> None:
        self._path = path
        self._floor = floor
        self._monotonic_ns = monotonic_ns
        self._room = 0
        self._look_at_ns = 0

    def has_room(self, size: int) -> bool:
        """Whether so many bytes may be written now; they are counted as written."""
        now_ns = self._monotonic_ns()
        if now_ns >= self._look_at_ns or 0 < self._room < size:
            free = free_above_floor(self._path, self._floor)
            self._look_at_ns = now_ns + _LOOK_EVERY_NS
            # A write larger than the quarter is let pass: what is above the floor is there to be used.
            self._room = (
                1 << 62 if free is None else free // _ROOM_SHARE if free // _ROOM_SHARE >= size else free
            )
        if self._room < size:
            self._room = 0
            return False
        self._room -= size
        return True
