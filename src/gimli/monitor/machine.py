"""In which state is a service, and what does each event do to it?

``TABLE`` is the whole answer: a row for every pair of state and event, also for those that change
nothing, with the reason. ``step`` applies one row. Pure: the runtime turns kernel facts into events and
carries the actions out; it decides nothing.

        DOWN --StartWanted--> STARTING --Executed--> RUNNING --HeartbeatLate, CrashReported--> CAPTURING
          ^                      ^                      |                                         |
          |                      | RestartDue           | StopWanted                    Released  |
       EndedForGood           BACKOFF <--EndedToRestart-+--> STOPPING <---------------------------+
          |                      | RestartsExhausted            | StopExpired
          +----------------------+--> FAILED                    +--> KILLING

Exactly one instance lives: ``Spawn`` is ordered only by rows of states in which nothing runs.
"""

from __future__ import annotations

from enum import Enum

from gimli.monitor import restart
from gimli.monitor.actions import (
    Action,
    Arm,
    Capture,
    CaptureWorker,
    Disarm,
    LetGo,
    RecordDeath,
    Signal,
    Spawn,
    Tell,
    Timer,
)
from gimli.monitor.config import Policy, Restart
from gimli.monitor.events import (
    BeatRunning,
    BeatStarting,
    BeatStopping,
    CrashReported,
    EndedForGood,
    EndedToRestart,
    Event,
    Executed,
    HealthySpell,
    HeartbeatLate,
    ReleasedHung,
    ReleasedToDie,
    ReleasedToRun,
    ReleasedToStop,
    RestartDue,
    RestartsExhausted,
    RestartWanted,
    SnapshotWanted,
    SpawnFailed,
    SpawnsExhausted,
    StartWanted,
    StopExpired,
    StopWanted,
    WorkerCrashed,
)
from gimli.process import Signals
from gimli.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from gimli.heartbeat import Crash
    from gimli.process import ExitStatus

    Effect = Callable[["Child", Any], tuple["Child", tuple[Action, ...]]]


class State(Enum):
    """Where a service stands."""

    DOWN = "down"
    STARTING = "starting"
    RUNNING = "running"
    CAPTURING = "capturing"
    STOPPING = "stopping"
    KILLING = "killing"
    BACKOFF = "backoff"
    FAILED = "failed"


LIVE = frozenset({State.STARTING, State.RUNNING, State.CAPTURING, State.STOPPING, State.KILLING})
"""States in which an instance exists, or is being made."""


class Wish(Enum):
    """What is wanted once the present instance has ended."""

    UP = "up"
    """Whatever the restart policy says."""
    AGAIN = "again"
    """A new instance, whatever the policy says: the operator asked for it."""
    DOWN = "down"


@value
class Child:
    """A service as the machine sees it."""

    policy: Policy
    state: State = State.DOWN
    wish: Wish = Wish.DOWN
    pid: int = 0
    reason: str | None = None
    """Why it is captured or was last brought down: crash, hang, request, or None."""
    failures: int = 0
    """Ends in a row without a healthy spell."""
    restarts: int = 0
    last_status: ExitStatus | None = None
    because: str = ""
    """Words for BACKOFF and FAILED."""


@value
class Row:
    """What one event does in one state."""

    target: State
    effect: Effect
    because: str = ""


def step(child: Child, event: Event) -> tuple[Child, tuple[Action, ...]]:
    """Apply one event. Pure: same arguments, same result."""
    row = TABLE[child.state][type(event)]
    changed, actions = row.effect(replace(child, state=row.target), event)
    return changed, actions


def judge_end(child: Child, status: ExitStatus) -> Event:
    """Which of the three ends it is that a program ended with ``status``."""
    if child.wish is Wish.DOWN:
        return EndedForGood(status)
    if child.wish is Wish.AGAIN:
        return EndedToRestart(status, 0.0)
    if not restart.is_wanted_again(child.policy.restart, status, hung=child.reason == "hang"):
        return EndedForGood(status)
    failures = child.failures + 1
    if restart.is_exhausted(child.policy.backoff, failures):
        return RestartsExhausted(status)
    return EndedToRestart(status, restart.delay_before(child.policy.backoff, failures))


