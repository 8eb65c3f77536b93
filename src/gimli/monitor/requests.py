"""What does each call of the control socket do?

A call that takes a while (start, stop, restart, snapshot) is answered when its service has got there, or
when that has become impossible; the caller's patience is bounded on the caller's side.
"""

from __future__ import annotations

import codecs
import os

from gimli import process, status
from gimli.control import protocol
from gimli.errors import GimliError, PeerError, UnknownService
from gimli.logs import last_lines
from gimli.monitor import events
from gimli.monitor.child import State, Wish
from gimli.monitor.service import WATCHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gimli.control.server import Connection
    from gimli.monitor.runtime import Monitor
    from gimli.monitor.service import Supervised

    Answer = dict[str, Any] | None


class Requests:
    """The calls, and those who wait for an answer."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._waiting: list[tuple[Connection, Callable[[], Answer]]] = []

    def handle(self, request: dict[str, Any], connection: Connection) -> Answer:
        """Answer a request, or arrange for a later answer and return None.

        Raises:
            GimliError: it is refused.
        """
        if self._monitor.is_ending and request["call"] in {"start", "restart"}:
            raise GimliError(
                f"cannot {request['call']} {request.get('service')}", why="the monitor is ending"
            )
        call: Callable[[dict[str, Any], Connection], Answer] = getattr(self, f"_{request['call']}")
        return call(request, connection)

    def changed(self, _: Supervised) -> None:
        """A service has changed: answer whoever waited for it."""
        waiting, self._waiting = self._waiting, []
        for connection, outcome in waiting:
            try:
                answer = outcome()
            except GimliError as error:
                connection.refuse(error)
                continue
            if answer is None:
                self._waiting.append((connection, outcome))
            else:
                connection.send({"ok": True, **answer}, last=True)

    def _wait(self, connection: Connection, outcome: Callable[[], Answer]) -> Answer:
        answer = outcome()
        if answer is None:
            self._waiting.append((connection, outcome))
        return answer

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
        service.handle(events.StartWanted())
        return self._wait(connection, lambda: _is_up(service))

    def _stop(self, request: dict[str, Any], connection: Connection) -> Answer:
        service = self._service(request)
        service.handle(events.StopWanted("the operator asked"))
        return self._wait(connection, lambda: _is_down(service))

    def _restart(self, request: dict[str, Any], connection: Connection) -> Answer:
        service = self._service(request)
        before = service.pid
        service.handle(events.RestartWanted())
        return self._wait(connection, lambda: _is_up(service) if service.pid != before else None)

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
        service.send_signal(signo)
        return {"pid": service.pid}

    def _snapshot(self, request: dict[str, Any], connection: Connection) -> Answer:
        service = self._service(request)
        _refuse_snapshot(service)
        before = service.last_report
        service.handle(events.SnapshotWanted())
        return self._wait(connection, lambda: _snapshot_outcome(service, before))

    def _logs(self, request: dict[str, Any], connection: Connection) -> Answer:
        service = self._service(request)
        count = protocol.number_argument(request, "lines", 20)
        if service.output is None or service.output.file.path is None:
            raise GimliError(
                f"{service.config.name} has no log",
                why="its output is inherited (log = inherit)",
                fix="start it with --log FILE",
            )
        service.output.flush()
        try:
            lines = last_lines(service.output.file.path, count)
        except OSError as error:
            raise GimliError(f"cannot read {service.output.file.path}", why=error.strerror or "") from error
        text = b"".join(lines).decode(errors="replace")
        if not request.get("follow"):
            return {"text": text}
        # A read may end in the middle of a character; its rest comes with the next one.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")

        def follow(data: bytes) -> None:
            connection.send({"ok": True, "text": decoder.decode(data)})

        # Before anything is sent: sending may find the client gone, and close.
        followers = service.output.followers
        followers.append(follow)
        connection.on_close.append(lambda: followers.remove(follow))
        connection.send({"ok": True, "text": text})
        return None

    def _events(self, request: dict[str, Any], connection: Connection) -> Answer:
        """The events to come; those past are read from the journal's file, whose path is told first."""
        journal = self._monitor.journal
        wanted = None if request.get("service") is None else protocol.text_argument(request, "service")

        def follow(entry: dict[str, Any]) -> None:
            if wanted is None or entry["service"] in {wanted, None}:
                connection.send({"ok": True, "entry": entry})

        # Before anything is sent: sending may find the client gone, and close.
        journal.subscribers.append(follow)
        connection.on_close.append(lambda: journal.subscribers.remove(follow))
        connection.send({"ok": True, "journal": os.path.abspath(journal.path)})
        return None

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
    return {} if service.child.state in {State.DOWN, State.FAILED} else None


def _snapshot_outcome(service: Supervised, before: dict[str, Any] | None) -> Answer:
    if service.last_report is not None and service.last_report is not before:
        return {"report": service.last_report["id"]}
    if service.snapshot_failure:
        raise GimliError(f"no snapshot of {service.config.name}", why=service.snapshot_failure)
    return None


def _refuse_snapshot(service: Supervised) -> None:
    """Check that a snapshot can be asked for now.

    Raises:
        GimliError: it does not run, or one is under way.
    """
    if service.child.state not in WATCHED or not service.child.pid:  # no pid: its exec is not decided yet
        raise GimliError(
            f"cannot take a snapshot of {service.config.name}",
            why=f"it is {service.child.state.value}",
            fix="see: gimli ps",
        )
