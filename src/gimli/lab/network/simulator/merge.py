"""What does a firewall take of another one's update of a state it knows? By OpenBSD's release.

    release     an update that is behind in ...     is
    4.4         a state or a seqlo of any peer      rejected whole
    4.5         dst.state only                      taken for src, rejected for dst; else as 4.4
    4.6 - 7.3   one peer                            rejected for that peer; but when src passes, a
                                                    rejected dst is copied all the same
    7.4 on      one peer                            rejected for that peer

A peer that is taken is taken whole: seqhi and max_win are compared by no release.

Source: pfsync_upd_tcp() and pfsync_in_upd_c() of sys/net/if_pfsync.c: before 1.110, 1.110, 1.125, 1.318.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.lab.network.simulator.pf import SYN_SENT
from gimli.lab.network.topology import Merge

if TYPE_CHECKING:
    from gimli.lab.network.simulator.pf import Peer, PfState

SRC, DST, SRC_STALE, DST_STALE = 1, 2, 4, 8
"""What was copied, and what had been judged stale. Plain numbers: there are tens of thousands a second."""
STALE = SRC_STALE | DST_STALE
_WORDS = ((SRC, "src taken"), (DST, "dst taken"), (SRC_STALE, "src stale"), (DST_STALE, "dst stale"))


def merge(rule: Merge, state: PfState, src: Peer, dst: Peer) -> int:
    """Apply an update to a state.

    Returns:
        What was copied and what was judged stale, as bits.
    """
    if rule is Merge.WHOLE or rule is Merge.WHOLE_BUT_SRC:
        return _merge_whole(rule, state, src, dst)
    ours = state.src
    if ours.state > src.state or (ours.state == src.state and ours.seqlo > src.seqlo):
        taken = SRC_STALE
    else:
        ours.take(src)
        taken = SRC
    ours = state.dst
    if ours.state > dst.state or (ours.state >= SYN_SENT and ours.seqlo > dst.seqlo):
        if rule is Merge.FORCED and taken == SRC:
            ours.take(dst)
            return SRC | DST | DST_STALE
        return taken | DST_STALE
    ours.take(dst)
    return taken | DST


def _merge_whole(rule: Merge, state: PfState, src: Peer, dst: Peer) -> int:
    if state.src.state > src.state or state.src.seqlo > src.seqlo:
        return SRC_STALE
    if state.dst.state > dst.state:
        if rule is Merge.WHOLE:
            return DST_STALE
        state.src.take(src)
        return SRC | DST_STALE
    if state.dst.state >= SYN_SENT and state.dst.seqlo > dst.seqlo:
        return DST_STALE
    state.src.take(src)
    state.dst.take(dst)
    return SRC | DST


def words_of(taken: int) -> str:
    """For a record."""
    return ", ".join(words for bit, words in _WORDS if taken & bit)
