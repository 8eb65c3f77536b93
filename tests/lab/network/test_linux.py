"""A pair of Linux firewalls in the simulated network: the guard, the lease, and their connections."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gimli.lab.network.simulator.frames import ACK, SYN, Frame, Segment, pair_of_flows
from gimli.lab.network.simulator.record import Judged, Told
from gimli.lab.network.topology import Fault, Kind
from gimli.pair.syncactions import Mode
from gimli.pair.vhid import Role
from tests.lab.network.designs import LINUX_FAILOVER, LINUX_PAIR, firewalls, linux, quick, run, small, world

QUIET = replace(small(LINUX_PAIR, lasts_s=40.0), faults=())
MOST = range(1, 100)


def broken(*faults, topology=QUIET):
    return replace(topology, faults=faults)


def masters(played):
    return {firewall.name for firewall in played.firewalls if firewall.is_master}


def told(played, what):
    return [
        (round(entry.t_s, 3), entry.where, entry.words)
        for entry in played.recorder.log
        if isinstance(entry, Told) and entry.what == what
    ]


def judged(played, where):
    return [entry for entry in played.log if isinstance(entry, Judged) and entry.where == where]


def inject(played, segment, firewall="fw1", interface="ext", mac=None):
    host = played.hosts[firewall]
    nic = host.nics[interface]
    host.receive(nic, Frame(nic.mac if mac is None else mac, 0, segment))
    return host


# The election and the lease.


def test_who_has_no_connections_waits_for_who_may_have_them_and_then_leads():
    """0.64 s: the first start of all is a newcomer's, and the lower advskew is done with it first."""
    played = world(QUIET)
    played.play(0.6)
    assert masters(played) == set()
    played.play(0.7)
    assert masters(played) == {"fw1"}
    assert all(seat.is_master for seat in played.firewalls[0].seats)


def test_when_the_master_is_switched_off_the_other_one_has_its_connections():
    played = run(quick())
    assert 0.1 < played.masters["fw2"] - 8.0 < 0.2
    assert played.open_at_fault == 12
    assert not any(fate.is_lost for fate in played.fates)
    assert played.double_s == 0


def test_a_master_whose_daemon_hangs_is_silenced_by_its_kernel_before_the_other_one_takes_over():
    played = world(LINUX_FAILOVER)
    played.play(20.0)
    hung, other = played.firewalls
    (lapsed_s, where, _), _ = told(played, "lease")
    assert (where, masters(played)) == ("fw1", {"fw2"})
    assert hung._daemon.node.leader.role is Role.MASTER, "so its daemon believes"
    assert all(seat.has_address for seat in hung.seats), "and so does its kernel, but for the lease"
    took_s = played.result().masters["fw2"]
    assert 15.0 < lapsed_s < took_s < 15.1
    seat = hung.seats[0]
    segment = Segment(pair_of_flows("198.51.100.9", 1, seat.address, 8080, 1), SYN, 1, 0, 0, 1000)
    fenced = played.recorder.counts["fenced"]
    before = fenced["fw1"]
    inject(played, segment, mac=seat.mac)
    assert fenced["fw1"] == before + 1
    assert hung.mac_of(seat.nic, seat.address) is None
    assert other.mac_of(other.seats[0].nic, seat.address) == seat.mac
    played.play(40.0)
    assert hung._daemon.node.leader.role is Role.BACKUP, "when it goes on it finds that, and follows"
    assert played.recorder.double_s == 0


def test_a_dead_link_takes_the_other_groups_along():
    played = world(broken(Fault(10.0, Kind.CUT, "fw1.dmz", until_s=15.0)))
    played.play(14.0)
    assert masters(played) == {"fw2"}
    played.play(30.0)
    assert masters(played) == {"fw2"}, "nobody preempts"
    assert played.recorder.double_s < 0.0001, "as long as a frame takes to say so"


