"""A pair of which one node is ucarp: both roles, both directions; in one go, since each takes seconds."""

import signal
import time

import pytest

from tests.failover import peers
from tests.failover.site import PASSWORD, Site, carp_table

pytestmark = [pytest.mark.real, pytest.mark.slow]

OURS_FIRST, THEIRS_FIRST, APART = 11, 12, 13
"""vhids: we rank higher, on a MAC of its own; ucarp does, on the interface's; another password."""


def address_of(vhid):
    return f"192.0.2.{100 + vhid}"


@pytest.fixture
def site():
    with Site() as made:
        yield made


def start_ucarps(site):
    """On ``b``, one for each vhid; ucarp knows one vhid per process."""
    return {
        vhid: peers.ucarp(
            site.b.host,
            site.directory,
            "192.0.2.3",
            vhid=vhid,
            address=address_of(vhid),
            password="another-password" if vhid == APART else PASSWORD,
            advskew=0 if vhid == THEIRS_FIRST else 200,
            preempt=vhid == THEIRS_FIRST,
            dead_ratio=3 if vhid == THEIRS_FIRST else 1,
        )
        for vhid in (OURS_FIRST, THEIRS_FIRST, APART)
    }


def configuration():
    skews = {OURS_FIRST: 0, THEIRS_FIRST: 200, APART: 0}
    return "".join(
        carp_table(
            vhid,
            addresses=f"{address_of(vhid)}/24",
            advskew=advskew,
            preempt="true" if vhid == OURS_FIRST else "false",
            mac='"real"' if vhid == THEIRS_FIRST else '"virtual"',
        )
        for vhid, advskew in skews.items()
    )


def wait_for_mac(site, vhid, mac):
    """Wait until a client that asks anew learns this MAC; ucarp lets go when its script comes to it."""
    give_up_s = time.monotonic() + peers.PATIENCE_S
    seen = ""
    while mac not in seen:
        assert time.monotonic() < give_up_s, seen
        site.client.run("ip", "neigh", "flush", "dev", "eth0")
        site.client.run("ping", "-c1", "-W1", address_of(vhid), check=False)
        seen = site.client.run("ip", "neigh", "show", address_of(vhid))


def real_mac(node):
    return node.host.run("ip", "-o", "link", "show", "lan0").split("link/ether ")[1].split()[0]


def test_ucarp_and_we_are_one_pair(site):
    ucarps = start_ucarps(site)
    try:
        site.a.configure(configuration())
        site.a.start()
        # Both roles. ucarp preempts with a MASTER's first advertisement; we are BACKUP there.
        site.a.wait_for_role("MASTER", OURS_FIRST)
        ucarps[THEIRS_FIRST].wait_for(peers.MASTER)
        site.a.wait_until(lambda status: status["vhids"][1]["role"] == "BACKUP", "ucarp's preemption")
        wait_for_mac(site, OURS_FIRST, "00:00:5e:00:01:0b")
        wait_for_mac(site, THEIRS_FIRST, real_mac(site.b))
        # Another password: each thinks that it is alone, and the other one's packets are counted.
        ucarps[APART].wait_for(peers.MASTER)
        status = site.a.wait_until(
            lambda status: (
                status["vhids"][2]["refused"].get("digest", 0) >= 2 and status["vhids"][2]["role"] == "MASTER"
            ),
            "a MASTER that refuses packets",
        )
        assert [vhid["refused"] for vhid in status["vhids"][:2]] == [{}, {}]
        told = site.a.history("packet-refused")
        assert [(entry["vhid"], entry["kind"]) for entry in told] == [(APART, "digest")], "once, not each"
        # One direction: ucarp dies.
        ucarps[THEIRS_FIRST].kill()
        site.b.host.run("ip", "address", "del", f"{address_of(THEIRS_FIRST)}/24", "dev", "lan0")
        assert site.a.wait_for_role("MASTER", THEIRS_FIRST)["why"].startswith("took over: no advertisement")
        wait_for_mac(site, THEIRS_FIRST, real_mac(site.a))
        # The other one: we die, and then we come back, and preempt.
        masters_before = ucarps[OURS_FIRST].said.count(peers.MASTER)
        site.a.kill()
        ucarps[OURS_FIRST].wait_for(peers.MASTER, masters_before + 1)
        wait_for_mac(site, OURS_FIRST, real_mac(site.b))
        site.a.start()
        why = site.a.wait_for_role("MASTER", OURS_FIRST)["why"]
        assert why == "took over: preempted: peer advertises every 1 s + 200/256 s, we every 1 s"
        ucarps[OURS_FIRST].wait_for(peers.BACKUP, masters_before + 1)
        wait_for_mac(site, OURS_FIRST, "00:00:5e:00:01:0b")
        # We leave in order: no dead time.
        site.a.send(signal.SIGTERM)
        ucarps[OURS_FIRST].wait_for(peers.MASTER, masters_before + 2)
        assert site.a.wait() == 0
    finally:
        for each in ucarps.values():
            each.close()
