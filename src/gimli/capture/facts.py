"""What does facts.json say?

The request, and what was seen of the process, in the words of docs/reference/capture.md. Pure formatting of
what ``snapshot`` read; nothing here looks at the process again.
"""

from __future__ import annotations

import os
import struct
import time

from gimli import clock
from gimli.capture import procfs, sockets, syscalls
from gimli.capture.registers import SIGINFO_BYTES
from gimli.process import describe_sender, signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")

    from gimli.capture.procfs import ProcessFacts
    from gimli.capture.request import Request
    from gimli.capture.snapshot import Snapshot, Stopwatch

SCHEMA = 1
_FROM_REQUEST = (
    "id",
    "service",
    "reason",
    "time",
    "monotonic_ns",
    "pid",
    "service_pid",
    "command",
    "crash",
    "hang",
    "heartbeat",
    "output",
    "journal",
    "facts",
)

# si_code by signal, from 1 on (include/uapi/asm-generic/siginfo.h), and those any signal may have.
_CODES = {
    4: ("ILL_ILLOPC", "ILL_ILLOPN", "ILL_ILLADR", "ILL_ILLTRP", "ILL_PRVOPC", "ILL_PRVREG", "ILL_COPROC",
        "ILL_BADSTK", "ILL_BADIADDR"),
    5: ("TRAP_BRKPT", "TRAP_TRACE", "TRAP_BRANCH", "TRAP_HWBKPT", "TRAP_UNK", "TRAP_PERF"),
    7: ("BUS_ADRALN", "BUS_ADRERR", "BUS_OBJERR", "BUS_MCEERR_AR", "BUS_MCEERR_AO"),
    8: ("FPE_INTDIV", "FPE_INTOVF", "FPE_FLTDIV", "FPE_FLTOVF", "FPE_FLTUND", "FPE_FLTRES", "FPE_FLTINV",
        "FPE_FLTSUB"),
    11: ("SEGV_MAPERR", "SEGV_ACCERR", "SEGV_BNDERR", "SEGV_PKUERR", "SEGV_ACCADI", "SEGV_ADIDERR",
         "SEGV_ADIPERR", "SEGV_MTEAERR", "SEGV_MTESERR", "SEGV_CPERR"),
    31: ("SYS_SECCOMP", "SYS_USER_DISPATCH"),
}  # fmt: skip
_COMMON_CODES = {
    0: "SI_USER",
    0x80: "SI_KERNEL",
    -1: "SI_QUEUE",
    -2: "SI_TIMER",
    -3: "SI_MESGQ",
    -4: "SI_ASYNCIO",
    -5: "SI_SIGIO",
    -6: "SI_TKILL",
}
_SENT_BY_PROCESS = frozenset({0, -1, -6})


def build(
    request: Request,
    snapshot: Snapshot,
    watch: Stopwatch,
    *,
    core: dict[str, object] | None,
    maps: str | None,
) -> dict[str, Any]:
    """The document of facts.json."""
    files = _files(snapshot)
    notes = list(snapshot.notes)
    if snapshot.failure is not None:
        notes.insert(0, _sentence(snapshot.failure.what, snapshot.failure.why, snapshot.failure.fix))
    return {
        "schema": SCHEMA,
        **{key: request.document.get(key) for key in _FROM_REQUEST},
        "pid": request.pid or request.document.get("service_pid") or 0,
        "signal": _signal(request, snapshot),
        "crash_tid": snapshot.crash_tid,
        "threads": _threads(snapshot, files),
        "process": _process(snapshot.process, files) if snapshot.process else {},
        "maps": maps,
        "core": core,
        "timings_ms": watch.marks_ms | {"pause": snapshot.pause_ms},
        "notes": notes,
    }


def code_name(signo: int, code: int) -> str | None:
    """The name of a signal's si_code, such as ``SEGV_MAPERR``."""
    names = _CODES.get(signo, ())
    if 0 < code <= len(names):
        return names[code - 1]
    return _COMMON_CODES.get(code)


def effective(status: dict[str, str], key: str) -> int:
    """The effective id of a ``Uid`` or ``Gid`` line: real, effective, saved, file system."""
    numbers = status.get(key, "").split()
    return procfs.number(numbers[1]) if len(numbers) > 1 else 0


