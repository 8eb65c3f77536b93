"""Which frame of a stack is the program's own, and what is its thread doing?

Pure. A stack begins in the C library and ends in start-up code; what explains anything is the first call
in between that the program's author wrote.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from gimli.analysis.merge import is_interpreter

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
_LIBRARY_SOURCE = re.compile(r"/include/c\+\+/|^library/(std|core|alloc|panic_\w+)/")
"""Functions of a language's own library, compiled into the program."""
_LIBRARY_FUNCTION = re.compile(r"^<?(std|core|alloc)::|^_R\w*(3std|4core|5alloc|_rustc)|^__rust|^rust_")
_NAME_CHARS_MAX = 80
_STANDARD_LIBRARY = re.compile(r"/lib(?:64)?/python3(?:\.\d+)?/(?!(?:site|dist)-packages/)|^<frozen ")


def is_own(frame: Frame) -> bool:
    """The call is of the program or a library of its choice, not of the C library or an interpreter."""
    if frame.language == "marker" or frame.interpreter:
        return False
    if frame.language == "python":
        return not _STANDARD_LIBRARY.search(frame.file or "")
    if _STARTUP.match(frame.function) or _is_address(frame):
        return False
    if _LIBRARY_SOURCE.search(frame.file or "") or _LIBRARY_FUNCTION.match(frame.function):
        return False
    if is_interpreter(frame.module):
        return False
    return not _SYSTEM_MODULE.match(frame.module or "")


def is_system(path: str | None) -> bool:
    """The file is the C library or another that every program has."""
    return path is not None and _SYSTEM_MODULE.match(os.path.basename(path)) is not None


