"""What does the machine of a vhid order? Frozen, without behaviour; the node carries them out, in order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gimli.pair.vhid import Peer, Role


class Timer(Enum):
    """A deadline of a vhid. There is one of each; arming it again moves it."""

    MASTER_DOWN = "master-down"
    ADVERTISE = "advertise"
    ANNOUNCE = "announce"


@dataclass(frozen=True, slots=True)
class SendAdvertisement:
    """Send one by every path."""

    advbase: int
    advskew: int
    demotion: int


@dataclass(frozen=True, slots=True)
class SendBowOut:
    """Send the advertisement of a MASTER that goes (``Authenticator.bow_out``) by every path."""


@dataclass(frozen=True, slots=True)
class SendBowOutOverSync:
    """Send it over the sync link only: on the interface the fence is down, and others are not concerned."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Let a timer run out after that time; one that is armed is moved."""

    timer: Timer
    after_s: float


@dataclass(frozen=True, slots=True)
class Disarm:
    """Forget a timer, armed or not."""

    timer: Timer


@dataclass(frozen=True, slots=True)
class TakeLease:
    """Lift the fence: from now on the kernel lets frames of the vhid in and out."""


@dataclass(frozen=True, slots=True)
class DropLease:
    """Fence the vhid off: no frame of it comes in or goes out, whatever this host still has."""


@dataclass(frozen=True, slots=True)
class TakeAddresses:
    """Have the addresses."""


@dataclass(frozen=True, slots=True)
class DropAddresses:
    """Have them no more; an order to make sure of, also when they were never taken."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the link where the addresses are (``gimli.pair.announce``)."""


@dataclass(frozen=True, slots=True)
class Tell:
    """For the journal: the role has changed."""

    role: Role
    why: str


@dataclass(frozen=True, slots=True)
class TellDeaf:
    """For the journal: a peer does not hear us. Once in a contest."""

    peer: Peer
    why: str


Action = (
    SendAdvertisement
    | SendBowOut
    | SendBowOutOverSync
    | Arm
    | Disarm
    | TakeLease
    | DropLease
    | TakeAddresses
    | DropAddresses
    | Announce
    | Tell
    | TellDeaf
)
