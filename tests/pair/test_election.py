"""Who is MASTER: held against OpenBSD's rules, written down once more as it has them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gimli.pair.carp_events import (
    DemotionChanged,
    Enabled,
    PeerBowedOut,
    PeerLives,
    PeerOutranks,
    PeerWorse,
    PeerYields,
)
from gimli.pair.election import judge_advertisement
from gimli.pair.packet import BOW_OUT, GROUP4, Advertisement, Heard
from gimli.pair.vhid import Role, Vhid, master_down_interval_s
from tests.pair.virtual_link import LATENCY_S, VirtualLink, vhid

PACES = [(0, 0), (0, 1), (0, 2), (0, 254), (1, 0), (1, 1), (1, 100), (3, 0), (3, 1), (4, 0), (255, 254)]
DEMOTIONS = [0, 1, 32, 255]
CASES = list(itertools.product(PACES, DEMOTIONS, PACES, DEMOTIONS))


def heard(source: str, advbase: int, advskew: int, demotion: int) -> Heard:
    return Heard(IPv4Address(source), GROUP4, Advertisement(1, advbase, advskew, demotion, 0, b""))


def pace_us(advbase: int, advskew: int) -> tuple[int, int]:
    """OpenBSD's struct timeval of a pace."""
    return advbase, advskew * 1_000_000 // 256


def openbsd_master_yields(
    ours: tuple[int, int], demoted: int, theirs: tuple[int, int], peer_demoted: int
) -> bool:
    return (pace_us(*ours) >= pace_us(*theirs) and peer_demoted <= demoted) or peer_demoted < demoted


def openbsd_backup_takes_over(
    ours: tuple[int, int], demoted: int, theirs: tuple[int, int], peer_demoted: int, *, preempt: bool
) -> bool:
    if preempt and pace_us(*ours) < pace_us(*theirs) and peer_demoted >= demoted:
        return True
    if peer_demoted > demoted:
        return True
    three_times = (3 * ours[0], pace_us(*ours)[1])
    return ours[0] != 0 and three_times < pace_us(*theirs)


def test_a_master_yields_when_openbsd_does_except_to_an_equal():
    """1,936 pairs. Two equals that both yield, as there, leave nobody until the dead time ends."""
    for ours, demoted, theirs, peer_demoted in CASES:
        master = vhid(2, advbase=ours[0], advskew=ours[1], demotion=demoted, role=Role.MASTER)
        found = {
            source: judge_advertisement(master, heard(source, *theirs, peer_demoted))
            for source in ("192.0.2.1", "192.0.2.3")
        }
        yields = {source: isinstance(event, PeerOutranks) for source, event in found.items()}
        assert all(isinstance(event, (PeerOutranks, PeerWorse)) for event in found.values())
        if (ours, demoted) == (theirs, peer_demoted):
            assert yields == {"192.0.2.1": True, "192.0.2.3": False}
        else:
            expected = openbsd_master_yields(ours, demoted, theirs, peer_demoted)
            assert set(yields.values()) == {expected}, (ours, demoted, theirs, peer_demoted)


@pytest.mark.parametrize("preempt", [False, True])
def test_a_backup_takes_over_when_openbsd_does_except_from_one_that_would_not_yield(preempt: bool):  # noqa: FBT001 - parametrised
    """The exception: a slow MASTER that is less demoted. It is waited for by its own interval."""
    exceptions = 0
    for ours, demoted, theirs, peer_demoted in CASES:
        backup = vhid(
            2, advbase=ours[0], advskew=ours[1], demotion=demoted, preempt=preempt, role=Role.BACKUP
        )
        event = judge_advertisement(backup, heard("192.0.2.1", *theirs, peer_demoted))
        expected = openbsd_backup_takes_over(ours, demoted, theirs, peer_demoted, preempt=preempt)
        if expected and peer_demoted < demoted:
            exceptions += 1
            assert not openbsd_master_yields(theirs, peer_demoted, ours, demoted)
            assert isinstance(event, PeerLives)
            assert event.patience_s > 2 * theirs[0]
        else:
            assert isinstance(event, PeerYields if expected else PeerLives), (
                ours,
                demoted,
                theirs,
                peer_demoted,
            )
    assert exceptions > 0


@given(st.data())
def test_of_two_masters_exactly_one_yields(data: st.DataObject):
    """Not none, which would be two for ever; not both, which would be none for the dead time."""
    a, b = (draw_vhid(data, number, (0, 1, 2, 255)) for number in (1, 2))
    a, b = (replace(node, role=Role.MASTER) for node in (a, b))
    verdicts = [
        judge_advertisement(us, Heard(peer.source, GROUP4, advertisement_of(peer)))
        for us, peer in ((a, b), (b, a))
    ]
    assert {type(verdict) for verdict in verdicts} == {PeerOutranks, PeerWorse}


def advertisement_of(node: Vhid) -> Advertisement:
    return Advertisement(node.vhid, node.advbase, node.advskew, node.demotion, 0, b"")


def draw_vhid(data: st.DataObject, number: int, advbases: tuple[int, ...]) -> Vhid:
    return vhid(
        number,
        advbase=data.draw(st.sampled_from(advbases)),
        advskew=data.draw(st.sampled_from([2, 3, 100, 254])),
        preempt=data.draw(st.booleans()),
        demotion=data.draw(st.sampled_from([0, 0, 0, 1, 32, 255])),
    )


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("advbase", [0, 1, 255])
@pytest.mark.parametrize("demotion", [0, 32])
def test_a_bow_out_is_one_whatever_the_settings(role: Role, advbase: int, demotion: int):
    """OpenBSD's rule for it is off where advbase is 0, and its MASTER yields to one that is less demoted."""
    node = vhid(advbase=advbase, demotion=demotion, role=role)
    event = judge_advertisement(node, heard("192.0.2.2", BOW_OUT, BOW_OUT, 0))
    assert isinstance(event, PeerBowedOut)


