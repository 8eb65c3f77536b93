"""Is a late beat a hang, or is somebody else to blame for it? Pure: facts in, a cause out.

A program that got no CPU, that was stopped by a signal or frozen with its control group, or whose machine
or monitor slept, is late without hanging. The kernel counts what tells them apart, and the figures of a
thread when its beat came are compared with those when it was missed:

        last beat        look: figures                       deadline: figures again
        ----|----------------|-------------------------------------|------------>
                             <------- ran, waited for a CPU ------->

A cause buys one more interval and no more: a program that is starved for ever is of as little use as one
that hangs, and is then treated as one, by a report that names the cause.
"""

from __future__ import annotations

from enum import Enum

from gimli.monitor.watchdog import Grace
from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NS = 1_000_000_000
_SUSPENDED_NS_MIN = 100_000_000
"""The clocks differ by less without a suspend: they are read one after the other."""
_MONITOR_LATE_NS_MIN = 20_000_000
_GRACE_NS_MIN = 100_000_000
"""A program that writes tiny intervals must not keep the monitor awake."""
_RECHECK_S_MIN = 1.0
_PROBE_NS_MAX = 200_000_000
_PROBE_NS_MIN = 20_000_000
"""Some ticks of the scheduler: a running thread's time is counted by them."""


class Cause(Enum):
    """Whom a late beat is put down to."""

    SUSPENDED = "suspended"
    MONITOR_LATE = "monitor late"
    SNAPSHOT = "snapshot"
    STOPPED = "stopped"
    FROZEN = "frozen"
    THROTTLED = "throttled"
    STARVED = "starved"

    @property
    def is_starvation(self) -> bool:
        """It wanted a CPU and got none."""
        return self in {Cause.STARVED, Cause.THROTTLED}


@value
class Figures:
    """What the kernel has counted for one thread until a moment. Only differences mean something."""

    at_ns: int
    """CLOCK_MONOTONIC."""
    asleep_ns: int
    """CLOCK_BOOTTIME minus CLOCK_MONOTONIC: how long the machine has been suspended."""
    ran_ns: int
    waited_ns: int
    """On a run queue, runnable without a CPU; a wait is added when it is over."""
    turns: int
    """How often it got a CPU."""
    throttled_ns: int
    """How long its control groups were held back by their quota."""


@value
class Standing:
    """How things stand at the deadline."""

    state: str
    """The silent thread's, as in proc_pid_stat(5): ``R``, ``S``, ``D``, ``T``."""
    monitor_late_ns: int = 0
    """How long after it wanted to look the monitor did."""
    is_frozen: bool = False
    is_captured: bool = False
    """A capture helper of ours holds it."""
    stop_signal: str = ""
    """Which signal stopped it, if that is known."""


@value
class Window:
    """What became of a thread between two figures."""

    length_ns: int
    ran_ns: int
    waited_ns: int
    throttled_ns: int
    suspended_ns: int
    turns: int


def between(before: Figures | None, after: Figures | None) -> Window:
    """The differences; all 0 when one is missing. Counters never run backwards here."""
    if before is None or after is None:
        return Window(0, 0, 0, 0, 0, 0)
    return Window(
        length_ns=max(0, after.at_ns - before.at_ns),
        ran_ns=max(0, after.ran_ns - before.ran_ns),
        waited_ns=max(0, after.waited_ns - before.waited_ns),
        throttled_ns=max(0, after.throttled_ns - before.throttled_ns),
        suspended_ns=max(0, after.asleep_ns - before.asleep_ns),
        turns=max(0, after.turns - before.turns),
    )


