r"""How else does a program say that it is ready, and that it lives?

The heartbeat page is one way. Here are the others, of one service:

    sd_notify message --\
    newline on a pipe ----> Signs --writes--> page        (a beat is a beat, whichever way it came)
    probe that answers --/        --events--> machine     (BecameReady, HeartbeatLate)
    time that passes ---/

A program that is to say when it is ready begins in the page's phase STARTING, so that the start interval
bounds it; what is written into the page is what a program linked with libgimli would write itself. Nothing is
watched that has not begun: a program that says READY=1 and never WATCHDOG=1 is up, and not late.
"""

from __future__ import annotations

import os

from gimli import clock, heartbeat
from gimli.errors import PeerError
from gimli.monitor import events, notify
from gimli.monitor.child import State
from gimli.monitor.config import Access, ReadyBy
from gimli.monitor.descriptor_store import STORED_MAX, DescriptorStore
from gimli.monitor.main_process import Former, open_member
from gimli.monitor.probe import Prober
from gimli.monitor.ready_pipe import ReadyPipe
from gimli.monitor.spawn import Given
from gimli.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from gimli.loop import Deadline, Loop
    from gimli.monitor.child import Child
    from gimli.monitor.config import Intervals, Service, Target
    from gimli.monitor.notify import Notice
    from gimli.monitor.notify_socket import Message
    from gimli.monitor.spawned import Spawned

    class Subject(Protocol):
        """The service whose signs these are, as far as they move it."""

        config: Service
        child: Child

        def handle(self, event: events.Event) -> None:
            """Let the machine take an event."""

        def look_at_page(self) -> None:
            """Look at the page now."""

        def tell(self, event: str, **details: Any) -> None:
            """Write an event of the service to the journal."""

        def extend_stop(self, delay_s: float) -> None:
            """Let the stop last so much longer, from now, if it is under way and was shorter."""

        def change_main(self, pid: int, pidfd: int) -> int:
            """Another process is the main one from now on; the pidfd of the former one."""

        def settle(self) -> None:
            """Learn of an exec that has succeeded: what the program says may be read before that is."""

        def start_command(self, command: tuple[str, ...]) -> Spawned:
            """Start a command where the service runs."""


_US = 1_000_000
"""Microseconds of a second."""
_STOP_INTERVALS_MAX = 10
"""A program may ask for more time to stop, up to so many of its stop intervals: every stop is bounded."""
_FEW = 20
"""Journal entries about its messages, per instance: they must not flood it."""
_LISTEN_FDS_START = 3  # sd_listen_fds(3)


