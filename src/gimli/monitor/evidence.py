"""How does a snapshot become a report, without the monitor waiting for it?

A capture helper stops and copies the process, an analysis helper reads the copy. Both are processes of
their own: the monitor hands over a request, reads one-line messages, and outlives whatever they do
(docs/reference/capture.md). A helper that takes too long is killed, and the kernel lets its target go.
"""

from __future__ import annotations

import json
from collections import deque

from gimli.monitor.helper import Helper
from gimli.value import plain, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Protocol

    from gimli.journal import Journal
    from gimli.loop import Loop
    from gimli.store.quota import Limits

    class Listener(Protocol):
        """Who is told how the captures of a service go; ``snapshots.Snapshots`` is one."""

        def released(self, pid: int) -> None:
            """Called exactly once for a capture: the process may go on, with or without a snapshot."""

        def report_known(self, report: dict[str, Any]) -> None:
            """Called when the report is stored, and again when it is analysed."""

        def failed(self, why: str) -> None:
            """Called with the reason when there is no snapshot."""


CAPTURE_TIMEOUT_S = 30.0
ANALYSIS_TIMEOUT_S = 120.0
_ANALYSES_AT_ONCE = 2
_ANALYSES_WAITING_MAX = 50


@value
class Job:
    """One report in the making."""

    service: str
    report_id: str
    reason: str
    pid: int
    path: str = ""
    """Where it is stored; known to its analysis."""


class Capture:
    """A capture under way."""

    def __init__(self, evidence: Evidence, job: Job, listener: Listener) -> None:
        self.job = job
        self._evidence = evidence
        self._listener = listener
        self._released = False
        self._failed = False
        self.helper = evidence.new_helper(evidence.loop, self._told, self.ended)

    def pack(self) -> dict[str, Any]:
        """What the next image of the monitor must know."""
        return {
            "job": plain(self.job),
            "released": self._released,
            "failed": self._failed,
            "helper": self.helper.pack(),
        }

    def restore(self, packed: dict[str, Any]) -> None:
        """Go on where the image before has stopped."""
        self._released, self._failed = packed["released"], packed["failed"]
        self.helper.restore(packed["helper"])

    def ended(self, wrong: str) -> None:
        """The helper has ended, or could not be started."""
        self._evidence.captures.discard(self)
        if wrong and not self._failed:  # it has said why itself, before its exit status did
            self._fail(what="the capture helper", why=wrong)
        self._release()

    def _told(self, message: dict[str, Any]) -> None:
        event = message.pop("event", "")
        if event == "released":
            self._evidence.tell("released", self.job, **message)
            self._release()
        elif event == "stored":
            path = str(message["path"])
            self._evidence.tell("report", self.job, path=path)
            report = {"id": self.job.report_id, "reason": self.job.reason, "summary": None}
            self._listener.report_known(report)
            self._evidence.analyse(Job(**plain(self.job) | {"path": path}), self._listener)
        elif event == "failed":
            self._fail(**message)
        elif event == "pruned":
            self._evidence.tell_pruned(message.get("bytes"), message.get("reports"))

    def _release(self) -> None:
        if not self._released:
            self._released = True
            self._listener.released(self.job.pid)

    def _fail(self, **details: Any) -> None:
        self._failed = True
        self._evidence.tell("snapshot-failed", self.job, **details)
        self._listener.failed(": ".join(str(details[key]) for key in ("what", "why") if details.get(key)))


class Analysis:
    """An analysis under way, or waiting."""

    def __init__(self, evidence: Evidence, job: Job, listener: Listener) -> None:
        self.job = job
        self._evidence = evidence
        self._listener = listener
        self.helper = evidence.new_helper(evidence.loop, self._told, self._ended)

    def pack(self) -> dict[str, Any]:
        """What the next image of the monitor must know; ``helper`` is None while it waits."""
        return {"job": plain(self.job), "helper": self.helper.pack() if self.helper.pid > 0 else None}

    def start(self) -> None:
        """Start the helper."""
        try:
            self.helper.start(self._evidence.analysis_of(self.job.path), b"", ANALYSIS_TIMEOUT_S)
        except OSError as error:
            self._ended(f"it cannot be started: {error.strerror}")

    def _told(self, message: dict[str, Any]) -> None:
        summary = message.get("summary")
        self._evidence.tell("analysed", self.job, summary=summary)
        self._listener.report_known({"id": self.job.report_id, "reason": self.job.reason, "summary": summary})

    def _ended(self, wrong: str) -> None:
        self._evidence.analyses.discard(self)
        if wrong:
            self._evidence.tell("analysis-failed", self.job, why=wrong)
        self._evidence.start_waiting()


