import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.pair import syncwire
from gimli.pair.syncwire import Datagram, Kind, Refused, Reign, Wire

NUMBERS = st.integers(0, 2**64 - 1)
IDS = st.integers(1, 2**64 - 1)


@st.composite
def datagrams(draw):
    sender, owns = draw(IDS), draw(st.booleans())
    return Datagram(
        kind=draw(st.sampled_from(Kind)),
        sender=sender,
        to=draw(NUMBERS),
        reign=Reign(draw(st.integers(0, 2**63 - 1)), sender if owns else draw(NUMBERS)),
        number=draw(NUMBERS),
        payload=draw(
            st.binary(max_size=60) | st.binary(min_size=1, max_size=30).map(lambda part: part * 500)
        ),
        owns=owns,
        beat=draw(NUMBERS),
        echo=draw(NUMBERS),
    )


ONE = Datagram(Kind.STATES, 7, 8, Reign(3, 7), 5, b"state" * 400, owns=True, beat=1, echo=2)


@given(datagrams())
def test_a_datagram_comes_back(datagram):
    wire = Wire(b"secret")
    assert wire.parse(wire.pack(datagram)) == datagram


def test_a_long_payload_is_compressed():
    assert len(Wire(b"secret").pack(ONE)) < 300


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_for_a_reason(data):
    with pytest.raises(Refused) as refused:
        Wire(b"secret").parse(data)
    assert refused.value.reason in {"short", "foreign", "tag"}


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_datagram_with_any_byte_changed_is_refused(at, flip):
    wire = Wire(b"secret")
    data = bytearray(wire.pack(ONE))
    data[at % len(data)] ^= flip
    with pytest.raises(Refused):
        wire.parse(bytes(data))


def test_a_datagram_of_another_password_is_refused():
    with pytest.raises(Refused) as refused:
        Wire(b"other").parse(Wire(b"secret").pack(ONE))
    assert refused.value.reason == "tag"


def sealed(wire, head_at, byte, payload=None):
    """A datagram with a byte of its head changed, and a tag that is right: the peer's own mistake."""
    data = bytearray(wire.pack(ONE))
    data[head_at] ^= byte
    head, body = bytes(data[:64]), bytes(data[64:-16]) if payload is None else payload
    return head + body + wire._tag(head, body)


@pytest.mark.parametrize(
    ("head_at", "byte", "reason"),
    [
        (4, 3, "foreign"),
        (5, 0x40, "malformed"),
        (6, 0x02, "byte-order"),
        (24, 0x80, "malformed"),
        (32, 1, "malformed"),
    ],
    ids=["version", "kind", "byte order", "epoch", "owner that is another"],
)
def test_an_authentic_head_that_makes_no_sense_is_refused(head_at, byte, reason):
    wire = Wire(b"secret")
    with pytest.raises(Refused) as refused:
        wire.parse(sealed(wire, head_at, byte))
    assert refused.value.reason == reason


@pytest.mark.parametrize("payload", [b"", b"\xff" * 50, b"more"], ids=["nothing", "noise", "cut"])
def test_an_authentic_payload_that_does_not_inflate_is_refused(payload):
    wire = Wire(b"secret")
    with pytest.raises(Refused) as refused:
        wire.parse(sealed(wire, 0, 0, payload))
    assert refused.value.reason == "compression"


def test_a_payload_that_inflates_to_too_much_is_refused():
    """Bounded memory: 60 bytes could be a gigabyte."""
    wire = Wire(b"secret")
    bomb = Datagram(Kind.STATES, 7, 8, Reign(3, 7), 5, bytes(10_000_000), owns=True, beat=1, echo=2)
    with pytest.raises(Refused) as refused:
        wire.parse(wire.pack(bomb))
    assert refused.value.reason == "compression"


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=100))
def test_gaps_come_back(gaps):
    assert syncwire.parse_gaps(syncwire.pack_gaps(gaps)) == gaps[:64]


@given(st.binary(max_size=40))
def test_any_gaps_and_beats_are_parsed_or_refused(payload):
    for parse in (syncwire.parse_gaps, syncwire.parse_beat):
        try:
            parse(payload)
        except Refused as refused:
            assert refused.reason == "malformed"  # noqa: PT017 - refusing is one of two right answers
