"""What is on the page of a result, and in which order? What a reader wants to see first comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.lab.page import chart, sequence, spread, tables, timeline, topology
from gimli.lab.page.escaping import escape
from gimli.lab.page.style import STYLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gimli.lab.scenario import Result


def render(result: Result) -> str:
    """The page."""
    title = escape(f"gimli lab: {result.scenario}")
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>"
    )
    return f"{head}\n<body>\n" + "\n".join(part for part in _body(result) if part) + "\n</body></html>\n"


def _body(result: Result) -> Iterator[str]:
    mode = f"{result.mode}, seed {result.seed}"
    yield f"<h1>{escape(result.scenario)}</h1>"
    headline = f'<strong>{escape(result.headline)}</strong> <span class="dim">({escape(mode)})</span>'
    yield f'<p class="headline">{headline}</p>'
    yield tables.causes(result.causes)
    yield from (f"<p>{escape(sentence)}</p>" for sentence in result.explanation)
    yield from _drawn(result)
    yield tables.cures(result.cures, result.cures_title, result.cure_heads)
    yield tables.verdicts(result.verdicts)
    yield tables.change(result.change)
    if result.sure:
        yield "<h2>How sure</h2>"
        yield from (f"<p>{escape(claim)}</p>" for claim in result.sure)
    yield tables.events(result.timeline)


def _drawn(result: Result) -> Iterator[str]:
    """The pictures, each with what it shows."""
    pictures = result.pictures
    if pictures.map is not None:
        yield "<h2>The network</h2>"
        yield topology.draw(pictures.map)
    if pictures.sequence is not None:
        yield "<h2>The story</h2>"
        yield f"<p>{escape(result.subject or pictures.sequence.subject)}</p>"
        yield sequence.draw(pictures.sequence)
    elif result.timeline:
        yield "<h2>Time line</h2>"
        yield timeline.draw(result.timeline)
    if pictures.charts:
        yield f"<h2>{'The windows' if pictures.sequence is not None else 'Over time'}</h2>"
        yield from (chart.draw(each, f"chart-{number}") for number, each in enumerate(pictures.charts, 1))
    if pictures.spreads:
        yield "<h2>With each change</h2>"
        yield spread.draw(pictures.spreads)
