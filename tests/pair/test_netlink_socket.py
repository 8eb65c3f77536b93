"""The kernel's answers are read, whatever comes between."""

from __future__ import annotations

import errno
import struct

import pytest

from gimli.pair import links
from gimli.pair.links import Links
from gimli.pair.netlink import text
from gimli.pair.netlink_socket import ROUTE, Message, Netlink, Subscription
from tests.pair.wire import inside

pytestmark = pytest.mark.real

LINK_BY_NAME = links.GETLINK, bytes(16)


def test_every_message_has_its_answer_in_its_place(lan):
    with inside(lan.node):
        asking = Netlink(ROUTE)
    kind, body = LINK_BY_NAME
    answers = asking.ask([Message(kind, body + text(3, name)) for name in ("lo", "nosuch", "lan0")])
    assert [answer.errno for answer in answers] == [0, errno.ENODEV, 0]
    assert asking.ask([]) == []
    asking.close()


def test_a_refusal_has_the_kernels_words(lan):
    with inside(lan.node):
        asking = Links()
    with pytest.raises(OSError, match="Invalid argument") as refused:
        asking.change(Message(links.NEWADDR, struct.pack("=BBBBI", 2, 24, 0, 0, 1)))
    assert "Local address is not supplied" in str(refused.value)
    asking.close()


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
