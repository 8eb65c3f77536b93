"""One service at runtime: kernel facts in, events to the machine, its actions carried out.

Nothing is decided here. A fact becomes an event (``judge_*`` of the machine picks between outcomes), the
machine answers with actions, and each action has one method below.
"""

from __future__ import annotations

import os
from collections import deque

from gimli import heartbeat, process
from gimli.monitor import actions, adoption, events, machine, packing, spawn, watchdog
from gimli.monitor.aftermath import Aftermath
from gimli.monitor.autopsy import Autopsy
from gimli.monitor.child import Child, State, Wish
from gimli.monitor.config import Log
from gimli.monitor.original_library import is_in_fault_handler
from gimli.monitor.patience import describe_debugger
from gimli.monitor.signs import Signs, Subject
from gimli.monitor.snapshots import Snapshots
from gimli.monitor.spawned import Spawned
from gimli.process import ExitStatus, Signals
from gimli.status import ServiceStatus
from gimli.value import plain, replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gimli.journal import Journal
    from gimli.loop import Deadline, Loop
    from gimli.monitor.config import Service
    from gimli.monitor.deaths import Death, Records
    from gimli.monitor.evidence import Evidence
    from gimli.monitor.kernel import Kernel
    from gimli.monitor.leftovers import Survey
    from gimli.monitor.notify_socket import NotifySocket
    from gimli.monitor.output import Output
    from gimli.monitor.senders import Senders
    from gimli.process import ProcessId

HANGUP = 0x10  # EPOLLHUP
_REAPER_PATIENCE_S = 1.0
_RECORD_DELAY_S = 0.02
WATCHED = frozenset({State.STARTING, State.RUNNING})
_GONE = frozenset({State.DOWN, State.FAILED})
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
    senders: Senders
    records: Records
    notify: NotifySocket


