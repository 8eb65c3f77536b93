"""Whom a late beat is put down to, and how long it is borne: pure, figure by figure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.monitor import lateness
from gimli.monitor.lateness import Cause, Figures, Standing, Window
from gimli.monitor.watchdog import Grace

S = 1_000_000_000
T0 = 1000 * S
ALLOWED = 10 * S


def window(length=10.0, *, ran=0.0, waited=0.0, throttled=0.0, suspended=0.0, turns=5) -> Window:
    """Seconds."""
    parts = (round(part * S) for part in (length, ran, waited, throttled, suspended))
    return Window(*parts, turns)


def figures(at_ns=T0, *, asleep=0, ran=0, waited=0, turns=0, throttled=0) -> Figures:
    return Figures(at_ns, asleep, ran, waited, turns, throttled)


@pytest.mark.parametrize(
    ("standing", "seen", "cause"),
    [
        (Standing("S"), window(), None),
        (Standing("D"), window(), None),
        (Standing("R"), window(ran=10), None),
        (Standing("R"), window(ran=6, waited=4), None),
        (Standing("R"), window(ran=4.9, waited=5), Cause.STARVED),
        (Standing("S"), window(waited=5), Cause.STARVED),
        (Standing("S"), window(waited=4.9), None),
        (Standing("R"), window(throttled=5), Cause.THROTTLED),
        (Standing("R"), window(throttled=9, waited=9), Cause.THROTTLED),
        (Standing("T"), window(), Cause.STOPPED),
        (Standing("T"), window(waited=9), Cause.STOPPED),
        (Standing("t"), window(), None),
        (Standing("D", is_frozen=True), window(), Cause.FROZEN),
        (Standing("t", is_captured=True), window(), Cause.SNAPSHOT),
        (Standing("S", monitor_late_ns=5 * S // 2), window(), Cause.MONITOR_LATE),
        (Standing("S", monitor_late_ns=5 * S // 2 - 1), window(), None),
        (Standing("T", monitor_late_ns=9 * S), window(), Cause.MONITOR_LATE),
        (Standing("S"), window(suspended=0.1), Cause.SUSPENDED),
        (Standing("S"), window(suspended=0.099), None),
        (Standing("T", monitor_late_ns=9 * S), window(suspended=3600, waited=9), Cause.SUSPENDED),
        (Standing(""), window(0), None),
        (Standing("T"), window(0), Cause.STOPPED),
        (Standing("R"), window(0), None),
    ],
)
def test_whom_it_is_put_down_to(standing, seen, cause):
    assert lateness.judge(standing, seen, ALLOWED) is cause


@pytest.mark.parametrize("state", ["S", "D", "Z", "I", ""])
@pytest.mark.parametrize("ran", [0, 1, 5])
def test_a_thread_that_waits_for_something_else_hangs_and_there_is_no_second_look(state, ran):
    seen = window(ran=ran)
    assert lateness.judge(Standing(state), seen, ALLOWED) is None
    assert not lateness.needs_probe(Standing(state), seen)


@pytest.mark.parametrize(("ran", "probed"), [(0, True), (5, True), (8.9, True), (9, False), (10, False)])
def test_only_a_thread_that_wants_a_cpu_and_has_not_run_throughout_gets_a_second_look(ran, probed):
    """A loop without end on a machine with room is a hang at its deadline, to the millisecond."""
    assert lateness.needs_probe(Standing("R"), window(ran=ran)) is probed


def test_nothing_is_concluded_from_nothing():
    assert not lateness.needs_probe(Standing("R"), window(0))
    assert lateness.judge_probe(Standing("R"), window(0)) is None


@pytest.mark.parametrize(
    ("state", "ran", "cause"),
    [
        ("R", 0, Cause.STARVED),
        ("R", 0.04, Cause.STARVED),
        ("R", 0.05, None),
        ("R", 0.1, None),
        ("S", 0, None),
    ],
)
def test_the_second_look_tells_whether_it_runs(state, ran, cause):
    """The kernel counts a wait when it is over: one that lasts is seen by what is not counted."""
    assert lateness.judge_probe(Standing(state), window(0.1, ran=ran)) is cause


@pytest.mark.parametrize(
    ("allowed_s", "probe_s"), [(0.001, 0.02), (0.2, 0.05), (0.8, 0.2), (60, 0.2), (1e9, 0.2)]
)
def test_the_second_look_comes_soon(allowed_s, probe_s):
    assert lateness.probe_ns(round(allowed_s * S)) == round(probe_s * S)


@pytest.mark.parametrize(("allowed_s", "recheck_s"), [(0, 1.0), (0.2, 1.0), (1, 1.0), (60, 60.0)])
def test_a_debugger_is_looked_for_again_after_an_interval_and_a_second_at_least(allowed_s, recheck_s):
    assert lateness.recheck_s(round(allowed_s * S)) == recheck_s


def test_a_short_lateness_of_the_monitor_excuses_nobody():
    """With a tiny interval, a quarter of it is no time for a kernel."""
    assert lateness.judge(Standing("S", monitor_late_ns=19_000_000), window(0.01), 1000) is None
    assert lateness.judge(Standing("S", monitor_late_ns=20_000_000), window(0.01), 1000)


# Grace.


@pytest.mark.parametrize("cause", Cause)
def test_the_first_grace_is_one_more_interval(cause):
    assert lateness.grant(cause, None, T0, ALLOWED, T0 + ALLOWED) == Grace(T0, T0 + 2 * ALLOWED)


@pytest.mark.parametrize("cause", Cause)
def test_there_is_no_second_grace_for_one_silence_unless_the_machine_sleeps(cause):
    now_ns = T0 + 2 * ALLOWED
    second = lateness.grant(cause, Grace(T0, now_ns), T0, ALLOWED, now_ns)
    assert (second is None) == (cause is not Cause.SUSPENDED)


@pytest.mark.parametrize("cause", Cause)
def test_another_silence_has_a_grace_of_its_own(cause):
    now_ns = T0 + 5 * ALLOWED
    assert lateness.grant(cause, Grace(T0, T0 + 2 * ALLOWED), T0 + 4 * ALLOWED, ALLOWED, now_ns)


def test_a_grace_is_never_too_short_to_sleep_in():
    """A pulse may have an interval of a nanosecond."""
    grace = lateness.grant(Cause.STARVED, None, T0, 1, T0 + 1)
    assert grace is not None
    assert grace.until_ns - (T0 + 1) == 100_000_000


@given(
    causes=st.lists(st.sampled_from([cause for cause in Cause if cause is not Cause.SUSPENDED]), max_size=20),
    allowed_ns=st.integers(1, 1 << 64),
)
def test_whatever_the_causes_are_a_silence_is_borne_for_two_intervals_at_most(causes, allowed_ns):
    """A program that is starved for ever is taken for what it is to its users: down."""
    now_ns, grace = T0 + allowed_ns, None
    for cause in causes:
        granted = lateness.grant(cause, grace, T0, allowed_ns, now_ns)
        if granted is None:
            break
        grace, now_ns = granted, granted.until_ns
    assert now_ns <= T0 + allowed_ns + max(allowed_ns, 100_000_000)


# Figures.


def test_the_window_is_the_difference():
    before = figures(T0, asleep=1, ran=2, waited=3, turns=4, throttled=5)
    after = figures(T0 + 100, asleep=11, ran=22, waited=33, turns=44, throttled=55)
    assert lateness.between(before, after) == Window(100, 20, 30, 50, 10, 40)


@pytest.mark.parametrize(("before", "after"), [(None, None), (figures(), None), (None, figures())])
def test_of_a_thread_that_is_not_known_nothing_is_claimed(before, after):
    assert lateness.between(before, after) == Window(0, 0, 0, 0, 0, 0)


numbers = st.integers(0, 1 << 64)
any_figures = st.one_of(st.none(), st.builds(Figures, numbers, numbers, numbers, numbers, numbers, numbers))
any_standing = st.builds(
    Standing,
    st.sampled_from(["R", "S", "D", "T", "t", "Z", ""]),
    numbers,
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "SIGSTOP", "SIGTTIN"]),
)


@given(any_figures, any_figures, any_standing, st.integers(1, 1 << 64))
def test_any_figures_give_a_verdict_with_words(before, after, standing, allowed_ns):
    """The counters are of the kernel, but of a tid that a program wrote into its page."""
    seen = lateness.between(before, after)
    assert min(seen.length_ns, seen.ran_ns, seen.waited_ns, seen.throttled_ns, seen.suspended_ns) >= 0
    for cause in (lateness.judge(standing, seen, allowed_ns), lateness.judge_probe(standing, seen)):
        described = dict(lateness.describe(cause, standing, seen))
        assert described["cause"] == (cause.value if cause else None)
        assert bool(described["because"]) == bool(cause)


@pytest.mark.parametrize(
    ("cause", "standing", "seen", "words"),
    [
        (Cause.SUSPENDED, Standing("S"), window(suspended=3600), "the machine was suspended for 3600.0 s"),
        (Cause.MONITOR_LATE, Standing("S", 3 * S), window(), "the monitor itself was late by 3 s"),
        (Cause.SNAPSHOT, Standing("t"), window(), "a snapshot is being taken of it"),
        (Cause.STOPPED, Standing("T", stop_signal="SIGTTIN"), window(), "stopped by SIGTTIN"),
        (Cause.STOPPED, Standing("T"), window(), "stopped by a signal"),
        (Cause.FROZEN, Standing("D"), window(), "frozen with its control group"),
        (
            Cause.THROTTLED,
            Standing("R"),
            window(throttled=8.2),
            "starved: its control group was held back by its quota for 8.2 of 10 s",
        ),
        (
            Cause.STARVED,
            Standing("R"),
            window(ran=0.25, waited=9.5),
            "starved: it waited for a CPU for 9.5 of 10 s, and ran for 0.25 s",
        ),
        (
            Cause.STARVED,
            Standing("R"),
            window(0.2, ran=0.01),
            "starved: it wants a CPU, and ran for 0.01 of the last 0.2 s",
        ),
    ],
)
def test_the_words(cause, standing, seen, words):
    assert lateness.explain(cause, standing, seen) == words
