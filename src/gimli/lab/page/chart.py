"""How is a quantity over time drawn? Curves with their axes, and marks where something happens to them."""

from __future__ import annotations

from math import floor, log10
from typing import TYPE_CHECKING, NamedTuple

from gimli.lab.page import svg

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gimli.lab.pictures import Chart, Curve, Mark

_HEIGHT = 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 394.0, 16.0, 250.0
_COLOURS = ("first", "second", "third")
_SPAN_LEAST = 1e-6
"""Of an axis: below a byte, and below a nanosecond."""
_STYLES = {
    "line": 'stroke-width="1.8"',
    "edge": 'stroke-width="1.1" stroke-dasharray="4 2.5"',
    "limit": 'stroke-width="1.1" stroke-dasharray="1.5 2.5"',
}


class _Axes(NamedTuple):
    """What is at the edges of the drawing."""

    begin_ms: float
    end_ms: float
    least: float
    most: float

    def x(self, t_ms: float) -> float:
        span = self.end_ms - self.begin_ms or 1.0
        return _LEFT + (_RIGHT - _LEFT) * (t_ms - self.begin_ms) / span

    def y(self, value: float) -> float:
        span = self.most - self.least or 1.0
        return _BOTTOM - (_BOTTOM - _TOP) * (value - self.least) / span


def draw(chart: Chart, key: str) -> str:
    """The figure; nothing where there are too few points for a line.

    Args:
        chart: what there is to be drawn.
        key: unique on the page.
    """
    points = [point for curve in chart.curves for point in curve.points]
    if len(points) < 2:
        return ""
    axes = _axes(points, chart.marks)
    colours = dict(zip(dict.fromkeys(curve.where for curve in chart.curves), _COLOURS * 9, strict=False))
    parts = [
        *_value_axis(axes, chart.unit),
        *_time_axis(axes),
        *(_curve(curve, axes, _colour(curve, colours)) for curve in reversed(chart.curves)),
        *(part for mark in chart.marks for part in _mark(mark, axes)),
        *_words_of_marks(chart.marks, axes),
    ]
    drawn = svg.drawing(key, chart.title, _describe(chart), (svg.WIDTH, _HEIGHT), parts)
    samples = [
        (
            svg.line((0, 6), (26, 6), _colour(curve, colours), _STYLES[curve.style]),
            f"{curve.where}: {curve.what}",
        )
        for curve in chart.curves
    ]
    if any(mark.kind == "back" for mark in chart.marks):
        samples.append((svg.line((13, 0), (13, 12), "bad", 'stroke-width="3"'), "moved BACK"))
    if any(mark.kind == "drop" for mark in chart.marks):
        samples.append((svg.cross(13, 6, "bad", 3.5), "packet dropped"))
    return svg.figure(drawn, svg.legend(samples), title=chart.title)


def _axes(points: Sequence[tuple[float, float]], marks: Sequence[Mark]) -> _Axes:
    times = [at_ms for at_ms, _ in points]
    values = [value for _, value in points] + [mark.value for mark in marks]
    least, most = min(values), max(values)
    if 0 < least < most / 10:
        least = 0.0
    room = (most - least) * 0.08
    return _Axes(min(times), max(times), least if least == 0 else least - room, most + room or 1.0)


def _colour(curve: Curve, colours: dict[str, str]) -> str:
    return "dim" if curve.style == "limit" else colours[curve.where]


def _curve(curve: Curve, axes: _Axes, colour: str) -> str:
    places: list[tuple[float, float]] = []
    for at_ms, value in curve.points:
        x, y = axes.x(at_ms), axes.y(value)
        if curve.is_stepped and places:
            places.append((x, places[-1][1]))
        places.append((x, y))
    return svg.path(places, colour, _STYLES[curve.style])