def with_waits_of_interpreter(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """The stack, with the C library's innermost calls flagged as the interpreter's if that called them.

    They are how it waits for a lock or sleeps; who reads a Python stack begins at the line that waits.
    """
    inside = next((at for at, frame in enumerate(frames) if not is_system(frame.module)), 0)
    is_wait = frames[inside : inside + 1] and frames[inside].interpreter
    if not is_wait or not any(frame.language == "python" for frame in frames):
        return frames
    return (*(replace(frame, interpreter=True) for frame in frames[:inside]), *frames[inside:])


def own_frame(frames: Sequence[Frame]) -> Frame | None:
    """The innermost call of the program's own; when there is none, the innermost that has a name."""
    named = [frame for frame in frames if frame.language != "marker" and not _is_address(frame)]
    return next((frame for frame in named if is_own(frame)), named[0] if named else None)


def own_functions(frames: Sequence[Frame], count: int = 5) -> tuple[str, ...]:
    """Names of the innermost calls of the program's own, for a signature; a call repeated counts once."""
    names: list[str] = []
    for frame in frames:
        if is_own(frame) and (not names or names[-1] != frame.function):
            names.append(frame.function)
    if not names:
        names = [frame.function for frame in frames if not _is_address(frame)]
    return tuple(names[:count])


def _is_address(frame: Frame) -> bool:
    """Nothing but the address of the call is known."""
    return frame.function.startswith(("0x", "???"))


def line_of(frame: Frame) -> str:
    """``orders.py:88``, or the module when there is no line."""
    if frame.file and frame.line:
        return f"{os.path.basename(frame.file)}:{frame.line}"
    if "+0x" in frame.function:
        return frame.function
    return frame.module or "an unknown place"


def place_of(frame: Frame) -> str:
    """``commit() at orders.py:88``, or ``commit() of libpq.so.5``."""
    if "+0x" in frame.function:
        return frame.function  # A place in a file without symbols says its module itself.
    # A demangled name has its parameters, and may be a page long.
    name = frame.function if "(" in frame.function or frame.function.endswith(">") else f"{frame.function}()"
    if len(name) > _NAME_CHARS_MAX:
        name = f"{name[: _NAME_CHARS_MAX - 1]}…"
    return f"{name} at {line_of(frame)}" if frame.file and frame.line else f"{name} of {line_of(frame)}"


_LOCK, _CONDITION, _QUEUE = "waiting for a lock", "waiting for a condition", "waiting for a queue"
_THREAD, _PROCESS = "waiting for a thread to end", "waiting for a process to end"
_EVENTS, _RESULT, _SIGNAL = "waiting for events", "waiting for a result", "waiting for a signal"
_CONNECTION, _SLEEP, _FILE_LOCK = "waiting for a connection", "sleeping", "waiting for a file lock"
_READ, _WRITE, _DISK = "reading", "writing", "writing to the disk"

# What the innermost calls say of a thread; the first match wins.
_PYTHON_WAITS = (
    (re.compile(r"/threading\.py$"), re.compile(r"_wait_for_tstate_lock$|(^|\.)join$"), _THREAD),
    (re.compile(r"/queue\.py$"), re.compile(r"(^|\.)(get|put|join)$"), _QUEUE),
    (re.compile(r"/concurrent/futures/"), re.compile(r"result$|wait$|exception$"), _RESULT),
    (re.compile(r"/threading\.py$"), re.compile(r"(^|\.)wait(_for)?$"), _CONDITION),
    (re.compile(r"/selectors\.py$|/asyncio/"), re.compile(r"select$"), _EVENTS),
)
_NATIVE_WAITS = (
    (re.compile(r"^take_gil"), "waiting for the GIL"),
    (re.compile(r"pthread_(mutex|rwlock|spin)_\w*lock|lll_lock_wait"), _LOCK),
    (re.compile(r"pthread_cond_\w*wait"), _CONDITION),
    (re.compile(r"pthread_\w*join|clockjoin|thread_get_wait_join"), _THREAD),
    (re.compile(r"pthread_barrier_wait"), "waiting at a barrier"),
    (re.compile(r"acquire_lock|lock_acquire|PyMutex_Lock"), _LOCK),
    (re.compile(r"sem_\w*wait"), "waiting for a semaphore"),
    (re.compile(r"nanosleep|^_*u?sleep$"), _SLEEP),
    (re.compile(r"^_*(epoll_\w*wait|poll|ppoll|select|pselect)\d*$"), _EVENTS),
    (re.compile(r"^_*accept4?$"), _CONNECTION),
    (re.compile(r"^_*(wait[34]?|waitpid|waitid)$"), _PROCESS),
    (re.compile(r"^_*connect$"), "connecting"),
    (re.compile(r"^_*(libc_)?(read|pread\w*|readv|recv\w*|getline|fgets)$"), _READ),
    (re.compile(r"^_*(libc_)?(write|pwrite\w*|writev|send\w*)$"), _WRITE),
    (re.compile(r"sigwait|sigtimedwait|^_*(pause|sigsuspend)$"), _SIGNAL),
)
_SYSCALLS = {
    **dict.fromkeys(("read", "readv", "pread64", "recvfrom", "recvmsg"), _READ),
    **dict.fromkeys(("write", "writev", "pwrite64", "sendto", "sendmsg"), _WRITE),
    **dict.fromkeys(
        ("poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait", "epoll_pwait2"), _EVENTS
    ),
    **dict.fromkeys(("accept", "accept4"), _CONNECTION),
    **dict.fromkeys(("nanosleep", "clock_nanosleep"), _SLEEP),
    **dict.fromkeys(("wait4", "waitid"), _PROCESS),
    **dict.fromkeys(("rt_sigtimedwait", "rt_sigsuspend", "pause"), _SIGNAL),
    **dict.fromkeys(("flock", "fcntl"), _FILE_LOCK),
    **dict.fromkeys(("fsync", "fdatasync", "sync_file_range"), _DISK),
    "connect": "connecting",
    "futex": "waiting for a lock or a condition",
}
_WITH_FILE = {_READ: "reading from", _WRITE: "writing to"}


def doing(frames: Sequence[Frame], kernel: KernelThread | None) -> str:
    """What a thread is doing, in words; empty when nothing tells."""
    syscall = kernel.syscall if kernel else None
    if kernel and kernel.state == "R" and syscall is None:
        return "running"
    words = _python_wait(frames) or _native_wait(frames)
    if not words and syscall:
        words = _SYSCALLS.get(syscall.name, f"in {syscall.name}")
    if syscall and syscall.file and (verb := _WITH_FILE.get(_SYSCALLS.get(syscall.name, ""))):
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
