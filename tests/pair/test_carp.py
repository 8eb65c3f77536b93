"""The machine of a vhid: its table is complete, and whatever happens in whatever order, its promises hold."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.pair import carp, carp_actions, carp_events
from gimli.pair.carp import CONTEST_ADVERTISEMENTS_MAX, TABLE
from gimli.pair.carp_actions import (
    Announce,
    Arm,
    Disarm,
    DropAddresses,
    DropLease,
    SendAdvertisement,
    SendBowOut,
    SendBowOutOverSync,
    TakeAddresses,
    TakeLease,
    Tell,
    TellDeaf,
    Timer,
)
from gimli.pair.vhid import Peer, Role, Vhid, advertise_interval_s
from tests.pair.virtual_link import VirtualLink, vhid

PEER = Peer(vhid(2).source, advbase=1, advskew=100, demotion=0)
WORSE = carp_events.PeerWorse(PEER, "it is slower")
SAMPLES: dict[type, carp_events.Event] = {
    type(event): event
    for event in (
        carp_events.Enabled(),
        carp_events.Disabled("the link is down"),
        carp_events.StopWanted(),
        carp_events.MasterDownExpired(3.39),
        carp_events.AdvertiseDue(),
        carp_events.AnnounceDue(),
        carp_events.PeerOutranks(PEER, "it is fitter", 3.0),
        WORSE,
        carp_events.PeerLives(PEER, 3.0),
        carp_events.PeerYields(PEER, "it is less fit"),
        carp_events.PeerBowedOut(PEER),
        carp_events.DemotionChanged(32, "service web is FAILED"),
        carp_events.LeaseLapsed(7.2),
        carp_events.Outranked(7),
        carp_events.LeaderLeft(1),
        carp_events.SendRecovered(),
    )
}
PAIRS = [(role, event) for role in Role for event in SAMPLES]


def run(node: Vhid, *events: carp_events.Event) -> tuple[Vhid, list[carp_actions.Action]]:
    """All of the events, one after the other."""
    ordered: list[carp_actions.Action] = []
    for event in events:
        node, actions = carp.step(node, event)
        ordered += actions
    return node, ordered


def master(**more: object) -> Vhid:
    """A MASTER whose second announcement is over."""
    return run(vhid(**more), *map(SAMPLES.get, _TO_MASTER))[0]  # type: ignore[arg-type]  # each is there


_TO_MASTER = (carp_events.Enabled, carp_events.MasterDownExpired, carp_events.AnnounceDue)


def test_there_is_a_sample_of_every_event():
    assert set(SAMPLES) == set(get_args(carp_events.Event))


@pytest.mark.parametrize(
    ("role", "event"), PAIRS, ids=lambda part: getattr(part, "name", None) or part.__name__
)
def test_every_pair_of_role_and_event_has_a_row(role: Role, event: type):
    """A row that does nothing says why."""
    row = TABLE[role][event]
    if row.effect is carp._nothing:
        assert row.because
        assert row.target is role
    assert set(TABLE[role]) == set(SAMPLES)


def test_a_takeover_advertises_at_once_takes_announces_and_says_why():
    """The lease is first, or nothing gets out; then the advertisement: the old MASTER lets go meanwhile."""
    backup, _ = run(vhid(advskew=100), carp_events.Enabled())
    node, actions = run(backup, carp_events.MasterDownExpired(3.3912))
    assert node.role is Role.MASTER
    assert actions == [
        Disarm(Timer.MASTER_DOWN),
        TakeLease(),
        SendAdvertisement(1, 100, 0),
        Arm(Timer.ADVERTISE, 1.390625),
        TakeAddresses(),
        Announce(),
        Arm(Timer.ANNOUNCE, 2.78125),
        Tell(Role.MASTER, "took over: no advertisement for 3.4 s"),
    ]
    assert run(node, carp_events.AnnounceDue())[1] == [Announce()]


def test_a_lapsed_lease_gives_the_mastership_up():
    """The kernel has taken it, and somebody may have it: no word of MASTER may come from here again."""
    node, actions = run(master(advskew=100), carp_events.LeaseLapsed(7.21))
    assert node.role is Role.BACKUP
    assert actions == [
        DropLease(),
        DropAddresses(),
        Disarm(Timer.ADVERTISE),
        Disarm(Timer.ANNOUNCE),
        Arm(Timer.MASTER_DOWN, 3.390625),
        Tell(Role.BACKUP, "yielded: stood still for 7.2 s, and the lease in the kernel lapsed"),
        SendBowOutOverSync(),
    ]


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (carp_events.StopWanted(), "stopped: asked to stop"),
        (carp_events.Disabled("link lan0 is down"), "disabled: link lan0 is down"),
    ],
)
def test_a_master_that_goes_bows_out_after_it_has_let_go(event: carp_events.Event, why: str):
    """Also when its link is down: the sync link may be up. The peer takes over at once, so ours go first."""
    node, actions = run(master(), event)
    assert node.role is Role.INIT
    assert actions[0] == DropAddresses()
    assert actions[-3:] == [SendBowOut(), DropLease(), Tell(Role.INIT, why)]


def test_a_backup_that_goes_does_not_bow_out():
    """It would send every BACKUP into mastership, though the MASTER is well."""
    backup, _ = run(vhid(), carp_events.Enabled())
    assert run(backup, carp_events.StopWanted())[1] == [
        Disarm(Timer.MASTER_DOWN),
        Tell(Role.INIT, "stopped: asked to stop"),
    ]


def test_a_demotion_is_advertised_at_once_and_only_when_it_is_another():
    node, actions = run(master(), carp_events.DemotionChanged(32, "service web is FAILED"))
    assert actions == [SendAdvertisement(1, 0, 32), Arm(Timer.ADVERTISE, 1.0)]
    node, actions = run(node, carp_events.DemotionChanged(32, "service db is FAILED"))
    assert actions == []
    assert node.demoted_because == "service db is FAILED"


def test_a_demotion_beyond_a_byte_is_the_highest():
    node, actions = run(master(), carp_events.DemotionChanged(8 * 32, "everything is FAILED"))
    assert node.demotion == 255
    assert actions[0] == SendAdvertisement(1, 0, 255)


def test_a_worse_master_is_answered_at_once_and_then_not_for_each_of_its_own():
    """The other one yields at what it hears. Whoever plays us its frames gets no frame for each."""
    node, first = run(master(), WORSE)
    assert first == [
        SendAdvertisement(1, 0, 0),
        Arm(Timer.ADVERTISE, 1.0),
        Announce(),
        Arm(Timer.ANNOUNCE, 2.0),
    ]
    node, more = run(node, WORSE, WORSE, WORSE)
    assert more == []
    assert run(node, carp_events.AnnounceDue(), WORSE)[1] == [Announce(), *first]


def test_a_worse_master_is_answered_right_after_a_takeover_too():
    """Its advertisement shows that ours was lost."""
    taken, _ = run(vhid(), carp_events.Enabled(), carp_events.MasterDownExpired(3.0))
    assert SendAdvertisement(1, 0, 0) in run(taken, WORSE)[1]


@pytest.mark.parametrize(
    ("ours", "theirs"), [((1, 0), (1, 100)), ((10, 0), (1, 0)), ((1, 0), (10, 0)), ((0, 2), (0, 3))]
)
def test_a_master_that_does_not_hear_us_is_told_once(ours: tuple[int, int], theirs: tuple[int, int]):
    """Whoever of the two is the faster one. Once it has heard us, falling deaf again is news again."""
    deaf = vhid(2, advbase=theirs[0], advskew=theirs[1], demotion=1)
    link = VirtualLink(vhid(1, advbase=ours[0], advskew=ours[1]), deaf)
    span_s = 20 * max(advertise_interval_s(*ours), advertise_interval_s(*theirs))
    link.cuts = {("a", "b")}
    for count in (1, 2):
        for node in link.nodes:
            link.give(node, carp_events.Enabled())
        link.run_until(link.now_s + span_s)
        assert link.masters() == ["a", "b"]
        said = [text for _, name, text in link.told if name == "a" and text.startswith("deaf")]
        assert len(said) == count
        assert int(said[-1].split()[4]) >= CONTEST_ADVERTISEMENTS_MAX
        link.cuts = set()
        link.run_until(link.now_s + span_s)
        assert link.masters() == ["a"]
        link.cuts = {("a", "b")}


def test_a_master_that_yields_in_time_is_not_told_of():
    link = VirtualLink(vhid(1), vhid(2, advskew=100))
    link.cuts = {("a", "b"), ("b", "a")}
    for node in link.nodes:
        link.give(node, carp_events.Enabled())
    link.run_until(30.0)
    assert link.masters() == ["a", "b"]
    link.cuts = set()
    link.run_until(60.0)
    assert link.masters() == ["a"]
    assert not any("deaf" in text for _, _, text in link.told)


@given(st.lists(st.sampled_from(list(SAMPLES.values())), min_size=20, max_size=60), st.booleans())
def test_its_promises_hold_whatever_happens(events: list[carp_events.Event], preempt: bool):  # noqa: FBT001 - drawn
    """Addresses and advertisements are a MASTER's; each role has the timers it waits for, and no others."""
    node = vhid(preempt=preempt)
    armed: set[Timer] = set()
    has_addresses = False
    for event in events:
        before = node.role
        node, actions = carp.step(node, event)
        for action in actions:
            match action:
                case Arm(timer, after_s):
                    assert after_s > 0
                    armed.add(timer)
                case Disarm(timer):
                    armed.discard(timer)
                case TakeAddresses():
                    assert not has_addresses
                    has_addresses = True
                case DropAddresses():
                    assert has_addresses
                    has_addresses = False
                case Announce():
                    assert has_addresses
                case SendBowOut():
                    assert not has_addresses
                case SendAdvertisement(_, _, demotion):
                    assert node.role is Role.MASTER
                    assert demotion == node.demotion
                case Tell(role, why):
                    assert role is node.role is not before
                    assert why
                case TellDeaf():
                    assert node.role is Role.MASTER
        if isinstance(event, carp_events.AnnounceDue):
            armed.discard(Timer.ANNOUNCE)
        assert has_addresses == (node.role is Role.MASTER)
        assert (Timer.MASTER_DOWN in armed) == (node.role is Role.BACKUP)
        assert (Timer.ADVERTISE in armed) == (node.role is Role.MASTER)
        assert (Timer.ANNOUNCE in armed) == node.announcing
        assert node.contest is None or node.role is Role.MASTER
        assert (node.role is before) == (not any(isinstance(action, Tell) for action in actions))
