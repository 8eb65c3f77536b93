"""What can happen to a vhid? Facts that have happened, frozen and without behaviour.

What an advertisement means is one of five facts, picked by ``gimli.pair.election``, so that the table shows
every arrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gimli.pair.vhid import Peer


@dataclass(frozen=True, slots=True)
class Enabled:
    """The interface is up, and the guard is in place."""

    patience_s: float | None = None
    """The silence after which it takes over; None: the usual one."""


@dataclass(frozen=True, slots=True)
class Disabled:
    """It can not be MASTER: the link has gone, or the guard, or the addresses can not be taken."""

    why: str


@dataclass(frozen=True, slots=True)
class StopWanted:
    """The daemon ends."""

    because: str = "asked to stop"


@dataclass(frozen=True, slots=True)
class MasterDownExpired:
    """No advertisement of a MASTER for the dead time."""

    silent_s: float


@dataclass(frozen=True, slots=True)
class AdvertiseDue:
    """The interval is over."""


@dataclass(frozen=True, slots=True)
class AnnounceDue:
    """The time for the second announcement has come."""


@dataclass(frozen=True, slots=True)
class PeerOutranks:
    """Heard as MASTER: another MASTER that is to stay."""

    peer: Peer
    why: str
    patience_s: float
    """The silence after which it is dead."""


@dataclass(frozen=True, slots=True)
class PeerWorse:
    """Heard as MASTER: another MASTER that is to yield."""

    peer: Peer
    why: str


@dataclass(frozen=True, slots=True)
class PeerLives:
    """Heard: a MASTER that changes nothing."""

    peer: Peer
    patience_s: float
    """The silence after which it is dead."""


@dataclass(frozen=True, slots=True)
class PeerYields:
    """Heard as BACKUP: a MASTER that this node takes over from."""

    peer: Peer
    why: str


@dataclass(frozen=True, slots=True)
class PeerBowedOut:
    """Heard: a MASTER that goes."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class DemotionChanged:
    """The sum of all that makes this node unfit has changed, or its reasons."""

    total: int
    because: str
    at_once: bool = True
    """Whether a MASTER tells it before its next advertisement is due."""


@dataclass(frozen=True, slots=True)
class LeaseLapsed:
    """The daemon stood still for so long that the kernel has taken its right to the addresses."""

    silent_s: float


@dataclass(frozen=True, slots=True)
class Outranked:
    """The peer owns the connections in a later epoch than ours."""

    epoch: int


@dataclass(frozen=True, slots=True)
class LeaderLeft:
    """This node can be MASTER of the leading vhid no more, and the peer has its connections."""

    leader: int


@dataclass(frozen=True, slots=True)
class SendRecovered:
    """A frame went out after one that could not."""


Event = (
    Enabled
    | Disabled
    | StopWanted
    | MasterDownExpired
    | AdvertiseDue
    | AnnounceDue
    | PeerOutranks
    | PeerWorse
    | PeerLives
    | PeerYields
    | PeerBowedOut
    | DemotionChanged
    | LeaseLapsed
    | Outranked
    | LeaderLeft
    | SendRecovered
)
