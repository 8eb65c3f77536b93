"""The event loop on virtual time: the same interface as ``gimli.loop.Loop``."""

from __future__ import annotations

import errno
import heapq
import os
from typing import TYPE_CHECKING

from gimli.loop import READ, Deadline
from simulation.files import HANGUP, File

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulation.computer import MonitorProcess


class VirtualLoop:
    """Level-triggered like epoll, in an order that chance picks."""

    def __init__(self, me: MonitorProcess) -> None:
        self.me = me
        self.children: set[int] = set()
        self._world = me.world
        self._watched: dict[File, tuple[int, Callable[[int], None]]] = {}
        self._deadlines: list[tuple[int, int, Deadline]] = []
        self._count = 0

    def now_ns(self) -> int:
        """Virtual time."""
        return self._world.now_ns

    def watch(self, fd: int, callback: Callable[[int], None], events: int = READ) -> None:
        """As EPOLL_CTL_ADD."""
        self.me.call()
        file = self.me.file(fd)
        if file in self._watched:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        self._watched[file] = (events | HANGUP, callback)

    def change(self, fd: int, events: int) -> None:
        """As EPOLL_CTL_MOD."""
        self.me.call()
        file = self.me.file(fd)
        self._watched[file] = (events | HANGUP, self._watched[file][1])

    def forget(self, fd: int) -> None:
        """As EPOLL_CTL_DEL; of one that is not watched, nothing."""
        self.me.call()
        file = self.me.fds.get(fd)
        if file is not None:
            self._watched.pop(file, None)

    def at(self, at_ns: int, callback: Callable[[], None]) -> Deadline:
        """Once, then."""
        deadline = Deadline(at_ns, callback)
        self._count += 1
        heapq.heappush(self._deadlines, (at_ns, self._count, deadline))
        return deadline

    def after(self, delay_s: float, callback: Callable[[], None]) -> Deadline:
        """Once, in a while."""
        return self.at(self._world.now_ns + round(delay_s * 1e9), callback)

    @property
    def next_ns(self) -> int | None:
        """When the next deadline comes."""
        deadlines = self._deadlines
        while deadlines and deadlines[0][2].callback is None:
            heapq.heappop(deadlines)
        return deadlines[0][0] if deadlines else None

    def ready(self) -> list[tuple[File, int]]:
        """Files with something to tell."""
        found = []
        for file in self.me.computer.hot:
            watched = self._watched.get(file)
            if watched and file.ready & watched[0]:
                found.append((file, file.ready & watched[0]))
        return found

    def run_once(self) -> None:
        """Everything that is due; the driver has slept."""
        ready = self.ready()
        if len(ready) > 1:
            self._world.chance.shuffle(ready)
        for file, events in ready:
            watched = self._watched.get(file)
            if watched and file.fd >= 0:
                watched[1](events)
        now_ns, armed = self._world.now_ns, self._count
        while (at_ns := self.next_ns) is not None and at_ns <= now_ns:
            if at_ns == now_ns and self._deadlines[0][1] > armed:
                break  # in this round, when time had gone on a little: it comes in the next one
            deadline = heapq.heappop(self._deadlines)[2]
            callback, deadline.callback = deadline.callback, None
            if callback:
                callback()
