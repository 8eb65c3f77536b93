"""What does pystack see in a core?

The Python frames of every thread with their variables. Native frames are left to drgn, which reads more of
them and faster; ``merge`` puts the two together.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pystack.engine import CoreFileAnalyzer, NativeReportingMode, get_process_threads_for_core

from gimli.analysis.evidence import PythonFrame, PythonThread
from gimli.analysis.pyobjects import CoreMemory, open_cell, thread_name
from gimli.analysis.recursion import Omitted, fold, marker
from gimli.report import Frame, Variable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pystack.types import PyFrame, PyThread

    from gimli.analysis.corefile import Core

_VALUE_CHARS_MAX = 2000
_HEAD_FRAMES, _TAIL_FRAMES = 224, 32
_STATEMENT_LINES_MAX = 1000
_THREAD_OBJECT = re.compile(r" at (0x[0-9a-f]+)>$")


def read_python(path: str, core: Core, executable: str | None) -> Iterator[PythonThread]:
    """Every thread that runs Python.

    Args:
        path: the core.
        core: its layout.
        executable: the interpreter; None to take it from the core.
    """
    found = get_process_threads_for_core(
        path,
        executable or CoreFileAnalyzer(path).extract_executable(),
        native_mode=NativeReportingMode.OFF,
        locals=True,
    )
    with open(path, "rb") as file:
        memory = CoreMemory(file, core)
        for thread in found:
            if thread.tid:  # 0: a thread state whose thread has ended
                yield _thread(thread, memory)


def _thread(thread: PyThread, memory: CoreMemory) -> PythonThread:
    frames = []
    was_shim = False
    for frame in thread.all_frames:  # from the outermost inwards
        if not frame.is_shim:
            # Since Python 3.12 a shim frame marks the entry, and the call is the frame after it.
            frames.append(_frame(frame, memory, entry=frame.is_entry or was_shim))
        was_shim = frame.is_shim
    frames.reverse()
    return PythonThread(
        thread.tid,
        name=_thread_name(frames[-1].frame, memory) if frames else None,
        frames=_folded(frames),
        holds_gil=thread.holds_the_gil > 0,
        collecting=thread.is_gc_collecting > 0,
    )


def _folded(frames: list[PythonFrame]) -> tuple[PythonFrame, ...]:
    """The frames with recursion folded, and without the middle of a very deep stack."""
    keys = [(each.frame.function, each.frame.file, each.frame.line) for each in frames]
    shown = fold(keys, head=_HEAD_FRAMES, tail=_TAIL_FRAMES)
    return tuple(
        PythonFrame(marker(each), entry=False, last_line=0) if isinstance(each, Omitted) else frames[each]
        for each in shown
    )


def _frame(frame: PyFrame, memory: CoreMemory, *, entry: bool) -> PythonFrame:
    code = frame.code
    first, last = code.location.lineno, code.location.end_lineno
    variables = [
        Variable(str(name), "", _shortened(open_cell(memory, value)), argument)
        for values, argument in ((frame.arguments, True), (frame.locals, False))
        for name, value in values.items()
    ]
    made = Frame("python", code.scope, file=code.filename, line=first, variables=tuple(variables))
    # An end that 3.11 did not record is whatever was in memory.
    return PythonFrame(made, entry, last if first <= last < first + _STATEMENT_LINES_MAX else first)


def _shortened(value: str) -> str:
    return value if len(value) <= _VALUE_CHARS_MAX else value[: _VALUE_CHARS_MAX - 1] + "…"


def _thread_name(outermost: Frame, memory: CoreMemory) -> str | None:
    """The name in the ``Thread`` whose ``_bootstrap`` every thread of ``threading`` starts with."""
    if not outermost.function.endswith("_bootstrap"):
        return None
    for variable in outermost.variables:
        if variable.name == "self" and (match := _THREAD_OBJECT.search(variable.value)):
            return thread_name(memory, int(match[1], 16))
    return None
