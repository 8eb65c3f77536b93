"""The check of a real host on a real link: what is made wrong is found, and what is right is not."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from gimli.pair import netlink, nft
from gimli.pair.address import Addresses, Place
from gimli.pair.authenticator import Authenticator
from gimli.pair.check import check
from gimli.pair.config import Carp, Guard, Mac, Pair, Sync
from gimli.pair.ethtool import features
from gimli.pair.finding import Severity
from gimli.pair.guard import ruleset
from gimli.pair.host import wanted_guard
from gimli.pair.links import link_of
from gimli.pair.packet import pack_frame
from gimli.pair.settings import Settings
from tests.conftest import PATIENCE_S
from tests.pair.conftest import eventually
from tests.pair.frames import Station, ethernet, ipv4, ipv4_frame, mac_bytes
from tests.pair.wanted import VIRTUAL_MAC
from tests.pair.wire import inside

pytestmark = pytest.mark.real

ERROR, WARNING, NOTE = Severity
CARP = Carp(1, "lan0", (ip_interface("192.0.2.1/24"), ip_interface("2001:db8::1/64")), b"secret")
PAIR = Pair((CARP,), Guard(("lan0", "dmz0")))
LISTENED_S = 0.2
OTHER_MAC = mac_bytes("02:00:00:00:00:99")
ABSENT_MAC = mac_bytes("02:00:00:00:00:77")
GROUP_MAC = mac_bytes("01:00:5e:01:00:64")


@pytest.fixture
def node(lan, tmp_path, monkeypatch):
    """The node as its daemon leaves it: guarded, with the device of a standby, fit for state sync."""
    monkeypatch.setenv("GIMLI_RUNTIME_DIR", str(tmp_path))
    with inside(lan.node):
        nft.apply(ruleset(wanted_guard(PAIR, has_egress=True)))
        addresses = Addresses(_place(), Settings(str(tmp_path / "settings")))
        addresses.prepare()
        yield addresses
        addresses.close()


def _place() -> Place:
    return Place(1, "lan0", tuple(str(address) for address in CARP.addresses), VIRTUAL_MAC)


@pytest.fixture
def station(lan):
    with inside(lan.client):
        made = Station("lan0")
    yield made
    made.close()


@contextlib.contextmanager
def sending(station: Station, *frames: bytes):
    """Send frames again and again, from another thread, as long as somebody may listen."""
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(0.005):
            for frame in frames:
                station.send(frame)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def found(pair=PAIR, **options) -> list[tuple[Severity, str, str]]:
    return [(each.severity, each.subject, each.what) for each in check(pair, seconds=LISTENED_S, **options)]


def found_while_sending(station: Station, count: int, *frames: bytes) -> list[tuple[Severity, str, str]]:
    """Check until there are so many findings: on a busy machine nobody may have sent while it listened."""
    told: list[tuple[Severity, str, str]] = []
    with sending(station, *frames):
        deadline_s = time.monotonic() + PATIENCE_S
        while len(told) < count and time.monotonic() < deadline_s:
            told = found()
    assert len(told) == count
    return told


def test_a_host_that_is_in_order(node, station):
    assert found() == []
    assert found(probe=True) == []


def test_flooded_frames_are_found_behind_the_guard(node, station):
    """The guard has dropped them by then: the check listens before it."""
    flooded, foreign = found_while_sending(
        station, 2, ipv4_frame(GROUP_MAC, "10.1.0.100"), ipv4_frame(ABSENT_MAC, "192.0.2.77")
    )
    assert flooded[:2] == (WARNING, "lan0")
    assert "01:00:5e:01:00:64, with the IP address of one host, 10.1.0.100" in flooded[2]
    assert foreign[:2] == (WARNING, "lan0")
    assert "02:00:00:00:00:77" in foreign[2]


def test_frames_for_the_master_elsewhere_are_found_while_this_host_is_none(node, station):
    frame = ipv4_frame(mac_bytes(VIRTUAL_MAC), "192.0.2.1")
    ((severity, subject, what),) = found_while_sending(station, 1, frame)
    assert (severity, subject) == (WARNING, "lan0")
    assert "for the MASTER of vhid 1" in what
    node.take()
    with sending(station, frame):
        assert found() == []


def test_promiscuous_mode_ends_with_the_check(lan, node):
    found()
    assert '"promiscuity":0' in lan.node.run("ip", "-d", "-json", "link", "show", "dev", "lan0")


def test_a_guard_that_is_not_there(lan, node):
    lan.node.run("nft", "flush", "ruleset")
    assert found() == [(WARNING, "guard", "there is no table netdev gimli")]


def test_a_guard_that_was_altered(lan, node):
    lan.node.run("nft", "flush chain netdev gimli in_1")
    assert {subject for _, subject, _ in found()} == {"guard"}


def test_settings_that_somebody_has_changed(lan, node):
    lan.node.sysctl(ipv4__conf__carp1__rp_filter=1, ipv4__conf__lan0__arp_ignore=0)
    assert [(subject, what.split()[0]) for _, subject, what in found()] == [
        ("carp1", "rp_filter"),
        ("lan0", "arp_ignore"),
    ]


def test_a_second_holder_is_found_by_asking_and_by_chance(lan, node, station):
    """Nobody else speaks of the address by itself in these moments: it takes the question."""
    node.take()
    lan.client.address("lan0", "192.0.2.1/24", "2001:db8::1/64")
    assert found() == []
    conflicts = found(probe=True)
    assert [(severity, what.split(":")[0]) for severity, _, what in conflicts if "more than one" in what] == [
        (ERROR, "192.0.2.1 is held by more than one"),
        (ERROR, "2001"),
    ]
    assert station.mac.hex(":") in conflicts[0][2]


def test_a_peer_without_the_virtual_mac_is_found(lan, node):
    lan.client.address("lan0", "192.0.2.1/24", "2001:db8::1/64")
    assert {severity for severity, _, _ in found(probe=True)} == {WARNING}
    real = replace(PAIR, carp=(replace(CARP, mac=Mac.REAL),))
    nft.apply(ruleset(wanted_guard(real, has_egress=True)))
    assert [each for each in found(real, probe=True) if each[1] != "carp1"] == []


def test_a_vhid_with_another_password_is_heard(node, station):
    advertisements = []
    for password in (b"secret", b"other"):
        signer = Authenticator(password, 1, (each.ip for each in CARP.addresses))
        source = ip_address("192.0.2.3" if password == b"secret" else "192.0.2.4")
        advertisements.append(pack_frame(signer.sign(1, 0, 0, 7), source, OTHER_MAC))
    with sending(station, advertisements[0]):
        assert found() == []
    ((severity, _, what),) = found_while_sending(station, 1, *advertisements)
    assert severity is ERROR
    assert what.startswith("192.0.2.4 advertises vhid 1 and is not believed: digest of vhid 1 is wrong")


def test_a_querier_and_who_waits_for_one(lan, node, station):
    lan.node.run("ip", "maddr", "add", "01:00:5e:01:02:03", "dev", "lan0")  # by MAC alone nobody has joined
    assert found() == []
    with inside(lan.node):
        member = _joined("239.1.2.3")
    ((severity, _, what),) = found()
    assert severity is NOTE
    assert "this host has joined 239.1.2.3" in what
    query = ipv4("192.0.2.254", "224.0.0.1", 2, bytes([0x11]) + bytes(7))
    with sending(station, ethernet(mac_bytes("01:00:5e:00:00:01"), OTHER_MAC, 0x0800, query)):
        eventually(lambda: found() == [])
    member.close()


def _joined(group: str):
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    wish = ip_address(group).packed + ip_address("192.0.2.2").packed
    made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, wish)
    return made


def test_bridges_and_links_in_trouble(lan, node):
    lan.node.run("ip", "link", "add", "name", "br0", "type", "bridge", "mcast_snooping", "1")
    lan.node.run("ip", "link", "set", "dev", "br0", "up")
    lan.behind.run("ip", "link", "set", "dev", "dmz0", "down")
    lan.node.run("ip", "link", "set", "dev", "dmz0", "master", "br0")
    assert (ERROR, "dmz0", "it has no carrier") in found()
    lan.behind.run("ip", "link", "set", "dev", "dmz0", "up")
    bridged = replace(PAIR, guard=Guard(("lan0", "dmz0")))
    eventually(lambda: found(bridged) == [(NOTE, "br0", "this bridge snoops on IGMP and asks nobody")])
    lan.node.run("ip", "link", "set", "dev", "br0", "type", "bridge", "mcast_querier", "1")
    assert found(bridged) == []


def test_an_interface_that_is_not_there(node):
    absent = replace(PAIR, guard=Guard(("lan0", "nosuch0")))
    assert (ERROR, "nosuch0", "there is no such interface") in found(absent)


def test_connection_tracking_where_states_are_replicated(lan, node):
    synced = replace(PAIR, sync=Sync("dmz0", ip_address("10.1.0.10"), b"secret"))
    lan.node.sysctl(netfilter__nf_conntrack_tcp_loose=0)
    assert found(synced) == []
    lan.node.sysctl(netfilter__nf_conntrack_tcp_loose=1, netfilter__nf_conntrack_events=0)
    assert found(synced) == [
        (ERROR, "connection tracking", "nf_conntrack_events is 0"),
        (WARNING, "connection tracking", "nf_conntrack_tcp_loose is 1"),
    ]
    assert found() == []


def test_an_xdp_program_is_told():
    attached = netlink.nest(43, netlink.attribute(2, b"\x01"))  # IFLA_XDP, IFLA_XDP_ATTACHED
    assert link_of(bytes(16) + netlink.text(3, "lan0") + attached).has_xdp
    assert not link_of(bytes(16) + netlink.text(3, "lan0")).has_xdp


def test_features_follow_the_card(lan):
    with inside(lan.node):
        before = features("lan0")
        assert "tx-checksum-ip-generic" in before
        assert features("nosuch") == frozenset()
        lan.node.run("ethtool", "-K", "lan0", "gro", "on" if "rx-gro" not in before else "off")
        assert before ^ features("lan0") == {"rx-gro"}
