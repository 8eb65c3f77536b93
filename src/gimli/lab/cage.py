"""Runs one command and lets nothing of it survive: for experiments with programs that do not end.

Run as ``python -I -S cage.py DIRECTORY LIMIT_BYTES COMMAND...``. Every descendant of the command, however it
forks and whatever it ignores, is killed when standard input ends: when the laboratory closes it, or is gone,
however it went. Then DIRECTORY is removed. A file that a descendant writes ends at LIMIT_BYTES.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main() -> None:
    """Start the command, wait for the end of standard input, kill, and remove."""
    directory, limit_bytes, *command = sys.argv[1:]
    os.setsid()  # a terminal's Ctrl-C is for the laboratory, which then closes our input
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # The kernel reaps what ends here: an ignored SIGCHLD makes no zombies.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit_bytes), int(limit_bytes)))
    null_fd = os.open(os.devnull, os.O_RDWR)
    pid = os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, null_fd, 0)],
        setsigdef=[signal.SIGCHLD, signal.SIGXFSZ, signal.SIGPIPE],
    )
    os.write(1, f"{pid}\n".encode())
    os.read(0, 1)
    kill_descendants()
    import shutil  # noqa: PLC0415 - not while the experiment runs

    shutil.rmtree(directory, ignore_errors=True)


def kill_descendants() -> None:
    """Kill children until there are none: those of a killed one become ours, since we are a subreaper."""
    while children := children_of(os.getpid()):
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def children_of(parent: int) -> list[int]:
    """The living children of a process: field 4 of proc(5)'s stat."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != b"Z":
            found.append(int(name))
    return found


if __name__ == "__main__":
    main()
