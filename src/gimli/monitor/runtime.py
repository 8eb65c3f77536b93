r"""The monitor itself: its services, its signals, its bell, and its end.

    signalfd, bell, control socket --> one service --> machine --> actions
                    \\--> deadlines --/

One process, one loop. Its end is always bounded: TERM to every service, the stop interval, KILL. It replaces
itself in place (``takeover``): what it holds becomes one document, and the next image goes on from that.
"""

from __future__ import annotations

import json
import os
import signal

from gimli import clock, paths, process
from gimli.control.server import Server
from gimli.errors import GimliError
from gimli.journal import Journal
from gimli.lock import InstanceLock
from gimli.loop import Loop
from gimli.monitor.bell import Bell
from gimli.monitor.cgroups import find_cgroups
from gimli.monitor.deaths import Records, find_unreported, journal_details
from gimli.monitor.evidence import Evidence
from gimli.monitor.helper import Helper
from gimli.monitor.kernel import Kernel
from gimli.monitor.notify_socket import NotifySocket
from gimli.monitor.pidfile import Pidfile
from gimli.monitor.presence import Presence
from gimli.monitor.reaper import become_subreaper, reap_strangers
from gimli.monitor.requests import Requests
from gimli.monitor.senders import Senders
from gimli.monitor.signal_log import SignalLog
from gimli.monitor.site import Site
from gimli.monitor.snapshots import Snapshots
from gimli.monitor.spawn import load_spawner, raise_descriptor_limit
from gimli.monitor.spool import Spool
from gimli.monitor.supervision import Supervision
from gimli.monitor.takeover import Takeover
from gimli.signals import FORWARDED_BY_INIT, Received, SignalReader
from gimli.status import MonitorStatus
from gimli.value import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gimli.monitor import config
    from gimli.monitor.notify_socket import Message
    from gimli.monitor.service import Supervised

CONTROL_NAME = "control.sock"
BELL_NAME = "bell"
NOTIFY_NAME = "notify"
LOCK_NAME = "lock"
STATE_SCHEMA = 2
SPOOL_NAME = "spool"
_INTERNAL_ERRORS_MAX = 20
_ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
_REREAD_TIMEOUT_S = 20.0
_VERIFY_TIMEOUT_S = 20.0


