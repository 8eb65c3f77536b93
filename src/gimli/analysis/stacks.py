"""Which frame of a stack is the program's own, and what is its thread doing?

Pure. A stack begins in the C library and ends in start-up code; what explains anything is the first call
in between that the program's author wrote.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gimli.analysis.evidence import KernelThread
    from gimli.report import Frame

_SYSTEM_MODULE = re.compile(
    r"^(libc|ld|libpthread|libm|libgcc_s|libstdc\+\+|libc\+\+|libgimli|linux-vdso|ld-linux[\w-]*|libdl|librt)"
    r"([-.]|$)"
)
_STARTUP = re.compile(
    r"^(_start|__libc_start_\w+|__clone3?|clone3?|start_thread|_*std::rt::.*|_ZN3std2rt.*)$"
)
_STANDARD_LIBRARY = re.compile(r"/lib(?:64)?/python3(?:\.\d+)?/(?!(?:site|dist)-packages/)|^<frozen ")


def is_own(frame: Frame) -> bool:
    """The call is of the program or a library of its choice, not of the C library or an interpreter."""
    if frame.language == "marker" or frame.interpreter:
        return False
    if frame.language == "python":
        return not _STANDARD_LIBRARY.search(frame.file or "")
    if _STARTUP.match(frame.function) or frame.function.startswith(("0x", "???")):
        return False
    return not _SYSTEM_MODULE.match(frame.module or "")


def own_frame(frames: Sequence[Frame]) -> Frame | None:
    """The innermost call of the program's own; the innermost of all when there is none."""
    real = [frame for frame in frames if frame.language != "marker"]
    return next((frame for frame in real if is_own(frame)), real[0] if real else None)


def own_functions(frames: Sequence[Frame], count: int = 5) -> tuple[str, ...]:
    """Names of the innermost calls of the program's own, for a signature: each once, without its neighbour."""
    names: list[str] = []
    for frame in frames:
        if is_own(frame) and (not names or names[-1] != frame.function):
            names.append(frame.function)
    if not names:
        names = [frame.function for frame in frames if not frame.function.startswith("0x")]
    return tuple(names[:count])


def line_of(frame: Frame) -> str:
    """``orders.py:88``, or the module when there is no line."""
    if frame.file and frame.line:
        return f"{os.path.basename(frame.file)}:{frame.line}"
    return frame.module or "an unknown place"


def place_of(frame: Frame) -> str:
    """``commit() at orders.py:88``, or ``commit() of libpq.so.5``."""
    name = f"{frame.function}()" if not frame.function.endswith((")", ">")) else frame.function
    return f"{name} at {line_of(frame)}" if frame.file and frame.line else f"{name} of {line_of(frame)}"


