"""What was appended to a file that is renamed now and then, each byte once."""

from __future__ import annotations

import os


class Tail:
    """A file and its successors.

    It holds the open file over its renaming, and reads it to its end before it goes on to the next. Only
    two renamings between two polls would go unseen; ``is_blind`` says that it has happened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.is_blind = False
        self._fd = -1
        self._inode = 0

    def poll(self) -> bytes:
        """What is new. ``is_blind`` is set anew: something before it may be missing."""
        self.is_blind = False
        data = self._read()
        try:
            info = os.stat(self.path)
        except OSError:
            return data
        if info.st_ino == self._inode and self._fd >= 0:
            return data
        data += self._read()
        if self._fd >= 0:
            self.is_blind = _inode(self.path + ".1") != self._inode
            os.close(self._fd)
        self._fd = os.open(self.path, os.O_RDONLY)
        self._inode = os.fstat(self._fd).st_ino
        return data + self._read()

    def close(self) -> None:
        """Close it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> bytes:
        if self._fd < 0:
            return b""
        pieces = []
        while piece := os.read(self._fd, 1 << 20):
            pieces.append(piece)
        return b"".join(pieces)


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0
