"""Which signals did the kernel see, of anybody to anybody?

A trace instance of our own: the kernel notes each signal that can end a program, with its sender, in a ring
of its own memory, and we read it when something has happened to us. Nothing wakes us: a stranger's SIGKILL
costs the kernel half a microsecond and us nothing. The filter names signals and not pids, so that no restart
has to rewrite it; at 1000 services it could not name them all (docs/decisions/0006-who-sent-the-signal.md).

A second instance notes births and programs, as a sender may be gone when we ask who its parent was.

tracefs is mounted nowhere for this: fsmount(2) gives a file system that only our descriptor leads to.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal

from gimli.errors import GimliError
from gimli.monitor import trace_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.monitor.trace_lines import Birth

TRACED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGILL,
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGKILL,
    signal.SIGUSR1,
    signal.SIGSEGV,
    signal.SIGUSR2,
    signal.SIGTERM,
    signal.SIGSTOP,
    signal.SIGSYS,
)
"""Those that the monitor acts on, and those that end or stop a program. Not the ones that programs live by:
CHLD, ALRM, PIPE, URG (which Go sends itself hundreds of times a second)."""
# The same numbers on every architecture since Linux 5.2 (include/uapi/asm-generic/unistd.h).
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_FSCONFIG_CMD_CREATE = 6
_INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, include/linux/proc_ns.h
_SIGNALS_KB, _BIRTHS_KB = 64, 16
"""Of each CPU's ring: the last 1200 signals, and the last 200 births and programs."""
_READ_BYTES = 65_536
_READS_MAX = 256
_BIRTHS_KEPT_BYTES = 65_536
_OPENS_MAX = 3
_PREFIX = "gimli-"


