"""The frames that tell a link where an address is now."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from gimli.pair.announce import Form, announcements, gratuitous_arp, neighbour_advertisement
from gimli.pair.packet import checksum, virtual_mac

VIP4 = IPv4Address("192.0.2.10")
VIP6 = IPv6Address("2001:db8::10")
MAC = virtual_mac(7)


def test_a_gratuitous_request_asks_everybody_for_its_own_address():
    assert gratuitous_arp(VIP4, MAC, Form.REQUEST).hex(" ", 2) == (
        "ffff ffff ffff 0000 5e00 0107 0806 0001 0800 0604 0001 "
        "0000 5e00 0107 c000 020a 0000 0000 0000 c000 020a"
    )


def test_a_gratuitous_reply_answers_nobody_with_itself():
    """Both of its MACs are the sender's (RFC 5944 section 4.6)."""
    assert gratuitous_arp(VIP4, MAC, Form.REPLY).hex(" ", 2) == (
        "ffff ffff ffff 0000 5e00 0107 0806 0001 0800 0604 0002 "
        "0000 5e00 0107 c000 020a 0000 5e00 0107 c000 020a"
    )


def test_a_neighbour_advertisement_overrides_what_all_nodes_knew():
    frame = neighbour_advertisement(VIP6, MAC, router=False)
    assert frame[:14].hex(" ", 2) == "3333 0000 0001 0000 5e00 0107 86dd"
    assert frame[14:22].hex(" ", 2) == "6000 0000 0020 3aff"
    assert frame[22:54] == VIP6.packed + IPv6Address("ff02::1").packed
    assert frame[54:56].hex() == "8800"
    assert frame[58:62].hex() == "20000000"
    assert frame[62:].hex() == VIP6.packed.hex() + "0201" + MAC.hex()
    assert neighbour_advertisement(VIP6, MAC, router=True)[58:62].hex() == "a0000000"


@given(st.ip_addresses(v=6), st.binary(min_size=6, max_size=6), st.booleans())
def test_the_checksum_covers_the_pseudo_header(address: IPv6Address, mac: bytes, router: bool):  # noqa: FBT001 - drawn
    frame = neighbour_advertisement(address, mac, router=router)
    pseudo = frame[22:54] + (32).to_bytes(4, "big") + (58).to_bytes(4, "big")
    assert checksum(pseudo + frame[54:]) == 0


def test_every_address_is_announced_in_every_form():
    """Some hosts learn from a request only, some from a reply only."""
    assert announcements([VIP4, VIP6], MAC, router=True) == [
        gratuitous_arp(VIP4, MAC, Form.REQUEST),
        gratuitous_arp(VIP4, MAC, Form.REPLY),
        neighbour_advertisement(VIP6, MAC, router=True),
    ]
