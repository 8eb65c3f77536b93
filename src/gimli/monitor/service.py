r"""One service at runtime: kernel facts in, events to the machine, its actions carried out.

    instance (fork, exec, end) --\                           /--> launch, signaller
    vigil (page, deadlines) ------> event -> machine -> actions --> timers, journal
    signs, snapshots, aftermath -/                           \--> inquest (snapshots, reports)

Nothing is decided here. A fact becomes an event (``judge_*`` of the machine picks between outcomes), the
machine answers with actions, and each is carried out by the part that it concerns.
"""

from __future__ import annotations

from gimli import heartbeat
from gimli.monitor import actions, adoption, events, machine, packing
from gimli.monitor.aftermath import Aftermath
from gimli.monitor.autopsy import Autopsy
from gimli.monitor.child import Child, State, Wish
from gimli.monitor.inquest import Inquest
from gimli.monitor.instance import Instance
from gimli.monitor.launch import launch, launch_command
from gimli.monitor.leftovers import look_around
from gimli.monitor.service_files import ServiceFiles
from gimli.monitor.service_status import describe
from gimli.monitor.signal_protocol import SignalProtocol
from gimli.monitor.signalling import Signaller
from gimli.monitor.signs import Signs
from gimli.monitor.snapshots import Snapshots
from gimli.monitor.spawned import Spawned
from gimli.monitor.survivor import find_survivor
from gimli.monitor.timers import Timers
from gimli.monitor.vigil import Vigil
from gimli.process import ExitStatus, Signals
from gimli.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gimli.monitor.config import Service
    from gimli.monitor.leftovers import Survey
    from gimli.monitor.site import Site
    from gimli.process import ProcessId
    from gimli.status import ServiceStatus

