"""What is known of the place where a program crashed?

Pure. The crashed thread's first call of the program's own, its source line, the pointers there, and the
signal: what every explanation of a crash looks at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gimli.analysis.cause import Cause
from gimli.analysis.evidence import Fault
from gimli.analysis.stacks import is_own, own_frame, own_functions, place_of
from gimli.report import Finding

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.analysis.evidence import Evidence
    from gimli.report import Frame, Report, Signal, Thread


@dataclass(frozen=True, slots=True)
class CrashSite:
    """A crash, ready to be explained."""

    signal: Signal
    thread: Thread
    fault: Fault
    frame: Frame | None
    """The innermost call of the program's own."""
    line: str
    """Its source line, empty when it cannot be read."""
    abort_message: str
    output: tuple[str, ...]
    pid: int

    @property
    def where(self) -> str:
        """``deliver() at mailer.c:88``."""
        return place_of(self.frame) if self.frame else "an unknown place"

    @property
    def python(self) -> str:
        """Where the program's Python is, when the crash is in native code that it called; else empty."""
        if self.frame is None or self.frame.language == "python":
            return ""
        own = next((each for each in self.thread.frames if each.language == "python" and is_own(each)), None)
        return place_of(own) if own else ""

    @property
    def was_sent(self) -> bool:
        """By another process: kill(2) and its kin have an si_code of at most 0, and name the sender."""
        sender = (self.signal.sender or {}).get("pid")
        by_call = self.signal.code is not None and self.signal.code <= 0
        return by_call and isinstance(sender, int) and sender not in {self.pid, 0}

    def cause(
        self,
        kind: str,
        confidence: float,
        *,
        text: str,
        summary: str,
        evidence: tuple[str, ...] = (),
        key: tuple[str, ...] = (),
    ) -> Cause:
        """A cause at this site; ``key`` names it better than the whole stack does, where that is so."""
        functions = own_functions(self.thread.frames, 1 if key else 5)
        line = (f"source line: {self.line}",) if self.line else ()
        caller = f" Called from Python: {self.python}." if self.python else ""
        return Cause(
            Finding(kind, text + caller, confidence, (*evidence, *line)),
            tids=(self.thread.tid,),
            summary=summary,
            key=(self.signal.name, kind, *key, *functions),
        )


def crash_site(
    report: Report,
    thread: Thread,
    evidence: Evidence,
    source_line: Callable[[str | None, int | None], str],
) -> CrashSite | None:
    """The site of a report's crash; None when it has no signal."""
    if report.signal is None:
        return None
    native = evidence.native.get(thread.tid)
    frame = own_frame(thread.frames)
    return CrashSite(
        signal=report.signal,
        thread=thread,
        fault=(native.fault if native else None) or Fault(),
        frame=frame,
        line=source_line(frame.file, frame.line) if frame else "",
        abort_message=evidence.abort_message or "",
        output=report.output,
        pid=report.pid,
    )
