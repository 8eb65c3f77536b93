"""Which beat is due when, and is it late? Pure: the page and the time come in as arguments.

A beat is watched by the time stamp that the program itself put into the page, so that a deadline is
exact to the beat. A program linked with the original library leaves no time stamp, only ticks: for it
the time is when the monitor saw the ticks change, and the monitor looks once per interval.
"""

from __future__ import annotations

from gimli import heartbeat
from gimli.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from gimli.monitor.config import Intervals

_NS = 1_000_000_000
_PAUSED_LOOK_NS_MIN = 1 * _NS
"""A program that writes tiny intervals must not keep the monitor awake."""
_FUTURE_NS = 1_000_000
"""A stamp this far ahead of the clock was not put there by a beat (both read CLOCK_MONOTONIC)."""


@value
class Memory:
    """What the monitor remembers between two looks at a page."""

    since_ns: int
    """When the present phase of the heartbeat was first seen."""
    state: int = heartbeat.NOT_SUPPORTED
    ticks: int = 0
    beat_ns: int = 0
    """The last beat known, by stamp or by change of ticks."""
    resumed_ns: int = 0
    """Silence before this does not count: the program was stopped for a snapshot."""


@value
class Beat:
    """One beat that is expected: the main one, or a pulse's."""

    pulse: str | None
    tid: int | None
    since_ns: int
    """Where its silence begins: the last beat, or later if silence before a moment does not count."""
    allowed_ns: int

    @property
    def key(self) -> str:
        """What to remember it by."""
        return beat_key(self.pulse, self.tid)


def beat_key(pulse: str | None, tid: int | None) -> str:
    """A text that stands for one beat; empty for the main one."""
    return "" if pulse is None else f"{tid or 0} {pulse}"


@value
class Grace:
    """A silence that is borne for longer than allowed, because somebody else may be to blame for it."""

    since_ns: int
    """Which silence: the next one is another."""
    until_ns: int


@value
class Due:
    """The next beat is due at ``at_ns``; look again then."""

    at_ns: int


@value
class Late:
    """A deadline has passed without a beat."""

    pulse: str | None
    tid: int | None
    silent_ns: int
    allowed_ns: int
    late_ns: int


NO_GRACES: Mapping[str, Grace] = {}


def remember(memory: Memory, page: heartbeat.Page, now_ns: int) -> Memory:
    """What is known after one more look at the page."""
    state = page.state if page.intact else heartbeat.NOT_SUPPORTED
    changed = state != memory.state
    beat_ns = memory.beat_ns
    if 0 < page.beat_ns <= now_ns + _FUTURE_NS:
        beat_ns = max(beat_ns, page.beat_ns)
    elif page.ticks != memory.ticks or changed:
        beat_ns = now_ns
    return replace(
        memory,
        since_ns=now_ns if changed else memory.since_ns,
        state=state,
        ticks=page.ticks,
        beat_ns=beat_ns,
    )


def allowed_ns(state: int, intervals: Intervals) -> int | None:
    """Silence allowed in a phase, nanoseconds; None where no beat is expected."""
    by_state = {
        heartbeat.STARTING: intervals.start_s,
        heartbeat.RUNNING: intervals.watchdog_s,
        heartbeat.STOPPING: intervals.stop_s,
    }
    seconds = by_state.get(state)
    return None if seconds is None else round(seconds * _NS)


def expected(memory: Memory, page: heartbeat.Page, intervals: Intervals, now_ns: int) -> list[Beat]:
    """The beats that are watched now."""
    beats = [
        Beat(
            pulse.name,
            pulse.tid if pulse.tid > 0 else None,
            max(_stamp(pulse, now_ns), memory.resumed_ns),
            pulse.interval_ns,
        )
        for pulse in page.pulses
        if pulse.active and page.intact
    ]
    silence_ns = allowed_ns(memory.state, intervals)
    if silence_ns is not None:
        since_ns = max(memory.beat_ns or memory.since_ns, memory.resumed_ns)
        beats.append(Beat(None, None, since_ns, silence_ns))
    return beats


def look(
    memory: Memory,
    page: heartbeat.Page,
    intervals: Intervals,
    now_ns: int,
    graces: Mapping[str, Grace] = NO_GRACES,
) -> Due | Late | None:
    """The deadline that comes first: passed, to come, or None when nothing is watched.

    A pulse is named before the main beat when both are late: it says more.
    """
    beats = expected(memory, page, intervals, now_ns)
    verdicts = [_judge(beat, now_ns, graces.get(beat.key)) for beat in beats]
    late = [verdict for verdict in verdicts if isinstance(verdict, Late)]
    if late:
        return max(late, key=lambda verdict: (verdict.pulse is not None, verdict.late_ns))
    return min(
        (verdict for verdict in verdicts if isinstance(verdict, Due)), key=lambda v: v.at_ns, default=None
    )


def must_look_by(memory: Memory, page: heartbeat.Page, intervals: Intervals, now_ns: int) -> int | None:
    """When to look again though no deadline has come: what may change without a ring of the bell.

    The original library rings none: it may start unseen, and even begin to beat unseen. A program without a
    heartbeat is looked at ever more rarely, each time after as long as it has run. Ours rings, but a queue
    that is full loses a ring, and that a program has started must not go unseen; and a pulse that was
    paused for a moment only comes back without one.
    """
    paused = [pulse for pulse in page.pulses if page.intact and not pulse.active]
    times = [now_ns + max(pulse.interval_ns, _PAUSED_LOOK_NS_MIN) for pulse in paused]
    interval_ns = round(intervals.watchdog_s * _NS)
    rings = page.library != heartbeat.LIBRARY_NONE
    if memory.state == heartbeat.NOT_SUPPORTED and not rings:
        times.append(now_ns + max(interval_ns, now_ns - memory.since_ns))
    elif memory.state == heartbeat.STARTING or not rings:
        times.append(now_ns + interval_ns)
    return min(times, default=None)


def _stamp(pulse: heartbeat.Pulse, now_ns: int) -> int:
    """A pulse's last beat. A stamp from the future is no beat: the pulse is judged from zero."""
    return pulse.beat_ns if pulse.beat_ns <= now_ns + _FUTURE_NS else 0


def _judge(beat: Beat, now_ns: int, grace: Grace | None) -> Due | Late:
    deadline_ns = beat.since_ns + beat.allowed_ns
    if now_ns < deadline_ns:
        return Due(deadline_ns)
    if grace and grace.since_ns == beat.since_ns and now_ns < grace.until_ns:
        return Due(grace.until_ns)
    return Late(beat.pulse, beat.tid, now_ns - beat.since_ns, beat.allowed_ns, now_ns - deadline_ns)
