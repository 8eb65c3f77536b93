"""A result of the laboratory as one page to send to a colleague: no script, nothing fetched. Pure."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gimli.lab.scenario import Curve, Moment, Result

_WIDTH = 960
_LEFT = 150
_LANE = 46
_CURVE_HEIGHT = 70
_COLOURS = ("#b3261e", "#1a5fb4", "#26722d", "#7a4b9c")
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; }
td, th { text-align: left; padding: .2rem .9rem .2rem 0; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.no { color: #b3261e; font-weight: 600; } .yes { color: #26722d; }
svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
code, .time { font-family: ui-monospace, monospace; font-size: 13px; }
"""


def render(result: Result) -> str:
    """The page."""
    body = [
        f"<h1>{escape(result.scenario)}</h1>",
        f"<p><strong>{escape(result.headline)}</strong> ({escape(_mode(result))})</p>",
        *(f"<p>{escape(sentence)}</p>" for sentence in result.explanation),
        "<h2>Time line</h2>",
        *_lanes(result.timeline),
        *(drawing for curve in result.curves for drawing in _curve(curve)),
        *_causes(result),
        *_cures(result),
        *_verdicts(result),
        *_change(result.change),
        "<h2>Every event</h2>",
        *_events(result.timeline),
        "<h2>How sure</h2>",
        *(f"<p>{escape(claim)}</p>" for claim in result.sure),
    ]
    title = escape(f"gimli lab: {result.scenario}")
    head = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    return f"{head}<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"


def _mode(result: Result) -> str:
    return f"{result.mode}, seed {result.seed}"


def _lanes(timeline: Sequence[Moment]) -> Iterator[str]:
    """One lane per system, one mark per event; a mark's text shows when it is pointed at."""
    if not timeline:
        return
    lanes = list(dict.fromkeys(moment.where for moment in timeline))
    most_ms = max(moment.t_ms for moment in timeline) or 1.0
    height = _LANE * len(lanes) + 40
    yield f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="events by time">'
    for number, lane in enumerate(lanes):
        y = 20 + _LANE * number
        colour = _COLOURS[number % len(_COLOURS)]
        yield f'<text x="0" y="{y + 4}">{escape(lane)}</text>'
        yield f'<line x1="{_LEFT}" y1="{y}" x2="{_WIDTH - 10}" y2="{y}" stroke="{colour}" stroke-width="2"/>'
        for moment in timeline:
            if moment.where == lane:
                x = _x(moment.t_ms, most_ms)
                tip = escape(f"{moment.t_ms:.2f} ms: {moment.text}")
                mark = f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="{colour}"><title>{tip}</title></circle>'
                hup = f'<text x="{x + 6:.1f}" y="{y - 8}">HUP</text>' if moment.text.startswith("HUP") else ""
                yield mark + hup
    yield from _axis(most_ms, height - 12)
    yield "</svg>"


def _curve(curve: Curve) -> Iterator[str]:
    """A quantity as a line, from nothing to its most."""
    if len(curve.points) < 2:
        return
    most_ms = max(at_ms for at_ms, _ in curve.points)
    most = max(value for _, value in curve.points) or 1.0
    bottom = _CURVE_HEIGHT + 10
    points = " ".join(
        f"{_x(max(at_ms, 0.0), most_ms):.1f},{bottom - value / most * _CURVE_HEIGHT:.1f}"
        for at_ms, value in curve.points
    )
    yield f'<svg viewBox="0 0 {_WIDTH} {bottom + 30}" role="img" aria-label="{escape(curve.what)}">'
    yield f'<text x="0" y="20">{escape(curve.where)}: {escape(curve.what)}</text>'
    yield f'<text x="0" y="38">at most {most:,.0f} {escape(curve.unit)}</text>'
    yield f'<polyline points="{points}" fill="none" stroke="{_COLOURS[0]}" stroke-width="2"/>'
    yield from _axis(most_ms, bottom + 18)
    yield "</svg>"


def _axis(most_ms: float, y: int) -> Iterator[str]:
    for part in range(5):
        at_ms = most_ms * part / 4
        anchor = ' text-anchor="end"' if part == 4 else ""
        yield f'<text x="{_x(at_ms, most_ms):.1f}" y="{y}"{anchor}>{at_ms:,.4g} ms</text>'


def _x(at_ms: float, most_ms: float) -> float:
    return _LEFT + (_WIDTH - 10 - _LEFT) * at_ms / most_ms


def _causes(result: Result) -> Iterator[str]:
    if not result.causes:
        return
    yield "<h2>Causes</h2><table><tr><th>cause<th>still fail without it</tr>"
    for cause in result.causes:
        yield f"<tr><td>{escape(cause.text)}<td>{escape(cause.without)}</tr>"
    yield "</table>"


def _cures(result: Result) -> Iterator[str]:
    if not result.cures:
        return
    heads = "".join(f"<th>{escape(head)}" for head in result.cure_heads)
    yield f"<h2>Cures</h2><table><tr><th>change{heads}<th>price</tr>"
    for cure in result.cures:
        mark = "yes" if cure.cures else "no"
        cells = "".join(f'<td class="number">{escape(cell)}' for cell in cure.cells)
        yield f'<tr><td class="{mark}">{escape(cure.change)}{cells}<td>{escape(cure.price)}</tr>'
    yield "</table>"


def _verdicts(result: Result) -> Iterator[str]:
    yield "<h2>Expectations</h2><table>"
    for verdict in result.verdicts:
        mark, word = ("yes", "holds") if verdict.holds else ("no", "does not hold")
        yield f'<tr><td class="{mark}">{word}<td>{escape(verdict.expect)}<td>{escape(verdict.figure)}</tr>'
    yield "</table>"


def _change(lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield "<h2>What to change</h2><pre>" + escape("\n".join(lines)) + "</pre>"


def _events(timeline: Sequence[Moment]) -> Iterator[str]:
    yield "<table>"
    for moment in timeline:
        yield (
            f'<tr><td class="time">{moment.t_ms:.3f} ms<td>{escape(moment.where)}'
            f"<td>{escape(moment.text)}</tr>"
        )
    yield "</table>"
