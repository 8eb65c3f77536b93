"""What a firewall does with frames that are flooded to it, and what its states are worth."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gimli.lab.network.simulator.frames import ACK, SYN, Frame, Segment, pair_of_flows
from gimli.lab.network.simulator.record import Dropped, Merged, Tracked
from gimli.lab.network.topology import Binding, Block, Carp, Release
from tests.lab.network.designs import (
    PFSYNC_MULTICAST,
    SERVICE,
    dmz,
    firewalls,
    pf,
    redirected,
    run,
    small,
    traffic,
    world,
)

FRONT = range(1, 100)


def copies(played, connection=1):
    """Packets in frames to a group MAC that moved a state of the backup on."""
    return [
        entry
        for entry in played.log
        if isinstance(entry, Tracked) and entry.is_copy and entry.connection == connection
    ]


@pytest.mark.parametrize("carps", [1, 2, 3])
def test_pf_sees_a_copy_once_and_once_more_for_each_carp_interface(carps):
    """carp_input() gives one to each that is up and lets the physical one have it as well."""
    more = tuple(Carp("dmz", 10 + number, f"192.0.2.{200 + number}") for number in range(carps - 1))
    topology = small()
    both = [replace(firewall, carp=firewall.carp + more) for firewall in topology.firewalls]
    hosts = [host for host in topology.hosts if host not in topology.firewalls]
    played = run(replace(topology, hosts=(*both, *hosts)), traced=set(FRONT))
    found = copies(played)
    assert found
    assert all(entry.where == "fw2" and entry.interface == "dmz" for entry in found)
    for entry in found:
        same = [other for other in found if (other.t_s, other.packet) == (entry.t_s, entry.packet)]
        assert len(same) == 1 + carps


def test_a_copy_moves_half_of_a_state_on():
    """The sender's seqlo and the other one's seqhi; the other one's seqlo is what pfsync last said."""
    played = run(small(), traced=set(FRONT))
    states = {}
    moved = 0
    for entry in played.log:
        if isinstance(entry, Tracked | Merged) and entry.where == "fw2":
            before = states.get(entry.state)
            if before and isinstance(entry, Tracked):
                ours, other = ("src", "dst") if entry.is_from_src else ("dst", "src")
                assert getattr(entry, other).seqlo == getattr(before, other).seqlo
                assert getattr(entry, ours).seqhi == getattr(before, ours).seqhi
                moved += getattr(entry, ours).seqlo > getattr(before, ours).seqlo
            states[entry.state] = entry
    assert moved


def test_the_backup_forwards_nothing_from_4_7_on_and_the_master_does_the_work():
    played = run(small())
    assert played.count("copies", "fw2") > 50
    assert played.count("copies", "fw1") == 0
    assert played.count("forwarded") == 0
    assert played.answered == 10


@pytest.mark.parametrize(
    "changes", [{"release": Release.V4_6}, {"forwards_groups": True}], ids=["4.6", "alone"]
)
def test_up_to_4_6_the_backup_forwards_and_a_storm_begins(changes):
    """What it sends to the group's MAC comes back to it from the master, and so on, 1 + N of each."""
    played = run(pf(small(connections=2, lasts_s=12.0), cpu_s=0.0005, **changes))
    assert played.count("forwarded", "fw2") > 1_000
    assert played.count("forwarded_groups", "fw1") > 1_000, "the master, too, sends them back"


def test_one_packet_makes_a_storm_that_ends_with_its_ttl():
    """Every round doubles it and costs one of 64, and what does not fit into the queues is lost."""
    played = world(pf(small(connections=1), cpu_s=0.00002))
    played.play(8.0)
    for firewall in played.firewalls:
        firewall._is_forwarding_groups = True
    end = played.visitors[0]._end
    end._emit(ACK, end.snd_nxt, 0)
    counts = played.recorder.counts
    played.play(8.05)
    assert counts["forwarded"]["fw2"] > 500, "it grows"
    assert not counts["ttl_ended"]
    longest_s = 64 * 256 * 0.00002
    played.play(8.05 + longest_s)
    assert counts["ttl_ended"]
    grown = dict(counts["forwarded"])
    played.play(8.05 + 2 * longest_s)
    assert counts["forwarded"] == grown, "and is over"


@pytest.mark.parametrize(
    "topology",
    [firewalls(small(), guard=True), dmz(small(), static=(("01:00:5e:00:02:64", ("lb1", "lb2")),))],
    ids=["guard", "static entry"],
)
def test_a_frame_that_does_not_pass_the_nic_touches_nothing(topology):
    played = run(topology, traced=set(FRONT))
    assert not copies(played)
    assert played.count("copies") == played.count("backwards") == 0
    assert played.answered == 10


