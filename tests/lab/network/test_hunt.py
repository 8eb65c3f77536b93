"""The search: what it finds, what it passes over, and the story's failure without being told of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from gimli.cli import gimli
from gimli.cli.lab_search_text import render
from gimli.errors import GimliError
from gimli.lab.catalogue import network, topology_of
from gimli.lab.network import measure, play
from gimli.lab.network.causes import Kind, Setting, Switched
from gimli.lab.network.goal import FREEZE, STORM, Goal, Judgement
from gimli.lab.network.hunt import SEEDS, Hunt
from gimli.lab.network.play import Job, Outcome
from gimli.lab.network.simulator.run import simulate
from gimli.lab.network.smaller import sizes
from gimli.lab.network.switching import pf, with_client_link, with_flooding, with_shared_mac, with_sync
from gimli.lab.network.topology import Client, Expect, Expectation
from gimli.lab.scenario import Verdict
from tests.lab.network.designs import run, streams

PLAIN = network("plain")
SMALL = replace(
    PLAIN,
    lasts_s=10.0,
    traffic=replace(PLAIN.traffic, connections=4, over_s=1.0, requests=(1, 2), thinks_s=(0.1, 0.2)),
)
ANY_FREEZE = Goal((FREEZE,), is_silent=False)
"""With which nothing is passed over for being loud."""


SILENT = Goal.silent(PLAIN)


def certain(name, change, kind=Kind.CIRCUMSTANCE, odds=1.0):
    """Something that every design has."""
    return Switched(name, kind, name, lambda _: False, (), lambda _: (Setting(name, change),), odds)


FAR = certain("far", lambda topology: with_client_link(topology, latency_s=0.7))
"""A handshake takes longer than a second: everybody freezes, and nothing else is needed for it."""
DECOYS = tuple(
    certain(
        f"decoy-{jitter_s}", lambda topology, jitter_s=jitter_s: with_client_link(topology, jitter_s=jitter_s)
    )
    for jitter_s in (0.001, 0.002, 0.003)
)


def thrice_as_far(topology):
    (client,) = (host for host in topology.hosts if isinstance(host, Client))
    return with_client_link(topology, latency_s=3 * client.interface.link.latency_s)


def hunt(space, *, designs=1, goal=ANY_FREEZE, plain=SMALL, seed=1, is_first_enough=True, told=None):
    tell = (lambda words: None) if told is None else told.append
    search = Hunt(plain, space, goal, seed, tell)
    return search.search(designs, lambda: False, is_first_enough=is_first_enough)


# What is done with a design that fails.


def test_what_is_needed_is_left_and_what_is_not_is_not():
    (found,) = hunt((DECOYS[0], FAR, *DECOYS[1:])).found
    assert [pick.name for pick in found.drawn] == ["decoy-0.001", "far", "decoy-0.002", "decoy-0.003"]
    assert [pick.name for pick in found.left] == ["far"]
    assert found.failed == 16
    assert sizes(found.topology)["connections"] == 1
    assert found.topology.about == "far: found by a search"


def test_it_ends_with_the_first_or_groups_all_that_fail_for_the_same():
    assert hunt((FAR,), designs=5).designs == 1
    everything = hunt((*DECOYS, FAR), designs=5, is_first_enough=False)
    assert everything.designs == 5
    assert [found.designs for found in everything.found] == [5]


def test_two_ways_to_fail_are_two():
    """Each by a half of the designs; the one that comes later in the space is drawn last."""
    lossy = certain("lossy", lambda topology: with_client_link(topology, loss=0.5), odds=0.5)
    far = replace(FAR, odds=0.5)
    names = {
        tuple(pick.name for pick in found.left)
        for found in hunt((far, lossy), designs=16, is_first_enough=False).found
    }
    assert names == {("far",), ("lossy",)}


def test_the_clock_ends_a_search():
    told = []
    search = Hunt(SMALL, DECOYS, ANY_FREEZE, 1, told.append)
    ticks = iter([False, False, True])
    assert search.search(100, lambda: next(ticks), is_first_enough=True).designs == 3


def test_what_broke_is_no_finding_when_that_was_enough():
    lossy = certain("lossy", lambda topology: with_client_link(topology, loss=0.6), Kind.HARM)
    hunted = hunt((*DECOYS, lossy))
    assert (hunted.by_harm, hunted.found) == (1, [])


@pytest.mark.parametrize(("kind", "found"), [(Kind.CONDITION, 0), (Kind.CAUSE, 1), (Kind.CIRCUMSTANCE, 1)])
def test_what_broke_is_a_finding_together_with_what_could_be_done_otherwise(kind, found):
    """Traffic and distance could not: on a bad cable they show sooner what it is."""
    far = certain("far", lambda topology: with_client_link(topology, latency_s=0.1), kind)
    broken = certain("broken", thrice_as_far, Kind.HARM)
    hunted = hunt((far, broken))
    assert (len(hunted.found), hunted.by_harm) == (found, 1 - found)


def test_a_search_does_not_begin_with_a_network_that_fails():
    far = replace(with_client_link(SMALL, latency_s=0.7), name="mine.toml")
    with pytest.raises(GimliError) as caught:
        hunt(DECOYS, plain=far)
    assert "mine.toml fails as it is" in str(caught.value)
    assert "gimli lab explain mine.toml" in caught.value.fix


def test_a_failure_that_comes_once_is_not_looked_into():
    """With the design's own seed, and not with three of the four that all are judged by."""
    rare = Expectation(Expect.FREEZE, 0.0)

    class Once(Goal):
        def judge(self, outcome, events_max):
            seen.append(outcome)
            return Judgement.FAILS if len(seen) == len(SEEDS) + 1 else Judgement.FINE

    seen = []
    hunted = hunt(DECOYS, goal=Once((rare,), is_silent=False))
    assert (hunted.rare, hunted.found) == (1, [])


