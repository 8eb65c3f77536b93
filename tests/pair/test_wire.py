"""Frames leave as they are, and of all that comes in only CARP is heard."""

from __future__ import annotations

import errno
import select
import struct

import pytest

from gimli.pair.wire import Receiver, Sender, WireRefused
from tests.conftest import PATIENCE_S
from tests.pair.conftest import eventually
from tests.pair.frames import Station, advertisement, ethernet, ipv4, ipv4_frame, mac_bytes
from tests.pair.wire import inside

pytestmark = pytest.mark.real

SOURCE = mac_bytes("00:00:5e:00:01:01")
IPV4 = advertisement(SOURCE, 1, "192.0.2.10")
IPV6 = ethernet(
    mac_bytes("33:33:00:00:00:12"),
    SOURCE,
    0x86DD,
    struct.pack(">IHBB", 0x60000000, 36, 112, 255)
    + bytes.fromhex("fe80" + "00" * 13 + "01" + "ff02" + "00" * 13 + "12")
    + bytes(36),
)
TO_US = ethernet(
    mac_bytes("02:00:00:00:00:07"), SOURCE, 0x0800, ipv4("192.0.2.10", "192.0.2.2", 112, bytes(36))
)
OTHERS = {
    "UDP": ipv4_frame(mac_bytes("01:00:5e:00:00:12"), "224.0.0.18"),
    "a later fragment": IPV4[:20] + b"\x00\x05" + IPV4[22:],
    "another VLAN's": IPV4[:12] + bytes.fromhex("81000005") + IPV4[12:],
    "ARP": ethernet(b"\xff" * 6, SOURCE, 0x0806, bytes(28)),
    "UDP over IPv6": IPV6[:20] + b"\x11" + IPV6[21:],
    "a stub": IPV4[:18],
}


@pytest.fixture
def receiver(lan):
    with inside(lan.node):
        made = Receiver("lan0")
    yield made
    made.close()


@pytest.fixture
def sender(lan):
    with inside(lan.client):
        made = Sender("lan0")
    yield made
    made.close()


def heard(receiver: Receiver, count: int) -> list[bytes]:
    frames: list[bytes] = []
    while len(frames) < count:
        assert select.select([receiver], [], [], PATIENCE_S)[0]
        frames += receiver.receive()
    return frames


def test_carp_is_heard_in_both_families_and_to_one_host(sender, receiver):
    for frame in (IPV4, IPV6, TO_US):
        assert sender.send(frame) is None
    assert heard(receiver, 3) == [IPV4, IPV6, TO_US]
    assert receiver.receive() == []


@pytest.mark.parametrize("frame", OTHERS.values(), ids=OTHERS)
def test_nothing_else_wakes_the_daemon(sender, receiver, frame):
    for sent in (frame, IPV4):
        assert sender.send(sent) is None
    assert heard(receiver, 1) == [IPV4]


def test_what_we_sent_ourselves_is_not_heard(lan, sender, receiver):
    with inside(lan.node):
        own = Sender("lan0")
    assert own.send(IPV4) is None
    assert sender.send(IPV6) is None
    assert heard(receiver, 1) == [IPV6]
    own.close()


def test_a_firewall_does_not_keep_carp_from_us(lan, sender, receiver):
    """Protocol 112 is open on few hosts; a packet socket hears what comes before the filter."""
    closed = "table inet f { chain in { type filter hook input priority 0; policy drop; }\n}"
    lan.node.run("nft", "-f", "-", text=closed)
    assert sender.send(IPV4) is None
    assert heard(receiver, 1) == [IPV4]


def test_a_flood_is_handed_over_in_pieces(sender, receiver):
    for _ in range(150):
        assert sender.send(IPV4) is None
    assert select.select([receiver], [], [], PATIENCE_S)[0]
    assert len(receiver.receive()) <= 64
    assert len(heard(receiver, 50)) <= 128


def test_the_groups_are_joined_on_the_card_and_at_the_switch(lan, receiver):
    """The IPv6 group by the kernel, too: a switch that snoops on MLD wants to be asked."""
    told = lan.node.run("ip", "maddr", "show", "dev", "lan0").split()
    assert {"01:00:5e:00:00:12", "33:33:00:00:00:12", "ff02::12"} <= set(told)
    receiver.close()
    assert "01:00:5e:00:00:12" not in lan.node.run("ip", "maddr", "show", "dev", "lan0")


def test_a_frame_leaves_byte_for_byte(lan, sender):
    with inside(lan.node):
        station = Station("lan0")
    assert sender.send(TO_US) is None
    while station.hear(PATIENCE_S) != TO_US:
        pass
    station.close()


def test_what_cannot_be_sent_is_told_and_can_be_sent_later(lan, sender, receiver):
    lan.client.run("ip", "link", "set", "dev", "lan0", "down")
    failed = sender.send(IPV4)
    assert failed is not None
    assert failed.errno == errno.ENETDOWN
    lan.client.run("ip", "link", "set", "dev", "lan0", "up")
    eventually(lambda: sender.send(IPV4) is None and IPV4 in receiver.receive())


def test_a_receiver_survives_its_interface_going_down(lan, sender, receiver):
    lan.node.run("ip", "link", "set", "dev", "lan0", "down")
    assert select.select([receiver], [], [], PATIENCE_S)[0]
    assert receiver.receive() == []
    assert not select.select([receiver], [], [], 0)[0]
    lan.node.run("ip", "link", "set", "dev", "lan0", "up")
    # The switch forwards to the port again once it has noticed.
    eventually(lambda: sender.send(IPV4) is None and IPV4 in receiver.receive())


@pytest.mark.parametrize("kind", [Sender, Receiver])
def test_no_such_interface_is_refused_in_words(lan, kind):
    with inside(lan.node), pytest.raises(WireRefused, match="cannot open a packet socket on nosuch"):
        kind("nosuch")
