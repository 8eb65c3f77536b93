"""Which snapshots of one service are under way, and what became of the last?

One process is captured once at a time: a second wish for the same one (it crashes in the middle of a
requested snapshot) waits for the first to end.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gimli.monitor.evidence import Evidence


class Snapshots:
    """The snapshots of one service; ``evidence`` tells it how each goes.

    Args:
        evidence: takes them.
        on_release: called with a pid that may go on; no capture of it is under way any more.
        on_news: called when there is a report, or none after all.
    """

    __slots__ = ("_evidence", "_on_news", "_on_release", "_pids", "_waiting", "failure", "last_report")

    def __init__(
        self, evidence: Evidence, on_release: Callable[[int], None], on_news: Callable[[], None]
    ) -> None:
        self.last_report: dict[str, Any] | None = None
        self.failure = ""
        self._evidence = evidence
        self._on_release = on_release
        self._on_news = on_news
        self._pids: set[int] = set()
        self._waiting: dict[str, Any] | None = None

    def take(self, request: dict[str, Any]) -> None:
        """Take the snapshot that ``request`` describes, now or after the one under way."""
        if request["pid"] in self._pids:
            self._waiting = request
            return
        self.failure = ""
        self._pids.add(request["pid"])
        self._evidence.capture(request, self)

    def released(self, pid: int) -> None:
        """A capture is over, and the process it was of may go on; or is already another one."""
        self._pids.discard(pid)
        if self._waiting and self._waiting["pid"] == pid:
            request, self._waiting = self._waiting, None
            self.take(request)
        else:
            self._on_release(pid)

    def report_known(self, report: dict[str, Any]) -> None:
        """A report is stored, or analysed."""
        self.last_report = report
        self._on_news()

    def failed(self, why: str) -> None:
        """There is no snapshot."""
        self.failure = why
        self._on_news()

    def pack(self) -> dict[str, Any]:
        """What the next image of the monitor must know."""
        return {
            "last_report": self.last_report,
            "failure": self.failure,
            "pids": sorted(self._pids),
            "waiting": self._waiting,
        }

    def restore(self, packed: dict[str, Any]) -> None:
        """Go on where the image before has stopped."""
        self.last_report = packed["last_report"]
        self.failure = packed["failure"]
        self._pids = set(packed["pids"])
        self._waiting = packed["waiting"]
