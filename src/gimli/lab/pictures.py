"""What of a result can be drawn? Values only: how they look is the page's and the terminal's business.

A picture carries figures and words, no coordinates and no colours, so that a page, a terminal and a program
that reads the JSON say the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


# A map: who is connected with whom.

PlaceKind = Literal["client", "firewall", "balancer", "server"]


@dataclass(frozen=True, slots=True)
class Place:
    """A host.

    Args:
        notes: what is to be known of it, short.
        fault: what happens to it; empty when nothing does.
    """

    name: str
    kind: PlaceKind
    notes: tuple[str, ...] = ()
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Network:
    """A switch, or a cable that has two ends.

    Args:
        notes: how a switch treats group MACs.
    """

    name: str
    is_switch: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plug:
    """A host's interface in a network.

    Args:
        flooded: which frames that are not for it come through this port, in words; empty for none.
        fault: what happens to its cable.
    """

    place: str
    network: str
    interface: str
    flooded: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Map:
    """Hosts and networks, from the clients inwards."""

    places: tuple[Place, ...]
    networks: tuple[Network, ...]
    plugs: tuple[Plug, ...]


# A sequence: who sent what to whom, one step below the other.

StepKind = Literal["request", "answer", "copy", "update", "back", "drop", "again", "close", "reset", "note"]


@dataclass(frozen=True, slots=True)
class Lane:
    """Somebody who takes part.

    Args:
        name: what steps call it.
        role: what it is to this connection.
        host: which host plays it.
    """

    name: str
    role: str
    host: str


@dataclass(frozen=True, slots=True)
class Step:
    """One frame, several that are told as one, or something that happens to somebody.

    Args:
        path: lanes from the sender to where it ends; one lane alone where nothing is sent.
        is_lost: whoever is last in the path has dropped it.
    """

    t_ms: float
    path: tuple[str, ...]
    kind: StepKind
    text: str
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    """The steps of one connection, by time.

    Args:
        left_out: what is not among them, in words.
    """

    subject: str
    lanes: tuple[Lane, ...]
    steps: tuple[Step, ...]
    left_out: str = ""


# Charts: quantities over time.

CurveStyle = Literal["line", "edge", "limit"]


@dataclass(frozen=True, slots=True)
class Curve:
    """A quantity over time.

    Args:
        where: whose it is; curves of the same one look alike.
        points: (t_ms, value).
        style: ``line``, ``edge`` for what belongs to a line, ``limit`` for what must not be passed.
        is_stepped: it keeps its value until the next point.
    """

    where: str
    what: str
    points: tuple[tuple[float, float], ...]
    style: CurveStyle = "line"
    is_stepped: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happens to a quantity.

    Args:
        before: its value before; None where it is a moment only.
        kind: ``back`` for a step in the wrong direction, ``drop`` for a packet that is dropped.
        text: empty where the marks around it say it.
    """

    t_ms: float
    value: float
    kind: Literal["back", "drop"]
    before: float | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over the same time."""

    title: str
    unit: str
    curves: tuple[Curve, ...]
    marks: tuple[Mark, ...] = ()


# Spreads: what each seed gave.


@dataclass(frozen=True, slots=True)
class Spread:
    """Of one change: a figure for each run.

    Args:
        group: what kind of change it is, in words; those of the same kind follow each other.
        values: by what was counted, one for each run.
    """

    change: str
    group: str
    values: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Pictures:
    """All of a result; whatever is not there is None or empty."""

    map: Map | None = None
    sequence: Sequence | None = None
    charts: tuple[Chart, ...] = ()
    spreads: tuple[Spread, ...] = ()


NOTHING = Pictures()
"""Of a result that has none."""
