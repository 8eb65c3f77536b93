"""How does a result of the laboratory read on a terminal?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from gimli.cli import lab_lanes, lab_pictures, lab_plot
from gimli.cli.lines import LABEL_WIDTH, block, flow, paragraph, safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gimli.lab.scenario import Cause, Result, Verdict

_INDENT = 2
_DIFF_STYLES = {"+": "green", "-": "red"}


def render(result: Result, width: int, *, is_drawn: bool = False) -> list[Text]:
    """The whole: the line that says it, then causes, story, cures, expectations, and how sure that is.

    Args:
        result: of a run, or of many.
        width: columns of the terminal.
        is_drawn: with the pictures. The story of one run is drawn anyway, where there is room.
    """
    inner = width - _INDENT
    pictures = result.pictures
    sections = [
        _causes(result, inner) or _why(result.explanation, inner),
        lab_pictures.network_map(pictures.map, inner) if is_drawn and pictures.map else [],
        _told(result, inner, is_drawn=is_drawn or not result.cures),
        _windows(result, inner) if is_drawn else [],
        _cures(result, inner),
        lab_pictures.spread(pictures.spreads, inner) if is_drawn else [],
        _expectations(result.verdicts, inner) if not result.cures else [],
        _change(result.change),
        _sure(result.sure, inner),
    ]
    lines = _headline(result, width)
    lines.append(Text())
    for section in sections:
        lines += [Text.assemble(" " * _INDENT, line) for line in section]
    lines += [Text(), *_more(result)]
    return lines


def _headline(result: Result, width: int) -> list[Text]:
    first = Text(f"{safe(result.scenario)}: ", style="bold")
    mode = f"({result.mode}, seed {result.seed})" if result.mode == "simulated" else f"({result.mode})"
    chunks = [Text(word) for word in [*safe(result.headline).split(" "), mode]]
    return flow(first, chunks, gap=1, indent=_INDENT, width=width)


def _why(explanation: Sequence[str], width: int) -> list[Text]:
    lines = []
    for number, sentence in enumerate(explanation):
        lines += paragraph("WHY" if number == 0 else "", sentence, width)
    return lines


def _causes(result: Result, width: int) -> list[Text]:
    """What must come together; of each, whether the incident is gone without it. Then when it shows."""
    needed = [cause for cause in result.causes if cause.needed and cause.kind == "cause"]
    if not needed:
        return []
    count = {2: "two things", 3: "three things", 4: "four things"}.get(len(needed), f"{len(needed)} things")
    words = f"{count} together; take any one away and {result.effect} is gone:"
    lines = paragraph("CAUSE", words if len(needed) > 1 else f"without it, {result.effect} is gone:", width)
    for number, cause in enumerate(needed, 1):
        lines += _cause(f"{number} ", cause, width)
    conditions = [cause for cause in result.causes if cause.needed and cause.kind == "condition"]
    for number, cause in enumerate(conditions):
        if number == 0:
            lines += paragraph("WHEN", "they do harm only where, at the same time:", width)
        lines += _cause("- ", cause, width)
    if result.subject:  # otherwise the explanation is that of one run
        for number, sentence in enumerate(result.explanation):
            lines += paragraph("TRIED" if number == 0 else "", sentence, width)
    return lines


def _cause(mark: str, cause: Cause, width: int) -> list[Text]:
    lines = [Text(f"{' ' * LABEL_WIDTH}{mark}{safe(cause.text)}", style="bold")]
    first = Text(f"{' ' * LABEL_WIDTH}{' ' * len(mark)}without it: ")
    chunks = [Text(word) for word in safe(cause.without).split(" ")]
    for line in flow(first, chunks, gap=1, indent=LABEL_WIDTH + len(mark) + 2, width=width):
        line.stylize("dim")
        lines.append(line)
    return lines


def _told(result: Result, width: int, *, is_drawn: bool) -> list[Text]:
    """The story, drawn or in words."""
    sequence = result.pictures.sequence
    if sequence is None or not is_drawn or not lab_lanes.fits(sequence, width):
        return _story(result, width)
    return [
        *block("STORY", [Text(safe(result.subject or sequence.subject))]),
        *lab_lanes.lines(sequence, width),
    ]


def _windows(result: Result, width: int) -> list[Text]:
    return [
        line
        for number, chart in enumerate(result.pictures.charts)
        for line in lab_plot.lines(chart, "WINDOW" if number == 0 else "", width)
    ]


def _story(result: Result, width: int) -> list[Text]:
    lines: list[Text] = [Text(safe(result.subject))] if result.subject else []
    for moment in result.timeline:
        first = Text(f"t={moment.t_ms / 1000:<8.4f} {safe(moment.where):<6} ")
        room = width - LABEL_WIDTH
        words = [Text(word) for word in safe(moment.text).split(" ")]
        lines += flow(first, words, gap=1, indent=len(first), width=room)
    return block("STORY", lines)


def _cures(result: Result, width: int) -> list[Text]:
    """A table: the change, the result's columns, and the price, which may take several lines."""
    if not result.cures:
        return []
    table = [("", *result.cure_heads), *((cure.change, *cure.cells) for cure in result.cures)]
    columns = [_column([safe(cell) for cell in column]) for column in zip(*table, strict=True)]
    head, *rows = ["  ".join(cells) for cells in zip(*columns, strict=True)]
    lines = [Text(f"{head}  price", style="bold")]
    for cure, cells in zip(result.cures, rows, strict=True):
        row = Text(f"{cells}  ")
        row.stylize("green" if cure.cures else "", 0, len(columns[0][0]))
        words = [Text(word) for word in safe(cure.price).split(" ")]
        lines += flow(row, words, gap=1, indent=len(row), width=width - LABEL_WIDTH)
    return block(result.cures_title, lines)


def _column(cells: Sequence[str]) -> list[str]:
    """Of the same width; whole numbers end where their head ends."""
    width = max(len(cell) for cell in cells)
    is_number = all(cell.isdigit() for cell in cells[1:])
    return [f"{cell:>{width}}" if is_number else f"{cell:<{width}}" for cell in cells]


def _expectations(verdicts: Sequence[Verdict], width: int) -> list[Text]:
    lines = []
    longest = max((len(verdict.expect) for verdict in verdicts), default=0)
    for verdict in verdicts:
        mark = ("ok    ", "green") if verdict.holds else ("FAILED", "bold red")
        words = f" {safe(verdict.expect):<{longest}}  {safe(verdict.figure)}"
        lines.append(Text.assemble(mark, words[: width - LABEL_WIDTH]))
    return block("EXPECT", lines)


def _change(lines: Sequence[str]) -> list[Text]:
    return block("CHANGE", [Text(safe(line), style=_DIFF_STYLES.get(line[:1], "")) for line in lines])


def _sure(claims: Sequence[str], width: int) -> list[Text]:
    lines = []
    for number, claim in enumerate(claims):
        lines += paragraph("SURE" if number == 0 else "", claim, width)
    return lines


def _more(result: Result) -> list[Text]:
    name = safe(result.scenario)
    others = f"gimli lab run {name}" if result.cures else f"gimli lab explain {name}"
    real = "" if result.mode == "real" else f" | {others} --real"
    drawn = "--pictures, " if result.pictures.map is not None else ""
    return [Text(f"more: {others}{real}     drawn: {drawn}--html {name}.html", style="dim")]
