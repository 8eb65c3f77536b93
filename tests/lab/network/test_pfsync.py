"""When the queue of pfsync is sent, and what it says."""

from __future__ import annotations

import pytest

from gimli.lab.network.simulator.engine import Engine
from gimli.lab.network.simulator.frames import pair_of_flows
from gimli.lab.network.simulator.pf import ESTABLISHED, Peer, PfState
from gimli.lab.network.simulator.pfsync import DELETE, INSERT, MAX_UPDATES, UPDATE, Queue

FLOW = pair_of_flows("198.51.100.9", 40122, "192.0.2.10", 80, 1)


class Link:
    """A queue, and what it has sent."""

    def __init__(self, *, tick_s=0.01, phase_s=0.0):
        self.engine = Engine()
        self.sent = []
        self.queue = Queue(self.engine, "fw1", tick_s, phase_s, self._note)

    def _note(self, sync):
        self.sent.append((round(self.engine.now_s, 6), sync))

    def at(self, when_s, *states):
        """Let packets pass by states."""
        self.engine.run(when_s)
        for state in states:
            self.queue.update(state)
        self.queue.settle()

    @property
    def times(self):
        """When a packet was sent."""
        return [when_s for when_s, _ in self.sent]


def state(number=1):
    peer = Peer(1000, 50_000, 8000, -1, ESTABLISHED)
    return PfState(number, FLOW, FLOW, "ext", "fw1", peer, peer.copy(), is_out=False)


@pytest.mark.parametrize(
    ("began_s", "phase_s", "sent_s"),
    [(5.0, 0.0, 6.0), (5.004, 0.0, 6.0), (5.009, 0.0, 6.0), (5.004, 0.007, 6.003), (5.0, 0.123, 5.997)],
)
def test_a_queue_is_sent_after_a_second_on_the_clocks_tick(began_s, phase_s, sent_s):
    """Two firewalls' ticks fall apart by up to 10 ms: which of them speaks first is chance."""
    link = Link(phase_s=phase_s)
    link.at(began_s, state())
    link.engine.run(10.0)
    assert link.times == [sent_s]


def test_what_is_sent_is_the_state_as_it_is_then():
    link = Link()
    one = state()
    link.at(5.0, one)
    one.src.seqlo = 77_777
    link.engine.run(7.0)
    one.src.seqlo = 88_888
    update = link.sent[0][1].updates[0]
    assert (update.action, update.src.seqlo) == (UPDATE, 77_777)


def test_a_hundred_and_twenty_eight_changes_of_one_state_are_enough():
    """The first one queues it, and is not counted."""
    link = Link()
    one = state()
    for _ in range(MAX_UPDATES):
        link.at(5.0, one)
    assert not link.sent
    link.at(5.0, one)
    assert link.times == [5.0]


def test_a_state_that_the_other_one_has_just_updated_is_sent_at_once():
    """And flushes what else is waiting: flooding puts both firewalls into a packet per packet."""
    link = Link()
    one, other = state(1), state(2)
    link.at(5.0, other)
    one.peer_s = link.queue.second
    link.at(6.0 - 0.0001, one)
    assert [update.state.number for update in link.sent[0][1].updates] == [2, 1]


@pytest.mark.parametrize(
    ("phase_s", "later_s", "is_sent"), [(0.0, 1.9, True), (0.0, 2.0, False), (0.5, 1.6, False)]
)
def test_less_than_two_seconds_are_counted_in_whole_ones(phase_s, later_s, is_sent):
    """Between one and two of them, by where the second falls."""
    link = Link(phase_s=phase_s)
    one = state()
    link.engine.run(10.0)
    one.peer_s = link.queue.second
    link.at(10.0 + later_s, one)
    assert bool(link.sent) == is_sent


def test_a_full_packet_goes_and_the_next_one_has_its_own_second():
    link = Link()
    states = [state(number) for number in range(30)]
    link.at(5.0, *states[:17])
    assert not link.sent
    link.at(5.5, states[17])
    assert link.times == [5.5]
    assert len(link.sent[0][1].updates) == 17
    link.engine.run(8.0)
    assert link.times == [5.5, 6.5]


def test_an_insertion_stays_one_until_it_is_sent():
    link = Link()
    one = state()
    link.queue.insert(one)
    link.at(0.1, one, one)
    link.engine.run(2.0)
    ((_, sync),) = link.sent
    assert [update.action for update in sync.updates] == [INSERT]


def test_a_state_that_nobody_was_told_of_is_not_deleted_either():
    link = Link()
    one = state()
    link.queue.insert(one)
    link.queue.delete(one)
    link.engine.run(3.0)
    assert not link.sent


def test_a_deletion_takes_the_place_of_an_update():
    link = Link()
    one = state()
    link.at(5.0, one)
    link.queue.delete(one)
    link.engine.run(7.0)
    assert [update.action for update in link.sent[0][1].updates] == [DELETE]


def test_a_state_that_is_not_known_is_asked_for_and_answered_whole():
    link = Link()
    link.queue.request(99)
    link.queue.settle()
    assert link.sent[0][1].requests == [99]
    one = state(99)
    link.at(1.0, one)
    link.queue.answer(one)
    link.queue.settle()
    assert link.sent[1][1].updates[0].action == INSERT


def test_an_empty_queue_is_silent():
    link = Link()
    link.queue.hurry()
    link.queue.settle()
    link.engine.run(10.0)
    assert not link.sent
