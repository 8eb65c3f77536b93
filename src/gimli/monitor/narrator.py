"""What does ``gimli run`` say on its terminal? A line for what an operator wants to see pass."""

from __future__ import annotations

from gimli import clock, process
from gimli.clock import format_duration
from gimli.monitor.gap import format_size
from gimli.monitor.output import write_if_ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


_LINES_MAX = 100
_SPELL_NS = 10 * clock.NANOSECONDS


class Narrator:
    """Turns journal events into lines on standard error, a hundred in ten seconds at most.

    Standard error may be a file on the disk that everybody shares; the journal has the rest.
    """

    def __init__(self, monotonic_ns: Callable[[], int] = clock.monotonic_ns) -> None:
        self._monotonic_ns = monotonic_ns
        self._spell_ends_ns = 0
        self._lines = 0

    def tell(self, entry: dict[str, Any]) -> None:
        """Say one event, if it is worth a line."""
        sentence = describe(entry)
        if not sentence:
            return
        now_ns = self._monotonic_ns()
        if now_ns >= self._spell_ends_ns:
            if self._lines > _LINES_MAX:
                _say(f"{self._lines - _LINES_MAX} more events; see: gimli events")
            self._spell_ends_ns, self._lines = now_ns + _SPELL_NS, 0
        self._lines += 1
        if self._lines <= _LINES_MAX:
            _say(sentence)


def _say(sentence: str) -> None:
    write_if_ready(2, f"gimli: {sentence}\n".encode(errors="replace"))


def describe(entry: dict[str, Any]) -> str:
    """The line for an event; empty for those that only the journal keeps."""
    service = entry["service"]
    match entry["event"]:
        case "crash":
            name = process.signal_name(entry["signo"]) if entry.get("signo") else "a fault"
            who = f"a worker of {service}" if entry.get("worker") else service
            return f"{who} (pid {entry['pid']}) crashed: {name}" + _at(entry)
        case "hang":
            what = f"pulse {entry['pulse']!r}" if entry["pulse"] else "its heartbeat"
            silent, allowed = format_duration(entry["silent_s"]), format_duration(entry["allowed_s"])
            late = f"noticed {entry['late_ms']:.1f} ms after the deadline"
            return f"{service} hangs: {what} has been silent for {silent}, allowed are {allowed}; {late}"
        case "released":
            return f"snapshot {entry['report']} of {service} taken in {entry['pause_ms']:.1f} ms"
        case "snapshot-failed":
            parts = (entry.get("what"), entry.get("why"), entry.get("fix"))
            return f"no snapshot of {service}: " + ": ".join(part for part in parts if part)
        case "exited" if entry.get("signo") or entry.get("code"):
            return f"{service} (pid {entry['pid']}) ended: {entry['status']}"
        case "started" if entry.get("restarts"):
            took = f", {entry['after_ms']:.1f} ms after the end of the last" if "after_ms" in entry else ""
            return f"{service} restarted as pid {entry['pid']}{took}"
        case "backoff":
            delay = format_duration(entry["delay_s"])
            return f"{service} has ended {entry['failures']} times in a row; next start in {delay}"
        case "exec-failed" | "failed":
            return f"{service}: {entry.get('why') or entry.get('because')}"
        case "analysed":
            return f"report {entry['report']}: {entry['summary']}   (gimli show {entry['report']})"
        case "analysis-failed":
            return f"report {entry['report']} stays raw: {entry['why']}"
        case "internal-error":
            return f"internal error, please report it: {entry['traceback']}"
        case "crash-refused":
            return f"no snapshot of pid {entry['pid']} for {service}: {entry['why']}"
        case "heartbeat-damaged" | "output-lost":
            return f"{service}: {entry['what']}: {entry['why']}; {entry['fix']}"
        case "output-resumed":
            lost = f"{format_size(entry['bytes'])} in {entry['lines']} lines"
            return f"{service}: output is written again; dropped were {lost}: {entry['why']}"
        case _:
            return ""


def _at(entry: dict[str, Any]) -> str:
    return f" at {entry['address']:#x}" if entry.get("address") is not None else ""
