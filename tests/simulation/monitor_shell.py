"""The monitor itself, with its real decisions (``runtime.Monitor``) on virtual parts.

What is replaced: how its parts are made, and the calls that need a real kernel (helpers of a takeover,
execve, the end). What is not: signals, rings, requests, the document of a takeover and going on from it.
"""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING, Any

from gimli.errors import AlreadyRunning, GimliError
from gimli.monitor.deaths import Records
from gimli.monitor.evidence import Evidence
from gimli.monitor.requests import Requests
from gimli.monitor.runtime import Monitor
from gimli.monitor.site import Site
from gimli.monitor.supervision import Supervision
from gimli.monitor.takeover import Takeover
from simulation.bystanders import NoNotify, NoSenders, SignalLog
from simulation.files import File, Pipe
from simulation.helpers import VirtualHelper
from simulation.journal import VirtualJournal
from simulation.kernel import VirtualKernel
from simulation.loop import VirtualLoop
from simulation.world import Violated

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.monitor import config
    from gimli.signals import Received
    from simulation.computer import Computer, MonitorProcess

_HELPER_TIMEOUT_S = 20.0


class Replaced(BaseException):
    """execve has succeeded: the image that called it is no more."""

    def __init__(self, document: bytes, process: MonitorProcess) -> None:
        super().__init__()
        self.document = document
        self.process = process


class Shell(Monitor):
    """A monitor's image in a virtual process."""

    def __init__(
        self,
        computer: Computer,
        me: MonitorProcess,
        told: config.Monitor,
        packed: dict[str, Any] | None = None,
    ) -> None:
        before: dict[str, Any] = packed or {}
        self.me = me
        self._computer = computer
        self.told = told
        self.started = "then"
        self.takeovers = before.get("takeovers", 0)
        self.loop = VirtualLoop(me)
        self._lock = VirtualLock(me, before.get("lock_fd"))
        self._lost_pid = self._lock.lost_pid
        self.journal = VirtualJournal(computer, me)
        if packed:
            self.journal.restore(packed["journal"])
        self.evidence = Evidence(
            self.loop,
            self.journal,
            told.capture_command,
            told.analysis_command,
            new_helper=VirtualHelper,
        )
        self._bell = VirtualBell(me, self.loop, self._rung, before.get("bell_fd"))
        self._signals = Signals(me)
        self.senders = NoSenders()
        self._signal_log = SignalLog(self.journal)
        self._notify = NoNotify(me, before.get("notify_fd"))
        self.pidfile = None
        self._hup_to_forward = before.get("hup_to_forward", False)
        self._internal_errors = before.get("internal_errors", 0)
        self.takeover = Takeover(self)
        self.requests = Requests(self)
        self._control = Control(self, before.get("control", {}).get("fd"))
        self._descriptors = (1024, 1024)
        self._kernel = VirtualKernel(computer, me)
        site = Site(
            self._kernel,
            self.loop,
            self.journal,
            self.evidence,
            told.state_dir,
            told.instance_dir,
            "bell",
            told.library,
            self._descriptors,
            self.senders,
            Records(),
            self._notify,
        )
        self.supervision = Supervision(told, site, self.requests.changed, before.get("supervision"))
        if packed:
            self._restore(packed)
        self.loop.watch(self._signals.fd, self._signalled)

    def _reap(self) -> None:
        """As ``reaper.reap_strangers``: up to one that somebody waits for."""
        self.me.call()
        for process in tuple(self._computer.processes.values()):
            if process.is_zombie and process.parent == self.me.pid:
                if process.pid in self.loop.children:
                    self.loop.after(0.0, self._reap)
                    return
                process.reaped()

    # The steps of a takeover.

    def reread(self, done: Callable[[dict[str, Any] | None, str], None]) -> None:
        """By a helper."""
        if not self.told.reread_command:
            done(None, "")
            return
        answer: dict[str, Any] = {}
        helper = VirtualHelper(self.loop, answer.update, lambda wrong: done(answer.get("config"), wrong))
        try:
            helper.start(self.told.reread_command, b"", _HELPER_TIMEOUT_S)
        except OSError as error:
            done(None, f"the configuration cannot be read: {error.strerror}")

    def verify(self, configuration: dict[str, Any] | None, done: Callable[[str], None]) -> None:
        """By a helper."""
        document = json.dumps(self._pack(configuration, wished_again=False)).encode()
        command = (*self.told.monitor_command, "--verify-state")
        try:
            VirtualHelper(self.loop, lambda _: None, done).start(command, document, _HELPER_TIMEOUT_S)
        except OSError as error:
            done(f"the new image cannot be started: {error.strerror}")

    def execute(self, configuration: dict[str, Any] | None, *, wished_again: bool) -> str:
        """In place."""
        self.supervision.interrupt()
        self._nothing_is_forgotten()
        document = json.dumps(self._pack(configuration, wished_again=wished_again)).encode()
        fds = self._inherited()
        try:
            self.me.may_fail(errno.EMFILE, errno.ENOMEM)
            self._kernel.set_inheritable(fds, inheritable=True)
            self.me.may_fail(errno.ENOMEM, errno.ENOENT)
        except OSError as error:
            self._kernel.set_inheritable(fds, inheritable=False)
            return f"the new image cannot be executed: {error.strerror}"
        self.me.execute()
        raise Replaced(document, self.me)

    def _nothing_is_forgotten(self) -> None:
        """Deaths that wait for their report are nowhere in the document of a takeover."""
        for service in self.supervision.services.values():
            if service.inquest.is_due:
                raise Violated(f"{service.config.name}: a takeover forgets a death")

    def _close(self) -> None:
        self.supervision.close()
        self.me.close(self._bell.fileno())
        self.me.close(self._notify.fileno())
        self._control.close()
        self._computer.lock_holder = None
        self.me.close(self._lock.fd)


