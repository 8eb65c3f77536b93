"""Is the journal complete? Pure.

Each instance that was started has its end or its adoption; each crash and each hang has one report, or one
recorded reason why there is none.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

_AROUND = 14
NEVER = frozenset({"internal-error", "adoption-refused"})
"""Events that chaos as it is made here must not cause."""


@dataclass(frozen=True, slots=True)
class Breach:
    """A rule that was broken.

    Args:
        what: in words.
        around: the journal's last lines at that moment.
    """

    what: str
    around: tuple[str, ...]
    at: str = ""


@dataclass(slots=True)
class Timeline:
    """The events of all monitors of one instance directory, in order."""

    counts: Counter[str] = field(default_factory=Counter)
    took_ms: list[float] = field(default_factory=list)
    breaches: list[Breach] = field(default_factory=list)
    failure_is_expected: bool = False
    """A gimli.toml is broken on purpose, or was a moment ago."""
    unseen: set[int] = field(default_factory=set)
    """Those that ended while no monitor ran: what was in their pipes is gone with the last who held them."""
    _living: dict[str, int] = field(default_factory=dict)
    _lost: set[str] = field(default_factory=set)
    """Services that a killed monitor held, of which the next has not spoken yet."""
    _faults: dict[str, str] = field(default_factory=dict)
    """Crashes and hangs of which no snapshot was ordered yet, by service."""
    _reports: dict[str, str] = field(default_factory=dict)
    """Captures and analyses that have begun, by report: what is awaited of each."""
    _recent: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_AROUND))

    def forget(self) -> None:
        """Lines were lost to a full disk, or went by unseen: what runs is not known."""
        self._living.clear()
        self._lost.clear()
        self._faults.clear()
        self._reports.clear()

    def unfinished(self) -> list[str]:
        """Reports that have begun and have neither come nor failed."""
        return [f"{report}: {awaited}" for report, awaited in self._reports.items()]

    def feed(self, entry: dict[str, Any]) -> None:
        """Take the next event."""
        self._recent.append(entry)
        if entry.get("lost_before"):
            self.counts["journal lines lost to the full disk"] += int(entry["lost_before"])
            self.forget()
        event = str(entry["event"])
        self.counts[event] += 1
        if event in NEVER:
            self.breach(f"{event}: {entry.get('traceback') or entry.get('why')}")
        if entry["service"] is None:
            self._monitor_event(event, entry)
        else:
            self._service_event(event, entry["service"], entry)
            self._report_event(event, entry["service"], entry)

    def breach(self, what: str) -> None:
        """A rule was broken now."""
        around = tuple(_line(entry) for entry in self._recent)
        at = str(self._recent[-1]["time"]) if self._recent else ""
        self.breaches.append(Breach(what, around, at))

    def _monitor_event(self, event: str, entry: dict[str, Any]) -> None:
        if event == "takeover":
            self.took_ms.append(float(entry["took_ms"]))
        elif event == "takeover-failed" and not self.failure_is_expected:
            self.breach(f"a takeover failed without a cause of ours: {entry['why']}")
        elif event == "monitor-started":
            if entry["after_loss_of"] is None and self._living:
                self.breach(f"a monitor starts, and does not know that one was lost; living: {self._living}")
            self._lost = set(self._living)
            self._faults.clear()
            self._reports.clear()  # their helpers were the dead monitor's
        elif event == "monitor-ended":
            captures = [report for report in self.unfinished() if report.endswith("capture")]
            if self._living or captures:
                left = f"services {self._living}, captures {captures}"
                self.breach(f"a monitor has ended before what it holds: {left}")
            self._living.clear()
            self._reports.clear()

    def _service_event(self, event: str, service: str, entry: dict[str, Any]) -> None:
        pid = entry.get("pid")
        before = self._living.get(service)
        if event in {"started", "adopted"}:
            if before is not None and before != pid:
                if service in self._lost:
                    self.breach(f"{service}: the end of pid {before} was told by nobody")
                else:
                    self.breach(f"{service}: pid {pid} {event} while {before} has not ended")
            self._living[service] = int(entry["pid"])
        elif event in {"exited", "ended-unseen"}:
            # Who was killed between fork and its line in the journal was never told to have started.
            if before is not None and pid != before and event == "exited":
                self.breach(f"{service}: pid {pid} ended, but {before} is the one that runs")
            if event == "exited" and entry.get("code") is None and entry.get("signo") is None:
                self.breach(f"{service}: how pid {pid} ended is not known")
            if event == "ended-unseen":
                self.unseen.add(int(entry["pid"]))
            self._living.pop(service, None)
        else:
            return
        self._lost.discard(service)

    def _report_event(self, event: str, service: str, entry: dict[str, Any]) -> None:
        report = str(entry.get("report"))
        match event:
            case "crash" | "hang" if entry.get("captured") is not False and not entry.get("worker"):
                self._faults[service] = event
            case "snapshot":
                self._faults.pop(service, None)
                self._reports[report] = "capture"
            case "report":
                self._reports[report] = "analysis"
            case "snapshot-failed" | "analysed" | "analysis-failed":
                self._reports.pop(report, None)
            case "exited" if service in self._faults:
                self.breach(f"{service}: a {self._faults.pop(service)} has neither report nor reason")
            case _:
                return


def _line(entry: dict[str, Any]) -> str:
    known = {"schema", "time", "monotonic_ns", "service", "event", "traceback"}
    details = {key: entry[key] for key in entry if key not in known}
    if details.get("sender"):
        details["sender"] = details["sender"]["pid"]
    rest = " ".join(f"{key}={' '.join(str(item).split())}" for key, item in details.items())
    return f"{str(entry['time'])[11:26]} {entry['service'] or '-':8} {entry['event']:16} {rest}"[:200]
