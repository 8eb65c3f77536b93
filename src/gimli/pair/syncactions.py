"""What may state sync order? The runtime carries it out and decides nothing."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Mode(enum.Enum):
    """Where a replica keeps the owner's connections."""

    CACHE = "cache"
    """In memory, and in the kernel from a takeover on."""
    KERNEL = "kernel"
    """In memory and in the kernel, at once."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a datagram to the peer."""

    datagram: bytes


@dataclass(frozen=True, slots=True)
class Apply:
    """Write these messages to the kernel, in this order: insertions, updates and deletions."""

    messages: list[bytes]


@dataclass(frozen=True, slots=True)
class Listen:
    """Take the kernel's events from now on, or no more.

    Args:
        wanted: whether to.
    """

    wanted: bool


@dataclass(frozen=True, slots=True)
class Dump:
    """Read the kernel's table from its beginning and hand it over; a dump that is under way is given up."""


@dataclass(frozen=True, slots=True)
class RememberEpoch:
    """Keep this epoch on disk; after a restart it is the least that was seen."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Outranked:
    """Another owner has a higher reign: the leading vhid steps down. Sync follows it already."""

    epoch: int


@dataclass(frozen=True, slots=True)
class AdvertisementOverSync:
    """The peer's CARP packet came over the sync link."""

    packet: bytes


@dataclass(frozen=True, slots=True)
class Synchronised:
    """This replica has all that its owner has."""


@dataclass(frozen=True, slots=True)
class Unsynchronised:
    """This replica has no longer all that its owner has, or does not know."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Something for the journal."""

    event: str
    details: dict[str, object] = field(default_factory=dict)


Action = (
    Send
    | Apply
    | Listen
    | Dump
    | RememberEpoch
    | Outranked
    | AdvertisementOverSync
    | Synchronised
    | Unsynchronised
    | Tell
)
