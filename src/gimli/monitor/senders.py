"""Who sent a signal: to the monitor, and to a service that died of it?

The signal itself names the sender's pid and uid, if it is one that we read; /proc says the rest, as long as
the sender lives. With the kernel's trace (root, and the host's own pid namespace) we also know those that are
gone, who sent SIGKILL, each of the signals that the kernel has merged, and the OOM killer.
"""

from __future__ import annotations

import os
import time

from gimli import clock, process
from gimli.errors import GimliError
from gimli.monitor import trace_lines
from gimli.monitor.deaths import Death
from gimli.monitor.trace import Trace, hold_only
from gimli.monitor.trace_lines import Generated
from gimli.paths import checksum
from gimli.process import Signals
from gimli.value import fields_of, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gimli.journal import Journal
    from gimli.loop import Loop
    from gimli.process import ProcessId
    from gimli.signals import Received

_TOLD_BY_TRACE = frozenset(
    {Signals.SIGHUP, Signals.SIGINT, Signals.SIGQUIT, Signals.SIGTERM, Signals.SIGUSR2}
)
"""Those that we receive and tell. Not USR1: as a beat it is told to nobody, and would pile up."""
_REMEMBERED_MAX = 512
_DESCRIBED_AT_ONCE_MAX = 100
"""Senders whose names are looked up for one reading; a storm of more is counted with those of the first."""
_TICK_NS = 10_000_000  # of a start time in /proc/PID/stat: USER_HZ is 100 everywhere


@value
class _Known:
    start_ticks: int
    sender: dict[str, Any]


