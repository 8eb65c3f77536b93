"""Digests: who has the password is believed, and nobody else."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.pair.authenticator import Authenticator, Replay
from gimli.pair.packet import GROUP4, Address, Advertisement, Heard, PacketRefused, Refusal

VIP4 = IPv4Address("192.0.2.10")
VIP6 = IPv6Address("2001:db8::10")
LINK_LOCAL = IPv6Address("fe80::200:5eff:fe00:101")
PASSWORD = b"correct horse"


def refusal(authenticator: Authenticator, advertisement: Advertisement, own: range = range(0)) -> Refusal:
    with pytest.raises(PacketRefused) as refused:
        authenticator.verify(advertisement, own)
    return refused.value.kind


def test_the_digest_is_the_protocols_own():
    """HMAC-SHA1 by the padded password, written down once more from its definition."""
    message = bytes((2, 1, 7)) + bytes((192, 0, 2, 10)) + VIP6.packed + (42).to_bytes(8, "big")
    expected = hmac.new(PASSWORD + bytes(7), message, hashlib.sha1).digest()
    assert Authenticator(PASSWORD, 7, [VIP6, VIP4]).sign(1, 0, 0, 42).digest == expected


def test_addresses_count_once_ascending_ipv4_first():
    """As numbers, not as text; and an interface's address is its address."""
    mixed = [
        ip_address(text) for text in ("2001:db8::9", "10.0.0.10", "10.0.0.9", "2001:db8::10", "10.0.0.9")
    ]
    ordered = [ip_address(text) for text in ("10.0.0.9", "10.0.0.10", "2001:db8::9", "2001:db8::10")]
    message = b"".join(address.packed for address in ordered)
    expected = hmac.new(bytes(20), bytes((2, 1, 1)) + message + bytes(8), hashlib.sha1).digest()
    assert Authenticator(b"", 1, mixed).sign(1, 0, 0, 0).digest == expected
    prefixed = [ip_interface(f"{address}/{length}") for address in ordered for length in (24, 28)]
    assert Authenticator(b"", 1, prefixed).sign(1, 0, 0, 0).digest == expected


@given(
    st.binary(max_size=20),
    st.integers(1, 255),
    st.lists(st.ip_addresses(), max_size=5),
    st.tuples(*[st.integers(0, 255)] * 3),
    st.integers(0, 2**64 - 1),
)
def test_what_is_signed_is_believed(
    password: bytes, vhid: int, addresses: list[Address], numbers: tuple[int, int, int], counter: int
):
    Authenticator(password, vhid, addresses[::-1]).verify(
        Authenticator(password, vhid, addresses).sign(*numbers, counter)
    )


@pytest.mark.parametrize(
    "other",
    [
        Authenticator(b"wrong horse", 7, [VIP4]),
        Authenticator(PASSWORD + b"!", 7, [VIP4]),
        Authenticator(PASSWORD, 7, []),
        Authenticator(PASSWORD, 7, [VIP4, VIP6]),
        Authenticator(PASSWORD, 7, [IPv4Address("192.0.2.11")]),
        Authenticator(PASSWORD, 7, [VIP4], lladdr=bytes(6)),
    ],
)
def test_another_password_and_other_addresses_are_refused(other: Authenticator):
    assert refusal(other, Authenticator(PASSWORD, 7, [VIP4]).sign(1, 0, 0, 42)) is Refusal.DIGEST


def test_the_counter_and_the_digest_are_bound_to_each_other():
    ours = Authenticator(PASSWORD, 7, [VIP4])
    signed = ours.sign(1, 0, 0, 42)
    assert refusal(ours, replace(signed, counter=43)) is Refusal.DIGEST
    assert refusal(ours, replace(signed, digest=bytes(20))) is Refusal.DIGEST


def test_another_group_is_refused_as_such():
    """Before its digest: two groups on a link are nothing unusual."""
    signed = Authenticator(PASSWORD, 8, [VIP4]).sign(1, 0, 0, 42)
    assert refusal(Authenticator(PASSWORD, 7, [VIP4]), signed) is Refusal.WRONG_VHID


