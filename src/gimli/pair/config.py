"""What does a pair.toml say, once it has been checked? Values only."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from gimli.pair.syncactions import Mode

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface


class Mac(enum.Enum):
    """Which link-layer address answers for the virtual addresses."""

    VIRTUAL = "virtual"
    """00:00:5e:00:01:VHID on an interface of its own: no neighbour has to learn anything at a takeover."""
    REAL = "real"
    """The interface's own, as ucarp does: neighbours learn it from gratuitous ARP."""


@dataclass(frozen=True, slots=True)
class Carp:
    """One ``[[carp]]``: an address that one of the nodes has.

    Args:
        vhid: 1 to 255, the same at both nodes.
        interface: where it is.
        addresses: the virtual ones, with their prefixes.
        password: 20 bytes at most count.
        advbase_s: whole seconds between advertisements; 0 is the fast mode.
        advskew: 1/256 s more; the higher one yields.
        preempt: take over from a node that is less fit, and not only from one that is gone.
        mac: which link-layer address answers.
        peers: unicast instead of multicast, where a cloud or a switch wants it.
        strict_replay: demand rising counters, which nodes other than gimli's do not have.
        up: run when the node becomes MASTER, with the interface and the first address, as ucarp does.
        down: run when it has ceased to be.
    """

    vhid: int
    interface: str
    addresses: tuple[Interface, ...]
    password: bytes = field(repr=False)
    advbase_s: int = 1
    advskew: int = 0
    preempt: bool = False
    mac: Mac = Mac.VIRTUAL
    peers: tuple[Address, ...] = ()
    strict_replay: bool = False
    up: tuple[str, ...] = ()
    down: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sync:
    """``[sync]``: connections go to the other node.

    Args:
        interface: the link, which should carry nothing else.
        peer: the other node's address there.
        port: UDP, the same at both nodes.
        mode: when the backup's kernel gets them.
        password: authenticates the datagrams.
        ignore: networks, whose connections are not replicated.
    """

    interface: str
    peer: Address
    password: bytes = field(repr=False)
    port: int = 3781
    mode: Mode = Mode.CACHE
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Guard:
    """``[guard]``: frames of another node are dropped before anything here sees them.

    Args:
        interfaces: where; those with a vhid are always among them.
        is_on: switched off by force, for a laboratory: a flooded frame then does what it did in the story.
    """

    interfaces: tuple[str, ...]
    is_on: bool = True


@dataclass(frozen=True, slots=True)
class Track:
    """``[track]``: what makes this node less fit to be MASTER.

    Args:
        services: of a monitor on this host.
        interfaces: that must have a carrier.
        default_route: whether there must be one.
        command: that must exit with 0.
        interval_s: between two looks.
        demotion: for each that fails.
    """

    services: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    default_route: bool = False
    command: tuple[str, ...] = ()
    interval_s: float = 1.0
    demotion: int = 32


@dataclass(frozen=True, slots=True)
class Pair:
    """A whole pair.toml. The first of ``carp`` leads: it decides whose connections are replicated."""

    carp: tuple[Carp, ...]
    guard: Guard
    sync: Sync | None = None
    track: Track = field(default_factory=Track)
