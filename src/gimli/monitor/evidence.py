"""How does a snapshot become a report, without the monitor waiting for it?

A capture helper stops and copies the process, an analysis helper reads the copy. Both are processes of
their own: the monitor hands over a request, reads one-line messages, and outlives whatever they do
(docs/reference/capture.md). A helper that takes too long is killed, and the kernel lets its target go.
"""

from __future__ import annotations

import json
import os
import signal
from collections import deque

from gimli.value import fields_of, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gimli.journal import Journal
    from gimli.monitor.loop import Deadline, Loop
    from gimli.store.quota import Limits

CAPTURE_TIMEOUT_S = 30.0
ANALYSIS_TIMEOUT_S = 120.0
_ANALYSES_AT_ONCE = 2
_ANALYSES_WAITING_MAX = 50
_COMPLAINT_BYTES = 2000


@value
class Outcome:
    """Who is told how a capture goes."""

    released: Callable[[], None]
    """Called exactly once: the process may go on, with or without a snapshot."""
    report: Callable[[dict[str, Any]], None]
    """Called when the report is stored, and again when it is analysed."""
    failed: Callable[[str], None]
    """Called with the reason when there is no snapshot."""


class Helper:
    """One helper process: a request in, messages out, and its end.

    Args:
        loop: the event loop.
        command: what to execute.
        request: its standard input.
        timeout_s: when it is killed.
        on_message: called with each message.
        on_end: called once, with words for what went wrong, or an empty text.
    """

    def __init__(
        self,
        loop: Loop,
        command: tuple[str, ...],
        request: bytes,
        timeout_s: float,
        on_message: Callable[[dict[str, Any]], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._on_message = on_message
        self._on_end = on_end
        self._received = b""
        self._timed_out = False
        self._complaints_fd = os.memfd_create("gimli-helper-stderr", os.MFD_CLOEXEC)
        self._out_fd, self.pid, self._pidfd = self._start(command, request)
        loop.watch(self._out_fd, self._readable)
        loop.watch(self._pidfd, self._ended)
        self._deadline: Deadline = loop.after(timeout_s, self._expire)

    def _start(self, command: tuple[str, ...], request: bytes) -> tuple[int, int, int]:
        request_fd = os.memfd_create("gimli-request", os.MFD_CLOEXEC)
        out_fd, helper_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.write(request_fd, request)
            os.lseek(request_fd, 0, os.SEEK_SET)
            os.set_blocking(helper_fd, True)
            wiring = [
                (os.POSIX_SPAWN_DUP2, request_fd, 0),
                (os.POSIX_SPAWN_DUP2, helper_fd, 1),
                (os.POSIX_SPAWN_DUP2, self._complaints_fd, 2),
            ]
            pid = os.posix_spawn(
                command[0], command, os.environ, file_actions=wiring, setsigmask=(), setsid=True
            )
        except BaseException:
            os.close(out_fd)
            os.close(self._complaints_fd)
            raise
        finally:
            os.close(request_fd)
            os.close(helper_fd)
        return out_fd, pid, os.pidfd_open(pid)

    def _readable(self, _: int) -> None:
        while True:
            try:
                data = os.read(self._out_fd, 65_536)
            except BlockingIOError:
                return
            if not data:
                self._loop.forget(self._out_fd)
                return
            *lines, self._received = (self._received + data).split(b"\n")
            for line in lines:
                if message := _parse_message(line):
                    self._on_message(message)

    def _expire(self) -> None:
        self._timed_out = True
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _ended(self, _: int) -> None:
        self._readable(0)
        self._loop.forget(self._out_fd)
        self._loop.forget(self._pidfd)
        self._deadline.cancel()
        ended = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        complaint = os.pread(self._complaints_fd, _COMPLAINT_BYTES, self._complaint_start())
        for fd in (self._out_fd, self._pidfd, self._complaints_fd):
            os.close(fd)
        self._on_end(self._describe_end(ended, complaint.decode(errors="replace").strip()))

    def _complaint_start(self) -> int:
        return max(0, os.fstat(self._complaints_fd).st_size - _COMPLAINT_BYTES)

    def _describe_end(self, ended: os.waitid_result | None, complaint: str) -> str:
        if self._timed_out:
            return "it took too long and was killed"
        if ended is None or ended.si_status == 0:
            return ""
        how = "exit" if ended.si_code == os.CLD_EXITED else "signal"
        return f"it ended by {how} {ended.si_status}" + (f": {complaint}" if complaint else "")


def _parse_message(line: bytes) -> dict[str, Any] | None:
    """A helper's message, or None: a library in it may print something of its own."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


class Evidence:
    """The monitor's captures and analyses under way."""

    def __init__(
        self,
        loop: Loop,
        journal: Journal,
        capture_command: tuple[str, ...],
        analysis_command: tuple[str, ...],
        limits: Limits | None = None,
    ) -> None:
        self._limits = limits
        self._loop = loop
        self._journal = journal
        self._capture_command = capture_command
        self._analysis_command = analysis_command
        self._captures = 0
        self._analyses = 0
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def is_idle(self) -> bool:
        """Nothing is captured and nothing analysed."""
        return not (self._captures or self._analyses or self._waiting)

    @property
    def is_capturing(self) -> bool:
        """A capture is under way: ending now would lose a report."""
        return self._captures > 0

    def capture(self, request: dict[str, Any], outcome: Outcome) -> None:
        """Start a capture; the request is described in docs/reference/capture.md."""
        service, report_id = request["service"], request["id"]
        released = False
        failed = False

        def release() -> None:
            nonlocal released
            if not released:
                released = True
                outcome.released()

        def fail(**details: Any) -> None:
            nonlocal failed
            failed = True
            self._journal.record("snapshot-failed", service, report=report_id, **details)
            outcome.failed(": ".join(str(details[key]) for key in ("what", "why") if details.get(key)))

        def message(item: dict[str, Any]) -> None:
            event = item.pop("event", "")
            if event == "released":
                self._journal.record("released", service, report=report_id, **item)
                release()
            elif event == "stored":
                self._journal.record("report", service, report=report_id, path=item.get("path"))
                outcome.report({"id": report_id, "reason": request["reason"], "summary": None})
                self._analyse(service, report_id, str(item["path"]), request["reason"], outcome)
            elif event == "failed":
                fail(**item)
            elif event == "pruned":
                self._journal.record("pruned", None, bytes=item.get("bytes"), reports=item.get("reports"))

        def end(wrong: str) -> None:
            self._captures -= 1
            if wrong and not failed:  # it has said why itself, before its exit status did
                fail(what="the capture helper", why=wrong)
            release()

        self._journal.record(
            "snapshot", service, report=report_id, reason=request["reason"], pid=request["pid"]
        )
        limits = {"limits": fields_of(self._limits)} if self._limits else {}
        document = json.dumps(request | limits).encode()
        self._captures += 1
        try:
            Helper(self._loop, self._capture_command, document, CAPTURE_TIMEOUT_S, message, end)
        except OSError as error:
            end(f"it cannot be started: {error.strerror}")

    def _analyse(self, service: str, report_id: str, path: str, reason: str, outcome: Outcome) -> None:
        if not self._analysis_command:
            why = "no library that reads a core is installed: pip install 'gimli-monitor[analysis]'"
            self._journal.record("analysis-failed", service, report=report_id, why=why)
            return

        def message(item: dict[str, Any]) -> None:
            summary = item.get("summary")
            self._journal.record("analysed", service, report=report_id, summary=summary)
            outcome.report({"id": report_id, "reason": reason, "summary": summary})

        def end(wrong: str) -> None:
            self._analyses -= 1
            if wrong:
                self._journal.record("analysis-failed", service, report=report_id, why=wrong)
            if self._waiting:
                self._waiting.popleft()()

        def start() -> None:
            command = (*self._analysis_command, path, "--journal", self._journal.path)
            self._analyses += 1
            try:
                Helper(self._loop, command, b"", ANALYSIS_TIMEOUT_S, message, end)
            except OSError as error:
                end(f"it cannot be started: {error.strerror}")

        if self._analyses < _ANALYSES_AT_ONCE:
            start()
        elif len(self._waiting) < _ANALYSES_WAITING_MAX:
            self._waiting.append(start)
        else:
            self._journal.record("analysis-failed", service, report=report_id, why="too many are waiting")
