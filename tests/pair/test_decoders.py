"""What others make of our frames: tcpdump, tshark, and the caches of a real kernel."""

from __future__ import annotations

import contextlib
import itertools
import select
import struct
import subprocess
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

import pytest

from gimli.lab.namespaces import Network
from gimli.pair.announce import Form, announcements, gratuitous_arp, neighbour_advertisement
from gimli.pair.authenticator import Authenticator
from gimli.pair.packet import pack_frame, virtual_mac
from tests.pair.wire import Program, Wire, run_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

VIP4 = IPv4Address("192.0.2.10")
VIP6 = IPv6Address("2001:db8::10")
MAC = virtual_mac(7)
GROUP = Authenticator(b"secret", 7, [VIP4, VIP6])
ADVERTISEMENTS = [
    pack_frame(GROUP.sign(1, 100, 32, 0x0102030405060708), IPv4Address("192.0.2.1"), MAC),
    pack_frame(GROUP.sign(1, 100, 32, 5), IPv6Address("fe80::1"), MAC),
    pack_frame(GROUP.bow_out(5), IPv4Address("192.0.2.1"), MAC),
]


def decode(frames: list[bytes], path: Path, *command: str) -> str:
    """What a program reads in a file of frames."""
    # libpcap's own format: https://www.tcpdump.org/manpages/pcap-savefile.5.txt
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    records = (struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame for frame in frames)
    path.write_bytes(header + b"".join(records))
    return subprocess.run([*command, "-r", path], capture_output=True, text=True, check=True).stdout


def test_tcpdump_reads_our_advertisements(tmp_path: Path):
    """It prints a checksum only when it is a wrong one."""
    said = decode(ADVERTISEMENTS, tmp_path / "pcap", "tcpdump", "-nev", "-T", "carp")
    assert "(tos 0x10, ttl 255, id 0, offset 0, flags [DF], proto VRRP (112), length 56)" in said
    assert (
        "192.0.2.1 > 224.0.0.18: CARPv2-advertise 36: "
        "vhid=7 advbase=1 advskew=100 authlen=7 counter=72623859790382856\n"
    ) in said
    assert (
        "fe80::1 > ff02::12: CARPv2-advertise 36: vhid=7 advbase=1 advskew=100 authlen=7 counter=5\n" in said
    )
    assert "CARPv2-advertise 36: vhid=7 advbase=255 advskew=255 authlen=7 counter=5\n" in said
    assert "00:00:5e:00:01:07 > 01:00:5e:00:00:12" in said
    assert "00:00:5e:00:01:07 > 33:33:00:00:00:12" in said
    assert "bad" not in said


def test_tshark_reads_the_demotion_too(tmp_path: Path):
    said = decode(ADVERTISEMENTS, tmp_path / "pcap", "tshark", "-O", "carp", "-d", "ip.proto==112,carp")
    assert said.count("[Checksum Status: Good]") == 3
    assert said.count("Demotion indicator: 32") == 2
    assert said.count("Demotion indicator: 255") == 1
    assert f"HMAC: {GROUP.sign(1, 100, 32, 5).digest.hex()}" in said


def test_tcpdump_reads_our_announcements(tmp_path: Path):
    said = decode(announcements([VIP4, VIP6], MAC, router=True), tmp_path / "pcap", "tcpdump", "-nev")
    assert "Request who-has 192.0.2.10 tell 192.0.2.10, length 28" in said
    assert "Reply 192.0.2.10 is-at 00:00:5e:00:01:07, length 28" in said
    assert "[icmp6 sum ok] ICMP6, neighbor advertisement" in said
    assert "tgt is 2001:db8::10, Flags [router, override]" in said


@pytest.mark.parametrize(
    ("address", "frame"),
    [
        (VIP4, gratuitous_arp(VIP4, MAC, Form.REQUEST)),
        (VIP4, gratuitous_arp(VIP4, MAC, Form.REPLY)),
        (VIP6, neighbour_advertisement(VIP6, MAC, router=False)),
    ],
    ids=["request", "reply", "neighbour-advertisement"],
)
def test_a_kernel_that_knew_another_mac_learns_ours(address: IPv4Address | IPv6Address, frame: bytes):
    """From one frame of each form alone."""
    with Network() as network, contextlib.ExitStack() as stack:
        host, node = network.host("host"), network.host("node")
        network.cable(host, "lan0", node, "lan0")
        host.address("lan0", "192.0.2.1/24", "2001:db8::1/64")

        def know(neighbour: str, mac: str) -> None:
            host.run("ip", "neigh", "replace", neighbour, "lladdr", mac, "dev", "lan0", "nud", "stale")

        know(str(address), "02:00:00:00:00:01")
        changes = Program(host.start("ip", "monitor", "neigh", "dev", "lan0", stdout=subprocess.PIPE))
        stack.callback(changes.close)
        wire = Wire(node, "lan0")
        stack.callback(wire.close)
        change = itertools.count()
        while not changes.said:  # until it has told one of our changes it may not listen yet
            know("192.0.2.99", f"02:00:00:00:00:{next(change) % 256:02x}")
            if select.select([changes], [], [], 0.02)[0]:
                changes.read()
        wire.socket.send(frame)
        run_until(lambda: f"{address} lladdr 00:00:5e:00:01:07" in changes.said, changes)
