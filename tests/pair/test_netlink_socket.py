"""The kernel's answers are read, whatever comes between."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.pair import links
from gimli.pair.links import Links
from gimli.pair.netlink_socket import (
    ROUTE,
    Message,
    Netlink,
    Subscription,
    attribute,
    attributes,
    messages,
    nest,
    text,
)
from tests.pair.conftest import inside


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40))))
def test_attributes_come_back_as_they_were_packed(made):
    packed = b"".join(attribute(kind, payload) for kind, payload in made)
    assert list(attributes(packed)) == made
    assert len(packed) % 4 == 0
    assert dict(attributes(nest(7, packed))) == {7: packed}


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_an_error(data):
    """It is the kernel that speaks; a length of nothing must not hang us all the same."""
    list(attributes(data))
    list(messages(data))


LINK_BY_NAME = links.GETLINK, bytes(16)


@pytest.mark.real
def test_every_message_has_its_answer_in_its_place(lan):
    with inside(lan.node):
        asking = Netlink(ROUTE)
    kind, body = LINK_BY_NAME
    answers = asking.ask([Message(kind, body + text(3, name)) for name in ("lo", "nosuch", "lan0")])
    assert [answer.errno for answer in answers] == [0, errno.ENODEV, 0]
    assert asking.ask([]) == []
    asking.close()


@pytest.mark.real
def test_a_refusal_has_the_kernels_words(lan):
    with inside(lan.node):
        asking = Links()
    with pytest.raises(OSError, match="Invalid argument") as refused:
        asking.change(Message(links.NEWADDR, struct.pack("=BBBBI", 2, 24, 0, 0, 1)))
    assert "Local address is not supplied" in str(refused.value)
    asking.close()


@pytest.mark.real
def test_what_is_lost_is_told(lan):
    with inside(lan.node):
        hearing = Subscription(ROUTE, [1])
    storm = "".join(f"link set dev lan0 mtu {1400 + number % 2}\n" for number in range(2000))
    lan.node.run("ip", "-batch", "-", text=storm)
    heard, lost = hearing.read()
    assert heard
    assert lost
    assert hearing.read() == ([], False)
    hearing.close()
