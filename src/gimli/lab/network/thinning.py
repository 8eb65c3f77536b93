"""Which points of a quantity over time can a picture show? Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Points = list[tuple[float, float]]

_COLUMNS = 100
"""A picture shows no more: of each only the first, least, most and last value are kept."""


def thinned(points: Sequence[tuple[float, float]], span: tuple[float, float]) -> Points:
    """What a picture of that span can show of the points, with the value in force at both its ends."""
    begin_s, end_s = span
    inside: Points = []
    before = [value for at_s, value in points if at_s < begin_s]
    if before:
        inside.append((begin_s, before[-1]))
    column: Points = []
    width_s = (end_s - begin_s) / _COLUMNS
    number = -1
    for at_s, value in points:
        if begin_s <= at_s <= end_s:
            here = int((at_s - begin_s) / width_s) if width_s > 0 else 0
            if here != number:
                inside += _extremes(column)
                column, number = [], here
            column.append((at_s, value))
    inside += _extremes(column)
    if inside and inside[-1][0] < end_s:
        inside.append((end_s, inside[-1][1]))
    return inside


def _extremes(column: Points) -> Points:
    """First, least, most and last, in order."""
    if not column:
        return []
    kept = {0, len(column) - 1}
    kept.add(min(range(len(column)), key=lambda number: column[number][1]))
    kept.add(max(range(len(column)), key=lambda number: column[number][1]))
    return [column[number] for number in sorted(kept)]


def in_ms(points: Points) -> tuple[tuple[float, float], ...]:
    """Seconds as milliseconds, to the microsecond."""
    return tuple((round(at_s * 1000, 3), value) for at_s, value in points)
