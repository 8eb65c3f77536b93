"""What does pystack see in a core?

The Python frames of every thread with their variables. Native frames are left to drgn, which reads more of
them and faster; ``merge`` puts the two together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pystack.engine import CoreFileAnalyzer, NativeReportingMode, get_process_threads_for_core

from gimli.analysis.evidence import Note, PythonFrame, PythonThread
from gimli.report import Frame, Variable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pystack.types import PyFrame, PyThread

_VALUE_CHARS_MAX = 2000
_FRAMES_MAX = 256
_LINES_MAX = 1 << 24


def read_python(core: str, executable: str | None) -> Iterator[PythonThread | Note]:
    """Every thread that runs Python.

    Args:
        core: the path of the core.
        executable: the interpreter; None to take it from the core.
    """
    found = get_process_threads_for_core(
        core,
        executable or CoreFileAnalyzer(core).extract_executable(),
        native_mode=NativeReportingMode.OFF,
        locals=True,
    )
    for thread in found:
        if thread.tid:  # 0: a thread state whose thread has ended
            yield _thread(thread)


def _thread(thread: PyThread) -> PythonThread:
    # pystack's frames run from the outermost inwards.
    frames = [_frame(frame) for frame in thread.all_frames if not frame.is_shim]
    entries = _entries(thread)
    made = [PythonFrame(frame, entry, last) for (frame, last), entry in zip(frames, entries, strict=True)]
    return PythonThread(
        thread.tid,
        name=thread.name,
        frames=tuple(reversed(made)),
        holds_gil=thread.holds_the_gil > 0,
        collecting=thread.is_gc_collecting > 0,
    )


def _entries(thread: PyThread) -> list[bool]:
    """For each frame that is no shim, whether C code entered the interpreter for it.

    Since Python 3.12 a shim frame marks the entry, and the call is the frame after it.
    """
    entries = []
    shim_before = False
    for frame in thread.all_frames:
        if frame.is_shim:
            shim_before = True
            continue
        entries.append(frame.is_entry or shim_before)
        shim_before = False
    return entries


def _frame(frame: PyFrame) -> tuple[Frame, int]:
    code = frame.code
    first, last = code.location.lineno, code.location.end_lineno
    variables = [
        Variable(
            str(name),
            "",
            value if len(value) <= _VALUE_CHARS_MAX else value[: _VALUE_CHARS_MAX - 1] + "…",
            argument,
        )
        for values, argument in ((frame.arguments, True), (frame.locals, False))
        for name, value in values.items()
    ]
    made = Frame(
        language="python", function=code.scope, file=code.filename, line=first, variables=tuple(variables)
    )
    # The end of a position that 3.11 does not record is whatever was in memory.
    return made, last if first <= last < first + 1000 else first
