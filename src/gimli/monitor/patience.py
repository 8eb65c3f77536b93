"""When is a late beat borne for a while? Asks the kernel, and remembers what was granted.

One object per service, between its watchdog and its machine: every look at the page passes ``look``, every
deadline without a beat passes ``judge``, and only what ``judge`` lets through is a hang. Nothing is polled:
figures are read at looks that a deadline causes anyway, a debugger's end is told by its pidfd.

A debugger suspends all deadlines until it is gone, then they start anew. Any other cause (``lateness``) buys
the one late beat one more interval.
"""

from __future__ import annotations

import os

from gimli import clock
from gimli.clock import NANOSECONDS
from gimli.monitor import events, lateness, scheduling, tracer, watchdog
from gimli.monitor.lateness import Cause, Figures
from gimli.monitor.watchdog import Grace
from gimli.value import fields_of, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from gimli.loop import Loop
    from gimli.monitor.tracer import Tracer
    from gimli.monitor.watchdog import Beat, Late


@value
class Borne:
    """A silence that is borne, and why."""

    grace: Grace
    cause: Cause
    because: str


@value
class Baseline:
    """Figures of a thread from when a beat was seen."""

    since_ns: int
    """Which beat."""
    figures: Figures | None


@value
class Probe:
    """A second look that was put off for a moment, and the figures of the first."""

    grace: Grace
    figures: Figures | None


