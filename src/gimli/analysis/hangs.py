"""Where does the thread stand whose beat fell silent?

Pure. Which pulse, whose thread, for how long, where in the program's own code, and what it waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

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


def explain_hang(report: Report, evidence: Evidence, edges: Sequence[Edge]) -> Cause:
    """What is known of the silence."""
    hang = report.hang or {}
    pulse, silence = describe_pulse(hang), f"{describe_silence(hang)}{_allowed(hang)}"
    thread = silent_thread(report)
    if thread is None:
        text = f"The {pulse} is {silence}; its thread is not in the core."
        return Cause(Finding("hang", text, 0.9), summary=f"{_short(hang)} silent", key=("hang", pulse))
    stand = _stand(thread, report, evidence, edges)
    told = f"The {pulse}{_owner(thread, report)} is {silence}: it is {stand.words}{stand.guess}."
    return Cause(
        Finding("hang", told + _others(report, hang), stand.confidence, stand.evidence),
        tids=(thread.tid,),
        summary=f"{_short(hang)} silent: {stand.words}",
        key=("hang", pulse, stand.key, *own_functions(thread.frames)),
    )


def explain_lateness(report: Report) -> list[Cause]:
    """Who else is to blame for the silence: a program that gets no CPU does not hang of itself."""
    seen = _scheduling(report)
    cause, because = seen.get("cause"), seen.get("because")
    if not isinstance(cause, str) or not isinstance(because, str) or cause not in _SURE or not because:
        return []
    text = f"It is late, and may not hang: {because}. It had been given its interval a second time."
    figures = _figures(seen)
    finding = Finding("lateness", text, _SURE[cause], (figures,) if figures else ())
    # A signature must not change with the figures.
    return [Cause(finding, summary=because.partition(":")[0], key=("lateness", cause))]


_SURE = {
    "stopped": 0.98,
    "frozen": 0.98,
    "throttled": 0.9,
    "starved": 0.85,
    "monitor late": 0.6,
    "suspended": 0.6,
    "snapshot": 0.6,
}
"""How sure it is that a cause of ``monitor.lateness`` explains the silence."""


def _scheduling(report: Report) -> dict[str, Any]:
    found = (report.hang or {}).get("scheduling")
    return found if isinstance(found, dict) else {}


def _figures(seen: dict[str, Any]) -> str:
    """``in 60.0 s it ran for 0.1 s and waited for a CPU for 59.2 s``; empty when nothing was measured."""
    window_s, ran_s, waited_s = (seen.get(key) for key in ("window_s", "ran_s", "waited_s"))
    if not all(isinstance(each, int | float) and 0 <= each < 1e9 for each in (window_s, ran_s, waited_s)):
        return ""
    if not window_s:
        return ""
    return f"in {window_s:.3g} s it ran for {ran_s:.2g} s and waited for a CPU for {waited_s:.2g} s"


class _Stand(NamedTuple):
    """What a thread is doing and where."""

    words: str
    key: str
    """The words without what changes from run to run."""
    evidence: tuple[str, ...]
    confidence: float
    guess: str = ""


def _stand(thread: Thread, report: Report, evidence: Evidence, edges: Sequence[Edge]) -> _Stand:
    frame = own_frame(thread.frames)
    where = f" in {place_of(frame)}" if frame else ""
    edge = max(
        (each for each in edges if each.waiter == thread.tid), key=lambda each: each.confidence, default=None
    )
    if edge is not None:
        holder = called({each.tid: each for each in report.threads}, edge.holder)
        words = f"waiting for `{edge.lock}`{where}, held by {holder}"
        return _Stand(words, f"lock {edge.lock}", edge.evidence, edge.confidence)
    kernel = evidence.kernel.get(thread.tid)
    if kernel and kernel.state == "R" and kernel.syscall is None:
        # One look at a thread that computes cannot tell a loop without end from long work.
        guess = ", a loop without end or work that takes longer than its interval"
        figures = _figures(_scheduling(report))
        seen_running = ("state R, in no system call", *((figures,) if figures else ()))
        return _Stand(f"running{where}", "running", seen_running, 0.8, guess)
    if thread.doing:
        seen = (f"in the system call {kernel.syscall.name}",) if kernel and kernel.syscall else ()
        return _Stand(f"{thread.doing}{where}", thread.doing.split()[0], seen, 0.9)
    return _Stand(f"standing{where}" if where else "at an unknown place", "", (), 0.6)


def _owner(thread: Thread, report: Report) -> str:
    """`` of "writer-2"``, unless the pulse says so by its own name."""
    if thread.name == (report.hang or {}).get("pulse"):
        return ""
    if thread.tid == report.pid:
        return " of the main thread"
    return f" of {called({each.tid: each for each in report.threads}, thread.tid)}"


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
