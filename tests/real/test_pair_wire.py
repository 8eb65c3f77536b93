"""What two nodes of a pair say to each other, and what they make of what others say."""

import random
import signal
import socket
import struct

import pytest

from gimli.pair.wire import Receiver
from tests.failover.namespace import within
from tests.failover.site import LAN_ADDRESS, LAN_ADDRESS6, Site, carp_table, sync_table

pytestmark = pytest.mark.real

QUICK = {"advbase": 0, "advskew": 40}
BOTH = f"{LAN_ADDRESS}/24 {LAN_ADDRESS6}/64"
_SYNC_PORT = 3781


@pytest.fixture
def site():
    with Site() as made:
        yield made


def start(site, *, sync=True, skews=(40, 40), **carp):
    for node, advskew in zip(site.nodes, skews, strict=True):
        text = carp_table(**(QUICK | carp | {"advskew": advskew}))
        node.configure(text + (sync_table(node) if sync else ""))
        node.start()
        node.wait_for_role("MASTER" if node is site.a else "BACKUP")


def hear(site, count):
    """The next frames of CARP's protocol that pass the switch, from both ports."""
    receivers = [within(site.lan.pid, lambda port=port: Receiver(port)) for port in site.lan_ports.values()]
    frames = []
    try:
        while len(frames) < count:
            for receiver in receivers:
                frames += receiver.receive()
    finally:
        for receiver in receivers:
            receiver.close()
    return frames


def sender(site, node):
    """What is sent by it comes to a node as from its switch, whatever the switch would think of it."""

    def make():
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        made.bind((site.lan_ports[node.name], 0))
        return made

    return within(site.lan.pid, make)


def test_both_families_move_together_and_neighbours_learn_nothing_new(site):
    start(site, addresses=BOTH)
    for node in site.nodes:
        for address in (LAN_ADDRESS, LAN_ADDRESS6):
            assert "1 received" in site.client.run("ping", "-c1", "-W5", address)
            assert "lladdr 00:00:5e:00:01:01" in site.client.run("ip", "neigh", "show", address)
        sources = {frame[14] >> 4 for frame in hear(site, 4)}
        assert sources == {4, 6}, "advertisements of both families"
        if node is site.a:
            site.a.send(signal.SIGTERM)
            site.b.wait_for_role("MASTER")


def test_tcpdump_and_tshark_read_what_a_node_says(site):
    start(site, addresses=BOTH, sync=False)
    tcpdump = ("tcpdump", "-i", "br0", "-nnvv", "-c", "2", "-T", "carp", "proto", "112")
    said = site.lan.run(*tcpdump)
    assert "192.0.2.2 > 224.0.0.18: CARPv2-advertise 36: vhid=1 advbase=0 advskew=40 authlen=7" in said
    assert "ttl 255" in said
    assert "bad" not in said
    fields = ("ip.ttl", "carp.vhid", "carp.advskew", "carp.demotion", "eth.src")
    words = [word for name in fields for word in ("-e", name)]
    tshark = ("tshark", "-i", "br0", "-c", "2", "-f", "proto 112", "-d", "ip.proto==112,carp")
    told = site.lan.run(*tshark, "-T", "fields", *words)
    assert told.splitlines()[0].split() == ["255", "1", "40", "0", "00:00:5e:00:01:01"]


def test_unicast_peers_hear_each_other_and_nobody_else_does(site):
    """For switches and clouds that take no multicast. From the interface's own MAC, as any other traffic."""
    for node, peer in ((site.a, "192.0.2.3"), (site.b, "192.0.2.2")):
        node.configure(carp_table(peers=f'["{peer}"]', **QUICK))
        node.start()
        node.wait_for_role("MASTER" if node is site.a else "BACKUP")
    site.b.wait_until(lambda status: status["peer"], "an advertisement")
    assert {frame[0] & 1 for frame in hear(site, 3)} == {0}
    site.a.kill()
    site.b.wait_for_role("MASTER")
    assert "1 received" in site.client.run("ping", "-c1", "-W5", LAN_ADDRESS)


