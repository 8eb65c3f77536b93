"""How do the threads of a report read?

The crashed thread and the culprits first, each with its frames, source lines and variables; the others
together where their stacks are the same. What is folded says how many, and ``--all`` shows it.
"""

from __future__ import annotations

import os
import re
from itertools import groupby
from typing import TYPE_CHECKING

from rich.text import Text

from gimli.cli.lines import flow, pushed_right, safe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gimli.report import Frame, Thread, Variable

    SourceLine = Callable[[str, int], str | None]

_VARIABLES_INDENT = 10
_FUNCTION_MAX = 28
_LOCATION_MAX = 40
_VALUE_MAX = 160
_HEAD_MAX = 24
_TAIL_MAX = 6
_CHAIN_MAX = 6
_TIDS_MAX = 8
_PATH_MAX = 32
_LIBRARY = re.compile(r"^.*/(?:site-packages|dist-packages|lib/python3\.\d+)/")


def render_threads(
    threads: Sequence[Thread],
    *,
    cwd: str,
    source: SourceLine,
    everything: bool,
    width: int,
    first_tid: int | None = None,
) -> list[Text]:
    """The stacks.

    Args:
        threads: of the report.
        cwd: the program's working directory; files below it are shown without it.
        source: the text of a line of a file, or None when it cannot be had.
        everything: every thread by itself, every frame, every value whole.
        width: columns.
        first_tid: the thread that fell silent, which stands before other culprits.
    """
    main = [one for one in threads if one.crashed or one.culprit]
    main.sort(key=lambda one: (not one.crashed, one.tid != first_tid))
    others = [one for one in threads if not (one.crashed or one.culprit)]
    if everything or not main:
        # Nobody is to blame: the first thread stands for the program.
        main, others = (main + others, []) if everything else (others[:1], others[1:])
    view = _View(cwd, source, everything=everything, width=width)
    lines = [line for thread in main for line in view.thread(thread)]
    return lines + [line for group in _same_stacks(others) for line in view.group(group)]


class _View:
    """What every function below needs to know of the reader's wishes."""

    def __init__(self, cwd: str, source: SourceLine, *, everything: bool, width: int) -> None:
        self.cwd = cwd
        self.source = source
        self.everything = everything
        self.width = width

    def thread(self, thread: Thread) -> list[Text]:
        """One thread, whole."""
        title = Text.assemble(("THREAD", "bold"), f' {thread.tid} "{safe(thread.name)}"')
        title.append(f"   {safe(thread.doing)}" if thread.doing else "")
        mark = "[crashed]" if thread.crashed else "[culprit]" if thread.culprit else ""
        lines = pushed_right(title, Text(mark, style="bold red"), self.width) if mark else [title]
        return lines + (
            self.frames(thread.frames) if thread.frames else [Text("  its stack could not be had")]
        )

    def group(self, group: Sequence[Thread]) -> list[Text]:
        """Threads with the same stack, as one line of functions, innermost first."""
        tids = ", ".join(str(thread.tid) for thread in group[:_TIDS_MAX])
        if len(group) > _TIDS_MAX:
            tids += f" and {len(group) - _TIDS_MAX} more"
        alone = len(group) == 1
        name = f' "{safe(group[0].name)}"' if alone else ""
        first = Text.assemble((f"THREAD{'' if alone else 'S'}", "bold"), f" {tids}{name}   ")
        first.append("" if alone else f"{len(group)} like this: ")
        return flow(first, _words(_chain(group[0])), gap=1, indent=9, width=self.width)

    def frames(self, frames: Sequence[Frame]) -> list[Text]:
        """A stack, innermost call first."""
        shown = [frame for frame in frames if self.everything or not frame.interpreter] or list(frames)
        function_width = min(max(len(_function(frame)) for frame in shown), _FUNCTION_MAX)
        location_width = min(max(len(self.location(frame)) for frame in shown), _LOCATION_MAX)
        lines: list[Text] = []
        for item in self.folded(frames):
            if isinstance(item, str):
                lines.append(Text(f"  {item}", style="dim"))
            else:
                lines += self.frame(item, function_width, location_width)
        return lines

    def folded(self, frames: Sequence[Frame]) -> Iterator[Frame | str]:
        """The frames to show, and in place of the others a sentence."""
        if self.everything:
            yield from frames
            return
        kept = list(_fold_interpreter(_fold_repeats(frames)))
        if len(kept) > _HEAD_MAX + _TAIL_MAX + 1:
            left_out = len(kept) - _HEAD_MAX - _TAIL_MAX
            kept[_HEAD_MAX:-_TAIL_MAX] = [f"        {left_out} frames in between, `--all` shows them"]
        yield from kept

    def frame(self, frame: Frame, function_width: int, location_width: int) -> list[Text]:
        """One call: where it is, the text of its line, and its variables."""
        if frame.language == "marker":  # stands for calls that the analysis left out
            return [Text(f"          ... {safe(frame.function)} ...", style="dim")]
        language = _SHORT.get(frame.language, safe(frame.language))
        line = Text(f"  {language[:7]:7} ", style="dim")
        line = Text.assemble(line, (_function(frame).ljust(function_width), "cyan"), "  ")
        line.append(self.location(frame).ljust(location_width))
        text = self.source(frame.file, frame.line) if frame.file and frame.line else None
        lines = [line]
        if text and text.strip():
            code = Text(safe(text.strip()), style="bold")
            lines = flow(Text.assemble(line, "  "), [code], gap=2, indent=_VARIABLES_INDENT, width=self.width)
            if len(lines) > 1:  # It does not fit beside its place: below it, in one piece if it can.
                below = Text(" " * _VARIABLES_INDENT)
                lines = [line, *flow(below, [code], gap=2, indent=_VARIABLES_INDENT + 4, width=self.width)]
        for one in lines:
            one.rstrip()
        return lines + self.variables(frame.variables)

    def variables(self, variables: Sequence[Variable]) -> list[Text]:
        """Arguments, then locals, as many to a line as fit."""
        if not variables:
            return []
        ordered = sorted(variables, key=lambda variable: not variable.argument)
        chunks = [self.variable(variable) for variable in ordered]
        first = Text(" " * _VARIABLES_INDENT)
        return flow(first, chunks, gap=3, indent=_VARIABLES_INDENT, width=self.width)

    def variable(self, variable: Variable) -> Text:
        """``name = value``; with everything also its type, and a long value whole."""
        value = safe(" ".join(variable.value.split()))
        kind = ""
        if self.everything:
            kind = f": {safe(variable.type)}" if variable.type else ""
        elif len(value) > _VALUE_MAX:
            value = f"{value[:_VALUE_MAX]}… ({len(value)} characters)"
        return Text.assemble((safe(variable.name), "green"), (kind, "dim"), " = ", value)

    def location(self, frame: Frame) -> str:
        """``orders.py:88``, or the module, or the bare address."""
        if frame.file:
            path = frame.file if self.everything else _short_path(frame.file, self.cwd)
            return safe(f"{path}:{frame.line}" if frame.line else path)
        if frame.module:
            return safe(os.path.basename(frame.module))
        return f"{frame.address:#x}" if frame.address is not None else ""


