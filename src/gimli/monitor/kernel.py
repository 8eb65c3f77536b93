"""What does a service ask of the kernel? Every call that acts on a process or learns of one.

The services, their adoption and their takeover see processes through this class alone, so that the simulator
(tests/simulation) can run the same code on a kernel of its own, fail every call and kill the monitor
between any two of them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
import time

from gimli import clock, heartbeat, process
from gimli.monitor import leftovers, nameless, records
from gimli.monitor.output import Output
from gimli.monitor.patience import Patience
from gimli.monitor.request import capture_request
from gimli.monitor.spawn import Place, exec_failure
from gimli.paths import unlink_if_there
from gimli.process import ExitStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from gimli.loop import Deadline, Loop
    from gimli.monitor.cgroups import Cgroups
    from gimli.monitor.config import Log, Service
    from gimli.monitor.leftovers import Survey
    from gimli.monitor.records import Record
    from gimli.monitor.spawn import Spawner, Surroundings
    from gimli.monitor.spawned import Spawned
    from gimli.monitor.spool import Spool
    from gimli.process import ProcessId

_PIDFD_INFO_BYTES = 64  # struct pidfd_info, PIDFD_INFO_SIZE_VER0
_PIDFD_EXIT_CODE_OFFSET = 60
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_GET_INFO = 3 << 30 | _PIDFD_INFO_BYTES << 16 | 0xFF << 8 | 11
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Kernel:
    """The real one.

    Args:
        spawner: starts programs.
        cgroups: the services' control groups.
        spool: where their output is on its way.
        owners: users that services run as, beside our own.
    """

    def __init__(self, spawner: Spawner, cgroups: Cgroups, spool: Spool, owners: Iterable[int] = ()) -> None:
        self._spawner = spawner
        self._cgroups = cgroups
        self._spool = spool
        self._owners = frozenset({os.geteuid(), *owners})
        self.boot_id = _read_text(_BOOT_ID)

    now_ns = staticmethod(clock.monotonic_ns)

    # Starting.

    def spawn(self, service: Service, around: Surroundings, record_path: str) -> Spawned:
        """Clone, and let the child record itself and exec.

        Raises:
            OSError: no process, no descriptor, or no run record could be made.
        """
        record_fd = records.begin_start(record_path)
        cgroup_fd = self._cgroups.open_group(service.name)
        try:
            return self._spawner.spawn(service, around, Place(record_fd, cgroup_fd, self.boot_id))
        finally:
            os.close(record_fd)
            if cgroup_fd >= 0:
                os.close(cgroup_fd)

    def spawn_command(self, service: Service, around: Surroundings) -> Spawned:
        """Start a command that is no instance: nobody needs to find it again.

        Raises:
            OSError: no process, or no descriptor.
        """
        return self._spawner.spawn(service, around)

    def let_go(self) -> bool:
        """Let go of what children needed to begin; whether all of them have begun."""
        return self._spawner.let_go()

    def exec_failure(self, exec_fd: int) -> str:
        """Why there was no exec; empty when there was, or when it ended before it could say so."""
        return exec_failure(exec_fd)

    # Finding again.

    def read_record(self, path: str) -> Record:
        """A service's run record."""
        try:
            return records.read_record(path)
        except OSError:
            return records.Record("damaged")

    def records_in(self, instance_dir: str) -> dict[str, str]:
        """The paths of run records, by service."""
        names = (name for name in os.listdir(instance_dir) if name.endswith(".run"))
        return {name.removesuffix(".run"): os.path.join(instance_dir, name) for name in names}

    def command_line(self, pid: int) -> list[str]:
        """The arguments of a process."""
        return process.command_line(pid) or ["?"]

    def write_running(self, path: str, found: ProcessId, leader: int = 0) -> None:
        """Record who the service is, where its record does not say it.

        Args:
            path: of the record.
            found: the main process.
            leader: of its session, where that is another one that was the main process before.
        """
        records.write_running(path, found, self.boot_id, leader)

    def write_doubt(self, path: str) -> None:
        """Record that nobody knows whether the service runs."""
        records.write_doubt(path)

    def write_down(self, path: str) -> None:
        """Record that the service does not run."""
        records.write_down(path)

    def state_of(self, pid: int) -> str:
        """The kernel's letter for what a process does; ``T``: somebody has stopped it."""
        return process.state_of(pid)

    def identify(self, pid: int) -> ProcessId | None:
        """The process that has this pid now, unless it has ended.

        Raises:
            OSError: there is one, and it cannot be told who.
        """
        found = process.identify(pid)
        if found is None:
            _check_that_nobody_is(pid)
        return None if process.state_of(pid) in {"Z", "X"} else found

    belongs_to = staticmethod(process.belongs_to)
    capture_request = staticmethod(capture_request)

    def started_ns(self, living: ProcessId) -> int:
        """When a process was started, on CLOCK_MONOTONIC."""
        asleep_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self.now_ns()
        return living.start_ticks * clock.NANOSECONDS // os.sysconf("SC_CLK_TCK") - asleep_ns

    def survey(self, bell_path: str, pids: Iterable[int] | None = None) -> Survey:
        """Processes by what they inherited from a service of this bell; all that can be seen, or some.

        Raises:
            OSError: they cannot be seen now.
        """
        return leftovers.survey(process.all_pids() if pids is None else pids, bell_path, self._owners)

    def living(self, pids: Iterable[int]) -> list[ProcessId]:
        """Those of ``pids`` that run.

        Raises:
            OSError: they cannot be seen now.
        """
        return leftovers.living(pids)

    def holds(self, pid: int, paths: list[str]) -> bool:
        """Whether a process has one of these files open, which it can only have inherited."""
        return nameless.holds(pid, paths)

    def is_grouped(self, service: str, pid: int) -> bool:
        """Whether a process is in the control group of its service."""
        return pid in (self.group_members(service) or ())

    def pidfd_of(self, wanted: ProcessId) -> int | None:
        """A pidfd of exactly this process; None when it has ended.

        Raises:
            OSError: it cannot be told whether it has: no descriptor, or no memory, is left.
        """
        try:
            pidfd = os.pidfd_open(wanted.pid)
        except ProcessLookupError:
            return None
        try:
            # The descriptor names one process for ever; so its start is looked at after it was opened.
            is_it = self.identify(wanted.pid) == wanted
        except OSError:
            os.close(pidfd)
            raise
        if is_it:
            return pidfd
        os.close(pidfd)
        return None

    # Acting.

    def send_signal(self, pidfd: int, signo: int) -> None:
        """Signal one process.

        Raises:
            ProcessLookupError, PermissionError: it has ended; it is not ours to signal.
        """
        signal.pidfd_send_signal(pidfd, signo)

    def signal_group(self, main: Spawned, signo: int) -> None:
        """Signal the process group that a main process, or the one before it, leads; unless it has left that.

        One that is not there, or holds others' processes, is no error.
        """
        group = main.leader or main.pid
        try:
            is_in_it = os.getpgid(main.pid) == group
            # One that was reaped has no number any more: then that was a look at a stranger.
            signal.pidfd_send_signal(main.pidfd, 0)
            if is_in_it:
                os.killpg(group, signo)
        except (ProcessLookupError, PermissionError):
            return

    # Ends.

    def collect(self, ended: Spawned) -> ExitStatus:
        """Reap a child that has ended, or is about to.

        A debugger reaps before us what it is attached to, at its leisure. We do not wait for it: the child
        is a stranger from then on, and is reaped as one.
        """
        reaped = os.waitid(os.P_PIDFD, ended.pidfd, os.WEXITED | os.WNOHANG)
        if reaped is None:
            if held := process.status_of_zombie(ended.pid):
                return held
            reaped = os.waitid(os.P_PIDFD, ended.pidfd, os.WEXITED)
        assert reaped is not None
        return ExitStatus.from_waitid(reaped.si_code, reaped.si_status)

    def status_of_stranger(self, pid: int, pidfd: int) -> ExitStatus | None:
        """How an adopted process ended, which is somebody else's child; None when that cannot be known yet.

        While nobody has reaped it, /proc/PID/stat shows its status; after that the pidfd knows it (since
        Linux 6.15).
        """
        try:
            # It is ours after all where this process is the init or the subreaper that it was left to.
            if ended := os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG):
                return ExitStatus.from_waitid(ended.si_code, ended.si_status)
        except ChildProcessError:
            pass
        return process.status_of_zombie(pid) or _reaped_status(pidfd)

    def group_members(self, service: str) -> list[int] | None:
        """The processes of a service's control group; None where nobody knows."""
        return self._cgroups.members(service)

    def orphans(self, expected: set[int]) -> list[int]:
        """Our children but those expected, and all below them: what main processes have left to us.

        Raises:
            OSError: they cannot be seen now.
        """
        return leftovers.orphans(expected)

    def kill_group(self, service: str) -> None:
        """Kill everybody in a service's control group at once, who forks meanwhile too. Since Linux 5.14."""
        self._cgroups.kill(service)

    def remove_group(self, service: str) -> None:
        """Remove the control group of a service that does not run."""
        self._cgroups.remove(service)

    def is_stopped_child(self, pidfd: int) -> bool:
        """Whether a child has stopped since this was asked last."""
        try:
            return os.waitid(os.P_PIDFD, pidfd, os.WSTOPPED | os.WNOHANG) is not None
        except ChildProcessError:
            return False  # it has ended, and cannot stop any more; its exit is on its way

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def set_inheritable(self, fds: list[int], *, inheritable: bool) -> None:
        """Let descriptors pass an execve, or close them there."""
        for fd in fds:
            os.set_inheritable(fd, inheritable)

    # What belongs to a service.

    def patience(
        self,
        loop: Loop,
        tell: Callable[..., None],
        look: Callable[[], None],
        packed: dict[str, Any] | None,
    ) -> Patience:
        """What its late beats are granted; ``packed`` is from before a takeover."""
        return Patience.unpack(packed, loop, tell, look) if packed else Patience(loop, tell, look)

    def reopen_nameless(self, pid: int, path: str) -> int | None:
        """The file that had this path and has lost its name, as a process still holds it."""
        return nameless.reopen(pid, path)

    def is_nameless(self, fd: int) -> bool:
        """Nobody can open this file by a name."""
        return nameless.is_nameless(fd)

    remove = staticmethod(unlink_if_there)

    def open_page(self, path: str, fd: int | None) -> heartbeat.PageFile:
        """A service's heartbeat page; ``fd`` is the open one after a takeover."""
        return heartbeat.PageFile(path, fd)

    def open_output(
        self,
        path: str,
        log: Log,
        owner: int | None,
        tell: Callable[..., None],
        after: Callable[[float, Callable[[], None]], Deadline],
        packed: dict[str, Any] | None,
    ) -> Output:
        """A service's output; ``owner`` is its user, ``packed`` is from before a takeover."""
        owner = os.geteuid() if owner is None else owner
        return Output(path, log, tell, after, self._spool, owner=owner, packed=packed)


def _reaped_status(pidfd: int) -> ExitStatus | None:
    """The exit status kept by a pidfd after the process was reaped.

    Source: include/uapi/linux/pidfd.h, PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux 6.15.
    """
    info = bytearray(_PIDFD_INFO_BYTES)
    struct.pack_into("<Q", info, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    (mask,) = struct.unpack_from("<Q", info)
    (exit_code,) = struct.unpack_from("<i", info, _PIDFD_EXIT_CODE_OFFSET)
    return ExitStatus.from_wait_status(exit_code) if mask & _PIDFD_INFO_EXIT else None


def _check_that_nobody_is(pid: int) -> None:
    """That /proc shows no process may also mean that it could not be read.

    Raises:
        OSError: there is a process.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return
    except PermissionError:
        pass
    raise OSError(errno.EIO, f"/proc/{pid} cannot be read")


def _read_text(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return "unknown"
