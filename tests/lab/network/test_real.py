"""Incident 2 on the real kernel: it happens as it is, and not with the guard; nothing is left behind."""

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
from gimli.lab.network.real import changes, ground, play
from gimli.lab.network.simulator.record import Merged, Told
from gimli.lab.network.topology import Block, Fault, Firewall, Kind

pytestmark = [pytest.mark.real, pytest.mark.slow]

QUICK = changes.quick(catalogue.find("pfsync-multicast").topology)
SHORT = replace(
    QUICK, lasts_s=6.0, traffic=replace(QUICK.traffic, connections=40, over_s=1.0, thinks_s=(0.5, 2.5))
)


def children_of(pid):
    """Its living children."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def with_pf(**fields):
    """The topology with another pf on its firewalls."""
    hosts = [
        replace(host, pf=replace(host.pf, **fields)) if isinstance(host, Firewall) else host
        for host in SHORT.hosts
    ]
    return replace(SHORT, hosts=tuple(hosts))


def run_of(topology, seed=1):
    return play.play(topology, seed, lambda _: None)


def test_windows_move_back_and_good_packets_are_dropped(tmp_path):
    """The file of the backup's taps has the frames that the backup was not to see."""
    run = play.play(SHORT, 1, lambda _: None, str(tmp_path))
    figures = measure.metrics(run)
    assert figures["answered"] > 40
    assert figures["copies_on_backup"] > 1000
    assert figures["backward_moves"] > 10
    assert figures["bad_state_drops"] > 0
    assert not figures["forwarded_by_backup"]
    assert len(os.listdir(tmp_path)) == 7
    wanted = "ether dst 01:00:5e:00:02:64 and tcp"
    read = ["tcpdump", "-r", str(tmp_path / "fw2.pcapng"), "-nn", wanted]
    seen = subprocess.run(read, capture_output=True, text=True, check=True).stdout.count("\n")
    # What was still on its way when the run ended is in the file only.
    assert figures["copies_on_backup"] <= seen < figures["copies_on_backup"] * 1.1


def test_with_the_guard_there_is_nothing_of_it():
    guarded = next(change for change in changes.CHANGES if "guard" in change.text)
    figures = measure.metrics(run_of(guarded.apply(SHORT)))
    assert figures["answered"] > 40
    assert figures["guard_drops"] > 1000
    assert not figures["copies_on_backup"]
    assert not figures["backward_moves"]
    assert not figures["bad_state_drops"]
    assert not figures["application_resets"]


def test_the_cable_is_pulled_in_the_middle_of_a_run():
    """As in the story: what went wrong until then does not go on, for no update comes any more."""
    pulled = replace(SHORT, faults=(Fault(2.5, Kind.CUT, "fw1.sync"),))
    run = run_of(pulled)
    cut_s = next(entry.t_s for entry in run.log if isinstance(entry, Told) and entry.what == "fault")
    merged_s = [entry.t_s for entry in run.log if isinstance(entry, Merged) and entry.back]
    assert merged_s
    assert max(merged_s) < cut_s + 0.5
    assert run.count("copies") > 1000
    assert run.counts["sync_lost"]["fw1"]


@pytest.mark.parametrize(
    ("topology", "named"),
    [
        (replace(SHORT, faults=(Fault(3.0, Kind.POWER, "fw1"),)), "the fault power of fw1"),
        (replace(SHORT, faults=(Fault(3.0, Kind.CUT, "fw1.dmz"),)), "the fault cut of fw1.dmz"),
        (with_pf(block=Block.RETURN), "fw1: pf's block return"),
        (with_pf(redirect=("203.0.113.100", "192.0.2.100")), "fw1: pf's redirect"),
    ],
)
def test_what_is_only_simulated_is_refused_by_name(topology, named):
    with pytest.raises(ground.CannotPlay, match=f"^{named} is simulated only"):
        ground.Ground(topology)


def test_a_program_that_is_missing_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None if program == "nft" else f"/usr/sbin/{program}")
    with pytest.raises(NetworkRefused, match="there is no nft") as refused:
        ground.Ground(SHORT)
    assert "apt-get install nftables" in refused.value.fix


def test_a_part_of_the_kernel_that_is_missing_is_named(monkeypatch):
    """A command that no kernel carries out stands for the missing part."""
    need = replace(ground.NEEDS[2], command=("iptables-legacy", "-t", "nosuch", "-L"))
    monkeypatch.setattr(ground, "NEEDS", (need,))
    with pytest.raises(NetworkRefused, match="the kernel has no NFQUEUE") as refused:
        ground.Ground(SHORT)
    assert "nosuch" in refused.value.why
    assert "modprobe" in refused.value.fix


def test_who_is_not_root_is_told_so():
    program = (
        "import os\n"
        "from gimli.lab.network.real import changes, ground\n"
        "from gimli.lab.catalogue import network\n"
        "topology = network('pfsync-multicast')\n"
        "os.setuid(65534)\n"
        "try: ground.Ground(changes.quick(topology))\n"
        "except ground.NetworkRefused as error: print(error, error.fix)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "you are not root" in said
    assert "sudo" in said


def test_nothing_is_left_when_it_is_killed_in_the_middle():
    """Programs, filters and namespaces all end with their maker, whoever kills it."""
    program = (
        "from gimli.lab.network.real import changes, play\n"
        "from gimli.lab.catalogue import network\n"
        "topology = network('pfsync-multicast')\n"
        "play.play(changes.quick(topology), 1, lambda words: print(words, flush=True))\n"
    )
    maker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert maker.stdout is not None
    assert "7 hosts" in maker.stdout.readline()  # it plays
    children = children_of(maker.pid)
    assert len(children) >= 17  # holders of ten namespaces and seven programs
    pidfds = [os.pidfd_open(pid) for pid in children]
    maker.send_signal(signal.SIGKILL)
    maker.communicate()
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], 30)[0]
        os.close(pidfd)
