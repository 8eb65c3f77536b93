"""What a real run is made of before anything starts: what is refused, how it is shortened, what is told."""

from dataclasses import replace

import pytest

from gimli.lab import catalogue
from gimli.lab.network.measure import failover_s
from gimli.lab.network.real import changes, elector, explain, needs, play, rules
from gimli.lab.network.real.station import Findings, RoleTold, first_master_of
from gimli.lab.network.simulator.record import Fate, Told
from gimli.lab.network.topology import Expect, Fault, Firewall, Kind, Link, Linux, Model
from gimli.pair import config_file

NETWORKS = [name for name in catalogue.names() if name != "two-hups"]
STORY = catalogue.network("pfsync-multicast")
FAILOVER = catalogue.network("failover-nat")


def with_firewalls(topology, **fields):
    hosts = [replace(host, **fields) if isinstance(host, Firewall) else host for host in topology.hosts]
    return replace(topology, hosts=tuple(hosts))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_shipped_network_can_be_played(name):
    needs.refuse_unplayable(changes.quick(catalogue.network(name)))


@pytest.mark.parametrize("fault", [Kind.CUT_TO, Kind.CUT_FROM])
def test_one_direction_of_a_cable_needs_a_switch_where_there_is_an_election(fault):
    """CARP is heard before anything of ours could drop it."""
    needs.refuse_unplayable(replace(STORY, faults=(Fault(5.0, fault, "fw1.sync"),)))
    on_the_cable = [replace(host.carp[0], interface="sync") for host in STORY.firewalls[:1]]
    direct = with_firewalls(STORY, carp=tuple(on_the_cable))
    with pytest.raises(needs.CannotPlay, match=rf"the fault {fault.value} of fw1.sync"):
        needs.refuse_unplayable(replace(direct, faults=(Fault(5.0, fault, "fw1.sync"),)))


def test_a_cable_that_loses_is_refused():
    client = STORY.hosts[0]
    lossy = replace(client, interface=replace(client.interface, link=Link(loss=0.1)))
    with pytest.raises(needs.CannotPlay, match="loss"):
        needs.refuse_unplayable(replace(STORY, hosts=(lossy, *STORY.hosts[1:])))


def test_people_come_faster_and_an_election_takes_its_time():
    """A quarter of the time to come, and to wait for a fault; a failover of 3.4 s fits into every fault."""
    there = replace(
        FAILOVER, faults=(Fault(15.0, Kind.POWER, "fw1"), Fault(15.0, Kind.CUT, "fw2.ext", until_s=25.0))
    )
    quick = changes.quick(there)
    assert quick.traffic.over_s == FAILOVER.traffic.over_s / 4
    power, cut = quick.faults
    assert power.at_s == cut.at_s == 0.5 + (15.0 - FAILOVER.traffic.begins_s) / 4
    assert cut.until_s - cut.at_s == 5.0
    assert quick.traffic.gives_up_s > 3.4 * 2, "a retransmission comes up to a failover's length later"
    assert quick.lasts_s > cut.until_s + quick.traffic.gives_up_s


def test_what_would_not_be_the_networks_is_not_judged():
    expects = {each.expect for each in changes.quick(STORY).expects}
    assert expects == {each.expect for each in STORY.expects} - {Expect.FREEZE}
    linux = changes.quick(with_firewalls(STORY, model=Model.LINUX))
    assert {each.expect for each in linux.expects} == expects - {Expect.BAD_STATE}


def test_a_change_that_is_none_leaves_the_network_as_it_is():
    """There is no balancer to have an entry; a Linux pair has its guard, and no pf."""
    by_words = {change.text: change.apply for change in changes.CHANGES}
    assert by_words["static MAC entries for the group"](FAILOVER) == FAILOVER
    linux = with_firewalls(STORY, model=Model.LINUX)
    assert by_words["gimli's guard on the backup"](linux) == linux
    assert by_words["OpenBSD 7.4's merge"](linux) == linux


@pytest.mark.parametrize("name", NETWORKS)
def test_the_daemons_are_told_what_the_scenario_says(name):
    topology = catalogue.network(name)
    for firewall in topology.firewalls:
        told = config_file.parse(elector.configuration(topology, firewall), "pair.toml")
        assert {(carp.vhid, carp.interface, str(carp.addresses[0].ip)) for carp in told.carp} == {
            (carp.vhid, carp.interface, carp.address) for carp in firewall.carp
        }
        assert [(carp.advbase_s, carp.advskew, carp.preempt) for carp in told.carp] == [
            (carp.advbase, carp.advskew, carp.preempt) for carp in firewall.carp
        ]
        assert told.guard.is_on is firewall.is_guarded
        is_linux = firewall.model is Model.LINUX
        assert (told.sync is not None) is bool(is_linux and firewall.sync), "pf's states go by pfsync"
        if told.sync:
            assert told.sync.mode is firewall.linux.mode


