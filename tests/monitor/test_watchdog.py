"""Which beat is due when: exact to the nanosecond, and never fooled by what stands in a page."""

from __future__ import annotations

import struct

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gimli import heartbeat
from gimli.heartbeat import LIBRARY_C, LIBRARY_NONE, NOT_SUPPORTED, RUNNING, STARTING, STOPPING
from gimli.monitor import watchdog
from gimli.monitor.config import Intervals
from gimli.monitor.watchdog import Due, Late, Memory, look, must_look_by, remember

S = 1_000_000_000
T0 = 1000 * S
"""When the program was started, in these tests."""
INTERVALS = Intervals(watchdog_s=60.0, start_s=200.0, stop_s=30.0)
ALLOWED_NS = {STARTING: 200 * S, RUNNING: 60 * S, STOPPING: 30 * S}


def a_page(
    state=RUNNING, beat_ns=T0, *, ticks=1, intact=True, library=LIBRARY_C, pulses=()
) -> heartbeat.Page:
    return heartbeat.Page(state, ticks, intact, beat_ns, library, "", tuple(pulses), 0, 0, None)


def a_pulse(beat_ns=T0, interval_ns=5 * S, *, name="writer", tid=7, active=True) -> heartbeat.Pulse:
    return heartbeat.Pulse(name, tid, interval_ns, beat_ns, active)


def seen(page: heartbeat.Page, now_ns: int = T0, memory: Memory | None = None) -> Memory:
    return remember(memory or Memory(T0), page, now_ns)


def look_at(page: heartbeat.Page, now_ns: int, **fields) -> Due | Late | None:
    """What is judged at ``now_ns`` of a page first seen at T0."""
    memory = watchdog.replace(seen(page), **fields)
    return look(remember(memory, page, now_ns), page, INTERVALS, now_ns)


@pytest.mark.parametrize("state", ALLOWED_NS)
def test_each_phase_has_its_interval_and_its_end_is_exact(state):
    allowed_ns = ALLOWED_NS[state]
    page = a_page(state)
    assert look_at(page, T0 + allowed_ns - 1) == Due(T0 + allowed_ns)
    assert look_at(page, T0 + allowed_ns) == Late(None, None, allowed_ns, allowed_ns, 0)
    assert look_at(page, T0 + allowed_ns + 3) == Late(None, None, allowed_ns + 3, allowed_ns, 3)


def test_a_program_without_a_heartbeat_is_not_watched():
    assert look_at(a_page(NOT_SUPPORTED, 0), T0 + 10**6 * S) is None


@pytest.mark.parametrize("state", [NOT_SUPPORTED, STARTING, RUNNING])
def test_a_damaged_page_is_not_watched(state):
    """Whatever overwrote it, a program must not be killed for that."""
    page = a_page(state, intact=False, pulses=[a_pulse()])
    assert look_at(page, T0 + 10**6 * S) is None


@given(st.sampled_from(sorted(ALLOWED_NS)), st.integers(0, 10**6 * S), st.integers(0, 10**6 * S))
def test_late_is_exactly_when_the_allowed_silence_is_over(state, beat_after, look_after):
    """A beat just before its deadline is on time, and one just after never goes unseen."""
    assume(beat_after <= look_after)
    page, allowed_ns = a_page(state, T0 + beat_after), ALLOWED_NS[state]
    now_ns = T0 + look_after
    verdict = look(seen(page, now_ns), page, INTERVALS, now_ns)
    deadline_ns = T0 + beat_after + allowed_ns
    if now_ns >= deadline_ns:
        assert verdict == Late(None, None, look_after - beat_after, allowed_ns, now_ns - deadline_ns)
    else:
        assert verdict == Due(deadline_ns)


