"""What does each call of the control socket do?

A call that takes a while (start, stop, restart, snapshot) is answered when its service has got there, or
when that has become impossible; the caller's patience is bounded on the caller's side.
"""

from __future__ import annotations

import codecs
import os

from gimli import __version__, process, status
from gimli.control import protocol
from gimli.errors import GimliError, PeerError, UnknownService
from gimli.logs import last_lines
from gimli.monitor import events
from gimli.monitor.child import State, Wish
from gimli.monitor.service import WATCHED
from gimli.value import fields_of, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gimli.control.server import Connection
    from gimli.monitor.output import Output
    from gimli.monitor.runtime import Monitor
    from gimli.monitor.service import Supervised

    Answer = dict[str, Any] | None


@value
class Awaited:
    """What a client waits for."""

    call: str
    service: str | None
    before: Any = None
    """What was there when it asked: a pid, a report's id, a count of takeovers."""


class Requests:
    """The calls, and those who wait for an answer."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._waiting: list[tuple[Connection, Awaited]] = []

    def handle(self, request: dict[str, Any], connection: Connection) -> Answer:
        """Answer a request, or arrange for a later answer and return None.

        Raises:
            GimliError: it is refused.
        """
        if self._monitor.is_ending and request["call"] in {"start", "restart", "upgrade"}:
            raise GimliError(
                f"cannot {request['call']} {request.get('service', '')}".rstrip(),
                why="the monitor is ending",
            )
        call: Callable[[dict[str, Any], Connection], Answer] = getattr(self, f"_{request['call']}")
        return call(request, connection)

    def changed(self) -> None:
        """Something has changed: answer whoever waited for it."""
        waiting, self._waiting = self._waiting, []
        for connection, awaited in waiting:
            try:
                answer = self._outcome(awaited)
            except GimliError as error:
                connection.refuse(error)
                continue
            if answer is None:
                self._waiting.append((connection, awaited))
            else:
                connection.send({"ok": True, **answer}, last=True)

    def restore(self, connection: Connection) -> None:
        """After a takeover: what this client had asked the image before."""
        if connection.pending is None:
            return
        follow = connection.pending.get("follow")
        if follow == "events":
            self._follow_events(connection, connection.pending["service"])
        elif follow == "logs":
            service = self._monitor.services.get(connection.pending["service"])
            if service is not None and service.files.output is not None:
                self._follow_output(connection, service.files.output)
        else:
            self._waiting.append((connection, Awaited(**connection.pending)))

    def _wait(self, connection: Connection, awaited: Awaited) -> Answer:
        answer = self._outcome(awaited)
        if answer is None:
            self._waiting.append((connection, awaited))
            connection.pending = fields_of(awaited)
        return answer

    def _outcome(self, awaited: Awaited) -> Answer:
        """The answer, or None while it cannot be known.

        Raises:
            GimliError: it has become impossible.
        """
        if awaited.service is None:
            return self._upgraded(awaited.before)
        service = self._monitor.services.get(awaited.service)
        if service is None:
            why = "gimli.toml does not name it any more"
            raise GimliError(f"{awaited.service} is gone", why=why, fix="see: gimli ps")
        match awaited.call:
            case "stop":
                return _is_down(service)
            case "snapshot":
                return _snapshot_outcome(service, awaited.before)
            case "restart" if awaited.before is not None and service.pid == awaited.before:
                return None
            case _:
                return _is_up(service)

    def _service(self, request: dict[str, Any]) -> Supervised:
        name = protocol.text_argument(request, "service")
        found = self._monitor.services.get(name)
        if found is None:
            known = ", ".join(self._monitor.services)
            raise UnknownService(
                f"no service is called {name!r}", why=f"there are: {known}", fix="see: gimli ps"
            )
        return found

    def _ps(self, _request: dict[str, Any], _connection: Connection) -> Answer:
        return status.to_json(self._monitor.status())

    def _start(self, request: dict[str, Any], connection: Connection) -> Answer:
        service = self._service(request)
        service.start()
        return self._wait(connection, Awaited("start", service.config.name))

    def _stop(self, request: dict[str, Any], connection: Connection) -> Answer:
        service = self._service(request)
        service.handle(events.StopWanted("the operator asked"))
        return self._wait(connection, Awaited("stop", service.config.name))

    def _restart(self, request: dict[str, Any], connection: Connection) -> Answer:
        service = self._service(request)
        before = service.pid
        if before is None:
            service.start()
        else:
            service.handle(events.RestartWanted())
        return self._wait(connection, Awaited("restart", service.config.name, before))

    def _upgrade(self, _request: dict[str, Any], connection: Connection) -> Answer:
        self._monitor.takeover.wish()
        return self._wait(connection, Awaited("upgrade", None, self._monitor.takeovers))

    def _upgraded(self, takeovers_before: int) -> Answer:
        if self._monitor.takeovers > takeovers_before:
            return {
                "pid": os.getpid(),
                "instance": self._monitor.told.instance,
                "version": __version__,
                "takeovers": self._monitor.takeovers,
            }
        if self._monitor.takeover.failure:
            raise GimliError(
                f"monitor {self._monitor.told.instance} goes on as it was",
                why=self._monitor.takeover.failure,
                fix="mend it, then once more: gimli upgrade",
            )
        return None

    def _signal(self, request: dict[str, Any], _connection: Connection) -> Answer:
        service = self._service(request)
        try:
            signo = process.parse_signal(protocol.text_argument(request, "signal"))
        except ValueError as error:
            raise PeerError(str(error), fix="see: kill -l") from error
        if service.pid is None:
            raise GimliError(
                f"cannot signal {service.config.name}",
                why=f"it is {service.child.state.value}",
                fix="see: gimli ps",
            )
        service.signaller.send(signo, "the operator asked")
        return {"pid": service.pid}

    def _snapshot(self, request: dict[str, Any], connection: Connection) -> Answer:
        service = self._service(request)
        _refuse_snapshot(service)
        before = service.snapshots.last_report
        service.handle(events.SnapshotWanted())
        awaited = Awaited("snapshot", service.config.name, before["id"] if before else None)
        return self._wait(connection, awaited)

    def _logs(self, request: dict[str, Any], connection: Connection) -> Answer:
        service = self._service(request)
        count = protocol.number_argument(request, "lines", 20)
        if service.files.output is None or service.files.output.file.path is None:
            raise GimliError(
                f"{service.config.name} has no log",
                why="its output is inherited (log = inherit)",
                fix="start it with --log FILE",
            )
        service.files.output.flush()
        try:
            lines = last_lines(service.files.output.file.path, count)
        except OSError as error:
            raise GimliError(
                f"cannot read {service.files.output.file.path}", why=error.strerror or ""
            ) from error
        text = b"".join(lines).decode(errors="replace")
        if not request.get("follow"):
            return {"text": text}
        connection.pending = {"follow": "logs", "service": service.config.name}
        self._follow_output(connection, service.files.output, text)
        return None

    def _follow_output(self, connection: Connection, output: Output, text: str | None = None) -> None:
        # A read may end in the middle of a character; its rest comes with the next one.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")

        def follow(data: bytes) -> None:
            connection.send({"ok": True, "text": decoder.decode(data)})

        # Before anything is sent: sending may find the client gone, and close.
        output.followers.append(follow)
        connection.on_close.append(lambda: output.followers.remove(follow))
        if text is not None:
            connection.send({"ok": True, "text": text})

    def _events(self, request: dict[str, Any], connection: Connection) -> Answer:
        """The events to come; those past are read from the journal's file, whose path is told first."""
        wanted = None if request.get("service") is None else protocol.text_argument(request, "service")
        connection.pending = {"follow": "events", "service": wanted}
        self._follow_events(connection, wanted)
        connection.send({"ok": True, "journal": os.path.abspath(self._monitor.journal.path)})
        return None

    def _follow_events(self, connection: Connection, wanted: str | None) -> None:
        journal = self._monitor.journal

        def follow(entry: dict[str, Any]) -> None:
            if wanted is None or entry["service"] in {wanted, None}:
                connection.send({"ok": True, "entry": entry})

        # Before anything is sent: sending may find the client gone, and close.
        journal.subscribers.append(follow)
        connection.on_close.append(lambda: journal.subscribers.remove(follow))

    def _shutdown(self, _request: dict[str, Any], connection: Connection) -> Answer:
        """The answer is the end of the connection, which is the end of the monitor."""
        connection.send({"ok": True, "pid": os.getpid()})
        self._monitor.shut_down("the operator asked")
        return None


