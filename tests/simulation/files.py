"""What can a descriptor be open on? Virtual files, each with its readiness as epoll would tell it."""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING

from gimli import heartbeat

if TYPE_CHECKING:
    from simulation.processes import Process

READ, HANGUP = 1, 0x10


class File:
    """Something open. ``ready`` is a mask of epoll's events.

    ``hot`` is shared by all files of a computer: those that are ready, so that a loop need not ask each.
    """

    __slots__ = ("_ready", "fd", "hot")

    def __init__(self, hot: dict[File, None]) -> None:
        self.hot = hot
        self.fd = -1
        self._ready = 0

    @property
    def ready(self) -> int:
        """Which events epoll would tell."""
        return self._ready

    @ready.setter
    def ready(self, mask: int) -> None:
        self._ready = mask
        if mask and self.fd >= 0:
            self.hot[self] = None
        else:
            self.hot.pop(self, None)

    def closed(self) -> None:
        """The last descriptor is closed."""
        self.ready = 0
        self.fd = -1


class PidFd(File):
    """Of a process: readable when it has ended, hung up when it was reaped."""

    __slots__ = ("process",)

    def __init__(self, hot: dict[File, None], process: Process) -> None:
        super().__init__(hot)
        self.process = process
        process.pidfds.append(self)
        if process.status is not None:
            self.ready = READ if process.is_zombie else READ | HANGUP

    def closed(self) -> None:
        """Nobody needs to be told any more."""
        super().closed()
        if self in self.process.pidfds:
            self.process.pidfds.remove(self)


class Pipe(File):
    """Messages one way; readable at its end, too."""

    __slots__ = ("is_ended", "messages")

    def __init__(self, hot: dict[File, None]) -> None:
        super().__init__(hot)
        self.messages: deque[object] = deque()
        self.is_ended = False

    def put(self, message: object) -> None:
        """Write one."""
        self.messages.append(message)
        self.ready = READ

    def end(self) -> None:
        """The writer is gone."""
        self.is_ended = True
        self.ready = READ

    def take(self) -> object | None:
        """The oldest message; None: there is none."""
        if not self.messages:
            return None
        message = self.messages.popleft()
        if not self.messages and not self.is_ended:
            self.ready = 0
        return message


class Fifo(Pipe):
    """A service's output: what is in it is gone when nobody holds it open."""

    __slots__ = ("holders", "lost")

    def __init__(self, hot: dict[File, None]) -> None:
        super().__init__(hot)
        self.holders = 0
        self.lost = 0

    def release(self) -> None:
        """One that held it open is gone."""
        self.holders -= 1
        if self.holders == 0:
            self.lost += len(self.messages)
            self.messages.clear()
            self.ready = 0

    def closed(self) -> None:
        """The monitor's end."""
        super().closed()
        self.release()


class PageBytes:
    """The content of a heartbeat page, parsed once for each change by the one that parses it in earnest."""

    __slots__ = ("_page", "content")

    def __init__(self) -> None:
        self.content = bytearray()
        self._page: heartbeat.Page | None = None

    def write(self, offset: int, layout: str, *fields: object) -> None:
        """As pwrite: a page that was cut off grows again."""
        size = offset + struct.calcsize(layout)
        if size > len(self.content):
            self.content.extend(bytes(size - len(self.content)))
        struct.pack_into(layout, self.content, offset, *fields)
        self._page = None

    def replace(self, content: bytes) -> None:
        """Another content."""
        self.content = bytearray(content)
        self._page = None

    def read(self) -> heartbeat.Page:
        """What stands there."""
        if self._page is None:
            self._page = heartbeat.parse_page(bytes(self.content))
        return self._page