WATCHED = frozenset({State.STARTING, State.RUNNING})
_GONE = frozenset({State.DOWN, State.FAILED})
_EXPIRED: dict[actions.Timer, Callable[[], events.Event]] = {
    actions.Timer.RESTART: events.RestartDue,
    actions.Timer.STOP: events.StopExpired,
    actions.Timer.HEALTHY: events.HealthySpell,
}


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
        "_aftermath", "_autopsy", "_down_since_ns", "_events", "_instance", "_kernel", "_on_change",
        "_site", "_timers", "_vigil", "by_signal", "child", "config", "files", "inquest", "is_uncertain",
        "signaller", "signs", "snapshots", "start_waits",
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
        self._site = site
        self._kernel = site.kernel
        self._on_change = on_change
        self._events: list[events.Event] = []
        self._down_since_ns = 0
        self.is_uncertain = False
        self.start_waits = False
        """It is to be started as soon as what a dead monitor's instance left behind is gone."""
        tell, look = self.tell, self.look_at_page  # one of each: a bound method is an object
        self.files = ServiceFiles(config, site, tell, packed and packed["files"])
        self.snapshots = Snapshots(site.evidence, self._released, self._snapshot_news)
        self.inquest = Inquest(config, site, self.files, self.snapshots)
        self._autopsy = Autopsy(site.senders)
        self._timers = Timers(site.loop, self._expired)
        self._aftermath = Aftermath(config, site, self._tree_ended)
        self._instance = Instance(site, self._exec_decided, self._ended)
        self.signaller = Signaller(site.kernel, tell, self._instance, self._aftermath, self._autopsy)
        self.by_signal = SignalProtocol(site.kernel, is_foreign=config.identity is not None)
        self._vigil = Vigil(site, self.files.page, tell, look, packed and packed["vigil"])
        self.signs = Signs(self, self.files.page, site.loop, site.notify.path)
        if packed:
            self._restore(packed)

    # Another monitor was here before.

    def find_survivor(self, survey: Survey | None) -> None:
        """Adopt the instance that a dead monitor left, if there is one.

        Args:
            survey: of all processes; None where every record is certain, or nobody could look.
        """
        found = find_survivor(self._kernel, self.config.name, self.files.record_path, survey)
        recorded = found.record.process
        self.is_uncertain = isinstance(found.verdict, adoption.Refuse)
        match found.verdict:
            case adoption.Adopt(process=living) if found.pidfd is not None:
                if recorded != living:
                    self.files.record_running(living)
                self._adopt(living, found.pidfd, found.record.leader)
            case adoption.Adopt(process=living):
                self.tell("ended-unseen", pid=living.pid, why="it has ended this instant")
                self._aftermath.begin_unseen(found.dead, survey)
            case adoption.Refuse(why=why):
                self.handle(events.AdoptionRefused(why))
            case adoption.Start(because=because):
                if recorded:
                    self.tell("ended-unseen", pid=recorded.pid, why=because)
                self._aftermath.begin_unseen(found.dead, survey)

    def _adopt(self, found: ProcessId, pidfd: int, leader: int) -> None:
        grouped = self._kernel.is_grouped(self.config.name, found.pid)
        self._vigil.begin(self._kernel.now_ns())
        self.files.take_nameless(found.pid)
        self.files.prepare_log()
        spawned = Spawned(found.pid, pidfd, -1, adopted=True, grouped=grouped, leader=leader)
        self._instance.begin(spawned, self._kernel.started_ns(found))
        self.signs.adopted(found.pid, leader or found.pid)
        self.handle(events.Adopted(found.pid))
        self.look_at_page()

    def start(self) -> None:
        """It is wanted up. Where a copy may still run, that is looked at once more."""
        if self.is_uncertain:
            self.find_survivor(look_around(self._kernel, self._site.bell_path))
        if self._aftermath.is_unexplained:
            self.start_waits = True
        elif not self.is_uncertain:
            self.handle(events.StartWanted())

    def pack(self) -> dict[str, Any]:
        """What the next image of the monitor must know of this service; its descriptors by number."""
        assert not self._events, "in the middle of an event"
        return {
            "name": self.config.name,
            "child": packing.pack_child(self.child),
            "asked_by_signal": self.by_signal.is_asked,
            "down_since_ns": self._down_since_ns,
            "is_uncertain": self.is_uncertain,
            "start_waits": self.start_waits,
            "files": self.files.pack(),
            "snapshots": self.snapshots.pack(),
            "autopsy": self._autopsy.pack(),
            "timers": self._timers.pack(),
            "aftermath": self._aftermath.pack(),
            "instance": self._instance.pack(),
            "vigil": self._vigil.pack(),
            "signs": self.signs.pack(),
        }

    def _restore(self, packed: dict[str, Any]) -> None:
        self.child = packing.unpack_child(packed["child"], self.config.policy)
        self.by_signal.is_asked = packed["asked_by_signal"]
        self._down_since_ns = packed["down_since_ns"]
        self.is_uncertain = packed["is_uncertain"]
        self.start_waits = packed["start_waits"]
        self.snapshots.restore(packed["snapshots"])
        self._autopsy.restore(packed["autopsy"])
        self._timers.restore(packed["timers"])
        self._aftermath.restore(packed["aftermath"])
        self._instance.restore(packed["instance"])
        self.signs.restore(packed["signs"])

    def descriptors(self) -> list[int]:
        """Those that the next image of the monitor must inherit."""
        return self.files.descriptors() + self._instance.descriptors() + self.signs.descriptors()

    def interrupt(self) -> None:
        """Before a takeover: do now what its next image would not know of."""
        self.inquest.record_due()
        self.signs.interrupt()

    def resume(self) -> None:
        """After a takeover, with all services there: see what has happened meanwhile."""
        self._aftermath.resume()
        self.look_at_page()
        self._watch()

    def renew(self) -> None:
        """Somebody has removed the runtime directory: make again what the next monitor has to find in it.

        Page and FIFO have no name while this instance holds them. The next instance gets others, and the next
        monitor finds those that this one holds.

        Raises:
            OSError: it cannot be told who runs.
        """
        if self.files.output:
            self.files.output.renew_mark()
        if self.files.is_recorded():
            return
        if self.is_uncertain:
            self.files.record_doubt()
        elif (spawned := self._instance.spawned) and (running := self._kernel.identify(spawned.pid)):
            self.files.record_running(running, spawned.leader)

    def retire(self) -> None:
        """The configuration does not name it any more."""
        self.tell("retired", why="gimli.toml does not name it any more")
        self.handle(events.StopWanted("gimli.toml does not name it any more"))

    def close(self) -> None:
        """Release everything, and take the service's files out of the runtime directory.

        A record that leaves it open whether a copy runs stays: it is all that holds the next monitor off.
        """
        self._timers.cancel()
        self._vigil.end()
        self.signs.close()
        self.files.close(keeps_record=self.is_uncertain)

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
                del self._events[0]
        except BaseException:
            self._events.clear()  # one left in the queue would hold back all that follow, for ever
            raise
        self._watch()
        if self.child.state in _GONE:
            self.signs.gone_for_good()
        self._on_change(self)

    def look_at_page(self) -> None:
        """The program rang, or a deadline came: see what its page says."""
        if not self._instance.is_executed:
            return  # what stands there now is not yet the new program's
        page = self.files.page.read()
        if beat := self._vigil.look(page):
            self.handle(beat)
        if crash := self._vigil.new_crash(page):
            self._crash_asked(crash)
        self._watch()

    def _watch(self) -> None:
        spawned = self._instance.spawned
        if self.child.state not in WATCHED or not spawned or spawned.exec_fd >= 0 or self._events:
            self._vigil.rest()
        elif hang := self._vigil.watch(spawned, self.signs.intervals):
            self.handle(hang)

    def _crash_asked(self, crash: heartbeat.Crash) -> None:
        """The page names a pid, and a program may write any there: only its own descendants are captured."""
        if crash.pid == self.pid:
            self.handle(events.CrashReported(crash))
        elif self._kernel.belongs_to(crash.pid, self.signs.leader):
            self.handle(events.WorkerCrashed(crash))
        else:
            self.tell("crash-refused", pid=crash.pid, why="it is not a descendant of the service")
            self.files.page.release()

    def stopped_itself(self) -> None:
        """A child has changed its state: perhaps this program asks for its snapshot, as the original's do."""
        if not self.by_signal.is_complete(self._instance.spawned):
            return
        if self.child.state in WATCHED:
            self.handle(events.CrashReported(None))
        else:
            self.signaller.send_silently(Signals.SIGCONT)

    def crash_signalled(self) -> None:
        """USR2 from the program; its STOP may come before or after."""
        self.by_signal.is_asked = True
        self.stopped_itself()

    def beat_by_signal(self) -> None:
        """USR1 from the program: a beat, as the original's."""
        self.files.page.set_running(self.files.page.read().ticks + 1, self._kernel.now_ns())
        self.look_at_page()

    def _exec_decided(self, why: str) -> None:
        """With the reason why there was none."""
        if why:
            self._instance_over()
            self.handle(machine.judge_spawn_failure(self.child, why))
            self._record_end()
            return
        assert self.pid is not None
        self.handle(machine.judge_exec(self.pid, says_ready=self.signs.says_ready))
        self.signs.executed()
        self.files.prepare_log()
        self.look_at_page()
        self.stopped_itself()

    def _ended(self, ended: Spawned, status: ExitStatus) -> None:
        """The main process has ended. The service has when nothing that it left behind runs any more."""
        self._autopsy.examine(ended.pid, status, self._instance.started_ns)
        self._instance_over()
        is_orderly = self.child.state is State.STOPPING and self.child.wish is not Wish.UP
        self._aftermath.begin(ended, status, is_orderly=is_orderly)

    def _instance_over(self) -> None:
        self.signs.ended()
        self._vigil.end()

    def _tree_ended(self, status: ExitStatus | None) -> None:
        """Nothing is left. Without a status, it was the instance of a monitor that is dead."""
        self._down_since_ns = self._kernel.now_ns()
        self.files.drain()
        if status is not None:
            is_ordered = self._autopsy.is_ordered(status.signo)
            self.handle(machine.judge_end(self.child, status, ordered=is_ordered))
            self._record_end()
            return
        self._record_end()
        if self.start_waits:
            self.start_waits = False
            self.handle(events.StartWanted())
        else:
            self._on_change(self)

    def _record_end(self) -> None:
        """After the journal: a monitor that is killed in between leaves it to the next one to tell."""
        if self.pid is None:
            self.files.record_down()

    @property
    def is_clearing(self) -> bool:
        """Its main process has ended, and what that has left behind has not."""
        return self._aftermath.is_under_way

    def settle(self) -> None:
        """What the program says may be read before the news of its exec is: learn of that first."""
        self._instance.settle()

    def change_main(self, pid: int, pidfd: int) -> int:
        """Another process is the main one from now on; the pidfd of the former one."""
        former_pidfd = self._instance.change_main(pid, pidfd)
        self.child = replace(self.child, pid=pid)
        if named := self._kernel.identify(pid):
            leader = self._instance.spawned.leader if self._instance.spawned else 0
            self.files.record_running(named, leader)
        return former_pidfd

    def _released(self, pid: int) -> None:
        """No capture of ``pid`` is under way any more; it may be the service's, or already another one."""
        if pid != self.pid:
            return
        is_starting = self._vigil.resume()
        if self.child.reason == "crash" and self.files.page.read().library == heartbeat.LIBRARY_NONE:
            self.signaller.send_silently(Signals.SIGCONT)
        self.handle(machine.judge_release(self.child, starting=is_starting))

    def _snapshot_news(self) -> None:
        if not self._events:  # in the middle of one its end tells; who is told may close this service
            self._on_change(self)

    def _expired(self, timer: actions.Timer) -> None:
        # Nobody wants it down but its own fault: whoever debugs that is not interrupted.
        if timer is actions.Timer.STOP and self.child.wish is Wish.UP and self.pid:
            delay_s = self._vigil.defers_kill(self.pid)
            if delay_s:
                self._timers.arm(timer, delay_s)
                return
        self.handle(_EXPIRED[timer]())

    def extend_stop(self, delay_s: float) -> None:
        """Let a stop that is under way last so much longer, from now."""
        if self.child.state is State.STOPPING:
            self._timers.extend(actions.Timer.STOP, delay_s)

    # Orders out.

    def _carry_out(self, order: actions.Action) -> None:
        match order:
            case actions.Spawn():
                self._spawn()
            case actions.Signal(signo=signo, because=because, group=group):
                self.signaller.send(signo, because, group=group)
                if signo != Signals.SIGKILL:
                    self.signaller.wake(was_stopped=self._vigil.was_stopped)
            case actions.Capture(reason=reason, crash=crash, hang=hang):
                assert self.pid is not None
                death = self._autopsy.of_crash(self.pid, crash, self._instance.started_ns)
                self.inquest.capture(self.child, reason, self.pid, crash=crash, hang=hang, death=death)
            case actions.CaptureWorker(crash=crash):
                self.inquest.capture(self.child, "crash", crash.pid, crash=crash)
            case actions.RecordDeath(pid=pid, signo=signo):
                self.inquest.record_death(self.child, pid, signo, self._autopsy.death)
            case actions.LetGo():
                self.files.page.die_at_once()
                if self.by_signal.is_asked:
                    self.signaller.send_silently(Signals.SIGCONT)
            case actions.Arm(timer=timer, delay_s=delay_s):
                self._timers.arm(timer, delay_s)
            case actions.Disarm(timer=timer):
                self._timers.disarm(timer)
            case actions.Tell(event=event, details=details):
                self.tell(event, **dict(details))

    def tell(self, event: str, **details: Any) -> None:
        """Write an event of this service to the journal."""
        if event == "started" and self._down_since_ns and self.child.restarts:
            down_ns = self._kernel.now_ns() - self._down_since_ns
            details["after_ms"] = round(down_ns / 1e6, 3)
        if event == "exited" and details["signo"] is not None:
            details |= self._autopsy.journal_details(details["signo"])
        self._site.journal.record(event, self.config.name, **details)

    def start_command(self, command: tuple[str, ...]) -> Spawned:
        """Start a probe."""
        return launch_command(self.config, self._site, command)

    def _spawn(self) -> None:
        assert self.pid is None, "a second instance"
        self.by_signal.is_asked = False
        self._autopsy.forget()
        started_ns = self._kernel.now_ns()
        self._vigil.begin(started_ns)
        try:
            self.files.prepare()
            spawned = launch(self.config, self._site, self.files, self.signs.prepare())
            self.signs.forked(spawned.pid)
        except OSError as error:
            self.signs.forked(None)
            why = f"cannot start: {error.strerror or error}"
            self._events.append(machine.judge_spawn_failure(self.child, why))
            return
        self._instance.begin(spawned, started_ns)

    # What it is asked.

    @property
    def pid(self) -> int | None:
        """The main process, from fork to its end."""
        return self._instance.pid

    def status(self) -> ServiceStatus:
        """The service as ``gimli ps`` shows it."""
        report, now_ns = self.snapshots.last_report, self._kernel.now_ns()
        return describe(self.config, self.child, self._instance, self._vigil, self._timers, report, now_ns)
