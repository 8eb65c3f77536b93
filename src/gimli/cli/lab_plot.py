"""How does a chart read on a terminal? A grid of letters: lines, their limits, and what happens to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

from gimli.cli.lines import LABEL_WIDTH, flow, safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gimli.lab.pictures import Chart, Curve

_ROWS = 11
_SCALE = 11
"""Columns of the numbers at the left."""
_LETTERS = "o+~"
_LIMIT, _BACK, _DROP = "-", "!", "x"


class _Grid(NamedTuple):
    """Of which times and values a chart is."""

    begin_ms: float
    end_ms: float
    least: float
    most: float
    columns: int

    def column(self, t_ms: float) -> int:
        span = self.end_ms - self.begin_ms or 1.0
        return max(0, min(self.columns - 1, int((t_ms - self.begin_ms) / span * self.columns)))

    def row(self, value: float) -> int:
        """From the top."""
        span = self.most - self.least or 1.0
        return _ROWS - 1 - max(0, min(_ROWS - 1, round((value - self.least) / span * (_ROWS - 1))))


def lines(chart: Chart, label: str, width: int) -> list[Text]:
    """The section: title, grid, times, legend. Without the edges of the curves: they would press it flat."""
    curves = [curve for curve in chart.curves if curve.style != "edge" and curve.points]
    if not curves:
        return []
    grid = _grid(chart, curves, width - LABEL_WIDTH - _SCALE - 1)
    cells = [[" "] * grid.columns for _ in range(_ROWS)]
    letters = dict(zip(dict.fromkeys(curve.where for curve in curves), _LETTERS * 9, strict=False))
    for curve in reversed(curves):
        _draw(cells, grid, curve, _LIMIT if curve.style == "limit" else letters[curve.where])
    for mark in chart.marks:
        if mark.before is None:
            cells[grid.row(mark.value)][grid.column(mark.t_ms)] = _DROP
        else:
            _stand(cells, grid, grid.column(mark.t_ms), mark.value, mark.before, _BACK)
    drawn = [Text(f"{label:<{LABEL_WIDTH}}{safe(chart.title)}, {safe(chart.unit)}", style="bold")]
    for number, row in enumerate(cells):
        value = grid.most - (grid.most - grid.least) * number / (_ROWS - 1)
        scale = f"{value:>{_SCALE - 2},.0f}  " if number % 5 == 0 else " " * _SCALE
        drawn.append(_coloured(Text(" " * LABEL_WIDTH + scale + "|" + "".join(row).rstrip())))
    ends = f"{grid.begin_ms / 1000:.4f} s", f"{grid.end_ms / 1000:.4f} s"
    drawn.append(
        Text(" " * (LABEL_WIDTH + _SCALE) + ends[0] + ends[1].rjust(grid.columns + 1 - len(ends[0])))
    )
    legend = [
        f"{_LIMIT if curve.style == 'limit' else letters[curve.where]} {safe(curve.where)} {safe(curve.what)}"
        for curve in curves
    ]
    legend += [f"{_BACK} moved BACK"] * any(mark.before is not None for mark in chart.marks)
    legend += [f"{_DROP} packet dropped"] * any(mark.before is None for mark in chart.marks)
    first = Text(" " * (LABEL_WIDTH + _SCALE))
    return drawn + flow(first, [Text(words) for words in legend], gap=3, indent=len(first), width=width)


def _grid(chart: Chart, curves: Sequence[Curve], columns: int) -> _Grid:
    times = [at_ms for curve in curves for at_ms, _ in curve.points]
    values = [value for curve in curves for _, value in curve.points]
    for mark in chart.marks:
        values += [mark.value, mark.value if mark.before is None else mark.before]
    return _Grid(min(times), max(times), min(values), max(values), max(columns, 10))


def _draw(cells: list[list[str]], grid: _Grid, curve: Curve, letter: str) -> None:
    """Of each column, everything between the least and the most that the curve was in it."""
    ranges: dict[int, tuple[float, float]] = {}
    last_column, last = grid.column(curve.points[0][0]), curve.points[0][1]
    for at_ms, value in curve.points:
        column = grid.column(at_ms)
        for between in range(last_column, column):
            share = 0.0 if curve.is_stepped else (between - last_column) / (column - last_column)
            here = last + (value - last) * share
            least, most = ranges.get(between, (here, here))
            ranges[between] = (min(least, here), max(most, here))
        least, most = ranges.get(column, (value, value))
        ranges[column] = (min(least, value), max(most, value))
        last_column, last = column, value
    for column, (least, most) in ranges.items():
        _stand(cells, grid, column, least, most, letter)


def _stand(cells: list[list[str]], grid: _Grid, column: int, least: float, most: float, letter: str) -> None:
    for row in range(grid.row(max(least, most)), grid.row(min(least, most)) + 1):
        cells[row][column] = letter


def _coloured(line: Text) -> Text:
    for number, char in enumerate(line.plain):
        if char in {_BACK, _DROP}:
            line.stylize("bold red", number, number + 1)
    return line
