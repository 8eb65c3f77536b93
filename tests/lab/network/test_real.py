"""Networks on the real kernel: incident 2 happens as it is, a failover is one, and nothing is left behind."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from gimli.lab import catalogue
from gimli.lab.namespaces import NetworkRefused
from gimli.lab.network import measure
from gimli.lab.network.real import changes, explain, ground, needs, play
from gimli.lab.network.simulator.record import Merged, Told
from gimli.lab.network.topology import Block, Fault, Firewall, Kind, Link, Linux, Model

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.alone]


def quickly_elected(topology):
    """In the fast mode: an election takes a second."""
    hosts = [
        replace(
            host,
            carp=tuple(replace(carp, advbase=0, advskew=80 + carp.advskew // 4) for carp in host.carp),
        )
        if isinstance(host, Firewall)
        else host
        for host in topology.hosts
    ]
    return replace(topology, hosts=tuple(hosts))


def short(name, **fields):
    """A shipped scenario in a few seconds."""
    topology = catalogue.network(name)
    traffic = replace(topology.traffic, begins_s=0.2, connections=40, over_s=1.0, thinks_s=(0.5, 2.5))
    return replace(quickly_elected(topology), traffic=traffic, **{"lasts_s": 5.0, **fields})


SHORT = short("pfsync-multicast")


def children_of(pid):
    """Its living children."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def with_firewalls(topology, **fields):
    """The topology with other firewalls."""
    hosts = [replace(host, **fields) if isinstance(host, Firewall) else host for host in topology.hosts]
    return replace(topology, hosts=tuple(hosts))


def with_pf(**fields):
    """The topology with another pf on its firewalls."""
    return with_firewalls(SHORT, pf=replace(SHORT.firewalls[0].pf, **fields))


def with_loss():
    """The topology with a cable that loses."""
    client = SHORT.hosts[0]
    lossy = replace(client, interface=replace(client.interface, link=Link(loss=0.1)))
    return replace(SHORT, hosts=(lossy, *SHORT.hosts[1:]))


def roles_of(run):
    """What was told of roles."""
    return [entry for entry in run.log if isinstance(entry, Told) and entry.what == "role"]


def run_of(topology, seed=1):
    return play.play(topology, seed, lambda _: None)


def test_windows_move_back_until_the_cable_is_pulled(tmp_path):
    """As in the story: good packets are dropped, and that does not go on, for no update comes any more.

    The file of the backup's taps has the frames that the backup was not to see.
    """
    pulled = replace(SHORT, faults=(Fault(2.5, Kind.CUT, "fw1.sync"),))
    run = play.play(pulled, 1, lambda _: None, str(tmp_path))
    figures = measure.metrics(run)
    assert figures["answered"] > 40
    assert figures["copies_on_backup"] > 1000
    assert figures["bad_state_drops"] > 0
    assert not figures["forwarded_by_backup"]
    cut_s = next(entry.t_s for entry in run.log if isinstance(entry, Told) and entry.what == "fault")
    merged_s = [entry.t_s for entry in run.log if isinstance(entry, Merged) and entry.back]
    assert max(merged_s) < cut_s + 0.5
    found = explain.after_the_pull(run)
    assert found["moved_back_before"] > 10 > found["moved_back_after"]
    assert list(run.masters) == ["fw1"], roles_of(run)
    assert len(os.listdir(tmp_path)) == 7
    wanted = "ether dst 01:00:5e:00:02:64 and tcp"
    read = ["tcpdump", "-r", str(tmp_path / "fw2.pcapng"), "-nn", wanted]
    seen = subprocess.run(read, capture_output=True, text=True, check=True).stdout.count("\n")
    # What was still on its way when the run ended is in the file only.
    assert figures["copies_on_backup"] <= seen < figures["copies_on_backup"] * 1.1


def test_with_the_guard_there_is_nothing_of_it():
    guarded = next(change for change in changes.CHANGES if "guard" in change.text)
    figures = measure.metrics(run_of(replace(guarded.apply(SHORT), lasts_s=4.0)))
    assert figures["answered"] > 40
    assert figures["guard_drops"] > 1000
    assert not figures["copies_on_backup"]
    assert not figures["backward_moves"]
    assert not figures["bad_state_drops"]
    assert not figures["application_resets"]


def test_a_master_that_loses_its_power_is_followed_and_takes_part_again_when_it_is_back():
    """The pair's daemons elect on the cables; pfsync has told of the translated states, so most go on."""
    fault = Fault(1.8, Kind.POWER, "fw1", until_s=3.8)
    run = run_of(short("failover-nat", faults=(fault,), lasts_s=6.5))
    figures = measure.metrics(run)
    assert 0.3 < measure.failover_s(run) < 2.0
    assert list(run.masters) == ["fw1", "fw2"]
    assert not run.double_s
    assert figures["answered"] > 60
    assert figures["open_at_fault"] > 10
    assert figures["lost_at_fault"] < figures["open_at_fault"] / 4
    assert not figures["forwarded_by_backup"]
    told = [entry.words for entry in roles_of(run) if entry.where == "fw1"]
    assert any("BACKUP" in words for words in told[told.index("vhid 1 off") :])


def test_without_pfsync_a_failover_loses_what_stood():
    topology = short("failover-nat", faults=(Fault(1.5, Kind.POWER, "fw1"),), lasts_s=8.0)
    figures = measure.metrics(run_of(with_firewalls(topology, sync="")))
    assert figures["open_at_fault"] > 10
    assert figures["lost_at_fault"] > figures["open_at_fault"] / 2


