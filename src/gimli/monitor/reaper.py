"""Who buries the children that nobody waits for?

Orphans of the services are given to the monitor, which is their subreaper (or the init of a container,
where every orphan is). Those that somebody waits for by a pidfd are left alone.
"""

from __future__ import annotations

import ctypes
import os

_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Orphans below this process become its children, instead of init's. Survives execve; since Linux 3.4."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_strangers(expected: set[int]) -> bool:
    """Reap every ended child but those that are expected.

    Returns:
        Whether one that is expected stands in the way of others: to be asked again when it has been
        collected.
    """
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        if ended is None:
            return False
        if ended.si_pid in expected:
            return True
        os.waitid(os.P_PID, ended.si_pid, os.WEXITED | os.WNOHANG)
