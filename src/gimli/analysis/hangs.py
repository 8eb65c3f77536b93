"""Where does the thread stand whose beat fell silent?

Pure. Which pulse, whose thread, for how long, where in the program's own code, and what it waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gimli.analysis.cause import Cause
from gimli.analysis.deadlocks import called
from gimli.analysis.stacks import own_frame, own_functions, place_of
from gimli.clock import format_duration
from gimli.report import Finding, describe_pulse, describe_silence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gimli.analysis.evidence import Evidence
    from gimli.analysis.waitgraph import Edge
    from gimli.report import Report, Thread


def silent_thread(report: Report) -> Thread | None:
    """The thread that should have beaten: the pulse's own, for the main beat the main thread."""
    tid = (report.hang or {}).get("tid")
    wanted = tid if isinstance(tid, int) and tid > 0 else report.pid
    return next((thread for thread in report.threads if thread.tid == wanted), None)


def explain_hang(report: Report, evidence: Evidence, edges: Sequence[Edge]) -> list[Cause]:
    """What is known of the silence; one cause."""
    hang = report.hang or {}
    thread = silent_thread(report)
    pulse = f"{describe_pulse(hang)} {describe_silence(hang)}{_allowed(hang)}"
    if thread is None:
        text = f"The {pulse}; its thread is not in the core."
        return [
            Cause(
                Finding("hang", text, 0.9),
                summary=f"{describe_pulse(hang)} silent",
                key=("hang", describe_pulse(hang)),
            )
        ]
    words, why, confidence = _standing(thread, report, evidence, edges)
    owner = "" if thread.name == hang.get("pulse") else f" of {called({thread.tid: thread}, thread.tid)}"
    text = f"The {describe_pulse(hang)}{owner} is {describe_silence(hang)}{_allowed(hang)}: it is {words}."
    others = _others(report, hang)
    return [
        Cause(
            Finding("hang", text + others, confidence, why),
            tids=(thread.tid,),
            summary=f"{_short(hang)} silent: {words}",
            key=(
                "hang",
                describe_pulse(hang),
                thread.doing.partition(" of ")[0].partition(" (")[0].split("/")[0],
                *own_functions(thread.frames),
            ),
        )  # fmt: skip
    ]


def _standing(
    thread: Thread, report: Report, evidence: Evidence, edges: Sequence[Edge]
) -> tuple[str, tuple[str, ...], float]:
    """What the thread is doing and where, with the evidence and how sure that is."""
    frame = own_frame(thread.frames)
    where = f" in {place_of(frame)}" if frame else ""
    edge = max(
        (each for each in edges if each.waiter == thread.tid), key=lambda each: each.confidence, default=None
    )
    if edge is not None:
        by_tid = {each.tid: each for each in report.threads}
        words = f"waiting for the lock `{edge.lock}`{where}, held by {called(by_tid, edge.holder)}"
        return words, edge.evidence, edge.confidence
    kernel = evidence.kernel.get(thread.tid)
    if kernel and kernel.state == "R" and kernel.syscall is None:
        # One look at a thread that computes cannot tell a loop without end from long work.
        return (
            f"running{where}: a loop, or work that takes longer than its interval",
            ("state R, in no system call",),
            0.8,
        )
    if thread.doing:
        seen = (f"system call {kernel.syscall.name}",) if kernel and kernel.syscall else ()
        return f"{thread.doing}{where}", seen, 0.9
    return f"standing{where}" if where else "at an unknown place", (), 0.6


def _allowed(hang: dict[str, Any]) -> str:
    allowed_s = hang.get("allowed_s")
    if isinstance(allowed_s, int | float) and 0 < allowed_s < 1e9:
        return f" (allowed {format_duration(allowed_s)})"
    return ""


def _others(report: Report, hang: dict[str, Any]) -> str:
    """`` The other 7 pulses beat on.``, when that is so."""
    pulses = (report.heartbeat or {}).get("pulses")
    others = (
        [each for each in pulses if isinstance(each, dict) and each.get("name") != hang.get("pulse")]
        if isinstance(pulses, list)
        else []
    )
    silent = [each for each in others if _is_silent(each)]
    if not others or hang.get("pulse") is None:
        return ""
    if not silent:
        return (
            f" The other {len(others)} pulses beat on." if len(others) > 1 else " The other pulse beats on."
        )
    names = ", ".join(f'"{each.get("name")}"' for each in silent[:4])
    return f" Silent too: {names}."


def _is_silent(pulse: dict[str, Any]) -> bool:
    silent_s, interval_s = pulse.get("silent_s"), pulse.get("interval_s")
    if not isinstance(silent_s, int | float) or not isinstance(interval_s, int | float):
        return False
    return 0 < interval_s < silent_s


def _short(hang: dict[str, Any]) -> str:
    name = hang.get("pulse")
    return f"pulse {name}" if isinstance(name, str) else "heartbeat"
