"""How is it drawn what each seed gave? One row per change, one dot per value, as large as it is frequent."""

from __future__ import annotations

import statistics
from collections import Counter
from math import sqrt
from typing import TYPE_CHECKING

from gimli.lab.page import svg
from gimli.lab.page.chart import ticks
from gimli.lab.page.escaping import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gimli.lab.pictures import Spread

_LEFT, _RIGHT = 12.0, 388.0
_ROW, _ROW_OF_NONE = 50, 20
_COLOURS = ("bad", "third", "first")
_RADIUS = (2.5, 6.5)
"""Of a value that hardly any run gave, and of one that all gave."""


def draw(spreads: Sequence[Spread]) -> str:
    """The figure; nothing where nothing was counted."""
    names = list(dict.fromkeys(name for spread in spreads for name in spread.values))
    if not names:
        return ""
    most = max(
        (value for spread in spreads for values in spread.values.values() for value in values), default=0
    )
    most = most or 1.0
    parts: list[str] = []
    y = 4.0
    group = ""
    for spread in spreads:
        if spread.group not in {group, spread.change}:
            y += 20
            parts.append(svg.text(4, y - 2, spread.group, "dim"))
        group = spread.group
        is_gone = not any(any(values) for values in spread.values.values())
        parts += _gone(spread, y) if is_gone else _row(spread, names, y, most)
        y += _ROW_OF_NONE if is_gone else _ROW
    parts += _axis(most, y)
    title = f"{' and '.join(names)} of each run"
    runs = max(len(values) for spread in spreads for values in spread.values.values())
    description = "; ".join(f"{spread.change}: {summary(spread)}" for spread in spreads)
    drawn = svg.drawing("spread", title, description, (svg.WIDTH, y + 22), parts)
    samples = [(_shape(number, 13, 6, 4.5), name) for number, name in enumerate(names)]
    how = f"Each of {runs} runs is in one dot; a larger dot, with its number, stands for several runs. "
    return svg.figure(drawn, svg.legend(samples), escape(how + "A stroke is the median."))


def summary(spread: Spread) -> str:
    """Median, least and most of each figure."""
    return ", ".join(f"{_middle(values)} {name}" for name, values in spread.values.items() if values)


def _middle(values: Sequence[float]) -> str:
    median = f"{statistics.median(values):g}"
    return median if min(values) == max(values) else f"{median} ({min(values):g}-{max(values):g})"


def _gone(spread: Spread, y: float) -> Iterator[str]:
    """A row without dots: all would be at nothing."""
    runs = max((len(values) for values in spread.values.values()), default=0)
    yield svg.text(4, y + 13, spread.change, "strong")
    yield svg.text(
        svg.WIDTH - 4, y + 13, f"none in {runs} run{'s' * (runs != 1)}", "end halo", colour="answer"
    )


def _row(spread: Spread, names: Sequence[str], y: float, most: float) -> Iterator[str]:
    yield svg.text(4, y + 13, spread.change, "strong")
    yield svg.text(svg.WIDTH - 4, y + 13, summary(spread), "end dim halo")
    middle = y + 30
    yield svg.line((_LEFT, middle), (_RIGHT, middle), "line", 'stroke-width=".8"')
    for number, name in enumerate(names):
        values = spread.values.get(name, ())
        if values:
            yield from _dots(number, values, middle + (number - (len(names) - 1) / 2) * 11, most)


def _dots(number: int, values: Sequence[float], y: float, most: float) -> Iterator[str]:
    colour = _COLOURS[number % len(_COLOURS)]
    least_x, most_x = _x(min(values), most), _x(max(values), most)
    yield svg.line((least_x, y), (most_x, y), colour, 'stroke-width="1.2"')
    middle = _x(statistics.median(values), most)
    yield svg.line((middle, y - 6), (middle, y + 6), colour, 'stroke-width="1.6"')
    for value, count in sorted(Counter(values).items()):
        radius = _RADIUS[0] + (_RADIUS[1] - _RADIUS[0]) * sqrt(count / len(values))
        if len(values) == 1:
            radius = _RADIUS[0]
        yield _shape(number, _x(value, most), y, radius)
        if count > 1:
            yield svg.text(_x(value, most), y + 3, str(count), "middle tiny", colour="ground")


def _shape(number: int, x: float, y: float, radius: float) -> str:
    """A circle for the first figure, a square for the second: not by colour alone."""
    fill = f'fill="var(--{_COLOURS[number % len(_COLOURS)]})" stroke="var(--card)" stroke-width=".8"'
    if number % 2:
        side = svg.number(radius * 1.8)
        place = f'x="{svg.number(x - radius * 0.9)}" y="{svg.number(y - radius * 0.9)}"'
        return f'<rect {place} width="{side}" height="{side}" {fill}/>'
    return f'<circle cx="{svg.number(x)}" cy="{svg.number(y)}" r="{svg.number(radius)}" {fill}/>'


def _axis(most: float, y: float) -> Iterator[str]:
    yield svg.line((_LEFT, y + 2), (_RIGHT, y + 2), "dim")
    for tick in ticks(0.0, most, 6):
        if tick == int(tick):
            yield svg.line((_x(tick, most), y + 2), (_x(tick, most), y + 6), "dim")
            yield svg.text(_x(tick, most), y + 17, f"{tick:g}", "middle small dim")


def _x(value: float, most: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * value / most
