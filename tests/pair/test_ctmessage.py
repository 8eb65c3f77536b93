"""What is passed on of the kernel's messages, and what is let into another kernel."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.errors import PeerError
from gimli.pair import ctmessage
from gimli.pair.ctmessage import Change
from tests.pair.connections import (
    ASSURED,
    BEGUN,
    CONFIRMED,
    DUMPED,
    DYING,
    ENDED,
    ESTABLISHED,
    EXPECTED,
    SCTP,
    SEEN_REPLY,
    SRC_NAT,
    UPDATED,
    Connection,
    End,
    attribute,
    nest,
    number,
)

TCP4 = Connection()


def canonical_parts(connection, kind=BEGUN):
    return ctmessage.parts(ctmessage.canonical(connection.message(kind))[1])


@pytest.mark.parametrize(
    ("kind", "change"),
    [(BEGUN, Change.BEGUN), (UPDATED, Change.UPDATED), (ENDED, Change.ENDED), (DUMPED, Change.WHOLE)],
)
def test_each_message_of_the_kernel_becomes_its_change(kind, change):
    _, message = ctmessage.canonical(TCP4.message(kind))
    assert ctmessage.change_in(message) == change


def test_what_belongs_to_one_kernel_stays_behind():
    """Ids, use counts, counters and time stamps say nothing to another kernel."""
    stamp = nest(20, attribute(1, bytes(8)))
    connection = TCP4.but(counters=True, extra=stamp, mark=5, labels=b"\1" * 16, helper="ftp")
    for kind in (BEGUN, UPDATED, DUMPED):
        assert set(canonical_parts(connection, kind)) == {1, 2, 3, 7, 4, 8, 22, 5}


def test_tcp_is_told_not_to_check_windows():
    """Its windows do not come with it: a strict kernel would drop what it sees first."""
    protoinfo = canonical_parts(TCP4.but(state=ESTABLISHED, flags=(0x23, 0x35)))[ctmessage.PROTOINFO]
    wanted = nest(
        4,
        nest(
            1,
            attribute(1, bytes((ESTABLISHED,))),
            attribute(2, b"\7"),
            attribute(3, b"\7"),
            attribute(4, bytes((0x0B, 0x0F))),
            attribute(5, bytes((0x0D, 0x0F))),
        ),
    )
    assert protoinfo == wanted


def test_sctp_passes_as_it_is():
    connection = TCP4.but(protocol=SCTP, state=4)
    assert canonical_parts(connection)[ctmessage.PROTOINFO] == connection.protoinfo()


def test_status_has_no_bit_that_a_kernel_refuses():
    status = canonical_parts(TCP4.but(status=EXPECTED | DYING | SRC_NAT | SEEN_REPLY | ASSURED | 0xD800))
    assert status[ctmessage.STATUS] == number(3, CONFIRMED | SRC_NAT | SEEN_REPLY | ASSURED)


def test_a_synproxy_extension_that_says_nothing_is_left_out():
    def synproxy(isn):
        return nest(24, number(1, isn), number(2, 0), number(3, 0))

    assert ctmessage.SYNPROXY not in canonical_parts(TCP4.but(extra=synproxy(0)))
    assert ctmessage.SYNPROXY in canonical_parts(TCP4.but(extra=synproxy(9)))


def test_a_dump_and_an_event_tell_the_same():
    """A dump names a mark of 0, an event does not. A resynchronisation must not rewrite every connection."""
    for connection in (TCP4, TCP4.but(source=End("2001:db8::1", 5), destination=End("2001:db8::2", 7))):
        begun, dumped = (ctmessage.canonical(connection.message(kind))[1] for kind in (BEGUN, DUMPED))
        assert ctmessage.parts(begun) == ctmessage.parts(dumped)
        later = ctmessage.canonical(connection.but(timeout_s=77).message(DUMPED))[1]
        assert ctmessage.is_same(begun, later)
        for other in (
            connection.but(mark=5),
            connection.but(state=3),
            connection.but(status=CONFIRMED | ASSURED),
        ):
            assert not ctmessage.is_same(begun, ctmessage.canonical(other.message(DUMPED))[1])


def test_an_update_may_take_a_mark_away():
    update = ctmessage.canonical(TCP4.but(extra=number(8, 0)).message(UPDATED))[1]
    assert ctmessage.MARK in ctmessage.parts(update)


def test_the_same_tuples_in_two_zones_are_two_connections():
    keys = {ctmessage.canonical(TCP4.but(zone=zone).message(BEGUN))[0] for zone in (0, 1, 2)}
    assert len(keys) == 3


def test_the_key_of_an_end_is_the_key_of_its_beginning():
    for connection in (
        TCP4,
        TCP4.but(zone=3),
        TCP4.but(source=End("2001:db8::1", 5), destination=End("::2", 7)),
    ):
        begun, ended = (ctmessage.canonical(connection.message(kind)) for kind in (BEGUN, ENDED))
        assert begun[0] == ended[0] == ctmessage.key_of(begun[1]) == ctmessage.key_of(ended[1])
        assert ended[1] == ctmessage.deletion_of(begun[1])


def test_what_was_packed_is_split_again():
    made = [
        ctmessage.canonical(TCP4.but(zone=zone).message(kind))
        for zone in (0, 1)
        for kind in (BEGUN, UPDATED, DUMPED, ENDED)
    ]
    assert ctmessage.split(b"".join(message for _, message in made)) == made


@given(st.binary(max_size=300))
def test_any_bytes_are_canonical_or_refused(payload):
    """What is let through goes to the kernel as it is: nothing but single connections may."""
    check_split(payload)


@given(st.integers(0, 400), st.integers(1, 255), st.sampled_from([BEGUN, UPDATED, ENDED]))
def test_a_damaged_payload_is_canonical_or_refused(at, flip, kind):
    """Starts from what is valid, so that the damage gets past the first check."""
    payload = bytearray(
        b"".join(ctmessage.canonical(TCP4.but(zone=zone).message(kind))[1] for zone in (0, 7))
    )
    payload[at % len(payload)] ^= flip
    check_split(bytes(payload))


def check_split(payload):
    try:
        found = ctmessage.split(payload)
    except PeerError:
        return
    assert b"".join(message for _, message in found) == payload
    for key, message in found:
        length, kind, flags, change, port = struct.unpack_from("=IHHII", message)
        assert (length, port) == (len(message), 0)
        assert (kind, flags) in {(0x100, 0x601), (0x100, 0x1), (0x102, 0x1)}
        assert (kind == 0x102) == (change == Change.ENDED)
        assert key.startswith(message[20:24])
        assert len(key) > 4, "a deletion without a tuple empties the table"


@pytest.mark.parametrize(
    ("subsystem", "kind", "flags"),
    [(10, 2, 1), (1, 1, 0x301), (1, 0, 0x605), (2, 0, 0x601)],
    ids=["nftables", "dump", "with an acknowledgement", "expectations"],
)
def test_other_netlink_messages_are_not_let_into_the_kernel(subsystem, kind, flags):
    _, message = ctmessage.canonical(TCP4.message(BEGUN))
    foreign = message[:4] + struct.pack("=HH", subsystem << 8 | kind, flags) + message[8:]
    with pytest.raises(PeerError):
        ctmessage.split(foreign)


def test_a_deletion_of_everything_is_not_let_into_the_kernel():
    flush = struct.pack("=IHHII4s", 20, 0x102, 1, Change.ENDED, 0, b"\2\0\0\0")
    with pytest.raises(PeerError):
        ctmessage.split(flush)
    empty_tuple = struct.pack("=IHHII4sHH", 24, 0x102, 1, Change.ENDED, 0, b"\2\0\0\0", 4, 0x8001)
    with pytest.raises(PeerError):
        ctmessage.split(empty_tuple)


def test_an_update_leaves_what_it_does_not_name():
    """An event of the kernel names only what has changed."""
    _, held = ctmessage.canonical(TCP4.but(mark=7, labels=b"\1" * 16).message(BEGUN))
    later = TCP4.but(state=ESTABLISHED, status=CONFIRMED | SEEN_REPLY, timeout_s=432_000)
    _, update = ctmessage.canonical(later.message(UPDATED))
    merged = ctmessage.parts(ctmessage.merged(held, update))
    assert merged == ctmessage.parts(held) | ctmessage.parts(update)
    assert {ctmessage.MARK, ctmessage.LABELS} <= set(merged)
    assert ctmessage.change_in(ctmessage.merged(held, update)) == Change.BEGUN


def test_a_touch_names_the_connection_and_the_time():
    _, message = ctmessage.canonical(TCP4.but(zone=4, mark=7).message(BEGUN))
    touch = ctmessage.touch(message, 120)
    assert set(ctmessage.parts(touch)) == {ctmessage.TUPLE_ORIG, ctmessage.ZONE, ctmessage.TIMEOUT}
    assert ctmessage.timeout_s(touch) == 120
    assert ctmessage.key_of(touch) == ctmessage.key_of(message)


@given(st.binary(max_size=200))
def test_any_body_is_canonical_or_refused(body):
    message = struct.pack("=IHHII", 16 + len(body), 0x100, 0x600, 0, 0) + body
    try:
        key, made = ctmessage.canonical(message)
    except PeerError:
        return
    assert ctmessage.split(made) == [(key, made)]


@given(st.integers(0, 400), st.integers(1, 255), st.sampled_from([BEGUN, UPDATED, ENDED, DUMPED]))
def test_a_damaged_message_of_the_kernel_is_canonical_or_refused(at, flip, kind):
    message = bytearray(TCP4.but(mark=3, labels=b"\1" * 16).message(kind))
    message[16 + at % (len(message) - 16)] ^= flip
    try:
        key, made = ctmessage.canonical(bytes(message))
    except PeerError:
        return
    assert ctmessage.split(made) == [(key, made)]


def test_a_connection_that_is_too_long_is_refused():
    with pytest.raises(PeerError, match="expected at most 900"):
        ctmessage.canonical(TCP4.but(labels=bytes(800)).message(BEGUN))