class Evidence:
    """The monitor's captures and analyses under way.

    Args:
        loop: the event loop.
        journal: where it is told how they go.
        capture_command: starts a capture helper.
        analysis_command: starts an analysis helper; empty where no library for it is installed.
        new_helper: makes what holds a helper process; the simulator has one of its own.
    """

    def __init__(
        self,
        loop: Loop,
        journal: Journal,
        capture_command: tuple[str, ...],
        analysis_command: tuple[str, ...],
        limits: Limits | None = None,
        new_helper: type[Helper] = Helper,
    ) -> None:
        self.loop = loop
        self.new_helper = new_helper
        self.captures: set[Capture] = set()
        self.analyses: set[Analysis] = set()
        self._limits = limits
        self._journal = journal
        self._capture_command = capture_command
        self._analysis_command = analysis_command
        self._waiting: deque[Analysis] = deque()

    @property
    def is_idle(self) -> bool:
        """Nothing is captured and nothing analysed."""
        return not (self.captures or self.analyses or self._waiting)

    @property
    def is_capturing(self) -> bool:
        """A capture is under way: ending now would lose a report."""
        return bool(self.captures)

    def tell(self, event: str, job: Job, **details: Any) -> None:
        """Write to the journal."""
        self._journal.record(event, job.service, report=job.report_id, **details)

    def tell_pruned(self, pruned_bytes: int | None, reports: Any) -> None:
        """Reports have gone to make room."""
        self._journal.record("pruned", None, bytes=pruned_bytes, reports=reports)

    def analysis_of(self, path: str) -> tuple[str, ...]:
        """The command that analyses a report."""
        return (*self._analysis_command, path, "--journal", self._journal.path)

    def capture(self, request: dict[str, Any], listener: Listener) -> None:
        """Start a capture; the request is described in docs/reference/capture.md."""
        job = Job(request["service"], request["id"], request["reason"], request["pid"])
        self.tell("snapshot", job, reason=job.reason, pid=job.pid)
        capture = Capture(self, job, listener)
        self.captures.add(capture)
        limits = {"limits": plain(self._limits)} if self._limits else {}
        try:
            capture.helper.start(
                self._capture_command, json.dumps(request | limits).encode(), CAPTURE_TIMEOUT_S
            )
        except OSError as error:
            capture.ended(f"it cannot be started: {error.strerror}")

    def refuse(self, request: dict[str, Any], why: str) -> None:
        """There will be no capture; say so."""
        job = Job(request["service"], request["id"], request["reason"], request["pid"])
        self.tell("snapshot-failed", job, what="the capture", why=why)

    def analyse(self, job: Job, listener: Listener) -> None:
        """Analyse a stored report, now or when others are done."""
        if not self._analysis_command:
            why = "no library that reads a core is installed: pip install 'gimli-monitor[analysis]'"
            self.tell("analysis-failed", job, why=why)
        elif len(self._waiting) >= _ANALYSES_WAITING_MAX:
            self.tell("analysis-failed", job, why="too many are waiting")
        else:
            self._waiting.append(Analysis(self, job, listener))
            self.start_waiting()

    def start_waiting(self) -> None:
        """Start analyses that wait, as many as may run at once."""
        while self._waiting and len(self.analyses) < _ANALYSES_AT_ONCE:
            analysis = self._waiting.popleft()
            self.analyses.add(analysis)
            analysis.start()

    def pack(self) -> dict[str, Any]:
        """What the next image of the monitor must know."""
        return {
            "captures": [capture.pack() for capture in self.captures],
            "analyses": [analysis.pack() for analysis in (*self.analyses, *self._waiting)],
        }

    def descriptors(self) -> list[int]:
        """Those that the next image of the monitor must inherit."""
        helpers = [capture.helper for capture in self.captures]
        helpers += [analysis.helper for analysis in self.analyses]
        return [fd for helper in helpers for fd in helper.descriptors()]

    def restore(self, packed: dict[str, Any], listeners: Mapping[str, Listener], nobody: Listener) -> None:
        """Go on where the image before has stopped.

        Args:
            packed: what :meth:`pack` has made.
            listeners: by service.
            nobody: listens for a service that is gone.
        """
        for item in packed["captures"]:
            job = Job(**item["job"])
            capture = Capture(self, job, listeners.get(job.service, nobody))
            self.captures.add(capture)
            capture.restore(item)
        for item in packed["analyses"]:
            job = Job(**item["job"])
            analysis = Analysis(self, job, listeners.get(job.service, nobody))
            if item["helper"]:
                self.analyses.add(analysis)
                analysis.helper.restore(item["helper"])
            else:
                self._waiting.append(analysis)
