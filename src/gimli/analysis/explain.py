"""Why, in order: the likeliest cause first, each with its evidence and how sure it is.

Pure but for source text, which comes in as a function.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gimli.analysis.cause import Cause
from gimli.analysis.crashes import explain_crash
from gimli.analysis.deadlocks import find_deadlocks, waiting_edges
from gimli.analysis.deaths import explain_death
from gimli.analysis.hangs import explain_hang, explain_lateness, silent_thread
from gimli.analysis.merge import merge
from gimli.analysis.stacks import doing, with_waits_of_interpreter
from gimli.process import sender_in_words
from gimli.report import Finding, Report, Thread, signature_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.analysis.evidence import Evidence


_TELL_SENDER = {"signal-sent", "killed", "out-of-memory"}
"""Findings that name who sent the signal."""


def explain(
    base: Report,
    evidence: Evidence,
    *,
    source_text: Callable[[str], str],
    source_line: Callable[[str | None, int | None], str],
) -> Report:
    """The whole report: stacks merged, causes found, culprits first.

    Args:
        base: made of the facts alone.
        evidence: what the readers of the core saw.
        source_text: a source file's text, empty when it cannot be read.
        source_line: one line of it.
    """
    report = replace(base, threads=_threads(base, evidence), notes=(*base.notes, *evidence.notes))
    edges = waiting_edges(report.threads, evidence, source_text)
    silent = silent_thread(report) if report.reason == "hang" else None
    causes: list[Cause] = []
    crashed = next((thread for thread in report.threads if thread.crashed), None)
    if report.reason == "crash" and crashed is not None:
        causes += explain_crash(report, crashed, evidence, source_line)
    elif report.reason == "crash":
        causes += explain_death(report)
    deadlocks = find_deadlocks(edges, report.threads, first_tid=silent.tid if silent else None)
    causes += deadlocks
    if report.reason == "hang":
        hang = explain_hang(report, evidence, edges)
        causes += explain_lateness(report)
        # With a deadlock, a silent thread that is not part of it is a victim.
        causes.append(replace(hang, tids=()) if deadlocks else hang)
    causes += _senders(report, causes)
    return _told(report, causes)


def _told(report: Report, causes: list[Cause]) -> Report:
    """The report with its causes; the first one names it."""
    culprits = {tid for cause in causes for tid in cause.tids}
    threads = [replace(thread, culprit=thread.tid in culprits) for thread in report.threads]
    order = {tid: at for at, tid in enumerate(dict.fromkeys(tid for cause in causes for tid in cause.tids))}
    threads.sort(key=lambda thread: (not thread.crashed, order.get(thread.tid, len(order)), thread.tid))
    first = next((cause for cause in causes if cause.summary), None)
    return replace(
        report,
        findings=tuple(cause.finding for cause in causes),
        threads=tuple(threads),
        summary=first.summary if first else report.summary,
        signature=signature_of(report.service, report.reason, first.key) if first else report.signature,
    )


def _threads(base: Report, evidence: Evidence) -> tuple[Thread, ...]:
    """All threads that anybody saw, with names, merged stacks and what they are doing."""
    known = {thread.tid: thread for thread in base.threads}
    tids = dict.fromkeys([*known, *evidence.native, *evidence.python])
    names = _pulse_names(base)
    crash_tid = _crash_tid(base, evidence)
    made = []
    for tid in tids:
        native, python = evidence.native.get(tid), evidence.python.get(tid)
        frames = merge(native.frames if native else (), python.frames if python else ())
        kernel = evidence.kernel.get(tid)
        name = (python and python.name) or names.get(tid) or (known[tid].name if tid in known else "")
        thread = known.get(tid, Thread(tid, name))
        words = doing(frames, kernel) or thread.doing
        if tid == crash_tid:
            words = f"crashed by {base.signal.name}" if base.signal else "crashed"
        shown = frames if tid == crash_tid else with_waits_of_interpreter(frames)
        made.append(replace(thread, name=name, crashed=tid == crash_tid, doing=words, frames=shown))
    return tuple(made)


def _crash_tid(base: Report, evidence: Evidence) -> int | None:
    """The thread that faulted: as the facts say, else the first of the core."""
    if base.reason != "crash":
        return None
    said = evidence.facts.get("crash_tid")
    return said if isinstance(said, int) else next(iter(evidence.native), None)


def _pulse_names(base: Report) -> dict[int, str]:
    """Names of threads by the pulses they beat: Python before 3.14 does not tell the kernel its names."""
    pulses = (base.heartbeat or {}).get("pulses")
    names = {}
    for each in pulses if isinstance(pulses, list) else []:
        if isinstance(each, dict) and isinstance(each.get("tid"), int) and isinstance(each.get("name"), str):
            names[each["tid"]] = each["name"]
    hang = base.hang or {}
    if isinstance(hang.get("tid"), int) and isinstance(hang.get("pulse"), str):
        names[hang["tid"]] = hang["pulse"]
    return names


def _senders(report: Report, causes: list[Cause]) -> list[Cause]:
    """Who sent the signal, unless that is the explanation already."""
    signal = report.signal
    if signal is None or not signal.sender or any(cause.finding.kind in _TELL_SENDER for cause in causes):
        return []
    if signal.sender.get("pid") in {report.pid, 0, None}:
        return []
    return [Cause(Finding("sender", f"{signal.name} was sent by {sender_in_words(signal.sender)}.", 1.0))]
