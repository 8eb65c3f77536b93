"""One service at runtime: kernel facts in, events to the machine, its actions carried out.

Nothing is decided here. A fact becomes an event (``judge_*`` of the machine picks between outcomes), the
machine answers with actions, and each action has one method below.
"""

from __future__ import annotations

import os
from collections import deque

from gimli import heartbeat, process
from gimli.monitor import actions, adoption, events, machine, packing, spawn, watchdog
from gimli.monitor.child import Child, State
from gimli.monitor.config import Log
from gimli.monitor.snapshots import Snapshots
from gimli.monitor.spawned import Spawned
from gimli.process import ExitStatus
from gimli.status import ServiceStatus
from gimli.value import plain, replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gimli.journal import Journal
    from gimli.monitor.config import Service
    from gimli.monitor.evidence import Evidence
    from gimli.monitor.kernel import Kernel
    from gimli.monitor.loop import Deadline, Loop
    from gimli.monitor.output import Output
    from gimli.process import ProcessId

HANGUP = 0x10  # EPOLLHUP
_REAPER_PATIENCE_S = 1.0
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

    kernel: Kernel
    loop: Loop
    journal: Journal
    evidence: Evidence
    state_dir: str
    instance_dir: str
    bell_path: str
    library: str | None
    descriptors: tuple[int, int]


