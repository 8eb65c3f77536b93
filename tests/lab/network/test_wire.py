"""Headers become the model's segments, and its updates cross a cable."""

from __future__ import annotations

import struct

import pytest

from gimli.lab import catalogue
from gimli.lab.network.real import wire
from gimli.lab.network.simulator.frames import ACK, SYN
from gimli.lab.network.simulator.pf import Peer, PfState
from gimli.lab.network.simulator.pfsync import INSERT, Sync, Update

TRAFFIC = catalogue.find("pfsync-multicast").topology.traffic


def packet(sport, dport, seq, ack, flags, options=b"", length=0):
    """IPv4 and TCP, from 198.51.100.7 to 192.0.2.100; what follows the headers is cut off, as by NFQUEUE."""
    tcp = (
        struct.pack(">HHIIBBHHH", sport, dport, seq, ack, (20 + len(options)) << 2, flags, 4000, 0, 0)
        + options
    )
    total = 20 + len(tcp) + length
    addresses = bytes([198, 51, 100, 7, 192, 0, 2, 100])
    return struct.pack(">BBHHHBBH", 0x45, 0, total, 0, 0, 64, 6, 0) + addresses + tcp


@pytest.fixture(name="flows")
def _flows():
    return wire.Flows(TRAFFIC)


def test_a_segment_has_what_its_headers_say(flows):
    segment = flows.parse(packet(30_003, 80, 1000, 2000, 0x18, length=1460))
    assert (segment.seq, segment.ack, segment.length, segment.win) == (1000, 2000, 1460, 4000)
    assert segment.flags == ACK
    assert segment.wscale == -1
    assert repr(segment.flow) == "198.51.100.7:30003 -> 192.0.2.100:80"
    assert segment.flow.connection == 3


def test_both_directions_are_one_connection(flows):
    forth = flows.parse(packet(30_003, 80, 1, 1, 0x10)).flow
    back = flows.of("192.0.2.100", 80, "198.51.100.7", 30_003)
    assert forth.reverse is back
    assert back.reverse is forth
    assert flows.parse(packet(30_003, 80, 5, 1, 0x10)).flow is forth


@pytest.mark.parametrize(
    ("options", "wscale"),
    [
        (b"", -1),
        (bytes([2, 4, 5, 180, 1, 3, 3, 7]), 7),
        (bytes([1, 1, 3, 3, 0, 0, 0, 0]), 0),
        (bytes([3, 3, 15, 0]), 14),  # RFC 7323: more than 14 is 14
        (bytes([0, 0, 0, 0, 3, 3, 7, 0]), -1),  # behind the end
        (bytes([2, 0, 3, 3]), -1),  # a length that leads nowhere
    ],
)
def test_the_factor_of_a_window_is_read_from_a_syn(flows, options, wscale):
    assert flows.parse(packet(30_003, 80, 1, 0, 0x02, options)).wscale == wscale
    assert flows.parse(packet(30_003, 80, 1, 1, 0x10, options)).wscale == -1


def test_sequence_numbers_go_on_where_the_wire_wraps(flows):
    """The model compares them as plain numbers."""
    first = flows.parse(packet(30_003, 80, (1 << 32) - 100, 0, 0x02)).seq
    assert flows.parse(packet(30_003, 80, 1000, 1, 0x10)).seq == first + 1100


def test_what_is_no_tcp_is_nobodys_segment(flows):
    assert flows.parse(b"") is None
    assert flows.parse(bytes(60)) is None


def test_an_update_crosses_the_cable_as_it_is(flows):
    there = wire.Flows(TRAFFIC)
    out = flows.of("198.51.100.7", 30_003, "192.0.2.100", 80)
    peers = Peer((1 << 32) + 7, 2, 3, 4, 5), Peer(9, 8, 7, -1, 4)
    state = PfState(1 << 33, out.reverse, out.reverse, "dmz", "fw1", *peers, is_out=True)
    sent = Sync("fw1", [Update(INSERT, state, *peers, 12)], [77], 400)
    heard = wire.unpack(wire.pack(sent), there)
    (update,) = heard.updates
    assert (heard.sender, heard.requests, update.action, update.serial) == ("fw1", [77], INSERT, 12)
    assert (repr(update.src), repr(update.dst)) == (repr(peers[0]), repr(peers[1]))
    theirs = update.state
    assert (theirs.number, theirs.interface, theirs.creator, theirs.is_out) == (1 << 33, "dmz", "fw1", True)
    assert repr(theirs.wire) == repr(out.reverse)
    # Who hears of a connection first by the cable counts its numbers as the other firewall does.
    assert there.of("198.51.100.7", 30_003, "192.0.2.100", 80).whole(8) == (1 << 32) + 8


def test_flags_other_than_the_models_are_left_out(flows):
    assert flows.parse(packet(30_003, 80, 1, 0, 0xC2)).flags == SYN
