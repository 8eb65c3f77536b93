"""Which lines of a service's output are written, and which are only counted? Pure.

A line that comes again and again is written three times; what follows is held, and becomes one line that
says how often, as soon as another line comes or a second has passed:

    retrying / retrying / retrying / gimli: last line repeated 4711 times

Nothing is lost and nothing made up: the lines written, with each count unfolded, are the lines that came.
Where the words would be longer than what they stand for, the lines themselves are written. An unfinished
line is written at once, like everything else that a person may be waiting for.
"""

from __future__ import annotations

from itertools import groupby
from operator import eq

from gimli.value import replace, value

FOLD_AFTER = 3
"""So often a line is written before its repeats are held."""
_MANY_BYTES = 32_768
_PLACES = 16
LINE_BYTES_MAX = 800
"""A longer line is not remembered, so its repeats are written: the memory must fit a mark (``mark``)."""


@value
class Memory:
    """What must be known of the lines so far to judge the next one."""

    line: bytes | None = None
    """The last whole line, without its newline; None when there is none, or it is too long."""
    written: int = 0
    """How often it stands at the end of the file, at most FOLD_AFTER."""
    held: int = 0
    """How often it came after that."""
    rest: bytes | None = b""
    """What followed without a newline yet; None when that is too long."""
    is_rest_held: bool = False
    """It may become one more repeat, so it is not in the file yet. Else it is."""

    @property
    def is_holding(self) -> bool:
        """Something has come that is not in the file."""
        return self.held > 0 or self.is_rest_held


def fold(memory: Memory, data: bytes) -> tuple[Memory, bytes]:
    """Take output as it came from a pipe, in any pieces.

    Returns:
        The memory after it, and what is to be written: ``data`` itself where nothing repeats.
    """
    if len(data) >= _MANY_BYTES and not memory.is_holding and not _seems_to_repeat(data):
        end = data.rfind(b"\n")
        line = data[data.rfind(b"\n", 0, end) + 1 : end]
        return Memory(_remembered(line), 1, 0, _remembered(data[end + 1 :])), data
    *lines, rest = data.split(b"\n")
    if lines and not memory.is_holding:
        first = _joined(memory.rest, lines[0])
        if not _has_repeats(memory.line, first, lines):
            last = first if len(lines) == 1 else lines[-1]
            return Memory(_remembered(last), 1, 0, _remembered(rest)), data
    out = []
    if lines:
        memory, text = _finish(memory, lines)
        out.append(text)
        memory, text = _fold_lines(memory, lines)
        out.append(text)
    memory, text = _begin(memory, rest)
    return memory, b"".join([*out, text])


def release(memory: Memory) -> tuple[Memory, bytes]:
    """What was held, in words or as it came: time is up."""
    rest = memory.rest if memory.is_rest_held and memory.rest else b""
    return replace(memory, held=0, is_rest_held=False), _told(memory.line, memory.held) + rest


def _seems_to_repeat(data: bytes) -> bool:
    """Whether it does at one of a few places. To split a flood into lines costs more than to write it.

    A run that is missed so is short against the flood around it, and is written as it came.
    """
    for place in range(_PLACES):
        start = data.find(b"\n", place * len(data) // _PLACES) + 1
        end = data.find(b"\n", start) + 1
        if not start or not end:
            return True  # few lines, and long ones: they are cheap to split
        if data.startswith(data[start:end], end):
            return True
    return False


def _has_repeats(before: bytes | None, first: bytes | None, lines: list[bytes]) -> bool:
    """Whether two lines in a row are alike; all of it at the speed of C."""
    if first is not None and (first == before or (len(lines) > 1 and first == lines[1])):
        return True
    return any(map(eq, lines, lines[1:]))


def _finish(memory: Memory, lines: list[bytes]) -> tuple[Memory, bytes]:
    """Bring the unfinished line to its end; takes it from ``lines`` when its beginning is in the file."""
    if memory.rest == b"" or memory.is_rest_held:
        lines[0] = (memory.rest or b"") + lines[0]
        return replace(memory, rest=b"", is_rest_held=False), b""
    assert not memory.held, "what was held is written before anything that follows it"
    end = lines.pop(0)
    line = _joined(memory.rest, end)
    if line is not None and line == memory.line:
        memory = replace(memory, written=min(memory.written + 1, FOLD_AFTER), rest=b"")
    else:
        memory = Memory(_remembered(line), 1)
    return memory, end + b"\n"


def _fold_lines(memory: Memory, lines: list[bytes]) -> tuple[Memory, bytes]:
    """Whole lines. In local variables: this is where a program that repeats itself costs time."""
    line, written, held = memory.line, memory.written, memory.held
    out = []
    for new, group in groupby(lines):
        count = len(tuple(group))
        if new != line:
            if held:
                out.append(_told(line, held))
            line = new if len(new) <= LINE_BYTES_MAX else None
            written = held = 0
        now = count if line is None else min(count, FOLD_AFTER - written)
        out += [new, b"\n"] * now
        written += now
        held += count - now
    return Memory(line, 0 if line is None else written, held), b"".join(out)


def _begin(memory: Memory, more: bytes) -> tuple[Memory, bytes]:
    """A line without its end. It is held only while it looks like one more of those that are held."""
    if not more or memory.rest is None:
        return memory, more
    rest = memory.rest + more
    is_new = memory.is_rest_held or not memory.rest
    if is_new and memory.line is not None and memory.written == FOLD_AFTER and memory.line.startswith(rest):
        return replace(memory, rest=rest, is_rest_held=True), b""
    told = _told(memory.line, memory.held) + rest if is_new else more
    return replace(memory, held=0, rest=_remembered(rest), is_rest_held=False), told


def _told(line: bytes | None, held: int) -> bytes:
    """Repeats in words, or as they came."""
    if not held:
        return b""
    assert line is not None
    words = b"gimli: last line repeated %d times\n" % held
    return words if held * (len(line) + 1) > len(words) else (line + b"\n") * held


def _joined(rest: bytes | None, end: bytes) -> bytes | None:
    return None if rest is None else rest + end


def _remembered(line: bytes | None) -> bytes | None:
    return None if line is None or len(line) > LINE_BYTES_MAX else line
