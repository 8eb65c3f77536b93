"""How does a program start?

fork, a session of its own, its page and its output in place, exec. Whether exec has succeeded comes back
through a pipe that exec itself closes, so the monitor learns it as an event and waits for nothing.
"""

from __future__ import annotations

import os
import resource
import signal

from gimli import heartbeat
from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from gimli.monitor.config import Service

_EXEC_FAILED = 127


@value
class Spawned:
    """A process between fork and exec."""

    pid: int
    pidfd: int
    exec_fd: int
    """Readable when exec is decided: end of file is success, else the error as text."""


@value
class Surroundings:
    """What the monitor gives a program besides its command."""

    page_fd: int
    output_path: str | None
    """The FIFO its output goes to; None inherits the monitor's own."""
    bell_path: str
    library: str | None
    descriptors: tuple[int, int]
    """The limit of open files that the monitor itself was started with: it has raised its own."""


def raise_descriptor_limit() -> tuple[int, int]:
    """Let this process open as many files as it may: a monitor needs three per service.

    Returns:
        The limit as it was, soft and hard, for the programs.
    """
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    return before


def environment(
    service: Service, around: Surroundings, base: dict[str, str], monitor_pid: int
) -> dict[str, str]:
    """The program's environment: the monitor's own, the service's additions, and the ABI's names."""
    made = base | dict(service.environment)
    made |= {
        heartbeat.ENV_PAGE_FD: str(around.page_fd),
        heartbeat.ENV_MONITOR_PID: str(monitor_pid),
        heartbeat.ENV_BELL: around.bell_path,
        heartbeat.ENV_SERVICE: service.name,
    }
    if around.library and service.preload:
        # The loader splits at colons and spaces; the command line refuses an install path that has one.
        made["LD_PRELOAD"] = ":".join(filter(None, (around.library, made.get("LD_PRELOAD"))))
    return made


def spawn(service: Service, around: Surroundings) -> Spawned:
    """Fork and let the child exec.

    Raises:
        OSError: no process could be made (EAGAIN, ENOMEM), or no descriptor.
    """
    told = environment(service, around, dict(os.environ), os.getpid())
    exec_fd, exec_status_fd = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
        if pid == 0:
            _become(service, around, told, exec_status_fd)
        return Spawned(pid, _watchable(pid), exec_fd)
    except OSError:
        os.close(exec_fd)
        raise
    finally:
        os.close(exec_status_fd)


def _watchable(pid: int) -> int:
    """A pidfd. A child that cannot be watched must not live: it would be a second copy later.

    Raises:
        OSError: there are no descriptors left; the child is gone.
    """
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _become(service: Service, around: Surroundings, told: dict[str, str], exec_status_fd: int) -> NoReturn:
    """In the child: never returns, and never runs the monitor's code by unwinding into it."""
    step = "setsid"
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_NOFILE, around.descriptors)
        _reset_signals()
        step = "output"
        if not service.inherit_stdin:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if around.output_path is not None:
            # Read and write: the service holds its own pipe open, so it outlives a monitor without SIGPIPE.
            output_fd = os.open(around.output_path, os.O_RDWR)
            os.dup2(output_fd, 1)
            os.dup2(output_fd, 2)
        os.set_inheritable(around.page_fd, True)
        step = f"cwd {service.cwd}"
        if service.cwd is not None:
            os.chdir(service.cwd)
        step = f"exec {service.command[0]}"
        os.execvpe(service.command[0], service.command, told)
    except OSError as error:
        os.write(exec_status_fd, f"{step}: {error.strerror or error}".encode())
    finally:
        os._exit(_EXEC_FAILED)


def _reset_signals() -> None:
    """As a program expects to find them: Python ignores two, and the monitor blocks most."""
    for signo in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(signo, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
