"""How is a map drawn? Networks as bars below each other, firewalls between them, the other hosts beside.

[internet]
====================== outside       networks that clients are in
[fw1] == sync == [fw2]
  |                |
==o================o==== dmz         the other ones, each with its hosts below it
  |                |   [lb1]  [lb2]
==o================o==== inside
                       [app1] [app2]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from gimli.lab.page import svg

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gimli.lab.pictures import Map, Place, Plug

_MARGIN = 6.0
_ASIDE = 16.0
"""From the last firewall to the other hosts."""
_HOST_WIDTH, _HOST_GAP = 58.0, 6.0
_FIREWALL_WIDTH, _FIREWALL_GAP = 86.0, 58.0
_TEXT = 13.0
_HEAD = 20.0
"""Of a box: its name."""
_WIRES = 32.0
"""Between a firewall's wires."""
_FALL, _BETWEEN = 56.0, 44.0
"""From the firewalls to the first network below them, and from there to the next; words above it apart."""
_CABLE_GAP = 2.0


@dataclass(slots=True)
class _Box:
    """Where a place is drawn."""

    place: Place
    x: float
    y: float
    width: float

    @property
    def lines(self) -> list[str]:
        """Below its name."""
        return [*self.place.notes, *([self.place.fault] if self.place.fault else [])]

    @property
    def height(self) -> float:
        return _HEAD + _TEXT * len(self.lines) + 4

    @property
    def middle(self) -> float:
        return self.x + self.width / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height


@dataclass(slots=True)
class _Layout:
    """Where everything is."""

    plan: Map
    width: float = svg.WIDTH
    y: float = _MARGIN
    boxes: dict[str, _Box] = field(default_factory=dict)
    bars: dict[str, float] = field(default_factory=dict)
    upper: list[str] = field(default_factory=list)
    lower: list[str] = field(default_factory=list)
    cables: list[str] = field(default_factory=list)


def draw(plan: Map) -> str:
    """The figure."""
    layout = _lay_out(plan)
    parts = [
        *_bars(layout),
        *_wires(layout),
        *_bar_words(layout),
        *_cables(layout),
        *(part for box in layout.boxes.values() for part in _box(box)),
    ]
    drawn = svg.drawing("map", "the network", _describe(plan), (layout.width, layout.y), parts)
    samples = []
    if any(plug.flooded for plug in plan.plugs):
        samples.append(
            (svg.line((0, 6), (26, 6), "copy", _FLOODED), "gets frames to the balancers' group MAC")
        )
    if any(place.fault for place in plan.places) or any(plug.fault for plug in plan.plugs):
        samples.append((svg.cross(13, 6, "bad"), "breaks"))
    return svg.figure(drawn, svg.legend(samples))


# Where.


def _lay_out(plan: Map) -> _Layout:
    layout = _Layout(plan)
    networks = {network.name: network for network in plan.networks}
    kinds = {place.name: place for place in plan.places}
    firewalls = [place for place in plan.places if place.kind == "firewall"]
    for network in plan.networks:
        plugged = [kinds[plug.place].kind for plug in plan.plugs if plug.network == network.name]
        is_cable = not network.is_switch and plugged == ["firewall", "firewall"]
        rows = layout.cables if is_cable else layout.upper if "client" in plugged else layout.lower
        rows.append(network.name)
    firewall_width = max([_FIREWALL_WIDTH, *(_room(place) for place in firewalls)])
    aside = (
        _MARGIN + len(firewalls) * (firewall_width + _FIREWALL_GAP) - (_FIREWALL_GAP - 16) * bool(firewalls)
    )
    for number, name in enumerate(layout.upper):
        _put_hosts(layout, name, _MARGIN if number == 0 else aside)
        layout.y += 18
        layout.bars[name] = layout.y
        layout.y += 42
    for number, place in enumerate(firewalls):
        x = _MARGIN + number * (firewall_width + _FIREWALL_GAP)
        layout.boxes[place.name] = _Box(place, x, layout.y, firewall_width)
        layout.width = max(layout.width, x + firewall_width + _MARGIN)
    if firewalls:
        layout.y = max(layout.boxes[place.name].bottom for place in firewalls)
    for number, name in enumerate(layout.lower):
        layout.y += (_FALL if number == 0 else _BETWEEN) + _TEXT * len(networks[name].notes)
        layout.bars[name] = layout.y
        layout.y += 16
        _put_hosts(layout, name, aside)
    layout.y += _MARGIN + 4
    return layout


def _put_hosts(layout: _Layout, network: str, x: float) -> None:
    """The hosts of a network that are no firewalls, side by side."""
    names = [plug.place for plug in layout.plan.plugs if plug.network == network]
    bottom = layout.y
    for place in layout.plan.places:
        if place.name in names and place.kind != "firewall":
            box = _Box(place, x, layout.y, max(_HOST_WIDTH, _room(place)))
            layout.boxes[place.name] = box
            x += box.width + _HOST_GAP
            bottom = max(bottom, box.bottom)
    layout.width = max(layout.width, x - _HOST_GAP + _MARGIN)
    layout.y = bottom


def _room(place: Place) -> float:
    words = [place.name + " ", *place.notes, place.fault]
    return max(len(each) for each in words) * svg.CHARACTER + 10


# How.

_FLOODED = 'stroke-width="2.6" stroke-dasharray="2.5 3"'


def _bars(layout: _Layout) -> Iterator[str]:
    right = layout.width - _MARGIN
    for y in layout.bars.values():
        yield svg.line((_MARGIN, y), (right, y), "line", 'stroke-width="6" stroke-linecap="round"')


