"""The machine: its table is complete, and whatever happens in whatever order, its promises hold."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.heartbeat import Crash
from gimli.monitor import actions, effects, events, machine
from gimli.monitor.actions import Timer
from gimli.monitor.child import LIVE, Child, State, Wish
from gimli.monitor.config import Backoff, Intervals, Policy, Restart
from gimli.monitor.machine import TABLE
from gimli.process import ExitStatus
from gimli.value import replace

if TYPE_CHECKING:
    from collections.abc import Callable

CRASH = Crash(signo=11, code=1, address=0, pid=100, tid=100, time_ns=5, ucontext=6, siginfo=7)
LATE = events.HeartbeatLate(pulse=None, tid=None, silent_s=60.0, allowed_s=60.0, late_ms=0.4)
SEGV = ExitStatus(signo=signal.SIGSEGV)
KILL = ExitStatus(signo=signal.SIGKILL)
SAMPLES: dict[type, events.Event] = {
    type(event): event
    for event in (
        events.StartWanted(),
        events.StopWanted(),
        events.RestartWanted(),
        events.SnapshotWanted(),
        events.Executed(100),
        events.Adopted(100),
        events.AdoptionRefused("its record is damaged"),
        events.ExecutedUnready(100),
        events.BecameReady("notify"),
        events.SpawnFailed("no such file"),
        events.SpawnsExhausted("no such file"),
        events.BeatStarting(),
        events.BeatRunning(),
        events.BeatStopping(),
        LATE,
        events.CrashReported(CRASH),
        events.WorkerCrashed(CRASH),
        events.ReleasedToDie(),
        events.ReleasedHung(),
        events.ReleasedToRun(),
        events.ReleasedToStart(),
        events.ReleasedToStop(),
        events.EndedForGood(ExitStatus(code=0)),
        events.EndedToRestart(SEGV, 0.0),
        events.RestartsExhausted(SEGV),
        events.RestartDue(),
        events.StopExpired(),
        events.HealthySpell(),
    )
}
PAIRS = [(state, event) for state in State for event in events.EVENTS]


def test_there_is_a_sample_of_every_event():
    assert set(SAMPLES) == set(events.EVENTS)


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=lambda item: getattr(item, "__name__", str(item)))
def test_every_pair_of_state_and_event_has_a_row_and_a_reason_when_nothing_changes(state, event):
    """A new event cannot be forgotten anywhere, and no silence is left unexplained."""
    row = TABLE[state][event]
    before = Child(Policy(), state=state, wish=Wish.UP, pid=100)
    after, orders = machine.step(before, SAMPLES[event])
    assert after.state is row.target
    if row.effect is effects.nothing:
        assert row.target is state
        assert row.because
        assert (after, orders) == (before, ())


def test_the_table_has_no_row_for_what_is_no_event():
    assert all(set(rows) == set(events.EVENTS) for rows in TABLE.values())


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=lambda item: getattr(item, "__name__", str(item)))
def test_a_program_is_spawned_only_where_none_runs(state, event):
    _, orders = machine.step(Child(Policy(), state=state), SAMPLES[event])
    spawns = [order for order in orders if isinstance(order, actions.Spawn)]
    assert len(spawns) <= (state not in LIVE)
    assert (TABLE[state][event].target is State.STARTING and state not in LIVE) == bool(spawns)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", [events.RestartDue, events.BeatRunning, events.Executed, LATE.__class__])
def test_only_the_operator_starts_what_is_down_or_has_failed(state, event):
    if state in {State.DOWN, State.FAILED}:
        assert TABLE[state][event].target is state


def test_kill_comes_only_after_the_stop_interval():
    """Whatever leads to KILLING: TERM or ABRT had its time before."""
    leading = [
        (state, event) for state, event in PAIRS if TABLE[state][event].target is State.KILLING is not state
    ]
    assert leading == [(State.STOPPING, events.StopExpired)]


@pytest.mark.parametrize(
    "event", [events.ReleasedToDie, events.ReleasedHung, events.ReleasedToRun, events.ReleasedToStop]
)
def test_every_release_ends_a_capture(event):
    assert TABLE[State.CAPTURING][event].target is not State.CAPTURING


# Single steps that are worth a sentence.


def up(**fields) -> Child:
    """A child that runs and has started once."""
    return Child(**({"policy": Policy(), "state": State.RUNNING, "wish": Wish.UP, "pid": 100} | fields))


def orders_of(child: Child, event: events.Event, kind: type) -> list:
    return [order for order in machine.step(child, event)[1] if isinstance(order, kind)]


def test_a_late_heartbeat_captures_before_anything_is_killed():
    child, orders = machine.step(up(), LATE)
    assert child.state is State.CAPTURING
    assert [order.reason for order in orders if isinstance(order, actions.Capture)] == ["hang"]
    assert not [order for order in orders if isinstance(order, actions.Signal)]


def test_a_hung_program_is_aborted_and_its_handler_must_not_wait():
    child, orders = machine.step(up(state=State.CAPTURING, reason="hang"), events.ReleasedHung())
    assert child.state is State.STOPPING
    assert orders[0] == actions.LetGo()
    assert orders[1].signo == signal.SIGABRT


def test_a_stop_during_a_capture_waits_for_the_snapshot():
    child, orders = machine.step(up(state=State.CAPTURING, reason="request"), events.StopWanted())
    assert (child.state, orders) == (State.CAPTURING, ())
    assert machine.judge_release(child) == events.ReleasedToStop()


@pytest.mark.parametrize("event", [events.StopWanted(), events.RestartWanted()])
def test_a_service_is_asked_to_stop_by_the_signal_it_wants(event):
    _, orders = machine.step(replace(up(), policy=Policy(stop_signal=signal.SIGINT)), event)
    assert [order.signo for order in orders if isinstance(order, actions.Signal)] == [signal.SIGINT]


def test_a_start_takes_back_a_stop_that_waits_for_a_snapshot():
    """Otherwise `gimli start` would answer for a program that then goes down."""
    child, _ = machine.step(up(state=State.CAPTURING, reason="request"), events.StopWanted())
    child, orders = machine.step(child, events.StartWanted())
    assert (child.wish, orders) == (Wish.UP, ())
    assert machine.judge_release(child) == events.ReleasedToRun()
    assert machine.judge_release(child, starting=True) == events.ReleasedToStart()


def test_a_start_does_not_take_back_a_restart_that_waits_for_a_snapshot():
    child, _ = machine.step(up(state=State.CAPTURING, reason="request"), events.RestartWanted())
    child, _ = machine.step(child, events.StartWanted())
    assert child.wish is Wish.AGAIN


def test_a_second_crash_record_during_a_capture_is_captured_as_well():
    """It crashed between the order for a snapshot and its arrival."""
    child = up(state=State.CAPTURING, reason="request")
    assert orders_of(child, events.CrashReported(CRASH), actions.Capture)


@pytest.mark.parametrize("state", [State.STOPPING, State.KILLING])
def test_a_crash_on_the_way_down_is_let_go_at_once(state):
    assert orders_of(up(state=state), events.CrashReported(CRASH), actions.LetGo)


@pytest.mark.parametrize("state", State)
def test_a_worker_is_captured_in_every_state_and_changes_none(state):
    child, orders = machine.step(up(state=state), events.WorkerCrashed(CRASH))
    assert child == up(state=state)
    assert actions.CaptureWorker(CRASH) in orders


@pytest.mark.parametrize(
    ("status", "reason", "recorded"),
    [
        (SEGV, None, True),  # no handler was there to ask for a snapshot
        (SEGV, "crash", False),  # captured already
        (ExitStatus(signo=signal.SIGABRT), "hang", False),  # by our own ABRT
        (SEGV, "request", True),  # it was on its way down after a snapshot that somebody had asked for
        (ExitStatus(signo=signal.SIGKILL), None, False),  # not by its own fault
        (ExitStatus(code=3), None, False),
    ],
)
def test_a_death_by_its_own_fault_that_nobody_captured_is_recorded(status, reason, recorded):
    child = up(state=State.STOPPING, reason=reason)
    found = orders_of(child, machine.judge_end(child, status), actions.RecordDeath)
    assert found == ([actions.RecordDeath(child.pid, status.signo)] if recorded else [])


@pytest.mark.parametrize("restart", Restart)
@pytest.mark.parametrize("state", sorted(LIVE, key=str))
def test_a_kill_from_outside_is_recorded_in_every_state_but_those_in_which_we_kill(state, restart):
    """Nothing else would tell who did it."""
    child = up(state=state, policy=Policy(restart=restart))
    found = orders_of(child, machine.judge_end(child, KILL), actions.RecordDeath)
    assert bool(found) is (state not in {State.STOPPING, State.KILLING})


def test_a_kill_that_the_operator_asked_us_for_is_no_news():
    child = up(state=State.RUNNING)
    assert not orders_of(child, machine.judge_end(child, KILL, ordered=True), actions.RecordDeath)


def test_the_report_of_a_death_is_ordered_after_the_start_of_the_next_instance():
    child = up(state=State.RUNNING, policy=Policy(restart=Restart.ALWAYS))
    orders = machine.step(child, machine.judge_end(child, KILL))[1]
    kinds = [type(order) for order in orders]
    assert kinds.index(actions.Arm) < kinds.index(actions.RecordDeath)


def test_a_spawn_that_fails_while_stopping_leaves_no_stop_timer():
    child = up(state=State.STOPPING, wish=Wish.DOWN)
    _, orders = machine.step(child, events.SpawnsExhausted("no such file"))
    assert actions.Disarm(Timer.STOP) in orders


def test_an_operators_restart_is_no_failure():
    child = up(state=State.STOPPING, wish=Wish.AGAIN, failures=3)
    event = machine.judge_end(child, ExitStatus(signo=signal.SIGTERM))
    child, _ = machine.step(child, event)
    assert (child.state, child.failures, child.wish) == (State.BACKOFF, 0, Wish.UP)
    assert event == events.EndedToRestart(ExitStatus(signo=signal.SIGTERM), 0.0)


def test_a_healthy_spell_forgets_the_failures():
    assert machine.step(up(failures=7), events.HealthySpell())[0].failures == 0


@pytest.mark.parametrize("policy", Restart)
@pytest.mark.parametrize("reason", ["hang", None])
@pytest.mark.parametrize("status", [ExitStatus(code=0), ExitStatus(code=3), SEGV, ExitStatus(signo=15)])
def test_which_ends_restart(policy, reason, status):
    child = Child(Policy(restart=policy), state=State.RUNNING, wish=Wish.UP, reason=reason)
    again = isinstance(machine.judge_end(child, status), events.EndedToRestart)
    assert again == (
        policy is Restart.ALWAYS or (policy is Restart.ON_FAULT and (reason == "hang" or status == SEGV))
    )


@pytest.mark.parametrize("policy", Restart)
@pytest.mark.parametrize("reason", ["hang", "crash", "request", None])
def test_what_is_to_be_down_never_restarts(policy, reason):
    child = Child(Policy(restart=policy), state=State.STOPPING, wish=Wish.DOWN, reason=reason)
    assert isinstance(machine.judge_end(child, SEGV), events.EndedForGood)
    assert machine.judge_spawn_failure(child, "why") == events.SpawnsExhausted("why")


# Anything in any order.


def due(timer: Timer) -> str:
    """The name of the fact that a deadline has come; "stop" alone is the operator's."""
    return f"{timer.value} due"


