"""What can be had of a process before it is let go?

The part of a capture that somebody waits for:

    look (facts that die with the process) -> stop -> registers -> choose pages -> copy -> let go

Nothing is written here, and nothing formatted: that comes when the process runs again. What a step could not
have is a note; a step that fails for good leaves what was had before it, and the reason in ``failure``.
"""

from __future__ import annotations

import errno
import os
import struct
import time

from gimli.capture import policy, procfs, ptrace
from gimli.capture.memory import Copy, read_memory
from gimli.capture.pagemap import Pagemap
from gimli.capture.registers import (
    ARCHITECTURES,
    NT_X86_XSTATE,
    SIGINFO_BYTES,
    Registers,
    pack_siginfo,
    registers_of_fault,
    stack_pointer,
    with_x86_fpregs,
    x86_fpregs_address,
)
from gimli.capture.sockets import read_sockets
from gimli.errors import CaptureRefused, GimliError, ProcessVanished
from gimli.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.capture.elfcore import Mapping
    from gimli.capture.policy import Selection
    from gimli.capture.registers import Architecture
    from gimli.capture.request import CrashRecord, Request
    from gimli.capture.sockets import Socket

_FPREGS_BYTES = 512  # FXSAVE


class Stopwatch:
    """Milliseconds since this helper was started."""

    def __init__(self) -> None:
        # The interpreter's own start is over when this is made; it was all computing.
        self._zero_s = time.monotonic() - time.process_time()
        self.marks_ms: dict[str, float] = {}

    def mark(self, name: str) -> None:
        """Note that a step is over."""
        self.marks_ms[name] = round((time.monotonic() - self._zero_s) * 1000, 3)


class Snapshot:
    """All that was had of a process."""

    def __init__(self, architecture: Architecture | None) -> None:
        self.architecture = architecture
        self.process: procfs.ProcessFacts | None = None
        self.sockets: dict[int, Socket] = {}
        self.threads: list[procfs.ThreadFacts] = []
        self.maps = ""
        self.crash: CrashRecord | None = None
        """The request's, or what a program that does not report it left on its stack."""
        self.crash_tid: int | None = None
        self.signo = 0
        self.registers: list[Registers] = []
        """The culprit's first, and as it was at its fault."""
        self.live_registers: list[Registers] = []
        """The same threads as they were stopped."""
        self.stack_pointers: list[int] = []
        """Of every thread, and of the crashed one twice: on its handler's stack and at the fault."""
        self.siginfo = b""
        self.selection: Selection | None = None
        self.copy: Copy | None = None
        self.pause_ms = 0.0
        self.held: ptrace.Held | None = None
        self.notes: list[str] = []
        self.failure: GimliError | None = None

    @property
    def has_core(self) -> bool:
        """There is enough for a core that a debugger reads."""
        return bool(self.registers) and self.copy is not None


def failed(request: Request, error: GimliError) -> Snapshot:
    """A snapshot of nothing, for what went wrong before there was anything."""
    snapshot = Snapshot(None)
    snapshot.signo = request.signal or 0
    snapshot.failure = error
    return snapshot


def take(request: Request, watch: Stopwatch) -> Snapshot:
    """Capture the process of a request, and let it go."""
    snapshot = Snapshot(ARCHITECTURES.get(os.uname().machine))
    snapshot.crash = request.crash
    snapshot.signo = request.crash.signo if request.crash else request.signal or 0
    if request.pid == 0:
        snapshot.notes.append("The process had ended before it could be captured: there is no core.")
        return snapshot
    try:
        _look(request, snapshot)
        watch.mark("looked")
        _hold(request, snapshot, watch)
    except GimliError as error:
        snapshot.failure = error
    except OSError as error:
        snapshot.failure = _failure(request.pid, error)
    if snapshot.process is not None:
        snapshot.notes.extend(snapshot.process.notes)
    return snapshot


