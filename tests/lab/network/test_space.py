"""Random designs: what is drawn, that it can be written, and that explain takes away what search adds."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gimli.lab.catalogue import names, network
from gimli.lab.network import causes_linux
from gimli.lab.network.causes import CAUSES, Kind
from gimli.lab.network.circumstances import HARMS, SPACE
from gimli.lab.network.scenario_file import parse
from gimli.lab.network.scenario_text import write
from gimli.lab.network.search import shrink
from gimli.lab.network.smaller import REDUCERS, sizes
from gimli.lab.network.space import build, draw
from gimli.lab.network.switching import floods, sync_networks, with_shared_mac, with_sync
from gimli.lab.network.topology import Balancer, Interface, Server
from gimli.pair.syncactions import Mode
from tests.lab.network.designs import run

PLAIN = network("plain")
READY = with_sync(with_shared_mac(PLAIN))
"""With what other settings need."""
LINUX = network("linux-pair")
EVERYTHING = (*SPACE, *HARMS)
OF_LINUX = {cause.name for cause in causes_linux.CAUSES}
SEEDS = st.integers(0, 2**63)


def drawn(seed, plain=PLAIN, space=EVERYTHING):
    return draw(plain, space, random.Random(seed))


def named(name):
    (found,) = (switched for switched in EVERYTHING if switched.name == name)
    return found


def test_names_are_unique():
    assert len({switched.name for switched in EVERYTHING}) == len(EVERYTHING)


def test_the_same_seed_draws_the_same_design():
    assert [pick.setting.text for pick in drawn(7)] == [pick.setting.text for pick in drawn(7)]
    assert len({tuple(pick.setting.text for pick in drawn(seed)) for seed in range(50)}) == 50


def test_nothing_is_wrong_with_the_plain_design():
    """None of the causes is there: whatever a search finds is made of what it has drawn."""
    assert not [cause.name for cause in CAUSES if cause.is_there(PLAIN)]
    assert not PLAIN.faults


def test_everything_is_drawn_now_and_then_and_about_as_often_as_its_odds_say():
    counts = Counter(pick.name for seed in range(400) for pick in drawn(seed))
    assert set(counts) == {switched.name for switched in EVERYTHING} - OF_LINUX
    for name in ("replicas", "bursts", "jitter", "guard", "fault", "shared-mac"):
        assert counts[name] / 400 == pytest.approx(named(name).odds, abs=0.08), name


def test_each_way_of_each_is_drawn_now_and_then():
    texts = {pick.setting.text for seed in range(1500) for pick in drawn(seed)}
    for switched in EVERYTHING:
        if switched.name not in {"fault", *OF_LINUX}:
            assert {setting.text for setting in switched.arises(READY)} <= texts, switched.name


def test_nothing_breaks_unless_that_is_asked_for():
    assert not any(
        pick.switched.kind is Kind.HARM for seed in range(100) for pick in drawn(seed, space=SPACE)
    )


@settings(max_examples=60)
@given(SEEDS)
def test_any_design_can_be_written_and_read(seed):
    """And is valid: the reader refuses what refers to nothing."""
    design = build(PLAIN, drawn(seed))
    assert parse(write(design), "found.toml", design.name) == design


@settings(max_examples=30)
@given(SEEDS, st.data())
def test_a_design_with_some_of_its_settings_left_out_is_one_too(seed, data):
    picks = drawn(seed)
    kept = data.draw(st.lists(st.booleans(), min_size=len(picks), max_size=len(picks)))
    design = build(PLAIN, [pick for pick, is_kept in zip(picks, kept, strict=True) if is_kept])
    assert parse(write(design), "found.toml", design.name) == design


ALONE = replace(
    PLAIN,
    hosts=(
        replace(PLAIN.hosts[0], gateway="203.0.113.9"),
        Server("app", Interface("eth0", "outside", "203.0.113.9/24"), "203.0.113.254"),
    ),
    traffic=replace(PLAIN.traffic, target="203.0.113.9", port=8080),
)
"""A server without any pair before it."""
OWN = {
    "without a pair": ALONE,
    **{name: network(name) for name in names() if name not in {"two-hups", "plain"}},
}


@pytest.mark.parametrize("own", OWN.values(), ids=OWN)
@settings(max_examples=12)
@given(SEEDS)
def test_a_network_of_ones_own_is_varied_as_well(own, seed):
    picks = drawn(seed, own)
    for some in (picks, picks[::2], picks[1::2]):
        design = build(own, some)
        assert parse(write(design), "found.toml", design.name) == design


def test_a_linux_pair_has_causes_of_its_own_and_none_of_openbsds():
    names = {pick.name for seed in range(200) for pick in drawn(seed, LINUX)}
    assert names >= OF_LINUX - {"kernel-replicas"}, "its replicas are in the kernel already"
    assert not names & {
        "forced-copy",
        "forwarding",
        "replicas",
        "binding",
        "block-return",
        "redirect",
        "guard",
    }


CAUSES_OF_ALL = (*CAUSES, *causes_linux.CAUSES)


@pytest.mark.parametrize("cause", CAUSES_OF_ALL, ids=[cause.name for cause in CAUSES_OF_ALL])
def test_what_a_search_puts_there_an_explanation_takes_away(cause):
    before = {"replicas": PLAIN, **dict.fromkeys(OF_LINUX, causes_linux.pair(LINUX, mode=Mode.CACHE))}.get(
        cause.name, READY
    )
    assert cause.arises(before)
    for setting in cause.arises(before):
        changed = setting.change(before)
        assert cause.is_there(changed)
        assert not cause.is_there(cause.ways[0].change(changed))


def test_what_a_network_has_no_place_for_does_not_arise_in_it():
    assert not named("flooding").arises(PLAIN), "nobody shares a group MAC"
    assert not named("slow-sync").arises(PLAIN), "there is no sync cable"
    assert not named("replicas").arises(READY), "there is one already"
    assert not named("shared-mac").arises(READY)


def test_circumstances_are_not_what_an_explanation_switches():
    assert {switched.kind for switched in CAUSES_OF_ALL} == {Kind.CAUSE, Kind.CONDITION}


def test_balancers_that_share_a_mac_work_and_flood_nothing():
    """What a search adds is right by itself: the switch and the firewalls are told of the MAC."""
    played = run(READY)
    assert played.count("copies") == 0
    assert not floods(READY)
    assert sync_networks(READY) == {"crossover"}
    assert played.answered > 60
    assert [host.share for host in READY.hosts if isinstance(host, Balancer)] == [0, 1]


# Smaller.


@settings(max_examples=25)
@given(SEEDS)
def test_what_is_made_smaller_is_smaller_in_one_respect_and_can_be_written(seed):
    design = build(PLAIN, drawn(seed))
    for reduce in REDUCERS:
        for less in reduce(design):
            before, after = sizes(design), sizes(less)
            assert all(after[name] <= before[name] for name in before)
            assert after != before
            assert parse(write(less), "found.toml", less.name) == less


def test_what_always_fails_becomes_as_small_as_can_be():
    """And whatever it then is can still be played."""
    smallest = shrink(READY, REDUCERS, lambda _: True)
    assert sizes(smallest) == {
        "connections": 1,
        "requests on each": 1,
        "kinds of requests": 1,
        "firewalls": 2,
        "balancers": 1,
        "servers": 1,
        "seconds": 5.0,
    }
    assert run(smallest).answered == 1


def test_a_host_that_is_gone_is_spoken_of_nowhere():
    smaller = shrink(READY, REDUCERS, lambda topology: topology.traffic == READY.traffic)
    (balancer,) = (host for host in smaller.hosts if isinstance(host, Balancer))
    assert (balancer.share, balancer.shares) == (0, 1)
    (dmz,) = (switch for switch in smaller.switches if switch.name == "dmz")
    assert dict(dmz.static) == {balancer.mac: (balancer.name,)}