def judge_spawn_failure(child: Child, why: str) -> Event:
    """Whether a start that failed is tried again. A program that may never restart is not."""
    policy = child.policy
    last = policy.restart is Restart.NEVER or restart.is_exhausted(policy.backoff, child.failures + 1)
    return SpawnsExhausted(why) if last or child.wish is Wish.DOWN else SpawnFailed(why)


def judge_release(child: Child) -> Event:
    """Which of the four releases it is that the snapshot is done."""
    if child.reason == "crash":
        return ReleasedToDie()
    if child.reason == "hang":
        return ReleasedHung()
    return ReleasedToRun() if child.wish is Wish.UP else ReleasedToStop()


# Effects: a new child and the orders. Straight lines; the branching is in the table and in judge_*.


def _tell(event: str, **details: object) -> Tell:
    return Tell(event, tuple(details.items()))


def _nothing(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    return child, ()


def _start(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    fresh = replace(child, wish=Wish.UP, failures=0, reason=None, because="")
    return fresh, (Disarm(Timer.RESTART), Spawn())


def _start_due(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    return replace(child, restarts=child.restarts + 1, reason=None, because=""), (Spawn(),)


def _executed(child: Child, event: Executed) -> tuple[Child, tuple[Action, ...]]:
    started = _tell("started", pid=event.pid, restarts=child.restarts)
    return replace(child, pid=event.pid), (Arm(Timer.HEALTHY, child.policy.backoff.healthy_s), started)


def _executed_too_late(child: Child, event: Executed) -> tuple[Child, tuple[Action, ...]]:
    """A stop was asked for between fork and exec; TERM went to a process that could not handle it yet."""
    return replace(child, pid=event.pid), (_terminate(child),)


def _spawn_failed(child: Child, event: SpawnFailed) -> tuple[Child, tuple[Action, ...]]:
    failures = child.failures + 1
    delay_s = max(restart.delay_before(child.policy.backoff, failures), child.policy.backoff.first_s)
    changed = replace(child, pid=0, failures=failures, because=event.why)
    told = _tell("exec-failed", why=event.why, failures=failures, delay_s=delay_s)
    return changed, (told, Arm(Timer.RESTART, delay_s))


def _give_up_spawning(child: Child, event: SpawnsExhausted) -> tuple[Child, tuple[Action, ...]]:
    because = f"cannot start: {event.why}"
    return replace(child, pid=0, wish=Wish.DOWN, because=because), (
        Disarm(Timer.STOP),
        _tell("failed", because=because),
    )


def _beat(child: Child, event: Event) -> tuple[Child, tuple[Action, ...]]:
    words = {BeatStarting: "starting", BeatRunning: "running", BeatStopping: "stopping"}
    return child, (_tell("heartbeat", state=words[type(event)]),)


def _beat_stopping(child: Child, event: Event) -> tuple[Child, tuple[Action, ...]]:
    """It stops of its own will: it has the stop interval, as if it had been asked to."""
    changed, told = _beat(child, event)
    return changed, (*told, Disarm(Timer.HEALTHY), Arm(Timer.STOP, child.policy.intervals.stop_s))


def _hang(child: Child, event: HeartbeatLate) -> tuple[Child, tuple[Action, ...]]:
    told = _tell(
        "hang",
        pulse=event.pulse,
        tid=event.tid,
        silent_s=round(event.silent_s, 6),
        allowed_s=event.allowed_s,
        late_ms=round(event.late_ms, 3),
    )
    return replace(child, reason="hang"), (Disarm(Timer.HEALTHY), told, Capture("hang", hang=event))


def _crash_told(pid: int, crash: Crash | None, **more: object) -> Tell:
    if crash is None:
        return _tell("crash", pid=pid, **more)
    where = {"signo": crash.signo, "code": crash.code, "address": crash.address, "tid": crash.tid}
    return _tell("crash", pid=crash.pid, **where, **more)


def _crash(child: Child, event: CrashReported) -> tuple[Child, tuple[Action, ...]]:
    told = _crash_told(child.pid, event.crash)
    capture = Capture("crash", crash=event.crash)
    return replace(child, reason="crash"), (Disarm(Timer.HEALTHY), told, capture)


def _crash_captured_before(child: Child, event: CrashReported) -> tuple[Child, tuple[Action, ...]]:
    """It is on its way down already, and its report is made or not wanted: it need not wait."""
    return child, (_crash_told(child.pid, event.crash, captured=False), LetGo())


def _worker_crash(child: Child, event: WorkerCrashed) -> tuple[Child, tuple[Action, ...]]:
    return child, (_crash_told(child.pid, event.crash, worker=True), CaptureWorker(event.crash))


def _snapshot(child: Child, _: SnapshotWanted) -> tuple[Child, tuple[Action, ...]]:
    return replace(child, reason="request"), (Capture("request"),)


def _let_die(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    """The handler runs the program's shutdown function now; it has the stop interval for it."""
    return child, (Arm(Timer.STOP, child.policy.intervals.stop_s),)


def _abort(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    """After a hang: ABRT, so that a shutdown function may run; the handler must not ask again."""
    abort = Signal(Signals.SIGABRT, "it hangs and its snapshot is taken")
    return child, (LetGo(), abort, Arm(Timer.STOP, child.policy.intervals.stop_s))


def _resume(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    return replace(child, reason=None), ()


def _terminate(child: Child) -> Signal:
    return Signal(Signals.SIGTERM, "asked to restart" if child.wish is Wish.AGAIN else "asked to stop")


def _stop(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    changed = replace(child, wish=Wish.DOWN)
    return changed, (
        Disarm(Timer.HEALTHY),
        _terminate(changed),
        Arm(Timer.STOP, child.policy.intervals.stop_s),
    )


def _stop_after_snapshot(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    return child, (Disarm(Timer.HEALTHY), _terminate(child), Arm(Timer.STOP, child.policy.intervals.stop_s))


def _again(child: Child, event: Event) -> tuple[Child, tuple[Action, ...]]:
    changed, actions = _stop_after_snapshot(replace(child, wish=Wish.AGAIN), event)
    return changed, actions


def _wish_down(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    return replace(child, wish=Wish.DOWN), ()


def _take_back_stop(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    return replace(child, wish=Wish.UP if child.wish is Wish.DOWN else child.wish), ()


def _wish_again(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    return replace(child, wish=Wish.AGAIN), ()


def _stop_waiting(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    return replace(child, wish=Wish.DOWN, because=""), (Disarm(Timer.RESTART), _tell("stopped"))


def _kill(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    allowed_s = child.policy.intervals.stop_s
    return child, (Signal(Signals.SIGKILL, f"it did not end within {allowed_s:g} s", group=True),)


def _kill_executed(child: Child, event: Executed) -> tuple[Child, tuple[Action, ...]]:
    return _kill(replace(child, pid=event.pid), event)


def _ended(child: Child, status: ExitStatus) -> tuple[Child, tuple[Action, ...]]:
    told = _tell("exited", pid=child.pid, status=str(status), code=status.code, signo=status.signo)
    is_news = status.is_fault and child.reason not in {"crash", "hang"}
    record = (RecordDeath(status.signo),) if status.signo and is_news else ()
    changed = replace(child, pid=0, last_status=status)
    return changed, (Disarm(Timer.STOP), Disarm(Timer.HEALTHY), told, *record)


def _end(child: Child, event: EndedForGood) -> tuple[Child, tuple[Action, ...]]:
    changed, actions = _ended(child, event.status)
    return replace(changed, wish=Wish.DOWN, because=""), (*actions, _tell("stopped"))


def _back_off(child: Child, event: EndedToRestart) -> tuple[Child, tuple[Action, ...]]:
    changed, actions = _ended(child, event.status)
    failures = 0 if child.wish is Wish.AGAIN else child.failures + 1
    changed = replace(changed, wish=Wish.UP, failures=failures, because=f"ended: {event.status}")
    if event.delay_s:
        actions = (*actions, _tell("backoff", delay_s=event.delay_s, failures=failures))
    return changed, (*actions, Arm(Timer.RESTART, event.delay_s))


def _exhaust(child: Child, event: RestartsExhausted) -> tuple[Child, tuple[Action, ...]]:
    changed, actions = _ended(child, event.status)
    failures = child.failures + 1
    because = f"ended {failures} times in a row, last by {event.status}"
    return replace(changed, failures=failures, because=because), (*actions, _tell("failed", because=because))


def _forget_failures(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    return replace(child, failures=0), ()


def ignored(state: State, *events: type, because: str) -> dict[type, Row]:
    """Rows for events that change nothing in ``state``, and why."""
    return {event: Row(state, _nothing, because) for event in events}


_BEATS = (BeatStarting, BeatRunning, BeatStopping)
_ENDS = (EndedForGood, EndedToRestart, RestartsExhausted)
_RELEASES = (ReleasedToDie, ReleasedHung, ReleasedToRun, ReleasedToStop)
_SPAWNS = (Executed, SpawnFailed, SpawnsExhausted)


def _ends() -> dict[type, Row]:
    """Whatever a live instance was doing: when it has ended, it has ended."""
    return {
        EndedForGood: Row(State.DOWN, _end),
        EndedToRestart: Row(State.BACKOFF, _back_off),
        RestartsExhausted: Row(State.FAILED, _exhaust),
    }


def _nothing_runs(state: State) -> dict[type, Row]:
    """Rows of a state without an instance."""
    return {
        WorkerCrashed: Row(state, _worker_crash, "a descendant may outlive the service's main process"),
        **ignored(
            state,
            *_BEATS,
            HeartbeatLate,
            CrashReported,
            SnapshotWanted,
            *_RELEASES,
            *_ENDS,
            *_SPAWNS,
            StopExpired,
            HealthySpell,
            because="nothing runs: a late message of an instance that has ended",
        ),
    }


def _going_down(state: State) -> dict[type, Row]:
    """Rows that STOPPING and KILLING share."""
    return {
        StartWanted: Row(state, _wish_again, "the new instance comes after this one"),
        StopWanted: Row(state, _wish_down),
        RestartWanted: Row(state, _wish_again),
        Executed: Row(state, _executed_too_late),
        SpawnFailed: Row(State.DOWN, _give_up_spawning),
        SpawnsExhausted: Row(State.DOWN, _give_up_spawning),
        CrashReported: Row(state, _crash_captured_before),
        WorkerCrashed: Row(state, _worker_crash),
        **_ends(),
        **ignored(state, *_BEATS, HeartbeatLate, because="it has the stop interval, whatever it says"),
        **ignored(state, SnapshotWanted, because="it is ending; refused where it was asked for"),
        **ignored(state, *_RELEASES, because="no snapshot of this instance is under way"),
        **ignored(state, RestartDue, HealthySpell, because="disarmed; a late one means nothing"),
    }


TABLE: Mapping[State, Mapping[type, Row]] = {
    State.DOWN: {
        StartWanted: Row(State.STARTING, _start),
        RestartWanted: Row(State.STARTING, _start),
        **ignored(State.DOWN, StopWanted, because="it is down"),
        **ignored(State.DOWN, RestartDue, because="disarmed; a late one means nothing"),
        **_nothing_runs(State.DOWN),
    },
    State.STARTING: {
        **ignored(State.STARTING, StartWanted, because="it is starting"),
        StopWanted: Row(State.STOPPING, _stop),
        RestartWanted: Row(State.STOPPING, _again),
        SnapshotWanted: Row(State.CAPTURING, _snapshot),
        Executed: Row(State.RUNNING, _executed),
        SpawnFailed: Row(State.BACKOFF, _spawn_failed),
        SpawnsExhausted: Row(State.FAILED, _give_up_spawning),
        BeatStarting: Row(State.STARTING, _beat),
        BeatRunning: Row(State.RUNNING, _beat),
        BeatStopping: Row(State.STOPPING, _beat_stopping),
        HeartbeatLate: Row(State.CAPTURING, _hang),
        CrashReported: Row(State.CAPTURING, _crash),
        WorkerCrashed: Row(State.STARTING, _worker_crash),
        HealthySpell: Row(State.STARTING, _forget_failures),
        **_ends(),
        **ignored(State.STARTING, *_RELEASES, because="no snapshot is under way"),
        **ignored(State.STARTING, RestartDue, StopExpired, because="disarmed; a late one means nothing"),
    },
    State.RUNNING: {
        **ignored(State.RUNNING, StartWanted, because="it is running"),
        StopWanted: Row(State.STOPPING, _stop),
        RestartWanted: Row(State.STOPPING, _again),
        SnapshotWanted: Row(State.CAPTURING, _snapshot),
        **ignored(State.RUNNING, *_SPAWNS, because="it has started; there is one spawn at a time"),
        BeatStarting: Row(State.STARTING, _beat),
        BeatRunning: Row(State.RUNNING, _beat),
        BeatStopping: Row(State.STOPPING, _beat_stopping),
        HeartbeatLate: Row(State.CAPTURING, _hang),
        CrashReported: Row(State.CAPTURING, _crash),
        WorkerCrashed: Row(State.RUNNING, _worker_crash),
        HealthySpell: Row(State.RUNNING, _forget_failures),
        **_ends(),
        **ignored(State.RUNNING, *_RELEASES, because="no snapshot is under way"),
        **ignored(State.RUNNING, RestartDue, StopExpired, because="disarmed; a late one means nothing"),
    },
    State.CAPTURING: {
        StartWanted: Row(State.CAPTURING, _take_back_stop, "it is up; a stop that waits is taken back"),
        StopWanted: Row(State.CAPTURING, _wish_down, "a snapshot takes bounded time; the stop follows it"),
        RestartWanted: Row(State.CAPTURING, _wish_again, "likewise"),
        **ignored(
            State.CAPTURING, SnapshotWanted, because="one is under way; refused where it was asked for"
        ),
        **ignored(State.CAPTURING, *_SPAWNS, because="it has started; there is one spawn at a time"),
        **ignored(State.CAPTURING, *_BEATS, HeartbeatLate, because="it is stopped, or about to die"),
        CrashReported: Row(
            State.CAPTURING, _crash, "it crashed between the order and its snapshot: that is worth its own"
        ),
        WorkerCrashed: Row(State.CAPTURING, _worker_crash),
        ReleasedToDie: Row(State.STOPPING, _let_die),
        ReleasedHung: Row(State.STOPPING, _abort),
        ReleasedToRun: Row(State.RUNNING, _resume),
        ReleasedToStop: Row(State.STOPPING, _stop_after_snapshot),
        **_ends(),
        **ignored(State.CAPTURING, RestartDue, StopExpired, because="disarmed; a late one means nothing"),
        HealthySpell: Row(State.CAPTURING, _forget_failures),
    },
    State.STOPPING: {
        StopExpired: Row(State.KILLING, _kill),
        **_going_down(State.STOPPING),
    },
    State.KILLING: {
        **ignored(State.KILLING, StopExpired, because="KILL was sent; only the kernel can delay it"),
        **_going_down(State.KILLING),
        Executed: Row(State.KILLING, _kill_executed, "KILL may have come before it had a group"),
    },
    State.BACKOFF: {
        StartWanted: Row(State.STARTING, _start, "the operator need not wait"),
        RestartWanted: Row(State.STARTING, _start),
        StopWanted: Row(State.DOWN, _stop_waiting),
        RestartDue: Row(State.STARTING, _start_due),
        **_nothing_runs(State.BACKOFF),
    },
    State.FAILED: {
        StartWanted: Row(State.STARTING, _start, "the operator has mended it"),
        RestartWanted: Row(State.STARTING, _start),
        StopWanted: Row(State.DOWN, _wish_down),
        **ignored(State.FAILED, RestartDue, because="disarmed; a late one means nothing"),
        **_nothing_runs(State.FAILED),
    },
}
