"""How is text laid out for a terminal, when some of it was written by a program that crashed?

Lines are ``rich`` texts: characters with styles, never markup, so that a bracket in a value stays one.
Whatever came from outside passes ``safe`` first: a value must not move the cursor or ring the bell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

LABEL_WIDTH = 9
"""Columns that a section's name takes: ``PROCESS`` and two spaces."""


def safe(text: str) -> str:
    """The text with everything escaped that is not to be seen: control characters, changes of direction."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def flow(first: Text, chunks: Iterable[Text], *, gap: int, indent: int, width: int) -> list[Text]:
    """Lay chunks out one after another, whole if they fit a line.

    Args:
        first: what stands at the beginning of the first line.
        chunks: what must not be broken; one longer than a line is cut, at a space if it has one.
        gap: spaces between two chunks.
        indent: spaces at the beginning of the other lines.
        width: columns of a line.
    """
    lines = [first.copy()]
    is_empty = True
    for chunk in chunks:
        rest = chunk
        if not is_empty:
            if len(lines[-1]) + gap + len(rest) <= width:
                lines[-1].append(" " * gap)
            else:
                lines.append(Text(" " * indent))
        while len(rest) > width - len(lines[-1]) > 0:
            end = _break_before(rest.plain, width - len(lines[-1]))
            lines[-1].append_text(rest[:end])
            rest = rest[end:]
            lines.append(Text(" " * indent))
        lines[-1].append_text(rest)
        is_empty = False
    return lines


def _break_before(text: str, room: int) -> int:
    """How much of a long chunk to put on a line: up to a space, unless that wastes half of it."""
    space = text.rfind(" ", 0, room)
    return space + 1 if space >= room // 2 else room


def paragraph(label: str, words: str | Text, width: int, *, style: str = "bold") -> list[Text]:
    """Prose beside the name of its section."""
    text = words if isinstance(words, Text) else Text(safe(words))
    first = Text(label.ljust(LABEL_WIDTH), style=style if label.strip() else "")
    first.stylize("not bold", len(label))
    chunks = [word for word in text.split(" ") if word.plain]
    return flow(first, chunks, gap=1, indent=LABEL_WIDTH, width=width)


def block(label: str, rows: Iterable[Text]) -> list[Text]:
    """Rows below each other beside the name of their section; nothing for no rows."""
    lines = []
    for number, row in enumerate(rows):
        beginning = Text((label if number == 0 else "").ljust(LABEL_WIDTH), style="bold")
        lines.append(Text.assemble(beginning, row))
    return lines


def pushed_right(line: Text, right: Text, width: int) -> list[Text]:
    """``right`` at the right edge of a line, or of a line of its own when there is no room."""
    room = width - len(line) - len(right)
    if room >= 2:
        return [Text.assemble(line, " " * room, right)]
    return [line, Text.assemble(" " * max(width - len(right), 0), right)]