class Supervised:
    """One service of a monitor.

    Args:
        config: what to run.
        site: what it shares with the others.
        on_change: called after each event that was handled.
        packed: what :meth:`pack` has made, in the image of the monitor before this one.
    """

    def __init__(
        self,
        config: Service,
        site: Site,
        on_change: Callable[[Supervised], None],
        packed: dict[str, Any] | None = None,
    ) -> None:
        self.config = config
        self.child = Child(config.policy)
        self.snapshots = Snapshots(site.evidence, self._released, self._snapshot_news)
        self._site = site
        self._kernel = site.kernel
        self._on_change = on_change
        self._spawned: Spawned | None = None
        self._record_path = os.path.join(site.instance_dir, f"{config.name}.run")
        self.is_uncertain = False
        self._started_ns = 0
        self._down_since_ns = 0
        self._memory = watchdog.Memory(0)
        self._answered_request = 0
        self._page_was_intact = True
        self._asked_by_signal = False
        self._timers: dict[actions.Timer, Deadline] = {}
        self._look: Deadline | None = None
        self._events: deque[events.Event] = deque()
        fds = packed["fds"] if packed else {}
        page_path = os.path.join(site.instance_dir, f"{config.name}.page")
        self.page = self._kernel.open_page(page_path, fds.get("page"))
        self._log = config.log
        self.output: Output | None = None
        if packed and config.log.file is None:
            self._log = Log(**packed["log"])  # the program that runs writes there; the next inherits
        if "output" in fds or not packed:  # else it is opened for the next program, which can wait
            try:
                self._open_output(fds.get("output"))
            except OSError:
                self.page.close()
                raise
        if packed:
            self._restore(packed)

    # Another monitor was here before.

    def find_survivor(self, marked: dict[str, list[ProcessId]]) -> None:
        """Adopt the instance that a dead monitor left, if there is one.

        Args:
            marked: processes that may be instances, by service; from ``Kernel.marked``.
        """
        record = self._kernel.read_record(self._record_path)
        pidfd = None
        try:
            living = self._kernel.identify(record.process.pid) if record.process else None
            verdict = adoption.judge(
                record, self._kernel.boot_id, living, marked.get(self.config.name, ()), self._record_path
            )
            if isinstance(verdict, adoption.Adopt):
                pidfd = self._kernel.pidfd_of(verdict.process)
        except OSError as error:
            # No descriptor, no memory: that says nothing of the process, which may live.
            why = f"a copy may still run, it cannot be seen: {error.strerror}"
            verdict = adoption.Refuse(f"{why}; then, once more: gimli start {self.config.name}")
        self.is_uncertain = isinstance(verdict, adoption.Refuse)
        match verdict:
            case adoption.Adopt(process=found) if pidfd is not None:
                if record.process != found:
                    self._kernel.write_running(self._record_path, found)
                self._adopt(found, pidfd)
            case adoption.Adopt(process=found):
                self._tell("ended-unseen", pid=found.pid, why="it has ended this instant")
            case adoption.Refuse(why=why):
                self.handle(events.AdoptionRefused(why))
            case adoption.Start(because=because):
                if record.process:
                    self._tell("ended-unseen", pid=record.process.pid, why=because)

    def _adopt(self, found: ProcessId, pidfd: int) -> None:
        self._spawned = Spawned(found.pid, pidfd, -1, adopted=True)
        self._started_ns = self._kernel.started_ns(found)
        self._memory = watchdog.Memory(self._kernel.now_ns())
        self._site.loop.watch(pidfd, self._exited)
        self.handle(events.Adopted(found.pid))
        self.look_at_page()

    def start(self) -> None:
        """It is wanted up. Where a copy may still run, that is looked at once more."""
        if self.is_uncertain:
            self.find_survivor(self._kernel.marked(self._site.bell_path))
        if not self.is_uncertain:
            self.handle(events.StartWanted())

    def pack(self) -> dict[str, Any]:
        """What the next image of the monitor must know of this service; its descriptors by number."""
        assert not self._events, "in the middle of an event"
        return {
            "config": plain(self.config),
            "log": plain(self._log),
            "child": packing.pack_child(self.child),
            "spawned": plain(self._spawned),
            "memory": plain(self._memory),
            "timers": {timer.value: deadline.at_ns for timer, deadline in self._timers.items()},
            "snapshots": self.snapshots.pack(),
            "fds": {"page": self.page.fd} | ({"output": self.output.fd} if self.output else {}),
            "started_ns": self._started_ns,
            "down_since_ns": self._down_since_ns,
            "answered_request": self._answered_request,
            "page_was_intact": self._page_was_intact,
            "asked_by_signal": self._asked_by_signal,
            "is_uncertain": self.is_uncertain,
        }

    def descriptors(self) -> list[int]:
        """Those that the next image of the monitor must inherit."""
        fds = [self.page.fd, *([self.output.fd] if self.output else [])]
        if self._spawned:
            fds += [fd for fd in (self._spawned.pidfd, self._spawned.exec_fd) if fd >= 0]
        return fds

    def _restore(self, packed: dict[str, Any]) -> None:
        self.child = packing.unpack_child(packed["child"], self.config.policy)
        self._spawned = packing.unpack_spawned(packed["spawned"])
        self._memory = packing.unpack_memory(packed["memory"])
        self.snapshots.restore(packed["snapshots"])
        self._started_ns = packed["started_ns"]
        self._down_since_ns = packed["down_since_ns"]
        self._answered_request = packed["answered_request"]
        self._page_was_intact = packed["page_was_intact"]
        self._asked_by_signal = packed["asked_by_signal"]
        self.is_uncertain = packed["is_uncertain"]
        if self._spawned:
            self._watch_process(self._spawned)
        for name, at_ns in packed["timers"].items():
            self._arm_at(actions.Timer(name), at_ns)

    def resume(self) -> None:
        """After a takeover, with all services there: see what has happened meanwhile."""
        self.look_at_page()
        self._watch()

    def retire(self) -> None:
        """The configuration does not name it any more."""
        self._tell("retired", why="gimli.toml does not name it any more")
        self.handle(events.StopWanted("gimli.toml does not name it any more"))

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
        now_ns = self._kernel.now_ns()
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
        elif self._kernel.belongs_to(crash.pid, self._spawned.pid):
            self.handle(events.WorkerCrashed(crash))
        else:
            self._tell("crash-refused", pid=crash.pid, why="it is not a descendant of the service")
            self.page.release()

    def stopped_itself(self) -> None:
        """The original library's crash protocol: USR2 to the monitor, then STOP to itself."""
        if not self._spawned or not self._asked_by_signal or self._spawned.exec_fd >= 0:
            return  # a monitor that was late hears of its signal first: once more when its exec is known
        if not self._kernel.is_stopped_child(self._spawned.pidfd):
            return
        self._asked_by_signal = False
        if self.child.state in {State.STARTING, State.RUNNING}:
            self.handle(events.CrashReported(None))
        else:
            self._kill(process.Signals.SIGCONT)

    def crash_signalled(self) -> None:
        """USR2 from the program; its STOP may come before or after."""
        self._asked_by_signal = True
        self.stopped_itself()

    def beat_by_signal(self) -> None:
        """USR1 from the program: a beat, as the original's."""
        self.page.set_running(self.page.read().ticks + 1, self._kernel.now_ns())
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
        now_ns = self._kernel.now_ns()
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
            last_report=self.snapshots.last_report,
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

    def _open_output(self, fd: int | None = None) -> None:
        if self._log.file is None:
            return
        fifo_path = os.path.join(self._site.instance_dir, f"{self.config.name}.out")
        self.output = self._kernel.open_output(fifo_path, self._log, fd, self._output_lost)
        self._site.loop.watch(self.output.fd, self.output.drain)

    def close(self) -> None:
        """Release everything, and take the service's files out of the runtime directory.

        A record that leaves it open whether a copy runs stays: it is all that holds the next monitor off.
        """
        for deadline in self._timers.values():
            deadline.cancel()
        self._close_output()
        self.page.close()
        for path in () if self.is_uncertain else (self.page.path, self._record_path):
            self._kernel.remove(path)

    def _close_output(self) -> None:
        if self.output:
            self._site.loop.forget(self.output.fd)
            self.output.close()
            self.output = None

    def _output_lost(self) -> None:
        self._tell(
            "output-lost",
            what=f"cannot write {self._log.file}",
            why="the disk is full, or it cannot be opened",
            fix="the program goes on; what it writes is lost until there is room (df, ls -l)",
        )

    def _beat_ns(self, page: heartbeat.Page) -> int:
        stamps = [page.beat_ns, self._memory.beat_ns, *(pulse.beat_ns for pulse in page.pulses)]
        return max((stamp for stamp in stamps if stamp <= self._kernel.now_ns()), default=0)

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
        why = self._kernel.exec_failure(spawned.exec_fd)
        self._site.loop.forget(spawned.exec_fd)
        self._kernel.close(spawned.exec_fd)
        self._spawned = replace(spawned, exec_fd=-1)
        if why:
            self._kernel.collect(spawned.pidfd)
            self._collected()
            self.handle(machine.judge_spawn_failure(self.child, why))
            self._record_end()
            return
        self.handle(events.Executed(spawned.pid))
        self.look_at_page()
        self.stopped_itself()

    def _exited(self, what: int = 0) -> None:
        assert self._spawned is not None
        if self._spawned.exec_fd >= 0:
            self._exec_decided()
            if self._spawned is None:
                return
        if self._spawned.adopted:
            self._stranger_exited(self._spawned, is_reaped=bool(what & HANGUP))
        else:
            self._ended(self._kernel.collect(self._spawned.pidfd))

    def _stranger_exited(self, spawned: Spawned, *, is_reaped: bool) -> None:
        """An adopted process is another's child: its status is read, not waited for."""
        status = self._kernel.status_of_stranger(spawned.pid, spawned.pidfd)
        if status or is_reaped:
            self._ended(status or ExitStatus())
            return
        # A zombie whose status is not ours to read. Its pidfd hangs up when it is reaped (since Linux 6.9).
        self._site.loop.change(spawned.pidfd, 0)
        self._site.loop.after(_REAPER_PATIENCE_S, lambda: self._give_up_on(spawned))

    def _give_up_on(self, spawned: Spawned) -> None:
        if self._spawned is spawned:
            self._ended(ExitStatus())

    def _ended(self, status: ExitStatus) -> None:
        self._collected()
        self.handle(machine.judge_end(self.child, status))
        self._record_end()

    def _record_end(self) -> None:
        """After the journal: a monitor that is killed in between leaves it to the next one to tell."""
        if self._spawned is None:
            self._kernel.write_down(self._record_path)

    def _collected(self) -> None:
        """Forget the process that has ended."""
        assert self._spawned is not None
        self._site.loop.forget(self._spawned.pidfd)
        self._kernel.close(self._spawned.pidfd)
        self._spawned = None
        self._down_since_ns = self._kernel.now_ns()
        if self.output:
            self.output.drain()

    def _released(self, pid: int) -> None:
        """No capture of ``pid`` is under way any more; it may be the service's, or already another one."""
        if pid != self.pid:
            return
        self._memory = replace(self._memory, resumed_ns=self._kernel.now_ns())
        if self.child.reason == "crash" and self.page.read().library == heartbeat.LIBRARY_NONE:
            self._kill(process.Signals.SIGCONT)
        self.handle(machine.judge_release(self.child))

    def _snapshot_news(self) -> None:
        if not self._events:  # in the middle of one its end tells; who is told may close this service
            self._on_change(self)

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
                self.snapshots.take(self._request("crash", crash.pid, crash=crash))
            case actions.RecordDeath(signo=signo):
                self.snapshots.take(self._request("crash", 0, signo=signo))
            case actions.LetGo():
                self.page.die_at_once()
                if self._asked_by_signal:
                    self._kill(process.Signals.SIGCONT)
            case actions.Arm(timer=timer, delay_s=delay_s):
                self._arm_at(timer, self._kernel.now_ns() + round(delay_s * 1e9))
            case actions.Disarm(timer=timer):
                self._disarm(timer)
            case actions.Tell(event=event, details=details):
                self._tell(event, **dict(details))

    def _tell(self, event: str, **details: Any) -> None:
        if event == "started" and self._down_since_ns and self.child.restarts:
            down_ns = self._kernel.now_ns() - self._down_since_ns
            details["after_ms"] = round(down_ns / 1e6, 3)
        self._site.journal.record(event, self.config.name, **details)

    def _arm_at(self, timer: actions.Timer, at_ns: int) -> None:
        self._disarm(timer)
        self._timers[timer] = self._site.loop.at(at_ns, lambda: self._expired(timer))

    def _expired(self, timer: actions.Timer) -> None:
        del self._timers[timer]
        self.handle(_EXPIRED[timer]())

    def _disarm(self, timer: actions.Timer) -> None:
        if deadline := self._timers.pop(timer, None):
            deadline.cancel()

    def _spawn(self) -> None:
        assert self._spawned is None, "a second instance"
        self._answered_request = 0
        self._page_was_intact = True
        self._asked_by_signal = False
        self._started_ns = self._kernel.now_ns()
        self._memory = watchdog.Memory(self._started_ns)
        try:
            self._settle_output()
            around = spawn.Surroundings(
                self.page.fd,
                self.output.fifo_path if self.output else None,
                self._site.bell_path,
                self._site.library,
                self._site.descriptors,
            )
            self.page.reset()
            self._spawned = self._kernel.spawn(self.config, around, self._record_path)
        except OSError as error:
            why = f"cannot start: {error.strerror or error}"
            self._events.append(machine.judge_spawn_failure(self.child, why))
            return
        self._watch_process(self._spawned)

    def _settle_output(self) -> None:
        """Where the output goes may have changed by a takeover, while the program before wrote on.

        Raises:
            OSError: there is no room for a FIFO.
        """
        self._log = self.config.log
        if self._log.file is None:
            self._close_output()
        elif self.output is None:
            self._open_output()

    def _watch_process(self, spawned: Spawned) -> None:
        if spawned.exec_fd >= 0:
            self._site.loop.watch(spawned.exec_fd, self._exec_decided)
        self._site.loop.watch(spawned.pidfd, self._exited)

    def _kill(self, signo: int, *, group: bool = False) -> None:
        if not self._spawned:
            return
        try:
            if group:
                self._kernel.signal_group(self._spawned.pid, signo)
            self._kernel.send_signal(self._spawned.pidfd, signo)
        except ProcessLookupError:
            pass  # it has ended by itself; its exit is on its way
        except PermissionError:
            why = "it runs as another user"
            self._tell("not-sent", signal=process.signal_name(signo), pid=self.pid, why=why)

    def _capture(self, reason: str, crash: heartbeat.Crash | None, hang: events.HeartbeatLate | None) -> None:
        assert self._spawned is not None
        self.snapshots.take(self._request(reason, self._spawned.pid, crash=crash, hang=hang))

    def _request(self, reason: str, pid: int, **what: Any) -> dict[str, Any]:
        if self.output:
            self.output.drain()
        return self._kernel.capture_request(
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
        now_ns = self._kernel.now_ns()
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
