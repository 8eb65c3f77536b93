"""A service's output: the same interface as ``gimli.monitor.output.Output``. Lines are numbers."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from simulation.files import READ, Fifo

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulation.computer import Computer, MonitorProcess


class VirtualOutput:
    """A FIFO and a log. Reading and writing are one call here: really, a kill in between loses lines."""

    def __init__(
        self,
        computer: Computer,
        me: MonitorProcess,
        path: str,
        log_path: str,
        fd: int | None,
        tell: Callable[..., None],
    ) -> None:
        self.fifo_path = path
        self.file = VirtualLog(computer, log_path)
        self.followers: list[Callable[[bytes], None]] = []
        self._me = me
        self._tell = tell
        self._is_losing = False
        if fd is None:
            me.may_fail(errno.EMFILE)
            if path not in computer.fifos:
                me.needs_room()
                computer.fifos[path] = Fifo(computer.hot)
                computer.all_fifos.append(computer.fifos[path])
            fifo = computer.fifos[path]
            fifo.holders += 1
            fd = me.open(fifo)
            fifo.ready = READ if fifo.messages else 0
        self.fd = fd
        self._fifo = me.file(fd)

    def drain(self, least: int = 1) -> int:
        """Take what is there; where little may be left, maybe not all."""
        self._me.call()
        self._me.file(self.fd)
        waiting = self._fifo.messages
        if not waiting:
            return 0
        world = self._me.world
        count = world.chance.randint(1, len(waiting)) if least > 1 and world.likely(0.3) else len(waiting)
        is_losing = not self.file.write([waiting.popleft() for _ in range(count)])
        self._fifo.ready = READ if waiting else 0
        if is_losing and not self._is_losing:
            self._tell("output-lost", why="the disk is full")
        self._is_losing = is_losing
        return count

    flush = drain

    def pack(self) -> dict[str, int]:
        """For the next image."""
        return {"fd": self.fd}

    def close(self) -> None:
        """Close, and remove the FIFO."""
        self.drain()
        self._me.close(self.fd)
        self.file.computer.fifos.pop(self.fifo_path, None)


class VirtualLog:
    """A log file."""

    def __init__(self, computer: Computer, path: str) -> None:
        self.computer = computer
        self.path = path
        self.dropped_bytes = 0

    def write(self, lines: list[int]) -> bool:
        """Whether there was room."""
        self.computer.logs.setdefault(self.path, []).extend(
            [-line for line in lines] if self.computer.is_disk_full else lines
        )
        return not self.computer.is_disk_full

    def prepare(self) -> None:
        """It is there as soon as it is written to."""

    def tail(self) -> list[str]:
        """Not looked at by anybody here."""
        return []

    def reopen(self) -> None:
        """Somebody has renamed it."""
