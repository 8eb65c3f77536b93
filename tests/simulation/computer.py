"""What is there besides the monitor? Processes, files that outlive it, and faults."""

from __future__ import annotations

import errno
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

from gimli.signals import Received
from gimli.value import plain
from simulation.files import File, PageBytes, Pipe
from simulation.processes import INIT, Terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulation.files import Fifo
    from simulation.processes import Process
    from simulation.world import World

_PIDS = (100, 180)
"""So few that pids are reused all the time."""
_BELL_MAX = 10
SIGCHLD = 17


class MonitorKilled(BaseException):
    """The monitor is killed in the middle of a call: nothing after it happens."""


class Computer:
    """One machine."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.processes: dict[int, Process] = {}
        self.hot: dict[File, None] = {}
        self.boot = 1
        self.booted_ns = 0
        self.monitor: MonitorProcess | None = None
        self.records: dict[str, bytes] = {}
        self.unborn: dict[str, Any] = {}
        """The child that holds the lock on a record, by its path."""
        self.pages: dict[str, PageBytes] = {}
        self.fifos: dict[str, Fifo] = {}
        self.logs: dict[str, list[int]] = {}
        self.written: Counter[str] = Counter()
        """Lines that programs have written, by FIFO."""
        self.all_fifos: list[Fifo] = []
        self.journal: list[dict[str, Any]] = []
        self.awake_ns: list[int] = []
        """When each entry was made, had the clock never jumped."""
        self.ended_mains: list[Any] = []
        self.told: Any = None
        """The configuration as it stands in the file."""
        self.lock_holder: MonitorProcess | None = None
        self.lost_pid: int | None = None
        """Of the last monitor that held the lock and did not take it away."""
        self.monitor_since_ns = 0
        self.on_hang: Callable[[Any], None] = lambda _: None
        self.on_spawn: Callable[[Any], None] = lambda _: None
        self.has_cgroups = world.likely(0.5)
        self.mains: Counter[str] = Counter()
        """Living main processes, by service."""
        self.doomed: set[str] = set()
        """Services whose programs crash as soon as they start."""
        self.is_disk_full = False
        self.is_calm = False
        """No fault happens any more: the end of a scenario."""
        self.error_rate = 0.0
        self.freed_pid = _PIDS[1] + 1
        self._pid = _PIDS[0]
        self._ticks = 0
        self.terminal = Terminal(self).pid

    @property
    def boot_id(self) -> str:
        """Of the running kernel."""
        return f"b007-{self.boot}"

    @property
    def is_crowded(self) -> bool:
        """No fork succeeds: what is left of the pids is for the monitor's."""
        return len(self.processes) > (_PIDS[1] - _PIDS[0]) // 2

    def ticks(self) -> int:
        """Hundredths of a second since boot; no two processes have the same here."""
        self._ticks = max(self._ticks + 1, (self.world.now_ns - self.booted_ns) // 10_000_000)
        return self._ticks

    def new_pid(self) -> int:
        """The next that is free; or, to try who trusts a pid, the one that was freed last."""
        # The kernel gives no number away under which a session or a group is known.
        taken = self.processes.keys() | {self.monitor.pid if self.monitor else 0}
        for process in self.processes.values():
            taken |= {process.session, process.group}
        if self.freed_pid not in taken and self.world.likely(0.3):
            return self.freed_pid
        while True:
            self._pid = self._pid + 1 if self._pid < _PIDS[1] else _PIDS[0]
            if self._pid not in taken:
                return self._pid

    def reaper_of(self, process: Process) -> int:
        """Whose the children of a process become: the monitor's, below which it is, or init's."""
        parent = process.parent
        while parent != INIT and not (self.monitor and parent == self.monitor.pid):
            above = self.processes.get(parent)
            parent = above.parent if above else INIT
        return parent

    def leave_children(self, ended: Process) -> None:
        """A process has ended: its children are given to another."""
        reaper = self.reaper_of(ended)
        for process in tuple(self.processes.values()):
            if process.parent == ended.pid and process is not ended:
                process.parent = reaper
                if reaper == INIT:
                    process.orphaned()
                elif process.is_zombie:
                    self.child_changed(process)

    def child_changed(self, process: Process) -> None:
        """A process has ended or stopped: the kernel tells its parent."""
        if self.monitor and process.parent == self.monitor.pid:
            self.monitor.signal(SIGCHLD)
            if self.monitor.kill_at and self.world.likely(0.15):
                self.monitor.kill_at = self.monitor.calls + self.world.chance.randint(1, 15)

    def ring(self, service: str) -> None:
        """A program rings the bell; a full queue loses it."""
        bell = self.monitor.bell if self.monitor else None
        if bell and len(bell.messages) < _BELL_MAX and not self.world.likely(0.02):
            bell.put(service.encode())

    def tell_monitor(self, signo: int, sender: int) -> None:
        """A signal from somebody."""
        if self.monitor:
            self.monitor.signal(signo, sender)

    def configuration(self) -> dict[str, Any]:
        """What a process finds in gimli.toml now."""
        found: dict[str, Any] = plain(self.told)
        return found

    def page(self, path: str) -> PageBytes:
        """The page at a path."""
        return self.pages.setdefault(path, PageBytes())


class MonitorProcess:
    """The process that a monitor's image runs in: its descriptors, its signals, and its mortality."""

    def __init__(self, computer: Computer) -> None:
        self.computer = computer
        self.world = computer.world
        self.pid = computer.new_pid()
        self.fds: dict[int, File] = {}
        self.inheritable: set[int] = set()
        self.pending: list[Received] = []
        self.signal_file: File | None = None
        self.bell: Pipe | None = None
        self.is_dead = False
        self.is_replaced = False
        """execve has succeeded, and the new image does not stand yet."""
        self.calls = 0
        self.kill_at = 0
        """It dies in this call; 0: in none."""

    # Every system call.

    def call(self) -> None:
        """Between two system calls: the moment at which a monitor may be killed."""
        if self.is_dead or self.is_replaced:
            raise MonitorKilled
        self.calls += 1
        if self.calls == self.kill_at and not self.computer.is_calm:
            self.die("kill -9 between two calls")
            raise MonitorKilled

    def may_fail(self, *errors: int) -> None:
        """A system call that fails by chance.

        Raises:
            OSError: it does.
        """
        self.call()
        computer = self.computer
        if computer.error_rate and not computer.is_calm and self.world.likely(computer.error_rate):
            raise self.error(self.world.chance.choice(errors))

    def needs_room(self) -> None:
        """A system call that takes room on the disk.

        Raises:
            OSError: there is none.
        """
        self.may_fail(errno.ENOSPC, errno.EIO)
        if self.computer.is_disk_full:
            raise self.error(errno.ENOSPC)

    def error(self, number: int) -> OSError:
        """As the kernel has it."""
        self.world.say("a call fails:", errno.errorcode[number])
        self.world.events["fault"] += 1
        return OSError(number, os.strerror(number))

    def die(self, why: str) -> None:
        """All of its memory is gone; init takes its children."""
        if self.is_dead:
            return
        self.world.say("the monitor", self.pid, "is gone:", why)
        self.is_dead = True
        if self.computer.monitor is self:
            self.computer.monitor = None
        if self.computer.lock_holder is self:
            self.computer.lock_holder = None
            self.computer.lost_pid = self.pid
        for fd in tuple(self.fds):
            self.fds.pop(fd).closed()
        for process in tuple(self.computer.processes.values()):
            if process.parent == self.pid:
                process.orphaned()

    # Descriptors.

    def open(self, file: File) -> int:
        """The lowest free number, as the kernel gives it."""
        fd = 3
        while fd in self.fds:
            fd += 1
        self.fds[fd] = file
        file.fd = fd
        file.ready = file.ready  # from now on somebody may wait for it
        return fd

    def file(self, fd: int) -> Any:
        """What is open there.

        Raises:
            OSError: nothing.
        """
        if fd not in self.fds:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self.fds[fd]

    def close(self, fd: int) -> None:
        """Close it."""
        self.call()
        self.file(fd).closed()
        self.inheritable.discard(fd)
        del self.fds[fd]

    def execute(self) -> None:
        """What execve does to descriptors."""
        for fd in tuple(self.fds):
            if fd not in self.inheritable:
                self.fds.pop(fd).closed()
        self.signal_file = None
        self.is_replaced = True

    # Signals.

    def signal(self, signo: int, sender: int = 0) -> None:
        """One that is blocked, and read from the signalfd; one number is pending once."""
        if any(received.signo == signo for received in self.pending):
            return
        self.pending.append(Received(signo, 0, sender, 0))
        if self.signal_file:
            self.signal_file.ready = 1
