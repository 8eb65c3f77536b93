"""Which of two nodes is MASTER?

Who is less demoted; among those, who advertises more often; among equals, whose address is lower. Every
advertisement is judged by that, and becomes the event that moves the machine of ``gimli.pair.carp``.

As OpenBSD does it (sys/netinet/ip_carp.c, carp_proto_input_c()), with these differences:

- Equal MASTERs: OpenBSD's both yield. Here, as in ucarp, the one with the lower address stays; addresses are
  compared as ucarp compares them, last byte first.
- A bow-out is one whatever the settings. OpenBSD's rule for it (theirs > 3 * advbase) is off in the fast
  mode, and its MASTER would even yield to the bow-out of a node that is less demoted.
- A MASTER that is slow beyond our dead time, and less demoted than we are, is waited for as long as its own
  interval asks. OpenBSD takes over, yields at the MASTER's next advertisement, and so on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.pair.carp_events import PeerBowedOut, PeerLives, PeerOutranks, PeerWorse, PeerYields
from gimli.pair.vhid import (
    Peer,
    Role,
    interval_256ths,
    master_down_interval_s,
)

if TYPE_CHECKING:
    from gimli.pair.carp_events import Event
    from gimli.pair.packet import Address, Heard
    from gimli.pair.vhid import Vhid


def judge_advertisement(vhid: Vhid, heard: Heard) -> Event:
    """Which event an advertisement is that was verified.

    Args:
        vhid: as it is now.
        heard: of the same vhid, from another node. Its source is the peer's on the vhid's interface also when
            it came by another path: equals are ranked by it.
    """
    advertisement = heard.advertisement
    peer = Peer(heard.source, advertisement.advbase, advertisement.advskew, advertisement.demotion)
    if advertisement.is_bow_out:
        return PeerBowedOut(peer)
    return _judge_as_master(vhid, peer) if vhid.role is Role.MASTER else _judge_as_backup(vhid, peer)


def _judge_as_master(vhid: Vhid, peer: Peer) -> Event:
    patience_s = patience_with_s(vhid, peer)
    if peer.demotion != vhid.demotion:
        why = _compare_demotions(vhid, peer)
        if peer.demotion < vhid.demotion:
            return PeerOutranks(peer, why, patience_s)
        return PeerWorse(peer, why)
    ours = interval_256ths(vhid.advbase, vhid.advskew)
    theirs = interval_256ths(peer.advbase, peer.advskew)
    if theirs != ours:
        why = _compare_intervals(vhid, peer)
        return PeerOutranks(peer, why, patience_s) if theirs < ours else PeerWorse(peer, why)
    if peer.source.version != vhid.source.version:
        return PeerLives(peer, patience_s)
    if _is_lower(vhid.source, peer.source):
        return PeerWorse(peer, f"{peer.source} is our equal, and our address {vhid.source} ranks before it")
    return PeerOutranks(
        peer, f"{peer.source} is our equal, and ranks before our address {vhid.source}", patience_s
    )


def _judge_as_backup(vhid: Vhid, peer: Peer) -> Event:
    ours = interval_256ths(vhid.advbase, vhid.advskew)
    theirs = interval_256ths(peer.advbase, peer.advskew)
    if peer.demotion > vhid.demotion:
        return PeerYields(peer, _compare_demotions(vhid, peer))
    if peer.demotion == vhid.demotion:
        if vhid.preempt and ours < theirs:
            return PeerYields(peer, f"preempted: {_compare_intervals(vhid, peer)}")
        if vhid.advbase and theirs > 256 * master_down_interval_s(vhid.advbase, vhid.advskew):
            return PeerYields(peer, f"{_compare_intervals(vhid, peer)}: more than our dead time")
    return PeerLives(peer, patience_with_s(vhid, peer))


def patience_with_s(vhid: Vhid, peer: Peer) -> float:
    """Seconds of silence after which a BACKUP holds that MASTER for dead."""
    own_s = master_down_interval_s(vhid.advbase, vhid.advskew)
    if peer.demotion >= vhid.demotion and vhid.advbase:
        return own_s  # if it is slower than that, it yields to us: the protocol's own rule
    # The rule takes the MASTER to have our advbase. Here with the one that it has. In the fast mode with its
    # handicap as well, which is its interval: its lease may hold for that long.
    return max(own_s, master_down_interval_s(peer.advbase, vhid.advskew if peer.advbase else peer.advskew))


def _is_lower(ours: Address, theirs: Address) -> bool:
    """Whether our address is the lower one as ucarp compares, on a machine with its last byte first."""
    return ours.packed[::-1] < theirs.packed[::-1]


def _compare_demotions(vhid: Vhid, peer: Peer) -> str:
    sign = "<" if peer.demotion < vhid.demotion else ">"
    because = f", because {vhid.demoted_because}" if sign == "<" and vhid.demoted_because else ""
    return f"peer's demotion {peer.demotion} {sign} ours {vhid.demotion}{because}"


def _compare_intervals(vhid: Vhid, peer: Peer) -> str:
    theirs = _every(peer.advbase, peer.advskew)
    return f"peer advertises every {theirs}, we every {_every(vhid.advbase, vhid.advskew)}"


def _every(advbase: int, advskew: int) -> str:
    """An interval as it was set: rounded, two that differ might read the same."""
    if advbase == 0:
        return f"{max(advskew, 1)}/256 s"
    return f"{advbase} s + {advskew}/256 s" if advskew else f"{advbase} s"
