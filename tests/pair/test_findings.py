"""What is wrong with a link and a host, from facts made by hand: each says what, why, and what to do."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from gimli.pair.authenticator import Authenticator
from gimli.pair.config import Carp, Guard, Mac, Pair, Sync
from gimli.pair.finding import Interface, Severity
from gimli.pair.hostfindings import judge_devices, judge_guard, judge_interface, judge_tracking
from gimli.pair.linkfindings import judge_holders, judge_speakers, judge_switch
from gimli.pair.packet import pack_packet
from gimli.pair.traffic import Traffic

ADDRESSES = (ip_interface("192.0.2.1/24"), ip_interface("2001:db8::1/64"))
CARP = Carp(1, "lan0", ADDRESSES, b"secret")
PAIR = Pair((CARP,), Guard(("lan0",)), Sync("sync0", ip_address("198.51.100.2"), b"secret"))
VIRTUAL, OTHER = "00:00:5e:00:01:01", "02:00:00:00:00:02"
ERROR, WARNING, NOTE = Severity


def traffic(**seen) -> Traffic:
    made = Traffic("lan0")
    for name, value in ({"seconds": 5.0, "frames": 100} | seen).items():
        setattr(made, name, value)
    return made


def summary(findings) -> list[tuple[Severity, str, str]]:
    """Each finding's severity, subject and first words; that it is complete is asserted by the way."""
    found = list(findings)
    for each in found:
        for text in (each.what, each.why, each.fix):
            assert text
            assert not text.endswith((".", " "))
            assert "{" not in text
    return [(each.severity, each.subject, each.what) for each in found]


# ---- the switch


def test_a_quiet_link_is_in_order():
    assert summary(judge_switch(traffic(), PAIR, Interface("lan0"))) == []


@pytest.mark.parametrize(
    ("guard", "severity"),
    [(Guard(("lan0",)), WARNING), (Guard(("dmz0",)), ERROR), (Guard(("lan0",), is_on=False), ERROR)],
)
def test_flooded_groups_are_an_error_where_no_guard_is(guard, severity):
    seen = traffic(
        grouped=Counter({("01:00:5e:01:00:64", "10.1.0.100"): 150, ("03:bf:00:00:00:01", "10.1.0.9"): 2})
    )
    ((found, _, what),) = summary(judge_switch(seen, replace(PAIR, guard=guard), Interface("lan0")))
    assert found is severity
    assert "152 frames in 5 s" in what
    assert "01:00:5e:01:00:64" in what
    assert "10.1.0.100" in what


def test_frames_for_the_master_elsewhere_are_told_apart_from_others():
    seen = traffic(foreign=Counter({VIRTUAL: 3, OTHER: 50, "02:00:00:00:00:03": 5, "02:00:00:00:00:04": 4}))
    first, second = summary(judge_switch(seen, PAIR, Interface("lan0")))
    assert first[0] is second[0] is WARNING
    assert first[2] == f"3 frames for the MASTER of vhid 1, to {VIRTUAL}, came here too"
    assert second[2] == f"55 frames for other hosts (2) came here, most of them for {OTHER}"


@pytest.mark.parametrize(("seconds", "severity"), [(5.0, NOTE), (125.0, NOTE), (130.0, WARNING)])
def test_a_missing_querier_is_certain_only_after_its_interval(seconds, severity):
    member = Interface("lan0", groups=("239.1.2.3",))
    ((found, _, what),) = summary(judge_switch(traffic(seconds=seconds), PAIR, member))
    assert found is severity
    assert "239.1.2.3" in what
    heard = traffic(seconds=seconds, igmp_queriers={"192.0.2.254"})
    assert summary(judge_switch(heard, PAIR, member)) == []


def test_what_was_not_looked_at_is_told():
    assert summary(judge_switch(traffic(unseen=900), PAIR, Interface("lan0"))) == [
        (NOTE, "lan0", "900 of 1000 frames were not looked at")
    ]


# ---- who speaks


def packet(source: str, password: bytes = b"secret", vhid: int = 1) -> bytes:
    signer = Authenticator(password, vhid, (each.ip for each in ADDRESSES))
    return pack_packet(signer.sign(1, 0, 0, 7), ip_address(source))