def _mark(mark: Mark, axes: _Axes) -> Iterator[str]:
    x, y = axes.x(mark.t_ms), axes.y(mark.value)
    if mark.before is None:
        yield svg.cross(x, y, "bad", 3.2)
        return
    yield svg.line((x, axes.y(mark.before)), (x, y), "bad", 'stroke-width="2.6"')
    head = f"{svg.number(x)},{svg.number(y)} {svg.number(x - 4)},{svg.number(y - 7)} "
    head += f"{svg.number(x + 4)},{svg.number(y - 7)}"
    yield f'<polygon points="{head}" fill="var(--bad)"/>'


def _words_of_marks(marks: Sequence[Mark], axes: _Axes) -> Iterator[str]:
    """Beside their marks, on the side where there is room: above, or below where others are above."""
    taken: list[float] = []
    for mark in sorted(marks, key=lambda mark: mark.before is not None):
        if not mark.text:
            continue
        x, foot = axes.x(mark.t_ms), axes.y(mark.value)
        top = foot if mark.before is None else axes.y(mark.before)
        y = next((y for y in (top - 9, foot + 17) if all(abs(y - other) > 13 for other in taken)), top - 9)
        taken.append(y)
        is_left = x + 8 + len(mark.text) * svg.CHARACTER > svg.WIDTH
        style = "strong halo end" if is_left else "strong halo"
        yield svg.text(x - 5 if is_left else x + 5, y, mark.text, style, colour="bad")


def _value_axis(axes: _Axes, unit: str) -> Iterator[str]:
    for value in ticks(axes.least, axes.most, 4):
        y = axes.y(value)
        yield svg.line((_LEFT, y), (_RIGHT, y), "line", 'stroke-width=".6"')
        yield svg.text(_LEFT - 5, y + 4, short(value), "end small dim")
    if unit:
        yield svg.text(2, 9, unit, "small dim")


def _time_axis(axes: _Axes) -> Iterator[str]:
    """Seconds; where all of it takes less than one, milliseconds from a second that is named."""
    span_ms = axes.end_ms - axes.begin_ms
    is_short = span_ms < 1000 and axes.begin_ms > 1000
    origin_ms = floor(axes.begin_ms / 10) * 10 if is_short else 0.0
    scale = 1.0 if span_ms < 10_000 else 1000.0
    unit = "ms" if scale == 1.0 else "s"
    for tick in ticks((axes.begin_ms - origin_ms) / scale, (axes.end_ms - origin_ms) / scale, 5):
        x = axes.x(tick * scale + origin_ms)
        yield svg.line((x, _BOTTOM), (x, _BOTTOM + 4), "dim")
        yield svg.text(x, _BOTTOM + 16, f"{tick:g}", "middle small dim")
    after = f" after {origin_ms / 1000:g} s" if is_short else ""
    yield svg.line((_LEFT, _BOTTOM), (_RIGHT, _BOTTOM), "dim")
    yield svg.text((_LEFT + _RIGHT) / 2, _BOTTOM + 32, f"{unit}{after}", "middle small dim")


def ticks(least: float, most: float, about: int) -> list[float]:
    """Round numbers between two, about so many."""
    span = most - least
    if span < _SPAN_LEAST:
        return [least]
    rough = span / about
    power = 10.0 ** floor(log10(rough))
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= rough), 10 * power)
    first = -floor(-least / step)
    return [round(number * step, 9) for number in range(first, floor(most / step) + 1)]


def short(value: float) -> str:
    """A number with its thousands as k, M or G."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.4g} {letter}"
    return f"{value:g}"


def _describe(chart: Chart) -> str:
    """What the curves and marks show, for those who do not see them."""
    spans = [
        f"{curve.where} {curve.what} from {min(value for _, value in curve.points):,.0f} "
        f"to {max(value for _, value in curve.points):,.0f}"
        for curve in chart.curves
        if curve.points
    ]
    marked = [f"{mark.text} at {mark.t_ms / 1000:.4f} s" for mark in chart.marks if mark.text]
    return "; ".join([*spans, *marked])
