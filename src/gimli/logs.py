"""Where does a service's output go, and how is it kept from filling a disk?

A file and its predecessors (``web.log.1`` is the youngest), each capped; a line is never cut in two by the
change from one to the next. The last bytes stay in memory for the report.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TAIL_BYTES = 16_384
KEEP = 5
_LINE_BYTES_MAX = 65_536
"""A longer line may be cut by a rotation: a program that writes no newline must not defeat the cap."""
_PREDECESSORS_MAX = 1000


class OutputFile:
    """One capped file. Writing never raises: a full disk costs output, never the monitor.

    Args:
        path: the file; None keeps the tail only.
        cap_bytes: the size at which it becomes ``path.1``.
        keep: how many predecessors there are.
        about_to: called before each write to the disk: where in the data it begins, how many bytes it is,
            the file's inode (0 for what is no regular file), and its size.
    """

    __slots__ = (
        "_about_to", "_cap_bytes", "_fd", "_inode", "_is_capped", "_keep", "_size", "_tail",
        "dropped_bytes", "failure", "is_line_begun", "path",
    )  # fmt: skip

    def __init__(
        self,
        path: str | None,
        cap_bytes: int,
        *,
        keep: int = KEEP,
        about_to: Callable[[int, int, int, int], None] = lambda *_: None,
    ) -> None:
        self.path = path
        self.dropped_bytes = 0
        self.is_line_begun = False
        """The file does not end in a newline."""
        self.failure = ""
        """Why the last write was not taken whole."""
        self._cap_bytes = cap_bytes
        self._keep = keep
        self._about_to = about_to
        self._tail = bytearray()
        self._fd = -1
        self._size = 0
        self._inode = 0
        self._is_capped = False

    def prepare(self) -> None:
        """Open the file, or make it: whoever looks for it shall find it. Else the first write does."""
        if self.path is not None and self._fd < 0:
            self._open(self.path)

    def write(self, data: bytes, start: int = 0) -> int:
        """Append output, changing files at the end of a line when the cap is reached.

        Args:
            data: what to write.
            start: where in it to begin.

        Returns:
            Where in the data it ended: their size, or less when the disk takes no more. Then the file ends
            with a whole line.
        """
        self.remember(data if not start else data[start:])
        if self.path is None:
            return len(data)
        self.prepare()  # also when it failed before: what was in the way may be gone
        self._measure()
        at = start
        while at < len(data):
            end = self._piece_end(data, at) if self._is_capped else len(data)
            if end == at:
                self._rotate(self.path)
                continue
            taken = self._append(data, at, end)
            at += taken
            if at < end:
                break
        self.dropped_bytes += len(data) - at
        return at

    def remember(self, data: bytes) -> None:
        """Put it into the tail only."""
        self._tail += data[-TAIL_BYTES:]
        del self._tail[:-TAIL_BYTES]

    def tail(self) -> list[str]:
        """The last whole lines in memory, and what follows them."""
        text = bytes(self._tail).decode(errors="replace")
        lines = text.splitlines()
        # The first one is cut; it is better than nothing when it is the only one.
        return lines[1:] or lines if len(self._tail) == TAIL_BYTES else lines

    def reopen(self) -> None:
        """Open the file anew: logrotate has renamed it."""
        if self.path is not None:
            self._close_fd()
            self._open(self.path)

    def cut_back(self, inode: int, size: int) -> None:
        """Undo the write that a kill has cut short, if this is still the file."""
        self.prepare()
        if inode == self._inode:
            self._truncate(size)
            self._measure()
            self.is_line_begun = _ends_in_a_line(self.path or "", self._size)

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
        except OSError as error:
            self._fd = -1
            self._size = self._inode = 0
            self.failure = error.strerror or ""
            return
        is_file = stat.S_ISREG(info.st_mode)
        self._inode = info.st_ino if is_file else 0
        self._size = info.st_size
        self.is_line_begun = is_file and _ends_in_a_line(path, info.st_size)
        # Only a file of its own is renamed: never /dev/null, never what /dev/stdout points to.
        self._is_capped = is_file and not os.path.islink(path)

    def _measure(self) -> None:
        """Somebody else may have cut the file (logrotate's copytruncate)."""
        if self._inode and self._fd >= 0:
            size = os.fstat(self._fd).st_size
            if size < self._size:
                self.is_line_begun = self.is_line_begun and size > 0
            self._size = size

    def _piece_end(self, data: bytes, at: int) -> int:
        """How far to write into this file; ``at`` itself when another one must come first."""
        room = self._cap_bytes - self._size
        if len(data) - at <= room:
            return len(data)
        if whole_lines := data.rfind(b"\n", at, at + max(0, room)) + 1:
            return whole_lines
        if self._size and not self.is_line_begun:
            return at
        # One line that passes the cap: to its end, if that is near.
        room += _LINE_BYTES_MAX
        line_end = data.find(b"\n", at) + 1 or len(data)
        return min(line_end, at + max(0, room))

    def _append(self, data: bytes, at: int, end: int) -> int:
        """Write one piece; how many bytes of it stand in the file, whole lines if it is not all."""
        piece = data if not at and end == len(data) else data[at:end]
        self._about_to(at, len(piece), self._inode, self._size)
        written = 0
        try:
            if self._fd >= 0:
                self.failure = ""
                written = os.write(self._fd, piece)
                if written < len(piece):
                    self.failure = os.strerror(_ENOSPC)  # what a second write would say
        except OSError as error:
            self.failure = error.strerror or ""
        if written < len(piece) and self._inode:
            whole = piece.rfind(b"\n", 0, written) + 1
            if whole < written:
                self._truncate(self._size + whole)
            written = whole
        if written:
            self._size += written
            self.is_line_begun = piece[written - 1] != _NEWLINE
        return written

    def _truncate(self, size: int) -> None:
        try:
            os.ftruncate(self._fd, size)
        except OSError:
            return  # half a line stays; the next one still begins after it

    def _rotate(self, path: str) -> None:
        self._close_fd()
        try:
            if self._keep:
                _make_room(path, self._keep)
                os.rename(path, f"{path}.1")
            else:
                _start_over(path)
        except OSError:
            _start_over(path)
        self._open(path)
        if self._size:  # it could neither be renamed nor cut; what is lost then is output, not the loop
            self._is_capped = False


_NEWLINE = 0x0A
_ENOSPC = 28


def _make_room(path: str, keep: int) -> None:
    """Move the predecessors up by one, to the first number that is free; a kill may leave one.

    The oldest is removed first: a rename over a file makes ext4 write the new one to the disk at once
    (auto_da_alloc), which costs more than all the rest of a rotation.
    """
    free = next((number for number in range(1, keep) if not os.path.lexists(f"{path}.{number}")), keep)
    for number in range(free, 0, -1):
        name = f"{path}.{number}"
        if not os.path.isfile(name) and os.path.lexists(name):
            raise FileExistsError(name)  # somebody else's directory: not ours to move
    if os.path.lexists(f"{path}.{free}"):
        os.unlink(f"{path}.{free}")
    for number in range(free - 1, 0, -1):
        os.rename(f"{path}.{number}", f"{path}.{number + 1}")


def _ends_in_a_line(path: str, size: int) -> bool:
    """Whether the last byte of a file is no newline."""
    if not size:
        return False
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(size - 1)
            return file.read(1) not in {b"\n", b""}
    except OSError:
        return False


def _start_over(path: str) -> None:
    """Without a rename the cap still holds."""
    try:
        os.truncate(path, 0)
    except OSError:
        return  # gone, or nothing can be written here any more


def last_lines(path: str, count: int, *, bytes_max: int = 500_000) -> list[bytes]:
    """The last lines of a log, with their newlines, across its predecessors.

    Args:
        path: the log.
        count: how many lines at most.
        bytes_max: how many bytes, about: it is the monitor that reads, holds and sends them.

    Raises:
        OSError: the log cannot be read.
    """
    lines: list[bytes] = []
    for number in range(_PREDECESSORS_MAX):
        bytes_left = bytes_max - sum(map(len, lines))
        if len(lines) >= count or bytes_left <= 0:
            break
        try:
            older, is_whole = _file_end(
                f"{path}.{number}" if number else path, count - len(lines), bytes_left
            )
        except FileNotFoundError:
            if number:
                break
            continue  # renamed just now
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
