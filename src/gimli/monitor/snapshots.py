"""Which snapshots of one service are under way, and what became of the last?

One process is captured once at a time: a second wish for the same one (it crashes in the middle of a
requested snapshot) waits for the first to end. So do reports of processes that died before anything could be
seen of them, which have no pid any more: one may die again while the report of its first death is made.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gimli.monitor.evidence import Evidence


_WAITING_MAX = 20


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
        self._pids: tuple[int, ...] = ()
        self._waiting: tuple[dict[str, Any], ...] = ()

    @property
    def is_idle(self) -> bool:
        """None is under way, none waits."""
        return not self._pids

    def take(self, request: dict[str, Any]) -> None:
        """Take the snapshot that ``request`` describes, now or after the one under way."""
        if request["pid"] in self._pids:
            if len(self._waiting) < _WAITING_MAX:
                self._waiting += (request,)
            else:
                self._evidence.refuse(request, "too many are waiting")
            return
        self.failure = ""
        self._pids += (request["pid"],)
        self._evidence.capture(request, self)

    def released(self, pid: int) -> None:
        """A capture is over, and the process it was of may go on; or is already another one."""
        self._pids = tuple(each for each in self._pids if each != pid)
        request = next((waiting for waiting in self._waiting if waiting["pid"] == pid), None)
        if request:
            self._waiting = tuple(waiting for waiting in self._waiting if waiting is not request)
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
            "waiting": list(self._waiting),
        }

    def restore(self, packed: dict[str, Any]) -> None:
        """Go on where the image before has stopped."""
        self.last_report = packed["last_report"]
        self.failure = packed["failure"]
        self._pids = tuple(packed["pids"])
        self._waiting = tuple(packed["waiting"])
