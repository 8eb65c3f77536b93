"""The configuration's way through the memfd."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gimli.monitor import config
from gimli.store.quota import Limits

# Also what is no UTF-8: arguments and paths come from the command line as Python decodes them.
texts = st.text(st.characters(codec=None, exclude_characters="\0"), max_size=20)
seconds = st.floats(0.001, 1e9)
ids = st.integers(-1, 2**63 - 1)
pairs = st.lists(st.tuples(texts, texts), max_size=3).map(tuple)
targets = st.builds(
    config.Target,
    st.sampled_from(["tcp", "http", "command"]),
    texts,
    st.integers(1, 65535),
    texts,
    st.lists(texts, max_size=3).map(tuple),
)
signs = st.builds(
    config.Signs,
    st.sampled_from(config.ReadyBy),
    st.integers(3, 1023),
    seconds,
    st.none() | targets,
    st.none() | targets,
    seconds,
    seconds,
    st.sampled_from(config.Access),
)
sizes = st.integers(0, 2**63)
services = st.builds(
    config.Service,
    name=texts,
    command=st.lists(texts, min_size=1, max_size=4).map(tuple),
    log=st.builds(
        config.Log,
        st.none() | texts,
        st.booleans(),
        sizes,
        sizes,
        st.booleans(),
        sizes,
        st.none() | sizes,
    ),
    policy=st.builds(
        config.Policy,
        st.builds(config.Intervals, seconds, seconds, seconds),
        st.sampled_from(config.Restart),
        st.builds(config.Backoff, seconds, seconds, seconds, st.integers(0, 100)),
        st.integers(1, 64),
    ),
    cwd=st.none() | texts,
    environment=pairs,
    preload=st.booleans(),
    inherit_stdin=st.booleans(),
    autostart=st.booleans(),
    arg0=st.none() | texts,
    has_session=st.booleans(),
    identity=st.none() | st.builds(config.Identity, texts, ids, ids, st.lists(ids).map(tuple), pairs),
    umask=st.none() | st.integers(0, 0o777),
    limits=st.lists(st.builds(config.Limit, texts, ids, ids), max_size=3).map(tuple),
    forward_hup=st.booleans(),
    signs=signs,
)
monitors = st.builds(
    config.Monitor,
    services=st.lists(services, max_size=3).map(tuple),
    state_dir=texts,
    instance_dir=texts,
    instance=texts,
    library=st.none() | texts,
    foreground=st.booleans(),
    capture_command=st.lists(texts, max_size=3).map(tuple),
    analysis_command=st.lists(texts, max_size=3).map(tuple),
    pidfile=st.none() | texts,
    signalled_by=st.none() | ids,
    quota=st.builds(Limits, st.none() | sizes, sizes, seconds),
    journal_bytes=sizes,
)


@given(monitors)
def test_what_is_unpacked_is_what_was_packed(monitor):
    unpacked = config.unpack(config.pack(monitor))
    assert unpacked == monitor
    assert hash(unpacked) == hash(monitor)  # lists would compare unequal, and not hash at all


@given(monitors)
def test_the_document_is_ascii(monitor):
    assert config.pack(monitor).isascii()