class Senders:
    """Asks the trace where there is one, and /proc.

    Args:
        loop: where the trace is waited for until it is ready.
        journal: is told once which of the two it is, and why.
        instance: of the monitor, and
        instance_dir: its directory; together they name the trace, for this monitor and those after it.
    """

    def __init__(self, loop: Loop, journal: Journal, instance: str, instance_dir: str) -> None:
        self._loop = loop
        self._journal = journal
        self._name = f"{instance}-{checksum(os.path.realpath(instance_dir))}"
        self._trace: Trace | None = None
        self._last: dict[tuple[int, int], Generated] = {}
        self._victims: dict[int, int | None] = {}
        self._ours: list[Generated] = []
        self._owed: dict[int, int] = {}
        self._known: dict[int, _Known] = {}

    def start(self) -> None:
        """Open the trace. It is set up by a short-lived child: the kernel makes who does that wait."""
        try:
            self._trace = Trace(self._name)
            self._drain()  # what a killed monitor has left, its killer among it: setting up empties the ring
            self._configure(self._trace)
        except (GimliError, OSError) as error:
            self._fall_back(error)

    def of_signal(self, received: Received) -> list[dict[str, Any]]:
        """The senders of a signal to the monitor, one for each time it was sent.

        More than one where the kernel merged signals, and none where an earlier call has told it: the trace
        shows a signal as it is sent, which is before we receive it.
        """
        self._drain()
        signo = received.signo
        sent = [each for each in self._ours if each.signo == signo]
        self._ours = [each for each in self._ours if each.signo != signo]
        owed = self._owed.get(signo, 0) + sum(not each.is_merged for each in sent)
        self._owed[signo] = max(0, owed - 1)
        if sent:
            return self._describe_all(sent, received)
        if owed:
            return []
        identity = process.identify(received.pid) if received.pid else None
        return [self._describe(received.pid, received.uid, identity)]

    def of_death(self, pid: int, signo: int, *, started_ns: int) -> Death:
        """Who ended a process of ours.

        Args:
            pid: the process.
            signo: what it died by.
            started_ns: when it was started, on CLOCK_MONOTONIC: what was sent before was for another process.
        """
        self._drain()
        is_victim = pid in self._victims
        held_bytes = self._victims.pop(pid, None)
        sent = self._last.pop((pid, signo), None)
        for key in [key for key in self._last if key[0] == pid]:
            del self._last[key]
        if is_victim and signo == Signals.SIGKILL:
            kernel = process.describe_sender(0, None) | {"oom": True}
            return Death(kernel, sent.code if sent else None, oom=True, anon_rss_bytes=held_bytes)
        if sent is None or sent.at_ns < _boottime_ns(started_ns):
            return Death()
        if signo in process.CRASH_SIGNALS and (sent.by_kernel or sent.sender_pid == pid):
            return Death(code=sent.code)  # a fault, or abort()
        if sent.by_kernel:
            return Death(process.describe_sender(0, None), sent.code)
        return Death(self._describe_traced(sent), sent.code)

    def pack(self) -> dict[str, Any]:
        """What the next image needs; no descriptor is among it, the trace stays and is opened again."""
        return {
            "traced": self._trace is not None,
            "owed": list(self._owed.items()),
            "last": [list(fields_of(sent).values()) for sent in self._last.values()],
        }

    def resume(self, packed: dict[str, Any]) -> None:
        """Instead of :meth:`start`, after a takeover in place: the trace is set up already, and was told."""
        self._owed = {int(signo): int(count) for signo, count in packed["owed"]}
        self._last = {(sent.pid, sent.signo): sent for sent in (Generated(*each) for each in packed["last"])}
        if packed["traced"]:
            try:
                self._trace = Trace(self._name)
                if not self._trace.is_configured:  # the end of another monitor has swept it away meanwhile
                    self._configure(self._trace)
            except (GimliError, OSError) as error:
                self._fall_back(error)

    def close(self) -> None:
        """The monitor ends: take the trace away."""
        if self._trace is not None:
            self._trace.remove()
            self._trace = None

    def _configure(self, trace: Trace) -> None:
        child = os.fork()
        if child == 0:
            _configure_and_exit(trace)
        _when_ended(self._loop, child, self._configured)

    def _configured(self, status: int) -> None:
        if status:
            self._fall_back(OSError(status, os.strerror(status)))  # the trace stays empty
        else:
            self._journal.record("senders", source="trace")

    def _fall_back(self, error: GimliError | OSError) -> None:
        why = error.why if isinstance(error, GimliError) else error.strerror
        lacking = "senders that are gone, and those of a SIGKILL, are not known"
        self._journal.record("senders", source="siginfo", why=why, lacking=lacking)

    def _drain(self) -> None:
        text = self._trace.drain() if self._trace else b""
        if not text:
            return
        own = os.getpid()
        for sent in trace_lines.parse_signals(text):
            if sent.pid == own and sent.signo in _TOLD_BY_TRACE:
                self._ours.append(sent)
            else:
                self._last.pop((sent.pid, sent.signo), None)
                self._last[sent.pid, sent.signo] = sent
        for victim in trace_lines.parse_victims(text):
            self._victims[victim.pid] = victim.anon_rss_bytes
        while len(self._last) > _REMEMBERED_MAX:
            del self._last[next(iter(self._last))]
        while len(self._victims) > _REMEMBERED_MAX:
            del self._victims[next(iter(self._victims))]

    def _describe_all(self, sent: list[Generated], received: Received) -> list[dict[str, Any]]:
        """Each sender. The uid is what the received signal says, if it is that one."""
        found: dict[int, dict[str, Any]] = {}
        for each in sent:
            if each.sender_pid not in found and len(found) < _DESCRIBED_AT_ONCE_MAX:
                sender = self._describe_traced(each)
                if each.sender_pid == received.pid:
                    sender = sender | {"uid": received.uid}
                found[each.sender_pid] = sender
        first = next(iter(found.values()))
        return [found.get(each.sender_pid, first) for each in sent]

    def _describe_traced(self, sent: Generated) -> dict[str, Any]:
        if sent.by_kernel:
            return process.describe_sender(0, None)
        started = process.identify(sent.sender_pid)
        if started is None or started.start_ticks * _TICK_NS > sent.at_ns + _TICK_NS:
            return self._describe_gone(sent)
        sender = self._describe(sent.sender_pid, None, started)
        return sender if sender["comm"] else self._describe_gone(sent)

    def _describe(self, pid: int, uid: int | None, identity: ProcessId | None) -> dict[str, Any]:
        """A sender as /proc shows it; one that sends again is not read again."""
        known = self._known.get(pid)
        if known and identity and known.start_ticks == identity.start_ticks:
            return known.sender
        sender = process.describe_sender(pid, uid)
        if not sender["comm"]:
            return self._with_birth(sender)
        if identity and sender["cmdline"]:  # not one that is about to be gone: it has lost its own already
            self._known = {pid: _Known(identity.start_ticks, sender)}
        return sender

    def _describe_gone(self, sent: Generated) -> dict[str, Any]:
        sender: dict[str, Any] = {
            "pid": sent.sender_pid,
            "uid": None,
            "comm": sent.sender_comm,
            "cmdline": [],
            "parent": None,
        }
        return self._with_birth(sender)

    def _with_birth(self, sender: dict[str, Any]) -> dict[str, Any]:
        """Of a sender that is gone: the parent that the trace of births knows, with what is left of it."""
        birth = self._trace.birth_of(sender["pid"]) if self._trace else None
        if birth is None:
            return sender
        parent = process.describe_ancestors(birth.parent_pid)
        if parent is not None and not parent["comm"]:
            parent["comm"] = birth.parent_comm
        return sender | {"comm": birth.program or sender["comm"] or birth.comm, "parent": parent}


def _boottime_ns(monotonic_ns: int) -> int:
    """The same moment on the trace's clock, which counts a suspended machine's time too."""
    return monotonic_ns + time.clock_gettime_ns(time.CLOCK_BOOTTIME) - clock.monotonic_ns()


def _configure_and_exit(trace: Trace) -> None:
    """In the child: the exit status is an errno."""
    status = 255
    try:
        hold_only(*trace.descriptors)
        trace.configure()
        status = 0
    except OSError as error:
        status = error.errno or status
    finally:
        os._exit(status)


def _when_ended(loop: Loop, child: int, callback: Callable[[int], None]) -> None:
    pidfd = os.pidfd_open(child)
    loop.children.add(child)

    def ended(_: int) -> None:
        loop.forget(pidfd)
        loop.children.discard(child)
        try:
            result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
            status = result.si_status if result else 255
        except ChildProcessError:
            status = 0  # somebody else has reaped it
        os.close(pidfd)
        callback(status)

    loop.watch(pidfd, ended)
