"""The kernel as the monitor sees it: the same interface as ``gimli.monitor.kernel.Kernel``."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from gimli.monitor import records
from gimli.monitor.leftovers import Survey
from gimli.monitor.spawned import Spawned
from gimli.process import ExitStatus
from simulation.bystanders import NoPatience
from simulation.files import PidFd, Pipe
from simulation.output import VirtualOutput
from simulation.page import VirtualPage
from simulation.processes import KILL
from simulation.programs import Program
from simulation.trees import Descendant
from simulation.world import Violated

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.process import ProcessId
    from simulation.computer import Computer, MonitorProcess


class VirtualKernel:
    """Every call may be the monitor's last, and many may fail."""

    def __init__(self, computer: Computer, me: MonitorProcess) -> None:
        self._computer = computer
        self._world = computer.world
        self._me = me
        self.boot_id = computer.boot_id
        self._requests = 0

    def now_ns(self) -> int:
        """Virtual time."""
        return self._world.now_ns

    # Starting.

    def spawn(self, service: Any, around: Any, record_path: str) -> Spawned:
        """As ``records.begin_start``, ``Spawner.spawn`` and libgimli/spawn.c, step by step."""
        me, computer = self._me, self._computer
        self._begin_start(record_path)
        me.may_fail(errno.EMFILE, errno.ENFILE)
        status = Pipe(computer.hot)
        exec_fd = me.open(status)
        try:
            me.may_fail(errno.EAGAIN, errno.ENOMEM)
            page = me.file(around.page_fd).content
            fifo = computer.fifos.get(around.output_path) if around.output_path else None
            # Where its group cannot be opened, it is born into the monitor's.
            cgroup = service.name if computer.has_cgroups and not self._world.likely(0.1) else None
            program = Program(computer, me.pid, service, page, fifo, record_path, status, cgroup)
            try:
                me.may_fail(errno.EMFILE, errno.ENOMEM)
                pidfd = me.open(PidFd(computer.hot, program))
                return Spawned(program.pid, pidfd, exec_fd, grouped=cgroup is not None)
            except OSError:
                program.signalled(KILL)
                program.reaped()
                raise
        except OSError:
            me.close(exec_fd)
            raise

    def _begin_start(self, path: str) -> None:
        """The order of steps is that of the real one: a kill may come between any two."""
        me = self._me
        me.may_fail(errno.EMFILE)
        me.needs_room()
        me.call()
        self._computer.records[path] = records.format_record("starting")
        me.call()

    def let_go(self) -> bool:
        """Children here have descriptors of their own."""
        return True

    def exec_failure(self, exec_fd: int) -> str:
        """The child's words, or none."""
        self._me.call()
        return str(self._me.file(exec_fd).take() or "")

    # Finding again.

    def read_record(self, path: str) -> records.Record:
        """With the lock: a child that is about to write is waited for."""
        self._me.call()
        if child := self._computer.unborn.get(path):
            if child.is_stopped:
                return records.Record("damaged")
            child.record()
        return records.parse_record(self._computer.records.get(path))

    def records_in(self, _: str) -> dict[str, str]:
        """By service."""
        self._me.call()
        return {path.split("/")[-1].removesuffix(".run"): path for path in self._computer.records}

    def command_line(self, pid: int) -> list[str]:
        """Not looked at by anybody here."""
        self._me.call()
        return [f"program {pid}"]

    def write_down(self, path: str) -> None:
        """It has ended."""
        self._me.call()
        if path in self._computer.records:
            self._computer.records[path] = records.format_record("down")

    def write_running(self, path: str, found: ProcessId, leader: int = 0) -> None:
        """Best effort."""
        self._me.call()
        if self._computer.is_disk_full:
            return
        self._computer.records[path] = b""
        self._me.call()
        self._computer.records[path] = records.format_running(found, self.boot_id, leader)

    def identify(self, pid: int) -> ProcessId | None:
        """Who has this pid now."""
        self._me.may_fail(errno.EMFILE)
        process = self._computer.processes.get(pid)
        return process.identity if process and process.is_alive else None

    def belongs_to(self, pid: int, leader: int) -> bool:
        """By session, or by descent."""
        self._me.call()
        process = self._computer.processes.get(pid)
        if process and process.session == leader:
            return True
        while process and process.parent != leader:
            process = self._computer.processes.get(process.parent)
        return process is not None

    def capture_request(self, config: Any, child: Any, **told: Any) -> dict[str, Any]:
        """The part of a request that helpers here read."""
        self._requests += 1
        me, pid = self._me, told["pid"]
        process = self._computer.processes.get(pid)
        return {
            "id": f"{me.pid}-{me.calls}-{self._requests}",
            "service": config.name,
            "reason": told["reason"],
            "pid": pid,
            "start_ticks": process.start_ticks if process else None,
            "page": told["page_path"] if told.get("crash") else None,
        }

    def started_ns(self, living: ProcessId) -> int:
        """From its ticks."""
        return living.start_ticks * 10_000_000 + self._computer.booted_ns

    def survey(self, _: str, pids: list[int] | None = None) -> Survey:
        """By what their environment says, unless they have overwritten it; and by session."""
        self._me.may_fail(errno.EMFILE)
        services: dict[str, list[int]] = {}
        mains: dict[str, list[int]] = {}
        sessions: dict[int, list[int]] = {}
        for pid in sorted(self._computer.processes) if pids is None else pids:
            process = self._computer.processes[pid]
            sessions.setdefault(process.session, []).append(pid)
            if process.is_alive and process.is_marked:
                if isinstance(process, Program):
                    mains.setdefault(process.service, []).append(pid)
                    services.setdefault(process.service, []).append(pid)
                else:
                    services.setdefault(process.main.service, []).append(pid)
        return Survey(services, mains, sessions)

    def group_members(self, service: str) -> list[int] | None:
        """Those that were born into it."""
        self._me.call()
        if not self._computer.has_cgroups:
            return None
        return [pid for pid, process in self._computer.processes.items() if process.cgroup == service]

    def orphans(self, expected: set[int]) -> list[int]:
        """Our children but those expected, and all below them."""
        self._me.may_fail(errno.EMFILE)
        found: list[int] = []
        below = [pid for pid in self._children_of(self._me.pid) if pid not in expected]
        while below:
            found += below
            below = [child for pid in below for child in self._children_of(pid)]
        return found

    def _children_of(self, parent: int) -> list[int]:
        return [pid for pid, process in self._computer.processes.items() if process.parent == parent]

    def living(self, pids: list[int]) -> list[ProcessId]:
        """Those that run."""
        self._me.call()
        found = (self._computer.processes.get(pid) for pid in pids)
        return [process.identity for process in found if process and process.is_alive]

    def is_grouped(self, service: str, pid: int) -> bool:
        """Whether it was born into the control group of its service."""
        return pid in (self.group_members(service) or ())

    def holds(self, pid: int, _: list[str]) -> bool:
        """Whether it still has its page or its output open."""
        self._me.call()
        return getattr(self._computer.processes[pid], "holds_files", False)

    def state_of(self, pid: int) -> str:
        """Stopped, or not."""
        process = self._computer.processes.get(pid)
        return "T" if process and process.is_stopped else "S"

    def reopen_nameless(self, _pid: int, _path: str) -> int | None:
        """Nobody cleans the runtime directory here."""
        return None

    def is_nameless(self, _: int) -> bool:
        """Likewise."""
        return False

    def patience(self, *_: Any) -> NoPatience:
        """None is had."""
        return NoPatience()

    def pidfd_of(self, wanted: ProcessId) -> int | None:
        """Of exactly this one."""
        self._me.may_fail(errno.EMFILE, errno.ENOMEM)
        process = self._computer.processes.get(wanted.pid)
        if isinstance(process, Descendant):
            process.looked_at()
        if not process or process.identity != wanted or not process.is_alive:
            return None
        return self._me.open(PidFd(self._computer.hot, process))

    # Acting.

    def send_signal(self, pidfd: int, signo: int) -> None:
        """A zombie takes a signal and does nothing with it."""
        self._me.call()
        process = self._me.file(pidfd).process
        if process.status is not None and not process.is_zombie:
            raise ProcessLookupError(errno.ESRCH, "No such process")
        process.signalled(signo)

    def signal_group(self, main: Spawned, signo: int) -> None:
        """Everybody in it, unless the main process is gone or elsewhere."""
        self._me.call()
        group = main.leader or main.pid
        held = self._me.file(main.pidfd).process
        if held.group == group and (held.is_alive or held.is_zombie):
            for process in tuple(self._computer.processes.values()):
                if process.group == group:
                    process.signalled(signo)

    # Ends.

    def kill_group(self, service: str) -> None:
        """All at once."""
        self._me.call()
        for process in tuple(self._computer.processes.values()):
            if self._computer.has_cgroups and process.cgroup == service:
                process.signalled(KILL)

    def remove_group(self, _: str) -> None:
        """There are no control groups here."""

    def collect(self, ended: Spawned) -> ExitStatus:
        """Wait for a child; one that is not about to end would stop the monitor."""
        self._me.call()
        process = self._me.file(ended.pidfd).process
        if process.parent != self._me.pid:
            raise ChildProcessError(errno.ECHILD, "No child processes")
        if process.status is None:
            if not getattr(process, "is_giving_up", False):
                raise Violated(f"the monitor waits for {process.role} {process.pid}, which lives")
            process.end(ExitStatus(code=127))
        process.reaped()
        return process.status

    def status_of_stranger(self, pid: int, pidfd: int) -> ExitStatus | None:
        """Seen in its zombie, or kept by its pidfd; or not to be known."""
        self._me.call()
        process = self._me.file(pidfd).process
        if process.parent == self._me.pid and process.is_zombie:
            process.reaped()
            return process.status
        return None if process.keeps_its_status_secret else process.status

    def is_stopped_child(self, pidfd: int) -> bool:
        """Once for each stop."""
        self._me.call()
        process = self._me.file(pidfd).process
        if process.parent != self._me.pid or not process.is_alive:
            return False
        is_news, process.stop_is_news = process.stop_is_news, False
        return is_news and process.is_stopped

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        self._me.close(fd)

    def set_inheritable(self, fds: list[int], *, inheritable: bool) -> None:
        """For an execve to come."""
        for fd in fds:
            self._me.file(fd)
            if inheritable:
                self._me.inheritable.add(fd)
            else:
                self._me.inheritable.discard(fd)

    # Files of a service.

    def remove(self, path: str) -> None:
        """A record or a page."""
        self._me.call()
        self._computer.records.pop(path, None)
        self._computer.pages.pop(path, None)

    def open_page(self, path: str, fd: int | None) -> VirtualPage:
        """A page."""
        return VirtualPage(self._computer, self._me, path, fd)

    def open_output(
        self,
        path: str,
        log: Any,
        _owner: int | None,
        tell: Callable[..., None],
        _after: object,
        packed: dict[str, Any] | None,
    ) -> VirtualOutput:
        """An output."""
        return VirtualOutput(self._computer, self._me, path, log.file, packed and packed["fd"], tell)