class World:
    """What the runtime and the kernel make of the machine's orders: the facts that can come next.

    Every fact goes through ``judge_*`` as in ``monitor.service``, and after each the promises are checked.
    """

    def __init__(self, policy: Policy) -> None:
        self.child = Child(policy)
        self.is_alive = False
        self.is_executed = False
        self.is_captured = False
        self.timers: set[Timer] = set()
        self.spawned = 0

    def possible(self) -> dict[str, Callable[[ExitStatus], events.Event]]:
        """Facts that can happen now, by name; those that are ends take a status."""
        found: dict[str, Callable[[ExitStatus], events.Event]] = {
            "start": lambda _: events.StartWanted(),
            "stop": lambda _: events.StopWanted(),
            "restart": lambda _: events.RestartWanted(),
            "worker": lambda _: events.WorkerCrashed(CRASH),
        }
        if self.is_alive and not self.is_executed:
            found["executed"] = lambda _: machine.judge_exec(100 + self.spawned, says_ready=False)
            found["executed unready"] = lambda _: machine.judge_exec(100 + self.spawned, says_ready=True)
            found["not executed"] = lambda _: machine.judge_spawn_failure(self.child, "no such file")
        if self.child.pid or not self.is_alive:  # refused before exec: service.refuse_snapshot
            found["snapshot"] = lambda _: events.SnapshotWanted()
        if self.is_executed:
            found["ready"] = lambda _: events.BecameReady("notify")
            found["starting"] = lambda _: events.BeatStarting()
            found["running"] = lambda _: events.BeatRunning()
            found["stopping"] = lambda _: events.BeatStopping()
            found["crash"] = lambda _: events.CrashReported(CRASH)
            found["end"] = lambda status: machine.judge_end(self.child, status)
            if self.child.state in {State.STARTING, State.RUNNING}:
                found["late"] = lambda _: LATE
        if self.is_captured:
            found["released"] = lambda _: machine.judge_release(self.child, starting=False)
            found["released unready"] = lambda _: machine.judge_release(self.child, starting=True)
        expired = {
            Timer.RESTART: events.RestartDue(),
            Timer.STOP: events.StopExpired(),
            Timer.HEALTHY: events.HealthySpell(),
        }
        for timer in self.timers:
            found[due(timer)] = lambda _, timer=timer: expired[timer]
        return found

    def happen(self, name: str, status: ExitStatus = SEGV) -> None:
        """One fact, with all that follows from it."""
        event = self.possible()[name](status)
        before = self.child
        if name in {"released", "released unready"}:
            self.is_captured = False
        if name in {"end", "not executed"}:
            self.is_alive = self.is_executed = self.is_captured = False
        if name in {"executed", "executed unready"}:
            self.is_executed = True
        self.timers -= {timer for timer in Timer if due(timer) == name}
        self.child, orders = machine.step(before, event)
        for order in orders:
            self._carry_out(order, event, before)
        self._check(before, event)

    def _carry_out(self, order: actions.Action, event: events.Event, before: Child) -> None:
        match order:
            case actions.Spawn():
                assert not self.is_alive, "a second instance"
                if before.wish is Wish.DOWN:
                    assert isinstance(event, events.StartWanted | events.RestartWanted)
                self.is_alive = True
                self.spawned += 1
            case actions.Capture():
                assert self.is_executed, "nothing to take a snapshot of"
                self.is_captured = True
            case actions.Signal(signo=signo):
                assert self.is_alive
                assert (signo == signal.SIGKILL) == (self.child.state is State.KILLING)
            case actions.Arm(timer=timer, delay_s=delay_s):
                assert delay_s >= 0
                self.timers.add(timer)
            case actions.Disarm(timer=timer):
                self.timers.discard(timer)

    def _check(self, before: Child, event: events.Event) -> None:
        child, backoff = self.child, self.child.policy.backoff
        assert (child.state in LIVE) == self.is_alive
        assert (child.state is State.CAPTURING) <= self.is_captured, "nothing would end this capture"
        assert (child.state is State.BACKOFF) <= (Timer.RESTART in self.timers), "nothing would end this wait"
        assert (child.state is State.STOPPING) <= (Timer.STOP in self.timers), "nothing would end this stop"
        if child.state not in LIVE:
            assert self.timers <= {Timer.RESTART}
            assert child.pid == 0
        if child.state in {State.DOWN, State.FAILED}:
            assert not self.timers
        assert (child.state is State.DOWN) <= (child.wish is Wish.DOWN)
        if child.state is State.KILLING and before.state is not State.KILLING:
            assert isinstance(event, events.StopExpired)
        assert child.failures in {0, before.failures, before.failures + 1}
        assert not backoff.attempts or child.failures <= backoff.attempts
        if child.failures < before.failures:
            assert isinstance(
                event, events.HealthySpell | events.StartWanted | events.RestartWanted | events.EndedToRestart
            )
        assert child.restarts - before.restarts == isinstance(event, events.RestartDue)