def _is_up(service: Supervised) -> Answer:
    backs_off = service.child.state is State.BACKOFF and service.child.failures
    if service.child.state in {State.DOWN, State.FAILED} or backs_off:
        raise GimliError(
            f"{service.config.name} did not start",
            why=service.child.because or f"it is {service.child.state.value}",
            fix=f"gimli events {service.config.name}",
        )
    return {"pid": service.pid} if service.child.state is State.RUNNING else None


def _is_down(service: Supervised) -> Answer:
    if service.child.wish is not Wish.DOWN:
        raise GimliError(f"{service.config.name} does not stay down", why="it was asked to start meanwhile")
    is_down = service.child.state in {State.DOWN, State.FAILED} and not service.is_clearing
    return {} if is_down else None


def _snapshot_outcome(service: Supervised, id_before: str | None) -> Answer:
    report = service.snapshots.last_report
    if report is not None and report["id"] != id_before:
        return {"report": report["id"]}
    if service.snapshots.failure:
        raise GimliError(f"no snapshot of {service.config.name}", why=service.snapshots.failure)
    return None


def _refuse_snapshot(service: Supervised) -> None:
    """Check that a snapshot can be asked for now.

    Raises:
        GimliError: it does not run, or one is under way.
    """
    is_ended = service.pid is None and service.is_clearing
    if service.child.state not in WATCHED or not service.child.pid or is_ended:  # no pid: no exec yet
        raise GimliError(
            f"cannot take a snapshot of {service.config.name}",
            why="it has ended" if is_ended else f"it is {service.child.state.value}",
            fix="see: gimli ps",
        )
