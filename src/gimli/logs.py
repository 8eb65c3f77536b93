"""Where does a service's output go, and how is it kept from filling a disk?

A file and one predecessor, each capped; a line is never cut in two by the change from one to the next.
The last bytes stay in memory for the report.
"""

from __future__ import annotations

import os
import stat

TAIL_BYTES = 16_384
_LINE_BYTES_MAX = 65_536
"""A longer line may be cut by a rotation: a program that writes no newline must not defeat the cap."""


class OutputFile:
    """One capped file. Writing never raises: a full disk costs output, never the monitor.

    Args:
        path: the file; None keeps the tail only.
        cap_bytes: the size at which it becomes ``path.1``.
    """

    def __init__(self, path: str | None, cap_bytes: int) -> None:
        self.path = path
        self.dropped_bytes = 0
        self._cap_bytes = cap_bytes
        self._tail = bytearray()
        self._fd = -1
        self._size = 0
        self._is_capped = False
        if path is not None:
            self._open(path)

    def write(self, data: bytes) -> None:
        """Append output, changing files at the end of a line when the cap is reached."""
        self._tail += data[-TAIL_BYTES:]
        del self._tail[:-TAIL_BYTES]
        if self.path is None:
            return
        if self._fd < 0:
            self._open(self.path)  # what was in the way may be gone
        if not self._is_capped or self._size + len(data) <= self._cap_bytes:
            self._append(data)
            return
        line_end = data.find(b"\n") + 1
        if not line_end and self._size < self._cap_bytes + _LINE_BYTES_MAX:
            self._append(data)
            return
        self._append(data[:line_end])
        self._rotate(self.path)
        self._append(data[line_end:])

    def tail(self) -> list[str]:
        """The last whole lines in memory, and what follows them."""
        text = bytes(self._tail).decode(errors="replace")
        lines = text.splitlines()
        # The first one is cut; it is better than nothing when it is the only one.
        return lines[1:] or lines if len(self._tail) == TAIL_BYTES else lines

    def reopen(self) -> None:
        """Open the file anew: logrotate has renamed or truncated it."""
        if self.path is not None:
            self._close_fd()
            self._open(self.path)

    def close(self) -> None:
        """Close the file; a later write goes to the tail only."""
        self._close_fd()
        self.path = None

    def _close_fd(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            # A FIFO that nobody reads must not stop the monitor: for a file, O_NONBLOCK means nothing.
            self._fd = os.open(path, flags | os.O_NONBLOCK, 0o640)
            info = os.fstat(self._fd)
        except OSError:
            self._fd = -1
            return
        self._size = info.st_size
        # Only a file of its own is renamed: never /dev/null, never what /dev/stdout points to.
        self._is_capped = stat.S_ISREG(info.st_mode) and not os.path.islink(path)

    def _append(self, data: bytes) -> None:
        try:
            written = os.write(self._fd, data) if self._fd >= 0 else 0
        except OSError:
            written = 0
        self._size += written
        self.dropped_bytes += len(data) - written

    def _rotate(self, path: str) -> None:
        self._close_fd()
        try:
            os.replace(path, path + ".1")
        except OSError:
            _start_over(path)
        self._open(path)


def _start_over(path: str) -> None:
    """Without a rename the cap still holds."""
    try:
        os.truncate(path, 0)
    except OSError:
        return  # gone, or nothing can be written here any more


def last_lines(path: str, count: int, *, bytes_max: int = 500_000) -> list[bytes]:
    """The last lines of a log, with their newlines, across its rotated predecessor.

    Args:
        path: the log.
        count: how many lines at most.
        bytes_max: how many bytes, about: it is the monitor that reads, holds and sends them.

    Raises:
        OSError: the log cannot be read.
    """
    lines: list[bytes] = []
    for name in (path, path + ".1"):
        bytes_left = bytes_max - sum(map(len, lines))
        if len(lines) >= count or bytes_left <= 0:
            break
        try:
            older, is_whole = _file_end(name, count - len(lines), bytes_left)
        except FileNotFoundError:
            continue
        lines = older + lines
        if not is_whole:
            break
    return lines


def _file_end(path: str, count: int, bytes_max: int) -> tuple[list[bytes], bool]:
    """Read backwards in blocks until enough was seen; and whether that was all of it."""
    with open(path, "rb") as file:
        position = file.seek(0, os.SEEK_END)
        text = b""
        while position and text.count(b"\n") <= count and len(text) <= bytes_max:
            block = min(position, 65_536)
            position -= block
            file.seek(position)
            text = file.read(block) + text
    *lines, rest = text.split(b"\n")  # not splitlines: a progress bar's carriage returns end no line
    whole = [*(line + b"\n" for line in lines), *([rest] if rest else [])]
    if position:
        whole = whole[1:] or whole  # the first one is cut; better than nothing when it is the only one
    return whole[-count:], position == 0
