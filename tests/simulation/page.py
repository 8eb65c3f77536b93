"""The monitor's side of a heartbeat page: the same interface as ``gimli.heartbeat.PageFile``."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from gimli import heartbeat
from simulation.files import File, PageBytes

if TYPE_CHECKING:
    from simulation.computer import Computer, MonitorProcess

FRESH = bytearray(heartbeat.PAGE_SIZE)
struct.pack_into(
    "<QII", FRESH, heartbeat.OFFSET_MAGIC, heartbeat.MAGIC, heartbeat.VERSION, heartbeat.PAGE_SIZE
)


class PageHandle(File):
    """An open page."""

    __slots__ = ("content",)

    def __init__(self, computer: Computer, content: PageBytes) -> None:
        super().__init__(computer.hot)
        self.content = content


class VirtualPage(heartbeat.PageFile):
    """The real one's words and their effects, on bytes in memory."""

    def __init__(self, computer: Computer, me: MonitorProcess, path: str, fd: int | None) -> None:
        self.path = path
        self._computer = computer
        self._me = me
        if fd is None:
            me.may_fail(errno.EMFILE)
            fd = me.open(PageHandle(computer, computer.page(path)))
        self.fd = fd
        self._content = me.file(fd).content

    def reset(self) -> None:
        """Make it the page of a program that has not started."""
        if len(self._content.content) < heartbeat.PAGE_SIZE:
            self._me.needs_room()
        else:
            self._me.call()
        self._content.replace(FRESH)

    def read(self) -> heartbeat.Page:
        """The page now."""
        return self._content.read()

    def close(self) -> None:
        """Close it."""
        self._me.close(self.fd)

    def _put(self, data: bytes, offset: int) -> None:
        self._me.call()
        if self._computer.is_disk_full and len(self._content.content) < offset + len(data):
            raise self._me.error(errno.ENOSPC)
        self._content.write(offset, f"{len(data)}s", data)
