"""How is it drawn what each seed gave? One row per change: a dot per value, or a box where there are many."""

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
_WORDS = 14.0
_STRIP = 32.0
"""Of a row's dots, below its words."""
_GROUP = 20.0
_COLOURS = ("bad", "third", "first")
_RADIUS = (3.5, 6.5)
"""Of a value that hardly any run gave, and of one that all gave."""
_DOTS_MAX = 12
"""More runs than that are a box."""


def draw(spreads: Sequence[Spread]) -> str:
    """The figure; nothing where nothing was counted."""
    names = list(dict.fromkeys(name for spread in spreads for name in spread.values))
    everything = [value for spread in spreads for values in spread.values.values() for value in values]
    if not everything:
        return ""
    most = max(everything) or 1.0
    parts: list[str] = []
    y = 4.0
    group = ""
    for spread in spreads:
        if spread.group not in {group, spread.change}:
            y += _GROUP
            parts.append(svg.text(4, y - 2, spread.group, "dim"))
        group = spread.group
        y, row = _row(spread, names, y, most)
        parts += row
    parts += _axis(most, y)
    title = f"{' and '.join(names)} of each run"
    description = "; ".join(f"{spread.change}: {summary(spread)}" for spread in spreads)
    drawn = svg.drawing("spread", title, description, (svg.WIDTH, y + 22), parts)
    samples = [(_shape(number, 13, 6, 4.5), name) for number, name in enumerate(names)]
    return svg.figure(drawn, svg.legend(samples), escape(_how(_runs(spreads))))


def summary(spread: Spread) -> str:
    """Median, least and most of each figure."""
    return ", ".join(f"{_middle(values)} {name}" for name, values in spread.values.items() if values)


def _middle(values: Sequence[float]) -> str:
    median = f"{statistics.median(values):g}"
    return median if min(values) == max(values) else f"{median} ({min(values):g}-{max(values):g})"


def _runs(spreads: Sequence[Spread]) -> int:
    return max(len(values) for spread in spreads for values in spread.values.values())


def _how(runs: int) -> str:
    if runs > _DOTS_MAX:
        return (
            f"Of {runs} runs: from least to most a line, the middle half of them a box, the median a stroke."
        )
    return (
        f"Each of {runs} runs is in one dot; a larger dot, with its number, stands for several runs. "
        "A stroke is the median."
    )


def _row(spread: Spread, names: Sequence[str], y: float, most: float) -> tuple[float, list[str]]:
    """A row, and where the next one begins. One without anything is its words alone."""
    is_gone = not any(any(values) for values in spread.values.values())
    words, colour = (f"none in {_runs([spread])} runs", "answer") if is_gone else (summary(spread), "dim")
    y += _WORDS
    parts = [svg.text(4, y, spread.change, "strong")]
    if (len(spread.change) + len(words) + 2) * svg.CHARACTER > svg.WIDTH:
        y += _WORDS
    parts.append(svg.text(svg.WIDTH - 4, y, words, "end", colour=colour))
    if is_gone:
        return y + 6, parts
    middle = y + _STRIP / 2
    parts.append(svg.line((_LEFT, middle), (_RIGHT, middle), "line", 'stroke-width=".8"'))
    for number, name in enumerate(names):
        values = spread.values.get(name, ())
        if values:
            place = middle + (number - (len(names) - 1) / 2) * 11
            drawn = _box if len(values) > _DOTS_MAX else _dots
            parts += drawn(number, values, place, most)
    return y + _STRIP + 4, parts


def _range(number: int, values: Sequence[float], y: float, most: float) -> str:
    """From least to most."""
    colour = _COLOURS[number % len(_COLOURS)]
    return svg.line((_x(min(values), most), y), (_x(max(values), most), y), colour, 'stroke-width="1.2"')


def _dots(number: int, values: Sequence[float], y: float, most: float) -> Iterator[str]:
    yield _range(number, values, y, most)
    middle = _x(statistics.median(values), most)
    colour = _COLOURS[number % len(_COLOURS)]
    yield svg.line((middle, y - 6), (middle, y + 6), colour, 'stroke-width="1.6"')
    for value, count in sorted(Counter(values).items()):
        share = sqrt(count / len(values)) if count > 1 else 0.0
        yield _shape(number, _x(value, most), y, _RADIUS[0] + (_RADIUS[1] - _RADIUS[0]) * share)
        if count > 1:
            yield svg.text(_x(value, most), y + 3, str(count), "middle tiny", colour="ground")


def _box(number: int, values: Sequence[float], y: float, most: float) -> Iterator[str]:
    yield _range(number, values, y, most)
    colour = _COLOURS[number % len(_COLOURS)]
    low, middle, high = (_x(each, most) for each in statistics.quantiles(values, method="inclusive"))
    place = f'x="{svg.number(low)}" y="{svg.number(y - 4)}" width="{svg.number(high - low)}" height="8"'
    yield f'<rect {place} fill="var(--card)" stroke="var(--{colour})" stroke-width="1.2"/>'
    yield svg.line((middle, y - 4), (middle, y + 4), colour, 'stroke-width="2.4"')


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