class Trace:
    """Two instances under tracefs, reused when an earlier monitor of this name has left them.

    Args:
        name: of the monitor and its place; no two monitors that live may share it.

    Raises:
        GimliError: the kernel or our rights do not allow it; ``why`` says which.
    """

    def __init__(self, name: str) -> None:
        if os.readlink("/proc/self/ns/pid") != _INITIAL_PID_NAMESPACE:
            raise _unavailable("its pids are the host's, and this is another pid namespace")
        self._names = (f"instances/{_PREFIX}{name}", f"instances/{_PREFIX}{name}.births")
        self._fs_fd = _mount()
        self._pipes: list[int] = []
        self._births = b""
        try:
            for path in self._names:
                self._pipes.append(self._open_pipe(path))
        except OSError as error:
            self.close()
            raise _unavailable(f"{error.strerror} (tracefs)") from error

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What it has open."""
        return (self._fs_fd, *self._pipes)

    def configure(self) -> None:
        """Size the rings and let the events flow. Takes 60 ms, all of it waiting: not for an event loop.

        Raises:
            OSError: the kernel refuses.
        """
        signals, births = self._names
        wanted = " || ".join(f"sig=={int(signo)}" for signo in TRACED)
        for path, ring_kb in ((signals, _SIGNALS_KB), (births, _BIRTHS_KB)):
            self._write(f"{path}/buffer_size_kb", str(ring_kb))
            self._write(f"{path}/trace_clock", "boot")
        self._write(f"{signals}/events/signal/signal_generate/filter", wanted)
        self._write(f"{signals}/events/signal/signal_generate/enable", "1")
        self._write(f"{births}/events/sched/sched_process_fork/enable", "1")
        # A path with a line end in it could hold whole records, made up by whoever executes it.
        self._write(f"{births}/events/sched/sched_process_exec/filter", '!(filename ~ "*\n*")')
        self._write(f"{births}/events/sched/sched_process_exec/enable", "1")
        self._write(f"{signals}/events/oom/mark_victim/enable", "1")

    @property
    def is_configured(self) -> bool:
        """The events flow: it has been here before."""
        fd = self._open(f"{self._names[0]}/events/oom/mark_victim/enable", os.O_RDONLY)
        try:
            return os.read(fd, 8).startswith(b"1")
        finally:
            os.close(fd)

    def drain(self) -> bytes:
        """What the kernel has noted since the last call, for ``trace_lines``. Never blocks; 20 us."""
        return _read_all(self._pipes[0])

    def birth_of(self, pid: int) -> Birth | None:
        """Who started a process; None when that was too long ago."""
        self._births = (self._births + _read_all(self._pipes[1]))[-_BIRTHS_KEPT_BYTES:]
        return trace_lines.find_birth(self._births, pid)

    def close(self) -> None:
        """Let go of the instances; they stay, and so does what is in them."""
        self._close_pipes()
        os.close(self._fs_fd)

    def remove(self) -> None:
        """Take the instances away, and those of monitors that were killed and never came back.

        The kernel makes who does that wait for 100 ms: a child, which holds nothing of ours by the time this
        returns. If there can be none, the next monitor of this name finds them.
        """
        self._close_pipes()
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        try:
            if os.fork() == 0:
                _remove_and_exit(self._fs_fd, self._names, write_fd)
        except OSError:
            pass
        os.close(write_fd)
        os.read(read_fd, 1)
        os.close(read_fd)
        os.close(self._fs_fd)

    def _close_pipes(self) -> None:
        for fd in self._pipes:
            os.close(fd)
        self._pipes.clear()

    def _open_pipe(self, path: str) -> int:
        """Hold an instance: one that is open cannot be removed, as an earlier monitor's child may just do."""
        for _ in range(_OPENS_MAX - 1):
            self._make(path)
            try:
                return self._open(f"{path}/trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
            except FileNotFoundError:
                continue
        self._make(path)
        return self._open(f"{path}/trace_pipe", os.O_RDONLY | os.O_NONBLOCK)

    def _make(self, path: str) -> None:
        try:
            os.mkdir(path, dir_fd=self._fs_fd)
        except FileExistsError:
            return  # left by a monitor that was killed: it knows by whom

    def _open(self, path: str, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, dir_fd=self._fs_fd)

    def _write(self, path: str, text: str) -> None:
        fd = self._open(path, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def hold_only(*fds: int) -> None:
    """In a child: close every other descriptor, or it would hold the instance's lock for a dead monitor."""
    first = 0
    for fd in sorted(fds):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def _remove_and_exit(fs_fd: int, names: tuple[str, ...], write_fd: int) -> None:
    """In a child: hold nothing that anybody waits for, say so by the end of the pipe, then wait."""
    try:
        os.setsid()
        hold_only(fs_fd, write_fd)
        os.close(write_fd)
        left_behind = [f"instances/{name}" for name in _list_instances(fs_fd) if name.startswith(_PREFIX)]
        for path in (*names, *left_behind):
            _remove_unless_open(fs_fd, path)
    finally:
        os._exit(0)


def _list_instances(fs_fd: int) -> list[str]:
    fd = os.open("instances", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fs_fd)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def _remove_unless_open(fs_fd: int, path: str) -> None:
    """The kernel refuses to remove one that somebody reads: a living monitor's."""
    try:
        os.rmdir(path, dir_fd=fs_fd)
    except OSError:
        return


def _read_all(fd: int) -> bytes:
    parts: list[bytes] = []
    try:
        while len(parts) < _READS_MAX and (part := os.read(fd, _READ_BYTES)):
            parts.append(part)
    except OSError:  # EAGAIN: that was all
        pass
    return b"".join(parts)


def _mount() -> int:
    """A tracefs without a place in the tree: what the host has mounted, and where, stays as it is."""
    fs_fd = _syscall(_FSOPEN, ctypes.c_char_p(b"tracefs"), _FSOPEN_CLOEXEC)
    try:
        _syscall(_FSCONFIG, fs_fd, _FSCONFIG_CMD_CREATE, None, None, 0)
        return _syscall(_FSMOUNT, fs_fd, _FSMOUNT_CLOEXEC, 0)
    finally:
        os.close(fs_fd)


def _syscall(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    longs = (ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
    result: int = libc.syscall(ctypes.c_long(number), *longs)
    if result >= 0:
        return result
    code = ctypes.get_errno()
    if code == errno.EPERM:
        raise _unavailable("only root may trace (CAP_SYS_ADMIN)")
    if code in {errno.ENODEV, errno.ENOSYS}:
        raise _unavailable("this kernel has no tracefs, or is older than 5.2")
    raise _unavailable(os.strerror(code))


def _unavailable(why: str) -> GimliError:
    return GimliError("cannot trace signals", why=why)