def _bar_words(layout: _Layout) -> Iterator[str]:
    """Above its right end; how it treats groups above that."""
    x = layout.width - _MARGIN
    for network in layout.plan.networks:
        if network.name in layout.bars:
            y = layout.bars[network.name] - 7
            yield svg.text(x, y, network.name, "end strong halo")
            for number, note in enumerate(reversed(network.notes), 1):
                yield svg.text(x, y - _TEXT * number, note, "end dim halo")


class _Wire(NamedTuple):
    """From a box to the bar of its network."""

    x: float
    edge: float
    bar: float
    number: int
    """Among the wires on the same side of the box."""

    @property
    def is_up(self) -> bool:
        return self.bar < self.edge

    @property
    def middle(self) -> float:
        """Where a fault is shown: nearer to the bar, the interface's name is at the box."""
        return self.bar + (self.edge - self.bar) * 0.4


def _wire(layout: _Layout, plug: Plug) -> _Wire:
    """A firewall has a wire for each network above it, and for each below it, side by side."""
    box, bar = layout.boxes[plug.place], layout.bars[plug.network]
    rows = layout.upper if plug.network in layout.upper else layout.lower
    edge = box.y if bar < box.y else box.bottom
    mine = {each.network for each in layout.plan.plugs if each.place == plug.place}
    networks = [name for name in rows if name in mine]
    number = networks.index(plug.network)
    return _Wire(box.middle + (number - (len(networks) - 1) / 2) * _WIRES, edge, bar, number)


def _wires(layout: _Layout) -> Iterator[str]:
    """All lines, then all words: no line goes through a word."""
    wired = [(plug, _wire(layout, plug)) for plug in layout.plan.plugs if plug.network in layout.bars]
    for plug, wire in wired:
        yield from _wire_line(plug, wire)
    for plug, wire in wired:
        if layout.boxes[plug.place].place.kind == "firewall":
            y = wire.edge - 6 if wire.is_up else wire.edge + 13 + 12 * wire.number
            yield svg.text(wire.x + 5, y, plug.interface, "small dim halo")
    for plug, wire in wired:
        yield from _wire_words(plug, wire)


def _wire_line(plug: Plug, wire: _Wire) -> Iterator[str]:
    x, edge, bar, _ = wire
    colour, stroke = ("copy", _FLOODED) if plug.flooded else ("dim", 'stroke-width="1.4"')
    yield svg.line((x, edge), (x, bar), "card", 'stroke-width="8"')
    yield svg.line((x, edge), (x, bar), colour, stroke)
    yield f'<circle cx="{svg.number(x)}" cy="{svg.number(bar)}" r="4" fill="var(--{colour})"/>'
    if plug.flooded:
        back = edge - 9 if wire.is_up else edge + 9
        head = f"{svg.number(x)},{svg.number(edge)} {svg.number(x - 5)},{svg.number(back)} "
        head += f"{svg.number(x + 5)},{svg.number(back)}"
        yield f'<polygon points="{head}" fill="var(--copy)"/>'
    if plug.fault:
        yield svg.cross(x, wire.middle, "bad", 6)


def _wire_words(plug: Plug, wire: _Wire) -> Iterator[str]:
    if plug.flooded:
        yield svg.text(wire.x + 7, wire.bar - 9, plug.flooded, "strong halo", colour="copy")
    if plug.fault:
        yield svg.text(wire.x + 10, wire.middle + 4, plug.fault, "strong halo", colour="bad")


def _cables(layout: _Layout) -> Iterator[str]:
    """Between the firewalls, level; several of them below each other."""
    for number, name in enumerate(layout.cables):
        plugs = [plug for plug in layout.plan.plugs if plug.network == name]
        left, right = (layout.boxes[plug.place] for plug in plugs)
        y = left.y + 22 + 24 * number
        for shift in (-_CABLE_GAP, _CABLE_GAP):
            yield svg.line(
                (left.x + left.width, y + shift), (right.x, y + shift), "dim", 'stroke-width="1.2"'
            )
        middle = (left.x + left.width + right.x) / 2
        yield svg.text(middle, y - 7, name, "middle small dim halo")
        faults = [plug.fault for plug in plugs if plug.fault]
        if faults:
            yield svg.cross(middle, y, "bad", 6)
            yield svg.text(middle, y + 18, faults[0], "middle small strong halo", colour="bad")


def _box(box: _Box) -> Iterator[str]:
    colour = "bad" if box.place.fault else "dim"
    yield svg.box(box.x, box.y, box.width, box.height, colour, 'stroke-width="1.3"')
    yield svg.text(box.middle, box.y + 15, box.place.name, "middle strong")
    for number, words in enumerate(box.lines):
        yield svg.text(box.middle, box.y + 15 + _TEXT * (number + 1), words, "middle dim")


def _describe(plan: Map) -> str:
    """Who is in which network, and what is wrong with it, for those who do not see it."""
    sentences = []
    for network in plan.networks:
        plugged = [_plugged(plug) for plug in plan.plugs if plug.network == network.name]
        notes = f" ({', '.join(network.notes)})" if network.notes else ""
        sentences.append(f"{network.name}{notes}: {', '.join(plugged)}")
    sentences += [f"{place.name} is {', '.join(_said(place))}" for place in plan.places if _said(place)]
    return "; ".join(sentences)


def _plugged(plug: Plug) -> str:
    said = [words for words in (f"gets {plug.flooded}" if plug.flooded else "", plug.fault) if words]
    return f"{plug.place} ({', '.join(said)})" if said else plug.place


def _said(place: Place) -> Sequence[str]:
    return [*place.notes, *([place.fault] if place.fault else [])]