pulses = st.builds(
    heartbeat.Pulse,
    name=st.text(max_size=3),
    tid=st.integers(-(2**31), 2**31 - 1),
    interval_ns=st.integers(1, 2**64 - 1),
    beat_ns=st.integers(0, 2**64 - 1),
    active=st.booleans(),
)
pages = st.builds(
    a_page,
    st.integers(0, 3),
    st.integers(0, 2**64 - 1),
    ticks=st.integers(-(2**31), 2**31 - 1),
    intact=st.booleans(),
    library=st.integers(0, 2),
    pulses=st.lists(pulses, max_size=4),
)


@given(st.lists(st.tuples(pages, st.integers(0, 10**5 * S)), min_size=1, max_size=8))
def test_whatever_stands_in_the_page_a_deadline_is_ahead_and_a_silence_is_past(looks):
    """No page makes the monitor spin (a deadline that is not in the future) or count a negative silence."""
    memory, now_ns = Memory(T0), T0
    for page, later_ns in looks:
        now_ns += later_ns
        memory = remember(memory, page, now_ns)
        match look(memory, page, INTERVALS, now_ns):
            case Due(at_ns=at_ns):
                assert at_ns > now_ns
            case Late(silent_ns=silent_ns, allowed_ns=allowed_ns, late_ns=late_ns, tid=tid):
                assert silent_ns == allowed_ns + late_ns
                assert 0 < allowed_ns <= silent_ns <= now_ns
                assert tid is None or tid > 0
        again_ns = must_look_by(memory, page, INTERVALS, now_ns)
        assert again_ns is None or again_ns >= now_ns + 1 * S


@given(st.binary(max_size=heartbeat.PAGE_SIZE))
def test_garbage_with_a_valid_head_is_judged_without_an_exception(garbage):
    raw = bytearray(garbage.ljust(heartbeat.PAGE_SIZE, b"\xa5"))
    struct.pack_into("<QII", raw, heartbeat.OFFSET_MAGIC, heartbeat.MAGIC, heartbeat.VERSION, 4096)
    page = heartbeat.parse_page(bytes(raw))
    assert page.intact
    look(seen(page), page, INTERVALS, T0)


# Pulses.


def test_one_silent_pulse_among_healthy_ones_is_named():
    page = a_page(
        beat_ns=T0 + 9 * S, pulses=[a_pulse(T0 + 9 * S, name="reader"), a_pulse(T0, name="writer", tid=8)]
    )
    assert look_at(page, T0 + 10 * S) == Late("writer", 8, 10 * S, 5 * S, 5 * S)


def test_the_pulse_is_named_when_the_main_beat_is_late_too():
    """It says more."""
    page = a_page(pulses=[a_pulse(T0 + 60 * S, interval_ns=S)])
    assert look_at(page, T0 + 100 * S).pulse == "writer"


def test_of_several_late_pulses_the_latest_is_named():
    page = a_page(pulses=[a_pulse(name="late"), a_pulse(name="later", interval_ns=S)])
    assert look_at(page, T0 + 10 * S).pulse == "later"


def test_the_nearest_of_all_deadlines_is_waited_for():
    page = a_page(pulses=[a_pulse(interval_ns=7 * S), a_pulse(interval_ns=5 * S), a_pulse(interval_ns=9 * S)])
    assert look_at(page, T0) == Due(T0 + 5 * S)


def test_a_paused_pulse_is_not_watched():
    assert look_at(a_page(pulses=[a_pulse(active=False)]), T0 + 10 * S) == Due(T0 + 60 * S)


def test_pulses_are_watched_in_a_program_without_a_main_beat():
    assert look_at(a_page(NOT_SUPPORTED, 0, pulses=[a_pulse()]), T0 + 5 * S).pulse == "writer"


@pytest.mark.parametrize("tid", [0, -5])
def test_a_pulse_without_a_thread_names_none(tid):
    assert look_at(a_page(pulses=[a_pulse(tid=tid)]), T0 + 5 * S).tid is None


# Stamps that are not beats.


