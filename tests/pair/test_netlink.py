import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.errors import PeerError
from gimli.pair import netlink


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_refused(buffer):
    """Messages that are found lie in the buffer, one behind the other, up to its end."""
    try:
        found = list(netlink.messages(buffer))
    except PeerError:
        return
    at = 0
    for message in found:
        assert buffer[at : at + len(message)] == message
        at += netlink.aligned(len(message))
    assert at >= len(buffer)


@given(st.binary(max_size=200))
def test_any_bytes_are_attributes_or_refused(data):
    try:
        found = netlink.attributes(data, 0, len(data))
    except PeerError:
        return
    for kind, raw in found.items():
        length, raw_kind = struct.unpack_from("=HH", raw)
        assert raw_kind & 0x3FFF == kind
        assert len(raw) == netlink.aligned(length)
        assert raw in data


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=20)), max_size=8))
def test_attributes_come_back(pairs):
    data = b"".join(netlink.attribute(kind, content) for kind, content in pairs)
    found = netlink.attributes(data, 0, len(data))
    for kind, content in dict(pairs).items():
        assert netlink.value(found[kind], len(content)) == content


def test_a_value_that_is_too_short_is_refused():
    with pytest.raises(PeerError, match="2 bytes, expected 4"):
        netlink.value(struct.pack("=HH", 6, 1) + b"ab", 4)


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=20)), max_size=8))
def test_contents_come_back_in_order_even_of_a_type_that_comes_twice(pairs):
    data = b"".join(netlink.attribute(kind, content) for kind, content in pairs)
    assert list(netlink.contents(data)) == pairs
    assert list(netlink.contents(netlink.nest(7, data))) == [(7, data)]


@given(st.binary(max_size=200))
def test_any_bytes_have_contents_or_are_refused(data):
    try:
        found = list(netlink.contents(data))
    except PeerError:
        return
    assert all(content in data for _, content in found)
