"""How is a drawing written down? Elements of SVG as text, everything from outside escaped.

A drawing is ``WIDTH`` units wide, which is a phone's width: there a unit is a pixel, and wider screens scale
it up. So what can be read there can be read anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.lab.page.escaping import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH = 400
CHARACTER = 6.8
"""Units that a letter takes, in the mean, in a wide font."""
_SHRINKS = 1.2
"""A drawing that is so much wider than a phone can still be read there."""


def number(value: float) -> str:
    """A coordinate, no longer than can be seen."""
    return f"{value:.1f}".removesuffix(".0")


def text(x: float, y: float, words: str, style: str = "", *, colour: str = "") -> str:
    """Words that begin at a place, or end there, or have it in their middle: by the classes in ``style``."""
    classes = f' class="{style}"' if style else ""
    fill = f' style="fill:var(--{colour})"' if colour else ""
    return f'<text x="{number(x)}" y="{number(y)}"{classes}{fill}>{escape(words)}</text>'


def line(start: tuple[float, float], end: tuple[float, float], colour: str, more: str = "") -> str:
    """Straight, between two places; ``colour`` is a variable of the page's style."""
    (x1, y1), (x2, y2) = start, end
    places = f'x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"'
    return f'<line {places} stroke="var(--{colour})"{_space(more)}/>'


def path(points: Sequence[tuple[float, float]], colour: str, more: str = "") -> str:
    """A line through places."""
    places = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    return f'<polyline points="{places}" fill="none" stroke="var(--{colour})"{_space(more)}/>'


def arrow(start: tuple[float, float], end: tuple[float, float], colour: str, more: str = "") -> str:
    """A level line with a head where it ends."""
    (_, y), (x, _) = start, end
    back = -7 if start[0] < x else 7
    head = (
        f"{number(x)},{number(y)} {number(x + back)},{number(y - 3.5)} {number(x + back)},{number(y + 3.5)}"
    )
    return line(start, (x + back, y), colour, more) + f'<polygon points="{head}" fill="var(--{colour})"/>'


def cross(x: float, y: float, colour: str, size: float = 4.0) -> str:
    """Something ends here."""
    stroke = 'stroke-width="2.2"'
    return line((x - size, y - size), (x + size, y + size), colour, stroke) + line(
        (x - size, y + size), (x + size, y - size), colour, stroke
    )


def box(x: float, y: float, width: float, height: float, colour: str, more: str = "") -> str:
    """With round corners."""
    place = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
    return f'<rect {place} rx="5" fill="var(--ground)" stroke="var(--{colour})"{_space(more)}/>'


def drawing(key: str, title: str, description: str, size: tuple[float, float], parts: Iterable[str]) -> str:
    """The whole, with a title and a description for those who do not see it.

    Args:
        key: unique on the page.
        title: what it is.
        description: what it shows.
        size: in units.
        parts: its elements.
    """
    width, height = size
    # Wider than a phone: there it scrolls, instead of shrinking until nobody can read it.
    wide = f' style="min-width:{number(width)}px"' if width > _SHRINKS * WIDTH else ""
    head = (
        f'<svg viewBox="0 0 {number(width)} {number(height)}" role="img" '
        f'aria-labelledby="{key}-title {key}-desc"{wide}>'
        f'<title id="{key}-title">{escape(title)}</title><desc id="{key}-desc">{escape(description)}</desc>'
    )
    return '<div class="scroll">' + head + "\n" + "\n".join(parts) + "\n</svg></div>"


def legend(entries: Iterable[tuple[str, str]]) -> str:
    """Samples of what is drawn, with words.

    Args:
        entries: the sample, as elements in a box of 26 by 12; and what it means.
    """
    shown = [
        f'<span><svg viewBox="0 0 26 12" aria-hidden="true">{sample}</svg>{escape(words)}</span>'
        for sample, words in entries
    ]
    if not shown:
        return ""
    return '<span class="legend">' + " ".join(shown) + "</span>"


def figure(drawn: str, *captions: str, title: str = "") -> str:
    """A drawing with what is said above and below it; captions are HTML, the title is not."""
    words = "".join(f"<div>{caption}</div>" for caption in captions if caption)
    head = f'<p class="title">{escape(title)}</p>' if title else ""
    foot = f"<figcaption>{words}</figcaption>" if words else ""
    return f"<figure>{head}{drawn}{foot}</figure>"


def _space(more: str) -> str:
    return f" {more}" if more else ""
