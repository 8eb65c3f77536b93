"""What does each event do to a service? A new child, and the orders for the runtime.

Straight lines, pure: the branching is in the table and in ``machine.judge_*``.
"""

from __future__ import annotations

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
from gimli.monitor.child import Child, Wish
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
    HeartbeatLate,
    RestartsExhausted,
    SnapshotWanted,
    SpawnFailed,
    SpawnsExhausted,
    WorkerCrashed,
)
from gimli.process import Signals
from gimli.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.heartbeat import Crash


def _tell(event: str, **details: object) -> Tell:
    return Tell(event, tuple(details.items()))


def nothing(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    return child, ()


def start(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    fresh = replace(child, wish=Wish.UP, failures=0, reason=None, because="")
    return fresh, (Disarm(Timer.RESTART), Spawn())


def start_due(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    return replace(child, restarts=child.restarts + 1, reason=None, because=""), (Spawn(),)


def executed(child: Child, event: Executed | ExecutedUnready) -> tuple[Child, tuple[Action, ...]]:
    started = _tell("started", pid=event.pid, restarts=child.restarts)
    return replace(child, pid=event.pid), (Arm(Timer.HEALTHY, child.policy.backoff.healthy_s), started)


def adopt(child: Child, event: Adopted) -> tuple[Child, tuple[Action, ...]]:
    healthy = Arm(Timer.HEALTHY, child.policy.backoff.healthy_s)
    return replace(child, pid=event.pid, wish=Wish.UP), (healthy, _tell("adopted", pid=event.pid))


def refuse_adoption(child: Child, event: AdoptionRefused) -> tuple[Child, tuple[Action, ...]]:
    return replace(child, because=event.why), (_tell("adoption-refused", why=event.why),)


def executed_too_late(child: Child, event: Executed | ExecutedUnready) -> tuple[Child, tuple[Action, ...]]:
    """A stop was asked for between fork and exec; TERM went to a process that could not handle it yet."""
    return replace(child, pid=event.pid), (_terminate(child),)


def spawn_failed(child: Child, event: SpawnFailed) -> tuple[Child, tuple[Action, ...]]:
    failures = child.failures + 1
    delay_s = max(restart.delay_before(child.policy.backoff, failures), child.policy.backoff.first_s)
    changed = replace(child, pid=0, failures=failures, because=event.why)
    told = _tell("exec-failed", why=event.why, failures=failures, delay_s=delay_s)
    return changed, (told, Arm(Timer.RESTART, delay_s))


def give_up_spawning(child: Child, event: SpawnsExhausted) -> tuple[Child, tuple[Action, ...]]:
    because = f"cannot start: {event.why}"
    return replace(child, pid=0, wish=Wish.DOWN, because=because), (
        Disarm(Timer.STOP),
        _tell("failed", because=because),
    )


def ready(child: Child, event: BecameReady) -> tuple[Child, tuple[Action, ...]]:
    return child, (_tell("ready", by=event.by),)


def beat(child: Child, event: Event) -> tuple[Child, tuple[Action, ...]]:
    words = {BeatStarting: "starting", BeatRunning: "running", BeatStopping: "stopping"}
    return child, (_tell("heartbeat", state=words[type(event)]),)


def beat_stopping(child: Child, event: Event) -> tuple[Child, tuple[Action, ...]]:
    """It stops of its own will: it has the stop interval, as if it had been asked to."""
    changed, told = beat(child, event)
    return changed, (*told, Disarm(Timer.HEALTHY), Arm(Timer.STOP, child.policy.intervals.stop_s))


def hang(child: Child, event: HeartbeatLate) -> tuple[Child, tuple[Action, ...]]:
    told = _tell(
        "hang",
        pulse=event.pulse,
        tid=event.tid,
        silent_s=round(event.silent_s, 6),
        allowed_s=event.allowed_s,
        late_ms=round(event.late_ms, 3),
        **{key: fact for key, fact in event.scheduling if key == "because" and fact},
    )
    return replace(child, reason="hang"), (Disarm(Timer.HEALTHY), told, Capture("hang", hang=event))


def _crash_told(pid: int, crash: Crash | None, **more: object) -> Tell:
    if crash is None:
        return _tell("crash", pid=pid, **more)
    where = {"signo": crash.signo, "code": crash.code, "address": crash.address, "tid": crash.tid}
    return _tell("crash", pid=crash.pid, **where, **more)


def crash(child: Child, event: CrashReported) -> tuple[Child, tuple[Action, ...]]:
    told = _crash_told(child.pid, event.crash)
    capture = Capture("crash", crash=event.crash)
    return replace(child, reason="crash"), (Disarm(Timer.HEALTHY), told, capture)


def crash_captured_before(child: Child, event: CrashReported) -> tuple[Child, tuple[Action, ...]]:
    """It is on its way down already, and its report is made or not wanted: it need not wait."""
    return child, (_crash_told(child.pid, event.crash, captured=False), LetGo())


def worker_crash(child: Child, event: WorkerCrashed) -> tuple[Child, tuple[Action, ...]]:
    return child, (_crash_told(child.pid, event.crash, worker=True), CaptureWorker(event.crash))


def snapshot(child: Child, _: SnapshotWanted) -> tuple[Child, tuple[Action, ...]]:
    return replace(child, reason="request"), (Capture("request"),)


def let_die(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    """The handler runs the program's shutdown function now; it has the stop interval for it."""
    return child, (Arm(Timer.STOP, child.policy.intervals.stop_s),)


def abort(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    """After a hang: ABRT, so that a shutdown function may run; the handler must not ask again."""
    abort = Signal(Signals.SIGABRT, "it hangs and its snapshot is taken")
    return child, (LetGo(), abort, Arm(Timer.STOP, child.policy.intervals.stop_s))


def resume(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    return replace(child, reason=None), ()


def _terminate(child: Child) -> Signal:
    because = "asked to restart" if child.wish is Wish.AGAIN else "asked to stop"
    return Signal(child.policy.stop_signal, because)


def stop(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    changed = replace(child, wish=Wish.DOWN)
    return changed, (
        Disarm(Timer.HEALTHY),
        _terminate(changed),
        Arm(Timer.STOP, child.policy.intervals.stop_s),
    )


def stop_after_snapshot(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    return child, (Disarm(Timer.HEALTHY), _terminate(child), Arm(Timer.STOP, child.policy.intervals.stop_s))


def again(child: Child, event: Event) -> tuple[Child, tuple[Action, ...]]:
    changed, actions = stop_after_snapshot(replace(child, wish=Wish.AGAIN), event)
    return changed, actions


def wish_down(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    return replace(child, wish=Wish.DOWN), ()


def take_back_stop(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    return replace(child, wish=Wish.UP if child.wish is Wish.DOWN else child.wish), ()


def wish_again(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    return replace(child, wish=Wish.AGAIN), ()


def stop_waiting(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    return replace(child, wish=Wish.DOWN, because=""), (Disarm(Timer.RESTART), _tell("stopped"))


def kill(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    return child, (Signal(Signals.SIGKILL, "it has not ended in the time it was given", group=True),)


def kill_executed(child: Child, event: Executed | ExecutedUnready) -> tuple[Child, tuple[Action, ...]]:
    return kill(replace(child, pid=event.pid), event)


def _ended(
    child: Child, event: EndedForGood | EndedToRestart | RestartsExhausted
) -> tuple[Child, tuple[Action, ...]]:
    status = event.status
    # By it the next monitor knows what it owes, should this one be killed before the report is begun.
    more = {"unreported": True} if status.signo and event.is_news else {}
    told = _tell("exited", pid=child.pid, status=str(status), code=status.code, signo=status.signo, **more)
    changed = replace(child, pid=0, last_status=status)
    return changed, (Disarm(Timer.STOP), Disarm(Timer.HEALTHY), told)


def _record(child: Child, event: EndedForGood | EndedToRestart | RestartsExhausted) -> tuple[Action, ...]:
    """Ordered last: the next instance does not wait for the report of this one."""
    signo = event.status.signo
    return (RecordDeath(child.pid, signo),) if signo and event.is_news else ()


def end(child: Child, event: EndedForGood) -> tuple[Child, tuple[Action, ...]]:
    changed, actions = _ended(child, event)
    stopped = replace(changed, wish=Wish.DOWN, because="")
    return stopped, (*actions, _tell("stopped"), *_record(child, event))


def back_off(child: Child, event: EndedToRestart) -> tuple[Child, tuple[Action, ...]]:
    changed, actions = _ended(child, event)
    failures = 0 if child.wish is Wish.AGAIN else child.failures + 1
    changed = replace(changed, wish=Wish.UP, failures=failures, because=f"ended: {event.status}")
    if event.delay_s:
        actions = (*actions, _tell("backoff", delay_s=event.delay_s, failures=failures))
    return changed, (*actions, Arm(Timer.RESTART, event.delay_s), *_record(child, event))


def exhaust(child: Child, event: RestartsExhausted) -> tuple[Child, tuple[Action, ...]]:
    changed, actions = _ended(child, event)
    failures = child.failures + 1
    because = f"ended {failures} times in a row, last by {event.status}"
    failed = replace(changed, failures=failures, because=because)
    return failed, (*actions, _tell("failed", because=because), *_record(child, event))


def forget_failures(child: Child, _: Event) -> tuple[Child, tuple[Action, ...]]:
    return replace(child, failures=0), ()