class Patience:
    """What is granted to the beats of one service.

    Args:
        loop: where the end of a debugger is waited for.
        tell: writes an event of this service to the journal.
        look: makes the service look at its page again, now.
    """

    __slots__ = (
        "_baselines", "_borne", "_debugged_since_ns", "_debugger_fd", "_has_let_go", "_look", "_loop",
        "_probes", "_tell", "debugger", "look_by_ns",
    )  # fmt: skip

    def __init__(self, loop: Loop, tell: Callable[..., None], look: Callable[[], None]) -> None:
        self.debugger: Tracer | None = None
        self.look_by_ns: int | None = None
        """When to look whether the debugger is still there; None without one."""
        self._loop = loop
        self._tell = tell
        self._look = look
        self._debugger_fd = -1
        self._debugged_since_ns = 0
        self._has_let_go = False
        self._borne: dict[str, Borne] = {}
        self._baselines: dict[str, Baseline] = {}
        self._probes: dict[str, Probe] = {}

    @property
    def graces(self) -> Mapping[str, Grace]:
        """The deadlines that were moved, for ``watchdog.look``."""
        moved = {key: probe.grace for key, probe in self._probes.items()}
        for key, borne in self._borne.items():
            if key not in moved or moved[key].until_ns < borne.grace.until_ns:
                moved[key] = borne.grace
        return moved

    def look(self, pid: int, beats: list[Beat], *, resumed_ns: int, now_ns: int) -> bool:
        """Take notice of beats that came, and of a debugger that comes or goes.

        Returns:
            A debugger has gone: the deadlines start anew.
        """
        if self.debugger and self.look_by_ns is not None and now_ns >= self.look_by_ns:
            self._notice(pid, tracer.find_tracer(pid, first_tid=pid), beats, now_ns)
        self._forget_ended(beats, resumed_ns)
        if self._has_let_go:
            self._forget_silences()
            return True
        if not self.debugger:
            self._take_baselines(pid, beats, now_ns)
        return False

    def judge(
        self, late: Late, pid: int, pidfd: int, *, due_ns: int, now_ns: int
    ) -> events.HeartbeatLate | None:
        """Whether a silence is a hang.

        Args:
            late: the deadline that passed.
            pid: the main process.
            pidfd: the same.
            due_ns: when the monitor had wanted to look.
            now_ns: CLOCK_MONOTONIC.

        Returns:
            The hang for the machine; None when the silence is borne, or a debugger is attached.
        """
        tid = late.tid or pid
        found = tracer.find_tracer(pid, first_tid=tid)
        if found and not found.is_helper:
            self._notice(pid, found, [_beat_of(late, now_ns)], now_ns)
            return None
        beat = _beat_of(late, now_ns)
        known = self._baselines.get(beat.key)
        throttled_ns = scheduling.throttled_ns(pid)
        now = scheduling.read_figures(pid, tid, throttled_ns=throttled_ns)
        window = lateness.between(known.figures if known else None, now)
        state = scheduling.read_state(pid, tid)
        standing = lateness.Standing(
            state=state,
            monitor_late_ns=max(0, now_ns - due_ns),
            is_frozen=scheduling.is_frozen(pid),
            is_captured=found is not None,
            stop_signal=scheduling.stop_signal(pidfd) if state == "T" else "",
        )
        cause = lateness.judge(standing, window, late.allowed_ns)
        if cause is None and lateness.needs_probe(standing, window):
            probe = self._probes.get(beat.key)
            if probe is None or probe.grace.since_ns != beat.since_ns:
                grace = Grace(beat.since_ns, now_ns + lateness.probe_ns(beat.allowed_ns))
                self._probes[beat.key] = Probe(grace, now)
                return None
            since_probe = lateness.between(probe.figures, now)
            cause = lateness.judge_probe(standing, since_probe)
            window = since_probe if cause else window
        described = lateness.describe(cause, standing, window)
        if cause and self._bear(beat, cause, described, now_ns):
            return None
        return events.HeartbeatLate(
            pulse=late.pulse,
            tid=late.tid,
            silent_s=late.silent_ns / NANOSECONDS,
            allowed_s=late.allowed_ns / NANOSECONDS,
            late_ms=self._unnoticed_ns(late, beat, now_ns) / 1e6,
            scheduling=described,
        )

    def defers_kill(self, pid: int) -> float:
        """Seconds to wait before it is asked again whether the program may be killed; 0: it may.

        A program that is being debugged is not killed for taking long, unless the operator wants it down.
        """
        found = tracer.find_tracer(pid)
        if found is None or found.is_helper:
            if self.debugger:
                self._detach()
            return 0.0
        if not self.debugger:
            self._attach(pid, found, clock.monotonic_ns())
        return lateness.recheck_s(0)

    def debugger_now(self, pid: int) -> Tracer | None:
        """Who is attached at this moment, for the status: a look that nobody waits for."""
        found = tracer.find_tracer(pid, main_only=self.debugger is None)
        return None if found and found.is_helper else found

    def because(self, beats: list[Beat]) -> str:
        """Why a late beat is borne now, in words; empty when none is."""
        borne = self._borne_now(beats)
        return borne[0].because if borne else ""

    def is_starved(self, beats: list[Beat]) -> bool:
        """Whether a beat is late for want of a CPU."""
        return any(borne.cause.is_starvation for borne in self._borne_now(beats))

    @property
    def was_stopped(self) -> bool:
        """A beat was last seen to be late because a signal had stopped the program."""
        return any(borne.cause is Cause.STOPPED for borne in self._borne.values())

    def forget(self) -> None:
        """The instance has ended: what was known of it is of no use for the next."""
        if self.debugger:
            self._detach()
        self._forget_silences()

    def pack(self) -> dict[str, Any]:
        """Plain data for the next monitor. No descriptor is needed: it opens the debugger's anew."""
        return {
            "debugger": fields_of(self.debugger) if self.debugger else None,
            "debugged_since_ns": self._debugged_since_ns,
            "has_let_go": self._has_let_go,
            "borne": {
                key: {**fields_of(borne.grace), "cause": borne.cause.value, "because": borne.because}
                for key, borne in self._borne.items()
            },
            "baselines": {
                key: {"since_ns": known.since_ns, "figures": known.figures and fields_of(known.figures)}
                for key, known in self._baselines.items()
            },
        }

    @classmethod
    def unpack(
        cls,
        packed: Mapping[str, Any],
        loop: Loop,
        tell: Callable[..., None],
        look: Callable[[], None],
    ) -> Patience:
        """What another monitor has packed, on a loop of this one's."""
        made = cls(loop, tell, look)
        made._has_let_go = packed["has_let_go"]
        made._borne = {
            key: Borne(Grace(item["since_ns"], item["until_ns"]), Cause(item["cause"]), item["because"])
            for key, item in packed["borne"].items()
        }
        made._baselines = {
            key: Baseline(item["since_ns"], Figures(**item["figures"]) if item["figures"] else None)
            for key, item in packed["baselines"].items()
        }
        if packed["debugger"]:
            made.debugger = tracer.Tracer(**packed["debugger"])
            made.look_by_ns = 0  # it may have gone meanwhile
            made._debugged_since_ns = packed["debugged_since_ns"]
            made._wait_for_end()
        return made

    # Beats.

    def _unnoticed_ns(self, late: Late, beat: Beat, now_ns: int) -> int:
        """How long after its deadline, or the end of its grace, a silence is noticed."""
        grace = self.graces.get(beat.key)
        return max(0, now_ns - grace.until_ns) if grace and grace.since_ns == beat.since_ns else late.late_ns

    def _forget_silences(self) -> None:
        self._has_let_go = False
        self._baselines.clear()
        self._probes.clear()
        self._borne.clear()

    def _borne_now(self, beats: list[Beat]) -> list[Borne]:
        found = [(self._borne.get(beat.key), beat) for beat in beats]
        return [borne for borne, beat in found if borne and borne.grace.since_ns == beat.since_ns]

    def _forget_ended(self, beats: list[Beat], resumed_ns: int) -> None:
        """Silences that are over."""
        since_by_key = {beat.key: beat for beat in beats}
        for key, borne in tuple(self._borne.items()):
            beat = since_by_key.get(key)
            if beat and beat.since_ns == borne.grace.since_ns:
                continue
            del self._borne[key]
            if beat and beat.since_ns != resumed_ns:
                self._tell("beats-again", pulse=beat.pulse, cause=borne.cause.value)
        for gone in (self._baselines, self._probes):
            for key in set(gone) - set(since_by_key):
                del gone[key]

    def _take_baselines(self, pid: int, beats: list[Beat], now_ns: int) -> None:
        """Figures of the threads that have beaten since they were last taken; twice per interval at most."""
        due = []
        for beat in beats:
            known = self._baselines.get(beat.key)
            if known is None or (
                known.since_ns != beat.since_ns
                and (known.figures is None or 2 * (now_ns - known.figures.at_ns) >= beat.allowed_ns)
            ):
                due.append(beat)
        if not due:
            return
        throttled_ns = scheduling.throttled_ns(pid)
        for beat in due:
            figures = scheduling.read_figures(pid, beat.tid or pid, throttled_ns=throttled_ns)
            self._baselines[beat.key] = Baseline(beat.since_ns, figures)
        # Not that it mattered for a program that beats; but whoever reads the journal wants to know.
        found = tracer.find_tracer(pid, main_only=True)
        if found and not found.is_helper:
            self._notice(pid, found, beats, now_ns)

    def _bear(self, beat: Beat, cause: Cause, described: tuple[tuple[str, Any], ...], now_ns: int) -> bool:
        earlier = self._borne.get(beat.key)
        grace = lateness.grant(
            cause, earlier.grace if earlier else None, beat.since_ns, beat.allowed_ns, now_ns
        )
        if grace is None:
            return False
        details = dict(described)
        self._borne[beat.key] = Borne(grace, cause, details["because"])
        if cause is Cause.SUSPENDED:
            # One suspend is an excuse once; the next figures are from after it.
            self._baselines.pop(beat.key, None)
        self._tell(
            "starved" if cause.is_starvation else "beat-late",
            pulse=beat.pulse,
            tid=beat.tid,
            silent_s=round((now_ns - beat.since_ns) / NANOSECONDS, 6),
            allowed_s=beat.allowed_ns / NANOSECONDS,
            grace_s=round((grace.until_ns - now_ns) / NANOSECONDS, 6),
            **details,
        )
        return True

    # Debuggers.

    def _notice(self, pid: int, found: Tracer | None, beats: list[Beat], now_ns: int) -> None:
        """Compare who is attached with who was."""
        if found and found.is_helper:
            found = None
        if self.debugger and (found is None or found.pid != self.debugger.pid):
            self._detach()
        if found is None:
            return
        if not self.debugger:
            self._attach(pid, found, now_ns)
        shortest_ns = min((beat.allowed_ns for beat in beats), default=0)
        self.look_by_ns = now_ns + round(lateness.recheck_s(shortest_ns) * NANOSECONDS)

    def _attach(self, pid: int, found: Tracer, now_ns: int) -> None:
        self.debugger = found
        self._debugged_since_ns = now_ns
        self.look_by_ns = now_ns + round(lateness.recheck_s(0) * NANOSECONDS)
        self._tell("debugger-attached", pid=pid, debugger=describe_debugger(found))
        self._wait_for_end()

    def _wait_for_end(self) -> None:
        assert self.debugger is not None
        if self.debugger.pid:
            try:
                self._debugger_fd = os.pidfd_open(self.debugger.pid)
            except OSError:
                return  # it has gone already: seen at the next look
            self._loop.watch(self._debugger_fd, self._debugger_ended)

    def _debugger_ended(self, _: int) -> None:
        self._detach()
        self._look()

    def _detach(self) -> None:
        assert self.debugger is not None
        debugged_ns = clock.monotonic_ns() - self._debugged_since_ns
        self._tell(
            "debugger-detached",
            debugger=describe_debugger(self.debugger),
            for_s=round(debugged_ns / NANOSECONDS, 6),
        )
        if self._debugger_fd >= 0:
            self._loop.forget(self._debugger_fd)
            os.close(self._debugger_fd)
            self._debugger_fd = -1
        self.debugger = None
        self.look_by_ns = None
        self._has_let_go = True


def describe_debugger(found: Tracer) -> dict[str, Any]:
    """A debugger for the journal and the status: ``pid, comm, uid, user``."""
    described = fields_of(found)
    del described["is_helper"]
    return described


def _beat_of(late: Late, now_ns: int) -> Beat:
    return watchdog.Beat(late.pulse, late.tid, now_ns - late.silent_ns, late.allowed_ns)
