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

Exactly one instance lives: ``Spawn`` is ordered only by rows of states in which nothing runs, and the monitor
looks for one that a dead monitor left (``Adopted``) before it starts any.
"""

from __future__ import annotations

from gimli.monitor import effects, restart
from gimli.monitor.child import Child, State, Wish
from gimli.monitor.config import Restart
from gimli.monitor.events import (
    Adopted,
    AdoptionRefused,
    BeatRunning,
    BeatStarting,
    BeatStopping,
    BecameReady,
    CrashReported,
    EndedForGood,
    EndedToRestart,
    Event,
    Executed,
    ExecutedUnready,
    HealthySpell,
    HeartbeatLate,
    ReleasedHung,
    ReleasedToDie,
    ReleasedToRun,
    ReleasedToStart,
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

    from gimli.monitor.actions import Action
    from gimli.process import ExitStatus

    Effect = Callable[[Child, Any], tuple[Child, tuple[Action, ...]]]


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


def judge_end(child: Child, status: ExitStatus, *, ordered: bool = False) -> Event:
    """Which of the three ends it is that a program ended with ``status``.

    Args:
        child: as it was before its end.
        status: how it ended.
        ordered: the signal it ended by is one that this monitor sent.
    """
    is_news = _is_news(child, status, ordered=ordered)
    if child.wish is Wish.DOWN:
        return EndedForGood(status, is_news)
    if child.wish is Wish.AGAIN:
        return EndedToRestart(status, 0.0, is_news)
    if not restart.is_wanted_again(child.policy.restart, status, hung=child.reason == "hang"):
        return EndedForGood(status, is_news)
    failures = child.failures + 1
    if restart.is_exhausted(child.policy.backoff, failures):
        return RestartsExhausted(status, is_news)
    return EndedToRestart(status, restart.delay_before(child.policy.backoff, failures), is_news)


def _is_news(child: Child, status: ExitStatus, *, ordered: bool) -> bool:
    """A fault that has no report yet, or a KILL from outside: it leaves no other trace of who did it."""
    if child.reason in {"crash", "hang"}:
        return False
    if status.signo == Signals.SIGKILL:
        return not ordered and child.state not in {State.STOPPING, State.KILLING}
    return status.is_fault


def judge_exec(pid: int, *, says_ready: bool) -> Event:
    """Whether a program runs once it has been executed, or only when it ``says_ready``."""
    return ExecutedUnready(pid) if says_ready else Executed(pid)


def judge_spawn_failure(child: Child, why: str) -> Event:
    """Whether a start that failed is tried again. A program that may never restart is not."""
    policy = child.policy
    last = policy.restart is Restart.NEVER or restart.is_exhausted(policy.backoff, child.failures + 1)
    return SpawnsExhausted(why) if last or child.wish is Wish.DOWN else SpawnFailed(why)


def judge_release(child: Child, *, starting: bool = False) -> Event:
    """Which of the releases it is that the snapshot is done; ``starting``: it has yet to say that it runs."""
    if child.reason == "crash":
        return ReleasedToDie()
    if child.reason == "hang":
        return ReleasedHung()
    if child.wish is not Wish.UP:
        return ReleasedToStop()
    return ReleasedToStart() if starting else ReleasedToRun()


def ignored(state: State, *events: type, because: str) -> dict[type, Row]:
    """Rows for events that change nothing in ``state``, and why."""
    return {event: Row(state, effects.nothing, because) for event in events}


_BEATS = (BeatStarting, BeatRunning, BeatStopping)
_ENDS = (EndedForGood, EndedToRestart, RestartsExhausted)
_RELEASES = (ReleasedToDie, ReleasedHung, ReleasedToRun, ReleasedToStart, ReleasedToStop)
_FINDINGS = (Adopted, AdoptionRefused)
_SPAWNS = (Executed, ExecutedUnready, SpawnFailed, SpawnsExhausted)


def _ends() -> dict[type, Row]:
    """Whatever a live instance was doing: when it has ended, it has ended."""
    return {
        EndedForGood: Row(State.DOWN, effects.end),
        EndedToRestart: Row(State.BACKOFF, effects.back_off),
        RestartsExhausted: Row(State.FAILED, effects.exhaust),
    }


def _nothing_runs(state: State) -> dict[type, Row]:
    """Rows of a state without an instance."""
    return {
        WorkerCrashed: Row(state, effects.worker_crash, "a descendant may outlive the main process"),
        Adopted: Row(State.RUNNING, effects.adopt),
        AdoptionRefused: Row(State.FAILED, effects.refuse_adoption),
        **ignored(
            state,
            *_BEATS,
            BecameReady,
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
        StartWanted: Row(state, effects.wish_again, "the new instance comes after this one"),
        StopWanted: Row(state, effects.wish_down),
        RestartWanted: Row(state, effects.wish_again),
        Executed: Row(state, effects.executed_too_late),
        ExecutedUnready: Row(state, effects.executed_too_late),
        SpawnFailed: Row(State.DOWN, effects.give_up_spawning),
        SpawnsExhausted: Row(State.DOWN, effects.give_up_spawning),
        CrashReported: Row(state, effects.crash_captured_before),
        WorkerCrashed: Row(state, effects.worker_crash),
        **_ends(),
        **ignored(state, *_FINDINGS, because="an instance is ours already"),
        **ignored(
            state, *_BEATS, BecameReady, HeartbeatLate, because="it has the stop interval, whatever it says"
        ),
        **ignored(state, SnapshotWanted, because="it is ending; refused where it was asked for"),
        **ignored(state, *_RELEASES, because="no snapshot of this instance is under way"),
        **ignored(state, RestartDue, HealthySpell, because="disarmed; a late one means nothing"),
    }


TABLE: Mapping[State, Mapping[type, Row]] = {
    State.DOWN: {
        StartWanted: Row(State.STARTING, effects.start),
        RestartWanted: Row(State.STARTING, effects.start),
        **ignored(State.DOWN, StopWanted, because="it is down"),
        **ignored(State.DOWN, RestartDue, because="disarmed; a late one means nothing"),
        **_nothing_runs(State.DOWN),
    },
    State.STARTING: {
        **ignored(State.STARTING, StartWanted, because="it is starting"),
        StopWanted: Row(State.STOPPING, effects.stop),
        RestartWanted: Row(State.STOPPING, effects.again),
        SnapshotWanted: Row(State.CAPTURING, effects.snapshot),
        Executed: Row(State.RUNNING, effects.executed),
        ExecutedUnready: Row(State.STARTING, effects.executed),
        BecameReady: Row(State.RUNNING, effects.ready),
        SpawnFailed: Row(State.BACKOFF, effects.spawn_failed),
        SpawnsExhausted: Row(State.FAILED, effects.give_up_spawning),
        BeatStarting: Row(State.STARTING, effects.beat),
        BeatRunning: Row(State.RUNNING, effects.beat),
        BeatStopping: Row(State.STOPPING, effects.beat_stopping),
        HeartbeatLate: Row(State.CAPTURING, effects.hang),
        CrashReported: Row(State.CAPTURING, effects.crash),
        WorkerCrashed: Row(State.STARTING, effects.worker_crash),
        HealthySpell: Row(State.STARTING, effects.forget_failures),
        **_ends(),
        **ignored(State.STARTING, *_FINDINGS, because="an instance is ours already"),
        **ignored(State.STARTING, *_RELEASES, because="no snapshot is under way"),
        **ignored(State.STARTING, RestartDue, StopExpired, because="disarmed; a late one means nothing"),
    },
    State.RUNNING: {
        **ignored(State.RUNNING, StartWanted, because="it is running"),
        StopWanted: Row(State.STOPPING, effects.stop),
        RestartWanted: Row(State.STOPPING, effects.again),
        SnapshotWanted: Row(State.CAPTURING, effects.snapshot),
        **ignored(State.RUNNING, *_SPAWNS, because="it has started; there is one spawn at a time"),
        BecameReady: Row(State.RUNNING, effects.ready, "it says so again, after a reload for one"),
        BeatStarting: Row(State.STARTING, effects.beat),
        BeatRunning: Row(State.RUNNING, effects.beat),
        BeatStopping: Row(State.STOPPING, effects.beat_stopping),
        HeartbeatLate: Row(State.CAPTURING, effects.hang),
        CrashReported: Row(State.CAPTURING, effects.crash),
        WorkerCrashed: Row(State.RUNNING, effects.worker_crash),
        HealthySpell: Row(State.RUNNING, effects.forget_failures),
        **_ends(),
        **ignored(State.RUNNING, *_FINDINGS, because="an instance is ours already"),
        **ignored(State.RUNNING, *_RELEASES, because="no snapshot is under way"),
        **ignored(State.RUNNING, RestartDue, StopExpired, because="disarmed; a late one means nothing"),
    },
    State.CAPTURING: {
        StartWanted: Row(State.CAPTURING, effects.take_back_stop, "a stop that waits is taken back"),
        StopWanted: Row(
            State.CAPTURING, effects.wish_down, "the stop follows the snapshot, which is bounded"
        ),
        RestartWanted: Row(State.CAPTURING, effects.wish_again, "likewise"),
        **ignored(
            State.CAPTURING, SnapshotWanted, because="one is under way; refused where it was asked for"
        ),
        **ignored(State.CAPTURING, *_SPAWNS, because="it has started; there is one spawn at a time"),
        **ignored(
            State.CAPTURING, *_BEATS, BecameReady, HeartbeatLate, because="it is stopped, or about to die"
        ),
        CrashReported: Row(
            State.CAPTURING,
            effects.crash,
            "it crashed between the order and its snapshot",
        ),
        WorkerCrashed: Row(State.CAPTURING, effects.worker_crash),
        ReleasedToDie: Row(State.STOPPING, effects.let_die),
        ReleasedHung: Row(State.STOPPING, effects.abort),
        ReleasedToRun: Row(State.RUNNING, effects.resume),
        ReleasedToStart: Row(State.STARTING, effects.resume),
        ReleasedToStop: Row(State.STOPPING, effects.stop_after_snapshot),
        **_ends(),
        **ignored(State.CAPTURING, *_FINDINGS, because="an instance is ours already"),
        **ignored(State.CAPTURING, RestartDue, StopExpired, because="disarmed; a late one means nothing"),
        HealthySpell: Row(State.CAPTURING, effects.forget_failures),
    },
    State.STOPPING: {
        StopExpired: Row(State.KILLING, effects.kill),
        **_going_down(State.STOPPING),
    },
    State.KILLING: {
        **ignored(State.KILLING, StopExpired, because="KILL was sent; only the kernel can delay it"),
        **_going_down(State.KILLING),
        Executed: Row(State.KILLING, effects.kill_executed, "KILL may have come before it had a group"),
        ExecutedUnready: Row(State.KILLING, effects.kill_executed, "likewise"),
    },
    State.BACKOFF: {
        StartWanted: Row(State.STARTING, effects.start, "the operator need not wait"),
        RestartWanted: Row(State.STARTING, effects.start),
        StopWanted: Row(State.DOWN, effects.stop_waiting),
        RestartDue: Row(State.STARTING, effects.start_due),
        **_nothing_runs(State.BACKOFF),
    },
    State.FAILED: {
        StartWanted: Row(State.STARTING, effects.start, "the operator has mended it"),
        RestartWanted: Row(State.STARTING, effects.start),
        StopWanted: Row(State.DOWN, effects.wish_down),
        **ignored(State.FAILED, RestartDue, because="disarmed; a late one means nothing"),
        **_nothing_runs(State.FAILED),
    },
}