def test_nodes_with_different_passwords_stay_apart_and_count(site):
    for node, password in ((site.a, "mellon-mellon"), (site.b, "melon-melon")):
        node.configure(carp_table(**QUICK).replace("mellon-mellon", password))
        node.start()
        node.wait_for_role("MASTER")
    for node in site.nodes:
        status = node.wait_until(lambda status: status["vhids"][0]["refused"], "refused packets")
        assert status["role"] == "MASTER"
        assert status["vhids"][0]["refused"].keys() == {"digest"}
        assert [entry["kind"] for entry in node.history("packet-refused")] == ["digest"]


def test_garbage_does_no_harm_and_is_counted(site):
    """Bytes of chance behind a right header, a frame cut short, altered, forwarded by a router."""
    start(site)
    dice = random.Random(1)
    (frame, *_) = (heard for heard in hear(site, 2) if heard[12:14] == b"\x08\x00")
    garbage = [
        frame[:34] + dice.randbytes(36),
        frame[:34] + bytes([0x21, 1, 0, 7]) + dice.randbytes(32),
        frame[:50],
        frame[:-1] + bytes([frame[-1] ^ 1]),
        _with_ttl(frame, 254),
        frame[:34],
        *(frame[:34] + dice.randbytes(dice.randrange(200)) for _ in range(50)),
    ]
    for node in site.nodes:
        with sender(site, node) as sending:
            for each in garbage:
                sending.send(each)
    sync = within(site.b.host.pid, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    for _ in range(50):
        sync.sendto(dice.randbytes(dice.randrange(1, 300)), ("198.51.100.1", _SYNC_PORT))
    for node in site.nodes:
        refused = node.wait_until(
            lambda status: {"short", "checksum", "ttl"} <= status["vhids"][0]["refused"].keys(), "counts"
        )["vhids"][0]["refused"]
        told = [entry["kind"] for entry in node.history("packet-refused")]
        assert len(told) == len(set(told)), "each kind once"
        assert sum(refused.values()) >= 10
    site.a.wait_until(lambda status: sum(status["states"]["refused"].values()) >= 50, "counts")
    assert [node.status()["role"] for node in site.nodes] == ["MASTER", "BACKUP"]
    assert [node.events("role") for node in site.nodes] == [[], []]
    assert "1 received" in site.client.run("ping", "-c1", "-W5", LAN_ADDRESS)
    sync.close()


def test_a_replayed_master_does_not_keep_a_backup_waiting(site):
    """Where all nodes are ours the counters rise, and ``strict_replay`` may demand it."""
    start(site, strict_replay="true", sync=False)
    (frame, *_) = hear(site, 1)
    site.a.wait_until(lambda status: status["role"] == "MASTER", "the MASTER")
    site.a.kill()
    with sender(site, site.b) as sending:
        while not site.b.events("role"):
            sending.send(frame)
    assert site.b.wait_for_role("MASTER")["why"].startswith("took over: no advertisement")
    assert site.b.status()["vhids"][0]["refused"]["replayed"] > 0


def test_its_own_advertisements_that_come_back_are_known(site):
    """From a loop in the network, or from somebody who plays them."""
    start(site, sync=False)
    (frame, *_) = hear(site, 1)
    with sender(site, site.a) as sending:
        sending.send(frame)
    site.a.wait_until(lambda status: status["vhids"][0]["refused"] == {"own-cookie": 1}, "the count")
    assert site.a.status()["role"] == "MASTER"


def _with_ttl(frame, ttl):
    """The same with another TTL, and the header's checksum right again (RFC 1624)."""
    (check,) = struct.unpack_from(">H", frame, 24)
    check = (~check & 0xFFFF) - ((frame[22] - ttl) << 8)
    check = ~((check & 0xFFFF) + (check >> 16)) & 0xFFFF
    return frame[:22] + bytes([ttl]) + frame[23:24] + struct.pack(">H", check) + frame[26:]
