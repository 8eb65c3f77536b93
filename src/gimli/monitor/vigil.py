"""What does a service's page say, and when must it be looked at next?

    bell, deadline --> look --> a beat, a crash          (events, for the machine)
                       watch -> a hang, or a deadline    (``watchdog`` says when, ``patience`` what is borne)

It sleeps until a beat is due: nothing is polled.
"""

from __future__ import annotations

from gimli import heartbeat
from gimli.monitor import events, packing, watchdog
from gimli.monitor.patience import describe_debugger
from gimli.value import plain, replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gimli.loop import Deadline
    from gimli.monitor.config import Intervals
    from gimli.monitor.site import Site
    from gimli.monitor.spawned import Spawned

_BEATS: dict[int, Callable[[], events.Event]] = {
    heartbeat.STARTING: events.BeatStarting,
    heartbeat.RUNNING: events.BeatRunning,
    heartbeat.STOPPING: events.BeatStopping,
}


@value
class Sight:
    """What is seen of a program that runs, for the status."""

    beat_ns: int
    """The last beat of all; 0: none was seen."""
    note: str
    debugger: dict[str, Any] | None
    starved: bool
    late: str


class Vigil:
    """The watch over one service's page.

    Args:
        site: what the services of a monitor share.
        page: the page.
        tell: writes an event of this service to the journal.
        wake: called when it is time to look.
        packed: what :meth:`pack` has made, in the image of the monitor before this one.
    """

    __slots__ = (
        "_answered_request", "_kernel", "_look", "_loop", "_memory", "_page", "_page_was_intact", "_patience",
        "_tell", "_wake",
    )  # fmt: skip

    def __init__(
        self,
        site: Site,
        page: heartbeat.PageFile,
        tell: Callable[..., None],
        wake: Callable[[], None],
        packed: dict[str, Any] | None = None,
    ) -> None:
        self._kernel = site.kernel
        self._loop = site.loop
        self._page = page
        self._tell = tell
        self._wake = wake
        self._look: Deadline | None = None
        self._memory = packing.unpack_memory(packed["memory"]) if packed else watchdog.Memory(0)
        self._answered_request: int = packed["answered_request"] if packed else 0
        self._page_was_intact: bool = packed["page_was_intact"] if packed else True
        patience = packed["patience"] if packed else None
        self._patience = site.kernel.patience(site.loop, tell, wake, patience)

    def begin(self, now_ns: int) -> None:
        """An instance starts, or was adopted: nothing is known of its page."""
        self._memory = watchdog.Memory(now_ns)
        self._answered_request = 0
        self._page_was_intact = True

    def end(self) -> None:
        """The instance has ended: what was borne with it is of no use for the next."""
        self._patience.forget()

    def look(self, page: heartbeat.Page) -> events.Event | None:
        """Take notice of what stands in the page; the event when the program has come into another phase."""
        self._check_intact(page)
        before = self._memory
        self._memory = watchdog.remember(before, page, self._kernel.now_ns())
        is_beat = self._memory.state != before.state and self._memory.state in _BEATS
        return _BEATS[self._memory.state]() if is_beat else None

    def new_crash(self, page: heartbeat.Page) -> heartbeat.Crash | None:
        """The record of a crash handler that waits, once."""
        if not page.crash or page.request == self._answered_request:
            return None
        self._answered_request = page.request
        return page.crash

    def rest(self) -> None:
        """Nothing is to be watched."""
        if self._look:
            self._look.cancel()
            self._look = None

    def watch(self, spawned: Spawned, intervals: Intervals) -> events.HeartbeatLate | None:
        """Sleep until the next beat is due; the hang when that has passed and is not to be borne."""
        now_ns = self._kernel.now_ns()
        due_ns = self._look.at_ns if self._look else now_ns
        self.rest()
        page = self._page.read()
        memory = watchdog.remember(self._memory, page, now_ns)
        if memory.state != self._memory.state:
            # It has changed since it was looked at: that is news for the machine, in the next round.
            self._look = self._loop.at(now_ns, self._wake)
            return None
        self._memory = memory
        patience, pid = self._patience, spawned.pid
        beats = watchdog.expected(memory, page, intervals, now_ns)
        if patience.look(pid, beats, resumed_ns=memory.resumed_ns, now_ns=now_ns):
            self._memory = memory = replace(memory, resumed_ns=now_ns)
        verdict = None
        while not patience.debugger:
            verdict = watchdog.look(memory, page, intervals, now_ns, patience.graces)
            if not isinstance(verdict, watchdog.Late):
                break
            if hang := patience.judge(verdict, pid, spawned.pidfd, due_ns=due_ns, now_ns=now_ns):
                return hang
        times = [
            watchdog.must_look_by(memory, page, intervals, now_ns),
            verdict.at_ns if isinstance(verdict, watchdog.Due) else None,
            patience.look_by_ns,
        ]
        if due := [at_ns for at_ns in times if at_ns is not None]:
            self._look = self._loop.at(min(due), self._wake)
        return None

    def resume(self) -> bool:
        """The program goes on after it was stopped for a snapshot; whether it was still starting."""
        self._memory = replace(self._memory, resumed_ns=self._kernel.now_ns())
        return self._memory.state == heartbeat.STARTING

    @property
    def was_stopped(self) -> bool:
        """A beat was last seen to be late because a signal had stopped the program."""
        return self._patience.was_stopped

    def defers_kill(self, pid: int) -> float:
        """Seconds to wait before it is asked again whether the program may be killed; 0: it may."""
        return self._patience.defers_kill(pid)

    def sight(self, pid: int, intervals: Intervals) -> Sight:
        """What is seen now."""
        now_ns = self._kernel.now_ns()
        page = self._page.read()
        stamps = [page.beat_ns, self._memory.beat_ns, *(pulse.beat_ns for pulse in page.pulses)]
        beats = watchdog.expected(self._memory, page, intervals, now_ns)
        debugger = self._patience.debugger_now(pid)
        return Sight(
            beat_ns=max((stamp for stamp in stamps if stamp <= now_ns), default=0),
            note=page.note,
            debugger=describe_debugger(debugger) if debugger else None,
            starved=self._patience.is_starved(beats),
            late=self._patience.because(beats),
        )

    def pack(self) -> dict[str, Any]:
        """What the next image of the monitor must know."""
        return {
            "memory": plain(self._memory),
            "answered_request": self._answered_request,
            "page_was_intact": self._page_was_intact,
            "patience": self._patience.pack(),
        }

    def _check_intact(self, page: heartbeat.Page) -> None:
        if self._page_was_intact and not page.intact:
            self._tell(
                "heartbeat-damaged",
                what="the program has overwritten its heartbeat page",
                why="the page's magic number or version is gone",
                fix="its watchdog is off until it is restarted; look for a stray pointer into the page",
            )
        self._page_was_intact = page.intact