def test_the_guard_lets_the_pair_and_everything_else_through():
    played = run(firewalls(small(), guard=True))
    assert played.count("guarded", "fw2") > 50
    assert played.masters == {"fw1": 3.0}


def test_copies_of_syns_come_before_the_state_does():
    """And fall to the rules: dropped, or answered by a RST to the client where pf returns."""
    played = run(small())
    assert 0 < played.count("no_state", "fw2") < played.count("copies", "fw2")
    assert played.count("returned") == 0
    played = run(pf(small(), block=Block.RETURN))
    assert played.count("returned", "fw2") > 0
    assert all(fate.ended in {"refused", "reset"} for fate in played.fates if not fate.is_backend)


@pytest.mark.parametrize(
    "topology",
    [pf(small(), binding=Binding.IF_BOUND), redirected(small())],
    ids=["if-bound", "rdr"],
)
def test_no_state_fits_a_copy_when_states_are_bound_or_translated(topology):
    """If-bound, none is of this interface; translated, a client's packet is another one inside."""
    played = run(topology, traced=set(FRONT))
    assert played.count("copies", "fw2") > 50
    assert not [entry for number in FRONT for entry in copies(played, number)]
    assert played.answered == 10


def test_a_redirected_connection_is_the_same_for_the_client_before_and_behind_the_firewall():
    played = world(redirected(small()))
    played.play(20.0)
    states = played.firewalls[0].filter._states.values()
    front = [state for state in states if state.wire.dst == "203.0.113.1"]
    assert front
    assert all(state.stack.dst == SERVICE and state.stack.src == state.wire.src for state in front)


def test_states_are_made_where_a_packet_enters_and_where_it_leaves_and_are_replicated():
    played = world(small())
    played.play(8.0)
    master, backup = played.firewalls
    numbers = set(master.filter._states)
    connections = {state.wire.connection for state in master.filter._states.values()}
    assert len(numbers) == 2 * len(connections)
    assert set(backup.filter._states) == numbers
    assert {state.creator for state in backup.filter._states.values()} == {"fw1"}


def test_without_pfsync_the_backup_has_no_state():
    played = world(firewalls(small(), sync=""))
    played.play(8.0)
    master, backup = played.firewalls
    assert len(master.filter) > 4
    assert len(backup.filter) == 0


def test_states_expire_and_their_creator_tells_the_other_one():
    played = world(small(lasts_s=300.0))
    played.play(300.0)
    assert [len(firewall.filter) for firewall in played.firewalls] == [0, 0]


def inject(played, segment, firewall="fw1", interface="ext"):
    host = played.hosts[firewall]
    nic = host.nics[interface]
    host.receive(nic, Frame(nic.mac, 0, segment))
    return host


def test_the_rules_pass_what_begins_a_connection_from_where_its_sender_is():
    outside = pair_of_flows("198.51.100.9", 40122, SERVICE, 80, 1)
    for interface, flags, states in (("ext", SYN, 2), ("dmz", SYN, 0), ("app", SYN, 0), ("ext", ACK, 0)):
        played = world(traffic(small(), connections=0))
        played.play(4.0)
        host = inject(played, Segment(outside, flags, 1000, 0, 0, 1000), interface=interface)
        assert len(host.filter) == states, (interface, flags)


def test_a_packet_whose_ttl_has_ended_goes_nowhere():
    played = world(traffic(small(), connections=0))
    played.play(4.0)
    host = played.hosts["fw1"]
    nic = host.nics["ext"]
    syn = Segment(pair_of_flows("198.51.100.9", 40122, SERVICE, 80, 1), SYN, 1000, 0, 0, 1000)
    host.receive(nic, Frame(nic.mac, 0, syn, ttl=1))
    assert played.recorder.counts["ttl_ended"] == {"fw1": 1}


def test_packets_wait_for_the_cpu_and_too_many_are_dropped():
    played = world(traffic(pf(small(), cpu_s=0.01), connections=0))
    played.play(4.0)
    for number in range(400):
        inject(played, Segment(pair_of_flows("198.51.100.9", number, SERVICE, 80, 1), SYN, 1, 0, 0, 1))
    host = played.hosts["fw1"]
    assert host.overrun == 400 - 1 - 256
    assert len(host.filter) == 2, "one is in hand, the others wait"
    played.play(10.0)
    assert len(host.filter) == 2 * 257


def test_a_packet_dropped_as_bad_state_says_which_test_it_failed():
    played = run(PFSYNC_MULTICAST, traced={1})
    assert played.count("bad_state", "fw1") > 0
    dropped = [entry for entry in played.log if isinstance(entry, Dropped)]
    assert all(set(entry.failed) <= set("123456") for entry in dropped)
