"""What do supervised programs do? Beat, hang, crash, exit, fork, ignore: by chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gimli import heartbeat
from gimli.process import ExitStatus
from simulation.processes import ABRT, SEGV, TERM, Process
from simulation.trees import Descendant, fork
from simulation.world import Violated

if TYPE_CHECKING:
    from simulation.computer import Computer
    from simulation.files import Fifo, PageBytes, Pipe

USR1, USR2, HUP = 10, 12, 1
_CRASH_PATIENCE_S = 10.0


class Program(Process):
    """A main process: from the fork on, so that it can die before it is one.

    Its temper is drawn once: how it starts, how often it beats, what it thinks of TERM.
    """

    def __init__(
        self,
        computer: Computer,
        parent: int,
        config: Any,
        page: PageBytes,
        fifo: Fifo | None,
        record_path: str,
        status_pipe: Pipe,
        cgroup: str | None,
    ) -> None:
        super().__init__(computer, parent, config.name)
        world = self.world
        self.service: str = config.name
        self.session = self.group = computer.terminal
        self.cgroup = cgroup
        self.leaves_leftovers: bool = config.leave_leftovers
        self._has_session: bool = config.has_session
        self.page = page
        self.fifo = fifo
        self.is_honest = False
        """It never overwrites its environment."""
        self.is_executed = False
        self.is_giving_up = False
        self.is_doing: str = "being born"
        self.keeps_its_status_secret = world.likely(0.2)
        self.crashed_ns = self.hung_ns = 0
        self._has_paused = False
        self._record_path = record_path
        self._status_pipe = status_pipe
        intervals = config.policy.intervals
        self._stop_s: float = intervals.stop_s
        self._beats = world.likely(0.8)
        self._interval_s = (
            intervals.watchdog_s * world.between(0.1, 0.7) if self._beats else world.between(0.05, 1)
        )
        self._term = world.chance.choice(("exit", "exit", "exit", "late", "ignore", "crash"))
        self._is_nasty = world.likely(0.1)
        self._wildness = world.chance.choice((0.02, 0.05, 0.2))
        computer.mains[self.service] += 1
        if computer.mains[self.service] > 1:
            raise Violated(f"a second copy of {self.service} is started")
        computer.on_spawn(self)
        computer.unborn[record_path] = self
        if fifo:
            fifo.holders += 1
        world.after(world.between(0, 0.0005), "record", self.record)

    # Between fork and exec.

    def record(self) -> None:
        """It says who it is, and lets go of the lock."""
        if self.computer.unborn.get(self._record_path) is not self or not self.is_alive:
            return
        if self.is_stopped:
            self.world.after(0.01, "record", self.record)
            return
        del self.computer.unborn[self._record_path]
        line = f"running {self.pid} {self.start_ticks} {self.computer.boot_id}"
        self.computer.records[self._record_path] = line.encode().ljust(127) + b"\n"
        self.world.after(self.world.between(0, 0.001), "exec", self._execute)

    def _execute(self) -> None:
        if not self.is_alive:
            return
        if self.is_stopped:
            self.world.after(0.01, "exec", self._execute)
            return
        if self._has_session:
            self.session = self.group = self.pid
        if not self.computer.is_calm and self.world.likely(0.04):
            self.is_giving_up = True
            self._status_pipe.put("program: No such file or directory")
            self.world.after(self.world.between(0, 0.0005), "exit", lambda: self.end(ExitStatus(code=127)))
            return
        self.is_executed = self.is_marked = True
        self.world.say("exec of", self.role, self.pid)
        self._status_pipe.end()
        self.is_doing = "running"
        if not self.computer.is_calm and self._is_doomed():
            doom_s = self.world.between(0, 0.1)  # it dies at once, each time, before it can say anything
            self.world.after(doom_s, "exit", lambda: self.end(ExitStatus(signo=SEGV, core_dumped=True)))
            return
        for _ in range(self.world.chance.choice((0, 0, 0, 1, 3))):
            self.world.after(self.world.between(0, 1), "descendant", self._fork_worker)
        if self._beats:
            self._attach()
        self._go_on()

    def _is_doomed(self) -> bool:
        """A new version that cannot even start: what befell one instance befalls the next."""
        doomed = self.computer.doomed
        if self.world.likely(0.8 if self.service in doomed else 0.03):
            doomed.add(self.service)
            return True
        doomed.discard(self.service)
        return False

    def ended(self) -> None:
        """Its copies of descriptors are gone."""
        self.computer.mains[self.service] -= 1
        if self.computer.unborn.get(self._record_path) is self:
            del self.computer.unborn[self._record_path]
        self._status_pipe.end()
        if self.fifo:
            self.fifo.release()
        for process in tuple(self.computer.processes.values()):
            if isinstance(process, Descendant) and process.main is self:
                process.main_ended()
        if self.is_executed:
            self.computer.ended_mains.append(self)

    # Life.

    def thaw(self) -> None:
        """It goes on where it was."""
        super().thaw()
        self._wake()

    def _wake(self) -> None:
        if self._has_paused and not self.is_stopped and self.frozen_by is None:
            self._has_paused = False
            self._go_on()

    def _go_on(self) -> None:
        self.world.after(self._interval_s * self.world.between(0.8, 1.2), "program", self._act)

    def _act(self) -> None:
        if not self.is_alive:
            return
        if self.is_stopped or self.frozen_by is not None:
            self._has_paused = True
            return
        if self.is_doing != "running":
            return
        if self.fifo:
            self._write()
        if not self.computer.is_calm and self.world.likely(self._wildness):
            self._do_something()
        elif self._beats:
            self._beat()
        if self.is_doing == "running" and self.is_alive:
            self._go_on()

    def _write(self) -> None:
        assert self.fifo is not None
        self.computer.written[self.service] += 1
        self.fifo.put(self.computer.written[self.service])

    def _do_something(self) -> None:
        deed = self.world.chance.choice(_DEEDS)
        self.world.say(self.role, self.pid, deed.__name__.strip("_"))
        deed(self)

    def _attach(self) -> None:
        self.page.write(heartbeat.OFFSET_LIBRARY, "<I", heartbeat.LIBRARY_C)
        self._say_state(heartbeat.STARTING)

    def _say_state(self, state: int) -> None:
        self.page.write(heartbeat.OFFSET_STATE, "<i", state)
        self.page.write(heartbeat.OFFSET_BEAT_NS, "<Q", self.world.now_ns)
        self.computer.ring(self.service)

    def _beat(self) -> None:
        page = self.page.read()
        if page.state == heartbeat.STARTING:
            self._say_state(heartbeat.RUNNING)
        self.page.write(heartbeat.OFFSET_TICKS, "<i", (page.ticks + 1) & 0x7FFFFFFF)
        self.page.write(heartbeat.OFFSET_BEAT_NS, "<Q", self.world.now_ns)

    # Deeds.

    def _exit(self) -> None:
        self.end(ExitStatus(code=self.world.chance.choice((0, 1, 3))))

    def _hang(self) -> None:
        if self._beats:
            self.is_doing = "hanging"
            self.hung_ns = self.world.now_ns
            self.computer.on_hang(self)

    def _crash(self) -> None:
        self.die_of(SEGV)

    def die_of(self, signo: int, tid: int = 0) -> None:
        """By its crash handler, which asks for a snapshot and waits; or at once."""
        self.crashed_ns = self.world.now_ns
        page = self.page.read()
        dies_at_once = self.page.content[heartbeat.OFFSET_FLAGS : heartbeat.OFFSET_FLAGS + 1] == b"\x01"
        if not self._beats or dies_at_once or not page.intact:
            self.end(ExitStatus(signo=signo, core_dumped=True))
            return
        self.is_doing = "crashing"
        request = page.request + 1
        self.page.write(heartbeat.OFFSET_CRASH, "<iiQiiI", signo, 1, 0, self.pid, tid or self.pid, request)
        self.computer.ring(self.service)
        self._wait_for_release(request, signo, self.world.now_ns + int(_CRASH_PATIENCE_S * 1e9))

    def _wait_for_release(self, request: int, signo: int, until_ns: int) -> None:
        if not self.is_alive:
            return
        page = self.page.read()
        if (page.release == page.request or self.world.now_ns >= until_ns) and not self.frozen_by:
            if self._is_nasty:
                return  # its shutdown function never returns
            self.end(ExitStatus(signo=signo, core_dumped=True))
            return
        self.world.after(0.5, "program", lambda: self._wait_for_release(request, signo, until_ns))

    def _crash_as_the_original(self) -> None:
        if self._beats or not self.computer.monitor:
            return
        self.crashed_ns = self.world.now_ns
        self.is_doing = "crashing"
        first, second = lambda: self.computer.tell_monitor(USR2, self.pid), self.stop
        if self.world.likely(0.5):
            first, second = second, first
        first()
        second()
        self.world.after(self.world.between(2, 60), "program", self._die_if_continued)

    def _die_if_continued(self) -> None:
        if self.is_alive and not self.is_stopped and not self.frozen_by:
            self.end(ExitStatus(signo=SEGV, core_dumped=True))
        elif self.is_alive:
            self.world.after(1, "program", self._die_if_continued)

    def _fork_worker(self) -> None:
        if self.is_alive and not self.is_stopped and not self.frozen_by:
            fork(self, self)

    def _stop_beating_in_order(self) -> None:
        if self._beats:
            self._say_state(heartbeat.STOPPING)
            self.is_doing = "stopping"
            if not self._is_nasty:
                self.world.after(self.world.between(0, self._stop_s), "exit", self._exit)

    def _overwrite_page(self) -> None:
        content = bytearray(self.page.content)
        where = self.world.chance.randrange(heartbeat.PAGE_SIZE - 64)
        if self.world.likely(0.3):
            where = self.world.chance.randrange(64)
        content[where : where + 32] = self.world.chance.randbytes(32)
        self.page.replace(content)

    def _truncate_page(self) -> None:
        self.page.replace(b"")

    def _overwrite_environment(self) -> None:
        self.is_marked = self.is_honest

    def _beat_by_signal(self) -> None:
        self.computer.tell_monitor(USR1, self.pid)

    def _ring(self) -> None:
        self.computer.ring(self.service)

    def _starve(self) -> None:
        """A while without beats."""
        self.is_doing = "starving"
        self.world.after(self._interval_s * self.world.between(0.5, 4), "program", self._recover)

    def _recover(self) -> None:
        if self.is_alive and self.is_doing == "starving":
            self.is_doing = "running"
            self._has_paused = False
            self._act()

    def _stop_itself(self) -> None:
        self.stop()
        self.world.after(self.world.between(0.1, 10), "program", self._continue)

    def _continue(self) -> None:
        if self.is_alive:
            self.signalled(18)

    # Signals.

    def signalled(self, signo: int) -> None:
        """CONT lets it go on."""
        super().signalled(signo)
        self._wake()

    def handle(self, signo: int) -> None:
        """Before exec every signal has its usual effect."""
        if not self.is_executed:
            self.end(ExitStatus(signo=signo))
        elif signo == TERM:
            self._terminate()
        elif signo == ABRT and not self._is_nasty:
            delay_s = self.world.between(0, self._stop_s)
            self.world.after(delay_s, "exit", lambda: self._end_unless_held(ExitStatus(signo=ABRT)))

    def _terminate(self) -> None:
        if self._term == "ignore" or self.is_doing == "crashing":
            return
        if self._term == "crash":
            self.die_of(SEGV)
            return
        latest_s = self._stop_s * (3 if self._term == "late" else 0.8)
        self.world.after(
            self.world.between(0, latest_s), "exit", lambda: self._end_unless_held(ExitStatus(code=0))
        )

    def _end_unless_held(self, status: ExitStatus) -> None:
        if not self.is_alive:
            return
        if self.is_stopped or self.frozen_by is not None:
            self.world.after(0.2, "exit", lambda: self._end_unless_held(status))
        else:
            self.end(status)


_DEEDS = (
    Program._exit,
    Program._exit,
    Program._crash,
    Program._crash,
    Program._hang,
    Program._hang,
    Program._crash_as_the_original,
    Program._fork_worker,
    Program._fork_worker,
    Program._stop_beating_in_order,
    Program._overwrite_page,
    Program._truncate_page,
    Program._overwrite_environment,
    Program._beat_by_signal,
    Program._ring,
    Program._ring,
    Program._starve,
    Program._starve,
    Program._stop_itself,
)
