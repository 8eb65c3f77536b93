"""A kernel's table in a daemon's loop, and the link between two."""

import socket

import pytest

from gimli.lab.namespaces import Network
from gimli.loop import Loop
from gimli.pair import ctmessage
from gimli.pair.conntable import ConnectionTable
from gimli.pair.ctfilter import Filter
from gimli.pair.ctintake import Intake
from gimli.pair.synclink import Link, LinkRefused
from tests.pair.connections import BEGUN, ENDED, Connection, End
from tests.pair.firewalls import inside

pytestmark = pytest.mark.real

TRACKING = "table inet t { chain c { type filter hook input priority 0; ct state new accept; }; }"


class User:
    """Keeps what it is told."""

    def __init__(self):
        self.keys = {}
        self.entries = []
        self.lost = self.done = 0
        self.wanted = True
        self.asked = 0

    def changed(self, changes):
        """Events: what the last one said of each connection."""
        for key, message in changes:
            self.keys[key] = ctmessage.change_in(message)

    def events_lost(self):
        """How often."""
        self.lost += 1

    def wants_dump(self):
        """What the test says."""
        self.asked += 1
        return self.wanted

    def dumped(self, entries):
        """Entries in their order."""
        self.entries += entries

    def dump_done(self):
        """How often."""
        self.done += 1


@pytest.fixture(name="network")
def _network():
    with Network() as network:
        yield network


@pytest.fixture(name="made")
def _made(network):
    """A loop, a table in a namespace of its own, and its user."""
    host = network.host("a")
    host.run("nft", "-f", "-", text=TRACKING)
    loop, user = Loop(), User()
    with inside(host):
        table = ConnectionTable(loop, Intake(Filter()), user)
        yield loop, table, user
        table.close()


def run_until(loop, condition):
    timer = loop.after(30.0, lambda: None)
    while not condition():
        loop.run_once()
    timer.cancel()


def many(count, kind):
    for number in range(count):
        one = Connection(source=End("10.0.0.1", 1 + number), timeout_s=600)
        yield ctmessage.canonical(one.message(kind))


def test_changes_are_told_in_the_loop(made):
    loop, table, user = made
    table.listen(wanted=True)
    wanted = dict(many(5000, BEGUN))
    table.apply(list(wanted.values()))
    run_until(loop, lambda: len(user.keys) == 5000)
    assert user.keys == dict.fromkeys(wanted, ctmessage.Change.BEGUN)
    table.apply([message for _, message in many(5000, ENDED)])
    run_until(loop, lambda: set(user.keys.values()) == {ctmessage.Change.ENDED})
    assert not user.lost


def test_who_does_not_listen_is_told_nothing(made):
    loop, table, user = made
    table.listen(wanted=True)
    table.apply([message for _, message in many(1, BEGUN)])
    loop.run_once()  # it is readable, and going to be read
    table.listen(wanted=False)
    table.listen(wanted=True)
    table.apply([message for _, message in many(1, ENDED)])
    run_until(loop, lambda: user.keys)
    assert list(user.keys.values()) == [ctmessage.Change.ENDED]


def test_the_whole_table_is_read_as_fast_as_it_is_wanted(made):
    loop, table, user = made
    wanted = dict(many(3000, BEGUN))
    table.apply(list(wanted.values()))
    user.wanted = False
    table.dump()
    run_until(loop, lambda: user.asked > 3)
    assert not user.entries
    user.wanted = True
    run_until(loop, lambda: len(user.entries) > 500)
    assert not user.done
    table.dump()  # from its beginning
    user.entries = []
    run_until(loop, lambda: user.done)
    assert {key for key, _ in user.entries} == set(wanted)
    assert len(user.entries) == 3000
    assert user.done == 1


def test_a_link_carries_datagrams_of_its_peer_and_no_others(network):
    one, other = network.host("one"), network.host("other")
    network.cable(one, "sync0", other, "sync0")
    one.address("sync0", "198.51.100.1/24", "2001:db8::1/64")
    other.address("sync0", "198.51.100.2/24", "198.51.100.3/24", "2001:db8::2/64")
    for own, peer in (("198.51.100.1", "198.51.100.2"), ("2001:db8::1", "2001:db8::2")):
        with inside(one):
            left = Link(own, peer)
        left.send(b"nobody there yet")
        with inside(other):
            right = Link(peer, own)
            stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            stranger.bind(("198.51.100.3", 3781))
            stranger.sendto(b"let me in", ("198.51.100.1", 3781))
        right.send(b"x" * 60_000)
        loop, heard = Loop(), []
        loop.watch(left.fileno(), lambda _, left=left, heard=heard: heard.extend(left.drain()))
        run_until(loop, lambda heard=heard: heard)
        assert heard == [b"x" * 60_000]
        left.send(b"back")
        loop.watch(right.fileno(), lambda _, right=right, heard=heard: heard.extend(right.drain()))
        run_until(loop, lambda heard=heard: len(heard) == 2)
        for closed in (left, right, stranger):
            closed.close()


def test_a_link_without_its_address_says_so(network):
    with inside(network.host("one")), pytest.raises(LinkRefused, match=r"no state sync from 198.51.100.1"):
        Link("198.51.100.1", "198.51.100.2")