class VirtualLock:
    """The instance's."""

    def __init__(self, me: MonitorProcess, fd: int | None) -> None:
        self.lost_pid: int | None = None
        if fd is None:
            me.call()
            if me.computer.lock_holder:
                raise AlreadyRunning("a monitor runs already")
            me.computer.lock_holder = me
            self.lost_pid, me.computer.lost_pid = me.computer.lost_pid, None
            fd = me.open(File(me.computer.hot))
        self.fd = fd


class VirtualBell:
    """The socket that programs ring."""

    def __init__(
        self, me: MonitorProcess, loop: VirtualLoop, on_ring: Callable[[str], None], fd: int | None
    ) -> None:
        self._on_ring = on_ring
        self._fd = me.open(Pipe(me.computer.hot)) if fd is None else fd
        self._pipe: Pipe = me.file(self._fd)
        me.bell = self._pipe
        loop.watch(self._fd, self._rung)

    def fileno(self) -> int:
        """Its descriptor."""
        return self._fd

    def _rung(self, _: int) -> None:
        while name := self._pipe.take():
            assert isinstance(name, bytes)
            self._on_ring(name.decode())


class Signals:
    """The signalfd: made anew by each image, while the signals stay pending."""

    def __init__(self, me: MonitorProcess) -> None:
        self._me = me
        self._file = File(me.computer.hot)
        self.fd = me.open(self._file)
        me.signal_file = self._file
        self._file.ready = 1 if me.pending else 0

    def read(self) -> list[Received]:
        """Those pending."""
        self._me.call()
        received, self._me.pending = self._me.pending, []
        self._file.ready = 0
        return received


class Client(File):
    """A connection of the control socket."""

    __slots__ = ("_control", "answer", "on_close", "pending")

    def __init__(self, control: Control) -> None:
        super().__init__(control.me.computer.hot)
        self.pending: dict[str, Any] | None = None
        self.answer: object = None
        self.on_close: list[Callable[[], None]] = []
        self._control = control

    def fileno(self) -> int:
        """Its descriptor."""
        return self.fd

    def send(self, message: dict[str, Any], *, last: bool = False) -> None:
        """The answer."""
        self.answer = message
        if last and self.fd >= 0:
            self._control.drop(self)

    def refuse(self, error: GimliError) -> None:
        """Another answer."""
        self.send({"ok": False, "error": error}, last=True)


class Control:
    """The control socket. What clients wrote waits in it, also while a takeover goes on."""

    def __init__(self, shell: Shell, fd: int | None) -> None:
        self.me = shell.me
        self._shell = shell
        self._fd = self.me.open(Pipe(self.me.computer.hot)) if fd is None else fd
        self._pipe: Pipe = self.me.file(self._fd)
        self._clients: list[Client] = []
        shell.loop.watch(self._fd, self._accept)

    def ask(self, **request: Any) -> None:
        """A client asks."""
        self._pipe.put(request)

    def drop(self, client: Client) -> None:
        """It has its answer."""
        self._clients.remove(client)
        self.me.close(client.fd)

    def pack(self) -> dict[str, Any]:
        """For the next image."""
        return {"fd": self._fd, "connections": [{"fd": c.fd, "pending": c.pending} for c in self._clients]}

    def descriptors(self) -> list[int]:
        """To be inherited."""
        return [self._fd, *(client.fd for client in self._clients)]

    def restore(self, connections: list[dict[str, Any]]) -> list[Client]:
        """Go on."""
        self._clients = []
        for packed in connections:
            client: Client = self.me.file(packed["fd"])
            client.pending = packed["pending"]
            client._control = self
            self._clients.append(client)
        return self._clients

    def close(self) -> None:
        """The end."""
        for client in tuple(self._clients):
            self.drop(client)
        self.me.close(self._fd)

    def _accept(self, _: int) -> None:
        while request := self._pipe.take():
            self.me.call()
            client = Client(self)
            self.me.open(client)
            self._clients.append(client)
            assert isinstance(request, dict)
            try:
                answer = self._shell.requests.handle(request, client)
            except GimliError as error:
                client.refuse(error)
                continue
            if answer is not None:
                client.send(answer, last=True)
