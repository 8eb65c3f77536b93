"""How does a program start?

A process, a session of its own, its page and its output in place, exec: by ``libgimli/spawn.c``, beside the
monitor and in its memory (docs/decisions/0004-spawn-in-c.md). Whether exec has succeeded comes back through a
pipe that exec itself closes: the monitor learns it as an event, and waits for nothing.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource

from gimli import heartbeat
from gimli.errors import GimliError
from gimli.monitor.orders import Descriptors, pack_orders
from gimli.monitor.spawned import Spawned
from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.monitor.config import Service

_LIBRARY = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_lib", "libgimli_monitor.so"
)


_STATUS_BYTES_MAX = 1000
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
"""What a service manager has told the monitor is not meant for its programs."""


@value
class Given:
    """What a program is given for its other signs of life (``monitor.signs``)."""

    environment: tuple[tuple[str, str], ...] = ()
    own_pid: tuple[str, ...] = ()
    """Variables that are to hold the program's own pid, which only the child knows."""
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


def environment(service: Service, around: Surroundings, base: dict[str, str]) -> dict[str, str]:
    """The program's environment: the monitor's own, its user's, its service's, and the ABI's names.

    Without those that hold numbers which are known when it starts: its own pid, its page's descriptor.
    """
    of_user = service.identity.environment if service.identity else ()
    made = {**base, **dict(of_user), **dict(service.environment), **dict(around.given.environment)}
    if around.page_fd >= 0:
        made.pop(heartbeat.ENV_PAGE_FD, None)
        made[heartbeat.ENV_MONITOR_PID] = str(os.getpid())
        made[heartbeat.ENV_BELL] = around.bell_path
        made[heartbeat.ENV_SERVICE] = service.name
    if around.library and service.preload:
        # The loader splits at colons and spaces; the command line refuses an install path that has one.
        made["LD_PRELOAD"] = ":".join(filter(None, (around.library, made.get("LD_PRELOAD"))))
    for name in _own_pid(around):
        made.pop(name, None)
    return made


def _own_pid(around: Surroundings) -> tuple[str, ...]:
    """Variables that the child fills in. With them the main process is told from what it forks."""
    return (*around.given.own_pid, *((heartbeat.ENV_SERVICE_PID,) if around.page_fd >= 0 else ()))


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


class Spawner:
    """Starts programs."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._gimli_spawn = library.gimli_spawn
        self._gimli_spawn.argtypes = (
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.POINTER(ctypes.c_int),
            ctypes.POINTER(ctypes.c_int),
        )
        self._reserve_berths = library.gimli_reserve_berths
        self._clear_berths = library.gimli_clear_berths
        # Once: it does not change, and encoding it anew would be a good part of each start.
        self._base = {name: text for name, text in os.environ.items() if name not in _THE_MONITORS_OWN}

    def spawn(self, service: Service, around: Surroundings, place: Place | None = None) -> Spawned:
        """Clone, and let the child exec.

        Args:
            service: what to run.
            around: what it is given.
            place: where it is found again; None for a command that nobody needs to find.

        Raises:
            OSError: no process could be made (EAGAIN, ENOMEM), or no descriptor.
        """
        exec_fd, status_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        raised = _Raised(max((target for _, target in around.given.placed), default=0))
        try:
            status_fd = raised.take(status_fd)
            descriptors = Descriptors(
                status=status_fd,
                page=raised.copy(around.page_fd),
                record=place.record_fd if place else -1,
                cgroup=place.cgroup_fd if place else -1,
                placed=tuple((raised.copy(fd), target) for fd, target in around.given.placed),
            )
            orders = pack_orders(
                service,
                descriptors,
                environment(service, around, self._base),
                own_pid=_own_pid(around),
                own_page=heartbeat.ENV_PAGE_FD if around.page_fd >= 0 else "",
                output_path=around.output_path,
                boot_id=place.boot_id if place else "",
                descriptor_limit=around.descriptors,
            )
            pid, pidfd, grouped = self._spawn(orders)
            return Spawned(pid, pidfd, exec_fd, grouped=grouped)
        except OSError:
            os.close(exec_fd)
            raise
        finally:
            raised.close()
            os.close(status_fd)

    def reserve_berths(self) -> None:
        """Let children begin in this process's own table of descriptors: before there are many in it."""
        self._reserve_berths()

    def let_go(self) -> bool:
        """Let go of what children needed to begin. Until then it is not seen whether their exec succeeds.

        Returns:
            Whether all of them have begun.
        """
        return bool(self._clear_berths() == 0)

    def _spawn(self, orders: bytes) -> tuple[int, int, bool]:
        pidfd, is_grouped = ctypes.c_int(), ctypes.c_int()
        pid: int = self._gimli_spawn(orders, len(orders), ctypes.byref(pidfd), ctypes.byref(is_grouped))
        if pid < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return pid, pidfd.value, bool(is_grouped.value)


def exec_failure(exec_fd: int) -> str:
    """Why the child could not become its program, in words; empty when it could, or has not said so yet."""
    try:
        number, _, what = os.read(exec_fd, _STATUS_BYTES_MAX).partition(b" ")
    except BlockingIOError:
        return ""
    return f"{os.fsdecode(what)}: {os.strerror(int(number))}" if what else ""


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
