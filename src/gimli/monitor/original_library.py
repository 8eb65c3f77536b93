"""Does a program that has stopped itself ask for its snapshot, as the original's library does?

That library sends USR2 to its parent and then STOP to itself, from within its handler of the fault. A program
of another user may not send the monitor a signal, so its USR2 never comes; but the kernel blocks a signal
while its handler runs, and a thread that has SEGV blocked, in a process that has just stopped, is in that
handler.
"""

from __future__ import annotations

import os

from gimli.process import CRASH_SIGNALS

_FAULTS = sum(1 << (signo - 1) for signo in CRASH_SIGNALS)


def is_in_fault_handler(pid: int) -> bool:
    """Whether a thread of a stopped process handles a fault."""
    try:
        return any(_blocked(pid, tid) & _FAULTS for tid in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return False  # it has gone


def _blocked(pid: int, tid: str) -> int:
    """The signals that a thread has blocked, as the kernel's mask (SigBlk of proc(5))."""
    with open(f"/proc/{pid}/task/{tid}/status", "rb", buffering=0) as file:
        _, _, rest = file.read().partition(b"\nSigBlk:")
    return int(rest.split(None, 1)[0], 16)