def _signal(request: Request, snapshot: Snapshot) -> dict[str, Any] | None:
    crash = snapshot.crash
    told_sender, told_code = _told(request, "sender", dict), _told(request, "signal_code", int)
    if crash is None:
        if not request.signal:
            return None
        return {
            "name": signal_name(request.signal),
            "number": request.signal,
            "code": told_code,
            "code_name": None if told_code is None else code_name(request.signal, told_code),
            "address": None,
            "sender": told_sender,
        }
    return {
        "name": signal_name(crash.signo),
        "number": crash.signo,
        "code": crash.code,
        "code_name": code_name(crash.signo, crash.code),
        "address": crash.address,
        "sender": _likelier(_sender(snapshot.siginfo), told_sender),
    }


def _sender(siginfo: bytes) -> dict[str, Any] | None:
    """Who sent it: a signal that a process sent has its pid and uid where a fault has the address."""
    if len(siginfo) != SIGINFO_BYTES:
        return None
    code, pid, uid = struct.unpack_from("<i4xiI", siginfo, 8)
    if code not in _SENT_BY_PROCESS or pid <= 0:
        return None
    return describe_sender(pid, uid)


def _likelier(seen: dict[str, Any] | None, told: dict[str, Any] | None) -> dict[str, Any] | None:
    """The sender as the signal names it; if that one is gone, what the monitor knows of the same one."""
    if seen is None or seen["comm"] or told is None or told.get("pid") != seen["pid"]:
        return seen
    return told | {"uid": seen["uid"]}


def _told(request: Request, key: str, kind: type[T]) -> T | None:
    """What the monitor says of the signal, if it says it."""
    found = request.document.get(key)
    return found if isinstance(found, kind) else None


def _files(snapshot: Snapshot) -> dict[int, str]:
    """What each descriptor is open on; sockets with their ends, as the inode alone says nothing."""
    if snapshot.process is None:
        return {}
    files = dict(snapshot.process.fds)
    for fd, socket in snapshot.sockets.items():
        files[fd] = f"{sockets.describe(socket)} ({files[fd]})"
    return files


def _threads(snapshot: Snapshot, files: dict[int, str]) -> list[dict[str, Any]]:
    registers = {thread.tid: thread for thread in snapshot.live_registers}
    return [
        {
            "tid": thread.tid,
            "comm": thread.comm,
            "state": thread.state,
            "wchan": thread.wchan or None,
            "syscall": syscalls.describe(snapshot.architecture, registers.get(thread.tid), files),
            "stopped": thread.tid in registers,
        }
        for thread in snapshot.threads
    ]


def _process(process: ProcessFacts, files: dict[int, str]) -> dict[str, Any]:
    ppid, start_ticks = procfs.fields(process.stat, 1, 19)
    uptime_s = time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks / os.sysconf("SC_CLK_TCK")
    pages = process.statm.split()
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return {
        "exe": process.exe,
        "cwd": process.cwd,
        "uid": effective(process.status, "Uid"),
        "gid": effective(process.status, "Gid"),
        "ppid": ppid,
        "start_time": clock.rfc3339(time.time() - uptime_s),
        "uptime_s": round(uptime_s, 3),
        "rss_bytes": procfs.number(pages[1]) * page_bytes if len(pages) > 1 else 0,
        "vm_bytes": procfs.number(pages[0]) * page_bytes if pages else 0,
        "threads": procfs.number(process.status.get("Threads", "0")),
        "cgroup": process.cgroup.strip().rpartition("\n")[2].partition("::")[2] or process.cgroup.strip(),
        "oom_score": procfs.number(process.oom_score),
        "limits": procfs.parse_limits(process.limits),
        "fds": [{"fd": fd, "target": target} for fd, target in files.items()],
        "environment": procfs.parse_environment(process.environ),
        "cmdline": [part.decode(errors="replace") for part in process.cmdline.split(b"\0")[:-1]],
    }


def _sentence(*parts: str) -> str:
    return "; ".join(part for part in parts if part) + "."
