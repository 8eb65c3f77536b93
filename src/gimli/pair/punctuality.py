"""How is the daemon on time on a host that is busy?

An advertisement that is late by a lease costs the mastership, and in the fast mode a lease is some tens of
milliseconds. A process of the usual kind waits longer than that for a processor when many want one (with 24
busy loops on two cores up to 660 ms; a real-time process 1 ms), and for a page that was swapped out. So the
daemon is a real-time process of the lowest rank, and stays in memory. What it starts is neither.
"""

from __future__ import annotations

import ctypes
import os

_PRIORITY = 1
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4


def run_first() -> str:
    """Let this thread run before all that is not real-time.

    A thread that holds the interpreter's lock makes the others wait: all threads of the daemon call this.

    Returns:
        Why the kernel does not let it; empty when it does.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(_PRIORITY))
    except OSError as error:
        return f"no real-time scheduling: {error.strerror}"
    return ""


def stay_in_memory() -> str:
    """Let nothing of this process be swapped out.

    Returns:
        Why the kernel does not let it; empty when it does.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        return f"no locking of memory: {os.strerror(ctypes.get_errno())}"
    return ""
