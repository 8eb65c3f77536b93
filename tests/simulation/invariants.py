"""What must hold, whatever happens?"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gimli import heartbeat
from gimli.monitor.child import State
from gimli.monitor.config import Intervals, Restart
from gimli.process import CRASH_SIGNALS, ExitStatus
from simulation.programs import Program
from simulation.trees import Descendant
from simulation.world import SECOND_NS, Violated

if TYPE_CHECKING:
    from simulation.computer import Computer
    from simulation.monitor_shell import Shell

TERM_BOUND_S = 150.0
"""Two captures that hang one after the other, the stop interval, and time to spare."""
_ZOMBIE_S = 5.0
_OUTCOME_S = 120
"""Captures that hang, one after the other, and a monitor that was not let run."""
_STOP_S_MAX = Intervals().stop_s
"""What a service has that no gimli.toml names any more; the others here have less."""
_KILL_PATIENCE_S = 10.0
_OWED_S = 60
"""So long a death is remembered: as ``deaths.find_unreported``."""
_ROUNDS_AT_ONCE_MAX = 300
_WATCHED = frozenset({State.STARTING, State.RUNNING})


class Invariants:
    """What is looked at while a story goes on, and at its end."""

    def __init__(self, computer: Computer) -> None:
        self._computer = computer
        self._world = computer.world
        self._rounds = 0
        self._rounds_ns = 0
        self.term_ns: int | None = None
        self.patience_s = 0.0
        """For how long the monitor was not let run."""
        self.wanted: dict[str, bool] = {}
        """What the operator wished last, by service."""
        self.losses: list[tuple[int, int]] = []
        """Where in the journal a monitor was lost, and when, had the clock never jumped."""
        self.damaged: set[str] = set()
        """Services whose records somebody damaged: these may be refused."""
        self.refused: set[str] = set()
        """Services that may run with nobody to watch them: the journal says so."""
        self.remaining: set[int] = set()
        """Processes that were left behind and live on: the journal says so."""
        self._aftermaths: dict[str, tuple[int, int]] = {}
        """Whose leftovers are being ended, by service, and since when."""
        self._noted = 0

    def lost(self) -> None:
        """A monitor was lost: what it had under way may have no outcome."""
        self._aftermaths.clear()
        self.losses.append((len(self._computer.journal), self._world.now_ns - self._world.jumped_ns))

    def round_begins(self) -> None:
        """No busy loop: time goes on between rounds."""
        if self._world.now_ns == self._rounds_ns:
            self._rounds += 1
            if self._rounds > _ROUNDS_AT_ONCE_MAX:
                raise Violated("a busy loop: the monitor goes round and round, and no time passes")
        else:
            self._rounds_ns, self._rounds = self._world.now_ns, 0

    def time_passes(self) -> None:
        """TERM ends the monitor in bounded time."""
        if self.term_ns is None:
            return
        waited_s = (self._world.now_ns - self.term_ns) / 1e9
        if waited_s > TERM_BOUND_S + self.patience_s:
            raise Violated(f"TERM {waited_s:.0f} s ago has not ended the monitor")

    def inspect(self, shell: Shell) -> None:
        """Now and then, when the monitor sleeps."""
        if self._computer.lock_holder is not shell.me:
            raise Violated("the monitor does not hold its lock: there could be another")
        self._no_zombie()
        self._every_child_is_held(shell)
        self._who_is_held_is_a_main_process(shell)
        self._nobody_is_left(shell)
        self._no_descriptor_is_lost(shell)
        self._what_is_wanted_up_is_not_down(shell)

    def _no_zombie(self) -> None:
        now_ns, monitor = self._world.now_ns, self._computer.monitor
        if not monitor or now_ns - self._computer.monitor_since_ns < _ZOMBIE_S * SECOND_NS:
            return
        for process in self._computer.processes.values():
            if (
                process.is_zombie
                and process.parent == monitor.pid
                and now_ns - process.ended_ns > _ZOMBIE_S * SECOND_NS
            ):
                raise Violated(f"{process.role} {process.pid} is a zombie that nobody reaps")

    def _every_child_is_held(self, shell: Shell) -> None:
        held = {service.pid: name for name, service in shell.services.items() if service.pid}
        self._note_refusals()
        for process in self._computer.processes.values():
            service = getattr(process, "service", None)
            if service and process.is_alive and held.get(process.pid) != service:
                if service in self.refused or (service in self.damaged and service not in shell.services):
                    continue
                raise Violated(f"{service} {process.pid} runs, and no monitor holds it")

    def _who_is_held_is_a_main_process(self, shell: Shell) -> None:
        for name, service in shell.services.items():
            held = self._computer.processes.get(service.pid or 0)
            if isinstance(held, Descendant):
                raise Violated(f"{held.role} {held.pid} is taken for the main process of {name}")

    # What main processes have left behind.

    def _nobody_is_left(self, shell: Shell) -> None:
        """No descendant of an instance that is over lives on, once the service is down, or up again."""
        now_ns = self._world.now_ns
        for name, service in shell.services.items():
            ended = service._aftermath._ended
            if ended is None:
                self._aftermaths.pop(name, None)
                if service.is_uncertain:
                    continue  # a copy may still run, and these may be its
                held = self._computer.processes.get(service.pid or 0)
                self.only_its_own_are_left(name, held if isinstance(held, Program) else None)
                continue
            pid, since_ns = self._aftermaths.get(name, (-1, 0))
            if pid != ended.pid:
                self._aftermaths[name] = ended.pid, now_ns
                continue
            bound_s = _STOP_S_MAX + _KILL_PATIENCE_S + self.patience_s
            if now_ns - since_ns > bound_s * SECOND_NS:
                raise Violated(f"what {name} has left behind is not gone after {bound_s:.0f} s")

    def only_its_own_are_left(self, service: str, main: Program | None) -> None:
        """The present instance meets no descendant of an older one."""
        self._note_refusals()
        for process in self._computer.processes.values():
            if (
                isinstance(process, Descendant)
                and process.is_alive
                and process.main.service == service
                and process.main is not main
                and not self._is_hidden(process)
                and not process.main.leaves_leftovers
                and not process.lineage & self.remaining
            ):
                beside = f"beside {main.pid}" if main else "while it is down"
                raise Violated(f"{process.role} {process.pid} of instance {process.main.pid} lives {beside}")

    def _is_hidden(self, process: Descendant) -> bool:
        """Nothing shows whose it is; nor does its session, when somebody has taken away what it was."""
        if process.cgroup is not None or process.is_marked:
            return False
        is_in_session = process.is_in_session and process.session == process.main.pid
        return not is_in_session or process.main.service in self.damaged

    def _note_refusals(self) -> None:
        for entry in self._computer.journal[self._noted :]:
            if entry["event"] == "adoption-refused":
                self.refused.add(entry["service"])
            elif entry["event"] == "leftovers-remain":
                self.remaining.update(entry["pids"])
        self._noted = len(self._computer.journal)

    def _no_descriptor_is_lost(self, shell: Shell) -> None:
        if shell.takeover._is_under_way:
            return
        held = {fd for service in shell.services.values() for fd in service._aftermath._held.values()}
        known = {*shell._inherited(), shell._signals.fd, *held}
        lost = shell.me.fds.keys() - known
        if lost:
            kinds = sorted(f"{fd}: {type(shell.me.fds[fd]).__name__}" for fd in lost)
            raise Violated(f"descriptors are open that nobody knows: {', '.join(kinds)}")
        closed = known - shell.me.fds.keys()
        if closed:
            raise Violated(f"descriptors are held that are closed: {sorted(closed)}")

    def _what_is_wanted_up_is_not_down(self, shell: Shell) -> None:
        if shell.is_ending:
            return
        for name, service in shell.services.items():
            if (
                service.child.state is State.DOWN
                and not service.is_clearing
                and self.wanted.get(name)
                and service.config.policy.restart is Restart.ALWAYS
                and name not in shell.supervision._retired
            ):
                raise Violated(f"{name} is wanted up whatever happens, and is down")

    def hang_is_noticed(self, shell: Shell, program: Program) -> bool:
        """Whether nothing more is to be waited for: it was noticed, or it need not be."""
        service = shell.services.get(program.service)
        page = program.page.read()
        if (
            not program.is_alive
            or program.is_doing != "hanging"
            or program.is_stopped
            or not service
            or service.pid != program.pid
            or service.child.state not in _WATCHED
            or not page.intact
            or page.state not in {heartbeat.STARTING, heartbeat.RUNNING}
        ):
            return True
        intervals = service.config.policy.intervals
        allowed_s = max(intervals.watchdog_s, intervals.start_s) * 2 + 3
        since_ns = max(program.hung_ns, service._vigil._memory.resumed_ns, self._computer.monitor_since_ns)
        if self._world.now_ns - since_ns < allowed_s * SECOND_NS + self.patience_s * SECOND_NS:
            return False
        raise Violated(
            f"{program.service} {program.pid} hangs, and is still called {service.child.state.value}"
        )

    def status_is_the_programs(self, status: int) -> None:
        """``gimli run`` ends as its program did."""
        for entry in reversed(self._computer.journal):
            if entry["event"] == "monitor-started":
                return  # it never ran under this monitor
            if entry["event"] == "exited":
                expected = ExitStatus(entry["code"], entry["signo"]).shell_status
                if status != expected:
                    raise Violated(f"gimli run ends with {status}, and its program with {expected}")
                return

    # At the end.

    def at_the_end(self) -> None:
        """When the last monitor has ended in order."""
        computer = self._computer
        self._note_refusals()
        named = {made.name for made in computer.told.services}
        for service, count in computer.mains.items():
            is_found = service not in self.damaged or service in named
            if count and is_found and service not in self.refused:
                raise Violated(f"{service} runs on after the end of its monitor")
        for service in {made for made in computer.mains if made not in self.refused | self.damaged}:
            self.only_its_own_are_left(service, None)
        for program in computer.ended_mains:
            if program.service not in self.refused | self.damaged:
                self._end_is_told(program)
        self._outcomes()
        self._deaths_are_recorded()
        self._faults_are_news()
        self._output_is_complete()
        self._losses_are_counted()

    def _end_is_told(self, program: Program) -> None:
        for entry in self._computer.journal:
            if (
                entry["monotonic_ns"] >= program.ended_ns
                and entry["service"] == program.service
                and entry.get("pid") == program.pid
                and entry["event"] in {"exited", "ended-unseen"}
            ):
                return
        raise Violated(
            f"the journal does not tell the end of {program.service} {program.pid} ({program.status})"
        )

    def _outcomes(self) -> None:
        """Every snapshot has a report or a reason; every crash and hang has a snapshot."""
        journal = self._computer.journal
        done = {
            entry["report"]: index
            for index, entry in enumerate(journal)
            if entry["event"] in {"report", "snapshot-failed"}
        }
        asked: dict[tuple[str, int], int] = {}
        for index, entry in enumerate(journal):
            if entry["event"] == "snapshot":
                asked[entry["service"], entry["pid"]] = index
                if entry["report"] not in done and not self._lost_after(index):
                    raise Violated(f"a snapshot without a report or a reason: {entry}")
        for index, entry in enumerate(journal):
            if entry["event"] not in {"crash", "hang"} or entry.get("captured") is False:
                continue
            if not self._is_followed_by_snapshot(index, entry) and not self._lost_after(index):
                raise Violated(f"nothing came of: {entry}")

    def _deaths_are_recorded(self) -> None:
        """A death by its own fault that nobody foresaw has a report without a core, each its own.

        A monitor that is killed leaves it to the next: what that is told by the journal, it makes.
        """
        owed: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for entry in self._computer.journal:
            event, service = entry["event"], entry["service"]
            if event == "exited" and entry.get("unreported") and entry["signo"] in CRASH_SIGNALS:
                owed[service].append(entry)
            elif owed[service] and (
                (event == "snapshot" and entry["pid"] == 0)
                or (event == "snapshot-failed" and entry["what"].startswith("the death of"))
            ):
                owed[service].pop(0)
        latest_ns = max((entry["monotonic_ns"] for deaths in owed.values() for entry in deaths), default=0)
        for deaths in owed.values():
            for entry in deaths:
                is_known = not entry.get("is_lost") or not self.losses
                if is_known and latest_ns - entry["monotonic_ns"] < _OWED_S * SECOND_NS:
                    raise Violated(f"a death without a report or a reason: {entry}")

    def _faults_are_news(self) -> None:
        """What the journal calls unreported is what nobody foresaw."""
        is_foreseen: dict[str, bool] = {}
        for entry in self._computer.journal:
            event, service = entry["event"], entry["service"]
            if event in {"crash", "hang"} and not {"captured", "worker"} & entry.keys():
                is_foreseen[service] = True
            elif event in {"started", "adopted", "exited", "ended-unseen"}:
                before = is_foreseen.pop(service, False)
                is_fault = event == "exited" and entry["signo"] in CRASH_SIGNALS
                if is_fault and before == entry.get("unreported", False):
                    raise Violated(f"a death that is news, or is not, and the journal errs: {entry}")

    def _is_followed_by_snapshot(self, index: int, entry: dict[str, Any]) -> bool:
        for later in self._computer.journal[index:]:
            is_its = later["event"] == "snapshot" and later["service"] == entry["service"]
            if is_its and (entry["event"] == "hang" or later["pid"] == entry["pid"]):
                return True
        return False

    def _lost_after(self, index: int) -> bool:
        """Whether a monitor was lost while something could still come of this entry."""
        latest_ns = self._computer.awake_ns[index] + _OUTCOME_S * SECOND_NS
        return any(loss > index and at_ns < latest_ns for loss, at_ns in self.losses)

    def _output_is_complete(self) -> None:
        computer = self._computer
        lost = sum(fifo.lost + len(fifo.messages) for fifo in computer.all_fifos)
        kept = 0
        for path, lines in computer.logs.items():
            numbers = [abs(line) for line in lines]
            kept += len(numbers)
            if any(after <= before for before, after in pairwise(numbers)):
                raise Violated(f"{path}: lines are there twice, or in disorder")
        if kept + lost != sum(computer.written.values()):
            raise Violated(
                f"output is lost: {sum(computer.written.values())} written, {kept} kept, {lost} lost"
            )

    def _losses_are_counted(self) -> None:
        """What a full disk has kept from the journal is said by the next line."""
        missing = 0
        lost_at = {index for index, _ in self.losses}
        for index, entry in enumerate(self._computer.journal):
            if index in lost_at or entry["event"] == "monitor-started":
                missing = 0  # the count died with its monitor
            if entry.get("is_lost"):
                missing += 1
                continue
            if entry.get("lost_before", 0) != missing:
                raise Violated(
                    f"the journal says that {entry.get('lost_before', 0)} lines are lost: {missing} are"
                )
            missing = 0
