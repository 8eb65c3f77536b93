"""How is a sequence drawn? A lane per role, time going down, one row per step."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from gimli.lab.page import svg
from gimli.lab.page.escaping import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gimli.lab.pictures import Lane, Sequence, Step

_COLOURS = {
    "request": "request",
    "answer": "answer",
    "copy": "copy",
    "update": "update",
    "back": "bad",
    "drop": "bad",
    "again": "bad",
    "close": "close",
    "reset": "reset",
    "note": "ink",
}
_DASHES = {
    "copy": 'stroke-dasharray="2 3"',
    "update": 'stroke-dasharray="7 3"',
    "again": 'stroke-dasharray="5 3"',
}
_LEGEND = (
    ("request", "request"),
    ("answer", "answer"),
    ("copy", "flooded copy"),
    ("update", "pfsync update"),
    ("drop", "dropped"),
    ("again", "sent again, dropped"),
    ("reset", "RST"),
    ("close", "FIN"),
)
_TOLD_IN_COLOUR = frozenset({"back", "drop", "reset"})
_TOP = 44
_LINE = 14
_GAP_S = 1.0
_TURN = 8
"""Between the two parts of an arrow that goes back past where it came from."""


def draw(sequence: Sequence) -> str:
    """The figure."""
    places = _places(sequence.lanes)
    rows: list[str] = []
    y = float(_TOP)
    last_s: float | None = None
    for step in sequence.steps:
        at_s = step.t_ms / 1000
        if last_s is not None and at_s - last_s >= _GAP_S:
            rows.append(_pause(places, y, at_s - last_s))
            y += 18
        y, drawn = _row(step, places, y)
        rows += drawn
        last_s = at_s
    height = y + 10
    lifelines = [svg.line((x, _TOP - 8), (x, height - 4), "line") for x in places.values()]
    heads = [part for lane in sequence.lanes for part in _head(lane, places[lane.name])]
    description = f"{sequence.subject}: {len(sequence.steps)} steps, which the table below has as text."
    drawn_all = svg.drawing(
        "sequence", "who sent what to whom", description, (svg.WIDTH, height), [*lifelines, *heads, *rows]
    )
    used = {step.kind for step in sequence.steps}
    samples = [(_sample(kind), words) for kind, words in _LEGEND if kind in used]
    return svg.figure(drawn_all, svg.legend(samples), escape(sequence.left_out)) + table(sequence)


def table(sequence: Sequence) -> str:
    """The same as text."""
    names = {lane.name: _name(lane) for lane in sequence.lanes}
    rows = "".join(
        f'<tr><td class="time">{step.t_ms / 1000:.4f} s</td>'
        f"<td>{escape(' → '.join(names[name] for name in step.path))}</td><td>{escape(step.text)}</td></tr>"
        for step in sequence.steps
    )
    head = "<tr><th>time</th><th>from, through, to</th><th>what</th></tr>"
    return (
        "<details><summary>the same as a table</summary>"
        f'<div class="scroll"><table>{head}{rows}</table></div></details>'
    )


def _name(lane: Lane) -> str:
    return lane.host if lane.host and " " not in lane.host else lane.role


def _places(lanes: tuple[Lane, ...]) -> Mapping[str, float]:
    """Where each lane is, from the left."""
    left, right = 40.0, svg.WIDTH - 40.0
    between = (right - left) / max(len(lanes) - 1, 1)
    return {lane.name: left + between * number for number, lane in enumerate(lanes)}


def _head(lane: Lane, x: float) -> Iterator[str]:
    yield svg.text(x, 14, lane.role, "middle strong")
    yield svg.text(x, 29, lane.host, "middle dim")


def _row(step: Step, places: Mapping[str, float], y: float) -> tuple[float, list[str]]:
    """Its words, then its arrow below them; and where the next one begins."""
    colour = _COLOURS[step.kind]
    time = f"{step.t_ms / 1000:.4f} s"
    room = int((svg.WIDTH - 8) / svg.CHARACTER)
    lines = textwrap.wrap(f"{time}  {step.text}", room, subsequent_indent="") or [time]
    drawn = []
    for number, words in enumerate(lines):
        y += _LINE
        head, rest = (time, words[len(time) :]) if number == 0 else ("", words)
        drawn.append(_words(y, head, rest.strip(), colour if step.kind in _TOLD_IN_COLOUR else "ink"))
    y += 9
    if len(step.path) == 1:
        x = places[step.path[0]]
        diamond = f"{svg.number(x)},{svg.number(y - 5)} {svg.number(x + 6)},{svg.number(y)} "
        diamond += f"{svg.number(x)},{svg.number(y + 5)} {svg.number(x - 6)},{svg.number(y)}"
        drawn.append(f'<polygon points="{diamond}" fill="var(--{colour})"/>')
        return y + 9, drawn
    y, arrows = _arrows(step, [places[name] for name in step.path], y, colour)
    return y + 9, drawn + arrows


def _words(y: float, time: str, words: str, colour: str) -> str:
    """Time dim, words not; one text, so that they stay beside each other in any font."""
    head = f'<tspan class="time">{escape(time)}</tspan>  ' if time else ""
    said = f'<tspan style="fill:var(--{colour})">{escape(words)}</tspan>'
    return f'<text x="4" y="{svg.number(y)}" class="halo" xml:space="preserve">{head}{said}</text>'


def _arrows(step: Step, xs: list[float], y: float, colour: str) -> tuple[float, list[str]]:
    """From lane to lane; where it turns round it goes on a little lower. It passes a lane with a dot."""
    stroke = f'stroke-width="1.8" {_DASHES.get(step.kind, "")}'.strip()
    drawn = []
    begin = xs[0]
    for number, (x, following) in enumerate(zip(xs[1:], [*xs[2:], None], strict=True)):
        before = xs[number]
        is_straight = following is not None and (x > before) == (following > x)
        if is_straight:
            drawn.append(_dot(x, y, colour))
            continue
        if following is None and step.is_lost:
            drawn += [svg.line((begin, y), (x, y), colour, stroke), svg.cross(x, y, colour)]
        elif following is None:
            drawn.append(svg.arrow((begin, y), (x, y), colour, stroke))
        else:
            drawn.append(svg.path([(begin, y), (x, y), (x, y + _TURN)], colour, stroke))
            drawn.append(_dot(x, y, colour))
            y += _TURN
        begin = x
    return y, drawn


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{svg.number(x)}" cy="{svg.number(y)}" r="2.8" fill="var(--{colour})"/>'


def _pause(places: Mapping[str, float], y: float, lasted_s: float) -> str:
    """A stretch of time in which nothing is told."""
    breaks = "".join(
        f'<rect x="{svg.number(x - 3)}" y="{svg.number(y + 4)}" width="6" height="10" fill="var(--card)"/>'
        + svg.line((x, y + 4), (x, y + 14), "dim", 'stroke-dasharray="1.5 3"')
        for x in places.values()
    )
    return breaks + svg.text(svg.WIDTH - 4, y + 13, f"{lasted_s:.1f} s later", "end small dim halo")


def _sample(kind: str) -> str:
    colour = _COLOURS[kind]
    stroke = f'stroke-width="1.8" {_DASHES.get(kind, "")}'.strip()
    if kind in {"drop", "again"}:
        return svg.line((0, 6), (21, 6), colour, stroke) + svg.cross(21, 6, colour)
    return svg.arrow((0, 6), (26, 6), colour, stroke)
