"""Advertisements as bytes: what was packed is parsed, and nothing else is, whatever the bytes."""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.errors import PeerError
from gimli.pair.packet import (
    ADVERTISEMENT_BYTES,
    GROUP4,
    GROUP6,
    Address,
    Advertisement,
    Heard,
    PacketRefused,
    Refusal,
    checksum,
    group_mac,
    pack_advertisement,
    pack_frame,
    pack_packet,
    parse_advertisement,
    unpack_advertisement,
    virtual_mac,
)

DIGEST = bytes(range(20))
PLAIN = Advertisement(vhid=7, advbase=1, advskew=100, demotion=32, counter=0x0102030405060708, digest=DIGEST)
SOURCE4 = IPv4Address("192.0.2.1")
SOURCE6 = IPv6Address("fe80::1")

BYTE = st.integers(0, 255)
ADVERTISEMENTS = st.builds(
    Advertisement,
    vhid=BYTE,
    advbase=BYTE,
    advskew=BYTE,
    demotion=BYTE,
    counter=st.integers(0, 2**64 - 1),
    digest=st.binary(min_size=20, max_size=20),
)
ENDS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)), st.tuples(*[st.ip_addresses(v=6)] * 2)
)


def refusal(packet: bytes) -> Refusal:
    """Why a packet is refused."""
    with pytest.raises(PacketRefused) as refused:
        parse_advertisement(packet)
    return refused.value.kind


def changed(packet: bytes, at: int, value: int, *, right: bool = True) -> bytes:
    """A packet with one byte of it changed, and with ``right`` IPv4 header and CARP checksums."""
    made = bytearray(packet)
    made[at] = value
    if right and made[0] >> 4 == 4:
        header = (made[0] & 15) * 4
        for start, end, place in ((0, header, 10), (header, header + ADVERTISEMENT_BYTES, header + 6)):
            made[place : place + 2] = bytes(2)
            made[place : place + 2] = checksum(bytes(made[start:end])).to_bytes(2, "big")
    return bytes(made)


def test_the_frame_is_the_protocols_own():
    """Every byte, as it stands in the specification: Ethernet, IPv4, CARP."""
    assert pack_frame(PLAIN, SOURCE4, virtual_mac(7), identification=0x1234).hex(" ", 2) == (
        "0100 5e00 0012 0000 5e00 0107 0800 "
        "4510 0038 1234 4000 ff70 c6fd c000 0201 e000 0012 "
        "2107 6407 2001 f077 0102 0304 0506 0708 0001 0203 0405 0607 0809 0a0b 0c0d 0e0f 1011 1213"
    )


def test_the_ipv6_frame_goes_to_its_group():
    frame = pack_frame(PLAIN, SOURCE6, virtual_mac(7))
    assert frame[:14].hex(" ", 2) == "3333 0000 0012 0000 5e00 0107 86dd"
    assert frame[14:22].hex(" ", 2) == "6000 0000 0024 70ff"
    assert frame[54:] == pack_advertisement(PLAIN)


def test_a_frame_to_a_peer_has_its_addresses():
    peer, mac = IPv4Address("192.0.2.2"), bytes.fromhex("020000000002")
    frame = pack_frame(PLAIN, SOURCE4, virtual_mac(7), peer, mac)
    assert frame[:6] == mac
    assert parse_advertisement(frame[14:]) == Heard(SOURCE4, peer, PLAIN)


@given(ADVERTISEMENTS, ENDS, st.integers(0, 0xFFFF), st.binary(max_size=20))
def test_what_is_packed_is_parsed(
    advertisement: Advertisement, ends: tuple[Address, Address], identification: int, padding: bytes
):
    """With whatever an interface has appended, too."""
    packet = pack_packet(advertisement, *ends, identification=identification)
    assert parse_advertisement(packet + padding) == Heard(*ends, advertisement)


def test_the_group_is_the_destination_unless_told_otherwise():
    assert parse_advertisement(pack_packet(PLAIN, SOURCE4)).destination == GROUP4
    assert parse_advertisement(pack_packet(PLAIN, SOURCE6)).destination == GROUP6


def test_ip_options_are_passed_over():
    """OpenBSD and ucarp read the header's length as well."""
    packet = bytearray(pack_packet(PLAIN, SOURCE4))
    packet[0], packet[3] = 0x46, packet[3] + 4
    packet[20:20] = bytes((1, 1, 1, 0))
    assert parse_advertisement(changed(bytes(packet), 1, 0)).advertisement == PLAIN