def test_a_stamp_from_the_future_is_no_beat():
    """Otherwise a stray write would switch the watchdog off for centuries."""
    page = a_page(beat_ns=2**64 - 1)
    assert look_at(page, T0 + 59 * S) == Due(T0 + 60 * S)
    assert isinstance(look_at(page, T0 + 60 * S), Late)


def test_a_pulse_stamped_in_the_future_is_late():
    assert isinstance(look_at(a_page(pulses=[a_pulse(2**63)]), T0), Late)


def test_a_stamp_of_this_very_moment_is_a_beat():
    """The program may beat between the monitor's look at the clock and its look at the page."""
    page = a_page(beat_ns=T0 + 500_000)
    assert look_at(page, T0) == Due(T0 + 500_000 + 60 * S)


def test_a_stamp_never_goes_back():
    memory = seen(a_page(beat_ns=T0 + 5 * S), T0 + 5 * S)
    assert seen(a_page(beat_ns=T0), T0 + 6 * S, memory).beat_ns == T0 + 5 * S


# The original library: ticks, and no stamp.


def ticking(ticks: int, state: int = RUNNING) -> heartbeat.Page:
    return a_page(state, 0, ticks=ticks, library=LIBRARY_NONE)


def test_a_tick_of_the_original_library_counts_when_it_is_seen():
    memory = seen(ticking(1), T0)
    memory = remember(memory, ticking(2), T0 + 40 * S)
    assert look(memory, ticking(2), INTERVALS, T0 + 40 * S) == Due(T0 + 100 * S)


def test_the_original_library_hangs_when_its_ticks_stand_still():
    memory = seen(ticking(1), T0)
    memory = remember(memory, ticking(1), T0 + 60 * S)
    assert look(memory, ticking(1), INTERVALS, T0 + 60 * S) == Late(None, None, 60 * S, 60 * S, 0)


def test_ticks_that_wrap_are_ticks():
    memory = remember(seen(ticking(2**31 - 1)), ticking(-(2**31)), T0 + 9 * S)
    assert memory.beat_ns == T0 + 9 * S


def test_a_change_of_state_is_a_sign_of_life():
    memory = remember(seen(ticking(1, STARTING)), ticking(1, RUNNING), T0 + 150 * S)
    assert look(memory, ticking(1), INTERVALS, T0 + 150 * S) == Due(T0 + 210 * S)


def test_the_original_library_is_looked_at_once_per_interval():
    """It rings no bell when it goes from starting to running."""
    page = ticking(1, STARTING)
    assert must_look_by(seen(page), page, INTERVALS, T0) == T0 + 60 * S


def test_our_libraries_ring_and_need_no_look():
    assert must_look_by(seen(a_page()), a_page(), INTERVALS, T0) is None


def test_a_program_that_may_yet_begin_to_beat_is_looked_at_ever_more_rarely():
    """The original library attaches unseen; a program that never will must not wake the monitor for ever."""
    page, now_ns, looks = ticking(0, NOT_SUPPORTED), T0, []
    while now_ns < T0 + 86_400 * S:
        now_ns = must_look_by(Memory(T0), page, INTERVALS, now_ns)
        looks.append((now_ns - T0) // S)
    assert looks[:4] == [60, 120, 240, 480]
    assert len(looks) < 15


# After a snapshot.


@pytest.mark.parametrize("pulse", [[], [a_pulse(interval_ns=60 * S)]])
def test_the_time_it_was_stopped_for_a_snapshot_does_not_count(pulse):
    page = a_page(pulses=pulse)
    assert look_at(page, T0 + 61 * S, resumed_ns=T0 + 10 * S) == Due(T0 + 70 * S)
    assert isinstance(look_at(page, T0 + 70 * S, resumed_ns=T0 + 10 * S), Late)


def test_a_beat_after_the_snapshot_counts_from_the_beat():
    page = a_page(beat_ns=T0 + 20 * S)
    assert look_at(page, T0 + 20 * S, resumed_ns=T0 + 10 * S) == Due(T0 + 80 * S)
