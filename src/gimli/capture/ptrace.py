"""How is a process stopped, looked into, and let go?

``PTRACE_SEIZE`` and ``PTRACE_INTERRUPT`` for each thread: unlike an attach they send no SIGSTOP, so nothing
is left over when we let go. Whatever happens to this helper, the kernel detaches every thread of it at its
end: a target stays stopped only if it was stopped before.

    /proc/PID/task --SEIZE, INTERRUPT--> waitpid --> registers, memory --> DETACH (with the signal it had)
          ^                                 |
          +------ until no new thread ------+

Source: ptrace(2), "Stopped states" and "PTRACE_SEIZE"; one fact it does not stress: any such stop makes
epoll_wait(2) and some others return EINTR in the target (signal(7), the last section).
"""

from __future__ import annotations

import ctypes
import errno
import os
import time

from gimli.capture import procfs
from gimli.capture.registers import NT_X86_XSTATE, SIGINFO_BYTES, Registers, without_unused_amx
from gimli.errors import CaptureRefused, ProcessVanished

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.capture.registers import Architecture

PTRACE_GETSIGINFO = 0x4202
PTRACE_GETREGSET = 0x4204
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
PTRACE_DETACH = 17
WALL = 0x40000000  # __WALL: threads too, whoever made them

NT_PRSTATUS = 1
_REGISTERS_BYTES = 16384  # AVX-512 and AMX tiles take 11 KB
_SPINS = 200  # a running thread stops within some 20 us: yield that often before sleeping
_NAP_S = 0.0002


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


class Held:
    """The threads of one process, stopped by us.

    ``stop`` and ``let_go`` are separate so that ``let_go`` stands in a ``finally`` that covers both.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.statuses: dict[int, int] = {}
        """The wait status of each stopped thread."""
        self.late: set[int] = set()
        """Threads that were asked to stop and have not: in an uninterruptible sleep."""
        self.dying: set[int] = set()
        """Threads killed while we held them. Their real parent learns of it when we have let them go."""
        self.gone: set[int] = set()
        """Threads that ended before they stopped, and zombies."""
        self._buffer = ctypes.create_string_buffer(_REGISTERS_BYTES)
        self._iovec = _Iovec()

    def stop(self, timeout_s: float) -> None:
        """Stop every thread, those too that others start meanwhile.

        Args:
            timeout_s: for all threads together; what has not stopped by then is in ``late``.

        Raises:
            ProcessVanished: there is no thread left.
            CaptureRefused: the kernel does not let us.
        """
        deadline_s = time.monotonic() + timeout_s
        while new := self._unseen():
            for tid in new:
                self._interrupt(tid)
            for tid in new:
                if tid in self.late:
                    self._wait(tid, deadline_s)
        if not self.statuses and not self.late:
            raise vanished(self.pid)

    @property
    def tids(self) -> list[int]:
        """The stopped threads, the process' first one first."""
        return sorted(self.statuses, key=lambda tid: (tid != self.pid, tid))

    def registers(self, tid: int, architecture: Architecture) -> Registers | None:
        """The registers of a stopped thread; None when it was killed meanwhile.

        Raises:
            CaptureRefused: it is a thread of a 32-bit program.
        """
        try:
            general = self._register_set(tid, NT_PRSTATUS)
            siginfo = self._siginfo(tid)
        except OSError:
            return None
        if len(general) != architecture.gregs_bytes:
            raise CaptureRefused(
                f"cannot make a core of pid {self.pid}",
                why=f"a 32-bit program: registers of {len(general)} bytes, not {architecture.gregs_bytes}",
                fix=f"gdb reads it: gdb -p {self.pid}",
            )
        return Registers(tid, general, self._further_sets(tid, architecture), siginfo)

    def let_go(self) -> None:
        """Let every stopped thread go on as if nothing had been. Does nothing the second time."""
        while self.statuses:
            tid, status = self.statuses.popitem()
            self._detach(tid, status)

    @property
    def is_owed(self) -> bool:
        """Threads are left that ``let_go_late`` has to see to."""
        return bool(self.late or self.dying)

    def let_go_late(self) -> None:
        """Let go of a thread that stops, or ends, only now. It would wait for this helper's end."""
        for tid in (*self.late, *self.dying):
            status = _poll(tid)
            if status is None:
                continue
            self.late.discard(tid)
            self.dying.discard(tid)
            if os.WIFSTOPPED(status):
                self._detach(tid, status)

    def _unseen(self) -> list[int]:
        return [
            tid
            for tid in procfs.thread_ids(self.pid)
            if tid not in self.statuses and tid not in self.late and tid not in self.gone
        ]

    def _interrupt(self, tid: int) -> None:
        """Ask a thread to stop."""
        try:
            _ptrace(PTRACE_SEIZE, tid)
            _ptrace(PTRACE_INTERRUPT, tid)
        except OSError as error:
            # A zombie cannot be seized either, and says EPERM.
            if error.errno == errno.ESRCH or procfs.thread_state(self.pid, tid) in {"Z", "X", ""}:
                self.gone.add(tid)
                return
            raise refusal(self.pid, error) from error
        self.late.add(tid)  # until it has stopped

    def _wait(self, tid: int, deadline_s: float) -> None:
        spins = 0
        while (status := _poll(tid)) is None:
            if time.monotonic() > deadline_s:
                return
            spins += 1
            if spins < _SPINS:
                os.sched_yield()
            else:
                time.sleep(_NAP_S)
        self.late.discard(tid)
        if os.WIFSTOPPED(status):
            self.statuses[tid] = status
        else:
            self.gone.add(tid)

    def _register_set(self, tid: int, kind: int) -> bytes:
        self._iovec.base = ctypes.addressof(self._buffer)
        self._iovec.length = _REGISTERS_BYTES
        _ptrace(PTRACE_GETREGSET, tid, kind, ctypes.addressof(self._iovec))
        return ctypes.string_at(self._buffer, self._iovec.length)

    def _further_sets(self, tid: int, architecture: Architecture) -> dict[int, bytes]:
        sets = {}
        for kind in architecture.register_sets:
            try:
                sets[kind] = self._register_set(tid, kind)
            except OSError:  # a register set this machine does not have
                continue
        if NT_X86_XSTATE in sets:
            sets[NT_X86_XSTATE] = without_unused_amx(sets[NT_X86_XSTATE])
        return sets

    def _siginfo(self, tid: int) -> bytes:
        """Of the signal it is stopped for; zeros when it is stopped for none (EINVAL: a group-stop)."""
        status = self.statuses.get(tid, 0)
        if _event(status):
            return bytes(SIGINFO_BYTES)
        _ptrace(PTRACE_GETSIGINFO, tid, 0, ctypes.addressof(self._buffer))
        return ctypes.string_at(self._buffer, SIGINFO_BYTES)

    def _detach(self, tid: int, status: int) -> None:
        # Stopped on its way to a signal, it must be given that signal. In a group-stop it must be given none:
        # the kernel remembers that the group is stopped, and SIGSTOP stays in force.
        signo = 0 if _event(status) else os.WSTOPSIG(status)
        try:
            _ptrace(PTRACE_DETACH, tid, 0, signo)
        except OSError:  # killed meanwhile
            if _poll(tid) is None:
                self.dying.add(tid)


