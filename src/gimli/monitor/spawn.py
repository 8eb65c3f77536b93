"""How does a program start?

fork, a session of its own, its page and its output in place, exec: by ``libgimli/spawn.c``, since every line
of Python between fork and exec costs page faults (docs/decisions/0004-spawn-in-c.md). Whether exec has
succeeded comes back through a pipe that exec itself closes: the monitor learns it as an event, and waits for
nothing.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal

from gimli import heartbeat
from gimli.errors import GimliError
from gimli.monitor import attributes
from gimli.monitor.spawned import Spawned
from gimli.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.monitor.config import Service

_LIBRARY = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_lib", "libgimli_monitor.so"
)


_OWN_PID_ROOM = 12
"""Bytes of a pid and the end of the text: GIMLI_SPAWN_PID_ROOM of libgimli/spawn.c."""
_THE_MONITORS_OWN = frozenset(
    {
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "LISTEN_PID",
        "LISTEN_PIDFDID",
        "FDSTORE",
    }
)


@value
class Given:
    """What a program is given for its other signs of life (``monitor.signs``)."""

    environment: tuple[tuple[str, str], ...] = ()
    own_pid: tuple[str, ...] = ()
    """Variables that are to hold the program's own pid, which is known after the fork only."""
    placed: tuple[tuple[int, int], ...] = ()
    """Descriptors of ours, and the numbers under which the program finds them."""


@value
class Surroundings:
    """What the monitor gives a program besides its command."""

    page_fd: int
    """-1: it is not watched by a heartbeat page, and told of none."""
    output_path: str | None
    """The FIFO its output goes to; None inherits the monitor's own."""
    bell_path: str
    library: str | None
    descriptors: tuple[int, int]
    """The limit of open files that the monitor itself was started with: it has raised its own."""
    given: Given = Given()


@value
class Place:
    """How an instance is found again, by a monitor that has not started it."""

    record_fd: int
    """Its run record, locked; the child writes it."""
    cgroup_fd: int
    """The control group it is born into; -1: the monitor's own."""
    boot_id: str


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
    # What a service manager told the monitor is not meant for its programs.
    made = {name: text for name, text in base.items() if name not in _THE_MONITORS_OWN}
    made |= dict(of_user) | dict(service.environment) | dict(around.given.environment)
    if around.page_fd >= 0:
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
        ("placed_from", ctypes.POINTER(ctypes.c_int)),
        ("placed_at", ctypes.POINTER(ctypes.c_int)),
        ("placed_count", ctypes.c_size_t),
        ("own_pid", ctypes.POINTER(ctypes.c_char_p)),
    )


class Spawner:
    """Starts programs."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._gimli_spawn = library.gimli_spawn

    def spawn(self, service: Service, around: Surroundings, place: Place | None = None) -> Spawned:
        """Fork, and let the child exec.

        Args:
            service: what to run.
            around: what it is given.
            place: where it is found again; None for a command that nobody needs to find.

        Raises:
            OSError: no process could be made (EAGAIN, ENOMEM), or no descriptor.
        """
        exec_fd, status_fd = os.pipe2(os.O_CLOEXEC)
        raised = _Raised(max((target for _, target in around.given.placed), default=0))
        try:
            status_fd = raised.take(status_fd)
            around = replace(
                around,
                page_fd=raised.copy(around.page_fd),
                given=replace(
                    around.given,
                    placed=tuple((raised.copy(fd), target) for fd, target in around.given.placed),
                ),
            )
            told = _told(service, around, status_fd)
            if place is not None:
                told.record_fd, told.cgroup_fd = place.record_fd, place.cgroup_fd
                told.boot_id = place.boot_id.encode()
            pid = self._fork(told)
            return Spawned(pid, _watchable(pid), exec_fd, grouped=told.cgroup_fd >= 0)
        except OSError:
            os.close(exec_fd)
            raise
        finally:
            raised.close()
            os.close(status_fd)

    def _fork(self, told: _Told) -> int:
        pid: int = self._gimli_spawn(ctypes.byref(told))
        if pid < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return pid


def _told(service: Service, around: Surroundings, status_fd: int) -> _Told:
    """The orders of one spawn."""
    made = environment(service, around, dict(os.environ), os.getpid())
    own_pid = tuple(_own_pid(name) for name in around.given.own_pid)
    others = (f"{name}={text}" for name, text in made.items() if name not in around.given.own_pid)
    placed = around.given.placed
    return _Told(
        program=os.fsencode(service.command[0]),
        argv=_strings((service.arg0 or service.command[0], *service.command[1:])),
        envp=_pointers((*map(os.fsencode, others), *own_pid)),
        cwd=_encoded(service.cwd),
        input=None if service.inherit_stdin else os.devnull.encode(),
        output=_encoded(around.output_path),
        page_fd=around.page_fd,
        status_fd=status_fd,
        record_fd=-1,
        cgroup_fd=-1,
        descriptors_soft=attributes.rlim_t(around.descriptors[0]),
        descriptors_hard=attributes.rlim_t(around.descriptors[1]),
        has_session=service.has_session,
        attributes=ctypes.pointer(attributes.pack(service)),
        placed_from=(ctypes.c_int * len(placed))(*(fd for fd, _ in placed)),
        placed_at=(ctypes.c_int * len(placed))(*(target for _, target in placed)),
        placed_count=len(placed),
        own_pid=_pointers(own_pid),
    )


def _own_pid(name: str) -> bytes:
    """``NAME=`` with room behind it. A new text, not a shared one: the child writes into its copy."""
    return bytes(bytearray(f"{name}=".encode().ljust(len(name) + 1 + _OWN_PID_ROOM, b"\0")))


class _Raised:
    """Descriptors out of the way: a number that is given to the program must not be one we still need."""

    def __init__(self, above: int) -> None:
        self._above = above
        self._copies: list[int] = []

    def copy(self, fd: int) -> int:
        """``fd``, or a copy of it above all numbers that are given away."""
        if fd < 0 or fd > self._above:
            return fd
        self._copies.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, self._above + 1))
        return self._copies[-1]

    def take(self, fd: int) -> int:
        """The same; ``fd`` itself is closed when there is a copy."""
        if fd > self._above:
            return fd
        try:
            return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, self._above + 1)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the copies."""
        for fd in self._copies:
            os.close(fd)


def _strings(texts: tuple[str, ...]) -> ctypes.Array[ctypes.c_char_p]:
    """A NULL-terminated array, as exec takes it."""
    return _pointers(tuple(map(os.fsencode, texts)))


def _pointers(texts: tuple[bytes, ...]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(texts) + 1))(*texts, None)


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