_SHORT = {"assembly": "asm"}


def _function(frame: Frame) -> str:
    name = safe(frame.function) or (f"{frame.address:#x}" if frame.address is not None else "?")
    return f"{name} (inline)" if frame.inline else name


def _short_path(path: str, cwd: str) -> str:
    """The part of a path that tells: from the working directory, or from the library, or its end."""
    if cwd.strip("/") and path.startswith(cwd.rstrip("/") + "/"):
        return path[len(cwd.rstrip("/")) + 1 :]
    found = _LIBRARY.match(path)
    rest = path[found.end() :] if found else path
    return rest if len(rest) <= _PATH_MAX else "…/" + "/".join(rest.split("/")[-2:])


def _fold_repeats(frames: Sequence[Frame]) -> Iterator[Frame | str]:
    """A function that calls itself from one line stands once, with how often."""
    for _, same in groupby(frames, key=lambda frame: (frame.function, frame.file, frame.line, frame.module)):
        run = list(same)
        if len(run) > 3:
            yield run[0]
            yield f"        the same call {len(run) - 1} times more, `--all` shows them"
        else:
            yield from run


def _fold_interpreter(items: Iterable[Frame | str]) -> Iterator[Frame | str]:
    """Runs of the interpreter's own frames, as one sentence each."""
    for machinery, run in groupby(items, key=lambda item: not isinstance(item, str) and item.interpreter):
        if not machinery:
            yield from run
            continue
        count = len(list(run))
        frames = "1 frame" if count == 1 else f"{count} frames"
        yield f"native  {frames} of the interpreter, `--all` shows {'it' if count == 1 else 'them'}"


def _same_stacks(threads: Iterable[Thread]) -> list[list[Thread]]:
    """Threads by their stacks, in order of the first of each."""
    groups: dict[tuple[object, ...], list[Thread]] = {}
    for thread in threads:
        stack = tuple((frame.function, frame.file, frame.line) for frame in thread.frames)
        groups.setdefault((stack, "" if stack else thread.doing), []).append(thread)
    return list(groups.values())


def _chain(thread: Thread) -> str:
    names = [_function(frame) for frame in thread.frames if not frame.interpreter]
    names = names or [_function(frame) for frame in thread.frames]
    if not names:
        return safe(thread.doing) or "its stack could not be had"
    more = f" <- ... {len(names) - _CHAIN_MAX} more" if len(names) > _CHAIN_MAX else ""
    return " <- ".join(names[:_CHAIN_MAX]) + more


def _words(text: str) -> list[Text]:
    return [Text(word) for word in text.split(" ")]
