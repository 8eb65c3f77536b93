"""Two kernels' tables and a cable between them, each in a loop as the daemon has one."""

import ipaddress
import os
import socket
import time

import pytest

from gimli.lab.namespaces import Network
from gimli.loop import Loop
from gimli.pair import ctmessage, syncactions
from gimli.pair.config import Sync
from gimli.pair.conntrack import Writer
from gimli.pair.replication import Replication
from gimli.pair.statesync import StateSync
from gimli.pair.syncactions import Mode
from tests.pair.connections import BEGUN, ENDED, ESTABLISHED, Connection, End
from tests.pair.firewalls import PATIENCE_S, inside

pytestmark = pytest.mark.real

TRACKING = "table inet t { chain c { type filter hook input priority 0; ct state new accept; }; }"
ORDERS = syncactions.Send | syncactions.Apply | syncactions.Listen | syncactions.Dump


class Side:
    """A host with a state sync at work."""

    def __init__(self, host, own, peer, mode):
        host.run("nft", "-f", "-", text=TRACKING)
        self.host, self.loop = host, Loop()
        self.sync = StateSync(int.from_bytes(os.urandom(8), "big") | 1, b"shared", mode)
        with inside(host):
            self.traffic = Writer()
            self.replication = Replication(
                Sync("sync0", ipaddress.ip_address(peer), b"shared", mode=mode),
                *(self.sync, self.loop, self._received, self._due, self.carry_out),
                frozenset({ipaddress.ip_address(own).packed}),
            )

    def carry_out(self, actions):
        """What is ordered and is for the kernel or the link."""
        for action in actions:
            if isinstance(action, ORDERS):
                self.replication.carry_out(action)
        self.replication.settle()

    def run(self):
        """One turn, in the host's namespace, where the daemon would be."""
        with inside(self.host):
            self.loop.after(0.001, lambda: None)
            self.loop.run_once()

    def become(self, role):
        """Owner or replica."""
        with inside(self.host):
            self.carry_out(role(time.monotonic()))

    def connections(self, count, kind):
        """Let the kernel see so many."""
        many = (
            Connection(source=End("10.0.0.1", 1 + number), state=ESTABLISHED, timeout_s=600)
            for number in range(count)
        )
        self.traffic.write([ctmessage.canonical(one.message(kind))[1] for one in many])

    def count(self):
        """Connections in the kernel."""
        return int(self.host.run("conntrack", "-C"))

    def close(self):
        """Let go of everything."""
        self.replication.close()
        self.traffic.close()

    def _received(self, datagram):
        self.carry_out(self.sync.received(datagram, time.monotonic()))

    def _due(self):
        self.carry_out(self.sync.due(time.monotonic()))


@pytest.fixture(
    name="sides", params=[("198.51.100.1", "198.51.100.2"), ("2001:db8::1", "2001:db8::2")], ids=str
)
def _sides(request):
    with Network() as network:
        one, other = network.host("one"), network.host("other")
        network.cable(one, "sync0", other, "sync0")
        for host, address in zip((one, other), request.param, strict=True):
            host.address("sync0", f"{address}/{24 if '.' in address else 64}")
        first, second = request.param
        sides = [Side(one, first, second, Mode.KERNEL), Side(other, second, first, Mode.KERNEL)]
        yield sides
        for side in sides:
            side.close()


def run_until(sides, condition):
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s
        for side in sides:
            side.run()


def test_connections_come_and_go_with_the_owners(sides):
    """Those that were there before the replica was, those that come later, and their ends."""
    owner, replica = sides
    owner.become(owner.sync.follow)
    owner.become(owner.sync.own)
    owner.connections(3000, BEGUN)
    run_until([owner], lambda: owner.sync.local >= 3000)
    replica.become(replica.sync.follow)
    run_until(sides, lambda: replica.sync.is_synchronised)
    assert replica.count() >= 3000
    owner.connections(5000, BEGUN)
    run_until(sides, lambda: replica.sync.held == 5000)
    owner.connections(5000, ENDED)
    run_until(sides, lambda: replica.sync.held == 0)
    assert replica.count() < 10
    assert owner.sync.lost == 0
    assert replica.replication.writer.failed == {}


def test_roles_change_and_change_back(sides):
    """Who listens to its kernel changes with them, between two readings as well."""
    one, other = sides
    one.become(one.sync.follow)
    other.become(other.sync.follow)
    for owner, replica in ((one, other), (other, one), (one, other)):
        owner.become(owner.sync.own)
        run_until(sides, lambda one=replica.sync: not one.is_owner and one.is_synchronised)
        before = owner.sync.local
        owner.connections(100, BEGUN)
        owner.run()
        owner.connections(100, ENDED)
        run_until(sides, lambda owner=owner, before=before: owner.sync.local >= before + 200)
        run_until(
            sides, lambda owner=owner, replica=replica: owner.sync.has_settled and not replica.sync.held
        )


def test_a_strangers_datagram_is_not_even_parsed(sides):
    one, other = sides
    if ":" in one.replication._peer[0]:
        other.host.address("sync0", "2001:db8::3/64")
        family, own, target = socket.AF_INET6, "2001:db8::3", "2001:db8::1"
    else:
        other.host.address("sync0", "198.51.100.3/24")
        family, own, target = socket.AF_INET, "198.51.100.3", "198.51.100.1"
    with (
        inside(other.host),
        socket.socket(family, socket.SOCK_DGRAM) as stranger,
        socket.socket(family, socket.SOCK_DGRAM) as peer,
    ):
        stranger.bind((own, 0))
        stranger.sendto(b"let me in", (target, 3781))
        peer.bind((one.replication._peer[0], 0))
        peer.sendto(b"nonsense", (target, 3781))
    run_until([one], lambda: one.sync.refused)
    assert one.sync.refused == {"short": 1}
