"""How does a sequence read on a terminal? A column per lane, time going down, what it is beside it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from rich.text import Text

from gimli.cli.lines import LABEL_WIDTH, flow, safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gimli.lab.pictures import Sequence, Step

_LANE = 9
"""Columns of one."""
_WORDS = 24
"""Columns that words need at least."""
_LINES = {"copy": ".", "update": "="}
_STYLES = {"back": "bold red", "drop": "bold red", "again": "red", "reset": "bold"}


def fits(sequence: Sequence, width: int) -> bool:
    """Whether there is room for it."""
    return width >= LABEL_WIDTH + _LANE * len(sequence.lanes) + _WORDS


def lines(sequence: Sequence, width: int) -> list[Text]:
    """The section."""
    places = {lane.name: _LANE * number + _LANE // 2 for number, lane in enumerate(sequence.lanes)}
    roles = "".join(f"{_cut(lane.role):^{_LANE}}" for lane in sequence.lanes)
    hosts = "".join(f"{_cut(safe(lane.host)):^{_LANE}}" for lane in sequence.lanes)
    drawn = [
        Text(f"{'LANES':<{LABEL_WIDTH}}{roles}".rstrip(), style="bold"),
        Text(f"{'':<{LABEL_WIDTH}}{hosts}".rstrip()),
    ]
    for step in sequence.steps:
        drawn += _step(step, places, width)
    return drawn


def _cut(words: str) -> str:
    return words[: _LANE - 1]


def _step(step: Step, places: Mapping[str, int], width: int) -> Iterator[Text]:
    """Its arrow, which may turn round once, and its words beside it, on as many lines as either needs."""
    rows = list(_rows(step, places))
    room = width - LABEL_WIDTH - len(rows[0]) - 2
    said = flow(Text(), [Text(word) for word in safe(step.text).split(" ")], gap=1, indent=0, width=room)
    empty = _lifelines(places)
    for number in range(max(len(rows), len(said))):
        time = f"{step.t_ms / 1000:.4f}" if number == 0 else ""
        row = rows[number] if number < len(rows) else "".join(empty)
        words = said[number].plain.strip() if number < len(said) else ""
        line = Text(f"{time:<{LABEL_WIDTH}}{row}  {words}".rstrip())
        line.stylize("dim", 0, LABEL_WIDTH)
        line.stylize(_STYLES.get(step.kind, ""), LABEL_WIDTH)
        yield line


def _lifelines(places: Mapping[str, int]) -> list[str]:
    cells = [" "] * (_LANE * len(places))
    for place in places.values():
        cells[place] = "|"
    return cells


def _rows(step: Step, places: Mapping[str, int]) -> Iterator[str]:
    """One, or two where it turns round."""
    cells = _lifelines(places)
    path = [places[name] for name in step.path]
    if len(path) == 1:
        cells[path[0]] = "!" if step.kind == "back" else "*"
        yield "".join(cells)
        return
    body = _LINES.get(step.kind, "-")
    legs = list(pairwise(path))
    for number, (begin, end) in enumerate(legs):
        step_by = 1 if begin < end else -1
        for place in range(begin + step_by, end, step_by):
            cells[place] = body
        is_last = number + 1 == len(legs)
        if not is_last:
            cells[end] = "o"
            if (legs[number + 1][1] > end) != (end > begin):
                yield "".join(cells)
                cells = _lifelines(places)
        elif step.is_lost:
            cells[end] = "x"
        else:
            cells[end - step_by] = ">" if step_by == 1 else "<"
    yield "".join(cells)
