"""A takeover in its order: the role is claimed, the connections are written, the addresses are taken."""

from ipaddress import ip_address, ip_interface

import pytest

from gimli.pair import ctmessage
from gimli.pair.carp_actions import (
    Announce,
    Arm,
    DropAddresses,
    DropLease,
    TakeAddresses,
    TakeLease,
    Timer,
)
from gimli.pair.config import Carp, Guard, Pair
from gimli.pair.node import Emit, Node, Order
from gimli.pair.statesync import StateSync
from gimli.pair.syncactions import Apply, Mode, RememberEpoch, Synchronised
from gimli.pair.syncwire import Datagram, Kind, Reign, Wire
from gimli.pair.vhid import Role, master_down_interval_s, newcomer_patience_s
from tests.pair.connections import BEGUN, ENDED, ESTABLISHED, Connection, End

CONNECTIONS = [
    ctmessage.canonical(
        Connection(
            End("10.0.0.1", port), End("203.0.113.9", 80), state=ESTABLISHED, timeout_s=432_000
        ).message(BEGUN)
    )
    for port in range(1000, 1600)
]


def make_node(*, vhids=2, held=CONNECTIONS, mode=Mode.CACHE):
    """A backup that holds connections; its first vhid leads."""
    sync = StateSync(1, b"shared", mode)
    carps = tuple(
        Carp(number, f"lan{number}", (ip_interface(f"192.0.{number}.1/24"),), b"mellon-mellon")
        for number in range(1, vhids + 1)
    )
    sources = {carp.vhid: ip_address(f"192.0.{carp.vhid}.2") for carp in carps}
    node = Node(Pair(carps, Guard(())), sources, 1, sync)
    node.begin(0.0)
    sync._receiver.held.update(held)
    sync._receiver.is_complete = True
    node.sync_ordered([Synchronised()], 0.0)
    node.take_orders()
    return node


def fall_silent(node, vhid, now_s=10.0):
    """The MASTER is heard no more; what the node does about it at once."""
    node.expired(vhid, Timer.MASTER_DOWN, now_s)
    return told(node)


def told(node):
    """Its orders in a word or two each: what is written into the kernel as a number of messages."""
    words = []
    for order in node.take_orders():
        match order:
            case Apply(messages):
                words.append(len(messages))
            case Emit(vhid):
                words.append(f"advertise {vhid}")
            case Order(vhid, (TakeLease() | TakeAddresses() | Announce() | DropAddresses()) as action):
                words.append(f"{type(action).__name__} {vhid}")
    return words


def test_addresses_are_taken_when_all_connections_are_in_the_kernel():
    """An address without them answers with resets (source NAT). The claim is first: the peer is to yield."""
    node = make_node(vhids=1)
    assert fall_silent(node, 1) == ["TakeLease 1", "advertise 1", 256]
    node.sync_due(10.0)
    assert told(node) == [256]
    node.sync_due(10.0)
    assert told(node) == [88, "TakeAddresses 1", "Announce 1"]


def test_few_connections_are_written_and_the_addresses_taken_in_one_go():
    node = make_node(vhids=1, held=CONNECTIONS[:3])
    assert fall_silent(node, 1) == ["TakeLease 1", "advertise 1", 3, "TakeAddresses 1", "Announce 1"]


def test_who_yields_meanwhile_takes_no_address():
    node = make_node(vhids=1)
    fall_silent(node, 1)
    node.lease_lapsed(1, 3.0, 11.0)
    assert "DropAddresses 1" in told(node)
    for _ in range(5):
        node.sync_due(11.0)
    assert not any("Take" in str(word) for word in told(node))
    assert node.leader.role is Role.BACKUP


def test_a_vhid_that_does_not_lead_finds_the_connections_too():
    """Its timer may be the first to run out: its address must not answer without them either."""
    node = make_node(held=CONNECTIONS[:10])
    assert fall_silent(node, 2) == ["TakeLease 2", "advertise 2", 10, "TakeAddresses 2", "Announce 2"]
    assert not node.sync.is_owner
    assert fall_silent(node, 1) == ["TakeLease 1", "advertise 1", "TakeAddresses 1", "Announce 1"]
    assert node.sync.is_owner


