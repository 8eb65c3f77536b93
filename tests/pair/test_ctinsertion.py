"""Which messages a kernel is given; test_conntrack_real.py shows that it takes them."""

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.errors import PeerError
from gimli.pair import ctinsertion, ctmessage, netlink
from tests.pair.connections import (
    BEGUN,
    CONFIRMED,
    DST_NAT,
    ICMP,
    SRC_NAT,
    UDP,
    UPDATED,
    Connection,
    End,
    attribute,
    nest,
    packed,
)

PLAIN = Connection()
SNAT = PLAIN.but(status=CONFIRMED | SRC_NAT, reply_destination=End("203.0.113.9", 1025))
DNAT = PLAIN.but(status=CONFIRMED | DST_NAT, reply_source=End("10.9.9.9", 8080))
SNAT_6 = PLAIN.but(
    source=End("fd00::1", 5), destination=End("2001:db8::2", 80), status=CONFIRMED | SRC_NAT,
    reply_destination=End("2001:db8::9", 1025),
)  # fmt: skip
PING = PLAIN.but(protocol=ICMP, source=End("10.0.0.1", 77), destination=End("192.0.2.10"), state=None)
PING_SNAT = PING.but(status=CONFIRMED | SRC_NAT, reply_destination=End("203.0.113.9", 78))


def canonical(connection, kind=BEGUN):
    return ctmessage.canonical(connection.message(kind))[1]


def translation(address, port):
    lowest = 1 if "." in address else 4
    number = struct.pack(">H", port)
    return (
        attribute(lowest, packed(address))
        + attribute(lowest + 1, packed(address))
        + nest(3, attribute(1, number), attribute(2, number))
    )


def test_a_connection_without_nat_is_inserted_as_it_is():
    for connection in (PLAIN, PING, PLAIN.but(zone=5)):
        assert ctinsertion.insertion(canonical(connection)) == canonical(connection)


@pytest.mark.parametrize(
    ("connection", "kind", "to"),
    [
        (SNAT, ctmessage.NAT_SRC, ("203.0.113.9", 1025)),
        (DNAT, ctmessage.NAT_DST, ("10.9.9.9", 8080)),
        (SNAT_6, ctmessage.NAT_SRC, ("2001:db8::9", 1025)),
        (PING_SNAT, ctmessage.NAT_SRC, ("203.0.113.9", 78)),
    ],
    ids=["source", "destination", "IPv6", "ICMP"],
)
def test_nat_is_spelled_out_and_the_reply_is_as_if_there_was_none(connection, kind, to):
    """The kernel makes the translated reply of the two; given that one at once, it translates nothing."""
    found = ctmessage.parts(ctinsertion.insertion(canonical(connection)))
    assert netlink.value(found[kind], len(found[kind]) - 4) == translation(*to)
    assert found[ctmessage.TUPLE_REPLY] == connection.but(reply_source=None, reply_destination=None).tuple(2)
    assert len({ctmessage.NAT_SRC, ctmessage.NAT_DST} & set(found)) == 1


def test_both_ends_may_be_translated():
    both = DNAT.but(status=CONFIRMED | SRC_NAT | DST_NAT, reply_destination=End("203.0.113.9", 1025))
    found = ctmessage.parts(ctinsertion.insertion(canonical(both)))
    assert {ctmessage.NAT_SRC, ctmessage.NAT_DST} <= set(found)


@pytest.mark.parametrize(
    "connection", [PLAIN, PLAIN.but(zone=2), SNAT_6, PING, PLAIN.but(protocol=UDP, state=None)]
)
def test_a_replica_gives_no_connection_less_than_it_holds_it(connection):
    """UDP's 30 seconds would be over while the owner's packets keep the connection alive."""
    for told_s, given_s in ((30, 600), (600, 600), (432_000, 432_000)):
        message = canonical(connection.but(timeout_s=told_s))
        made = ctinsertion.with_timeout_of_at_least(message, 600)
        assert ctmessage.timeout_s(made) == given_s
        assert {**ctmessage.parts(made), 7: b""} == {**ctmessage.parts(message), 7: b""}
        assert made[4:16] == message[4:16]


def test_what_stands_in_the_way_is_deleted_first():
    refused = ctinsertion.insertion(canonical(SNAT))
    deletion, again = ctinsertion.second_try(refused, errno.EOPNOTSUPP)
    assert deletion == ctmessage.deletion_of(refused)
    assert ctmessage.parts(again) == ctmessage.parts(refused)


def test_an_update_of_what_is_gone_is_an_insertion():
    """The kernel may drop entries under pressure. An update says enough to make one anew, NAT included."""
    _, again = ctinsertion.second_try(canonical(SNAT, UPDATED), errno.ENOENT)
    assert ctmessage.parts(again) == ctmessage.parts(ctinsertion.insertion(canonical(SNAT)))
    assert struct.unpack_from("=H", again, 6) == (netlink.REQUEST | netlink.CREATE,)


def test_a_helper_that_is_not_there_is_given_up_at_last():
    tries = []
    message = canonical(PLAIN.but(helper="ftp"))
    while again := ctinsertion.second_try(message, errno.EOPNOTSUPP):
        message = again[-1]
        tries.append(set(ctmessage.parts(message)))
    assert [ctmessage.HELP in parts for parts in tries] == [True, False]


@pytest.mark.parametrize("error", [errno.ENOMEM, errno.EPERM, errno.ENOBUFS, errno.ENOSPC])
def test_what_will_not_pass_later_is_not_tried_again(error):
    assert ctinsertion.second_try(canonical(PLAIN), error) is None


def test_a_touch_is_not_tried_again():
    """It says too little to make a connection of it."""
    assert ctinsertion.second_try(ctmessage.touch(canonical(PLAIN), 120), errno.ENOENT) is None


@given(
    st.integers(0, 400), st.integers(1, 255), st.sampled_from([SNAT, SNAT_6, PING_SNAT, PLAIN.but(zone=1)])
)
def test_a_damaged_message_is_inserted_or_refused(at, flip, connection):
    message = bytearray(canonical(connection))
    message[16 + at % (len(message) - 16)] ^= flip
    for make in (ctinsertion.insertion, lambda one: ctinsertion.with_timeout_of_at_least(one, 600)):
        try:
            made = make(bytes(message))
        except PeerError:
            continue
        assert struct.unpack_from("=I", made) == (len(made),)
    ctinsertion.second_try(bytes(message), errno.EBUSY)


@given(st.binary(max_size=100), st.sampled_from([errno.EBUSY, errno.ENOENT]))
def test_an_answer_of_any_bytes_is_survived(body, error):
    ctinsertion.second_try(struct.pack("=IHHII", 16 + len(body), 0x100, 0x401, 0, 0) + body, error)