def judge(standing: Standing, window: Window, allowed_ns: int) -> Cause | None:
    """Whom the silence is put down to; None: to the program, it hangs.

    The machine and the monitor come first: with them asleep, nothing else that was measured means much.
    """
    if window.suspended_ns >= _SUSPENDED_NS_MIN:
        return Cause.SUSPENDED
    if standing.monitor_late_ns >= max(allowed_ns // 4, _MONITOR_LATE_NS_MIN):
        return Cause.MONITOR_LATE
    if standing.is_captured:
        return Cause.SNAPSHOT
    if standing.state == "T":
        return Cause.STOPPED
    if standing.is_frozen:
        return Cause.FROZEN
    if window.length_ns <= 0:
        return None
    if 2 * window.throttled_ns >= window.length_ns:
        return Cause.THROTTLED
    return Cause.STARVED if 2 * window.waited_ns >= window.length_ns else None


def needs_probe(standing: Standing, window: Window) -> bool:
    """Whether to look once more, a moment later, before a silence is called a hang.

    The kernel adds a wait to its count when it is over. Of a thread that wants a CPU and has not run all the
    time, only a second look tells whether it runs now.
    """
    return standing.state == "R" and window.length_ns > 0 and 10 * window.ran_ns < 9 * window.length_ns


def probe_ns(allowed_ns: int) -> int:
    """How long after the deadline the second look comes."""
    return min(max(allowed_ns // 4, _PROBE_NS_MIN), _PROBE_NS_MAX)


def judge_probe(standing: Standing, probe: Window) -> Cause | None:
    """What the moment since the deadline tells of a thread that wants a CPU."""
    is_starved = standing.state == "R" and 2 * probe.ran_ns < probe.length_ns
    return Cause.STARVED if is_starved else None


def grant(cause: Cause, earlier: Grace | None, since_ns: int, allowed_ns: int, now_ns: int) -> Grace | None:
    """How long the silence is borne; None when patience is at its end.

    Args:
        cause: whom it is put down to.
        earlier: the grace that this beat had before, perhaps for another silence.
        since_ns: where the silence begins.
        allowed_ns: silence allowed.
        now_ns: CLOCK_MONOTONIC.
    """
    is_spent = earlier is not None and earlier.since_ns == since_ns
    # A machine may be suspended again and again: no time passes for its programs meanwhile.
    if is_spent and cause is not Cause.SUSPENDED:
        return None
    return Grace(since_ns, now_ns + max(allowed_ns, _GRACE_NS_MIN))


def recheck_s(allowed_ns: int) -> float:
    """How long until it is looked again whether a debugger has let go without ending."""
    return max(_RECHECK_S_MIN, allowed_ns / _NS)


def explain(cause: Cause, standing: Standing, window: Window) -> str:
    """The cause in words, with its figures."""
    length = f"{window.length_ns / _NS:.2g}"
    match cause:
        case Cause.SUSPENDED:
            return f"the machine was suspended for {window.suspended_ns / _NS:.1f} s"
        case Cause.MONITOR_LATE:
            return f"the monitor itself was late by {standing.monitor_late_ns / _NS:.2g} s"
        case Cause.SNAPSHOT:
            return "a snapshot is being taken of it"
        case Cause.STOPPED:
            return f"stopped by {standing.stop_signal or 'a signal'}"
        case Cause.FROZEN:
            return "frozen with its control group"
        case Cause.THROTTLED:
            held = f"{window.throttled_ns / _NS:.2g}"
            return f"starved: its control group was held back by its quota for {held} of {length} s"
        case Cause.STARVED:
            ran, waited = f"{window.ran_ns / _NS:.2g}", f"{window.waited_ns / _NS:.2g}"
            if 2 * window.waited_ns < window.length_ns:
                return f"starved: it wants a CPU, and ran for {ran} of the last {length} s"
            return f"starved: it waited for a CPU for {waited} of {length} s, and ran for {ran} s"


def describe(cause: Cause | None, standing: Standing, window: Window) -> tuple[tuple[str, Any], ...]:
    """The facts for journal and report: keys as in docs/reference/capture.md, ``hang.scheduling``."""
    return (
        ("cause", cause.value if cause else None),
        ("because", explain(cause, standing, window) if cause else ""),
        ("state", standing.state),
        ("window_s", round(window.length_ns / _NS, 6)),
        ("ran_s", round(window.ran_ns / _NS, 6)),
        ("waited_s", round(window.waited_ns / _NS, 6)),
        ("throttled_s", round(window.throttled_ns / _NS, 6)),
        ("suspended_s", round(window.suspended_ns / _NS, 6)),
        ("monitor_late_s", round(standing.monitor_late_ns / _NS, 6)),
    )