def test_the_digest_without_link_local_addresses_is_sent_and_both_are_accepted():
    """An OpenBSD peer's carp interface has one by itself, and older ones sent it in the digest."""
    with_it, without_it = (
        Authenticator(PASSWORD, 7, [VIP6, LINK_LOCAL]),
        Authenticator(PASSWORD, 7, [VIP6]),
    )
    assert with_it.sign(1, 0, 0, 42) == without_it.sign(1, 0, 0, 42)
    message = bytes((2, 1, 7)) + VIP6.packed + LINK_LOCAL.packed + (42).to_bytes(8, "big")
    older = replace(
        with_it.sign(1, 0, 0, 42), digest=hmac.new(PASSWORD + bytes(7), message, hashlib.sha1).digest()
    )
    with_it.verify(older)
    assert refusal(without_it, older) is Refusal.DIGEST


def test_a_lladdr_of_its_own_is_in_the_digest():
    """After the type, before the vhid: OpenBSD's `ifconfig carp0 lladdr`."""
    lladdr = bytes.fromhex("020000000007")
    message = bytes((2, 1)) + lladdr + bytes((7,)) + VIP4.packed + (42).to_bytes(8, "big")
    expected = hmac.new(PASSWORD + bytes(7), message, hashlib.sha1).digest()
    assert Authenticator(PASSWORD, 7, [VIP4], lladdr).sign(1, 0, 0, 42).digest == expected


def test_our_own_advertisement_that_comes_back_is_refused():
    ours = Authenticator(PASSWORD, 7, [VIP4])
    assert refusal(ours, ours.sign(1, 0, 0, 42), range(40, 43)) is Refusal.OWN_COOKIE
    ours.verify(ours.sign(1, 0, 0, 43), range(40, 43))


def test_a_bow_out_is_the_least_fit_one():
    ours = Authenticator(PASSWORD, 7, [VIP4])
    left = ours.bow_out(42)
    ours.verify(left)
    assert left.is_bow_out
    assert left.demotion == 255
    assert not ours.sign(255, 254, 255, 42).is_bow_out


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Authenticator(bytes(21), 1, []), "password has 21 bytes, at most 20 fit"),
        (lambda: Authenticator(b"", 0, []), "vhid is 0, 1 to 255 fit"),
        (lambda: Authenticator(b"", 256, []), "vhid is 256, 1 to 255 fit"),
        (lambda: Authenticator(b"", 1, [], bytes(5)), "lladdr has 5 bytes, not 6"),
        (lambda: Authenticator(b"", 1, []).sign(256, 0, 0, 0), "advbase is 256, 0 to 255 fit"),
        (lambda: Authenticator(b"", 1, []).sign(0, -1, 0, 0), "advskew is -1, 0 to 255 fit"),
        (lambda: Authenticator(b"", 1, []).sign(0, 0, 256, 0), "demotion is 256, 0 to 255 fit"),
        (lambda: Authenticator(b"", 1, []).sign(0, 0, 0, 2**64), "64 bits fit"),
    ],
)
def test_what_does_not_fit_is_our_error_not_the_peers(make, why: str):
    with pytest.raises(ValueError, match=why):
        make()


def test_a_window_lets_only_counters_pass_that_rise():
    """Of each sender: two nodes' counters have nothing to do with each other."""
    ours = Authenticator(PASSWORD, 7, [VIP4])
    left, right = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")

    def heard(source: IPv4Address, counter: int) -> Heard:
        return Heard(source, GROUP4, ours.sign(1, 0, 0, counter))

    window = Replay({}).accept(heard(left, 0)).accept(heard(left, 10)).accept(heard(right, 5))
    for source, counter in ((left, 10), (left, 0), (right, 5), (right, 4)):
        with pytest.raises(PacketRefused) as refused:
            window.accept(heard(source, counter))
        assert refused.value.kind is Refusal.REPLAYED
    assert window.accept(heard(right, 6)).highest == {left: 10, right: 6}
