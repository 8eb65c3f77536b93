"""The shipped networks: what each expects, what comes of it, and what changes with the change its page names.

Every row is one run of a seed, so it is exact: another verdict is another behaviour of the simulator.
"""

from __future__ import annotations

import os

import pytest

from gimli.lab.catalogue import names, text_of
from gimli.lab.network.measure import failover_s, metrics, verdicts
from gimli.lab.network.scenario_file import parse
from gimli.lab.network.simulator.run import simulate
from tests.lab.network.designs import streams

pytestmark = pytest.mark.slow

FREEZE, BAD, RESET, FORWARDED = "freezes", "BAD state", "reset", "forwarded"
FAILOVER, MASTERS, TRACKED = "failover", "masters", "tracked"
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
    kinds = (FREEZE, BAD, RESET, FORWARDED, FAILOVER, MASTERS, TRACKED)
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
        ("linux-pair", set()),
        ("linux-failover", set()),
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


UNGUARDED = ('model = "linux"\n', 'model = "linux"\nguard = false\n')
MINDED = ('mode = "kernel"\n', 'mode = "kernel"\nliberal = false\n')
UNSYNCED = ('sync = "sync"\nneighbours', "neighbours")
LOOSE = ('mode = "kernel"\n', "loose = true\n")
IN_MEMORY = ('mode = "kernel"\n', 'mode = "cache"\n')


@pytest.mark.parametrize(
    ("pairs", "tracked", "lost", "resets", "what_fails"),
    [
        ([], 0, 0, 0, set()),
        ([UNGUARDED], 8491, 0, 0, {TRACKED}),
        ([UNGUARDED, MINDED], 8491, 21, 14, {TRACKED, FREEZE, BAD, RESET}),
        ([UNGUARDED, MINDED, IN_MEMORY], 8491, 0, 0, {TRACKED}),
        ([MINDED], 0, 0, 0, set()),
        ([UNSYNCED], 0, 22, 0, {FREEZE}),
        ([UNSYNCED, LOOSE], 0, 0, 0, set()),
    ],
    ids=["as it is", "no guard", "windows minded", "in memory", "guarded", "no sync", "loose"],
)
def test_what_a_linux_pair_needs_its_guard_for(pairs, tracked, lost, resets, what_fails):
    run = play("linux-pair", *pairs)
    figures = metrics(run)
    assert (run.count("copies"), figures["lost_at_fault"], figures["application_resets"]) == (
        tracked,
        lost,
        resets,
    )
    assert failed(run) == what_fails


POWER = ('kind = "hang"', 'kind = "power"')
USUAL = (("advbase = 0, advskew = 6", "advskew = 0"), ("advbase = 0, advskew = 8", "advskew = 100"))


@pytest.mark.parametrize(
    ("pairs", "took_s", "froze", "lost"),
    [
        ([], 0.078, 0, 0),
        ([POWER], 0.078, 0, 0),
        ([POWER, *USUAL], 2.891, 18, 0),
        ([*USUAL], 2.891, 8, 6),
        ([('sync = "sync"\n[', "[")], 0.070, 20, 20),
    ],
    ids=["hangs", "power", "power, usual timers", "hangs, usual timers", "no sync"],
)
def test_what_a_failover_of_a_linux_pair_costs(pairs, took_s, froze, lost):
    run = play("linux-failover", *pairs)
    figures = metrics(run)
    assert failover_s(run) == pytest.approx(took_s, abs=0.001)
    assert (figures["frozen"], figures["lost"], figures["two_masters_s"]) == (froze, lost, 0)


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
