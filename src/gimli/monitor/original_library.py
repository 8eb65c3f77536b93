"""Does a program that has stopped itself ask for its snapshot, as the original's library does?

That library handles five faults. Its handler gives the one that has come back to the kernel, sends USR2 to
its parent, and STOP to itself. A program of another user may not send the monitor a signal, so its USR2 never
comes; but what it has done before can be read: the kernel blocks a signal while its handler runs, and of the
five this one alone is no longer handled. A thread that blocks every signal, as many do, looks different.
"""

from __future__ import annotations

import os

from gimli.process import Signals


def _bit(signo: int) -> int:
    """A signal's place in the kernel's masks."""
    return 1 << (signo - 1)


_HANDLED = (Signals.SIGSEGV, Signals.SIGABRT, Signals.SIGBUS, Signals.SIGILL, Signals.SIGFPE)
_ALL_BITS = sum(map(_bit, _HANDLED))


def is_in_fault_handler(pid: int) -> bool:
    """Whether a thread of a process is in the library's handler of a fault."""
    try:
        return any(tells_fault(_status(pid, tid)) for tid in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return False  # it has gone


def tells_fault(status: bytes) -> bool:
    """Whether a thread, by its /proc status, is in that handler.

    Source: proc(5), SigBlk (of the thread) and SigCgt (of the process).
    """
    handled, blocked = _mask(status, b"SigCgt"), _mask(status, b"SigBlk")
    given_back = _ALL_BITS & ~handled
    return given_back in map(_bit, _HANDLED) and bool(given_back & blocked)


def _mask(status: bytes, name: bytes) -> int:
    _, _, rest = status.partition(b"\n" + name + b":")
    try:
        return int(rest.split(None, 1)[0], 16)
    except (IndexError, ValueError):
        return 0


def _status(pid: int, tid: str) -> bytes:
    with open(f"/proc/{pid}/task/{tid}/status", "rb", buffering=0) as file:
        return file.read()
