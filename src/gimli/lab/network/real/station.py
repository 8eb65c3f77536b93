"""What does a program on one of the hosts get from us, and what does it give back?

    we write     its part, as a pickle; when all are ready, the moment at which the run begins; orders
    it writes    a line when it is ready, and one when an order is carried out; its findings, as a pickle,
                 when its input ends

Nothing of it is ever read from the network that is played.
"""

from __future__ import annotations

import os
import pickle
import sys
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gimli.lab.network.simulator.record import Entry, Fate
    from gimli.lab.network.topology import Firewall, Topology

READY = b"ready\n"
DONE = b"done\n"
_ORDERS_MAX = 64


class Order(Enum):
    """What happens to a firewall while it plays; the value is what its program reads."""

    OFF = b"-"
    """It has no power any more, ..."""
    ON = b"+"
    """... and has it again."""
    HANG = b"h"
    """The pair's daemon stands still, ..."""
    GO_ON = b"g"
    """... and goes on."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a program is to play.

    Args:
        host: whose program it is.
        seed: of what is random.
    """

    topology: Topology
    host: str
    seed: int


@dataclass(frozen=True, slots=True)
class RoleTold:
    """What a firewall's daemon has told of its role in one group.

    Args:
        at_s: on the monotonic clock.
        words: which one, and why.
    """

    at_s: float
    vhid: int
    is_master: bool
    words: str


@dataclass(slots=True)
class Findings:
    """What a program saw.

    Args:
        counts: by what was counted.
        roles: of a firewall.
        back_most: bytes that a field of a state went back at once.
        events: packets, or requests.
        overrun: packets that were lost because it was too slow.
    """

    log: list[Entry] = field(default_factory=list)
    fates: list[Fate] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    roles: list[RoleTold] = field(default_factory=list)
    answered: int = 0
    back_most: int = 0
    events: int = 0
    overrun: int = 0


def first_master_of(topology: Topology) -> Firewall:
    """Who is MASTER when the run begins: who wins an election, or is the first of equals."""
    return min(
        topology.firewalls,
        key=lambda config: min(256 * carp.advbase + carp.advskew for carp in config.carp),
    )


def read_part() -> Part:
    """What we are to play."""
    part = _load()
    assert isinstance(part, Part)
    return part


def wait_for_begin() -> float:
    """Say that we are ready; when the run begins, on the monotonic clock."""
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    began_s = _load()
    assert isinstance(began_s, float)
    return began_s


def orders() -> list[Order]:
    """What happens now, when our input can be read; nothing any more when the run is over."""
    return [Order(bytes((each,))) for each in os.read(sys.stdin.fileno(), _ORDERS_MAX)]


def say_done() -> None:
    """An order has been carried out."""
    sys.stdout.buffer.write(DONE)
    sys.stdout.buffer.flush()


def give(findings: Findings) -> None:
    """Say what we saw, as the last thing."""
    pickle.dump(findings, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def _load() -> Any:
    return pickle.load(sys.stdin.buffer)  # noqa: S301 - from the program that has started us
