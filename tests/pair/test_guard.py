"""The rules, and whatever differs from them: noticed, in words."""

from __future__ import annotations

import copy
import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.errors import UsageError
from gimli.pair.guard import (
    JIFFY_S_MAX,
    LATE_S_MAX,
    Guard,
    Guarded,
    Lease,
    Vhid,
    lease_of,
    lease_s,
    ruleset,
)
from gimli.pair.readback import Count, counts, verify
from tests.pair.wanted import GUARD

with open(os.path.join(os.path.dirname(__file__), "guard_listing.json"), encoding="utf-8") as file:
    LISTING: dict[str, Any] = json.load(file)
"""What nft 1.0.6 lists of GUARD, held for vhid 1; test_nft.py holds it against the kernel."""

IMMATERIAL = {"handle", "packets", "bytes", "elem", "family"}
"""What may differ, or cannot: handles, counts, who holds a lease, the family that was asked for."""


def _paths(node: Any, path: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Where something can be changed in a listing."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    material = [
        (key, child)
        for key, child in items
        if key not in IMMATERIAL and not (key == "table" and isinstance(child, str))
    ]
    return [found for key, child in material for found in ((*path, key), *_paths(child, (*path, key)))]


def _at(listing: dict[str, Any], path: tuple[Any, ...]) -> Any:
    node: Any = listing
    for key in path:
        node = node[key]
    return node


assert "metainfo" in LISTING["nftables"][0]
PATHS = [path for path in _paths(LISTING["nftables"], ("nftables",)) if path[1] > 0]
LEAVES = [path for path in PATHS if not isinstance(_at(LISTING, path), dict | list)]


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path[1:]))


def test_the_listing_of_the_wanted_rules_differs_in_nothing():
    assert verify(LISTING, GUARD) == ()


def test_no_table_is_a_difference():
    assert verify(None, GUARD) == ("there is no table netdev gimli",)


@pytest.mark.parametrize("path", PATHS, ids=map(_name, PATHS))
def test_whatever_is_taken_away_is_noticed(path):
    """Every table, set, chain, rule, comparison and verdict, and every word of each."""
    listing = copy.deepcopy(LISTING)
    del _at(listing, path[:-1])[path[-1]]
    assert verify(listing, GUARD)


@pytest.mark.parametrize("path", LEAVES, ids=map(_name, LEAVES))
def test_whatever_is_another_is_noticed(path):
    listing = copy.deepcopy(LISTING)
    before = _at(listing, path)
    _at(listing, path[:-1])[path[-1]] = before + 1 if isinstance(before, int) else "something else"
    assert verify(listing, GUARD)


RULES = [part for part in LISTING["nftables"] if "rule" in part]


@given(at=st.integers(0, len(RULES)), rule=st.sampled_from(RULES), chain=st.sampled_from(RULES))
def test_a_rule_more_is_noticed(at, rule, chain):
    """Even one of ours, a second time or in a chain of ours where it does not belong."""
    listing = copy.deepcopy(LISTING)
    added = copy.deepcopy(rule)
    added["rule"]["chain"] = chain["rule"]["chain"]
    listing["nftables"].insert(len(listing["nftables"]) - len(RULES) + at, added)
    assert verify(listing, GUARD)


def test_rules_in_another_order_are_noticed():
    listing = copy.deepcopy(LISTING)
    of_lan0 = [part for part in listing["nftables"] if part.get("rule", {}).get("chain") == "ingress_lan0"]
    first, second = (listing["nftables"].index(part) for part in of_lan0)
    listing["nftables"][first], listing["nftables"][second] = of_lan0[1], of_lan0[0]
    assert verify(listing, GUARD) == ("chain ingress_lan0 has its rules in another order",)


@pytest.mark.parametrize(
    ("element", "words"),
    [
        ("lan0", "lan0 is in set lease_2 without a timeout: it would never lapse"),
        ({"elem": {"val": "lan0", "timeout": 1}}, "lan0 is in set lease_2 and does not belong there"),
        ({"elem": {"val": "dmz0", "timeout": 1}}, "dmz0 is in set lease_2, and not by us"),
    ],
)
def test_a_lease_that_nobody_should_have_is_noticed(element, words):
    listing = copy.deepcopy(LISTING)
    body = next(part["set"] for part in listing["nftables"] if part.get("set", {}).get("name") == "lease_2")
    body["elem"] = [element]
    assert verify(listing, GUARD, held={1}) == (words,)


