"""The guard proper: which frames of a flooding switch reach a standby firewall's connection tracking."""

from __future__ import annotations

import errno
from ipaddress import ip_address

import pytest

from gimli.pair import nft
from gimli.pair.announce import Form, gratuitous_arp, neighbour_advertisement
from gimli.pair.guard import lease_of, ruleset
from gimli.pair.lease import Leases
from gimli.pair.readback import counts
from gimli.pair.wire import Sender
from tests.conftest import PATIENCE_S
from tests.pair.conftest import eventually
from tests.pair.frames import (
    BROADCAST,
    Station,
    advertisement,
    ethernet,
    ipv4,
    ipv4_frame,
    ipv6,
    ipv6_frame,
    mac_bytes,
    udp,
)
from tests.pair.wanted import GUARD, VIRTUAL_MAC
from tests.pair.wire import inside

pytestmark = pytest.mark.real

GROUP_MAC = mac_bytes("01:00:5e:01:00:64")
"""What the balancers of the second incident shared."""

# A firewall that forwards what comes in group frames, as OpenBSD did up to 4.6: the worst case, in which
# every frame that passes the guard becomes a tracked connection.
FORWARDING = """
table netdev old {
    chain in {
        type filter hook ingress device "lan0" priority 0
        ip daddr 10.1.0.10 meta pkttype set host
    }
}
table inet firewall {
    chain forward {
        type filter hook forward priority 0
        ct state new accept
    }
}
"""

WATCHED = """
table inet watched {
    counter seen { }
    chain prerouting {
        type filter hook prerouting priority -400
        udp dport 9 counter name seen
    }
}
"""


@pytest.fixture
def leases(lan):
    """The node is guarded, and forwards."""
    lan.node.sysctl(ipv4__ip_forward=1)
    lan.node.run("nft", "-f", "-", text=FORWARDING + WATCHED)
    with inside(lan.node):
        nft.apply(ruleset(GUARD))
        made = Leases()
    yield made
    made.close()


@pytest.fixture
def client(lan):
    with inside(lan.client):
        made = Station("lan0")
    yield made
    made.close()


@pytest.fixture
def behind(lan):
    with inside(lan.behind):
        made = Station("dmz0")
    yield made
    made.close()


def dropped(lan, name: str) -> int:
    with inside(lan.node):
        return counts(nft.read())[name].packets


def seen(lan) -> int:
    """How many of our datagrams have come as far as the first hook of IP."""
    told = lan.node.run("nft", "list", "counter", "inet", "watched", "seen").split()
    return int(told[told.index("packets") + 1])


def sent_through(lan, client, frame: bytes, barrier: bytes, done: int) -> None:
    """Send a frame, and wait until one that the guard is sure to drop behind it has been dropped."""
    client.send(frame)
    client.send(barrier)
    eventually(lambda: dropped(lan, "dropped_in_1") >= done)


BARRIER = ipv4_frame(BROADCAST, "192.0.2.1")
"""Addressed to the virtual address: dropped and counted by the rules of the vhid, in order."""


def test_another_nodes_frames_never_reach_connection_tracking(lan, leases, client):
    for count in range(10):
        sent_through(lan, client, ipv4_frame(GROUP_MAC, "10.1.0.10", port=1000 + count), BARRIER, count + 1)
    assert dropped(lan, "dropped_group_lan0") == 10
    assert lan.node.run("conntrack", "-L", "-p", "udp") == ""


def test_the_owners_frames_do(lan, leases, client, behind):
    """The same frames, on the same host, with the lease: what the test above proves is not an empty truth."""
    leases.acquire([lease_of(GUARD, 1)], 60)
    for count in range(10):
        client.send(ipv4_frame(GROUP_MAC, "10.1.0.10", port=1000 + count))
    for _ in range(10):
        while b"data" not in (behind.hear(PATIENCE_S) or b""):
            pass
    assert dropped(lan, "dropped_group_lan0") == 0
    assert lan.node.run("conntrack", "-L", "-p", "udp").count("dport=10") == 10


ORDINARY = {
    "multicast on the link": ("01:00:5e:00:00:fb", "224.0.0.251"),
    "multicast": ("01:00:5e:01:02:03", "239.1.2.3"),
    "broadcast": ("ff:ff:ff:ff:ff:ff", "255.255.255.255"),
    "broadcast of the subnet": ("ff:ff:ff:ff:ff:ff", "192.0.2.255"),
    "multicast, IPv6": ("33:33:00:00:00:01", "ff02::1"),
}


@pytest.mark.parametrize(("mac", "address"), ORDINARY.values(), ids=ORDINARY)
def test_ordinary_group_frames_pass_in_any_role(lan, leases, client, mac, address):
    frame = (ipv6_frame if ":" in address else ipv4_frame)(mac_bytes(mac), address)
    sent_through(lan, client, frame, BARRIER, 1)
    assert seen(lan) == 1
    assert dropped(lan, "dropped_group_lan0") == 0


FOREIGN = {
    "another node's": ("01:00:5e:01:00:64", "10.1.0.100"),
    "our own address": ("01:00:5e:01:00:64", "192.0.2.2"),
    "broadcast of another subnet": ("ff:ff:ff:ff:ff:ff", "198.51.100.255"),
    "any group bit": ("03:bf:0a:01:00:64", "10.1.0.100"),
    "IPv6": ("33:33:00:00:00:64", "2001:db8:1::100"),
}