def _look(request: Request, snapshot: Snapshot) -> None:
    """Read what is gone once the process is, and is the same whether it runs or stands."""
    pid = request.pid
    started = procfs.start_ticks(pid)
    if started is None:
        raise ptrace.vanished(pid)
    if request.start_ticks is not None and started != request.start_ticks:
        raise ProcessVanished(
            f"cannot capture pid {pid}",
            why=f"another process has the pid now: started at tick {started}, expected {request.start_ticks}",
            fix="nothing needs doing; the report has what the monitor knew of the one that ended",
        )
    snapshot.process = procfs.read_process(pid)
    snapshot.sockets = read_sockets(pid, snapshot.process.fds)
    snapshot.threads = procfs.read_threads(pid)
    if tracer := procfs.number(snapshot.process.status.get("TracerPid", "0")):
        raise ptrace.being_debugged(pid, tracer)
    if snapshot.architecture is None:
        machine = os.uname().machine
        raise CaptureRefused(
            f"cannot make a core of pid {pid}",
            why=f"gimli knows the registers of {', '.join(ARCHITECTURES)}, this is {machine}",
            fix="gdb may: gcore PID",
        )


def _hold(request: Request, snapshot: Snapshot, watch: Stopwatch) -> None:
    """Stop the process, copy of it what matters, and let it go whatever happens."""
    held = snapshot.held = ptrace.Held(request.pid)
    stopping_s = time.monotonic()
    try:
        held.stop(request.stop_timeout_s)
        watch.mark("stop")
        _read_registers(request, snapshot, held)
        watch.mark("registers")
        _copy(request, snapshot)
        watch.mark("copy")
    finally:
        held.let_go()
        snapshot.pause_ms = round((time.monotonic() - stopping_s) * 1000, 3)
    for tid in sorted(held.late):
        snapshot.notes.append(
            f"Thread {tid} did not stop within {request.stop_timeout_s:g} s: it is in an uninterruptible "
            "sleep, and its stack is missing."
        )


def _read_registers(request: Request, snapshot: Snapshot, held: ptrace.Held) -> None:
    architecture = snapshot.architecture
    assert architecture is not None
    if snapshot.crash is None and request.document.get("reason") == "crash":
        _find_crash(request.pid, snapshot, held)
    snapshot.crash_tid = _crash_tid(request.pid, snapshot.crash, held)
    culprit = snapshot.crash_tid or _hung_tid(request)
    for tid in sorted(held.tids, key=lambda tid: tid != culprit):
        if (registers := held.registers(tid, architecture)) is not None:
            snapshot.registers.append(registers)
    if not snapshot.registers:
        raise _not_stopping(request) if held.late else ptrace.vanished(request.pid)
    snapshot.live_registers = list(snapshot.registers)
    snapshot.stack_pointers = [stack_pointer(architecture, thread.general) for thread in snapshot.registers]
    if snapshot.crash is not None and snapshot.crash_tid == snapshot.registers[0].tid:
        snapshot.registers[0] = _at_fault(request.pid, snapshot.crash, snapshot)
        snapshot.stack_pointers.append(stack_pointer(architecture, snapshot.registers[0].general))


def _find_crash(pid: int, snapshot: Snapshot, held: ptrace.Held) -> None:
    """The original library's program waits in its handler; one of its threads is the one."""
    from gimli.capture.sigframe import find_crash  # noqa: PLC0415 - rare

    architecture = snapshot.architecture
    if architecture is not ARCHITECTURES["x86_64"]:
        return
    mappings = procfs.parse_maps(procfs.read_maps(pid))
    executable = [(each.start, each.end) for each in mappings if "x" in each.permissions]
    for tid in sorted(held.tids):
        if (registers := held.registers(tid, architecture)) is None:
            continue
        pointer = stack_pointer(architecture, registers.general)
        if crash := find_crash(pid, tid, pointer, executable):
            snapshot.crash, snapshot.signo = crash, crash.signo
            return


def _crash_tid(pid: int, crash: CrashRecord | None, held: ptrace.Held) -> int | None:
    if crash is None:
        return None
    if crash.tid in held.statuses:
        return crash.tid
    return procfs.thread_by_inner_tid(pid, crash.tid)


def _hung_tid(request: Request) -> int | None:
    hang = request.document.get("hang")
    tid = hang.get("tid") if isinstance(hang, dict) else None
    return tid if isinstance(tid, int) else None


