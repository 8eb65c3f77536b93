"""What happened to a service, when, and who did it?

One file per monitor, one JSON object per line, written by one ``write`` so that a reader never sees half
a line. The file and one predecessor are capped, and a nearly full disk gets only a little more: a journal
cannot fill a disk. A file of a few kilobytes beside it is given up when the disk is full all the same, so
that the journal can still say so.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque

from gimli import clock
from gimli.disk import Gauge, free_above_floor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

SCHEMA = 1
_encode = json.JSONEncoder(ensure_ascii=False).encode
_CAP_BYTES = 8_000_000
_RESERVE_BYTES = 16_384
_RESERVE_SHARE = 100
"""Of what is free: on a disk of a few kilobytes it would do harm itself."""
_BELOW_FLOOR_BYTES = 262_144
"""Written while less is free than should be: the reason, and what comes of it."""
_RECENT_MAX = 200
_REMEMBERED_BYTES = 65_536


class Journal:
    """The monitor's writing side.

    Writing never raises: a monitor whose disk is full goes on. What could not be written is counted in
    ``lost``, and the next line that can be written says so.
    """

    def __init__(self, path: str, *, cap_bytes: int = _CAP_BYTES) -> None:
        self.path = path
        self.lost = 0
        self.subscribers: list[Callable[[dict[str, Any]], None]] = []
        self.before: Callable[[], None] | None = None
        """Called before an event is recorded: who holds something back tells it now, by ``record`` itself."""
        self._cap_bytes = cap_bytes
        self._recent: deque[dict[str, Any]] = deque(maxlen=_RECENT_MAX)
        self._gauge = Gauge(os.path.dirname(path) or ".")
        self._below_floor_bytes = 0
        self._has_reserve = self._is_reserve_wanted = False
        self._fd = self._open()
        self._make_reserve()

    def record(self, event: str, service: str | None = None, **details: Any) -> dict[str, Any]:
        """Write one event.

        Returns:
            The line as an object: ``time`` (RFC 3339), ``monotonic_ns``, ``service``, ``event``, details.
        """
        if before := self.before:
            self.before = None  # what it records is not asked again
            try:
                before()
            finally:
                self.before = before
        entry = {
            "schema": SCHEMA,
            "time": clock.rfc3339(time.time()),
            "monotonic_ns": clock.monotonic_ns(),
            "service": service,
            "event": event,
            **details,
        }
        self._recent.append(entry)
        if self.lost:
            entry = {**entry, "lost_before": self.lost}
        if self._write(_encode(entry).encode(errors="backslashreplace") + b"\n"):
            self.lost = 0
        else:
            self.lost += 1
        for tell in tuple(self.subscribers):  # one may leave while it is told
            tell(entry)
        return entry

    def remember(self) -> list[dict[str, Any]]:
        """The end of what a monitor before this one has written: its last events are recent ones of ours."""
        try:
            with open(self.path, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _REMEMBERED_BYTES))
                lines = file.read().split(b"\n")
        except OSError:
            return []
        found = [entry for line in lines if (entry := parse_line(line)) and "service" in entry]
        self._recent.extend(found)
        return found

    def recent(self, service: str) -> list[dict[str, Any]]:
        """The last events of a service and of the monitor itself, oldest first."""
        return [entry for entry in self._recent if entry["service"] in {service, None}]

    def pack(self) -> dict[str, Any]:
        """What the next image of the monitor must know."""
        return {"lost": self.lost, "recent": list(self._recent)}

    def restore(self, packed: dict[str, Any]) -> None:
        """Go on where the image before has stopped."""
        self.lost += packed["lost"]
        self._recent.extendleft(reversed(packed["recent"]))

    def reopen(self) -> None:
        """Open the file anew: somebody has renamed it."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = self._open()

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self.path, flags, 0o600)
        except OSError:
            return -1

    def _write(self, line: bytes) -> bool:
        if self._gauge.has_room(len(line)):
            self._below_floor_bytes = 0
            if self._is_reserve_wanted:
                self._make_reserve()
        elif self._below_floor_bytes < _BELOW_FLOOR_BYTES:
            self._below_floor_bytes += len(line)
        else:
            return False
        return self._append(line) or (self._give_up_reserve() and self._append(line))

    def _append(self, line: bytes) -> bool:
        try:
            if self._fd < 0:
                self._fd = self._open()  # what was in the way may be gone
            size = os.fstat(self._fd).st_size
            if size + len(line) > self._cap_bytes:
                os.replace(self.path, self.path + ".1")
                self.reopen()
                size = os.fstat(self._fd).st_size
            if os.write(self._fd, line) == len(line):
                return True
            os.ftruncate(self._fd, size)  # half a line would swallow the next one too
        except OSError:
            return False
        return False

    def _make_reserve(self) -> None:
        """Take some room while there is some. Without it the journal is only less sure to say everything."""
        free = free_above_floor(os.path.dirname(self.path) or ".")
        if free is None or free < _RESERVE_BYTES * _RESERVE_SHARE:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(self.path + ".reserve", flags, 0o600)
        except OSError:
            return
        try:
            os.posix_fallocate(fd, 0, _RESERVE_BYTES)
            self._has_reserve, self._is_reserve_wanted = True, False
        except OSError:
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)

    def _give_up_reserve(self) -> bool:
        if not self._has_reserve:
            return False
        self._has_reserve, self._is_reserve_wanted = False, True
        try:
            os.truncate(self.path + ".reserve", 0)
        except OSError:
            return False
        return True


def read(path: str) -> Iterator[dict[str, Any]]:
    """The events of a journal, its rotated predecessor's first. A line that is not one is passed over."""
    for name in (path + ".1", path):
        try:
            with open(name, "rb") as file:
                for line in file:
                    if entry := parse_line(line):
                        yield entry
        except OSError:
            continue


def parse_line(line: bytes) -> dict[str, Any] | None:
    """One event, or None: a full disk can leave half a line."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("event"), str) else None