def speakers(*advertisements: tuple[str, bytes], held=()) -> list[tuple[Severity, str, str]]:
    authenticators = {1: Authenticator(b"secret", 1, (each.ip for each in ADDRESSES))}
    seen = traffic(advertisements=list(advertisements))
    return summary(judge_speakers(seen, PAIR, authenticators, held))


def test_one_master_is_in_order_in_both_families():
    ours = [(VIRTUAL, packet("192.0.2.2")), (VIRTUAL, packet("fe80::2"))]
    assert speakers(*ours, *ours, *ours) == []


def test_another_pairs_vhid_is_its_own_affair():
    assert speakers((OTHER, packet("192.0.2.9", vhid=7))) == []


def test_our_vhid_with_another_password_is_told_once_for_each_host():
    strange = (OTHER, packet("192.0.2.9", b"other"))
    ((severity, _, what),) = speakers(strange, strange, strange)
    assert severity is ERROR
    assert "192.0.2.9 advertises vhid 1 and is not believed: digest of vhid 1 is wrong" in what
    assert len(speakers(strange, (OTHER, packet("192.0.2.8", b"other")))) == 2


def test_two_masters_take_turns_and_a_takeover_does_not():
    first, second = (VIRTUAL, packet("192.0.2.2")), (VIRTUAL, packet("192.0.2.3"))
    assert speakers(first, first, second, second) == []
    ((severity, _, what),) = speakers(first, second, first, second)
    assert severity is ERROR
    assert what == "vhid 1 has more than one MASTER: 192.0.2.2, 192.0.2.3"


def test_this_host_counts_as_a_master():
    """Its own advertisements it does not hear. One of somebody else's may be the last before it took over."""
    other = (VIRTUAL, packet("192.0.2.3"))
    assert speakers(other, held={1}) == []
    ((severity, _, what),) = speakers(other, other, held={1})
    assert severity is ERROR
    assert what == "vhid 1 has more than one MASTER: this host, 192.0.2.3"


def test_vrrp_with_our_virtual_mac_is_told():
    vrrp = (
        bytes.fromhex("45c00028 00000000 ff700000 c0000209 e0000012")
        + bytes.fromhex("2101640100014f0c")
        + bytes(12)
    )
    ((severity, _, what),) = speakers((VIRTUAL, vrrp), (VIRTUAL, vrrp), ("00:00:5e:00:01:09", vrrp))
    assert severity is ERROR
    assert VIRTUAL in what


# ---- who answers


def holders(own=(), pair=PAIR, **macs) -> list[tuple[Severity, str, str]]:
    answered = defaultdict(set, {"192.0.2.1": set(macs["macs"])})
    return summary(judge_holders(traffic(holders=answered), pair, dict(own)))


def test_one_holder_with_the_virtual_mac_is_in_order():
    assert holders(macs=[VIRTUAL]) == []
    assert holders(macs=[]) == []
    assert holders(macs=[], own={"192.0.2.1": VIRTUAL}) == []


def test_two_holders_are_an_error():
    for found in (holders(macs=[VIRTUAL, OTHER]), holders(macs=[OTHER], own={"192.0.2.1": VIRTUAL})):
        ((severity, _, what),) = found
        assert severity is ERROR
        assert what == f"192.0.2.1 is held by more than one: {VIRTUAL}, {OTHER}"


def test_a_holder_with_another_mac_is_a_peer_that_is_set_up_otherwise():
    ((severity, _, what),) = holders(macs=[OTHER])
    assert severity is WARNING
    assert what == f"192.0.2.1 is held by {OTHER}, which is not the virtual MAC of vhid 1"
    real = replace(PAIR, carp=(replace(CARP, mac=Mac.REAL),))
    assert holders(macs=[OTHER], pair=real) == []


# ---- the host


@pytest.mark.parametrize(("runs", "severity"), [(True, ERROR), (False, WARNING)])
def test_a_guard_that_is_not_as_it_should_be(runs, severity):
    assert summary(judge_guard((), PAIR, runs=runs)) == []
    found = summary(judge_guard(("chain in_1 is missing",), PAIR, runs=runs))
    assert found == [(severity, "guard", "chain in_1 is missing")]


