"""What is drawn of a run is what was recorded of it: the map, the sequence, the windows, the spread."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.lab.catalogue import names, network
from gimli.lab.network import causes, drawing, evidence, play, sketch, thinning
from gimli.lab.network.real import changes, explain
from gimli.lab.network.simulator.record import Dropped
from gimli.lab.network.topology import Fault, Kind, Release
from tests.lab.network.designs import PFSYNC_MULTICAST, dmz, firewalls, near, pf, run, small


def subject_of(played, kind):
    """A connection that froze in that way."""
    fate = next(fate for fate in played.fates if fate.freeze is not None and fate.freeze.value == kind)
    return evidence.Subject(fate.number, fate.flow, fate.serves)


DESIGNS = {"F1": (pf(release=Release.V7_4), 2), "F2": (PFSYNC_MULTICAST, 1), "F4": (near(), 2)}
"""Each way of freezing, and where it happens."""


@cache
def drawn(kind):
    """A run, the chain of a connection that froze in that way, and its pictures."""
    topology, seed = DESIGNS[kind]
    subject = subject_of(run(topology, seed), kind)
    traced = play.trace(topology, seed, subject)
    return traced, evidence.find(traced, subject.number), drawing.draw(traced, subject)


@pytest.fixture(name="told", scope="module")
def _told():
    return drawn("F2")


# The map.


def plugs(topology, played=None):
    return {(plug.place, plug.network): plug for plug in sketch.of(topology, played).plugs}


def test_the_backups_port_is_the_one_that_is_flooded(told):
    played, _, pictures = told
    copies = {plug.place: plug.flooded for plug in pictures.map.plugs if plug.flooded}
    assert copies == {"fw2": f"{played.count('copies', 'fw2'):,} copies"}
    notes = {place.name: place.notes for place in pictures.map.places}
    assert notes["fw1"][0] == "MASTER"
    assert notes["fw2"][0] == "BACKUP"


@pytest.mark.parametrize(
    ("topology", "flooded"),
    [
        (PFSYNC_MULTICAST, {"fw1", "fw2"}),
        (dmz(snooping=True), {"fw1", "fw2"}),
        (dmz(snooping=True, querier=True, router_ports=("lb1", "lb2")), set()),
        (dmz(snooping=True, querier=True, router_ports=("fw2",)), {"fw2"}),
        (causes.with_static_entries(PFSYNC_MULTICAST), set()),
        (dmz(blocked=("fw2",)), {"fw1"}),
    ],
    ids=["floods", "no querier", "snooping", "a router's port", "static entry", "blocked"],
)
def test_a_port_is_flooded_where_the_simulated_switch_floods(topology, flooded):
    """Before a run the map says what it will be: the backup then gets copies, or does not."""
    assert {plug.place for plug in sketch.of(topology).plugs if plug.flooded} == flooded
    played = run(small(topology))
    assert bool(played.count("copies", "fw2")) == ("fw2" in flooded)


def test_frames_that_the_guard_drops_are_said_to_be():
    topology = causes.with_guard(small())
    assert "dropped by guard" in plugs(topology, run(topology))["fw2", "dmz"].flooded


def test_a_fault_is_where_it_happens():
    faults = (Fault(12.0, Kind.CUT, "fw1.sync", 20.0), Fault(40.0, Kind.POWER, "fw1"))
    topology = replace(PFSYNC_MULTICAST, faults=faults)
    assert plugs(topology)["fw1", "crossover"].fault == "cut at 12 s until 20 s"
    assert sketch.of(topology).places[1].fault == "off at 40 s"


@pytest.mark.parametrize("name", [name for name in names() if name != "two-hups"])
def test_every_shipped_network_has_a_map_with_its_faults(name):
    """Whatever kind of fault and of firewall there is."""
    topology = network(name)
    plan = sketch.of(topology)
    assert {place.name for place in plan.places} == {host.name for host in topology.hosts}
    told = [place.fault for place in plan.places] + [plug.fault for plug in plan.plugs]
    assert bool(topology.faults) == any(told)


# The sequence.


def test_the_sequence_goes_from_a_request_to_the_rst(told):
    _, _, pictures = told
    kinds = [step.kind for step in pictures.sequence.steps]
    assert kinds[:6] == ["request", "answer", "copy", "update", "back", "back"]
    assert kinds[6] == "drop"
    assert kinds.count("again") == 7
    assert kinds[-1] == "reset"
    times = [step.t_ms for step in pictures.sequence.steps]
    assert times == sorted(times)


def test_each_arrow_goes_between_lanes_that_are_there(told):
    _, _, pictures = told
    lanes = [lane.name for lane in pictures.sequence.lanes]
    assert lanes == ["client", "master", "backup", "balancer", "server"]
    roles = {lane.name: (lane.role, lane.host) for lane in pictures.sequence.lanes}
    assert roles["master"] == ("MASTER", "fw1")
    assert roles["backup"] == ("BACKUP", "fw2")
    paths = {step.kind: step.path for step in pictures.sequence.steps}
    assert {name for path in paths.values() for name in path} <= set(lanes)
    assert paths["copy"] == ("master", "backup")
    assert paths["update"] == ("backup", "master")
    assert paths["answer"] == ("server", "master", "balancer")
    assert paths["drop"] == ("balancer", "master")


def test_every_drop_ends_at_the_firewall_and_has_its_values(told):
    _, chain, pictures = told
    lost = [step for step in pictures.sequence.steps if step.is_lost]
    assert {step.path[-1] for step in lost} == {"master"}
    assert [round(step.t_ms / 1000, 6) for step in lost] == [
        round(entry.t_s, 6) for entry in (chain.drop, *chain.after())
    ]
    assert f"ackskew {chain.drop.ackskew:,} < -67,035" in lost[0].text
    update = next(step for step in pictures.sequence.steps if step.kind == "update")
    assert str(chain.value(chain.update)) in update.text


def test_what_an_upload_loses_is_told_as_one_and_what_is_sent_again_one_by_one():
    """F1: a dozen packets of a burst are dropped within a ms, and the first of them again and again."""
    _, chain, pictures = drawn("F1")
    drops = [step for step in pictures.sequence.steps if step.kind == "drop"]
    again = [step for step in pictures.sequence.steps if step.kind == "again"]
    assert len(drops) == 2
    assert "12 more packets" in drops[1].text
    assert {step.path for step in again} == {("client", "master")}
    dropped = [entry for entry in chain.log if isinstance(entry, Dropped) and not entry.is_copy]
    earlier = sum(entry.t_s < chain.drop.t_s for entry in dropped)
    assert len(dropped) == earlier + 1 + 12 + len(again)
    assert f"healed by the next packet: {earlier}." in pictures.sequence.left_out


def test_the_sequence_of_a_linux_pair_goes_from_its_copies_to_the_drop():
    """Without the guard, and with windows that are minded: what the replica believes is not what was sent."""
    linux = network("linux-pair")
    careless = replace(linux.firewalls[0].linux, liberal=False)
    topology = firewalls(linux, guard=False, linux=careless)
    played = run(topology)
    _, subject = evidence.choose(played)
    pictures = drawing.draw(play.trace(topology, 1, subject), subject)
    kinds = [step.kind for step in pictures.sequence.steps]
    assert kinds[:5] == ["copy", "copy", "note", "note", "drop"]
    assert "again" in kinds
    assert kinds[-1] == "reset"
    lanes = {lane.name: (lane.role, lane.host) for lane in pictures.sequence.lanes}
    assert lanes["master"] == ("MASTER", "fw1")
    assert lanes["backup"] == ("BACKUP", "fw2")
    assert {step.path[-1] for step in pictures.sequence.steps if step.is_lost} == {"backup"}
    (chart,) = pictures.charts
    believed = chart.curves[0].points
    dropped = chart.marks[0]
    assert max(value for at_ms, value in believed if at_ms <= dropped.t_ms) < dropped.value
    assert [place.fault for place in pictures.map.places if place.fault] == ["off at 25 s"]


# The windows.


@pytest.fixture(name="charts", params=DESIGNS, scope="module")
def _charts(request):
    """The chain and the charts of each way of freezing."""
    _, chain, pictures = drawn(request.param)
    return chain, pictures.charts


def test_the_backward_step_is_in_the_masters_curve(charts):
    """Where the mark stands the line falls, by as much as the merge took it back."""
    chain, (moment, _) = charts
    what = chain.field.partition(".")[2]
    (line,) = [curve for curve in moment.curves if (curve.where, curve.what) == (chain.drop.where, what)]
    assert line.style == "line"
    (told,) = [mark for mark in moment.marks if mark.text]
    assert told.before - told.value == dict(chain.merged.back)[chain.field]
    falls = [after - before for (_, before), (_, after) in pairwise(line.points) if after < before]
    assert min(falls) <= -(told.before - told.value)
    assert any(abs(at_ms - told.t_ms) < 0.01 for at_ms, _ in line.points)


def test_both_firewalls_and_both_ends_of_the_window_are_there(charts):
    _, both = charts
    for chart in both:
        ends = {(curve.where, curve.what) for curve in chart.curves if curve.style != "limit"}
        assert ends == {("fw1", "seqlo"), ("fw1", "seqhi"), ("fw2", "seqlo"), ("fw2", "seqhi")}
        assert sum(len(curve.points) for curve in chart.curves) < 2000


def test_every_packet_that_is_dropped_is_beyond_what_is_accepted(charts):
    chain, (_, whole) = charts
    drops = [mark for mark in whole.marks if mark.kind == "drop"]
    assert drops
    limits = [curve for curve in whole.curves if curve.style == "limit"]
    assert bool(limits) == ("3" in chain.drop.failed)
    for curve in limits:
        assert all(mark.value > curve.points[0][1] for mark in drops)


@given(
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 1000)), max_size=300).map(sorted),
    st.tuples(st.floats(0, 50), st.floats(50.5, 100)),
)
def test_thinning_keeps_what_can_be_seen(points, span):
    """The least, the most, the order, and the value in force when it begins; at most four of a column."""
    kept = thinning.thinned(points, span)
    inside = [value for at_s, value in points if span[0] <= at_s <= span[1]]
    assert kept == sorted(kept, key=lambda point: point[0])
    assert len(kept) <= 4 * 101 + 2
    if inside:
        assert min(value for _, value in kept) <= min(inside)
        assert max(value for _, value in kept) >= max(inside)
        assert kept[-1][1] == inside[-1]
    before = [value for at_s, value in points if at_s < span[0]]
    assert {value for _, value in kept} <= set(inside) | set(before[-1:])


# All of it.


def test_real_runs_are_drawn_like_simulated_ones():
    """They leave the same record; the figures are those that count there."""
    fails, fine = run(PFSYNC_MULTICAST, 1), run(causes.with_guard(small()))
    change = changes.CHANGES[0]
    base, changed = explain.Tried(None, [fails, fine], []), explain.Tried(change, [fine], [])
    result = explain.switched(explain.one("mine", 1, fine), base, [changed], [])
    assert result.pictures.map is not None
    as_it_was, with_change = result.pictures.spreads
    assert as_it_was.values["BAD state"] == (fails.count("bad_state"), 0)
    assert (with_change.change, with_change.values["RST"]) == (change.text, (0,))


def test_a_run_without_a_freeze_has_a_map_only():
    topology = causes.with_guard(small())
    pictures = drawing.draw(run(topology))
    assert pictures.map is not None
    assert (pictures.sequence, pictures.charts) == (None, ())


def test_the_same_run_is_the_same_picture(told):
    played, chain, pictures = told
    again = drawing.draw(played, evidence.Subject(chain.fate.number, chain.fate.flow, chain.fate.serves))
    assert again == pictures
