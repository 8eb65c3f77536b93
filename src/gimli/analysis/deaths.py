"""Who ended a program that left no core?

Pure. A death by SIGKILL cannot be looked into, only traced back; the same goes for a fault that was sent to a
program without crash handlers.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from gimli.analysis.cause import Cause
from gimli.process import sender_in_words
from gimli.report import Finding

if TYPE_CHECKING:
    from gimli.report import Report, Signal

_UNTRACED = (
    "who sends SIGKILL is seen by the kernel's trace alone, which needs root and the host's own pid namespace"
)


def explain_death(report: Report) -> list[Cause]:
    """Why a program died of which there is no crashed thread to look at; nothing when nobody knows."""
    signal = report.signal
    if signal is None:
        return []
    if signal.sender and signal.sender.get("oom"):
        return [_out_of_memory(report, signal)]
    if signal.sender:
        return [_killed(report, signal, signal.sender)]
    if signal.name == "SIGKILL":
        text = "Killed by SIGKILL; by whom is not known."
        return [_cause(signal, "killed", 0.5, text, "killed by SIGKILL, sender unknown", (_UNTRACED,))]
    return []


def _killed(report: Report, signal: Signal, sender: dict[str, Any]) -> Cause:
    if sender.get("pid") == report.pid:
        text, who = f"It sent itself {signal.name}.", "itself"
    elif sender.get("pid") == 0:
        who = "the kernel"
        text = (
            f"Killed by {signal.name}, sent by the kernel itself: "
            "a limit was reached (RLIMIT_CPU), or what it lived in has ended (a pid namespace)."
        )
    else:
        who = sender_in_words(sender)
        text = f"Killed by {signal.name}, sent by {who}."
    return _cause(
        signal,
        "killed",
        0.98,
        text,
        f"killed by {signal.name}, sent by {who}",
        _evidence(sender),
        _kin(sender),
    )


def _out_of_memory(report: Report, signal: Signal) -> Cause:
    known = report.process.get("service")
    oom = known.get("oom") if isinstance(known, dict) else None
    held_bytes = oom.get("anon_rss_bytes") if isinstance(oom, dict) else None
    held = f" It held {held_bytes / 1e6:.0f} MB." if isinstance(held_bytes, int) else ""
    text = f"Killed by the kernel's OOM killer: the memory of its cgroup, or of the machine, ran out.{held}"
    return _cause(signal, "out-of-memory", 0.99, text, f"killed by the OOM killer.{held}".rstrip("."))


def _cause(
    signal: Signal,
    kind: str,
    confidence: float,
    text: str,
    summary: str,
    evidence: tuple[str, ...] = (),
    key: tuple[str, ...] = (),
) -> Cause:
    return Cause(
        Finding(kind, text, confidence, evidence), tids=(), summary=summary, key=(signal.name, kind, *key)
    )


def _evidence(sender: dict[str, Any]) -> tuple[str, ...]:
    cmdline = sender.get("cmdline")
    if not isinstance(cmdline, list) or not cmdline:
        return ()
    return (f"the sender's command: {shlex.join(map(str, cmdline))}",)


def _kin(sender: dict[str, Any]) -> tuple[str, ...]:
    """What killings by the same hand have in common: names, never pids."""
    parent = sender.get("parent")
    names = (sender.get("comm"), parent.get("comm") if isinstance(parent, dict) else None)
    return tuple(str(name or "") for name in names)