def test_a_switch_that_keeps_groups_from_the_backup_makes_two_masters():
    run = run_of(short("split-brain", lasts_s=3.0))
    assert run.double_s > 1.0
    masters = [entry.words for entry in roles_of(run) if entry.where == "fw2" and "MASTER" in entry.words]
    assert masters[0].startswith("vhid 2 MASTER"), masters


def test_a_master_that_cannot_speak_is_followed_on_that_side_alone():
    """Nobody sees a link go down: the cable is dead in one direction.

    The static entry of its DMZ is for the balancers' MAC alone: it keeps no advertisement from anybody.
    """
    fault = Fault(1.5, Kind.CUT_FROM, "fw1.ext", until_s=4.0)
    run = run_of(short("asymmetric-link", faults=(fault,), lasts_s=5.0))
    assert 0.3 < measure.failover_s(run) < 2.0
    told = [(entry.where, entry.words.partition(":")[0]) for entry in roles_of(run) if entry.t_s > 1.5]
    assert told == [("fw2", "vhid 1 MASTER"), ("fw2", "vhid 1 BACKUP")]
    assert 0.5 < run.double_s < 3.0
    assert run.answered
    assert not run.count("copies")


LINUX = with_firewalls(SHORT, model=Model.LINUX)


def test_a_linux_pair_loses_nothing_when_a_daemon_hangs_and_looks_at_no_copy():
    """The kernel takes the right to the addresses from it before the other one takes over."""
    fault = Fault(1.8, Kind.HANG, "fw1", until_s=4.0)
    run = run_of(replace(LINUX, lasts_s=6.0, faults=(fault,)))
    figures = measure.metrics(run)
    assert 0.3 < measure.failover_s(run) < 2.0
    told = [entry.words for entry in roles_of(run) if entry.where == "fw1"]
    assert any("the lease is over" in words for words in told)
    assert "BACKUP" in told[-1]
    assert not run.double_s
    assert figures["guard_drops"] > 500
    assert not figures["copies_on_backup"]
    assert figures["open_at_fault"] > 10
    assert not figures["lost_at_fault"]


def test_a_linux_pair_whose_guard_is_off_does_look_at_them():
    figures = measure.metrics(run_of(replace(with_firewalls(LINUX, guard=False), lasts_s=3.0)))
    assert figures["copies_on_backup"] > 200
    assert not figures["guard_drops"]


@pytest.mark.parametrize(
    ("topology", "named"),
    [
        (with_pf(block=Block.RETURN), "fw1: pf's block return"),
        (with_firewalls(LINUX, linux=Linux(liberal=False)), "fw1: a pair that inserts connections which"),
        (with_loss(), "internet.wan: loss, duplication or reordering of a link"),
    ],
)
def test_what_is_only_simulated_is_refused_by_name(topology, named):
    with pytest.raises(needs.CannotPlay, match=f"^{named}.* simulated only"):
        ground.Ground(topology)


def test_a_program_that_is_missing_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None if program == "nft" else f"/usr/sbin/{program}")
    with pytest.raises(NetworkRefused, match="there is no nft") as refused:
        ground.Ground(SHORT)
    assert "apt-get install nftables" in refused.value.fix


def test_a_part_of_the_kernel_that_is_missing_is_named(monkeypatch):
    """A command that no kernel carries out stands for the missing part."""
    need = replace(needs.NEEDS[3], command=("iptables-legacy", "-t", "nosuch", "-L"))
    monkeypatch.setattr(needs, "NEEDS", (need,))
    with pytest.raises(NetworkRefused, match="the kernel has no NFQUEUE") as refused:
        ground.Ground(SHORT)
    assert "nosuch" in refused.value.why
    assert "modprobe" in refused.value.fix


def test_who_is_not_root_is_told_so():
    program = (
        "import os\n"
        "from gimli.lab.namespaces import NetworkRefused\n"
        "from gimli.lab.network.real import changes, ground\n"
        "from gimli.lab.catalogue import network\n"
        "topology = network('pfsync-multicast')\n"
        "os.setuid(65534)\n"
        "try: ground.Ground(changes.quick(topology))\n"
        "except NetworkRefused as error: print(error, error.fix)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "you are not root" in said
    assert "sudo" in said


def test_nothing_is_left_when_it_is_killed_in_the_middle(tmp_path):
    """Programs, filters and namespaces all end with their maker, whoever kills it."""
    program = (
        "from gimli.lab.network.real import changes, play\n"
        "from gimli.lab.catalogue import network\n"
        "topology = network('pfsync-multicast')\n"
        "play.play(changes.quick(topology), 1, lambda words: print(words, flush=True))\n"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    maker = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert maker.stdout is not None
    assert "7 hosts" in maker.stdout.readline()  # it plays
    directories = list(tmp_path.glob("gimli-lab-*/run/pair"))
    assert len(directories) >= 2
    children = children_of(maker.pid)
    assert len(children) >= 17  # holders of ten namespaces and seven programs
    children += [grandchild for child in children for grandchild in children_of(child)]  # cages
    pidfds = [os.pidfd_open(pid) for pid in children]
    maker.send_signal(signal.SIGKILL)
    maker.communicate()
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], 30)[0]
        os.close(pidfd)
    assert not [directory for directory in directories if directory.exists()]