def test_equals_are_ranked_as_ucarp_ranks_them():
    """It compares the addresses as they lie in memory on x86, last byte first: 10.0.0.9 is above 10.0.1.1."""
    ours = replace(vhid(), source=IPv4Address("10.0.0.9"), role=Role.MASTER)
    event = judge_advertisement(ours, heard("10.0.1.1", 1, 0, 0))
    assert isinstance(event, PeerOutranks)
    assert event.why == "10.0.1.1 is our equal, and ranks before our address 10.0.0.9"


def test_equals_are_ranked_by_the_addresses_of_one_family_only():
    """IPv4 might rank one before the other, and IPv6 the other before the one: both would yield."""
    ours = replace(vhid(2), role=Role.MASTER)
    event = judge_advertisement(
        ours, Heard(IPv6Address("fe80::1"), IPv6Address("ff02::12"), advertisement_of(ours))
    )
    assert isinstance(event, PeerLives)


def test_reasons_name_the_numbers_and_what_is_behind_them():
    demoted = vhid(demotion=32, demoted_because="service web is FAILED", role=Role.MASTER)
    outranked = judge_advertisement(demoted, heard("192.0.2.2", 1, 100, 0))
    assert isinstance(outranked, PeerOutranks)
    assert outranked.why == "peer's demotion 0 < ours 32, because service web is FAILED"
    slow = judge_advertisement(vhid(role=Role.BACKUP), heard("192.0.2.2", 10, 1, 0))
    assert isinstance(slow, PeerYields)
    assert slow.why == "peer advertises every 10 s + 1/256 s, we every 1 s: more than our dead time"
    fast = judge_advertisement(vhid(advbase=0, preempt=True, role=Role.BACKUP), heard("192.0.2.2", 0, 3, 0))
    assert isinstance(fast, PeerYields)
    assert fast.why == "preempted: peer advertises every 3/256 s, we every 1/256 s"


@settings(max_examples=500)
@given(st.data(), st.sampled_from([(0,), (0, 1), (1, 2, 3, 4, 10), (10, 85, 255)]))
def test_two_machines_come_to_exactly_one_master(data: st.DataObject, advbases: tuple[int, ...]):
    """Whatever their settings, their demotions, and when each was enabled: within twice the longer dead time.

    The link loses nothing. While they settle, two are MASTER for no longer than advertisements are under way.
    """
    link = VirtualLink(*(draw_vhid(data, number, advbases) for number in (1, 2)))
    a, b = link.nodes
    dead_s = max(master_down_interval_s(node.vhid.advbase, node.vhid.advskew) for node in link.nodes)
    apart_s = data.draw(st.sampled_from([0.0, LATENCY_S, 0.3, 1.0, 1.5])) * dead_s
    link.at(0.0, lambda: link.give(a, Enabled()))
    link.at(apart_s, lambda: link.give(b, Enabled()))
    link.run_until(apart_s + 2 * dead_s)
    assert len(link.masters()) == 1
    assert link.masters_s <= 4 * LATENCY_S
    settled_s = link.changed_s
    link.run_until(link.now_s + 2 * dead_s)
    assert link.changed_s == settled_s


@given(st.data(), st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0, 1, 32, 255])), max_size=6))
def test_demotions_that_change_leave_one_master(data: st.DataObject, changes: list[tuple[str, int]]):
    """The one that is less demoted, unless both are the same: at most one interval after the last change."""
    link = VirtualLink(*(draw_vhid(data, number, (1, 2)) for number in (1, 2)))
    for node in link.nodes:
        link.give(node, Enabled())
    link.run_until(14.0)
    for name, total in changes:
        link.give(link.node(name), DemotionChanged(total, "it is a test"))
        link.run_until(link.now_s + data.draw(st.sampled_from([0.0, LATENCY_S, 0.5, 4.0])))
    link.run_until(link.now_s + 3.0)
    (master,) = link.masters()
    assert link.node(master).vhid.demotion == min(node.vhid.demotion for node in link.nodes)


@given(st.lists(st.sampled_from([0, 1, 2]), min_size=3, max_size=3), st.data())
def test_three_machines_come_to_exactly_one_master(starts: list[int], data: st.DataObject):
    """The protocol knows no number of nodes, and the election is transitive."""
    link = VirtualLink(*(draw_vhid(data, number, (1, 2)) for number in (1, 2, 3)))
    for node, start in zip(link.nodes, starts, strict=True):
        link.at(float(start), lambda node=node: link.give(node, Enabled()))
    link.run_until(30.0)
    assert len(link.masters()) == 1


def test_in_the_fast_mode_a_slower_master_is_waited_for_as_long_as_its_lease_may_hold():
    """Frozen, it answers for up to 0.8 of three intervals of its own: ours are none of its business."""
    judged = judge_advertisement(vhid(advbase=0, advskew=5, role=Role.BACKUP), heard("192.0.2.2", 0, 20, 0))
    assert isinstance(judged, PeerLives)
    assert judged.patience_s == 60 / 256
