"""What can happen to a service? Facts that have happened, frozen and without behaviour.

Where the next state depends on data, the fact has a name per outcome (``EndedToRestart``,
``RestartsExhausted``), picked by a pure function upstream, so that the table shows every arrow.
"""

from __future__ import annotations

from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.heartbeat import Crash
    from gimli.process import ExitStatus


@value
class StartWanted:
    """The operator, or the monitor's own start, wants it up."""


@value
class StopWanted:
    """The operator, or the monitor's own end, wants it down."""

    because: str = "asked to stop"


@value
class RestartWanted:
    """The operator wants a new instance."""


@value
class SnapshotWanted:
    """The operator wants a snapshot of a program that goes on."""


@value
class Executed:
    """The new program runs: its exec has succeeded."""

    pid: int


@value
class Adopted:
    """A dead monitor's instance was found alive."""

    pid: int


@value
class ExecutedUnready:
    """The new program runs, and is to say when it is ready."""

    pid: int


@value
class AdoptionRefused:
    """It cannot be told whether an instance lives: a start might make a second one."""

    why: str


@value
class BecameReady:
    """The program has said that it is ready, or its probe has answered."""

    by: str


@value
class SpawnFailed:
    """No new program: fork or exec failed; an attempt like any other that failed."""

    why: str


@value
class SpawnsExhausted:
    """Fork or exec failed, and that was the last attempt."""

    why: str


@value
class BeatStarting:
    """The heartbeat says: I am starting."""


@value
class BeatRunning:
    """The heartbeat says: I am running."""


@value
class BeatStopping:
    """The heartbeat says: I am stopping."""


@value
class HeartbeatLate:
    """A deadline passed without a beat: the program, or one thread of it, hangs."""

    pulse: str | None
    """None: the main beat."""
    tid: int | None
    silent_s: float
    allowed_s: float
    late_ms: float
    """How long after the deadline, or the end of a grace, it was noticed."""
    scheduling: tuple[tuple[str, object], ...] = ()
    """What the kernel says of the silent thread (``lateness.describe``)."""


@value
class CrashReported:
    """The main process's crash handler waits for its snapshot; None: the original's protocol."""

    crash: Crash | None


@value
class WorkerCrashed:
    """A descendant's crash handler waits for its snapshot."""

    crash: Crash


@value
class ReleasedToDie:
    """Snapshot of a crash done: the program dies by its own signal now."""


@value
class ReleasedHung:
    """Snapshot of a hang done."""


@value
class ReleasedToRun:
    """Requested snapshot done, the program goes on."""


@value
class ReleasedToStart:
    """Requested snapshot done, the program goes on starting."""


@value
class ReleasedToStop:
    """Requested snapshot done, and meanwhile a stop was asked for."""


@value
class EndedForGood:
    """The program ended, and nothing wants it again."""

    status: ExitStatus
    is_news: bool = False
    """Nobody here ordered it, and there is no report of it yet."""


@value
class EndedToRestart:
    """The program ended and is to be started again after ``delay_s``."""

    status: ExitStatus
    delay_s: float
    is_news: bool = False
    """Nobody here ordered it, and there is no report of it yet."""


@value
class RestartsExhausted:
    """The program ended once more than its backoff allows."""

    status: ExitStatus
    is_news: bool = False
    """Nobody here ordered it, and there is no report of it yet."""


@value
class RestartDue:
    """The wait before a restart is over."""


@value
class StopExpired:
    """The program had its time to stop and did not."""


@value
class HealthySpell:
    """It has run long enough for its past failures to be forgotten."""


Event = (
    StartWanted
    | StopWanted
    | RestartWanted
    | SnapshotWanted
    | Executed
    | Adopted
    | AdoptionRefused
    | ExecutedUnready
    | BecameReady
    | SpawnFailed
    | SpawnsExhausted
    | BeatStarting
    | BeatRunning
    | BeatStopping
    | HeartbeatLate
    | CrashReported
    | WorkerCrashed
    | ReleasedToDie
    | ReleasedHung
    | ReleasedToRun
    | ReleasedToStart
    | ReleasedToStop
    | EndedForGood
    | EndedToRestart
    | RestartsExhausted
    | RestartDue
    | StopExpired
    | HealthySpell
)
EVENTS: tuple[type, ...] = Event.__args__
