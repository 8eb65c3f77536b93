"""Which of a service's crashes, hangs and deaths get a report, and what goes into it?

A process that stands still is captured: the report has a core. Of one that has died before anything could be
seen, the report says what is known of its death (``deaths``, ``autopsy``).
"""

from __future__ import annotations

from gimli.monitor.child import State
from gimli.monitor.deaths import parse_details
from gimli.process import Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from gimli.heartbeat import Crash
    from gimli.monitor.child import Child
    from gimli.monitor.config import Service
    from gimli.monitor.deaths import Death
    from gimli.monitor.events import HeartbeatLate
    from gimli.monitor.service_files import ServiceFiles
    from gimli.monitor.site import Site
    from gimli.monitor.snapshots import Snapshots

_RECORD_DELAY_S = 0.02


class Inquest:
    """The reports of one service.

    Args:
        config: the service.
        site: what it shares with the others.
        files: its output and its page are part of a report.
        snapshots: takes them.
    """

    __slots__ = ("_config", "_due", "_files", "_site", "_snapshots")

    def __init__(self, config: Service, site: Site, files: ServiceFiles, snapshots: Snapshots) -> None:
        self._config = config
        self._site = site
        self._files = files
        self._snapshots = snapshots
        self._due: tuple[tuple[Child, int, int, Death], ...] = ()

    @property
    def is_due(self) -> bool:
        """Deaths are to be recorded in a moment: the monitor must not end before."""
        return bool(self._due)

    def capture(
        self,
        child: Child,
        reason: str,
        pid: int,
        *,
        crash: Crash | None,
        hang: HeartbeatLate | None = None,
        death: Death | None = None,
    ) -> None:
        """A snapshot of a process.

        Args:
            child: the service as the machine sees it.
            reason: crash, hang or request.
            pid: the process, which may be a worker of the service.
            crash: the crash handler's record.
            hang: what was silent.
            death: who sent the signal of the crash.
        """
        self._snapshots.take(self._request(child, reason, pid, crash=crash, hang=hang, death=death))

    def record_death(self, child: Child, pid: int, signo: int, death: Death) -> None:
        """At once for a fault; a program that was killed is started again first, where it is."""
        if signo != Signals.SIGKILL or child.state is not State.BACKOFF:
            self._record(child, pid, signo, death)
            return
        self._due += ((child, pid, signo, death),)
        self._site.loop.after(_RECORD_DELAY_S, self.record_due)

    def record_due(self) -> None:
        """Record what waits for that."""
        due, self._due = self._due, ()
        for child, pid, signo, death in due:
            self._record(child, pid, signo, death)

    def record_late(self, child: Child, entry: Mapping[str, Any]) -> None:
        """A death that a dead monitor has told of and not recorded any more: its ``exited`` event."""
        self._record(child, entry["pid"], entry["signo"], parse_details(entry))

    def _record(self, child: Child, pid: int, signo: int, death: Death) -> None:
        if self._site.records.wants(self._config.name, signo, self._site.kernel.now_ns()):
            request = self._request(child, "crash", 0, ended_pid=pid, signo=signo, death=death)
            self._snapshots.take(request)

    def _request(self, child: Child, reason: str, pid: int, **what: Any) -> dict[str, Any]:
        site, files = self._site, self._files
        if files.output:
            files.output.flush()
        return site.kernel.capture_request(
            self._config,
            child,
            state_dir=site.state_dir,
            reason=reason,
            pid=pid,
            page=files.page.read(),
            page_path=files.page.path,
            output=files.output.file.tail() if files.output else [],
            journal=site.journal.recent(self._config.name),
            **what,
        )
