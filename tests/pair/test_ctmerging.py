from hypothesis import given, settings
from hypothesis import strategies as st

from gimli.pair import ctmessage
from gimli.pair.ctmerging import Merger
from tests.pair.connections import BEGUN, DUMPED, UPDATED, Connection, End

BASE = Connection()
VARIANTS = st.builds(
    BASE.but,
    timeout_s=st.sampled_from([30, 432_000]),
    state=st.sampled_from([1, 3, None]),
    mark=st.sampled_from([0, 5, 6]),
    labels=st.sampled_from([b"", b"\1" * 16, b"\2" * 16]),
    zone=st.sampled_from([0, 3]),
    source=st.sampled_from([End("10.0.0.1", 5), End("2001:db8::1", 5)]),
    destination=st.just(End("192.0.2.1", 80)),
    reply_destination=st.sampled_from([None, End("10.0.0.9", 6)]),
)


def canonical(connection, kind):
    if ":" in connection.source.address:
        connection = connection.but(destination=End("2001:db8::2", 80), reply_destination=None)
    return ctmessage.canonical(connection.message(kind))[1]


@settings(max_examples=300)
@given(st.lists(st.tuples(VARIANTS, VARIANTS, st.sampled_from([BEGUN, DUMPED])), max_size=6))
def test_a_look_up_merges_as_the_parser_does(pairs):
    """Twice: the second time the tails are known."""
    merger = Merger()
    for _ in range(2):
        for held, update, kind in pairs:
            one, other = canonical(held, kind), canonical(update, UPDATED)
            assert merger.merged(one, other) == ctmessage.merged(one, other)