def test_who_would_win_is_first():
    assert first_master_of(STORY).name == "fw1"
    first, second = STORY.firewalls
    slower = replace(first, carp=tuple(replace(carp, advskew=200) for carp in first.carp))
    assert first_master_of(replace(STORY, hosts=(slower, second))).name == second.name


def test_a_static_entry_is_for_its_mac_and_the_other_ports():
    dmz = next(switch for switch in STORY.switches if switch.name == "dmz")
    ports = {"fw1": "port0", "fw2": "port1", "lb1": "port2", "lb2": "port3"}
    assert rules.static_entries(dmz, ports) == ""
    entry = replace(dmz, static=(("01:00:5e:00:02:64", ("lb1", "lb2")),))
    text = rules.static_entries(entry, ports)
    assert [f"to_{port}" in text for port in ports.values()] == [True, True, False, False]
    assert "01:00:5e:00:00:12" not in text, "CARP's group goes to all"


def test_a_linux_firewall_lets_nobody_begin_from_the_wrong_side():
    """Behind the interface to the gateway is whatever is behind no other one."""
    linux = with_firewalls(STORY, model=Model.LINUX, linux=Linux(drops_invalid=False))
    text = rules.rules(linux, linux.firewalls[0])
    assert (
        "iifname { ext, carp1 } ip saddr != { 192.0.2.0/24, 10.2.0.0/24, 10.8.0.0/24 } ct state new" in text
    )
    assert "iifname { dmz, carp2 } ip saddr 192.0.2.0/24 ct state new" in text
    assert "ct state invalid counter name invalid accept" in text
    assert "sync" not in text


def told(at_s, vhid, *, is_master):
    return RoleTold(100.0 + at_s, vhid, is_master, f"vhid {vhid}")


def test_who_was_master_when_is_joined_from_what_both_daemons_told():
    """Times are of the monotonic clock; the run began at 100 s of it, and ended at 110 s."""
    topology = replace(changes.quick(FAILOVER), faults=(Fault(3.0, Kind.POWER, "fw1"),), lasts_s=10.0)
    findings = {
        "fw1": Findings(roles=[told(-2.0, 1, is_master=True), told(3.5, 1, is_master=False)]),
        "fw2": Findings(roles=[told(-1.0, 1, is_master=False), told(3.25, 1, is_master=True)]),
    }
    findings["fw1"].roles.append(told(12.0, 1, is_master=True))
    fault = Told(3.0, "fw1", 0, "fault", "power fw1")
    run = play.record(topology, findings, {}, [fault], 100.0)
    assert run.masters == {"fw1": 0.0, "fw2": 3.25}
    assert run.double_s == pytest.approx(0.25)
    assert failover_s(run) == pytest.approx(0.25)
    assert [entry.t_s for entry in run.log] == [0.0, 0.0, 3.0, 3.25, 3.5]


def test_a_real_run_says_what_a_failover_cost_and_whose_kernel_it_was():
    """Of connections that stood at the fault, with who answered them; a Linux pair is no model."""
    topology = replace(changes.quick(FAILOVER), faults=(Fault(3.0, Kind.POWER, "fw1"),), lasts_s=10.0)
    fates = [
        Fate(1, "a -> b", is_backend=False, opened_s=1.0, unanswered=2, is_stuck=True),
        Fate(2, "c -> b", is_backend=False, opened_s=1.0, answered=3, ended="closed", ended_s=8.0),
        Fate(3, "d -> b", is_backend=False, opened_s=4.0, answered=1, ended="closed", ended_s=8.0),
    ]
    findings = {
        "internet": Findings(fates=fates),
        "fw1": Findings(roles=[told(-2.0, 1, is_master=True), told(3.0, 1, is_master=False)]),
        "fw2": Findings(roles=[told(5.5, 1, is_master=True)]),
    }
    fault = Told(3.0, "fw1", 0, "fault", "power fw1")
    run = play.record(topology, findings, {}, [fault], 100.0)
    result = explain.one("failover-nat", 1, run)
    assert result.headline == "failover after 2.50 s; 1 of 2 connections that stood then were lost"
    assert any("models of OpenBSD's" in words for words in result.sure)
    assert explain.cost_of([run, run]) == {"runs": 2, "open": 4, "lost": 2, "took_s": [2.5, 2.5]}
    linux = replace(run, topology=with_firewalls(topology, model=Model.LINUX))
    assert not any("OpenBSD" in words for words in explain.one("failover-nat", 1, linux).sure)
