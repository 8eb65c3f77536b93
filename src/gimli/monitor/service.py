"""One service at runtime: kernel facts in, events to the machine, its actions carried out.

Nothing is decided here. A fact becomes an event (``judge_*`` of the machine picks between outcomes), the
machine answers with actions, and each action has one method below.
"""

from __future__ import annotations

import os
import signal
from collections import deque

from gimli import clock, heartbeat, process
from gimli.monitor import actions, events, machine, spawn, watchdog
from gimli.monitor.child import Child, State
from gimli.monitor.evidence import Outcome
from gimli.monitor.output import Output
from gimli.monitor.request import capture_request
from gimli.paths import unlink_if_there
from gimli.process import ExitStatus
from gimli.status import ServiceStatus
from gimli.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gimli.journal import Journal
    from gimli.monitor.config import Service
    from gimli.monitor.evidence import Evidence
    from gimli.monitor.loop import Deadline, Loop
    from gimli.monitor.spool import Spool

WATCHED = frozenset({State.STARTING, State.RUNNING})
_BEATS: dict[int, Callable[[], events.Event]] = {
    heartbeat.STARTING: events.BeatStarting,
    heartbeat.RUNNING: events.BeatRunning,
    heartbeat.STOPPING: events.BeatStopping,
}
_EXPIRED: dict[actions.Timer, Callable[[], events.Event]] = {
    actions.Timer.RESTART: events.RestartDue,
    actions.Timer.STOP: events.StopExpired,
    actions.Timer.HEALTHY: events.HealthySpell,
}


@value
class Site:
    """What the services of one monitor share."""

    loop: Loop
    journal: Journal
    evidence: Evidence
    state_dir: str
    instance_dir: str
    bell_path: str
    library: str | None
    descriptors: tuple[int, int]
    spawner: spawn.Spawner
    spool: Spool


