"""What is known of one vhid?

Its settings, its role, and what was last heard; and the times that follow from the settings. Values only:
what changes them is ``gimli.pair.carp``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gimli.pair.packet import Address

ANNOUNCE_AGAIN_S_MIN = 1.0
"""Not sooner than this, in the fast mode: the second announcement is for switches that were still busy with
the first one, and they are no faster for that."""


class Role(Enum):
    """The three states of the protocol; the value is its name in the status."""

    INIT = "INIT"
    BACKUP = "BACKUP"
    MASTER = "MASTER"


@dataclass(frozen=True, slots=True)
class Peer:
    """What another node of the group last said of itself.

    Args:
        source: its address.
        advbase: seconds, one byte.
        advskew: 1/256 s, one byte.
        demotion: how unfit it holds itself, one byte.
    """

    source: Address
    advbase: int
    advskew: int
    demotion: int


@dataclass(frozen=True, slots=True)
class Contest:
    """A lower-ranked node that is MASTER beside us.

    Args:
        sent: our advertisements since it was first heard.
        quiet: those of them since it was last heard.
        told: it was said that it does not hear us.
    """

    sent: int = 0
    quiet: int = 0
    told: bool = False


@dataclass(frozen=True, slots=True)
class Vhid:
    """One group, as this node is in it.

    Args:
        vhid: 1-255.
        advbase: seconds between two advertisements, 0-255.
        advskew: 1/256 s more between them, and the handicap of this node, 0-254. 255 is a bow-out's.
        preempt: whether it takes over from a MASTER that it outranks.
        source: the address its advertisements come from; of the family by which equals are ranked.
        role: its role.
        demotion: how unfit it holds itself, 0-255.
        demoted_because: the reasons, in words; empty when there are none.
        peer: the MASTER last heard, while BACKUP; whoever else advertises, while MASTER.
        announcing: a second announcement is due.
        contest: it goes on while a lower-ranked MASTER does not step down.
    """

    vhid: int
    advbase: int
    advskew: int
    preempt: bool
    source: Address
    role: Role = Role.INIT
    demotion: int = 0
    demoted_because: str = ""
    peer: Peer | None = None
    announcing: bool = field(default=False, repr=False)
    contest: Contest | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, number, lowest, highest in (
            ("vhid", self.vhid, 1, 255),
            ("advbase", self.advbase, 0, 255),
            ("advskew", self.advskew, 0, 254),
            ("demotion", self.demotion, 0, 255),
        ):
            if not lowest <= number <= highest:
                raise ValueError(f"{name} is {number}, {lowest} to {highest} fit")


def interval_256ths(advbase: int, advskew: int) -> int:
    """What two nodes are ranked by, in 1/256 s: who advertises more often is MASTER.

    Source: the comparisons of sc_tv and ch_tv in OpenBSD carp_proto_input_c().
    """
    return advbase * 256 + advskew


def advertise_interval_s(advbase: int, advskew: int) -> float:
    """Seconds between two advertisements: advbase + advskew/256, at least 1/256.

    Source: OpenBSD carp_send_ad(), where 0 and 0 is 1/256 s.
    """
    return max(interval_256ths(advbase, advskew), 1) / 256


def master_down_interval_s(advbase: int, advskew: int) -> float:
    """Seconds of silence after which a BACKUP with these settings takes over.

    Three intervals of the MASTER, taken to have the same advbase, and this node's own handicap. In the fast
    mode (advbase 0) the handicap is all there is: three of them.

    Source: OpenBSD carp_setrun() up to its change to microseconds, and ucarp's, where the 3 is `dead_ratio`.
    Later ones wait for 3 * (advbase + advskew/256): longer, and never shorter.
    """
    if advbase == 0:
        return 3 * max(advskew, 1) / 256
    return 3 * advbase + advskew / 256


def newcomer_patience_s(advbase: int, advskew: int) -> float:
    """Seconds of silence after which a node takes over that has no connections, though another one may.

    More than any other waits, whatever its handicap and with the time between two starts: of two nodes that
    come back at once, the one whose kernel has the connections is MASTER again.
    """
    return master_down_interval_s(advbase, advskew) + (1.5 if advbase else 0.5)


def announce_again_s(advbase: int, advskew: int) -> float:
    """Seconds from one announcement to the next: about two advertisements.

    Source: sc_delayed_arp in OpenBSD carp_master_down().
    """
    return max(2 * advertise_interval_s(advbase, advskew), ANNOUNCE_AGAIN_S_MIN)