# What is judged to be what.


def outcome(*, holds=False, frozen=3, of=24, two_masters_s=0.0, events=1000):
    metrics = {"frozen": frozen, "connections": of, "two_masters_s": two_masters_s, "events": events}
    return Outcome(metrics, (Verdict("", holds, ""),), None)


@pytest.mark.parametrize(
    ("facts", "silent", "any_failure"),
    [
        ({"holds": True, "frozen": 0}, Judgement.FINE, Judgement.FINE),
        ({}, Judgement.FAILS, Judgement.FAILS),
        ({"frozen": 18}, Judgement.FAILS, Judgement.FAILS),
        ({"frozen": 19}, Judgement.DEAD, Judgement.FAILS),
        ({"two_masters_s": 2.0}, Judgement.TWO_MASTERS, Judgement.FAILS),
        ({"events": 20_001}, Judgement.DEAD, Judgement.FAILS),
        ({"events": 20_001, "holds": True}, Judgement.DEAD, Judgement.FINE),
    ],
)
def test_a_failure_that_somebody_would_notice_is_not_a_silent_one(facts, silent, any_failure):
    assert SILENT.judge(outcome(**facts), 20_000) is silent
    assert ANY_FREEZE.judge(outcome(**facts), 20_000) is any_failure


def test_what_is_looked_for_is_what_the_scenario_that_is_left_expects():
    assert SILENT.of(PLAIN) == PLAIN
    assert ANY_FREEZE.of(PLAIN) == replace(PLAIN, expects=(FREEZE,))
    assert Goal.silent(replace(PLAIN, expects=())).expects == (FREEZE,)


def test_the_plain_network_holds_what_it_expects():
    for each in play.play_all([Job(PLAIN, seed) for seed in SEEDS]):
        assert all(verdict.holds for verdict in each.verdicts)
        assert each.metrics["frozen"] == each.metrics["bad_state_drops"] == 0


def test_a_storm_is_cut_short():
    """Played to its end it would take minutes."""
    storm = with_sync(pf(with_flooding(with_shared_mac(PLAIN)), forwards_groups=True))
    limit = STORM * run(PLAIN).events
    played = simulate(storm, streams(1), events_max=limit)
    assert limit < played.events < 2 * limit
    assert (
        SILENT.judge(Outcome(measure.metrics(played), (Verdict("", False, ""),), None), limit)
        is Judgement.DEAD
    )


def test_a_run_that_is_no_storm_is_the_same_with_a_limit():
    limited = simulate(SMALL, streams(3), events_max=1_000_000)
    assert limited == run(SMALL, 3)


# The command.


def call(*arguments):
    return CliRunner().invoke(gimli, ["lab", "search", *arguments], standalone_mode=False)


def test_it_finds_the_storys_failure_without_being_told(tmp_path, monkeypatch):
    """From a plain network and a seed to the causes of incident 2, and a file that plays and explains it."""
    monkeypatch.chdir(tmp_path)
    done = call("--seed", "3", "--designs", "10", "--json", "-o", "found.toml")
    assert done.return_value == 1, done.output
    document = json.loads(done.output[done.output.index("{") :])
    (found,) = document["found"]
    left = {change["name"] for change in found["left"]}
    assert left >= {"flooding", "replicas", "forced-copy"}
    assert left <= {"shared-mac", "flooding", "replicas", "forced-copy", "bursts", "slow-sync"}
    assert len(found["drawn"]) > len(left)
    assert found["other_seeds"]["failed"] >= 5

    assert (tmp_path / "found.toml").read_text() == found["toml"]
    topology = topology_of("found.toml")
    assert topology.traffic.connections < PLAIN.traffic.connections / 2
    assert topology.lasts_s < PLAIN.lasts_s
    played = run(topology)
    metrics = measure.metrics(played)
    assert metrics == found["metrics"]
    assert metrics["frozen"] > 0
    assert metrics["bad_state_drops"] > 0
    assert not all(verdict.holds for verdict in measure.verdicts(played))


def test_a_search_is_the_same_each_time(tmp_path):
    arguments = ("--seed", "8", "--designs", "4", "--json")
    assert call(*arguments).output == call(*arguments).output


def test_a_search_that_finds_nothing_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call("--seed", "8", "--designs", "2")
    assert done.return_value == 0
    assert "plain: nothing found in 2 random designs (seed 8)" in done.output
    assert "gimli lab search plain --seed 9" in done.output
    assert not list(tmp_path.iterdir())


def test_what_is_found_reads_well(golden):
    hunted = hunt((DECOYS[0], FAR, *DECOYS[1:]))
    lines = render("mine.toml", 1, hunted, ["found-1.toml"], 100)
    assert all(len(line.plain) <= 100 for line in lines)
    golden("lab-search.txt", "".join(f"{line.plain}\n" for line in lines))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("two-hups",), "two-hups is a program"),
        (("--fails", "no connection frezes longer than 1s"), "is no expectation"),
        (("--for", "banana"), "is not a duration"),
        (("-o", "/proc/no/found.toml"), "cannot write /proc/no/found.toml"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_played(arguments, said):
    assert said in str(call(*arguments).exception)