@pytest.mark.parametrize(
    ("at", "value", "kind"),
    [
        (0, 0x55, Refusal.NOT_CARP),
        (9, 17, Refusal.NOT_CARP),
        (0, 0x44, Refusal.SHORT),
        (0, 0x4F, Refusal.SHORT),
        (3, 19, Refusal.SHORT),
        (3, 55, Refusal.SHORT),
        (3, 57, Refusal.SHORT),
        (6, 0x20, Refusal.FRAGMENT),
        (7, 1, Refusal.FRAGMENT),
        (8, 254, Refusal.TTL),
        (20, 0x31, Refusal.VERSION),
        (20, 0x22, Refusal.TYPE),
        (23, 1, Refusal.AUTHLEN),
    ],
)
def test_what_is_not_an_advertisement_is_refused_with_its_kind(at: int, value: int, kind: Refusal):
    """Its checksums are right: nothing else is the matter with it."""
    assert refusal(changed(pack_packet(PLAIN, SOURCE4), at, value)) is kind


@pytest.mark.parametrize(
    ("at", "value", "kind"),
    [
        (10, 0, Refusal.IP_CHECKSUM),
        (15, 9, Refusal.IP_CHECKSUM),
        (21, 8, Refusal.CHECKSUM),
        (55, 0, Refusal.CHECKSUM),
    ],
)
def test_a_wrong_checksum_is_refused(at: int, value: int, kind: Refusal):
    assert refusal(changed(pack_packet(PLAIN, SOURCE4), at, value, right=False)) is kind


@pytest.mark.parametrize(
    ("at", "value", "kind"),
    [
        (5, 37, Refusal.SHORT),
        (5, 35, Refusal.SHORT),
        (6, 58, Refusal.NOT_CARP),
        (7, 64, Refusal.TTL),
        (41, 8, Refusal.CHECKSUM),
    ],
)
def test_the_same_over_ipv6(at: int, value: int, kind: Refusal):
    assert refusal(changed(pack_packet(PLAIN, SOURCE6), at, value)) is kind


@pytest.mark.parametrize("source", [SOURCE4, SOURCE6])
def test_a_packet_that_is_cut_anywhere_is_short(source: Address):
    packet = pack_packet(PLAIN, source)
    assert {refusal(packet[:length]) for length in range(len(packet))} == {Refusal.SHORT}


def test_a_vrrp_router_on_the_link_is_named():
    """VRRP 2 has the same protocol number, group and first byte, and a count of addresses for authlen."""
    vrrp = bytes.fromhex("21 33 64 01 00 01 0000 c000020a 0000000000000000")
    with pytest.raises(PacketRefused) as refused:
        unpack_advertisement(vrrp)
    assert refused.value.kind is Refusal.AUTHLEN
    assert "VRRP" in refused.value.fix


def test_a_refusal_is_the_peers_error_and_says_what_was_expected():
    with pytest.raises(PeerError) as refused:
        parse_advertisement(changed(pack_packet(PLAIN, SOURCE4), 8, 64))
    assert str(refused.value) == "advertisement has passed a router: time to live 64, expected 255"


@given(st.binary(max_size=120))
def test_any_bytes_are_a_value_or_are_refused(packet: bytes):
    with contextlib.suppress(PacketRefused):
        parse_advertisement(packet)
    with contextlib.suppress(PacketRefused):
        unpack_advertisement(packet)


@given(
    st.sampled_from([SOURCE4, SOURCE6]),
    st.lists(st.tuples(st.integers(0, 75), BYTE), max_size=8),
    st.integers(0, 80),
)
def test_a_damaged_packet_is_a_value_or_is_refused(
    source: Address, changes: list[tuple[int, int]], length: int
):
    """Random bytes are refused by their first byte; these get further."""
    packet = pack_packet(PLAIN, source)
    for at, value in changes:
        packet = changed(packet, at % len(packet), value)
    with contextlib.suppress(PacketRefused):
        parse_advertisement(packet[:length])


@given(st.binary(max_size=65))
def test_a_checksum_makes_its_data_sum_up(data: bytes):
    """RFC 1071: over data of even length and its checksum it is 0. All zeros have the checksum ffff."""
    even = data + bytes(len(data) % 2)
    whole = even + checksum(data).to_bytes(2, "big")
    assert checksum(whole) == 0
    words = [int.from_bytes(even[i : i + 2], "big") for i in range(0, len(even), 2)]
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert checksum(data) == 0xFFFF - total


def test_macs():
    assert virtual_mac(255).hex(":") == "00:00:5e:00:01:ff"
    assert group_mac(GROUP4).hex(":") == "01:00:5e:00:00:12"
    assert group_mac(IPv4Address("239.255.1.2")).hex(":") == "01:00:5e:7f:01:02"
    assert group_mac(GROUP6).hex(":") == "33:33:00:00:00:12"
