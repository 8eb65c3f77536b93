"""What is written as a file is read as the same topology."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.lab.catalogue import names, network, text_of
from gimli.lab.network.scenario_file import parse
from gimli.lab.network.scenario_text import write
from gimli.lab.network.topology import (
    Expect,
    Expectation,
    Fault,
    Kind,
    Link,
    Merge,
    Pf,
    Release,
    Request,
    Tcp,
    Topology,
)
from tests.lab.network.designs import PFSYNC_MULTICAST, dmz, redirected, traffic

FILES = [name for name in names() if name != "two-hups"]
SECONDS = st.floats(0.000_001, 10_000.0)
SPAN = st.one_of(st.just(0.0), SECONDS)
SHARE = st.floats(0.0, 1.0)
BYTES = st.integers(1, 2_000_000_000)
LINKS = st.builds(Link, st.floats(0.001, 100_000.0), SPAN, SPAN, SHARE, SHARE, SHARE, SPAN, BYTES)


def again(topology: Topology) -> Topology:
    return parse(write(topology), "found.toml", topology.name)


@pytest.mark.parametrize("name", FILES)
def test_every_shipped_scenario_is_read_as_the_same_again(name):
    assert again(network(name)) == network(name)


def ranges(items):
    return st.tuples(items, items).map(lambda pair: (min(pair), max(pair)))


@given(
    links=st.lists(LINKS, min_size=5, max_size=5),
    mix=st.lists(st.tuples(st.floats(0.001, 1e6), ranges(BYTES), ranges(BYTES), ranges(SPAN)), min_size=1),
    times=st.tuples(SECONDS, SECONDS, SPAN, SECONDS, SECONDS, ranges(SPAN)),
    stack=st.builds(Tcp, BYTES, st.integers(0, 14), st.booleans(), SECONDS),
    limit_s=SPAN,
    about=st.text(),
)
def test_every_figure_is_read_as_it_was_to_the_last_bit(links, mix, times, stack, limit_s, about):
    """A scenario that a search has found is played again from its file: nothing may be rounded."""
    lasts_s, over_s, begins_s, gives_up_s, patience_s, thinks_s = times
    hosts = tuple(
        replace(host, interface=replace(host.interface, link=links.pop()))
        if host not in PFSYNC_MULTICAST.firewalls
        else host
        for host in PFSYNC_MULTICAST.hosts
    )
    topology = replace(
        traffic(
            over_s=over_s,
            begins_s=begins_s,
            gives_up_s=gives_up_s,
            patience_s=patience_s,
            thinks_s=thinks_s,
            mix=tuple(Request(f"kind{number}", *figures) for number, figures in enumerate(mix)),
        ),
        hosts=hosts,
        lasts_s=lasts_s,
        about=about,
        server_tcp=stack,
        expects=(Expectation(Expect.FREEZE, limit_s), Expectation(Expect.BAD_STATE)),
    )
    assert again(topology) == topology


@given(SPAN, SECONDS)
def test_a_fault_ends_when_it_ended(at_s, lasts_s):
    fault = Fault(at_s, Kind.CUT, "fw1.sync", at_s + lasts_s)
    topology = replace(PFSYNC_MULTICAST, lasts_s=20_000.0, faults=(fault,))
    (read,) = again(topology).faults
    assert read.until_s == fault.until_s


PFS = st.builds(
    Pf,
    st.sampled_from(Release),
    st.none() | st.sampled_from(Merge),
    st.none() | st.booleans(),
    cpu_s=SPAN,
    tick_s=SECONDS,
)


@given(st.tuples(PFS, PFS), st.tuples(st.booleans(), st.booleans()))
def test_firewalls_may_be_alike_in_part(filters, guards):
    """What they have in common is said once, and nothing is said of the other one by that."""
    changed = {
        host.name: replace(host, pf=pf, guard=guard)
        for host, pf, guard in zip(PFSYNC_MULTICAST.firewalls, filters, guards, strict=True)
    }
    hosts = tuple(changed.get(host.name, host) for host in PFSYNC_MULTICAST.hosts)
    topology = replace(PFSYNC_MULTICAST, hosts=hosts)
    assert again(topology) == topology


def test_what_firewalls_have_alike_is_said_once():
    text = write(PFSYNC_MULTICAST)
    assert "[firewall.pf]" not in text
    text = write(replace(PFSYNC_MULTICAST, hosts=redirected(release=Release.V4_4).hosts))
    assert text.count('release = "4.4"') == 1
    assert text.count("redirect = ") == 1


def test_entries_of_a_switch_are_read_again():
    topology = dmz(
        snooping=True,
        querier=True,
        router_ports=("lb1",),
        static=(("01:00:5e:00:02:64", ("lb1", "lb2")), ("01:00:5e:00:02:65", ())),
        blocked=("fw2",),
    )
    assert again(topology) == topology


def test_what_is_so_by_itself_is_not_said():
    """A file that a search writes is to be read by a person."""
    longest = max(len(text_of(name)) for name in FILES)
    for name in FILES:
        text = write(network(name))
        assert len(text) < longest * 1.1
        assert "loss" not in text
        assert "patience" not in text


def test_a_comment_stands_before_it():
    text = write(PFSYNC_MULTICAST, "Found by a search.\n\nTwo lines.")
    assert text.startswith("# Found by a search.\n#\n# Two lines.\n\nabout = ")
    assert parse(text, "", PFSYNC_MULTICAST.name) == PFSYNC_MULTICAST
