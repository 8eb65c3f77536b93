"""Incident 2's wiring with our pair for its firewalls: no flooded frame gets past the standby node's NIC.

The wiring floods as the story's did, and the frames do arrive at the standby node's NIC. The guard's counter
has exactly those, and the hook before connection tracking has none. The same counters see them come through
when the rules are taken away by force.
"""

import signal
import subprocess

import pytest

from tests.failover import balancers, firewall
from tests.failover.firewall import Nat
from tests.failover.flows import Flows
from tests.failover.site import Site
from tests.pair.conftest import eventually

pytestmark = pytest.mark.real

QUICK = {"advbase": 0, "advskew": 40}
CONNECTIONS = 16
ENOUGH = 200
"""Frames: more than a connection's beginning makes."""


@pytest.fixture
def site():
    with Site(wan=True) as made:
        balancers.put_up(made)
        yield made


def start(site, nat, *, sync):
    """``a`` is MASTER, ``b`` is on standby, and connections go through."""
    firewall.prepare(site, nat)
    for node in site.nodes:
        node.configure(firewall.configuration(node, sync=sync, **QUICK))
        node.start()
        for vhid in (1, 2):
            node.wait_for_role("MASTER" if node is site.a else "BACKUP", vhid)
    if sync:
        site.b.wait_until(lambda status: status["states"]["synchronised"], "the connections")
    return Flows(site.client, site.server, balancers.SHARED, CONNECTIONS)


def dropped(node):
    """What the guard says that it has kept away."""
    return node.status()["guard"]["counters"]["dropped_group_wan0"]


@pytest.mark.parametrize(
    ("nat", "sync"),
    [(Nat.NONE, True), (Nat.SNAT, True), (Nat.NONE, False)],
    ids=["sync", "sync and NAT", "no sync"],
)
def test_no_frame_of_another_node_reaches_connection_tracking(site, nat, sync):
    """Real TCP goes on meanwhile, and what was flooded was counted three times: all, all, none."""
    b = site.b
    events = b.host.start("conntrack", "-E", "-p", "tcp", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    flows = start(site, nat, sync=sync)
    eventually(lambda: balancers.arrived(b) > ENOUGH)
    assert [fate.lost for fate in flows.finish() if fate.lost] == []
    eventually(lambda: balancers.arrived(b) == dropped(b))
    assert balancers.passed(b) == 0
    assert balancers.invalid(b) == 0
    assert b.host.run("conntrack", "-L", "-p", "tcp") == ""
    events.send_signal(signal.SIGINT)
    seen, _ = events.communicate()
    assert seen == b""
    print(f"{balancers.arrived(b)} frames arrived, {dropped(b)} dropped by the guard, 0 passed")


def test_without_the_guard_they_do_and_the_daemon_says_so_and_mends_it(site):
    """What the test above finds to be nought is not so by itself.

    A daemon that runs has mended its rules within milliseconds. So it is stopped while they are away.
    """
    b = site.b
    flows = start(site, Nat.NONE, sync=True)
    eventually(lambda: balancers.arrived(b) > ENOUGH)
    assert balancers.passed(b) == 0
    b.send(signal.SIGSTOP)
    b.host.run("nft", "delete", "table", "netdev", "gimli")
    eventually(lambda: balancers.passed(b) > ENOUGH)
    assert balancers.invalid(b) > ENOUGH / 2
    b.send(signal.SIGCONT)
    assert b.wait_for("guard-altered")["mended"]
    status = b.status()
    assert status["guard"]["installed"]
    assert status["role"] == "BACKUP"
    passed, arrived = balancers.passed(b), balancers.arrived(b)
    eventually(lambda: balancers.arrived(b) > arrived + ENOUGH)
    assert balancers.passed(b) == passed
    assert [fate.lost for fate in flows.finish() if fate.lost] == []
    print(f"{passed} of {arrived} frames came through while the guard was away")