def test_who_was_switched_off_comes_back_as_backup_with_everything():
    off = Fault(6.0, Kind.POWER, "fw1", until_s=9.0)
    played = world(broken(off, topology=quick()))
    played.play(8.0)
    back, other = played.firewalls
    assert len(back.table) == 0
    played.play(12.0)
    assert masters(played) == {"fw2"}
    assert len(back.table) == len(other.table) > 10


@pytest.mark.parametrize("kind", [Kind.CUT_TO, Kind.CUT_FROM])
def test_two_that_hear_each_other_by_the_sync_link_alone_agree(kind):
    """Where one direction is dead pf's CARP has two MASTERs; the pair advertises by both ways."""
    played = run(broken(Fault(10.0, kind, "fw2.dmz")))
    assert played.double_s == 0


# Whose frames are looked at.


def test_the_guard_drops_what_is_flooded_before_it_is_tracked():
    played = run(QUIET, traced=set(MOST))
    assert played.count("guarded", "fw2") > 50
    assert played.count("copies") == 0
    assert not judged(played, "fw2")
    assert played.answered == 10


def test_without_the_guard_copies_are_tracked_and_not_forwarded():
    played = run(firewalls(QUIET, guard=False), traced=set(MOST))
    assert played.count("copies", "fw2") > 50
    assert played.count("forwarded") == 0
    assert {entry.is_copy for entry in judged(played, "fw2")} == {True}
    assert all(entry.is_replica for entry in judged(played, "fw2"))
    assert played.answered == 10


@pytest.mark.parametrize(
    ("guard", "changes", "is_harmed"),
    [
        (False, {"liberal": False}, True),
        (True, {"liberal": False}, False),
        (False, {}, False),
        (False, {"liberal": False, "mode": Mode.CACHE}, False),
        (False, {"liberal": False, "drops_invalid": False}, False),
    ],
    ids=["no guard, not liberal", "the guard", "liberal", "cache", "invalid passes"],
)
def test_it_takes_all_of_them_to_freeze_a_connection_at_a_failover(guard, changes, is_harmed):
    """No guard, replicas in the kernel, and windows that are minded: each alone is enough to be safe."""
    played = run(firewalls(linux(quick(), **changes), guard=guard))
    lost = sum(fate.is_lost for fate in played.fates if not fate.is_backend)
    assert (lost > 6) == is_harmed
    assert bool(played.count("bad_state", "fw2")) == (is_harmed or not changes.get("drops_invalid", True))


def test_a_backup_says_nothing_of_connections_whatever_it_was_shown():
    """State goes one way: what copies did to the replicas stays there."""
    topology = firewalls(linux(QUIET, liberal=False), guard=False)
    played = world(topology)
    sent = []
    played.play(5.0)
    backup = played.firewalls[1]
    backup.send_datagram = sent.append
    played.play(12.0)
    assert played.recorder.counts["copies"]["fw2"] > 50
    kinds = {datagram[5] for datagram in sent}
    assert kinds <= {1, 5}, "wishes and acknowledgements (gimli.pair.syncwire.Kind)"


# Rules.


def test_what_begins_a_connection_passes_from_the_side_where_its_sender_is():
    flow = pair_of_flows("198.51.100.9", 40122, "192.0.2.100", 80, 1)
    for interface, flags, known in (("ext", SYN, 1), ("dmz", SYN, 0), ("app", SYN, 0), ("ext", ACK, 0)):
        played = world(replace(QUIET, traffic=replace(QUIET.traffic, connections=0)))
        played.play(6.0)
        host = inject(played, Segment(flow, flags, 1000, 0, 0, 1000), interface=interface)
        assert len(host.table) == known, (interface, flags)


def test_without_a_sync_link_a_failover_costs_what_stood_unless_tracking_is_loose():
    for loose in (False, True):
        played = run(linux(firewalls(quick(), sync=""), loose=loose))
        lost = sum(fate.is_lost for fate in played.fates if not fate.is_backend)
        assert (lost > 6) == (not loose)


def test_the_same_seed_gives_the_same_run():
    first, second = (run(small(LINUX_FAILOVER), seed=3) for _ in range(2))
    assert (first.events, first.log) == (second.events, second.log)