policies = st.builds(
    Policy,
    intervals=st.just(Intervals()),
    restart=st.sampled_from(Restart),
    backoff=st.builds(Backoff, attempts=st.integers(0, 4)),
)
statuses = st.one_of(
    st.builds(ExitStatus, code=st.integers(0, 255)),
    st.builds(ExitStatus, signo=st.sampled_from([6, 9, 11, 15])),
)


def walk(data: st.DataObject, steps_max: int = 40) -> World:
    """A world after facts that were drawn one by one from those that were possible."""
    world = World(data.draw(policies))
    for _ in range(data.draw(st.integers(0, steps_max))):
        name = data.draw(st.sampled_from(sorted(world.possible())))
        world.happen(name, data.draw(statuses) if name == "end" else SEGV)
    return world


@given(st.data())
def test_whatever_happens_the_promises_hold(data):
    """One instance at most, every wait has an end, nothing runs that nobody wants: see World."""
    walk(data)


@given(st.data())
def test_a_stop_leads_down_from_everywhere_within_four_facts(data):
    """Even a program that ignores TERM, during a capture, between fork and exec."""
    world = walk(data)
    world.happen("stop")
    facts = 0
    while world.child.state is not State.DOWN:
        match world.child.state:
            case State.CAPTURING:
                world.happen("released")
            case State.STOPPING:
                world.happen(due(Timer.STOP))
            case State.KILLING if not world.is_executed:
                world.happen("executed")
            case State.KILLING:
                world.happen("end", ExitStatus(signo=9))
            case state:
                pytest.fail(f"a stop leads to {state}")
        facts += 1
        assert facts <= 4
    assert world.child.wish is Wish.DOWN