def test_another_spelling_is_no_difference():
    """Newer versions of nft name the protocol as /etc/protocols does, or write a set of one as a set."""
    listing = json.loads(json.dumps(LISTING).replace('"right": "10.1.0.1"', '"right": {"set": ["10.1.0.1"]}'))
    text = json.dumps(listing)
    assert '"right": "vrrp"' in text
    for spelling in ('"carp"', "112"):
        assert verify(json.loads(text.replace('"vrrp"', spelling)), GUARD) == ()


def test_counts_are_read_by_name():
    listing = copy.deepcopy(LISTING)
    counter = next(part["counter"] for part in listing["nftables"] if "counter" in part)
    counter |= {"packets": 3, "bytes": 180}
    assert counts(listing)["dropped_in_1"] == Count(3, 180)
    assert set(counts(listing)) == {
        *("dropped_in_1", "dropped_out_1", "dropped_in_2", "dropped_out_2"),
        *("dropped_group_lan0", "dropped_group_dmz0"),
    }


def test_the_leading_vhids_lease_lifts_the_guard_of_every_guarded_interface():
    assert lease_of(GUARD, 1) == Lease("lease_1", ("lan0", "dmz0"))
    assert lease_of(GUARD, 2) == Lease("lease_2", ("dmz0",))


def test_the_rules_do_not_change_with_the_role():
    """The text has no role in it, and the sets no elements: a role is a lease."""
    assert "elements" not in ruleset(GUARD)


def test_a_repair_leaves_the_table_and_its_leases_where_they_are():
    text = ruleset(GUARD, fresh=False)
    assert "delete" not in text
    assert ruleset(GUARD).replace("delete table netdev gimli\nadd table netdev gimli\n", "") == text


def test_an_interface_of_31_bits_has_no_broadcast_address():
    guard = Guard((Vhid(1, "lan0", ("192.0.2.1",)),), (Guarded("lan0", ("192.0.2.0/31", "192.0.2.9/29")),))
    assert "{ 224.0.0.0/4, 255.255.255.255, 192.0.2.15 }" in ruleset(guard)


@pytest.mark.parametrize("name", ['lan0"', "a b", "lan0;drop", "", "x" * 16])
def test_a_name_that_nft_would_read_otherwise_is_refused(name):
    with pytest.raises(UsageError, match="cannot guard the interface"):
        Guard((Vhid(1, name, ("192.0.2.1",)),))


@given(interval_s=st.floats(0.004, 300), patience=st.floats(1, 10))
def test_a_lease_ends_before_the_peers_patience_and_outlasts_an_interval(interval_s, patience):
    dead_s = interval_s * patience
    try:
        length_s = lease_s(interval_s, dead_s)
    except UsageError:
        wanted_s = interval_s + min(interval_s / 2, LATE_S_MAX) + JIFFY_S_MAX
        assert min(0.8 * dead_s, dead_s - JIFFY_S_MAX) - 0.001 <= wanted_s
    else:
        assert length_s + JIFFY_S_MAX <= dead_s
        assert length_s <= 0.8 * dead_s
        assert length_s - JIFFY_S_MAX > interval_s
        assert round(length_s * 1000) == pytest.approx(length_s * 1000)


@pytest.mark.parametrize(
    ("advbase", "advskew", "length_s"),
    [(1, 0, 2.4), (1, 100, 2.4), (1, 254, 2.4), (10, 0, 24.0), (0, 6, 0.056), (0, 4, 0.036)],
)
def test_the_lease_of_usual_timers(advbase, advskew, length_s):
    """Against the most eager peer with such timers: 3 * advbase, in the fast mode three intervals."""
    interval_s = advbase + advskew / 256
    assert lease_s(interval_s, 3 * advbase if advbase else 3 * interval_s) == length_s


def test_advertisements_too_rare_for_the_peer_are_refused_with_figures():
    with pytest.raises(UsageError, match="every 40 ms are too rare") as refused:
        lease_s(0.04, 0.08)
    assert "64 ms" in refused.value.why
    assert "70 ms" in refused.value.why