def test_a_guard_that_is_switched_off():
    off = replace(PAIR, guard=Guard(("lan0",), is_on=False))
    assert summary(judge_guard((), off, runs=True)) == [(ERROR, "guard", "it is switched off in pair.toml")]


@pytest.mark.parametrize(
    ("interface", "has_virtual_mac", "expected"),
    [
        (Interface("lan0"), True, []),
        (Interface("lan0", trouble="it has no carrier"), True, [(ERROR, "lan0", "it has no carrier")]),
        (
            Interface("lan0", features=frozenset({"l2-fwd-offload", "tx-checksum-ipv4"})),
            True,
            [(ERROR, "lan0", "l2-fwd-offload is on")],
        ),
        (
            Interface("lan0", features=frozenset({"l2-fwd-offload"})),
            False,
            [(WARNING, "lan0", "l2-fwd-offload is on")],
        ),
        (
            Interface("lan0", features=frozenset({"hw-tc-offload"})),
            True,
            [(WARNING, "lan0", "hw-tc-offload is on")],
        ),
        (
            Interface("lan0", has_xdp=True),
            True,
            [(WARNING, "lan0", "an XDP program sees its frames before the guard does")],
        ),
        (Interface("lan0", bridge="br0", is_port=True), True, [(ERROR, "lan0", "it is a port of br0")]),
        (Interface("lan0", bridge="br0", is_port=True), False, []),
        (Interface("br0", bridge="br0", snooping=True, querier=True), True, []),
        (
            Interface("br0", bridge="br0", snooping=True),
            True,
            [(NOTE, "br0", "this bridge snoops on IGMP and asks nobody")],
        ),
    ],
)
def test_an_interface(interface, has_virtual_mac, expected):
    assert summary(judge_interface(interface, has_virtual_mac=has_virtual_mac)) == expected


GOOD = {
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/carp1/rp_filter": "2",
    **{f"ipv4/conf/{name}/arp_ignore": "1" for name in ("lan0", "carp1")},
    **{f"ipv4/conf/{name}/arp_announce": "2" for name in ("lan0", "carp1")},
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"ipv4/conf/carp1/rp_filter": "0"}, []),
        ({"ipv4/conf/carp1/rp_filter": "1"}, ["rp_filter is 1 (strict)"]),
        ({"ipv4/conf/carp1/rp_filter": "0", "ipv4/conf/all/rp_filter": "1"}, ["rp_filter is 1 (strict)"]),
        ({"ipv4/conf/all/rp_filter": "1"}, []),
        ({"ipv4/conf/lan0/arp_ignore": "0"}, ["arp_ignore is 0, expected at least 1"]),
        ({"ipv4/conf/lan0/arp_ignore": "0", "ipv4/conf/all/arp_ignore": "2"}, []),
        ({"ipv4/conf/carp1/arp_announce": "1"}, ["arp_announce is 1, expected at least 2"]),
    ],
)
def test_settings_that_somebody_has_changed(changes, expected):
    """The kernel takes the higher one of an interface's and everybody's."""
    found = summary(judge_devices(GOOD | changes, PAIR, {"lan0", "carp1"}))
    assert [what for _, _, what in found] == expected
    assert all(severity is ERROR for severity, _, _ in found)
    assert summary(judge_devices(GOOD | changes, PAIR, {"lan0"})) == []


TRACKING = {
    "netfilter/nf_conntrack_max": "262144",
    "netfilter/nf_conntrack_count": "1000",
    "netfilter/nf_conntrack_events": "2",
    "netfilter/nf_conntrack_tcp_loose": "0",
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"events": "0"}, [(ERROR, "nf_conntrack_events is 0")]),
        ({"tcp_loose": "1"}, [(WARNING, "nf_conntrack_tcp_loose is 1")]),
        ({"count": "250000"}, [(WARNING, "250000 of at most 262144 connections are tracked")]),
        ({"max": "0"}, []),
    ],
)
def test_connection_tracking(changes, expected):
    settings = TRACKING | {f"netfilter/nf_conntrack_{name}": value for name, value in changes.items()}
    found = [(severity, what) for severity, _, what in summary(judge_tracking(settings))]
    assert found == expected


def test_no_connection_tracking_at_all():
    ((severity, _, what),) = summary(judge_tracking({}))
    assert severity is ERROR
    assert what == "the kernel tracks no connections"
