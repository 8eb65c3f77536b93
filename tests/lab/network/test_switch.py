"""Through which ports a switch sends a frame: every row of its table."""

from __future__ import annotations

import pytest

from gimli.lab.network.simulator.engine import Engine
from gimli.lab.network.simulator.frames import (
    ACK,
    BROADCAST,
    CARP_GROUP_MAC,
    Arp,
    Frame,
    Segment,
    pair_of_flows,
)
from gimli.lab.network.simulator.switch import AGING_S, Switch

A, B, C, D = "a", "b", "c", "d"
MACS = {name: 0x020000000000 + number for number, name in enumerate((A, B, C, D), 1)}
GROUP_MAC = 0x01005E000264
IP_GROUP = 0x01005E010203
IN_GROUP_MAC = Segment(pair_of_flows("198.51.100.9", 1, "192.0.2.100", 80, 1), ACK, 1, 1, 0, 0)
"""A packet to one address, in a frame to a group: the balancers' way."""
TO_GROUP = Arp("", 0, "", is_request=False)
"""Anything that is not that."""


class Port:
    """The end of a cable."""

    def __init__(self):
        self.frames = []

    def send(self, frame, after_s=0.0):
        """A frame leaves the switch here."""
        self.frames.append(frame)


class Bench:
    """A switch with four ports."""

    def __init__(self, **options):
        self.engine = Engine()
        self.switch = Switch(self.engine, **options)
        self.ports = {name: Port() for name in (A, B, C, D)}
        for name, port in self.ports.items():
            self.switch.plug(name, port)

    def reached(self, source, dst, packet=IN_GROUP_MAC):
        """Where a frame comes out."""
        for port in self.ports.values():
            port.frames.clear()
        self.switch.receive(source, Frame(dst, MACS[source], packet))
        return "".join(name for name, port in self.ports.items() if port.frames)


def test_what_is_not_learnt_is_flooded_and_what_is_goes_to_its_port():
    bench = Bench()
    assert bench.reached(A, MACS[B]) == "bcd"
    assert bench.reached(B, MACS[A]) == "a"
    assert bench.reached(A, MACS[B]) == "b"


def test_nothing_goes_back_where_it_came_from():
    bench = Bench()
    bench.reached(A, BROADCAST)
    assert bench.reached(A, MACS[A]) == ""


def test_a_mac_that_moves_is_learnt_anew():
    """A new MASTER's announcement does that: the group's MAC is at another port now."""
    bench = Bench()
    bench.reached(A, BROADCAST)
    bench.switch.receive(B, Frame(BROADCAST, MACS[A], TO_GROUP))
    assert bench.reached(C, MACS[A]) == "b"


def test_a_mac_is_forgotten_when_it_is_silent():
    bench = Bench()
    bench.reached(A, BROADCAST)
    bench.engine.run(AGING_S + 1)
    assert bench.reached(B, MACS[A]) == "a", "not before"
    bench.engine.run(2 * AGING_S + 1)
    assert bench.reached(B, MACS[A]) == "acd"


def test_a_dead_link_is_forgotten_at_once():
    bench = Bench()
    bench.reached(A, BROADCAST)
    bench.switch.unlearn(A)
    assert bench.reached(B, MACS[A]) == "acd"


@pytest.mark.parametrize("options", [{}, {"snooping": True}], ids=["no snooping", "snooping, no querier"])
def test_a_group_mac_is_flooded_unless_somebody_asks_who_wants_it(options):
    bench = Bench(**options)
    assert bench.reached(A, GROUP_MAC) == "bcd"
    assert bench.reached(A, IP_GROUP, TO_GROUP) == "bcd"
    assert bench.switch.flooded == 2


def test_with_snooping_and_a_querier_a_group_reaches_its_members_only():
    bench = Bench(snooping=True, querier=True)
    bench.switch.members[IP_GROUP] = {C}
    assert bench.reached(A, IP_GROUP, TO_GROUP) == "c"


def test_one_address_in_a_group_mac_reaches_nobody_then_but_routers():
    """There is no membership for it: the balancers' ports must be made router ports."""
    bench = Bench(snooping=True, querier=True)
    bench.switch.members[GROUP_MAC] = {C}
    assert bench.reached(A, GROUP_MAC) == ""
    bench.switch.routers = {B, D}
    assert bench.reached(A, GROUP_MAC) == "bd"
    assert bench.reached(B, GROUP_MAC) == "d"


def test_carps_group_is_flooded_whatever_is_snooped():
    bench = Bench(snooping=True, querier=True)
    assert bench.reached(A, CARP_GROUP_MAC, TO_GROUP) == "bcd"


def test_a_static_entry_says_where_a_group_mac_goes_with_snooping_or_without():
    for options in ({}, {"snooping": True, "querier": True}):
        bench = Bench(**options)
        bench.switch.static[GROUP_MAC] = frozenset({B, C})
        assert bench.reached(A, GROUP_MAC) == "bc"
        assert bench.reached(B, GROUP_MAC) == "c"


def test_a_blocked_port_is_sent_no_group_carps_included():
    """Which is why it is no cure: the BACKUP hears no MASTER any more."""
    bench = Bench()
    bench.switch.block(B)
    assert bench.reached(A, GROUP_MAC) == "cd"
    assert bench.reached(A, CARP_GROUP_MAC, TO_GROUP) == "cd"
    assert bench.reached(A, BROADCAST, TO_GROUP) == "bcd"
