"""How do a map and a spread read on a terminal? As tables: of networks and hosts, of changes and figures."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import TYPE_CHECKING

from rich.text import Text

from gimli.cli.lines import LABEL_WIDTH, block, safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gimli.lab.pictures import Map, Network, Place, Plug, Spread

_STRIP_LEAST = 10
_GAP = 2
_MANY = "#"
"""In place of a count that has two digits."""


def network_map(plan: Map, width: int) -> list[Text]:
    """A column per host, a row per network; a list where the columns have no room."""
    notes = [
        f"{safe(network.name)}: {safe(', '.join(network.notes))}"
        for network in plan.networks
        if network.notes
    ]
    notes += [f"* {_port(plug)} gets {safe(plug.flooded)}" for plug in plan.plugs if plug.flooded]
    notes += [f"x {_port(plug)}: {safe(plug.fault)}" for plug in plan.plugs if plug.fault]
    notes += [f"x {safe(place.name)}: {safe(place.fault)}" for place in plan.places if place.fault]
    columns = [_column(place) for place in plan.places]
    first = max((len(safe(network.name)) for network in plan.networks), default=0) + _GAP
    if LABEL_WIDTH + first + sum(columns) > width:
        rows = [Text(line) for line in _listed(plan)]
    else:
        rows = [Text(line) for line in (*_heads(plan, first, columns), *_rows(plan, first, columns))]
    for row in rows:
        for number, char in enumerate(row.plain[first:], first):
            if char in {"*", "x"} and row.plain[number - 1] in {" ", "-"}:
                row.stylize("bold red", number, number + 1)
    return block("MAP", [*rows, *(Text(note, style="dim") for note in notes)])


def _port(plug: Plug) -> str:
    return safe(f"{plug.place}.{plug.interface}")


def _column(place: Place) -> int:
    return max(len(safe(words)) for words in (place.name, *place.notes)) + _GAP


def _heads(plan: Map, first: int, columns: Sequence[int]) -> Iterator[str]:
    """Names, and what is to be known of each."""
    most = max((len(place.notes) for place in plan.places), default=0)
    for number in range(1 + most):
        cells = [(place.name, *place.notes, *[""] * most)[number] for place in plan.places]
        line = "".join(f"{safe(cell):<{width}}" for cell, width in zip(cells, columns, strict=True))
        yield (" " * first + line).rstrip()


def _rows(plan: Map, first: int, columns: Sequence[int]) -> Iterator[str]:
    starts = [first + sum(columns[:number]) + 1 for number in range(len(columns))]
    places = {place.name: start for place, start in zip(plan.places, starts, strict=True)}
    for network in plan.networks:
        yield _row(network, plan, places, first)


def _row(network: Network, plan: Map, places: dict[str, int], first: int) -> str:
    """Everything that is plugged into it, joined by a line."""
    plugs = {places[plug.place]: plug for plug in plan.plugs if plug.network == network.name}
    cells = list(f"{safe(network.name):<{first}}".ljust(max(places.values(), default=first) + 1))
    if plugs:
        for column in range(min(plugs), max(plugs) + 1):
            cells[column] = "-" if network.is_switch else "="
    for column, plug in plugs.items():
        cells[column] = "x" if plug.fault else "*" if plug.flooded else "o"
    return "".join(cells).rstrip()


def _listed(plan: Map) -> Iterator[str]:
    for network in plan.networks:
        plugged = (plug.place for plug in plan.plugs if plug.network == network.name)
        yield safe(f"{network.name}: {', '.join(plugged)}")


def spread(spreads: Sequence[Spread], width: int) -> list[Text]:
    """A row per change: of each figure, where its values are, how many runs gave each, and the median."""
    names = list(dict.fromkeys(name for each in spreads for name in each.values))
    if not names:
        return []
    labels = [_label(each) for each in spreads]
    first = min(max(len(label) for label in labels), 44) + _GAP
    room = max((width - LABEL_WIDTH - first) // len(names) - _GAP, _STRIP_LEAST)
    most = (
        max((max(values, default=0) for each in spreads for values in each.values.values()), default=0) or 1
    )
    heads = "".join(f"{f'{name}, 0 to {most:g}':<{room + _GAP}}" for name in names)
    rows = [Text(f"{'':<{first}}{heads}".rstrip(), style="bold")]
    for label, each in zip(labels, spreads, strict=True):
        strips = (_strip(each.values.get(name, ()), most, room) for name in names)
        cut = label[: first - _GAP]
        rows.append(Text(f"{cut:<{first}}" + "".join(f"{strip:<{room + _GAP}}" for strip in strips).rstrip()))
    runs = max(len(values) for each in spreads for values in each.values.values())
    rows.append(Text(f"a digit: so many of {runs} runs gave that; |: the median", style="dim"))
    return block("SPREAD", rows)


def _label(each: Spread) -> str:
    return safe(f"{each.group}: {each.change}" if each.group.startswith("without ") else each.change)


def _strip(values: Sequence[float], most: float, room: int) -> str:
    """Values on a line from nothing to the most of all."""
    if not values:
        return ""
    cells = [" "] * room

    def at(value: float) -> int:
        return round(value / most * (room - 1))

    for column in range(at(min(values)), at(max(values)) + 1):
        cells[column] = "."
    cells[at(statistics.median(values))] = "|"
    for column, count in Counter(at(value) for value in values).items():
        cells[column] = str(count) if count < 10 else _MANY
    return "".join(cells).rstrip()
