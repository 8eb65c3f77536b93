"""How are the events of systems that are compared drawn? One lane per system, one mark per event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.lab.page import svg
from gimli.lab.page.chart import ticks
from gimli.lab.page.escaping import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gimli.lab.scenario import Moment

_LEFT, _RIGHT = 8.0, 392.0
_LANE = 54
_COLOURS = ("bad", "request", "answer", "update")


def draw(timeline: Sequence[Moment]) -> str:
    """The figure; a mark's words show when it is pointed at, and are in the page's table."""
    if not timeline:
        return ""
    lanes = list(dict.fromkeys(moment.where for moment in timeline))
    most_ms = max(moment.t_ms for moment in timeline) or 1.0
    height = _LANE * len(lanes) + 26
    parts: list[str] = []
    for number, lane in enumerate(lanes):
        marked = [moment for moment in timeline if moment.where == lane]
        parts += _lane(lane, marked, most_ms, _LANE * number + 38, _COLOURS[number % len(_COLOURS)])
    parts += _axis(most_ms, height - 18)
    description = f"{len(timeline)} events, which the page's last table has as text."
    return svg.figure(svg.drawing("timeline", "events by time", description, (svg.WIDTH, height), parts))


def _lane(name: str, marked: Sequence[Moment], most_ms: float, y: float, colour: str) -> Iterator[str]:
    yield svg.text(4, y - 23, name, "strong")
    yield svg.line((_LEFT, y), (_RIGHT, y), colour, 'stroke-width="2"')
    for moment in marked:
        x = _x(moment.t_ms, most_ms)
        tip = escape(f"{moment.t_ms:.2f} ms: {moment.text}")
        place = f'cx="{svg.number(x)}" cy="{svg.number(y)}"'
        yield f'<circle {place} r="4.5" fill="var(--{colour})"><title>{tip}</title></circle>'
        if moment.text.startswith("HUP"):
            yield svg.text(x + 5, y - 7, "HUP", "small halo")


def _axis(most_ms: float, y: float) -> Iterator[str]:
    for tick in ticks(0.0, most_ms, 4):
        yield svg.text(_x(tick, most_ms), y + 12, f"{tick:,g}" + (" ms" if tick == 0 else ""), "small dim")


def _x(at_ms: float, most_ms: float) -> float:
    return _LEFT + (_RIGHT - _LEFT) * at_ms / most_ms