@pytest.mark.parametrize(("mac", "address"), FOREIGN.values(), ids=FOREIGN)
def test_unicast_in_a_group_frame_is_another_nodes(lan, leases, client, mac, address):
    frame = (ipv6_frame if ":" in address else ipv4_frame)(mac_bytes(mac), address)
    sent_through(lan, client, frame, BARRIER, 1)
    assert seen(lan) == 0
    assert dropped(lan, "dropped_group_lan0") == 1


def test_unicast_frames_pass(lan, leases, client):
    with inside(lan.node):
        own = Station("lan0")
        own.close()
    sent_through(lan, client, ipv4_frame(own.mac, "192.0.2.2"), BARRIER, 1)
    assert seen(lan) == 1


def test_each_guarded_interface_is_lifted_and_guarded_by_the_leading_vhid(lan, leases, behind):
    """dmz0 has another vhid; the guard's direction is the leading one's all the same."""
    frame = ipv4_frame(GROUP_MAC, "10.1.0.99")
    leases.acquire([lease_of(GUARD, 2)], 60)
    behind.send(frame)
    eventually(lambda: dropped(lan, "dropped_group_dmz0") == 1)
    leases.acquire([lease_of(GUARD, 1)], 60)
    behind.send(frame)
    eventually(lambda: seen(lan) == 1)
    assert dropped(lan, "dropped_group_dmz0") == 1


# ---- what is a vhid's

CLIENT_MAC = mac_bytes("02:00:00:00:00:10")


def lan0_mac(lan) -> bytes:
    with inside(lan.node):
        own = Station("lan0")
        own.close()
    return own.mac


def inward(lan, client) -> dict[str, bytes]:
    own = lan0_mac(lan)
    return {
        "ARP": client.question("192.0.2.1", "192.0.2.10"),
        "ARP for the other address": client.question("192.0.2.7", "192.0.2.10"),
        "a neighbour solicitation": client.question("2001:db8::1", "2001:db8::10"),
        "a frame to the virtual MAC": ethernet(mac_bytes(VIRTUAL_MAC), client.mac, 0x88B5, bytes(46)),
        "IPv4 to the interface's MAC": ipv4_frame(own, "192.0.2.1"),
        "IPv6 to the interface's MAC": ipv6_frame(own, "2001:db8::1"),
    }


def outward() -> dict[str, bytes]:
    own, virtual = mac_bytes("02:00:00:00:00:01"), mac_bytes(VIRTUAL_MAC)
    return {
        "an advertisement": advertisement(own, 1),
        "a frame from the virtual MAC": ethernet(BROADCAST, virtual, 0x88B5, bytes(46)),
        "an announcement": gratuitous_arp(ip_address("192.0.2.7"), own, Form.REQUEST),
        "an IPv6 announcement": neighbour_advertisement(ip_address("2001:db8::1"), virtual, router=False),
        "IPv4 from the address": ethernet(
            CLIENT_MAC, own, 0x0800, ipv4("192.0.2.1", "192.0.2.10", 17, udp(9, 9))
        ),
        "IPv6 from the address": ethernet(CLIENT_MAC, own, 0x86DD, ipv6("2001:db8::1", "2001:db8::10")),
    }


def test_every_kind_of_frame_for_the_vhid_is_dropped_on_its_way_in(lan, leases, client):
    """Each by a rule of its own: where the kernel has no egress hook nothing else keeps it from answering."""
    frames = inward(lan, client)
    for number, frame in enumerate(frames.values(), 1):
        client.send(frame)
        eventually(lambda number=number: dropped(lan, "dropped_in_1") == number)
    leases.acquire([lease_of(GUARD, 1)], 60)
    for frame in frames.values():
        client.send(frame)
    leases.release([lease_of(GUARD, 1)])
    client.send(BARRIER)
    eventually(lambda: dropped(lan, "dropped_in_1") > len(frames))
    assert dropped(lan, "dropped_in_1") == len(frames) + 1


def test_the_hosts_own_questions_pass(lan, leases, client):
    """Even one to the virtual address's solicited-node group, which is others' as well."""
    for frame in (
        client.question("192.0.2.2", "192.0.2.10"),
        client.question("2001:db8::2", "2001:db8::10"),
        client.question("2001:db8:9::1", "2001:db8::10"),
        ipv4_frame(lan0_mac(lan), "192.0.2.2"),
        advertisement(mac_bytes(VIRTUAL_MAC), 1, "192.0.2.3"),
    ):
        client.send(frame)
    client.send(BARRIER)
    eventually(lambda: dropped(lan, "dropped_in_1") > 0)
    assert dropped(lan, "dropped_in_1") == 1


def test_every_kind_of_frame_of_the_vhid_is_dropped_on_its_way_out(lan, leases):
    with inside(lan.node):
        sender = Sender("lan0")
    for number, frame in enumerate(outward().values(), 1):
        refused = sender.send(frame)
        assert refused is not None
        assert refused.errno == errno.ENOBUFS
        assert dropped(lan, "dropped_out_1") == number
    leases.acquire([lease_of(GUARD, 1)], 60)
    for frame in outward().values():
        assert sender.send(frame) is None
    sender.close()


def test_the_hosts_own_frames_leave(lan, leases):
    own = mac_bytes("02:00:00:00:00:01")
    with inside(lan.node):
        sender = Sender("lan0")
    for frame in (
        advertisement(own, 9),
        gratuitous_arp(ip_address("192.0.2.2"), own, Form.REQUEST),
        ethernet(CLIENT_MAC, own, 0x0800, ipv4("192.0.2.2", "192.0.2.1", 17, udp(9, 9))),
        ethernet(CLIENT_MAC, own, 0x86DD, ipv6("2001:db8::2", "2001:db8::1")),
    ):
        assert sender.send(frame) is None
    sender.close()