class Supervised:
    """One service of a monitor.

    Args:
        config: what to run.
        site: what it shares with the others.
        on_change: called after each event that was handled.
        packed: what :meth:`pack` has made, in the image of the monitor before this one.
    """

    # A monitor has a thousand of these, and an instance's own dictionary would be 3 kB.
    __slots__ = (
        "_aftermath", "_answered_request", "_asked_by_signal", "_autopsy", "_down_since_ns", "_ended_with",
        "_events", "_kernel", "_log", "_look", "_memory", "_on_change", "_page_was_intact", "_patience",
        "_record_path", "_site", "_spawned", "_started_ns", "_timers", "child", "config", "is_uncertain",
        "output", "page", "records_due", "signs", "snapshots", "start_waits",
    )  # fmt: skip

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
        self._ended_with: ExitStatus | None = None
        """How the main process ended, while what it has left behind is being stopped."""
        self._aftermath = Aftermath(config.name, site, self._tree_ended)
        self.start_waits = False
        """It is to be started as soon as what a dead monitor's instance left behind is gone."""
        self._autopsy = Autopsy(site.senders)
        self.records_due: list[tuple[int, int, Death]] = []
        """Deaths that are to be recorded in a moment: the monitor must not end before."""
        self._timers: dict[actions.Timer, Deadline] = {}
        self._look: Deadline | None = None
        self._patience = self._kernel.patience(
            site.loop, self._tell, self.look_at_page, packed["patience"] if packed else None
        )
        self._events: deque[events.Event] = deque()
        page_path = os.path.join(site.instance_dir, f"{config.name}.page")
        self.page = self._kernel.open_page(page_path, packed["page_fd"] if packed else None)
        self._log = config.log
        self.output: Output | None = None
        if packed and config.log.file is None:
            self._log = Log(**packed["log"])  # the program that runs writes there; the next inherits
        if not packed or packed["output"]:  # else it is opened for the next program, which can wait
            try:
                self._open_output(packed["output"] if packed else None)
            except OSError:
                self.page.close()
                raise
        subject = Subject(
            config=config,
            page=self.page,
            loop=site.loop,
            notify_path=site.notify.path,
            state=lambda: self.child.state,
            handle=self.handle,
            look=self.look_at_page,
            tell=self._tell,
            extend_stop=self._extend_stop,
            change_main=self._change_main,
            settle=self._settle_exec,
            start_command=self._start_command,
        )
        self.signs = Signs.unpack(subject, packed["signs"]) if packed else Signs(subject)
        if packed:
            self._restore(packed)

    # Another monitor was here before.

    def find_survivor(self, survey: Survey | None) -> None:
        """Adopt the instance that a dead monitor left, if there is one.

        Args:
            survey: of the processes that may be instances; None where every record is certain.
        """
        record = self._kernel.read_record(self._record_path)
        pidfd = None
        try:
            found = self._kernel.identify(record.process.pid) if record.process else None
            marked = self._kernel.living(survey.leaders(self.config.name)) if survey else []
            verdict = adoption.judge(record, self._kernel.boot_id, found, marked, self._record_path)
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
                if record.process and record.boot_id == self._kernel.boot_id:
                    # What it left behind must not meet the next instance.
                    self._clear(Spawned(record.process.pid, -1, -1, adopted=True))

    def _adopt(self, found: ProcessId, pidfd: int) -> None:
        grouped = self._kernel.is_grouped(self.config.name, found.pid)
        leader = self._kernel.session_of(found.pid)
        self._spawned = Spawned(found.pid, pidfd, -1, adopted=True, grouped=grouped, leader=leader)
        self._started_ns = self._kernel.started_ns(found)
        self._memory = watchdog.Memory(self._kernel.now_ns())
        self._take_nameless_files(found.pid)
        self._site.loop.watch(pidfd, self._exited)
        self.signs.adopted(found.pid, leader or found.pid)
        self.handle(events.Adopted(found.pid))
        self.look_at_page()

    def _take_nameless_files(self, pid: int) -> None:
        """Where the runtime directory was cleaned, what has the names is not what the process holds."""
        if (fd := self._kernel.reopen_nameless(pid, self.page.path)) is not None:
            self.page.switch_to(fd)
        if self.output and (fd := self._kernel.reopen_nameless(pid, self.output.fifo_path)) is not None:
            self._switch_output(self.output, fd)

    def _take_named_files(self) -> None:
        """The next instance, and the next monitor, find each other by names.

        Raises:
            OSError: a file cannot be made.
        """
        if self._kernel.is_nameless(self.page.fd):
            self.page.switch_to(None)
        if self.output and self._kernel.is_nameless(self.output.fd):
            self._switch_output(self.output, None)

    def _switch_output(self, output: Output, fd: int | None) -> None:
        self._site.loop.forget(output.fd)
        try:
            output.switch_to(fd)
        finally:
            self._site.loop.watch(output.fd, output.drain)

    def start(self) -> None:
        """It is wanted up. Where a copy may still run, that is looked at once more."""
        if self.is_uncertain:
            self.find_survivor(self._kernel.survey(self._site.bell_path))
        if self._aftermath.is_under_way and self._ended_with is None:
            self.start_waits = True
        elif not self.is_uncertain:
            self.handle(events.StartWanted())

    def pack(self) -> dict[str, Any]:
        """What the next image of the monitor must know of this service; its descriptors by number."""
        assert not self._events, "in the middle of an event"
        return {
            "name": self.config.name,
            "log": plain(self._log),
            "child": packing.pack_child(self.child),
            "spawned": plain(self._spawned),
            "memory": plain(self._memory),
            "timers": {timer.value: deadline.at_ns for timer, deadline in self._timers.items()},
            "snapshots": self.snapshots.pack(),
            "page_fd": self.page.fd,
            "output": self.output.pack() if self.output else None,
            "started_ns": self._started_ns,
            "down_since_ns": self._down_since_ns,
            "answered_request": self._answered_request,
            "page_was_intact": self._page_was_intact,
            "asked_by_signal": self._asked_by_signal,
            "is_uncertain": self.is_uncertain,
            "signs": self.signs.pack(),
            "patience": self._patience.pack(),
            "autopsy": self._autopsy.pack(),
            "aftermath": self._aftermath.pack(),
            "ended_with": plain(self._ended_with),
            "start_waits": self.start_waits,
        }

    def descriptors(self) -> list[int]:
        """Those that the next image of the monitor must inherit."""
        fds = [self.page.fd, *([self.output.fd] if self.output else [])]
        if self._spawned:
            fds += [fd for fd in (self._spawned.pidfd, self._spawned.exec_fd) if fd >= 0]
        return fds + self.signs.descriptors()

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
        self._autopsy.restore(packed["autopsy"])
        self._aftermath.restore(packed["aftermath"])
        self._ended_with = packing.unpack_status(packed["ended_with"])
        self.start_waits = packed["start_waits"]
        if self._spawned:
            self._watch_process(self._spawned)
        for name, at_ns in packed["timers"].items():
            self._arm_at(actions.Timer(name), at_ns)

    def interrupt(self) -> None:
        """Before a takeover: do now what its next image would not know of."""
        self._record_due()
        self.signs.interrupt()

    def resume(self) -> None:
        """After a takeover, with all services there: see what has happened meanwhile."""
        self._aftermath.resume()
        self.look_at_page()
        self._watch()

    def retire(self) -> None:
        """The configuration does not name it any more."""
        self._tell("retired", why="gimli.toml does not name it any more")
        self.handle(events.StopWanted("gimli.toml does not name it any more"))

    # Facts in.

    def handle(self, event: events.Event) -> None:
        """Let the machine take an event; events that its actions cause follow in order."""
        if isinstance(event, events.StopWanted):
            self.start_waits = False
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
        if self.child.state in _GONE:
            self.signs.gone_for_good()
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
        elif self._kernel.belongs_to(crash.pid, self.signs.leader):
            self.handle(events.WorkerCrashed(crash))
        else:
            self._tell("crash-refused", pid=crash.pid, why="it is not a descendant of the service")
            self.page.release()

    def stopped_itself(self) -> None:
        """The original library's crash protocol: USR2 to the monitor, then STOP to itself.

        A program of another user may not send us its USR2: there the handler that it is in tells.
        """
        if not self._spawned or not (self._asked_by_signal or self.config.identity):
            return
        if self._spawned.exec_fd >= 0:
            return  # a monitor that was late hears of its signal first: once more when its exec is known
        if not self._kernel.is_stopped_child(self._spawned.pidfd):
            return
        if not (self._asked_by_signal or is_in_fault_handler(self._spawned.pid)):
            return
        self._asked_by_signal = False
        if self.child.state in {State.STARTING, State.RUNNING}:
            self.handle(events.CrashReported(None))
        else:
            self._kill(Signals.SIGCONT)

    def crash_signalled(self) -> None:
        """USR2 from the program; its STOP may come before or after."""
        self._asked_by_signal = True
        self.stopped_itself()

    def beat_by_signal(self) -> None:
        """USR1 from the program: a beat, as the original's."""
        self.page.set_running(self.page.read().ticks + 1, self._kernel.now_ns())
        self.look_at_page()

    def send_signal(self, signo: int, *, because: str = "the operator asked") -> None:
        """A signal that does not come from the machine."""
        self._tell("sent", signal=process.signal_name(signo), pid=self.pid, because=because)
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
        debugger = self._patience.debugger_now(self._spawned.pid) if self._spawned else None
        beats = watchdog.expected(self._memory, page, self.config.policy.intervals, now_ns) if live else []
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
            debugger=describe_debugger(debugger) if debugger else None,
            starved=self._patience.is_starved(beats),
            late=self._patience.because(beats),
        )

    def reopen_log(self) -> None:
        """HUP: logrotate has renamed the file."""
        if self.output:
            self.output.file.reopen()

    def _open_output(self, packed: dict[str, Any] | None = None) -> None:
        if self._log.file is None:
            return
        fifo_path = os.path.join(self._site.instance_dir, f"{self.config.name}.out")
        owner = self.config.identity.uid if self.config.identity else None
        self.output = self._kernel.open_output(
            fifo_path, self._log, owner, self._tell, self._site.loop.after, packed
        )
        self._site.loop.watch(self.output.fd, self.output.drain)

    def close(self) -> None:
        """Release everything, and take the service's files out of the runtime directory.

        A record that leaves it open whether a copy runs stays: it is all that holds the next monitor off.
        """
        for deadline in self._timers.values():
            deadline.cancel()
        self._patience.forget()
        self._close_output()
        self.signs.close()
        self.page.close()
        for path in () if self.is_uncertain else (self.page.path, self._record_path):
            self._kernel.remove(path)

    def _close_output(self) -> None:
        if self.output:
            self._site.loop.forget(self.output.fd)
            self.output.close()
            self.output = None

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

    def _settle_exec(self) -> None:
        """A word of the program can be read before the end of its exec is: then that comes first."""
        fd = self._spawned.exec_fd if self._spawned else -1
        if fd >= 0 and self._kernel.is_readable(fd):
            self._exec_decided()

    def _exec_decided(self, _: int = 0) -> None:
        assert self._spawned is not None
        spawned = self._spawned
        why = self._kernel.exec_failure(spawned.exec_fd)
        self._site.loop.forget(spawned.exec_fd)
        self._kernel.close(spawned.exec_fd)
        self._spawned = replace(spawned, exec_fd=-1)
        if why:
            self._kernel.collect(spawned)
            self._collected()
            self.handle(machine.judge_spawn_failure(self.child, why))
            self._record_end()
            return
        self.handle(machine.judge_exec(spawned.pid, says_ready=self.signs.says_ready))
        self.signs.executed()
        self.look_at_page()
        self.stopped_itself()

    def _exited(self, what: int = 0) -> None:
        assert self._spawned is not None
        pid = self.pid
        self._site.notify.drain()  # its last words may name another main process
        if self._spawned is None or self.pid != pid:
            return
        if self._spawned.exec_fd >= 0:
            self._exec_decided()
            if self._spawned is None:
                return
        if self._spawned.adopted:
            self._stranger_exited(self._spawned, is_reaped=bool(what & HANGUP))
        else:
            self._ended(self._kernel.collect(self._spawned))

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
        """The main process has ended. The service has when nothing that it left behind runs any more."""
        assert self._spawned is not None
        spawned = self._spawned
        self._autopsy.examine(spawned.pid, status, self._started_ns)
        self._collected()
        self._ended_with = status
        self._clear(spawned)

    def _clear(self, ended: Spawned) -> None:
        is_orderly = self.child.state is State.STOPPING and self.child.wish is not Wish.UP
        if self.config.leave_leftovers:
            self._tree_ended()
        else:
            self._aftermath.begin(ended, Signals.SIGTERM if is_orderly else Signals.SIGKILL)

    def _tree_ended(self) -> None:
        """Nothing is left. Without a status, it was the instance of a monitor that is dead."""
        status, self._ended_with = self._ended_with, None
        self._down_since_ns = self._kernel.now_ns()
        if self.output:
            self.output.drain()
        if status is not None:
            is_ordered = self._autopsy.is_ordered(status.signo)
            self.handle(machine.judge_end(self.child, status, ordered=is_ordered))
            self._record_end()
        elif self.start_waits:
            self.start_waits = False
            self.handle(events.StartWanted())

    def _record_end(self) -> None:
        """After the journal: a monitor that is killed in between leaves it to the next one to tell."""
        if self._spawned is None:
            self._kernel.write_down(self._record_path)

    def _collected(self) -> None:
        """Forget the process that has ended."""
        assert self._spawned is not None
        self._site.loop.forget(self._spawned.pidfd)
        self._kernel.close(self._spawned.pidfd)
        self._site.loop.children.discard(self._spawned.pid)
        self._spawned = None
        self.signs.ended()
        self._patience.forget()

    def _released(self, pid: int) -> None:
        """No capture of ``pid`` is under way any more; it may be the service's, or already another one."""
        if pid != self.pid:
            return
        self._memory = replace(self._memory, resumed_ns=self._kernel.now_ns())
        if self.child.reason == "crash" and self.page.read().library == heartbeat.LIBRARY_NONE:
            self._kill(Signals.SIGCONT)
        starting = self._memory.state == heartbeat.STARTING
        self.handle(machine.judge_release(self.child, starting=starting))

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
                self._wake_to(signo)
            case actions.Capture(reason=reason, crash=crash, hang=hang):
                self._capture(reason, crash, hang)
            case actions.CaptureWorker(crash=crash):
                self.snapshots.take(self._request("crash", crash.pid, crash=crash))
            case actions.RecordDeath(pid=pid, signo=signo):
                self._record_soon(pid, signo, self._autopsy.death)
            case actions.LetGo():
                self.page.die_at_once()
                if self._asked_by_signal:
                    self._kill(Signals.SIGCONT)
            case actions.Arm(timer=timer, delay_s=delay_s):
                self._arm(timer, delay_s)
            case actions.Disarm(timer=timer):
                self._disarm(timer)
            case actions.Tell(event=event, details=details):
                self._tell(event, **dict(details))

    def _record_soon(self, pid: int, signo: int, death: Death) -> None:
        """At once for a fault; a program that was killed is started again first, where it is."""
        if signo != Signals.SIGKILL or self.child.state is not State.BACKOFF:
            self._record_death(pid, signo, death)
            return
        self.records_due.append((pid, signo, death))
        self._site.loop.after(_RECORD_DELAY_S, self._record_due)

    def _record_due(self) -> None:
        due, self.records_due = self.records_due, []
        for pid, signo, death in due:
            self._record_death(pid, signo, death)

    def _record_death(self, pid: int, signo: int, death: Death) -> None:
        if self._site.records.wants(self.config.name, signo, self._kernel.now_ns()):
            self.snapshots.take(self._request("crash", 0, ended_pid=pid, signo=signo, death=death))

    def _tell(self, event: str, **details: Any) -> None:
        if event == "started" and self._down_since_ns and self.child.restarts:
            down_ns = self._kernel.now_ns() - self._down_since_ns
            details["after_ms"] = round(down_ns / 1e6, 3)
        if event == "exited" and details["signo"] is not None:
            details |= self._autopsy.journal_details(details["signo"])
        self._site.journal.record(event, self.config.name, **details)

    def _arm(self, timer: actions.Timer, delay_s: float) -> None:
        self._arm_at(timer, self._kernel.now_ns() + round(delay_s * 1e9))

    def _arm_at(self, timer: actions.Timer, at_ns: int) -> None:
        self._disarm(timer)
        self._timers[timer] = self._site.loop.at(at_ns, lambda: self._expired(timer))

    def _expired(self, timer: actions.Timer) -> None:
        del self._timers[timer]
        # Nobody wants it down but its own fault: whoever debugs that is not interrupted.
        if timer is actions.Timer.STOP and self.child.wish is Wish.UP and self._spawned:
            delay_s = self._patience.defers_kill(self._spawned.pid)
            if delay_s:
                self._arm(timer, delay_s)
                return
        self.handle(_EXPIRED[timer]())

    def _extend_stop(self, delay_s: float) -> None:
        due = self._timers.get(actions.Timer.STOP)
        if due and self.child.state is State.STOPPING:
            left_s = (due.at_ns - self._kernel.now_ns()) / 1e9
            self._arm(actions.Timer.STOP, max(delay_s, left_s))

    def _disarm(self, timer: actions.Timer) -> None:
        if deadline := self._timers.pop(timer, None):
            deadline.cancel()

    def _spawn(self) -> None:
        assert self._spawned is None, "a second instance"
        self._answered_request = 0
        self._page_was_intact = True
        self._asked_by_signal = False
        self._autopsy.forget()
        self._started_ns = self._kernel.now_ns()
        self._memory = watchdog.Memory(self._started_ns)
        try:
            self._settle_output()
            self._take_named_files()
            self.page.reset()
            around = spawn.Surroundings(
                self.page.fd,
                self.output.fifo_path if self.output else None,
                self._site.bell_path,
                self._site.library,
                self._site.descriptors,
                self.signs.prepare(),
            )
            self._spawned = self._kernel.spawn(self.config, around, self._record_path)
            self.signs.forked(self._spawned.pid)
        except OSError as error:
            self.signs.forked(None)
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
        if not spawned.adopted:
            self._site.loop.children.add(spawned.pid)
        if spawned.exec_fd >= 0:
            self._site.loop.watch(spawned.exec_fd, self._exec_decided)
        self._site.loop.watch(spawned.pidfd, self._exited)

    def _start_command(self, command: tuple[str, ...]) -> Spawned:
        """A probe, where the service runs and as it does, but not watched as it is."""
        site = self._site
        around = spawn.Surroundings(-1, os.devnull, site.bell_path, None, site.descriptors)
        probe = replace(self.config, command=command, arg0=None, inherit_stdin=False)
        return self._kernel.spawn_command(probe, around)

    def _change_main(self, pid: int, pidfd: int) -> int:
        """The program has named another of its processes as the main one: its end is the service's."""
        assert self._spawned is not None
        former = self._spawned
        self._site.loop.forget(former.pidfd)
        self._site.loop.watch(pidfd, self._exited)
        # It may be our child by now, an orphan, or another's: its status is asked for as a stranger's.
        self._site.loop.children.add(pid)
        leader = former.leader or former.pid
        self._spawned = replace(former, pid=pid, pidfd=pidfd, adopted=True, leader=leader)
        self.child = replace(self.child, pid=pid)
        if named := self._kernel.identify(pid):
            self._kernel.write_running(self._record_path, named)
        return former.pidfd

    def _kill(self, signo: int, *, group: bool = False) -> None:
        if not self._spawned:
            self._aftermath.signal(signo)
            return
        self._autopsy.ordered(signo)
        try:
            if group:
                self._kernel.signal_group(self.signs.leader, signo)
            self._kernel.send_signal(self._spawned.pidfd, signo)
        except ProcessLookupError:
            pass  # it has ended by itself; its exit is on its way
        except PermissionError:
            why = "it runs as another user"
            self._tell("not-sent", signal=process.signal_name(signo), pid=self.pid, why=why)

    def _wake_to(self, signo: int) -> None:
        """A program that SIGSTOP holds could not act on a signal that asks it to end."""
        if signo == Signals.SIGKILL or not self._spawned:
            return
        # After a snapshot it may not have got back into its stop yet.
        if self._patience.was_stopped or self._kernel.state_of(self._spawned.pid) == "T":
            self._tell("sent", signal="SIGCONT", pid=self.pid, because="it was stopped, and has to act")
            self._kill(Signals.SIGCONT)

    def _capture(self, reason: str, crash: heartbeat.Crash | None, hang: events.HeartbeatLate | None) -> None:
        assert self._spawned is not None
        pid = self._spawned.pid
        death = self._autopsy.of_crash(pid, crash, self._started_ns)
        self.snapshots.take(self._request(reason, pid, crash=crash, hang=hang, death=death))

    def _request(self, reason: str, pid: int, **what: Any) -> dict[str, Any]:
        if self.output:
            self.output.flush()
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
        due_ns = self._look.at_ns if self._look else self._kernel.now_ns()
        if self._look:
            self._look.cancel()
            self._look = None
        if self.child.state not in WATCHED or not self._spawned or self._spawned.exec_fd >= 0 or self._events:
            return
        now_ns = self._kernel.now_ns()
        page = self.page.read()
        intervals = self.signs.intervals
        memory = watchdog.remember(self._memory, page, now_ns)
        if memory.state != self._memory.state:
            # It has changed since it was looked at: that is news for the machine, in the next round.
            self._look = self._site.loop.at(now_ns, self.look_at_page)
            return
        self._memory = memory
        patience, pid = self._patience, self._spawned.pid
        beats = watchdog.expected(memory, page, intervals, now_ns)
        if patience.look(pid, beats, resumed_ns=memory.resumed_ns, now_ns=now_ns):
            self._memory = memory = replace(memory, resumed_ns=now_ns)
        verdict = None
        while not patience.debugger:
            verdict = watchdog.look(memory, page, intervals, now_ns, patience.graces)
            if not isinstance(verdict, watchdog.Late):
                break
            if hang := patience.judge(verdict, pid, self._spawned.pidfd, due_ns=due_ns, now_ns=now_ns):
                self.handle(hang)
                return
        times = [
            watchdog.must_look_by(memory, page, intervals, now_ns),
            verdict.at_ns if isinstance(verdict, watchdog.Due) else None,
            patience.look_by_ns,
        ]
        if due := [at_ns for at_ns in times if at_ns is not None]:
            self._look = self._site.loop.at(min(due), self.look_at_page)
