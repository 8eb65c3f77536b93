"""The hot path does what the slow one does."""

import ipaddress
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from gimli.errors import PeerError
from gimli.pair import ctintake, ctmessage
from gimli.pair.ctfilter import Exemption, Filter
from gimli.pair.ctintake import Intake
from tests.pair.connections import (
    BEGUN,
    DUMPED,
    ENDED,
    ESTABLISHED,
    ICMP,
    ICMPV6,
    SCTP,
    TCP,
    UDP,
    UPDATED,
    Connection,
    End,
    packed,
)

ADDRESSES_4 = st.ip_addresses(v=4).map(str)
ADDRESSES_6 = st.ip_addresses(v=6).map(str)
PORTS = st.integers(1, 65_535)


@st.composite
def connections(draw):
    addresses = draw(st.sampled_from([ADDRESSES_4, ADDRESSES_6]))
    ends = st.builds(End, addresses, PORTS)
    source = draw(ends)
    protocols = [TCP, UDP, SCTP, ICMP if "." in source.address else ICMPV6]
    protocol = draw(st.sampled_from(protocols))
    return Connection(
        source=source,
        destination=draw(ends),
        protocol=protocol,
        reply_source=draw(st.none() | ends),
        reply_destination=draw(st.none() | ends),
        status=draw(st.sampled_from([8, 0xA, 0xE, 0x3E, 0x18E])),
        timeout_s=draw(st.sampled_from([30, 120, 432_000])),
        state=draw(st.integers(1, 8)) if protocol in {TCP, SCTP} else None,
        flags=draw(st.sampled_from([(0, 0), (0x23, 0x33)])),
        mark=draw(st.sampled_from([0, 5])),
        labels=draw(st.sampled_from([b"", b"\1" * 16])),
        zone=draw(st.sampled_from([0, 0, 3])),
        identity=draw(st.integers(0, 2**32 - 1)),
    )


MESSAGES = st.builds(Connection.message, connections(), st.sampled_from([BEGUN, UPDATED, ENDED, DUMPED]))


@settings(max_examples=300)
@given(st.lists(MESSAGES, max_size=12), st.lists(ADDRESSES_4, max_size=2))
def test_the_hot_path_takes_what_the_slow_one_takes(messages, own):
    """Twice: the second time every tail is known."""
    chosen = Filter([packed(address) for address in own])
    intake = Intake(chosen)
    wanted = [ctmessage.canonical(message) for message in messages if chosen.passes(message)]
    for take in (intake.take, intake.take_dumped) * 2:
        assert take(messages) == wanted
    assert intake.filtered == 4 * (len(messages) - len(wanted))


@settings(max_examples=300)
@given(MESSAGES, st.integers(0, 400), st.integers(1, 255))
def test_a_damaged_message_is_taken_as_the_slow_path_would_or_counted(message, at, flip):
    """Of an end only its tuples are used: damage behind them may be passed over."""
    intake = Intake(Filter())
    for take in (intake.take, intake.take_dumped):
        take([message])
    damaged = bytearray(message)
    damaged[4 + at % (len(message) - 4)] ^= flip
    try:
        wanted = [ctmessage.canonical(bytes(damaged))] if Filter().passes(bytes(damaged)) else []
    except PeerError:
        wanted = []
    is_end = struct.unpack_from("=HH", damaged, 4) == ENDED
    undamaged = [ctmessage.canonical(message)]
    for take in (intake.take, intake.take_dumped):
        taken = take([bytes(damaged)])
        assert taken == wanted or (is_end and taken == undamaged)


def test_a_message_that_is_no_connection_is_counted():
    intake = Intake(Filter())
    assert intake.take([bytes(16), bytes(20), b"\x02" * 200]) == []
    assert intake.refused == 3


def test_connections_of_the_host_itself_are_left_out():
    """To this box by ssh, or from it, or translated to its address: it dies with the box."""
    intake = Intake(Filter([packed("192.0.2.2"), packed("2001:db8::2")]))
    own = Connection(destination=End("192.0.2.2", 22))
    for connection in (
        own,
        own.but(source=own.destination, destination=own.source),
        Connection(reply_destination=End("192.0.2.2", 1025)),
        Connection(source=End("2001:db8::9", 5), destination=End("2001:db8::2", 22)),
    ):
        for kind in (BEGUN, UPDATED, ENDED, DUMPED):
            assert intake.take([connection.message(kind)]) == []
    assert intake.filtered == 16


def test_what_cannot_go_on_elsewhere_is_left_out():
    intake = Intake(Filter())
    for source, destination in (
        ("127.0.0.1", "127.0.0.1"),
        ("198.51.100.1", "224.0.0.18"),
        ("198.51.100.1", "255.255.255.255"),
        ("::1", "::1"),
        ("fe80::1", "ff02::12"),
    ):
        assert intake.take([Connection(End(source, 5), End(destination, 6)).message(BEGUN)]) == []


def test_exemptions_are_left_out():
    exemptions = [
        Exemption(protocol=UDP, port=53),
        Exemption(network=ipaddress.ip_network("10.7.0.0/16")),
        Exemption(network=ipaddress.ip_network("2001:db8:7::/48")),
    ]
    intake = Intake(Filter((), exemptions))
    base = Connection()
    left_out = (
        base.but(protocol=UDP, state=None, destination=End("192.0.2.10", 53)),
        base.but(source=End("10.7.1.2", 5)),
        base.but(reply_source=End("10.7.1.2", 5)),
        base.but(source=End("2001:db8:7::1", 5), destination=End("2001:db8:8::1", 5)),
    )
    passed = (
        base,
        base.but(destination=End("192.0.2.10", 53)),
        base.but(protocol=UDP, state=None, source=End("10.0.0.1", 53)),
        base.but(source=End("10.8.1.2", 5)),
    )
    for _ in range(2):  # the second answer is remembered
        assert [intake.take([one.message(BEGUN)]) for one in left_out] == [[]] * 4
        assert [len(intake.take([one.message(UPDATED)])) for one in passed] == [1] * 4


def test_an_entry_that_is_cut_off_within_its_last_number_is_refused():
    """Once one that ends with that number is known, nothing but its length tells them apart."""
    message = Connection(state=ESTABLISHED).message(DUMPED)
    end = ctintake._ENTRIES[message[16:17]].tail.start
    intake = Intake(Filter())
    for length in (end, end, end - 3):
        taken = intake.take_dumped([struct.pack("=I", length) + message[4:length]])
        assert [ctmessage.split(made) for _, made in taken] == [[one] for one in taken]
        assert len(taken) == (length == end)
    assert intake.refused == 1
