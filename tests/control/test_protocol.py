"""The control protocol: any bytes are a message or a PeerError."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.control import protocol
from gimli.errors import GimliError, PeerError, UnknownService

# Strings as JSON allows them: also halves of surrogate pairs.
texts = st.text(st.characters(codec=None), max_size=10)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_peer_error(line):
    try:
        request = protocol.parse_request(line)
    except PeerError:
        return
    assert request["call"] in protocol.CALLS


@given(
    st.fixed_dictionaries(
        {}, optional={"schema": st.just(1) | plain, "call": st.sampled_from(["ps"]) | plain}
    )
)
def test_any_object_is_a_request_or_a_peer_error(message):
    """A call that is a list, a schema that is a table: one client must not end the monitor."""
    try:
        request = protocol.parse_request(json.dumps(message).encode())
    except PeerError:
        return
    assert request["call"] in protocol.CALLS


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "Expecting value"),
        (b"\xff\xfe\xfd", "decode"),
        (b"[" * 60_000, "recursion"),
        (b"[]", "it is a list"),
        (b"{}", "this monitor speaks 1"),
        (b'{"schema": 2, "call": "ps"}', "this monitor speaks 1"),
        (b'{"schema": 1}', "known: events"),
        (b'{"schema": 1, "call": []}', "known: events"),
        (b'{"schema": 1, "call": {}}', "known: events"),
        (b'{"schema": 1, "call": "explode"}', "known: events"),
        (b" " * 65_537, "at most 65536"),
    ],
)
def test_what_is_no_request_says_why(line, why):
    with pytest.raises(PeerError) as caught:
        protocol.parse_request(line)
    assert why in caught.value.why


@given(plain, st.sampled_from(["service", "lines"]))
def test_any_argument_is_what_it_should_be_or_a_peer_error(argument, name):
    request = {"schema": 1, "call": "logs", name: argument}
    for read, kind in ((protocol.text_argument, str), (lambda *a: protocol.number_argument(*a, 20), int)):
        try:
            found = read(request, name)
        except PeerError:
            continue
        assert type(found) is kind
        assert found == argument


def test_a_number_has_a_default_and_a_text_has_none():
    assert protocol.number_argument({"call": "logs"}, "lines", 20) == 20
    with pytest.raises(PeerError, match="logs: service is missing"):
        protocol.text_argument({"call": "logs"}, "service")


@given(st.dictionaries(texts, plain, max_size=4))
def test_a_message_is_one_line_that_is_read_back(message):
    line = protocol.pack({**message, "ok": True})
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert protocol.parse_answer(line) == json.loads(json.dumps({**message, "ok": True}))


@given(st.binary(max_size=200) | plain.map(lambda found: json.dumps(found).encode()))
def test_any_bytes_are_an_answer_or_a_gimli_error(line):
    try:
        assert protocol.parse_answer(line)["ok"] is True
    except GimliError:
        return


@given(texts, texts, texts)
def test_an_error_arrives_as_it_was_raised(what, why, fix):
    error = UnknownService(what, why=why, fix=fix)
    with pytest.raises(GimliError) as caught:
        protocol.parse_answer(protocol.pack(protocol.refusal(error)))
    seen = (caught.value.what, caught.value.why, caught.value.fix, caught.value.exit_status)
    assert json.dumps(seen) == json.dumps((what, why, fix, 1))