def _at_fault(pid: int, crash: CrashRecord, snapshot: Snapshot) -> Registers:
    """The crashing thread as it was when the fault came, not as it waits in its handler."""
    architecture = snapshot.architecture
    live = snapshot.registers[0]
    assert architecture is not None
    snapshot.siginfo = _siginfo(pid, crash, snapshot)
    live = replace(live, siginfo=snapshot.siginfo)
    ucontext = read_memory(pid, crash.ucontext + architecture.ucontext_offset, architecture.ucontext_bytes)
    fault = registers_of_fault(architecture, live, ucontext)
    if fault is None:
        snapshot.notes.append(
            "The registers of the fault could not be read from the crash record: "
            "the crashed thread is shown in its signal handler."
        )
        return live
    if NT_X86_XSTATE in architecture.register_sets:
        fpregs = read_memory(pid, x86_fpregs_address(ucontext), _FPREGS_BYTES)
        if len(fpregs) == _FPREGS_BYTES:
            fault = with_x86_fpregs(fault, fpregs)
    return fault


def _siginfo(pid: int, crash: CrashRecord, snapshot: Snapshot) -> bytes:
    siginfo = read_memory(pid, crash.siginfo, SIGINFO_BYTES) if crash.siginfo else b""
    if len(siginfo) == SIGINFO_BYTES and struct.unpack_from("<i", siginfo) == (crash.signo,):
        return siginfo
    snapshot.notes.append("The signal's siginfo could not be read: it is made of the crash record's fields.")
    return pack_siginfo(crash.signo, crash.code, crash.address)


def _copy(request: Request, snapshot: Snapshot) -> None:
    """Choose the pages and copy them."""
    snapshot.maps = procfs.read_maps(request.pid)
    mappings = procfs.parse_maps(snapshot.maps)
    if not mappings:
        raise ptrace.vanished(request.pid)
    pagemap = Pagemap(request.pid)
    try:
        snapshot.selection = _select(request, snapshot, mappings, pagemap)
    finally:
        pagemap.close()
    snapshot.copy = Copy([run for item in snapshot.selection.kept for run in item.runs])
    snapshot.copy.fill(request.pid)
    if snapshot.copy.vanished:
        snapshot.notes.append("The process was killed while it was copied: parts of the core are zeros.")
    elif snapshot.copy.unreadable_bytes:
        snapshot.notes.append(
            f"{snapshot.copy.unreadable_bytes} bytes of memory could not be read: they are zeros."
        )


def _select(request: Request, snapshot: Snapshot, mappings: list[Mapping], pagemap: Pagemap) -> Selection:
    architecture = snapshot.architecture
    process = snapshot.process
    assert architecture is not None
    assert process is not None
    if policy.is_python(mappings, process.exe, process.sections):
        limit = min(policy.FULL_BYTES_MAX, procfs.available_bytes() // 2)
        if (full := policy.select_full(mappings, pagemap.scan, limit)) is not None:
            return full
        snapshot.notes.append(
            f"A Python program with more than {limit >> 20} MB in memory: the core is capped, and Python "
            f"frames may be missing. To see them, look at it alive: py-spy dump --pid {request.pid}"
        )
    selection = policy.select_capped(mappings, pagemap.scan, snapshot.stack_pointers, request.cap_bytes)
    if selection.truncated:
        snapshot.notes.append(
            f"The core has at most {request.cap_bytes >> 20} MB of each mapping, only a part of "
            f"{selection.truncated}: variables that point into the rest cannot be read."
        )
    return selection


def _not_stopping(request: Request) -> CaptureRefused:
    return CaptureRefused(
        f"cannot stop pid {request.pid}",
        why=f"no thread stopped within {request.stop_timeout_s:g} s: all are in an uninterruptible sleep",
        fix="see wchan of the report's threads for what the kernel waits for, often a disk or a file server",
    )


def _failure(pid: int, error: OSError) -> GimliError:
    if error.errno in {errno.ESRCH, errno.ENOENT}:
        return ptrace.vanished(pid)
    if error.errno in {errno.EPERM, errno.EACCES}:
        return ptrace.refusal(pid, error)
    return CaptureRefused(
        f"cannot capture pid {pid}",
        why=error.strerror or str(error),
        fix="free some memory on this host"
        if error.errno == errno.ENOMEM
        else "try again: gimli snapshot --pid PID",
    )
