"""How does a program start?

fork, a session of its own, its page and its output in place, exec: by ``libgimli/spawn.c``, since every line
of Python between fork and exec costs page faults (docs/decisions/0004-spawn-in-c.md). Whether exec has
succeeded comes back through a pipe that exec itself closes: the monitor learns it as an event, and waits for
nothing.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal

from gimli import heartbeat
from gimli.errors import GimliError
from gimli.monitor import attributes
from gimli.monitor.spawned import Spawned
from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.monitor.config import Service

_LIBRARY = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_lib", "libgimli_monitor.so"
)


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
    """The program's environment: the monitor's own, its user's, its service's, and the ABI's names."""
    of_user = service.identity.environment if service.identity else ()
    made = base | dict(of_user) | dict(service.environment)
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


def load_spawner() -> Spawner:
    """The library that starts programs.

    Raises:
        GimliError: this installation has none.
    """
    try:
        return Spawner(ctypes.CDLL(_LIBRARY, use_errno=True))
    except OSError as error:
        raise GimliError(
            "cannot load the library that starts programs",
            why=str(error),
            fix="install the wheel again (pip install gimli-monitor), or in a checkout: make lib",
        ) from error


class _Told(ctypes.Structure):
    """``struct gimli_spawn`` of libgimli/spawn.c."""

    _fields_ = (
        ("program", ctypes.c_char_p),
        ("argv", ctypes.POINTER(ctypes.c_char_p)),
        ("envp", ctypes.POINTER(ctypes.c_char_p)),
        ("cwd", ctypes.c_char_p),
        ("input", ctypes.c_char_p),
        ("output", ctypes.c_char_p),
        ("page_fd", ctypes.c_int),
        ("status_fd", ctypes.c_int),
        ("record_fd", ctypes.c_int),
        ("cgroup_fd", ctypes.c_int),
        ("boot_id", ctypes.c_char_p),
        ("descriptors_soft", ctypes.c_ulong),
        ("descriptors_hard", ctypes.c_ulong),
        ("has_session", ctypes.c_int),
        ("attributes", ctypes.POINTER(attributes.Attributes)),
    )


class Spawner:
    """Starts programs."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._gimli_spawn = library.gimli_spawn

    def spawn(
        self, service: Service, around: Surroundings, *, record_fd: int, cgroup_fd: int, boot_id: str
    ) -> Spawned:
        """Fork, and let the child write its run record and exec.

        Raises:
            OSError: no process could be made (EAGAIN, ENOMEM), or no descriptor.
        """
        made = environment(service, around, dict(os.environ), os.getpid())
        exec_fd, status_fd = os.pipe2(os.O_CLOEXEC)
        told = _Told(
            os.fsencode(service.command[0]),
            _strings((service.arg0 or service.command[0], *service.command[1:])),
            _strings(tuple(f"{name}={text}" for name, text in made.items())),
            _encoded(service.cwd),
            None if service.inherit_stdin else os.devnull.encode(),
            _encoded(around.output_path),
            around.page_fd,
            status_fd,
            record_fd,
            cgroup_fd,
            boot_id.encode(),
            *(attributes.rlim_t(limit) for limit in around.descriptors),
            service.has_session,
            ctypes.pointer(attributes.pack(service)),
        )
        try:
            pid = self._fork(told)
            return Spawned(pid, _watchable(pid), exec_fd, grouped=told.cgroup_fd >= 0)
        except OSError:
            os.close(exec_fd)
            raise
        finally:
            os.close(status_fd)

    def _fork(self, told: _Told) -> int:
        pid: int = self._gimli_spawn(ctypes.byref(told))
        if pid < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return pid


def _strings(texts: tuple[str, ...]) -> ctypes.Array[ctypes.c_char_p]:
    """A NULL-terminated array, as exec takes it."""
    return (ctypes.c_char_p * (len(texts) + 1))(*map(os.fsencode, texts), None)


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


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