@given(st.data())
def test_what_is_down_stays_down_until_it_is_asked_for(data):
    world = walk(data)
    world.happen("stop")
    spawned = world.spawned
    for _ in range(data.draw(st.integers(0, 20))):
        names = sorted(set(world.possible()) - {"start", "restart"})
        world.happen(data.draw(st.sampled_from(names)))
    assert world.spawned == spawned


@given(st.data())
def test_a_start_leads_up_from_everywhere(data):
    """The machine never gets stuck: with a program that behaves, a start ends in RUNNING."""
    world = walk(data)
    world.happen("start")
    for _ in range(10):
        match world.child.state:
            case State.RUNNING:
                return
            case State.CAPTURING:
                world.happen("released")
            case State.STOPPING | State.KILLING if world.is_executed:
                world.happen("end", SEGV)
            case State.STARTING | State.STOPPING | State.KILLING if not world.is_executed:
                world.happen("executed")
            case State.STARTING:
                world.happen("running")
            case State.BACKOFF:
                world.happen(due(Timer.RESTART))
            case state:
                # It was captured for its crash or hang, and its policy says that this was its end.
                assert world.child.policy.restart is Restart.NEVER or world.child.failures
                assert state in {State.DOWN, State.FAILED}
                return
    pytest.fail(f"after ten facts it is {world.child.state}")


@given(st.lists(st.sampled_from(list(SAMPLES.values())), max_size=50))
def test_no_sequence_of_events_raises(sequence):
    """Also those that no kernel would produce."""
    child = Child(Policy())
    for event in sequence:
        child, _ = machine.step(child, event)
        assert replace(child) == child
