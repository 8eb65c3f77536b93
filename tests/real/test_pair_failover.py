"""Connections in use, through two firewalls of which one fails: none is lost, and no two answer at once.

The rules lose every connection whose state is missing (``tests/failover/firewall.py``), and the switches
flood every frame to both nodes. ``bench/failover.py`` has the same with two hundred connections.
"""

import signal

import pytest

from tests.failover import firewall
from tests.failover.firewall import Nat
from tests.failover.flows import Flows
from tests.failover.site import SERVER, Site

pytestmark = pytest.mark.real

QUICK = {"advbase": 0, "advskew": 40}
"""An advertisement every 156 ms, dead after 469 ms."""
DEAD_S = 0.47
CONNECTIONS = 20


@pytest.fixture
def site():
    with Site(wan=True, hub=True) as made:
        yield made


def start_firewalls(site, nat=Nat.NONE, *, sync=True):
    """``a`` is MASTER of both sides, ``b`` has its connections."""
    firewall.prepare(site, nat)
    for node in site.nodes:
        node.configure(firewall.configuration(node, sync=sync, **QUICK))
        node.start()
        for vhid in (1, 2):
            node.wait_for_role("MASTER" if node is site.a else "BACKUP", vhid)
    if sync:
        site.b.wait_until(lambda status: status["states"]["synchronised"], "the connections")
    flows = Flows(site.client, site.server, SERVER, CONNECTIONS)
    observer = site.observe()
    observer.wait_until_answers("a")
    if sync:
        site.b.wait_until(lambda status: status["states"]["held"] >= CONNECTIONS, "the connections")
    flows.mark()
    return flows, observer


def lost(fates):
    return [fate.lost for fate in fates if fate.lost]


@pytest.mark.parametrize("nat", Nat)
def test_a_master_that_is_killed_loses_no_connection(site, nat):
    flows, observer = start_firewalls(site, nat)
    killed_ns = site.a.kill()
    took_s = (observer.wait_until_answers("b") - killed_ns) / 1e9
    fates = flows.finish()
    assert lost(fates) == []
    seen = observer.finish()
    assert seen.answerers() == ["a", "b"]
    assert seen.answered_twice() == 0
    status = site.b.status()
    assert status["role"] == "MASTER"
    assert status["states"]["owner"]
    print(f"{took_s * 1000:.0f} ms to the first answer, {max(fate.gap_s for fate in fates):.3f} s of silence")


@pytest.mark.parametrize("nat", Nat)
def test_a_master_whose_cable_is_pulled_loses_no_connection(site, nat):
    """Its other side follows; it says so itself, by the sync link, long before the dead time is over."""
    flows, observer = start_firewalls(site, nat)
    site.pull(site.a)
    observer.wait_until_answers("b")
    assert lost(flows.finish()) == []
    seen = observer.finish()
    assert (seen.answerers(), seen.answered_twice()) == (["a", "b"], 0)
    assert site.b.wait_for_role("MASTER", 2)["why"] == "took over: 203.0.113.2 bowed out"
    assert site.b.wait_for_role("MASTER", 1)["why"] == "took over: 192.0.2.2 bowed out"


def test_a_master_that_freezes_falls_silent_in_the_kernel_and_yields_when_it_wakes(site):
    """Nobody renews its lease: its kernel neither answers nor passes anything on when the other one does."""
    flows, observer = start_firewalls(site)
    stopped_ns = site.a.send(signal.SIGSTOP)
    took_s = (observer.wait_until_answers("b") - stopped_ns) / 1e9
    assert took_s < 2 * DEAD_S
    passed = firewall.forwarded(site.a)
    assert flows.wait_until_moved() == 0
    assert firewall.forwarded(site.a) == passed
    dropped = site.b.status()["guard"]["counters"]
    site.a.send(signal.SIGCONT)
    for vhid in (1, 2):
        assert "stood still" in site.a.wait_for_role("BACKUP", vhid)["why"]
    site.a.wait_until(lambda status: status["states"]["synchronised"], "the connections")
    assert lost(flows.finish()) == []
    assert firewall.forwarded(site.a) == passed
    seen = observer.finish()
    assert (seen.answerers(), seen.answered_twice()) == (["a", "b"], 0)
    assert site.b.status()["guard"]["counters"] == dropped
    # Its bow-out goes over the sync link alone; an announcement would be dropped here.
    assert site.a.status()["guard"]["counters"]["dropped_out_1"] == 0


def test_both_daemons_killed_and_back_at_once_lose_no_connection(site):
    """The kernel that had them has them still; whoever else came first would begin with nothing."""
    flows, observer = start_firewalls(site)
    for node in site.nodes:
        node.kill()
    for node in site.nodes:
        node.start()
    for vhid in (1, 2):
        site.a.wait_for_role("MASTER", vhid)
    assert lost(flows.finish()) == []
    assert observer.finish().answerers() == ["a"]
    site.b.wait_until(lambda status: status["states"]["held"] >= CONNECTIONS, "the connections")


def test_there_and_back_loses_no_connection(site):
    """A node that was MASTER before has stale entries in its kernel, which must not be in the way."""
    flows, observer = start_firewalls(site, Nat.SNAT)
    for master, other in ((site.a, site.b), (site.b, site.a)):
        master.kill()
        for vhid in (1, 2):
            other.wait_for_role("MASTER", vhid)
        assert flows.wait_until_moved() == 0
        master.start()
        master.wait_until(lambda status: status["states"]["held"] >= CONNECTIONS, "the connections")
    assert lost(flows.finish()) == []
    assert observer.finish().answerers() == ["a", "b", "a"]


def test_without_state_sync_every_connection_is_lost(site):
    """What the others would look like if the rules were not as strict as they are."""
    flows, observer = start_firewalls(site, sync=False)
    site.a.kill()
    observer.wait_until_answers("b")
    assert len(lost(flows.finish(patience_s=1.5))) == CONNECTIONS