class Supervised:
    """One service of a monitor.

    Args:
        config: what to run.
        site: what it shares with the others.
        on_change: called after each event that was handled.
    """

    def __init__(self, config: Service, site: Site, on_change: Callable[[Supervised], None]) -> None:
        self.config = config
        self.child = Child(config.policy)
        self.last_report: dict[str, Any] | None = None
        self.snapshot_failure = ""
        self.page = heartbeat.PageFile(os.path.join(site.instance_dir, f"{config.name}.page"))
        self.page.reset()
        fifo_path = os.path.join(site.instance_dir, f"{config.name}.out")
        self.output = (
            Output(fifo_path, config.log, self._tell, site.loop.after, site.spool)
            if config.log.file is not None
            else None
        )
        if self.output:
            site.loop.watch(self.output.fd, self.output.drain)
        self._site = site
        self._on_change = on_change
        self._spawned: spawn.Spawned | None = None
        self._started_ns = 0
        self._down_since_ns = 0
        self._memory = watchdog.Memory(0)
        self._answered_request = 0
        self._page_was_intact = True
        self._asked_by_signal = False
        self._capturing_pids: set[int] = set()
        self._capture_waiting: dict[str, Any] | None = None
        self._timers: dict[actions.Timer, Deadline] = {}
        self._look: Deadline | None = None
        self._events: deque[events.Event] = deque()

    # Facts in.

    def handle(self, event: events.Event) -> None:
        """Let the machine take an event; events that its actions cause follow in order."""
        self._events.append(event)
        if len(self._events) > 1:
            return
        try:
            while self._events:
                self.child, orders = machine.step(self.child, self._events[0])
                for order in orders:
                    self._carry_out(order)
                self._events.popleft()
        except BaseException:
            self._events.clear()  # one left in the queue would hold back all that follow, for ever
            raise
        self._watch()
        self._on_change(self)

    def look_at_page(self) -> None:
        """The program rang, or a deadline came: see what its page says."""
        if not self._spawned or self._spawned.exec_fd >= 0:
            return  # what stands there now is not yet the new program's
        now_ns = clock.monotonic_ns()
        page = self.page.read()
        self._check_intact(page)
        before = self._memory
        self._memory = watchdog.remember(before, page, now_ns)
        if self._memory.state != before.state and self._memory.state in _BEATS:
            self.handle(_BEATS[self._memory.state]())
        if page.crash and page.request != self._answered_request:
            self._answered_request = page.request
            self._crash_asked(page.crash)
        self._watch()

    def _crash_asked(self, crash: heartbeat.Crash) -> None:
        """The page names a pid, and a program may write any there: only its own descendants are captured."""
        assert self._spawned is not None
        if crash.pid == self._spawned.pid:
            self.handle(events.CrashReported(crash))
        elif process.belongs_to(crash.pid, self._spawned.pid):
            self.handle(events.WorkerCrashed(crash))
        else:
            self._tell("crash-refused", pid=crash.pid, why="it is not a descendant of the service")
            self.page.release()

    def stopped_itself(self) -> None:
        """The original library's crash protocol: USR2 to the monitor, then STOP to itself."""
        if not self._spawned or not self._asked_by_signal:
            return
        try:
            stopped = os.waitid(os.P_PIDFD, self._spawned.pidfd, os.WSTOPPED | os.WNOHANG)
        except ChildProcessError:
            return  # it has ended, and cannot stop any more; its exit is on its way
        if stopped is None:
            return
        self._asked_by_signal = False
        if self.child.state in {State.STARTING, State.RUNNING}:
            self.handle(events.CrashReported(None))
        else:
            self._kill(signal.SIGCONT)

    def crash_signalled(self) -> None:
        """USR2 from the program; its STOP may come before or after."""
        self._asked_by_signal = True
        self.stopped_itself()

    def beat_by_signal(self) -> None:
        """USR1 from the program: a beat, as the original's."""
        self.page.set_running(self.page.read().ticks + 1, clock.monotonic_ns())
        self.look_at_page()

    def send_signal(self, signo: int) -> None:
        """A signal that the operator asked for."""
        self._tell("sent", signal=process.signal_name(signo), pid=self.pid, because="the operator asked")
        self._kill(signo)

    @property
    def pid(self) -> int | None:
        """The main process, from fork to its end."""
        return self._spawned.pid if self._spawned else None

    def status(self) -> ServiceStatus:
        """The service as ``gimli ps`` shows it."""
        now_ns = clock.monotonic_ns()
        live = self._spawned is not None
        page = self.page.read()
        beat_ns = self._beat_ns(page)
        due = self._timers.get(actions.Timer.RESTART)
        return ServiceStatus(
            name=self.config.name,
            state=self.child.state.value,
            pid=self.pid,
            restarts=self.child.restarts,
            uptime_s=(now_ns - self._started_ns) / 1e9 if live else None,
            beat_age_s=(now_ns - beat_ns) / 1e9 if live and beat_ns else None,
            last_report=self.last_report,
            because=self.child.because,
            next_start_s=max(0.0, (due.at_ns - now_ns) / 1e9)
            if due and self.child.state is State.BACKOFF
            else None,
            note=page.note if live else "",
            log=self.config.log.file,
        )

    def reopen_log(self) -> None:
        """HUP: logrotate has renamed the file."""
        if self.output:
            self.output.file.reopen()

    def close(self) -> None:
        """Release everything, and take the service's files out of the runtime directory."""
        for deadline in self._timers.values():
            deadline.cancel()
        if self.output:
            self._site.loop.forget(self.output.fd)
            self.output.close()
        self.page.close()
        unlink_if_there(self.page.path)

    def _beat_ns(self, page: heartbeat.Page) -> int:
        stamps = [page.beat_ns, self._memory.beat_ns, *(pulse.beat_ns for pulse in page.pulses)]
        return max((stamp for stamp in stamps if stamp <= clock.monotonic_ns()), default=0)

    def _check_intact(self, page: heartbeat.Page) -> None:
        if self._page_was_intact and not page.intact:
            self._tell(
                "heartbeat-damaged",
                what="the program has overwritten its heartbeat page",
                why="the page's magic number or version is gone",
                fix="its watchdog is off until it is restarted; look for a stray pointer into the page",
            )
        self._page_was_intact = page.intact

    def _exec_decided(self, _: int = 0) -> None:
        assert self._spawned is not None
        spawned = self._spawned
        why = os.read(spawned.exec_fd, 1000).decode(errors="replace")
        self._site.loop.forget(spawned.exec_fd)
        os.close(spawned.exec_fd)
        self._spawned = replace(spawned, exec_fd=-1)
        if why:
            self._collect()
            self.handle(machine.judge_spawn_failure(self.child, why))
            return
        self.handle(events.Executed(spawned.pid))
        self.look_at_page()

    def _exited(self, _: int) -> None:
        assert self._spawned is not None
        if self._spawned.exec_fd >= 0:
            self._exec_decided()
            if self._spawned is None:
                return
        status = self._collect()
        self.handle(machine.judge_end(self.child, status))

    def _collect(self) -> ExitStatus:
        """Reap the process that has ended, or is about to after a failed exec."""
        assert self._spawned is not None
        ended = os.waitid(os.P_PIDFD, self._spawned.pidfd, os.WEXITED)
        assert ended is not None
        self._site.loop.forget(self._spawned.pidfd)
        os.close(self._spawned.pidfd)
        self._spawned = None
        self._down_since_ns = clock.monotonic_ns()
        if self.output:
            self.output.drain()
        return ExitStatus.from_waitid(ended.si_code, ended.si_status)

    def _released(self, pid: int) -> None:
        """A capture is over, and the process it was of may go on; or is already another one."""
        self._capturing_pids.discard(pid)
        waiting = self._capture_waiting
        if waiting and waiting["pid"] == pid:
            self._capture_waiting = None
            self._capture_now(waiting)
            return
        if pid != self.pid:
            return
        self._memory = replace(self._memory, resumed_ns=clock.monotonic_ns())
        if self.child.reason == "crash" and self.page.read().library == heartbeat.LIBRARY_NONE:
            self._kill(signal.SIGCONT)
        self.handle(machine.judge_release(self.child))

    # Orders out.

    def _carry_out(self, order: actions.Action) -> None:
        match order:
            case actions.Spawn():
                self._spawn()
            case actions.Signal(signo=signo, because=because, group=group):
                self._tell("sent", signal=process.signal_name(signo), pid=self.pid, because=because)
                self._kill(signo, group=group)
            case actions.Capture(reason=reason, crash=crash, hang=hang):
                self._capture(reason, crash, hang)
            case actions.CaptureWorker(crash=crash):
                self._capture_now(self._request("crash", crash.pid, crash=crash))
            case actions.RecordDeath(signo=signo):
                self._capture_now(self._request("crash", 0, signo=signo))
            case actions.LetGo():
                self.page.die_at_once()
                if self._asked_by_signal:
                    self._kill(signal.SIGCONT)
            case actions.Arm(timer=timer, delay_s=delay_s):
                self._arm(timer, delay_s)
            case actions.Disarm(timer=timer):
                self._disarm(timer)
            case actions.Tell(event=event, details=details):
                self._tell(event, **dict(details))

    def _tell(self, event: str, **details: Any) -> None:
        if event == "started" and self._down_since_ns and self.child.restarts:
            down_ns = clock.monotonic_ns() - self._down_since_ns
            details["after_ms"] = round(down_ns / 1e6, 3)
        self._site.journal.record(event, self.config.name, **details)

    def _arm(self, timer: actions.Timer, delay_s: float) -> None:
        self._disarm(timer)
        made = _EXPIRED[timer]
        self._timers[timer] = self._site.loop.after(delay_s, lambda: self.handle(made()))

    def _disarm(self, timer: actions.Timer) -> None:
        if deadline := self._timers.pop(timer, None):
            deadline.cancel()

    def _spawn(self) -> None:
        assert self._spawned is None, "a second instance"
        self._answered_request = 0
        self._page_was_intact = True
        self._asked_by_signal = False
        self._started_ns = clock.monotonic_ns()
        self._memory = watchdog.Memory(self._started_ns)
        around = spawn.Surroundings(
            self.page.fd,
            self.output.fifo_path if self.output else None,
            self._site.bell_path,
            self._site.library,
            self._site.descriptors,
        )
        try:
            self.page.reset()
            self._spawned = self._site.spawner.spawn(self.config, around)
        except OSError as error:
            why = f"cannot start: {error.strerror or error}"
            self._events.append(machine.judge_spawn_failure(self.child, why))
            return
        self._site.loop.watch(self._spawned.exec_fd, self._exec_decided)
        self._site.loop.watch(self._spawned.pidfd, self._exited)

    def _kill(self, signo: int, *, group: bool = False) -> None:
        if not self._spawned:
            return
        try:
            if group:
                self._kill_group(signo)
            signal.pidfd_send_signal(self._spawned.pidfd, signo)
        except ProcessLookupError:
            pass  # it has ended by itself; its exit is on its way
        except PermissionError:
            why = "it runs as another user"
            self._tell("not-sent", signal=process.signal_name(signo), pid=self.pid, why=why)

    def _kill_group(self, signo: int) -> None:
        assert self._spawned is not None
        try:
            os.killpg(self._spawned.pid, signo)
        except (ProcessLookupError, PermissionError):
            return  # before its setsid it has no group; and it may hold processes of other users

    def _capture(self, reason: str, crash: heartbeat.Crash | None, hang: events.HeartbeatLate | None) -> None:
        assert self._spawned is not None
        request = self._request(reason, self._spawned.pid, crash=crash, hang=hang)
        if self._spawned.pid in self._capturing_pids:
            self._capture_waiting = request
        else:
            self._capture_now(request)

    def _capture_now(self, request: dict[str, Any]) -> None:
        self.snapshot_failure = ""
        pid = request["pid"]
        self._capturing_pids.add(pid)
        outcome = Outcome(lambda: self._released(pid), self._report_known, self._snapshot_failed)
        self._site.evidence.capture(request, outcome)

    def _report_known(self, report: dict[str, Any]) -> None:
        self.last_report = report
        self._on_change(self)

    def _snapshot_failed(self, why: str) -> None:
        self.snapshot_failure = why
        self._on_change(self)

    def _request(self, reason: str, pid: int, **what: Any) -> dict[str, Any]:
        if self.output:
            self.output.flush()
        return capture_request(
            self.config,
            self.child,
            state_dir=self._site.state_dir,
            reason=reason,
            pid=pid,
            page=self.page.read(),
            page_path=self.page.path,
            output=self.output.file.tail() if self.output else [],
            journal=self._site.journal.recent(self.config.name),
            **what,
        )

    def _watch(self) -> None:
        """Sleep until the next beat is due; look at it now if that has passed."""
        if self._look:
            self._look.cancel()
            self._look = None
        if self.child.state not in WATCHED or not self._spawned or self._spawned.exec_fd >= 0 or self._events:
            return
        now_ns = clock.monotonic_ns()
        page = self.page.read()
        intervals = self.config.policy.intervals
        memory = watchdog.remember(self._memory, page, now_ns)
        if memory.state != self._memory.state:
            # It has changed since it was looked at: that is news for the machine, in the next round.
            self._look = self._site.loop.at(now_ns, self.look_at_page)
            return
        self._memory = memory
        verdict = watchdog.look(self._memory, page, intervals, now_ns)
        if isinstance(verdict, watchdog.Late):
            self.handle(_late(verdict))
            return
        times = [
            watchdog.must_look_by(self._memory, page, intervals, now_ns),
            verdict.at_ns if verdict else None,
        ]
        if due := [at_ns for at_ns in times if at_ns is not None]:
            self._look = self._site.loop.at(min(due), self.look_at_page)


def _late(verdict: watchdog.Late) -> events.HeartbeatLate:
    return events.HeartbeatLate(
        pulse=verdict.pulse,
        tid=verdict.tid,
        silent_s=verdict.silent_ns / 1e9,
        allowed_s=verdict.allowed_ns / 1e9,
        late_ms=verdict.late_ns / 1e6,
    )
