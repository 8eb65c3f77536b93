"""What does a tired person read of a report, at four in the morning?

What is known comes first, what is guessed says how sure it is, what could not be had is said last. Pure:
a report in, styled lines out; ``gimli.cli.show`` prints them.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.text import Text

from gimli.cli import when
from gimli.cli.lines import LABEL_WIDTH, block, flow, paragraph, pushed_right, safe
from gimli.cli.stacks import render_threads
from gimli.cli.story import time_line, what_was_done
from gimli.cli.terminal import WIDTH
from gimli.clock import format_duration
from gimli.report import describe_pulse, describe_silence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gimli.report import Finding, Report
    from gimli.store.index import Alike

_OUTPUT_MAX = 5
_EVENTS_MAX = 12
_CERTAIN = 0.995
"""From here on two decimals would say 1.00, which is said by saying nothing."""
_ORDINALS = {1: "st", 2: "nd", 3: "rd"}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a reader is told beside the report itself, and how."""

    alike: Alike | None = None
    """Where it stands among those of its signature; None for one outside the store."""
    core_path: str | None = None
    """Path of the core, if it is still there."""
    name: str = ""
    """What to call the report in commands: its id, or its directory."""
    everything: bool = False
    width: int = WIDTH
    source: Callable[[str, int], str | None] = lambda _file, _line: None
    """The text of a line of a source file, if it can be had."""


def render(report: Report, around: Surroundings) -> list[Text]:
    """The report as lines."""
    sections = (
        _head(report, around),
        [*_why(report, around), *_seen(report, around), *_done(report, around), *_also(report, around)],
        _threads(report, around),
        [
            *_process(report, around),
            *_output(report, around),
            *_time(report, around),
            *_notes(report, around),
        ],
        _more(report, around),
    )
    lines: list[Text] = []
    for section in filter(None, sections):
        lines += [Text(""), *section] if lines else section
    return lines


def _head(report: Report, around: Surroundings) -> list[Text]:
    left = Text.assemble(
        (safe(report.service), "bold"),
        "  ",
        (report.reason, "yellow" if report.reason == "request" else "bold red"),
        f"   {safe(when.day_and_time(report.time))}",
    )
    alike = around.alike
    place = ""
    if alike and alike.count > 1:
        place = f"  ({_ordinal(alike.ordinal)} like it"
        place += f" since {when.since(alike.first, report.time)})" if alike.ordinal > 1 else ")"
    return pushed_right(left, Text(f"report {safe(report.id)}{safe(place)}"), around.width)


def _why(report: Report, around: Surroundings) -> list[Text]:
    if report.findings:
        return _finding("  WHY", report.findings[0], around)
    if report.reason == "request":
        return []  # nothing went wrong
    known = f"not known. {report.summary}" if report.summary else "not known."
    return paragraph("  WHY", known, around.width)


def _also(report: Report, around: Surroundings) -> list[Text]:
    return [line for finding in report.findings[1:] for line in _finding("  ALSO", finding, around)]


def _finding(label: str, finding: Finding, around: Surroundings) -> list[Text]:
    style = "bold red" if label.strip() == "WHY" else "bold"
    lines = paragraph(label, finding.text, around.width, style=style)
    if finding.confidence < _CERTAIN:
        sure = Text(f"sure: {finding.confidence:.2f}", style="dim")
        lines[-1:] = pushed_right(lines[-1], sure, around.width)
    if around.everything:
        for evidence in finding.evidence:
            lines += paragraph("", f"because {evidence}", around.width)
    return lines


def _seen(report: Report, around: Surroundings) -> list[Text]:
    said = (report.heartbeat or {}).get("note")
    clauses = [_fault(report)]
    if isinstance(said, str) and said:
        clauses.append(f'It said: "{said}"')
    return paragraph("  SEEN", " ".join(clauses), around.width)


def _fault(report: Report) -> str:
    if report.reason == "request":
        return "a snapshot was asked for."
    if report.reason == "hang":
        return _silence(report)
    if report.signal is None:
        return f"{report.summary or 'it crashed'}."
    signal = report.signal
    parts = [signal.name + (f" ({signal.code_name})" if signal.code_name else "")]
    is_own = signal.sender is not None and signal.sender.get("pid") == report.pid
    if signal.address is not None and signal.sender is None:  # a signal that was sent has a sender instead
        parts.append(f"at address {signal.address:#x}")
    crashed = next((thread for thread in report.threads if thread.crashed), None)
    if crashed:
        parts.append(f'in thread {crashed.tid} "{crashed.name}"')
    if signal.sender and not is_own:
        who = ", ".join(
            f"{key} {value}" for key, value in signal.sender.items() if isinstance(value, (int, str))
        )
        parts.append(f"sent by {who}")
    return " ".join(parts) + "."


def _silence(report: Report) -> str:
    hang = report.hang or {}
    text = f"{describe_pulse(hang)} {describe_silence(hang)}"
    if isinstance(allowed_s := hang.get("allowed_s"), (int, float)):
        text += f" (allowed {format_duration(allowed_s)})"
    if isinstance(late_ms := hang.get("late_ms"), (int, float)):
        text += f", noticed {format_duration(late_ms / 1000)} after its deadline"
    beating = _pulses_that_beat(report)
    if beating == 1:
        text += "; the other pulse beats on"
    elif beating:
        text += f"; the other {beating} pulses beat on"
    return text + "."


