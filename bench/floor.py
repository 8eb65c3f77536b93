"""The least a supervisor in Python can be: start COMMAND N times, and again whenever one ends.

    python -I -S bench/floor.py N COMMAND [ARG...]

pidfd and epoll, fork and exec, no file, no log, no heartbeat, no policy. What gimli costs is what it takes
more than this.
"""

import os
import resource
import select
import sys


def main(count: int, command: list[str]) -> None:
    """Hold the programs for ever."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    epoll = select.epoll()
    for _ in range(count):
        epoll.register(start(command), select.EPOLLIN)
    while True:
        for pidfd, _ in epoll.poll():
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
            epoll.unregister(pidfd)
            os.close(pidfd)
            epoll.register(start(command), select.EPOLLIN)


def start(command: list[str]) -> int:
    """The pidfd of a new process in a session of its own."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.execv(command[0], command)
        finally:
            os._exit(127)
    return os.pidfd_open(pid)


main(int(sys.argv[1]), sys.argv[2:])