class Monitor:
    """One monitor from start to end.

    Args:
        told: the configuration.
        packed: what the image before this one has handed on; None at the first start.

    Raises:
        AlreadyRunning: another one holds this instance.
        StoreError: a directory it needs cannot be used.
    """

    def __init__(self, told: config.Monitor, packed: dict[str, Any] | None = None) -> None:
        before: dict[str, Any] = packed or {}
        self.told = told
        self.started: str = before.get("started") or clock.now_rfc3339()
        self.takeovers: int = before.get("takeovers", 0)
        self.loop = Loop()
        spawner = load_spawner()
        spawner.reserve_berths()
        self._prepare_directories()
        lock_path = os.path.join(told.instance_dir, LOCK_NAME)
        self._lock = InstanceLock(
            lock_path,
            f"a monitor for {told.instance!r}",
            "see: gimli ps; choose another name with --name, or end it with: gimli down",
            before.get("lock_fd"),
        )
        self._lost_pid = self._lock.lost_pid
        self.pidfile = self._hold_pidfile(lock_path, before.get("pidfile_fd"))
        self.journal = Journal(journal_path(told), cap_bytes=told.journal_bytes // 2)
        if packed:
            self.journal.restore(packed["journal"])  # what cannot be written is counted from now on
        self.evidence = Evidence(
            self.loop, self.journal, told.capture_command, told.analysis_command, told.quota
        )
        self._spool = Spool(os.path.join(told.instance_dir, SPOOL_NAME))
        bell_path = os.path.join(told.instance_dir, BELL_NAME)
        self._bell = Bell(self.loop, bell_path, self._rung, fd=before.get("bell_fd"))
        notify_path = os.path.join(told.instance_dir, NOTIFY_NAME)
        self._notify = NotifySocket(self.loop, notify_path, self._notified, fd=before.get("notify_fd"))
        self._strangers_refused = False
        self._cgroups = find_cgroups(told.instance, told.instance_dir)
        become_subreaper()
        self._signals = SignalReader()
        self.senders = Senders(self.loop, self.journal, told.instance, told.instance_dir)
        self._signal_log = SignalLog(self.loop, self.journal, self.senders)
        self._hup_to_forward: bool = before.get("hup_to_forward", False)
        self._internal_errors: int = before.get("internal_errors", 0)
        self.takeover = Takeover(self)
        self.requests = Requests(self)
        control: dict[str, Any] = before.get("control", {})
        control_path = os.path.join(told.instance_dir, CONTROL_NAME)
        self._control = Server(self.loop, control_path, self.requests.handle, control.get("fd"))
        self._descriptors = tuple(before.get("descriptors") or raise_descriptor_limit())
        owners = [made.identity.uid for made in told.services if made.identity]
        self._kernel = Kernel(spawner, self._cgroups, self._spool, owners)
        site = Site(
            self._kernel,
            self.loop,
            self.journal,
            self.evidence,
            told.state_dir,
            told.instance_dir,
            bell_path,
            told.library,
            (self._descriptors[0], self._descriptors[1]),
            self.senders,
            Records(),
            self._notify,
        )
        if told.foreground:
            from gimli.monitor.narrator import Narrator  # noqa: PLC0415 - 0.1 MB that gimli up never needs

            self.journal.subscribers.append(Narrator().tell)
        self.supervision = Supervision(told, site, self.requests.changed, before.get("supervision"))
        if packed:
            self._restore(packed)
        self.loop.watch(self._signals.fd, self._signalled)
        self._presence = self._look_after_names()

    @property
    def services(self) -> dict[str, Supervised]:
        """The services by name."""
        return self.supervision.services

    @property
    def is_ending(self) -> bool:
        """It has been asked to end."""
        return self.supervision.is_ending

    def run(self) -> int:
        """Hold the services until the end.

        Returns:
            The exit status: of ``gimli run``, the program's own; of ``gimli up``, 0.
        """
        if not self.takeovers:
            self.begin()
        while not self.supervision.is_over():
            self.run_once()
            if self._presence.is_superseded:
                return 1  # what stands under our names is another's now
        return self.end()

    def begin(self) -> None:
        """What the first image does first."""
        instance, lost = self.told.instance, self._lost_pid
        before = self.journal.remember() if lost else []
        self.journal.record("monitor-started", pid=os.getpid(), instance=instance, after_loss_of=lost)
        self.supervision.begin()
        self.supervision.record_late(find_unreported(before, self.loop.now_ns()))
        self.senders.start()  # after the services: it takes milliseconds
        if lost:
            death = self.senders.of_death(lost, signal.SIGKILL, started_ns=0)
            if death.sender:
                self.journal.record("monitor-killed", pid=lost, **journal_details(death, ordered=False))

    def end(self) -> int:
        """Nothing is left to hold: say so, and let go of everything. The exit status."""
        status = self.supervision.exit_status()
        self.journal.record("monitor-ended", pid=os.getpid(), status=status)
        self._close()
        return status

    def shut_down(self, because: str) -> None:
        """Stop every service, then end. Asked a second time: without waiting for the stop intervals."""
        self.takeover.cancel()
        self.supervision.shut_down(because)

    def status(self) -> MonitorStatus:
        """The monitor as ``gimli ps`` shows it."""
        services = tuple(service.status() for service in self.services.values())
        return MonitorStatus(os.getpid(), self.told.instance, self.started, self.takeovers, services)

    # The steps of a takeover.

    def reread(self, done: Callable[[dict[str, Any] | None, str], None]) -> None:
        """Have gimli.toml read anew by a short-lived process."""
        if not self.told.reread_command:
            done(None, "")
            return
        answer: dict[str, Any] = {}
        helper = Helper(self.loop, answer.update, lambda wrong: done(answer.get("config"), _complaint(wrong)))
        try:
            helper.start(self.told.reread_command, b"", _REREAD_TIMEOUT_S)
        except OSError as error:
            done(None, f"the configuration cannot be read: {error.strerror}")

    def verify(self, configuration: dict[str, Any] | None, done: Callable[[str], None]) -> None:
        """Have the new image check that it understands the state."""
        answer: dict[str, Any] = {}

        def ended(wrong: str) -> None:
            if not wrong and not answer.get("verified"):
                wrong = "it ended without a verdict"
            done(f"the new image refuses: {_complaint(wrong)}" if wrong else "")

        document = json.dumps(self._pack(configuration, wished_again=False)).encode()
        command = (*self.told.monitor_command, "--verify-state")
        try:
            Helper(self.loop, answer.update, ended).start(command, document, _VERIFY_TIMEOUT_S)
        except OSError as error:
            done(f"the new image cannot be started: {error.strerror}")

    def execute(self, configuration: dict[str, Any] | None, *, wished_again: bool) -> str:
        """Become the new image. Returns only when that has failed, with the reason."""
        self._signal_log.flush()
        self.supervision.interrupt()
        document = json.dumps(self._pack(configuration, wished_again=wished_again)).encode()
        fds = self._inherited()
        try:
            state_fd = os.memfd_create("gimli-state", os.MFD_CLOEXEC)
        except OSError as error:
            return f"the state cannot be handed on: {error.strerror}"
        try:
            with open(state_fd, "wb", closefd=False) as file:
                file.write(document)
            for fd in (*fds, state_fd):
                os.set_inheritable(fd, True)
            command = (*self.told.monitor_command, "--takeover", str(state_fd))
            os.execv(command[0], command)
        except OSError as error:
            for fd in fds:
                os.set_inheritable(fd, False)
            os.close(state_fd)
            return f"the new image cannot be executed: {error.strerror}"

    def failed(self, why: str) -> None:
        """A takeover has failed: everything goes on as it was."""
        self.journal.record("takeover-failed", pid=os.getpid(), why=why)
        self.requests.changed()
        self._forward_hup()

    def _pack(self, configuration: dict[str, Any] | None, *, wished_again: bool) -> dict[str, Any]:
        told: dict[str, Any] = configuration or plain(self.told)
        return {
            "schema": STATE_SCHEMA,
            "config": told,
            "started": self.started,
            "takeovers": self.takeovers,
            "wished_again": wished_again,
            "hup_to_forward": self._hup_to_forward,
            "handed_ns": self.loop.now_ns(),
            "lock_fd": self._lock.fd,
            "bell_fd": self._bell.fileno(),
            "notify_fd": self._notify.fileno(),
            "pidfile_fd": self.pidfile.fd if self.pidfile else None,
            "control": self._control.pack(),
            "journal": self.journal.pack(),
            "senders": self.senders.pack(),
            "evidence": self.evidence.pack(),
            "supervision": self.supervision.pack({service["name"] for service in told["services"]}),
            "descriptors": self._descriptors,
            "internal_errors": self._internal_errors,
        }

    def _inherited(self) -> list[int]:
        return [
            self._lock.fd,
            self._bell.fileno(),
            self._notify.fileno(),
            *([self.pidfile.fd] if self.pidfile else []),
            *self._control.descriptors(),
            *self.evidence.descriptors(),
            *self.supervision.descriptors(),
        ]

    def _restore(self, packed: dict[str, Any]) -> None:
        """Everything stands: go on with what the image before has begun."""
        self._kernel.set_inheritable(self._inherited(), inheritable=False)
        self.takeovers += 1
        self.senders.resume(packed["senders"])
        nobody = Snapshots(self.evidence, lambda _: None, lambda: None)
        listeners = {name: service.snapshots for name, service in self.services.items()}
        self.evidence.restore(packed["evidence"], listeners, nobody)
        for connection in self._control.restore(packed["control"]["connections"]):
            self._kernel.set_inheritable([connection.fileno()], inheritable=False)
            self.requests.restore(connection)
        took_ms = (self.loop.now_ns() - packed["handed_ns"]) / 1e6
        self.journal.record("takeover", pid=os.getpid(), takeovers=self.takeovers, took_ms=round(took_ms, 3))
        self.supervision.resume()
        self.loop.after(0.0, self._children_changed)  # the image before may have been about to look
        self._forward_hup()
        self.requests.changed()
        if packed["wished_again"]:
            self.takeover.wish()

    def run_once(self) -> None:
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

    def _prepare_directories(self) -> None:
        paths.make_private_dir(self.told.state_dir)
        for name in ("journal", "logs", "reports"):
            paths.make_private_dir(os.path.join(self.told.state_dir, name))
        self._make_instance_dir()

    def _make_instance_dir(self) -> None:
        # Programs of other users pass through to ring the bell; nothing here can be listed by them.
        paths.make_private_dir(os.path.dirname(self.told.instance_dir), mode=0o711)
        paths.make_private_dir(self.told.instance_dir, mode=0o711)

    def _look_after_names(self) -> Presence:
        parts = (self._bell, self._notify, self._control, self._spool, self._cgroups)
        named = {part.path: part for part in parts if part.path}
        return Presence(
            self.loop, self.journal, self._lock, named, self._make_instance_dir, self.supervision.renew
        )

    def _signalled(self, _: int) -> None:
        for received in self._signals.read():
            if received.signo == signal.SIGCHLD:
                # Behind the restart of who has ended: the kernel and we look at all children here.
                self.loop.after(0.0, self._children_changed)
            else:
                self._act_on(received)

    def _hold_pidfile(self, lock_path: str, fd: int | None) -> Pidfile | None:
        if self.told.pidfile is None:
            return None
        try:
            return Pidfile(self.told.pidfile, fd)
        except GimliError:
            paths.unlink_if_there(lock_path)
            raise

    def _children_changed(self) -> None:
        for service in tuple(self.services.values()):
            if service.by_signal.is_awaited:
                service.stopped_itself()
        self._reap()

    def _reap(self) -> None:
        if reap_strangers(self.loop.children):
            self.loop.after(0.0, self._reap)  # behind one that this round, or the next, collects

    def _act_on(self, received: Received) -> None:
        service = next((item for item in self.services.values() if item.pid == received.pid), None)
        if received.signo == signal.SIGUSR1 and (beating := service or self._service_of(received.pid)):
            beating.beat_by_signal()
            return
        name = process.signal_name(received.signo)
        self._signal_log.tell(received)
        if received.signo == signal.SIGUSR2 and service:
            service.crash_signalled()
        elif received.signo in FORWARDED_BY_INIT and os.getpid() == 1:
            # In a container the monitor is who is signalled, and its program is who is meant.
            for each in self.services.values():
                each.signaller.send(received.signo, f"the monitor, which is pid 1, received {name}")
        elif received.signo in _ENDING:
            self.shut_down(f"the monitor received {name}")
        elif received.signo == signal.SIGHUP:
            # At once, and not after the takeover: logrotate compresses what it has renamed.
            self.journal.reopen()
            for each in self.services.values():
                each.files.reopen_log()
            self._hup_to_forward = True
            self.takeover.wish()

    def _forward_hup(self) -> None:
        """Once per takeover, however many came: who sent it wants the program's logs reopened too."""
        if self._hup_to_forward:
            self._hup_to_forward = False
            for each in self.services.values():
                if each.config.forward_hup and each.pid:
                    each.signaller.send(signal.SIGHUP, "the monitor received SIGHUP")

    def _service_of(self, pid: int) -> Supervised | None:
        """The service of `gimli run` that a process belongs to: a script beats from a shell of its own."""
        services = self.services.values() if self.told.foreground else ()
        return next((item for item in services if item.pid and process.belongs_to(pid, item.pid)), None)

    def _rung(self, name: str) -> None:
        """A ring is a hint and names a service; what counts is what stands in that service's page."""
        if service := self.services.get(name):
            service.look_at_page()

    def _notified(self, message: Message) -> None:
        """The kernel says who sent a message; whose process that is says /proc."""
        services = self.services.values()
        service = next((item for item in services if item.signs.is_main(message.pid)), None)
        if service is None:
            kin = process.kin_of(message.pid)
            service = next((item for item in services if item.signs.is_kin(kin)), None)
        if service:
            service.signs.receive(message)
        elif not self._strangers_refused:
            self._strangers_refused = True  # once: a stranger must not write our journal
            why = "it is no process of a service, or was gone before it could be seen"
            self.journal.record("notify-refused", pid=message.pid, uid=message.uid, why=why)

    def _close(self) -> None:
        self._presence.close()
        self.supervision.close()
        self._spool.close()
        self._bell.close()
        self._notify.close()
        self._cgroups.close()
        self.senders.close()
        if self.pidfile:
            self.pidfile.close()
        self._lock.close()
        # Last: who waits for our end, as `gimli down` does, may start the next monitor at once.
        self._control.close()
        try:
            os.rmdir(self.told.instance_dir)
        except OSError:
            return  # something else lives there; not ours to remove


def journal_path(told: config.Monitor) -> str:
    """Where the monitor of this configuration writes what happens."""
    return os.path.join(told.state_dir, "journal", f"{told.instance}.jsonl")


def _complaint(wrong: str) -> str:
    """What a helper of our own said before it ended, which tells more than how it ended."""
    how, colon, said = wrong.partition(": ")
    return said.removeprefix("gimli: ") if colon and how.startswith("it ended by exit") else wrong
