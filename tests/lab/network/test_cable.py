"""What a cable does to frames."""

from __future__ import annotations

import random

import pytest

from gimli.lab.network.simulator.cable import Lane
from gimli.lab.network.simulator.engine import Engine
from gimli.lab.network.simulator.frames import ACK, BROADCAST, Frame, Segment, pair_of_flows
from gimli.lab.network.topology import Link

FLOW = pair_of_flows("a", 1, "b", 2, 1)
MAC, OTHER, GROUP = 2, 4, 0x01005E000264


class Bench:
    """One lane, and what came out of it."""

    def __init__(self, link):
        self.engine = Engine()
        self.arrived = []
        self.lane = Lane(self.engine, link, random.Random(1), self._arrive)

    def _arrive(self, frame):
        self.arrived.append((self.engine.now_s, frame.packet.seq))

    def send(self, count, *, dst=MAC, length=1422):
        """Put frames on the lane, and wait until all have arrived; what has, ever since."""
        for number in range(count):
            self.lane.send(Frame(dst, OTHER, Segment(FLOW, ACK, number, 0, length, 0)))
        self.engine.run(self.engine.now_s + 60.0)
        return self.arrived


def test_frames_leave_one_after_another_at_the_rate_and_take_the_latency():
    """1,422 bytes of data are 1,500 on the cable."""
    arrived = Bench(Link(rate_mbit=12.0, latency_s=0.5)).send(3)
    assert [when_s for when_s, _ in arrived] == pytest.approx([0.501, 0.502, 0.503])


def test_what_does_not_fit_into_the_queue_is_dropped():
    bench = Bench(Link(rate_mbit=12.0, queue_bytes=3_000))
    assert [number for _, number in bench.send(10)] == [0, 1, 2]
    assert (bench.lane.sent, bench.lane.lost) == (10, 7)


def test_jitter_keeps_the_order_and_reordering_does_not():
    arrived = [number for _, number in Bench(Link(jitter_s=0.01)).send(100)]
    assert arrived == sorted(arrived)
    arrived = [number for _, number in Bench(Link(reorder=0.2)).send(100)]
    assert arrived != sorted(arrived)
    assert sorted(arrived) == list(range(100))


@pytest.mark.parametrize(
    ("link", "least", "most"), [(Link(loss=0.3), 550, 850), (Link(duplicate=0.3), 1150, 1450)]
)
def test_losses_and_doubles_come_as_often_as_was_said(link, least, most):
    link = Link(loss=link.loss, duplicate=link.duplicate, queue_bytes=10_000_000)
    assert least < len(Bench(link).send(1000)) < most


def test_nothing_passes_while_any_cut_lasts():
    bench = Bench(Link())
    bench.lane.cut("one")
    bench.lane.cut("two")
    assert not bench.send(1)
    bench.lane.mend("one")
    assert not bench.send(1)
    bench.lane.mend("two")
    assert len(bench.send(1)) == 1


def test_a_nic_takes_its_own_macs_and_groups_where_it_is_promiscuous():
    bench = Bench(Link())
    bench.lane.accepts = {MAC, BROADCAST}
    for dst, taken in ((MAC, 1), (OTHER, 0), (BROADCAST, 1), (GROUP, 0)):
        before = len(bench.arrived)
        assert len(bench.send(1, dst=dst)) - before == taken
    bench.lane.accepts_groups = True
    before = len(bench.arrived)
    assert len(bench.send(1, dst=GROUP)) - before == 1
    assert len(bench.send(1, dst=OTHER)) - before == 1, "another one's frame is not for it"
