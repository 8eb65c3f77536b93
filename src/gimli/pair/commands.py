"""How is a command of the operator's started?

With nothing of the daemon's: no signal blocked or ignored, no descriptor but the three, none of the variables
by which a program finds its monitor; in a session of its own. Nobody waits for it here; it has a pidfd.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any

_OURS = frozenset({"GIMLI_HB_FD", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})


@dataclass(frozen=True, slots=True)
class Command:
    """One that was started, and has not been waited for."""

    pid: int
    pidfd: int

    def end(self) -> int:
        """Wait for its end, which ``pidfd`` tells; the exit status, or minus the signal that ended it."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        return os.waitstatus_to_exitcode(status)

    def kill(self) -> None:
        """End it now, and what it has started."""
        os.killpg(self.pid, signal.SIGKILL)


def start(words: tuple[str, ...], output: int | None = None) -> Command:
    """Start a command.

    Args:
        words: the program and its arguments.
        output: a descriptor for what it says; None: its standard error is ours.

    Raises:
        OSError: it cannot be run.
    """
    wiring: list[tuple[Any, ...]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    ]
    if output is not None:
        wiring += [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    wiring += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inherited()]
    pid = os.posix_spawnp(
        words[0],
        words,
        {name: value for name, value in os.environ.items() if name not in _OURS},
        file_actions=wiring,
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores these two
    )
    return Command(pid, os.pidfd_open(pid))


def _inherited() -> list[int]:
    """Descriptors that this process was given, and would hand on."""
    fds = (int(name) for name in os.listdir("/proc/self/fd"))
    return [fd for fd in fds if fd > 2 and _is_inheritable(fd)]


def _is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False  # of the listing itself
