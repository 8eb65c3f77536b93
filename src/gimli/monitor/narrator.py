"""What does ``gimli run`` say on its terminal? A line for what an operator wants to see pass."""

from __future__ import annotations

from gimli import clock, process
from gimli.clock import format_duration
from gimli.monitor.gap import format_size
from gimli.monitor.output import write_if_ready
from gimli.status import describe_tracer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
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


def describe(entry: Mapping[str, Any]) -> str:
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
            because = f"; {entry['because']}" if entry.get("because") else ""
            words = f"{service} hangs: {what} has been silent for {silent}, allowed are {allowed}"
            return f"{words}; {late}{because}"
        case "starved" | "beat-late" | "beats-again" | "debugger-attached" | "debugger-detached":
            return _describe_patience(entry)
        case "released":
            return f"snapshot {entry['report']} of {service} taken in {entry['pause_ms']:.1f} ms"
        case "snapshot-failed":
            parts = (entry.get("what"), entry.get("why"), entry.get("fix"))
            return f"no snapshot of {service}: " + ": ".join(part for part in parts if part)
        case "exited" if entry.get("signo") or entry.get("code"):
            return f"{service} (pid {entry['pid']}) ended: {entry['status']}" + _sent_by(entry)
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
            return _describe_continuity(entry)


def _describe_continuity(entry: Mapping[str, Any]) -> str:
    """Takeovers, adoptions, and what is left behind."""
    service = entry["service"]
    match entry["event"]:
        case "monitor-started" if entry.get("after_loss_of"):
            return f"the monitor before this one (pid {entry['after_loss_of']}) ended without a word"
        case "monitor-killed" if entry.get("oom"):
            return f"the monitor before this one (pid {entry['pid']}) was killed by the OOM killer"
        case "monitor-killed":
            return f"the monitor before this one (pid {entry['pid']}) was killed{_sent_by(entry)}"
        case "takeover":
            return f"the monitor was replaced in place in {entry['took_ms']:.1f} ms"
        case "takeover-failed":
            return f"the monitor goes on as it was: {entry['why']}"
        case "adopted":
            return f"{service} runs as pid {entry['pid']}: adopted"
        case "adoption-refused":
            return f"{service} is not started, since a copy may run: {entry['why']}"
        case "ended-unseen":
            return f"{service} (pid {entry['pid']}) ended while no monitor ran: {entry['why']}"
        case "leftovers":
            pids = ", ".join(map(str, entry["pids"]))
            return f"{service} has left processes behind ({pids}): sent {entry['signal']}"
        case "leftovers-remain":
            return (
                f"{service} has left processes behind ({', '.join(map(str, entry['pids']))}): {entry['why']}"
            )
        case "directory-lost":
            return f"{entry['path']}: {entry['why']}; {entry['fix']}"
        case "directory-renewed":
            return f"made again in {entry['path']}: {', '.join(entry['names'])}; {entry['why']}"
        case "directory-unwatched":
            return f"{entry['path']}: {entry['why']}"
        case "monitor-superseded":
            return f"this monitor ends, and leaves its services alone: {entry['what']}; {entry['why']}"
        case _:
            return _describe_sign(entry)


def _describe_sign(entry: Mapping[str, Any]) -> str:
    """The line for what a program says of itself, or does not answer."""
    service = entry["service"]
    match entry["event"]:
        case "watchdog-triggered":
            return f"{service} says that it hangs"
        case "not-ready":
            return f"{service} is not ready: {entry['why']}"
        case "probe-failed":
            return f"{service} does not answer {entry['probe']}: {entry['why']}"
        case "notify-refused":
            fix = f"; {entry['fix']}" if entry.get("fix") else ""
            return f"a notification of pid {entry['pid']} is not heeded: {entry['why']}{fix}"
        case _:
            return ""


def _describe_patience(entry: Mapping[str, Any]) -> str:
    """Why the watchdog does not act."""
    service = entry["service"]
    match entry["event"]:
        case "beats-again":
            return f"{service} beats again"
        case "debugger-attached":
            return f"the watchdog of {service} waits: {describe_tracer(entry['debugger'])} attached"
        case "debugger-detached":
            waited, who = format_duration(entry["for_s"]), describe_tracer(entry["debugger"])
            return f"{who} has let go of {service} after {waited}; its deadlines start anew"
        case _:
            what = f"pulse {entry['pulse']!r}" if entry["pulse"] else "the heartbeat"
            silent, grace = format_duration(entry["silent_s"]), format_duration(entry["grace_s"])
            words = f"{what} of {service} has been silent for {silent}, but it is not taken for a hang yet"
            return f"{words}: {entry['because']}; it has another {grace}"


def _sent_by(entry: Mapping[str, Any]) -> str:
    """Who killed it, unless that was the monitor: its order has a line of its own in the journal."""
    sender = entry.get("sender")
    if not isinstance(sender, dict) or entry.get("ordered"):
        return ""
    if sender.get("pid") == entry["pid"]:
        return ", sent by itself"
    return f", sent by {process.sender_in_words(sender)}"


def _at(entry: Mapping[str, Any]) -> str:
    return f" at {entry['address']:#x}" if entry.get("address") is not None else ""
