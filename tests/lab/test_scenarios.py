"""The shipped networks: what each expects, what comes of it, and what changes with the change its page names.

Every row is one run of a seed, so it is exact: another verdict is another behaviour of the simulator.
"""

from __future__ import annotations

import os

import pytest

from gimli.lab.catalogue import names, text_of
from gimli.lab.network.measure import verdicts
from gimli.lab.network.scenario_file import parse
from gimli.lab.network.simulator.run import simulate
from tests.lab.network.designs import streams

pytestmark = pytest.mark.slow

FREEZE, BAD, RESET, FORWARDED = "freezes", "BAD state", "reset", "forwarded"
FAILOVER, MASTERS = "failover", "masters"
SLOW = 'cpu = "1ms"'
FAST_ENOUGH = 'cpu = "200us"'
DMZ = 'name = "dmz"\n'
STATIC = 'static = { "01:00:5e:00:02:64" = ["lb1", "lb2"] }\n'
PULLED = '[[fault]]\nat = "12s"\nkind = "cut"\nof = "fw1.sync"\n\n'
PAGES = os.path.join(os.path.dirname(__file__), "..", "..", "docs", "lab")


def play(name, *pairs, seed=1):
    text = text_of(name)
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return simulate(parse(text, name, name), streams(seed))


def failed(run):
    """The kinds of expectations that did not hold, in words."""
    kinds = (FREEZE, BAD, RESET, FORWARDED, FAILOVER, MASTERS)
    return {
        kind for kind in kinds for verdict in verdicts(run) if not verdict.holds and kind in verdict.expect
    }


@pytest.mark.parametrize(
    ("name", "what_fails"),
    [
        ("pfsync-multicast", {FREEZE, BAD, RESET}),
        ("pfsync-multicast-4.6", {FREEZE, FORWARDED}),
        ("snooping-no-querier", {FREEZE, BAD, RESET}),
        ("slow-peer", {FREEZE, BAD, RESET}),
        ("split-brain", {FREEZE, MASTERS, RESET}),
        ("asymmetric-link", {FREEZE, MASTERS}),
        ("failover-nat", set()),
    ],
)
def test_what_a_scenario_shows(name, what_fails):
    assert failed(play(name)) == what_fails


@pytest.mark.parametrize(
    ("name", "old", "new", "what_fails"),
    [
        ("pfsync-multicast", 'sync = "sync"\n', 'sync = "sync"\nguard = true\n', set()),
        ("pfsync-multicast", 'sync = "sync"\n', "", set()),
        ("pfsync-multicast", DMZ, DMZ + STATIC, set()),
        ("pfsync-multicast", 'release = "4.7-7.3"', 'binding = "if-bound"', set()),
        ("pfsync-multicast", 'release = "4.7-7.3"', 'release = "7.4+"', {BAD}),
        ("pfsync-multicast", "[traffic]", PULLED + "[traffic]", {BAD}),
        ("pfsync-multicast-4.6", 'release = "4.6"', 'release = "4.6"\nforwards_groups = false', set()),
        ("snooping-no-querier", "querier = false", "querier = true", set()),
        ("snooping-no-querier", 'querier = false\nrouter_ports = ["lb1", "lb2"]', "querier = true", {FREEZE}),
        ("split-brain", 'blocked = ["fw2"]\n', STATIC, set()),
        ("asymmetric-link", 'kind = "cut-from"', 'kind = "cut"', {FREEZE}),
        ("failover-nat", 'sync = "sync"\n[', "[", {FREEZE}),
    ],
)
def test_what_a_change_makes_of_it(name, old, new, what_fails):
    assert failed(play(name, (old, new))) == what_fails


def test_a_storm_goes_on_until_the_ttl_ends():
    """Few packets, many forwarded: the copies of copies are what is counted."""
    run = play("pfsync-multicast-4.6")
    assert run.count("forwarded", "fw2") > 1000 * max(run.answered, 1)


def test_a_backup_that_is_a_little_slow_is_not_as_bad_as_a_slow_one():
    slow, fast_enough = play("slow-peer"), play("slow-peer", (SLOW, FAST_ENOUGH))
    assert FREEZE in failed(slow)
    assert FREEZE not in failed(fast_enough)


@pytest.mark.parametrize("name", names())
def test_every_scenario_has_a_page_that_runs_it(name):
    with open(os.path.join(PAGES, f"{name}.md"), encoding="utf-8") as file:
        assert f"$ gimli lab run {name}" in file.read()
