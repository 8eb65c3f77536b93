"""What does the machine order? Frozen, without behaviour; ``monitor.service`` has them carried out."""

from __future__ import annotations

from enum import Enum

from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.heartbeat import Crash
    from gimli.monitor.events import HeartbeatLate


class Timer(Enum):
    """A deadline of a service. There is one of each; arming it again moves it."""

    RESTART = "restart"
    STOP = "stop"
    HEALTHY = "healthy"


@value
class Spawn:
    """Start the program."""


@value
class Signal:
    """Send a signal to the program, or to its whole process group."""

    signo: int
    because: str
    group: bool = False


@value
class Capture:
    """Take a snapshot. Its end comes back as one of the ``Released`` events."""

    reason: str
    """crash, hang or request, as in the report."""
    crash: Crash | None = None
    hang: HeartbeatLate | None = None


@value
class CaptureWorker:
    """Take a snapshot of a descendant that crashed; the service itself goes on."""

    crash: Crash


@value
class RecordDeath:
    """Make a report without a core: it died before anybody could take a snapshot, and not by our order."""

    pid: int
    signo: int


@value
class LetGo:
    """No snapshot: whichever crash handler waits, now or later in this run, must not."""


@value
class Arm:
    """Set a deadline from now."""

    timer: Timer
    delay_s: float


@value
class Disarm:
    """Forget a deadline."""

    timer: Timer


@value
class Tell:
    """Write an event to the journal."""

    event: str
    details: tuple[tuple[str, object], ...] = ()


Action = Spawn | Signal | Capture | CaptureWorker | RecordDeath | LetGo | Arm | Disarm | Tell
