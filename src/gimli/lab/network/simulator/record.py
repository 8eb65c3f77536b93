"""What is there to be told of a run? Values: entries of its log, the fate of each connection, counters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from gimli.lab.network.simulator.frames import FIN, RST, words_of_flags

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gimli.lab.network.topology import Topology


@dataclass(frozen=True, slots=True)
class PeerView:
    """A peer of a state, as it was."""

    seqlo: int
    seqhi: int
    max_win: int
    wscale: int
    state: int


@dataclass(frozen=True, slots=True)
class PacketView:
    """A TCP segment, as it was.

    Args:
        is_again: it was sent before.
    """

    flags: int
    seq: int
    length: int
    ack: int
    is_again: bool

    @property
    def end(self) -> int:
        """Behind its last byte."""
        return self.seq + self.length

    @property
    def is_fin(self) -> bool:
        """Whether its sender has nothing more to say."""
        return bool(self.flags & FIN)

    @property
    def is_reset(self) -> bool:
        """Whether its sender gives the connection up."""
        return bool(self.flags & RST)

    def __str__(self) -> str:
        return f"{words_of_flags(self.flags)} seq {self.seq}..{self.end} ack {self.ack}"


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened.

    Args:
        t_s: since the start.
        where: on which host.
        connection: its number; 0 where it is about none.
    """

    t_s: float
    where: str
    connection: int


@dataclass(frozen=True, slots=True)
class Told(Entry):
    """Said in words: roles, faults, what an application did."""

    what: str
    words: str


@dataclass(frozen=True, slots=True)
class Tracked(Entry):
    """A packet moved a state on: traced connections only.

    Args:
        is_copy: it came in a frame to a group MAC.
    """

    interface: str
    packet: PacketView
    is_copy: bool
    is_from_src: bool
    state: int
    src: PeerView
    dst: PeerView


@dataclass(frozen=True, slots=True)
class Updated(Entry):
    """A firewall sent an update: traced connections only.

    Args:
        is_master: whether it was one.
    """

    is_master: bool
    serial: int
    state: int
    creator: str
    src: PeerView
    dst: PeerView


@dataclass(frozen=True, slots=True)
class Merged(Entry):
    """A firewall merged an update of the other one.

    Args:
        back: by how many bytes each field went back: ``src.seqlo`` and so on; empty when none did.
    """

    serial: int
    state: int
    taken: str
    back: tuple[tuple[str, int], ...]
    src: PeerView
    dst: PeerView


@dataclass(frozen=True, slots=True)
class Dropped(Entry):
    """A packet that does not fit its state.

    Args:
        failed: the digits of the tests that failed.
        is_from_src: from who opened the connection.
    """

    interface: str
    packet: PacketView
    is_copy: bool
    failed: str
    is_from_src: bool
    ackskew: int
    state: int
    src: PeerView
    dst: PeerView


@dataclass(frozen=True, slots=True)
class HalfView:
    """What a Linux kernel knows of one direction, as it was."""

    end: int
    maxend: int
    maxwin: int


@dataclass(frozen=True, slots=True)
class Judged(Entry):
    """Linux has tracked a packet: of traced connections only, or because it does not fit.

    Args:
        is_original: from who opened the connection.
        wrong: why it does not fit; empty when it does.
        state: of the connection.
        is_replica: the pair has brought the connection, and no packet.
    """

    interface: str
    packet: PacketView
    is_copy: bool
    is_original: bool
    wrong: str
    state: str
    is_replica: bool
    original: HalfView
    reply: HalfView


class Freeze(Enum):
    """How a window that has moved back freezes a connection; as facts and docs name them."""

    F1 = "F1"
    """A sender's seqhi fell back: it had used its window, and nobody acknowledges anything any more."""
    F2 = "F2"
    """The answering side's seqlo fell back, and it has nothing to say: the next request is dropped."""
    F4 = "F4"
    """In the middle of an answer, seqlo fell back so far that both directions are blocked."""
    INVALID = "invalid"
    """Linux: what a replica knows of the windows is what copies of one direction told of them."""


