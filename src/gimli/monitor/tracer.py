"""Who traces a process: a debugger, a capture helper of ours, or nobody?

``TracerPid`` is of a thread, not of a process: gdb and strace attach to all of them, others to one.
"""

from __future__ import annotations

import os

from gimli import process
from gimli.value import value

_THREADS_MAX = 512
_HELPER = "/gimli/capture/__main__.py"
_OUTSIDE = -1
"""A thread is in a tracing stop and no tracer is to be seen: it is outside of our PID namespace."""


@value
class Tracer:
    """Whoever is attached."""

    pid: int
    """0: outside of our PID namespace."""
    comm: str
    uid: int | None
    user: str
    is_helper: bool
    """It is a capture helper of gimli's, also one whose monitor has been killed."""


def find_tracer(pid: int, *, first_tid: int = 0, main_only: bool = False) -> Tracer | None:
    """Who is attached to a process, or to any of its threads.

    Args:
        pid: the process.
        first_tid: the thread to ask first; the others are asked only if nobody traces it.
        main_only: ask for one thread, which is enough for gdb and strace.
    """
    for tid in dict.fromkeys([first_tid or pid, pid, *([] if main_only else _threads(pid))]):
        if tracer_pid := parse_tracer(_read(f"/proc/{pid}/task/{tid}/status")):
            return _describe(tracer_pid)
    return None


def parse_tracer(status: bytes) -> int:
    """The tracer's pid in a ``/proc/PID/status``; 0 without one, -1 if it is not to be seen from here."""
    is_traced = False
    for line in status.splitlines():
        name, _, rest = line.partition(b":")
        words = rest.split()
        if name == b"State" and words:
            is_traced = words[0] == b"t"
        elif name == b"TracerPid" and words and words[0].isdigit():
            return int(words[0]) or (_OUTSIDE if is_traced else 0)
    return 0


def user_name(uid: int, passwd: bytes) -> str:
    """A user's name by ``/etc/passwd``. The C library would ask a directory server, and wait for it."""
    for line in passwd.splitlines():
        fields = line.split(b":")
        if len(fields) > 2 and fields[2] == str(uid).encode():
            return fields[0].decode(errors="replace")
    return ""


def is_helper_command(arguments: list[str]) -> bool:
    """Whether a command line is that of a capture helper: an interpreter, options, our file and no more."""
    *options, file = arguments[1:] or [""]
    return file.endswith(_HELPER) and all(option.startswith("-") for option in options)


def _describe(pid: int) -> Tracer:
    if pid == _OUTSIDE:
        return Tracer(0, "", None, "", is_helper=False)
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        uid = None
    user = user_name(uid, _read("/etc/passwd")) if uid is not None else ""
    is_helper = is_helper_command(process.command_line(pid))
    return Tracer(pid, process.command_name(pid), uid, user, is_helper)


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")[:_THREADS_MAX]]
    except OSError:
        return []


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""
