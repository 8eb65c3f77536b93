"""What of a result is a table? Each is empty where there is nothing to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.lab.page.escaping import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gimli.lab.scenario import Cause, Cure, Moment, Verdict


def causes(found: Sequence[Cause]) -> str:
    """What must come together, and what is left without it; nothing where nothing fails."""
    rows = (
        f"<tr><td>{escape(' '.join(cause.text.split()))}</td><td>{escape(cause.without)}</td></tr>"
        for cause in found
    )
    return (
        _table("Causes", ("cause", "what is left without it"), rows)
        if any(cause.needed for cause in found)
        else ""
    )


def cures(found: Sequence[Cure], title: str, heads: Sequence[str]) -> str:
    """Each change with its figures and its price."""
    rows = (
        f'<tr><td class="{"yes" if cure.cures else "no"}">{escape(cure.change)}</td>'
        + "".join(f'<td class="number">{escape(cell)}</td>' for cell in cure.cells)
        + f"<td>{escape(cure.price)}</td></tr>"
        for cure in found
    )
    return _table(title.capitalize(), ("change", *heads, "price"), rows) if found else ""


def verdicts(found: Sequence[Verdict]) -> str:
    """What was expected, and what came."""
    rows = (
        f'<tr><td class="{mark}">{words}</td><td>{escape(verdict.expect)}</td>'
        f"<td>{escape(verdict.figure)}</td></tr>"
        for verdict in found
        for mark, words in [("yes", "holds") if verdict.holds else ("no", "does not hold")]
    )
    return _table("Expectations", (), rows) if found else ""


def change(lines: Sequence[str]) -> str:
    """What to change, as a diff."""
    shown = "\n".join(escape(line) for line in lines)
    return f"<h2>What to change</h2><pre>{shown}</pre>" if lines else ""


def events(found: Sequence[Moment]) -> str:
    """Every event with its time."""
    rows = (
        f'<tr><td class="time">{_time(moment.t_ms)}</td><td>{escape(moment.where)}</td>'
        f"<td>{escape(moment.text)}</td></tr>"
        for moment in found
    )
    return _table("Every event", (), rows) if found else ""


def _time(t_ms: float) -> str:
    return f"{t_ms:,.3f} ms"


def _table(title: str, heads: Sequence[str], rows: Iterable[str]) -> str:
    head = "<tr>" + "".join(f"<th>{escape(words)}</th>" for words in heads) + "</tr>" if heads else ""
    return f'<h2>{escape(title)}</h2><div class="scroll"><table>{head}{"".join(rows)}</table></div>'