@dataclass(slots=True)
class Fate:
    """What became of one connection.

    Args:
        number: of the connection.
        flow: from who opened it.
        is_backend: between a balancer and a server.
        answered: requests that were answered.
        unanswered: those that a client still had in mind, or was waiting for.
        was_open_at_fault: it stood when the first fault came.
        open_ends: ends that are not done with it.
        froze_s: the longest time in which nothing moved though something was owed.
        frozen_at_s: when that began.
        dropped: good packets dropped as BAD state.
        dropped_first: sequence number of the last of them that was not dropped before, and when it was.
        freeze: why its packets are dropped again and again; None when the next one healed it.
        serves: between a balancer and a server: the client's connection that it was used for last.
        back: how often a field of one of its states went back.
        is_stuck: it stood still when the run was over.
        ended: how: empty while it lasts.
    """

    number: int
    flow: str
    is_backend: bool
    opened_s: float
    answered: int = 0
    unanswered: int = 0
    was_open_at_fault: bool = False
    open_ends: int = 2
    froze_s: float = 0.0
    frozen_at_s: float = 0.0
    dropped: int = 0
    dropped_first: tuple[int, float] = (0, 0.0)
    freeze: Freeze | None = None
    serves: int = 0
    back: int = 0
    is_stuck: bool = False
    ended: str = ""
    ended_by: str = ""
    ended_s: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to tell of it."""
        return self.ended == "closed" and not (self.dropped or self.froze_s or self.unanswered)

    @property
    def is_lost(self) -> bool:
        """Whether the client did not get all its answers, and will not."""
        return bool(self.unanswered and (self.ended or self.is_stuck))


@dataclass(frozen=True, slots=True)
class RoleChange:
    """A firewall has become MASTER of a vhid, or is so no more."""

    t_s: float
    vhid: int
    where: str
    is_master: bool


@dataclass(frozen=True, slots=True)
class Run:
    """What a run leaves, as values.

    Args:
        log: what happened, in order.
        fates: of every connection that had trouble or that still lasts; between clients and balancers first.
        fine: connections of clients that ended well, and are in no list.
        counts: by what was counted, then by host.
        back_most: bytes that a field of a state went back at once.
        open_at_fault: connections of clients that stood when the first fault came.
        double_s: for how long a virtual address had more than one MASTER.
        roles: each time that a firewall became MASTER of a vhid, or was so no more, in order.
        events: how many events it took.
    """

    topology: Topology
    log: tuple[Entry, ...]
    fates: tuple[Fate, ...]
    fine: int
    answered: int
    counts: Mapping[str, Mapping[str, int]]
    back_most: int
    open_at_fault: int
    double_s: float
    roles: tuple[RoleChange, ...]
    events: int

    @property
    def masters(self) -> dict[str, float]:
        """When each firewall first became MASTER, of whatever."""
        first: dict[str, float] = {}
        for change in self.roles:
            if change.is_master:
                first.setdefault(change.where, change.t_s)
        return first

    def count(self, what: str, where: str = "") -> int:
        """How often, on one host or on all."""
        by_host = self.counts[what]
        return by_host.get(where, 0) if where else sum(by_host.values())


COUNTED = (
    "copies",
    "no_state",
    "bad_state",
    "bad_copies",
    "backwards",
    "stale_updates",
    "forwarded",
    "forwarded_groups",
    "guarded",
    "fenced",
    "resets",
    "ttl_ended",
    "returned",
)
"""Copies: frames to a group MAC that a firewall saw. No state, BAD state: dropped for that reason (BAD copies
apart); on Linux: without a connection, or invalid in it. Backwards: merges by which a field of a state went
back. Forwarded: by a firewall that was not MASTER; groups: in a frame that came to a group MAC. Guarded:
dropped by the guard. Fenced: for a virtual address, dropped for want of the lease. Resets: sent by hosts.
Returned: RSTs of ``block return``."""