def test_what_has_changed_since_is_written_when_the_leader_takes_over():
    node = make_node(held=CONNECTIONS[:10])
    fall_silent(node, 2)
    key, _ = CONNECTIONS[0]
    changed = Connection(End("10.0.0.1", 1000), End("203.0.113.9", 80), state=ESTABLISHED, mark=7)
    node.sync._receiver.held[key] = ctmessage.canonical(changed.message(BEGUN))[1]
    assert fall_silent(node, 1)[2] == 1


def test_a_copy_goes_when_its_connection_ends():
    node = make_node(held=CONNECTIONS[:10])
    fall_silent(node, 2)
    ended = Connection(End("10.0.0.1", 1000), End("203.0.113.9", 80)).message(ENDED)
    out = []
    node.sync._receiver._change(*ctmessage.canonical(ended), out)
    assert len(out) == 1


def test_in_kernel_mode_there_is_nothing_to_write():
    node = make_node(vhids=1, mode=Mode.KERNEL)
    assert fall_silent(node, 1) == ["TakeLease 1", "advertise 1", "TakeAddresses 1", "Announce 1"]


@pytest.mark.parametrize(("is_heir", "patience_s"), [(True, 3.0), (False, 4.5)])
def test_who_had_the_connections_waits_less_than_who_never_had_them(is_heir, patience_s):
    """Of two nodes that come back at once it is MASTER again, whatever the handicaps."""
    fresh = Node(node_pair(), {1: ip_address("192.0.1.2")}, 1, StateSync(1, b"shared", Mode.CACHE))
    fresh.begin(0.0, is_heir=is_heir)
    armed = [
        order.action.after_s
        for order in fresh.take_orders()
        if isinstance(order, Order) and isinstance(order.action, Arm)
    ]
    assert armed == [patience_s]


def leave(*, has_replica):
    """The leading vhid's cable is pulled at a MASTER of two: which leases and addresses go, in order."""
    node = make_node()
    for vhid in (1, 2):
        fall_silent(node, vhid)
    for _ in range(3):
        node.sync_due(10.0)
    if has_replica:
        node.sync._sender.begin(1, 10.0)
    node.take_orders()
    node.obstructed(1, "lan1", "it has no carrier", 11.0)
    return [
        f"{type(order.action).__name__} {order.vhid}"
        for order in node.take_orders()
        if isinstance(order, Order) and isinstance(order.action, DropLease | DropAddresses)
    ]


def test_the_other_vhids_leave_with_the_leader_and_are_silent_before_the_peer_has_it():
    """Or answers come here to what went by the other host; with source NAT this one would reset them."""
    assert leave(has_replica=True) == ["DropLease 2", "DropAddresses 1", "DropLease 1", "DropAddresses 2"]


def test_where_nobody_has_the_connections_the_other_vhids_stay():
    assert leave(has_replica=False) == ["DropAddresses 1", "DropLease 1"]


def test_an_heir_that_hears_of_a_later_owner_is_none():
    """Of two that were owners the last one's kernel is right: it is told from the epochs that both know."""
    wire = Wire(b"shared")
    fresh = Node(node_pair(), {1: ip_address("192.0.1.2")}, 1, StateSync(1, b"shared", Mode.CACHE, epoch=4))
    fresh.begin(0.0, is_heir=True)
    fresh.take_orders()
    hello = Datagram(Kind.HELLO, 2, 1, Reign(5, 0), 1, b"", beat=1, echo=0, owns=False)
    fresh.received(wire.pack(hello), 0.5)
    orders = fresh.take_orders()
    assert RememberEpoch(5) in orders
    assert Order(1, Arm(Timer.MASTER_DOWN, 4.5)) in orders


def node_pair():
    return Pair((Carp(1, "lan1", (ip_interface("192.0.1.1/24"),), b"mellon-mellon"),), Guard(()))


def test_no_handicap_lets_a_newcomer_overtake_an_heir():
    for advbase in (1, 10):
        assert newcomer_patience_s(advbase, 0) > master_down_interval_s(advbase, 254)


def test_nothing_begins_after_the_end():
    """A cable that comes back while the daemon lets go must not make it a backup once more."""
    node = make_node(vhids=1)
    node.obstructed(1, "link", "it has no carrier", 1.0)
    node.stop("received SIGTERM", 2.0)
    node.freed(1, "link", 3.0)
    assert node.leader.role is Role.INIT
