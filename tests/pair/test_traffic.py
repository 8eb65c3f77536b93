"""What a link's frames tell, from frames made by hand and from any bytes at all."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.pair.announce import Form, gratuitous_arp, neighbour_advertisement
from gimli.pair.probe import question
from gimli.pair.traffic import FRAME_BYTES, Traffic
from tests.pair.frames import advertisement, ethernet, ipv4, ipv4_frame, ipv6_frame, mac_bytes

OWN, OTHER = mac_bytes("02:00:00:00:00:01"), mac_bytes("02:00:00:00:00:02")
GROUP = mac_bytes("01:00:5e:01:00:64")
VIRTUAL = {"192.0.2.1", "2001:db8::1"}


def seen(*frames: bytes) -> Traffic:
    traffic = Traffic(
        "lan0",
        own_macs=frozenset({OWN}),
        broadcasts=frozenset({IPv4Address("192.0.2.255")}),
        virtual=frozenset(VIRTUAL),
    )
    for frame in frames:
        traffic.see(frame[:FRAME_BYTES])
    return traffic


@pytest.mark.parametrize("address", ["10.1.0.100", "2001:db8::64"])
def test_a_group_mac_with_one_hosts_address_is_flooding(address):
    frame = (ipv6_frame if ":" in address else ipv4_frame)(GROUP, address)
    traffic = seen(frame, frame)
    assert traffic.grouped == {("01:00:5e:01:00:64", address): 2}
    assert not traffic.foreign


@pytest.mark.parametrize(
    ("mac", "address"),
    [
        ("01:00:5e:00:00:fb", "224.0.0.251"),
        ("ff:ff:ff:ff:ff:ff", "255.255.255.255"),
        ("ff:ff:ff:ff:ff:ff", "192.0.2.255"),
        ("01:00:5e:40:02:ff", "192.0.2.255"),
        ("ff:ff:ff:ff:ff:ff", "10.9.9.9"),
        ("33:33:00:00:00:01", "ff02::1"),
        ("02:00:00:00:00:01", "192.0.2.2"),
    ],
)
def test_ordinary_frames_are_none(mac, address):
    """A broadcast with one host's address is odd (Wake-on-LAN does it), and nothing that a switch did."""
    traffic = seen((ipv6_frame if ":" in address else ipv4_frame)(mac_bytes(mac), address))
    assert not traffic.grouped
    assert not traffic.foreign
    assert traffic.frames == 1


def test_a_unicast_frame_for_another_host_is_counted_by_its_mac():
    traffic = seen(
        ipv4_frame(OTHER, "192.0.2.9"), ethernet(OTHER, OWN, 0x88B5, b""), ipv4_frame(OWN, "192.0.2.2")
    )
    assert traffic.foreign == {"02:00:00:00:00:02": 2}


def test_whoever_says_to_have_a_virtual_address_is_remembered():
    traffic = seen(
        gratuitous_arp(IPv4Address("192.0.2.1"), OWN, Form.REQUEST),
        gratuitous_arp(IPv4Address("192.0.2.1"), OTHER, Form.REPLY),
        gratuitous_arp(IPv4Address("192.0.2.9"), OTHER, Form.REPLY),
        neighbour_advertisement(ip_address("2001:db8::1"), OTHER, router=True),
        question(ip_address("192.0.2.1"), OTHER),
        question(ip_address("2001:db8::1"), OWN),
    )
    assert dict(traffic.holders) == {
        "192.0.2.1": {"02:00:00:00:00:01", "02:00:00:00:00:02"},
        "2001:db8::1": {"02:00:00:00:00:02"},
    }


def test_queriers_are_told_from_listeners():
    query, report = (
        ethernet(
            mac_bytes("01:00:5e:00:00:01"),
            OWN,
            0x0800,
            ipv4("192.0.2.254", "224.0.0.1", 2, bytes([kind]) + bytes(7)),
        )
        for kind in (0x11, 0x16)
    )
    assert seen(query).igmp_queriers == {"192.0.2.254"}
    assert seen(report).igmp_queriers == set()


def test_an_mld_query_stands_behind_a_router_alert():
    source, group = ip_address("fe80::1").packed, ip_address("ff02::1").packed
    mld = bytes([58, 0, 5, 2, 0, 0, 1, 0]) + bytes([130]) + bytes(23)
    frame = ethernet(
        mac_bytes("33:33:00:00:00:01"),
        OWN,
        0x86DD,
        struct.pack(">IHBB", 6 << 28, len(mld), 0, 1) + source + group + mld,
    )
    assert seen(frame).mld_queriers == {"fe80::1"}


def test_everything_of_protocol_112_is_kept_with_its_mac():
    frame = advertisement(OTHER, 7)
    assert seen(frame).advertisements == [("02:00:00:00:00:02", frame[14:])]


def test_a_scan_does_not_fill_the_memory():
    macs = (number.to_bytes(6, "big") for number in range(0x020000000000, 0x020000000400))
    traffic = seen(*(ipv4_frame(mac, "192.0.2.9") for mac in macs))
    assert traffic.frames == 1024
    assert len(traffic.foreign) == 100


FRAMES = st.one_of(
    st.binary(max_size=FRAME_BYTES),
    st.builds(
        lambda head, kind, rest: head + kind + rest,
        st.binary(min_size=12, max_size=12),
        st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x08\x06"]),
        st.binary(max_size=FRAME_BYTES - 14),
    ),
)


@given(st.lists(FRAMES, max_size=5))
def test_any_bytes_tell_something_or_nothing(frames):
    traffic = seen(*frames)
    assert traffic.frames == len(frames)
    assert set(traffic.holders) <= VIRTUAL


@given(st.integers(0, FRAME_BYTES))
def test_a_frame_that_is_cut_short_tells_less(length):
    for frame in (
        ipv6_frame(GROUP, "2001:db8::64"),
        neighbour_advertisement(ip_address("2001:db8::1"), OTHER, router=True),
        gratuitous_arp(IPv4Address("192.0.2.1"), OWN, Form.REQUEST),
    ):
        whole, cut = seen(frame), seen(frame[:length])
        assert set(cut.grouped) <= set(whole.grouped)
        for address, macs in cut.holders.items():
            assert macs == whole.holders[address]