def _pulses_that_beat(report: Report) -> int:
    pulses = (report.heartbeat or {}).get("pulses")
    silent = (report.hang or {}).get("pulse")
    count = 0
    for pulse in pulses if isinstance(pulses, list) else ():
        if isinstance(pulse, dict) and pulse.get("name") != silent:
            silent_s, interval_s = pulse.get("silent_s"), pulse.get("interval_s")
            if isinstance(silent_s, (int, float)) and isinstance(interval_s, (int, float)):
                count += silent_s <= interval_s
    return count


def _done(report: Report, around: Surroundings) -> list[Text]:
    done = what_was_done(report)
    return paragraph("  DONE", done, around.width) if done else []


def _threads(report: Report, around: Surroundings) -> list[Text]:
    cwd = report.process.get("cwd")
    return render_threads(
        report.threads,
        first_tid=(report.hang or {}).get("tid"),
        cwd=cwd if isinstance(cwd, str) else "",
        source=around.source,
        everything=around.everything,
        width=around.width,
    )


def _process(report: Report, around: Surroundings) -> list[Text]:
    process = report.process
    facts = [f"pid {report.pid}", *_process_facts(process)]
    lines = paragraph("PROCESS", ", ".join(facts), around.width)
    if report.command:
        lines += paragraph("", shlex.join(report.command), around.width)
    if around.everything:
        for key, found in process.items():
            lines += _detail(key, found, around.width)
    return lines


def _process_facts(process: dict[str, Any]) -> Iterator[str]:
    """The few figures that often explain; the others are for ``--all``."""
    if isinstance(uptime_s := process.get("uptime_s"), (int, float)):
        yield f"up {format_duration(uptime_s)}"
    if isinstance(rss_bytes := process.get("rss_bytes"), int):
        yield f"{rss_bytes / 1e6:.0f} MB"
    if isinstance(fds := process.get("fds"), list):
        limit = _limit(process, "Max open files")
        yield f"{len(fds)} of {limit} fds" if limit else f"{len(fds)} fds"
    if isinstance(threads := process.get("threads"), int):
        yield f"{threads} threads"
    if isinstance(cwd := process.get("cwd"), str) and cwd:
        yield f"cwd {cwd}"
    if isinstance(uid := process.get("uid"), int):
        yield f"uid {uid}"


def _limit(process: dict[str, Any], name: str) -> object:
    limits = process.get("limits")
    pair = limits.get(name) if isinstance(limits, dict) else None
    return pair[0] if isinstance(pair, list) and pair else None


def _detail(key: str, found: object, width: int) -> list[Text]:
    """One fact of the process, a list or an object item by item."""
    items: Iterable[str]
    if isinstance(found, dict):
        items = [f"{name}={_json(value)}" for name, value in found.items()]
    elif isinstance(found, list):
        items = [_json(item) for item in found]
    else:
        items = [_json(found)]
    first = Text(f"{' ' * LABEL_WIDTH}{safe(key)}: ", style="dim")
    return flow(first, [Text(safe(item)) for item in items], gap=3, indent=LABEL_WIDTH + 2, width=width)


def _json(found: object) -> str:
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def _output(report: Report, around: Surroundings) -> list[Text]:
    lines = report.output if around.everything else report.output[-_OUTPUT_MAX:]
    if not lines:
        return []
    left_out = len(report.output) - len(lines)
    what = f"the last {len(lines)} of {len(report.output)} lines, `--all` shows them" if left_out else ""
    rows = [Text(what, style="dim")] if what else []
    return block("OUTPUT", [*rows, *(Text(safe(line.expandtabs())) for line in lines)])


def _time(report: Report, around: Surroundings) -> list[Text]:
    events = report.journal if around.everything else report.journal[-_EVENTS_MAX:]
    left_out = len(report.journal) - len(events)
    rows = [Text(f"{left_out} earlier events, `--all` shows them", style="dim")] if left_out else []
    return block("TIME", [*rows, *time_line(events)])


def _notes(report: Report, around: Surroundings) -> list[Text]:
    lines: list[Text] = []
    for note in report.notes:
        lines += paragraph("" if lines else "NOTES", note, around.width)
    return lines


def _more(report: Report, around: Surroundings) -> list[Text]:
    """Commands to paste: each on one line, whatever its length."""
    name = shlex.quote(around.name or report.id)
    commands = []
    if not around.everything:
        commands.append(("all of it", f"gimli show {name} --all"))
    if around.alike and around.alike.count > 1:
        commands.append(("like it", "gimli reports --group"))
    exe = report.process.get("exe")
    if around.core_path:
        program = f" {shlex.quote(exe)}" if isinstance(exe, str) and exe else ""
        commands.append(("the core", f"gdb -c {shlex.quote(around.core_path)}{program}"))
    return [Text(f"{safe(what) + ':':10} {safe(command)}", style="dim") for what, command in commands]


def _ordinal(number: int) -> str:
    teens = number % 100 in {11, 12, 13}
    return f"{number}{'th' if teens else _ORDINALS.get(number % 10, 'th')}"