class Signs:
    """The other signs of life of one service, through all its instances.

    Args:
        subject: the service.
        page: its heartbeat page.
        loop: where what it says is waited for.
        notify_path: where it may send what it says.
    """

    __slots__ = (
        "_beats", "_entered_ns", "_few_told", "_former", "_is_ready", "_is_reloading", "_last_probe_failure",
        "_loop", "_main", "_notify_path", "_page", "_pending", "_pipe", "_probers", "_start_s", "_stop_by_ns",
        "_subject", "_told", "_watchdog_s", "_write_fd", "leader", "store",
    )  # fmt: skip

    def __init__(self, subject: Subject, page: heartbeat.PageFile, loop: Loop, notify_path: str) -> None:
        self._subject = subject
        self._page = page
        self._loop = loop
        self._notify_path = notify_path
        self._told = subject.config.signs
        self.store = DescriptorStore(loop)
        self.leader = 0
        """The process that was started; the main one, until it names another."""
        self._main = 0
        self._former: tuple[Former, ...] = ()
        self._write_fd = -1
        self._pipe: ReadyPipe | None = None
        self._pending: Deadline | None = None
        self._probers: tuple[Prober, ...] = ()
        self._forget_instance()

    def _forget_instance(self) -> None:
        self._is_ready = False
        self._is_reloading = False
        self._beats = False
        """WATCHDOG=1 has been seen: from now on its absence means something."""
        self._watchdog_s: float | None = None
        self._start_s: float | None = None
        self._stop_by_ns = 0
        self._entered_ns = 0
        """When the page was last given a phase from here: the stamp that stands there since."""
        self._last_probe_failure = ""
        self._few_told = 0

    # The life of an instance, as the service tells it.

    @property
    def says_ready(self) -> bool:
        """The program is up when it says so, not when it has been executed."""
        return self._told.ready is not ReadyBy.EXEC

    @property
    def intervals(self) -> Intervals:
        """The silence allowed, with what the program has asked for."""
        usual = self._subject.config.policy.intervals
        if self._watchdog_s is None and self._start_s is None:
            return usual
        return replace(
            usual,
            watchdog_s=usual.watchdog_s if self._watchdog_s is None else self._watchdog_s,
            start_s=usual.start_s if self._start_s is None else self._start_s,
        )

    def prepare(self) -> Given:
        """What the next instance is given. Its page has just been reset.

        Raises:
            OSError: there are no descriptors left.
        """
        self._forget_instance()
        if self.says_ready:
            self._write_state(heartbeat.STARTING)
        placed: tuple[tuple[int, int], ...] = ()
        if self._told.ready is ReadyBy.FD:
            read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(read_fd, False)
            self._pipe = ReadyPipe(self._loop, read_fd, self._pipe_ready, self._pipe_silent)
            placed = ((self._write_fd, self._told.ready_fd),)
        if self._told.access is Access.NONE:
            return Given(placed=placed)
        environment = {
            notify.ENV_SOCKET: self._notify_path,
            notify.ENV_WATCHDOG_USEC: str(round(self._subject.config.policy.intervals.watchdog_s * _US)),
        }
        own_pid = [notify.ENV_WATCHDOG_PID]
        if held := self.store.held():
            environment["LISTEN_FDS"] = str(len(held))
            environment["LISTEN_FDNAMES"] = ":".join(stored.name for stored in held)
            own_pid.append("LISTEN_PID")
            placed += tuple((stored.fd, number) for number, stored in enumerate(held, _LISTEN_FDS_START))
        return Given(tuple(environment.items()), tuple(own_pid), placed)

    def forked(self, pid: int | None) -> None:
        """The instance exists as a process; None: it could not be made."""
        if self._write_fd >= 0:
            os.close(self._write_fd)  # the program's end; ours would keep the pipe from ever ending
            self._write_fd = -1
        if pid is None:
            self._stop_waiting()
        else:
            self.leader = self._main = pid

    def adopted(self, pid: int, leader: int) -> None:
        """A dead monitor's instance was found. It was ready, as far as anybody can know."""
        self.leader, self._main = leader, pid
        self._is_ready = True
        self._begin_probes()

    def executed(self) -> None:
        """The program runs."""
        if self._told.ready is ReadyBy.DELAY:
            self._pending = self._loop.after(self._told.ready_delay_s, self._delay_over)
        self._begin_probes()

    def _begin_probes(self) -> None:
        told = self._told
        if told.ready_probe and told.ready_probe != told.probe and not self._is_ready:
            self._probers += (self._prober(told.ready_probe, self._ready_probed),)
        if told.probe:
            self._probers += (self._prober(told.probe, self._probed),)

    def ended(self) -> None:
        """The main process is gone. One that it had followed must not live beside the next instance."""
        self._stop_waiting()
        for prober in self._probers:
            prober.cancel()
        self._probers = ()
        for former in self._former:
            former.kill()
        self._former = ()
        self.leader = self._main = 0

    def gone_for_good(self) -> None:
        """No next instance will come: nobody is left to want the descriptors."""
        self.store.clear()

    def close(self) -> None:
        """Release everything."""
        self.ended()
        self.store.clear()

    # Another monitor in the same process.

    def pack(self) -> dict[str, Any]:
        """What is known of the present instance, as plain data.

        Its descriptors (``pipe_fd``, and the second of each of ``stored``) must be inherited as they are.
        """
        return {
            "leader": self.leader,
            "main": self._main,
            "former": [former.pid for former in self._former],
            "is_ready": self._is_ready,
            "is_reloading": self._is_reloading,
            "beats": self._beats,
            "watchdog_s": self._watchdog_s,
            "start_s": self._start_s,
            "stop_by_ns": self._stop_by_ns,
            "entered_ns": self._entered_ns,
            "pipe_fd": self._pipe.fd if self._pipe else -1,
            "ready_at_ns": self._pending.at_ns if self._pending else 0,
            "stored": self.store.pack(),
        }

    def descriptors(self) -> list[int]:
        """Those that the next image of the monitor must inherit."""
        return [stored.fd for stored in self.store.held()] + ([self._pipe.fd] if self._pipe else [])

    def interrupt(self) -> None:
        """The questions under way are put again later: their answers would not be heard."""
        for prober in self._probers:
            prober.interrupt()

    def restore(self, packed: dict[str, Any]) -> None:
        """Know what the image before knew. A probe that was under way is asked again."""
        self.store.restore(packed.get("stored", []))
        self.leader, self._main = packed["leader"], packed["main"]
        self._is_ready = packed["is_ready"]
        self._is_reloading = packed.get("is_reloading", False)
        self._beats = packed.get("beats", False)
        self._watchdog_s = packed.get("watchdog_s")
        self._start_s = packed.get("start_s")
        self._stop_by_ns = packed.get("stop_by_ns", 0)
        self._entered_ns = packed.get("entered_ns", 0)
        self._follow_again(packed)

    def _follow_again(self, packed: dict[str, Any]) -> None:
        loop = self._loop
        for pid in packed.get("former", []):
            if (pidfd := open_member(pid, self.leader)) is not None:
                self._former += (Former(loop, pid, pidfd),)
        if (pipe_fd := packed.get("pipe_fd", -1)) >= 0:
            os.set_inheritable(pipe_fd, False)
            self._pipe = ReadyPipe(loop, pipe_fd, self._pipe_ready, self._pipe_silent)
        if ready_at_ns := packed.get("ready_at_ns", 0):
            self._pending = loop.at(ready_at_ns, self._delay_over)
        if self.leader:
            self._begin_probes()

    # What the program says.

    def is_main(self, pid: int) -> bool:
        """Whether ``pid`` is the main process."""
        return pid > 0 and pid == self._main

    def is_kin(self, kin: tuple[int, ...]) -> bool:
        """Whether a process of that session and those forebears is one of the service."""
        return self.leader in kin or self._main in kin if self.leader else False

    def accepts(self, message: Message) -> bool:
        """Whether what one of the service's processes says is heeded."""
        return self._told.access is Access.ALL or (
            self._told.access is Access.MAIN and self.is_main(message.pid)
        )

    def receive(self, message: Message) -> None:
        """A message from one of the service's processes."""
        self._subject.settle()
        if not self.accepts(message):
            why = "only the main process is heeded"
            fix = 'for its descendants too: notify_access = "all"'
            if self._told.access is Access.NONE:
                why, fix = "nothing is expected of it", 'to heed it: notify_access = "main"'
            self._tell_few("notify-refused", pid=message.pid, why=why, fix=fix)
            return
        if not message.is_whole:
            self._tell_few(
                "notify-refused", pid=message.pid, why="it was cut off: too long, or no descriptors left"
            )
            return
        try:
            notice = notify.parse(message.data)
        except PeerError as error:
            self._tell_few("notify-refused", pid=message.pid, why=str(error))
            return
        if notice.wrong:
            self._tell_few("notify-refused", pid=message.pid, why=f"no value for {', '.join(notice.wrong)}")
        self._heed(notice, message)

    def _heed(self, notice: Notice, message: Message) -> None:
        """Everything of a message; what changes the phase last, so that the rest stands when it is told."""
        self._heed_descriptors(notice, message)
        if notice.status is not None:
            self._page.set_note(notice.status)
        if notice.errno or notice.bus_error or notice.exit_status is not None:
            self._tell_few(
                "said-error", errno=notice.errno, bus_error=notice.bus_error, exit_status=notice.exit_status
            )
        if notice.main_pid is not None and notice.main_pid != self._main:
            self._heed_main(notice.main_pid)
        if notice.watchdog_us is not None:
            self._heed_interval(notice.watchdog_us)
        if notice.extend_us is not None:
            self._extend(notice.extend_us / _US)
        if notice.reloading and self._subject.child.state is State.RUNNING:
            self._is_reloading = True
            self._enter(heartbeat.STARTING)
            self._subject.tell("reloading", monotonic_us=notice.monotonic_us)
        if notice.ready:
            self._become_ready("notify")
        if notice.stopping:
            self._enter(heartbeat.STOPPING)
        if notice.beat:
            self._beat_by_notify()
        if notice.trigger:
            self._hang()

    def _heed_descriptors(self, notice: Notice, message: Message) -> None:
        if notice.store_remove:
            self.store.remove(notice.store_name or notify.STORED_NAME)
        elif notice.store and not notice.barrier:  # who waits for a barrier must get its descriptor closed
            name = notice.store_name or notify.STORED_NAME
            count = len(message.fds)
            left = self.store.keep(message.fds, name, polled=notice.store_polled)
            self._tell_few("fd-stored", name=name, count=count - left)
            if left:
                why = f"{left} too many, at most {STORED_MAX}"
                self._tell_few("notify-refused", pid=message.pid, why=why)

    def _heed_main(self, pid: int) -> None:
        pidfd = open_member(pid, self.leader)
        if pidfd is None:
            self._tell_few("notify-refused", pid=pid, why="MAINPID is no process of the service")
            return
        for former in self._former:
            if former.pid == pid:
                former.release()
        former = Former(self._loop, self._main, self._subject.change_main(pid, pidfd))
        self._former = (*(other for other in self._former if other.pid != pid), former)
        self._main = pid
        self._tell_few("main-process", pid=pid)

    def _heed_interval(self, watchdog_us: int) -> None:
        self._watchdog_s = watchdog_us / _US
        if watchdog_us == 0:
            self._beats = False
            if self._page.read().state == heartbeat.RUNNING:
                self._enter(heartbeat.NOT_SUPPORTED)
        else:
            self._subject.look_at_page()

    def _beat_by_notify(self) -> None:
        """Before READY=1 it is heeded as little as by systemd: the start interval bounds the start."""
        if self._watchdog_s == 0 or not (self._is_ready or not self.says_ready):
            return
        self._beats = True
        self._beat()

    def _hang(self) -> None:
        page = self._page.read()
        silent_s = max(0.0, (clock.monotonic_ns() - page.beat_ns) / 1e9) if page.beat_ns else 0.0
        self._subject.tell("watchdog-triggered")
        allowed_s = self.intervals.watchdog_s
        self._subject.handle(
            events.HeartbeatLate(pulse=None, tid=None, silent_s=silent_s, allowed_s=allowed_s, late_ms=0.0)
        )

    def _extend(self, extend_s: float) -> None:
        """So long from now, if what is left of the present phase is shorter."""
        now_ns = clock.monotonic_ns()
        match self._subject.child.state:
            case State.STARTING:
                left_s = self.intervals.start_s - (now_ns - self._page.read().beat_ns) / 1e9
                if extend_s > left_s:
                    self._start_s = extend_s
                    self._enter(heartbeat.STARTING)
            case State.STOPPING:
                stop_s = self._subject.config.policy.intervals.stop_s
                self._stop_by_ns = self._stop_by_ns or now_ns + round(_STOP_INTERVALS_MAX * stop_s * 1e9)
                self._subject.extend_stop(min(extend_s, max(0.0, (self._stop_by_ns - now_ns) / 1e9)))

    # Ready, and alive.

    def _become_ready(self, by: str) -> None:
        if self._is_ready and not self._is_reloading:
            return
        self._is_ready, self._is_reloading = True, False
        self._start_s = None
        self._stop_waiting()
        self._subject.handle(events.BecameReady(by))
        page = self._page.read()
        if page.state == heartbeat.STARTING and page.beat_ns == self._entered_ns:
            # Ours, not the library's of a program that beats by the page as well: that one goes on by itself.
            self._enter(heartbeat.RUNNING if self._beats or self._told.probe else heartbeat.NOT_SUPPORTED)

    def _delay_over(self) -> None:
        self._become_ready("delay")

    def _stop_waiting(self) -> None:
        if self._pipe:
            self._pipe.cancel()
            self._pipe = None
        if self._pending:
            self._pending.cancel()
            self._pending = None

    def _pipe_ready(self) -> None:
        self._subject.settle()
        self._become_ready("fd")

    def _pipe_silent(self) -> None:
        self._tell_few("not-ready", why=f"it has closed descriptor {self._told.ready_fd} without a newline")

    def _ready_probed(self, why: str) -> None:
        if not why:
            ready, *others = self._probers
            self._probers = tuple(others)
            ready.cancel()
            self._become_ready("probe")

    def _probed(self, why: str) -> None:
        if self._subject.child.state not in {State.STARTING, State.RUNNING}:
            return
        if why:
            self._tell_silence(why)
            return
        self._last_probe_failure = ""
        if self._told.ready_probe == self._told.probe:
            self._become_ready("probe")
        if self._is_ready or not self.says_ready:
            self._beat()

    def _tell_silence(self, why: str) -> None:
        """Once for each reason in a row, and not while the program has yet to start."""
        if why != self._last_probe_failure and self._subject.child.state is State.RUNNING:
            self._subject.tell("probe-failed", probe=str(self._told.probe), why=why)
            self._last_probe_failure = why

    def _prober(self, target: Target, on_end: Callable[[str], None]) -> Prober:
        return Prober(
            self._loop,
            target,
            interval_s=self._told.probe_interval_s,
            timeout_s=self._told.probe_timeout_s,
            start=self._subject.start_command,
            on_end=on_end,
        )

    def _beat(self) -> None:
        """It lives. While it reloads that does not make it ready."""
        if self._is_reloading:
            self._enter(heartbeat.STARTING)
            return
        page = self._page
        page.set_running(page.read().ticks + 1, clock.monotonic_ns())
        self._subject.look_at_page()

    def _enter(self, state: int) -> None:
        """Write another phase of the heartbeat, or a beat in the present one."""
        self._write_state(state)
        self._subject.look_at_page()

    def _write_state(self, state: int) -> None:
        self._entered_ns = clock.monotonic_ns()
        self._page.set_state(state, self._entered_ns)

    def _tell_few(self, event: str, **details: Any) -> None:
        self._few_told += 1
        if self._few_told <= _FEW:
            self._subject.tell(event, **details)
