"""What does the journal tell of a report: what was done, and what happened before?

Events are lines of the journal as a report keeps them: ``time, monotonic_ns, service, event`` and details.
An event that this file does not know is shown with its details; none is left out.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.text import Text

from gimli.cli import when
from gimli.cli.lines import safe
from gimli.clock import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gimli.report import Report

    Event = Mapping[str, Any]

_TOLERANCE = timedelta(milliseconds=50)
_COMMON = {
    *("schema", "time", "monotonic_ns", "service", "event"),
    *("signal", "sender", "repeats", "within_ms", "first_ns"),
    "unreported",  # a note of the monitor to the next one
}
_PARENTS_MAX = 4


def what_was_done(report: Report) -> str:
    """The steps after the fault, as one sentence; empty when the journal has none of them.

    ``snapshot (pause 11 ms), ABRT, ended by SIGABRT after 0.2 s, restarted as pid 8123 in 41 ms.``
    """
    after = _events_after(report)
    steps = []
    pause_ms = next((ms for ms in (_number(event, "pause_ms") for event in after) if ms is not None), None)
    pause_ms = report.timings_ms.get("pause") if pause_ms is None else pause_ms
    if pause_ms:  # 0: it had ended, and there was nothing to stop
        steps.append(f"snapshot (pause {format_duration(pause_ms / 1000)})")
    before: Event | None = None
    for event in after:
        if _is_of_another(event, report.pid):
            continue
        step = _step(event, before, after[0])
        if step:
            steps.append(step)
        if event.get("event") == "exited":
            before = event
        if event.get("event") == "started":
            break  # What follows is the story of the next instance.
    return f"{', '.join(steps)}." if steps else ""


def _is_of_another(event: Event, pid: int) -> bool:
    """The start of this very process, or the end of its predecessor, may lie within the tolerance."""
    is_own = event.get("pid") == pid
    return (event.get("event") == "started" and is_own) or (event.get("event") == "exited" and not is_own)


def time_line(events: Sequence[Event]) -> list[Text]:
    """One line per event: ``04:00:01.123 HUP from sh(4121) < logrotate(4119)   x2 within 3 ms``."""
    return [_row(event) for event in with_repeats(events)]


def with_repeats(events: Iterable[Event]) -> list[Event]:
    """The events, with a signal and its repeats, which the journal has on two lines, as one."""
    told: list[Event] = []
    first: dict[object, int] = {}
    for event in events:
        if event.get("event") != "signal" or not isinstance(event.get("first_ns"), int):
            told.append(event)
            continue
        row = (event.get("service"), event.get("signal"), event["first_ns"])
        if row in first and isinstance(event.get("repeats"), int):
            before = told[first[row]]
            repeats = before.get("repeats", 1) + event["repeats"]
            told[first[row]] = {**before, "repeats": repeats, "within_ms": event.get("within_ms")}
        else:
            first[row] = len(told)
            told.append(event)
    return told


def signal_in_words(event: Event) -> str:
    """``HUP from sh(4121) < logrotate(4119)   x2 within 3 ms``."""
    return _words(event) + _repeats(event)


def _events_after(report: Report) -> list[Event]:
    noticed = when.parse(report.time)
    if noticed is None:
        return []
    moments = ((when.parse(event.get("time")), event) for event in report.journal)
    return [event for moment, event in moments if moment is not None and moment >= noticed - _TOLERANCE]


def _step(event: Event, exited: Event | None, fault: Event) -> str:
    """A clause of the sentence, or nothing for an event that is no deed."""
    deed = _DEEDS.get(str(event.get("event")))
    if deed:
        return deed(event, exited, fault)
    signal = event.get("signal")
    is_ours = isinstance(signal, str) and "sender" not in event and "because" in event
    return safe(str(signal).removeprefix("SIG")) if is_ours else ""


def _exited(event: Event, _: Event | None, fault: Event) -> str:
    status = _plain(event.get("status"))
    how = f"ended with {status}" if status.startswith("exit") else f"ended by {status}"
    return f"{how} after {_between(fault, event)}"


def _started(event: Event, exited: Event | None, _: Event) -> str:
    delay_ms = _number(event, "delay_ms")
    started = f"restarted as pid {_plain(event.get('pid'))}"
    if delay_ms is not None:
        return f"{started} in {format_duration(delay_ms / 1000)}"
    return f"{started} in {_between(exited, event)}" if exited else started


_DEEDS: Mapping[str, Callable[[Event, Event | None, Event], str]] = {
    "exited": _exited,
    "started": _started,
    "backoff": lambda event, *_: (
        f"waits {format_duration(_number(event, 'delay_s') or 0)} before the next start"
    ),
    "exec-failed": lambda event, *_: f"could not be started ({_plain(event.get('why'))})",
    "failed": lambda event, *_: f"given up: {_plain(event.get('because'))}",
    "stopped": lambda *_: "stopped",
}
"""What was done, by event: from it, the end before it if there was one, and the fault."""


def _row(event: Event) -> Text:
    moment = when.parse(event.get("time"))
    stamp = when.time_of_day(moment) if moment else safe(str(event.get("time", "")))
    row = Text.assemble((f"{stamp:12} ", "dim"), _words(event))
    return row.append(_repeats(event), style="bold")


def _repeats(event: Event) -> str:
    repeats = event.get("repeats")
    if not isinstance(repeats, int) or repeats <= 1:
        return ""
    within_ms = _number(event, "within_ms")
    within = f" within {format_duration(within_ms / 1000)}" if within_ms is not None else ""
    return f"   x{repeats}{within}"


def _words(event: Event) -> str:
    name = safe(str(event.get("event", "?")))
    sender = event.get("sender")
    if isinstance(event.get("signal"), str):
        signal = safe(event["signal"].removeprefix("SIG"))
        name = signal if name == "signal" else f"{name} {signal}"
    told = _COMMON
    if name == "exited" and sender:
        name, told = f"exited by {_plain(event.get('status'))}", _COMMON | {"status", "signo", "code"}
    if sender:
        name += f" from {_sender(sender) if isinstance(sender, dict) else _plain(sender)}"
    details = ", ".join(
        f"{safe(key)} {_plain(found)}"
        for key, found in event.items()
        if key not in told and found is not None
    )
    return f"{name}   {details}" if details else name


def _sender(sender: Mapping[str, Any]) -> str:
    """``sh(4121) < logrotate(4119)``: who, and who started whom."""
    chain: list[str] = []
    one: object = sender
    while isinstance(one, dict) and len(chain) < _PARENTS_MAX:
        chain.append(f"{_plain(one.get('comm')) or '?'}({_plain(one.get('pid'))})")
        one = one.get("parent")
    if isinstance(one, (int, str)) and not isinstance(one, bool):
        chain.append(_plain(one))
    return " < ".join(chain)


def _between(first: Event, last: Event) -> str:
    start, end = first.get("monotonic_ns"), last.get("monotonic_ns")
    if not isinstance(start, int) or not isinstance(end, int):
        return "an unknown time"
    return format_duration(max(end - start, 0) / 1e9)


def _number(event: Event, key: str) -> float | None:
    found = event.get(key)
    return float(found) if isinstance(found, (int, float)) and not isinstance(found, bool) else None


def _plain(found: object) -> str:
    """A detail as words: strings bare, numbers short, the rest as JSON."""
    match found:
        case None:
            return ""
        case str():
            return safe(found)
        case float():
            return f"{found:g}"
        case _:
            return safe(json.dumps(found, ensure_ascii=False, default=str))