# What the innermost calls say of a thread, the first match wins: (where, which names, words).
_PYTHON_WAITS = (
    (re.compile(r"/threading\.py$"), re.compile(r"_wait_for_tstate_lock$|^join$|Thread\.join$"), "waiting for a thread to end"),
    (re.compile(r"/queue\.py$"), re.compile(r"(^|\.)(get|put|join)$"), "waiting for a queue"),
    (re.compile(r"/concurrent/futures/"), re.compile(r"result$|wait$|^exception$"), "waiting for a result"),
    (re.compile(r"/threading\.py$"), re.compile(r"(^|\.)wait(_for)?$"), "waiting for a condition"),
    (re.compile(r"/selectors\.py$|/asyncio/"), re.compile(r"select$"), "waiting for events"),
)  # fmt: skip
_NATIVE_WAITS = (
    (re.compile(r"^take_gil"), "waiting for the GIL"),
    (re.compile(r"pthread_(mutex|rwlock|spin)_\w*lock|lll_lock_wait"), "waiting for a lock"),
    (re.compile(r"pthread_cond_\w*wait"), "waiting for a condition"),
    (re.compile(r"pthread_\w*join|clockjoin|thread_get_wait_join"), "waiting for a thread to end"),
    (re.compile(r"pthread_barrier_wait"), "waiting at a barrier"),
    (re.compile(r"acquire_lock|lock_acquire|PyMutex_Lock|rlock_acquire"), "waiting for a lock"),
    (re.compile(r"sem_(\w*wait)|new_sem_wait"), "waiting for a semaphore"),
    (re.compile(r"nanosleep|^_*(u?sleep)$"), "sleeping"),
    (re.compile(r"^_*(epoll_\w*wait|poll|ppoll|select|pselect)\d*$"), "waiting for events"),
    (re.compile(r"^_*(accept4?)$"), "waiting for a connection"),
    (re.compile(r"^_*(wait4|waitpid|waitid|wait3?)$"), "waiting for a process to end"),
    (re.compile(r"^_*(connect)$"), "connecting"),
    (re.compile(r"^_*(read|pread\w*|readv|recv\w*|getline|fgets)$"), "reading"),
    (re.compile(r"^_*(write|pwrite\w*|writev|send\w*)$"), "writing"),
    (re.compile(r"sigwait|sigtimedwait|^_*(pause|sigsuspend)$"), "waiting for a signal"),
)
_SYSCALLS = {
    "read": "reading", "readv": "reading", "pread64": "reading", "recvfrom": "reading", "recvmsg": "reading",
    "write": "writing", "writev": "writing", "pwrite64": "writing", "sendto": "writing", "sendmsg": "writing",
    "poll": "waiting for events", "ppoll": "waiting for events", "select": "waiting for events",
    "pselect6": "waiting for events", "epoll_wait": "waiting for events", "epoll_pwait": "waiting for events",
    "epoll_pwait2": "waiting for events", "accept": "waiting for a connection", "accept4": "waiting for a connection",
    "nanosleep": "sleeping", "clock_nanosleep": "sleeping", "wait4": "waiting for a process to end",
    "waitid": "waiting for a process to end", "connect": "connecting", "futex": "waiting for a lock or condition",
    "rt_sigtimedwait": "waiting for a signal", "pause": "waiting for a signal", "flock": "waiting for a file lock",
    "fcntl": "waiting for a file lock", "fsync": "writing to the disk", "fdatasync": "writing to the disk",
}  # fmt: skip
_FILE_WORDS = {"reading": "reading from", "writing": "writing to"}


def doing(frames: Sequence[Frame], kernel: KernelThread | None) -> str:
    """What a thread is doing, in words; empty when nothing tells."""
    syscall = kernel.syscall if kernel else None
    if kernel and kernel.state == "R" and syscall is None:
        return "running"
    words = _python_wait(frames) or _native_wait(frames)
    if not words and syscall:
        words = _SYSCALLS.get(syscall.name, f"in {syscall.name}")
    if syscall and syscall.file and (verb := _FILE_WORDS.get(_SYSCALLS.get(syscall.name, ""))):
        descriptor = f" (fd {syscall.arguments[0]})" if syscall.arguments else ""
        return f"{verb} {syscall.file}{descriptor}"
    if not words and kernel and kernel.state == "D":
        return "in the kernel, not interruptible" + (f" ({kernel.wchan})" if kernel.wchan else "")
    return words


def _python_wait(frames: Sequence[Frame]) -> str:
    """By the standard library's own functions, innermost Python calls."""
    python = [frame for frame in frames if frame.language == "python"][:4]
    if not python or is_own(python[0]):
        return ""
    library = [frame for frame in python if not is_own(frame)]
    for file, function, words in _PYTHON_WAITS:
        if any(file.search(frame.file or "") and function.search(frame.function) for frame in library):
            return words
    return ""


def _native_wait(frames: Sequence[Frame]) -> str:
    innermost = []
    for frame in frames[:12]:
        if frame.language == "python":
            break
        innermost.append(frame.function.split("@")[0])
        if is_own(frame):
            break
    for name, words in _NATIVE_WAITS:
        if any(name.search(each) for each in innermost):
            return words
    return ""
