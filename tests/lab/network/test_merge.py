"""Which peers of an update are taken: the table of facts, by release, every row and column."""

from __future__ import annotations

import itertools

import pytest

from gimli.lab.network.simulator.frames import pair_of_flows
from gimli.lab.network.simulator.merge import DST, DST_STALE, SRC, SRC_STALE, merge, words_of
from gimli.lab.network.simulator.pf import CLOSING, ESTABLISHED, SYN_SENT, Peer, PfState
from gimli.lab.network.topology import FORWARDS_GROUPS, MERGES, Merge, Pf, Release

FLOW = pair_of_flows("198.51.100.9", 40122, "192.0.2.10", 80, 1)
SAME, AHEAD, BEHIND_SEQLO, BEHIND_STATE = "same", "ahead", "behind in seqlo", "behind in state"
HERE = Peer(1000, 50_000, 8000, 3, ESTABLISHED)
UPDATES = {
    SAME: Peer(1000, 40_000, 7000, 3, ESTABLISHED),
    AHEAD: Peer(2000, 40_000, 7000, 3, ESTABLISHED),
    BEHIND_SEQLO: Peer(999, 40_000, 7000, 3, ESTABLISHED),
    BEHIND_STATE: Peer(2000, 40_000, 7000, 3, SYN_SENT),
}
"""What the update says of a peer. A stale seqhi and max_win are in each of them."""
TAKEN = {SAME: True, AHEAD: True, BEHIND_SEQLO: False, BEHIND_STATE: False}
BOTH, NEITHER, ONLY_SRC, ONLY_DST = (True, True), (False, False), (True, False), (False, True)


def expected(rule, src, dst):
    """Which of the two are taken, as the table has it."""
    passes = TAKEN[src], TAKEN[dst]
    if rule is Merge.PER_PEER:
        return passes
    if rule is Merge.FORCED:
        return BOTH if passes[0] else passes
    if passes == BOTH:
        return BOTH
    if rule is Merge.WHOLE_BUT_SRC and passes == ONLY_SRC and dst == BEHIND_STATE:
        return ONLY_SRC
    return NEITHER


def state():
    return PfState(1, FLOW, FLOW, "ext", "fw1", HERE.copy(), HERE.copy(), is_out=False)


@pytest.mark.parametrize(("src", "dst"), list(itertools.product(UPDATES, UPDATES)))
@pytest.mark.parametrize("release", list(Release), ids=lambda release: release.value)
def test_an_update_is_taken_as_its_release_does(release, src, dst):
    rule = MERGES[release]
    merged = state()
    bits = merge(rule, merged, UPDATES[src], UPDATES[dst])
    want = expected(rule, src, dst)
    assert (repr(merged.src) == repr(UPDATES[src]), repr(merged.dst) == repr(UPDATES[dst])) == want
    assert (bool(bits & SRC), bool(bits & DST)) == want
    is_stale = not (TAKEN[src] and TAKEN[dst])
    assert bool(bits & (SRC_STALE | DST_STALE)) == is_stale, "who is behind is told"


def test_the_forced_copy_moves_a_window_back():
    """The row of the incident: src passes, dst is judged stale, and is copied all the same."""
    merged = state()
    bits = merge(Merge.FORCED, merged, UPDATES[AHEAD], UPDATES[BEHIND_SEQLO])
    assert merged.dst.seqlo == 999 < HERE.seqlo
    assert words_of(bits) == "src taken, dst taken, dst stale"


@pytest.mark.parametrize("rule", list(Merge))
def test_no_release_compares_seqhi_or_max_win(rule):
    """So a peer that is taken may bring a window that is long past: F1."""
    merged = state()
    merge(rule, merged, UPDATES[SAME], UPDATES[SAME])
    assert merged.src.seqhi == merged.dst.seqhi == 40_000 < HERE.seqhi
    assert merged.src.max_win == 7000 < HERE.max_win


def test_a_dst_that_has_not_spoken_is_never_behind():
    merged = state()
    merged.dst = Peer(1000, 1, 1)
    assert not merge(Merge.PER_PEER, merged, UPDATES[SAME], Peer(0, 1, 1)) & DST_STALE


def test_a_later_state_outranks_an_earlier_seqlo_of_src():
    """Only src of the same state is compared by seqlo; so from 4.6 on."""
    later = Peer(10, 40_000, 7000, 3, CLOSING)
    assert merge(Merge.PER_PEER, state(), later, UPDATES[SAME]) & SRC
    assert merge(Merge.WHOLE, state(), later, UPDATES[SAME]) == SRC_STALE


def test_releases_set_merging_and_forwarding_and_each_can_be_set_alone():
    assert [release.value for release in Release if release in FORWARDS_GROUPS] == ["4.4", "4.5", "4.6"]
    assert Pf(Release.V4_6).is_forwarding_groups
    assert not Pf(Release.V4_7).is_forwarding_groups
    assert Pf(Release.V4_6).merging is Pf(Release.V4_7).merging is Merge.FORCED
    assert not Pf(Release.V4_6, forwards_groups=False).is_forwarding_groups
    assert Pf(Release.V7_4, merge=Merge.FORCED).merging is Merge.FORCED
