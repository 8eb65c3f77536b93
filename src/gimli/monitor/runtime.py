r"""The monitor itself: its services, its signals, its bell, and its end.

    signalfd, bell, control socket --> one service --> machine --> actions
                    \\--> deadlines --/

One process, one loop. Its end is always bounded: TERM to every service, the stop interval, KILL.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket

from gimli import clock, paths, process
from gimli.control.server import Server, listen
from gimli.errors import AlreadyRunning, StoreError
from gimli.journal import Journal
from gimli.monitor import events
from gimli.monitor.child import LIVE, State
from gimli.monitor.evidence import Evidence
from gimli.monitor.loop import Loop
from gimli.monitor.narrator import Narrator
from gimli.monitor.requests import Requests
from gimli.monitor.service import Site, Supervised
from gimli.monitor.signals import Received, SignalReader, describe_sender
from gimli.monitor.spawn import load_spawner, raise_descriptor_limit
from gimli.monitor.spool import Spool
from gimli.status import MonitorStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.monitor import config

CONTROL_NAME = "control.sock"
BELL_NAME = "bell"
LOCK_NAME = "lock"
SPOOL_NAME = "spool"
_RING_BYTES_MAX = 256
_RINGS_AT_ONCE = 256
_INTERNAL_ERRORS_MAX = 20
_ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})


class Monitor:
    """One monitor from start to end.

    Raises:
        AlreadyRunning: another one holds this instance.
        StoreError: a directory it needs cannot be used.
    """

    def __init__(self, told: config.Monitor) -> None:
        self.told = told
        self.started = clock.now_rfc3339()
        self.loop = Loop()
        self._prepare_directories()
        self._lock_fd = _lock(os.path.join(told.instance_dir, LOCK_NAME), told.instance)
        journal_path = os.path.join(told.state_dir, "journal", f"{told.instance}.jsonl")
        self.journal = Journal(journal_path, cap_bytes=told.journal_bytes // 2)
        self.evidence = Evidence(
            self.loop, self.journal, told.capture_command, told.analysis_command, told.quota
        )
        self._bell = listen(os.path.join(told.instance_dir, BELL_NAME), socket.SOCK_DGRAM, mode=0o666)
        self._signals = SignalReader()
        self.is_ending = False
        self._is_hasty = False
        self._internal_errors = 0
        self.requests = Requests(self)
        self._control = Server(self.loop, os.path.join(told.instance_dir, CONTROL_NAME), self.requests.handle)
        site = Site(
            self.loop,
            self.journal,
            self.evidence,
            told.state_dir,
            told.instance_dir,
            os.path.join(told.instance_dir, BELL_NAME),
            told.library,
            raise_descriptor_limit(),
            load_spawner(),
            Spool(os.path.join(told.instance_dir, SPOOL_NAME)),
        )
        self._spool = site.spool
        self.services = {made.name: Supervised(made, site, self._changed) for made in told.services}
        if told.foreground:
            self.journal.subscribers.append(Narrator().tell)
        self.loop.watch(self._signals.fd, self._signalled)
        self.loop.watch(self._bell.fileno(), self._rung)

    def run(self) -> int:
        """Hold the services until the end.

        Returns:
            The exit status: of ``gimli run``, the program's own; of ``gimli up``, 0.
        """
        self.journal.record("monitor-started", pid=os.getpid(), instance=self.told.instance)
        for service in self.services.values():
            if service.config.autostart:
                service.handle(events.StartWanted())
        while not self._is_over():
            self._run_once()
        status = self._exit_status()
        self.journal.record("monitor-ended", pid=os.getpid(), status=status)
        self._close()
        return status

    def shut_down(self, because: str) -> None:
        """Stop every service, then end. Asked a second time: without waiting for the stop intervals."""
        self._is_hasty = self.is_ending
        event = events.StopExpired() if self._is_hasty else events.StopWanted(because)
        self.is_ending = True
        for service in self.services.values():
            service.handle(event)

    def status(self) -> MonitorStatus:
        """The monitor as ``gimli ps`` shows it."""
        services = tuple(service.status() for service in self.services.values())
        return MonitorStatus(os.getpid(), self.told.instance, self.started, 0, services)

    def _run_once(self) -> None:
        """One round of the loop; the last line of defence against a bug of ours.

        A monitor that falls leaves its services unwatched, so it records the bug and goes on; one that
        keeps failing would only burn CPU, so it ends in order.
        """
        try:
            self.loop.run_once()
        except Exception:  # noqa: BLE001 - whatever it is, the services are worth more
            import traceback  # noqa: PLC0415 - 9 ms and 1 MB that a monitor without bugs never needs

            self._internal_errors += 1
            self.journal.record("internal-error", traceback=traceback.format_exc())
            if self._internal_errors == _INTERNAL_ERRORS_MAX:
                self.shut_down(f"{_INTERNAL_ERRORS_MAX} internal errors; see: gimli events")

    def _changed(self, service: Supervised) -> None:
        if self._is_hasty and service.child.state is State.STOPPING:
            service.handle(events.StopExpired())  # it was captured when haste was asked for
        self.requests.changed(service)

    def _prepare_directories(self) -> None:
        paths.make_private_dir(self.told.state_dir)
        for name in ("journal", "logs", "reports"):
            paths.make_private_dir(os.path.join(self.told.state_dir, name))
        # Programs of other users pass through to ring the bell; nothing here can be listed by them.
        paths.make_private_dir(os.path.dirname(self.told.instance_dir), mode=0o711)
        paths.make_private_dir(self.told.instance_dir, mode=0o711)

    def _is_over(self) -> bool:
        # Asked after every round: a monitor of many services must not look at each of them then.
        if not self.is_ending and not self.told.foreground:
            return False
        states = {service.child.state for service in self.services.values()}
        if self.is_ending:
            return not states & LIVE and not self.evidence.is_capturing
        return states <= {State.DOWN, State.FAILED} and self.evidence.is_idle

    def _exit_status(self) -> int:
        if not self.told.foreground:
            return 0
        child = next(iter(self.services.values())).child
        if child.last_status is not None:
            return child.last_status.shell_status
        return 127 if child.state is State.FAILED else 0

    def _signalled(self, _: int) -> None:
        for received in self._signals.read():
            if received.signo == signal.SIGCHLD:
                for service in self.services.values():
                    service.stopped_itself()
            else:
                self._act_on(received)

    def _act_on(self, received: Received) -> None:
        service = next((item for item in self.services.values() if item.pid == received.pid), None)
        if received.signo == signal.SIGUSR1 and service:
            service.beat_by_signal()
            return
        name = process.signal_name(received.signo)
        self.journal.record("signal", signal=name, sender=describe_sender(received))
        if received.signo == signal.SIGUSR2 and service:
            service.crash_signalled()
        elif received.signo in _ENDING:
            self.shut_down(f"the monitor received {name}")
        elif received.signo == signal.SIGHUP:
            self.journal.reopen()
            for each in self.services.values():
                each.reopen_log()

    def _rung(self, _: int) -> None:
        """A ring is a hint and names a service; what counts is what stands in that service's page."""
        for _round in range(_RINGS_AT_ONCE):
            try:
                name = self._bell.recv(_RING_BYTES_MAX)
            except BlockingIOError:
                return
            if service := self.services.get(name.decode(errors="replace")):
                service.look_at_page()

    def _close(self) -> None:
        for service in self.services.values():
            service.close()
        self._spool.close()
        self._bell.close()
        for name in (BELL_NAME, LOCK_NAME):
            paths.unlink_if_there(os.path.join(self.told.instance_dir, name))
        os.close(self._lock_fd)
        # Last: who waits for our end, as `gimli down` does, may start the next monitor at once.
        self._control.close()
        try:
            os.rmdir(self.told.instance_dir)
        except OSError:
            return  # something else lives there; not ours to remove


def _lock(path: str, instance: str) -> int:
    """Hold the instance: the kernel lets go of the lock when this process ends, however it ends."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StoreError(f"cannot open {path}", why=error.strerror or "") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "another process"
        os.close(fd)
        raise AlreadyRunning(
            f"a monitor for {instance!r} runs already",
            why=f"pid {holder} holds {path}",
            fix="see: gimli ps; choose another name with --name, or end it with: gimli down",
        ) from error
    if not _is_still_at(fd, path):
        # Its holder ended between our open and our lock, and took the file away: that lock holds nobody off.
        os.close(fd)
        return _lock(path, instance)
    os.ftruncate(fd, 0)
    os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd


def _is_still_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False
