"""How do a thread's native and Python frames make one stack?

Pure. The interpreter enters its evaluation loop once for a run of Python calls; each such native frame is
replaced by the calls it ran. What is only the interpreter's own is kept, flagged, for those who want it.

    native   sem_wait  lock_acquire  [eval]        thread_run  clone
    Python                            commit, run
    merged   sem_wait  lock_acquire*  commit  run  thread_run*  clone*       (* interpreter)
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gimli.analysis.evidence import PythonFrame
    from gimli.report import Frame

_EVAL = re.compile(r"^_?PyEval_EvalFrameDefault(\.|$)|^_TAIL_CALL_")
_INTERPRETER = re.compile(r"^(lib)?python\d[\d.]*\w*(\.so[\d.]*)?$")


def merge(native: Sequence[Frame], python: Sequence[PythonFrame]) -> tuple[Frame, ...]:
    """One stack, innermost first; without Python frames, the native ones as they are."""
    if not python:
        return tuple(native)
    runs = _runs(python)
    evals = [at for at, frame in enumerate(native) if is_eval(frame)]
    if not evals:
        # The unwinder did not get that far: what it saw is what the innermost Python call called.
        inside = next((at for at, frame in enumerate(native) if is_interpreter(frame.module)), len(native))
        calls = tuple(each.frame for each in python)
        return (*native[:inside], *calls, *_flagged(native[inside:], outside=True))
    if len(evals) != len(runs):
        # Frames were left out of a deep stack, or a symbol is missing: all Python where it starts.
        runs = [[frame.frame for frame in python]]
        evals = evals[:1]
    merged: list[Frame] = []
    start = 0
    for at, run in zip(evals, runs, strict=True):
        merged += _flagged(native[start:at], outside=False)
        merged += run
        start = at + 1
    merged += _flagged(native[start:], outside=True)
    return tuple(merged)


def is_interpreter(path: str | None) -> bool:
    """The file is CPython itself: ``python3.11`` or ``libpython3.11.so.1.0``."""
    return path is not None and _INTERPRETER.match(path.rpartition("/")[2]) is not None


def is_eval(frame: Frame) -> bool:
    """The frame is the interpreter's evaluation loop, which stands for Python calls."""
    return _EVAL.match(frame.function) is not None


def _runs(python: Sequence[PythonFrame]) -> list[list[Frame]]:
    """The calls of each entry into the evaluation loop; an entry is the outermost of its run."""
    runs: list[list[Frame]] = [[]]
    for each in python:
        runs[-1].append(each.frame)
        if each.entry:
            runs.append([])
    return [run for run in runs if run]


def _flagged(frames: Sequence[Frame], *, outside: bool) -> tuple[Frame, ...]:
    """Frames with the interpreter's own flagged; those outside of all Python calls are its start-up."""
    return tuple(
        replace(frame, interpreter=outside or is_interpreter(frame.module))
        for frame in frames
        if not is_eval(frame)
    )