def refusal(pid: int, error: OSError) -> CaptureRefused:
    """Why the kernel did not let us trace a process, and what to do."""
    comm = procfs.read_text(f"/proc/{pid}/comm").strip()
    what = f"cannot trace pid {pid} ({comm})"
    if tracer := procfs.tracer_of(pid):
        return being_debugged(pid, tracer)
    why = os.strerror(error.errno or errno.EPERM)
    yama = procfs.read_text("/proc/sys/kernel/yama/ptrace_scope").strip()
    if yama not in {"", "0"}:
        why += f" (kernel.yama.ptrace_scope={yama})"
    return CaptureRefused(
        what, why=why, fix=f"run: sudo gimli snapshot --pid {pid}, or start the program under gimli run"
    )


def being_debugged(pid: int, tracer: int) -> CaptureRefused:
    """A process has one tracer, and it is not us."""
    comm = procfs.read_text(f"/proc/{pid}/comm").strip()
    debugger = procfs.read_text(f"/proc/{tracer}/comm").strip() or "unknown"
    return CaptureRefused(
        f"cannot trace pid {pid} ({comm})",
        why=f"pid {tracer} ({debugger}) traces it already",
        fix=f"look at it there, or end that debugger: kill {tracer}",
    )


def vanished(pid: int) -> ProcessVanished:
    """The process ended before it was captured."""
    return ProcessVanished(
        f"cannot capture pid {pid}",
        why="the process has ended",
        fix="nothing needs doing; the report has what the monitor knew of it",
    )


def _ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, tid, address, data) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _poll(tid: int) -> int | None:
    """The wait status of a thread that stopped or ended; None when it has done neither."""
    try:
        waited, status = os.waitpid(tid, WALL | os.WNOHANG)
    except ChildProcessError:
        return 0  # reads as "exited": it is not ours any more
    return status if waited else None


def _event(status: int) -> int:
    """PTRACE_EVENT_STOP for our own and for group-stops; 0 for a stop on the way to a signal."""
    return status >> 16
