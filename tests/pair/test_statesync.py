"""What one node answers to one datagram; the long stories are in test_statesync_world.py."""

from collections import defaultdict

import pytest

from gimli.pair import ctmessage
from gimli.pair.statesync import SILENCE_S_MAX, StateSync
from gimli.pair.syncactions import (
    AdvertisementOverSync,
    Apply,
    Dump,
    Mode,
    Outranked,
    RememberEpoch,
    Send,
    Synchronised,
    Tell,
    Unsynchronised,
)
from gimli.pair.syncwire import Kind, Wire
from tests.pair.connections import BEGUN, ENDED, ESTABLISHED, UPDATED, Connection, End

PASSWORD = b"shared"
WIRE = Wire(PASSWORD)


class Pair:
    """Two nodes whose datagrams arrive at once; all other actions are kept."""

    def __init__(self, mode=Mode.CACHE):
        self.one, self.other = StateSync(1, PASSWORD, mode), StateSync(2, PASSWORD, mode)
        self.now_s = 100.0
        self.actions = defaultdict(list)
        self.sent = []

    def carry_out(self, node, actions):
        """Deliver what is sent, and whatever is sent in answer."""
        peer = self.other if node is self.one else self.one
        for action in actions:
            if isinstance(action, Send):
                self.sent.append(WIRE.parse(action.datagram))
                self.carry_out(peer, peer.received(action.datagram, self.now_s))
            else:
                self.actions[node.node_id].append(action)
            if isinstance(action, Dump):
                self.carry_out(node, node.dump_done(self.now_s))

    def join(self):
        """The first becomes owner, and the other has everything."""
        for node in (self.one, self.other):
            self.carry_out(node, node.follow(self.now_s))
        self.carry_out(self.one, self.one.own(self.now_s))
        self.pass_time(1.0)
        assert self.other.is_synchronised
        return self

    def pass_time(self, seconds):
        """Let both do what is due."""
        for _ in range(round(seconds / 0.01)):
            self.now_s += 0.01
            for node in (self.one, self.other):
                if node.next_due_s() <= self.now_s:
                    self.carry_out(node, node.due(self.now_s))

    def put(self, *messages):
        """The owner's kernel tells, and time passes."""
        self.one.put([ctmessage.canonical(message) for message in messages], self.now_s)
        self.pass_time(0.1)

    def told(self, node, kind):
        """Actions of one kind."""
        return [action for action in self.actions[node.node_id] if isinstance(action, kind)]


TCP = Connection()


def test_the_first_owner_is_of_epoch_one_and_says_so_before_anything_else():
    node = StateSync(1, PASSWORD, Mode.CACHE)
    node.follow(0.0)
    actions = node.own(0.0)
    assert RememberEpoch(1) in actions
    (announced,) = [WIRE.parse(action.datagram) for action in actions if isinstance(action, Send)]
    assert (announced.kind, announced.reign.epoch, announced.owns) == (Kind.HEARTBEAT, 1, True)


def test_an_owner_takes_an_epoch_above_all_that_it_has_seen():
    node = StateSync(1, PASSWORD, Mode.CACHE, epoch=41)
    assert RememberEpoch(42) in node.own(0.0)


def test_a_change_reaches_the_replica_and_is_acknowledged():
    pair = Pair().join()
    pair.put(TCP.message(BEGUN), TCP.but(state=ESTABLISHED).message(UPDATED))
    assert pair.other.held == 1
    assert (pair.one.local, pair.one.replicated, pair.one.lost) == (2, 2, 0)
    assert pair.one.has_settled
    pair.put(TCP.message(ENDED))
    assert pair.other.held == 0


def test_changes_of_one_connection_that_wait_become_one():
    pair = Pair().join()
    before = len(pair.sent)
    pair.put(*(TCP.but(state=state).message(UPDATED if state > 1 else BEGUN) for state in (1, 2, 3)))
    (sent,) = [one for one in pair.sent[before:] if one.kind is Kind.STATES]
    ((_, message),) = ctmessage.split(sent.payload)
    assert ctmessage.change_in(message) == ctmessage.Change.BEGUN
    assert (
        ctmessage.parts(message)[4]
        == ctmessage.parts(ctmessage.canonical(TCP.but(state=3).message(BEGUN))[1])[4]
    )
    assert pair.one.replicated == 3


def test_a_replica_never_sends_a_connection():
    """Incident 2. It sees copies of packets, and what it makes of them must not come back to the owner."""
    pair = Pair(Mode.KERNEL).join()
    pair.put(TCP.message(BEGUN))
    before = len(pair.sent)
    pair.other.put([ctmessage.canonical(TCP.but(state=7).message(UPDATED))], pair.now_s)
    pair.pass_time(10.0)
    sent = [one for one in pair.sent[before:] if one.sender == pair.other.node_id]
    assert {one.kind for one in sent} == {Kind.ACK}


def test_an_owner_of_a_higher_reign_is_followed():
    pair = Pair().join()
    pair.carry_out(pair.other, pair.other.own(pair.now_s))
    assert pair.told(pair.one, Outranked) == [Outranked(2)]
    assert not pair.one.is_owner
    pair.pass_time(1.0)
    assert pair.one.is_synchronised


def test_of_two_owners_in_one_epoch_the_higher_id_stays():
    """They did not hear each other when they took it."""
    one, other = (StateSync(number, PASSWORD, Mode.CACHE) for number in (1, 2))
    pair = Pair()
    pair.one, pair.other = one, other
    one.own(pair.now_s)
    other.own(pair.now_s)
    pair.pass_time(3.0)
    assert (one.is_owner, other.is_owner) == (False, True)
    assert pair.told(one, Outranked) == [Outranked(1)]
    assert pair.told(other, Outranked) == []


def test_an_owner_whose_replica_knows_a_higher_reign_takes_the_next_epoch():
    """Nobody else is owner: it would help nobody if it stepped down."""
    pair = Pair().join()
    pair.other = StateSync(3, PASSWORD, Mode.CACHE, epoch=9)
    pair.carry_out(pair.other, pair.other.follow(pair.now_s))
    pair.pass_time(1.0)
    assert pair.one.is_owner
    assert pair.one.reign.epoch == 10
    assert pair.other.is_synchronised


def test_what_was_recorded_and_is_played_back_changes_nothing():
    pair = Pair().join()
    pair.put(TCP.message(BEGUN))
    recorded = list(pair.sent)
    pair.put(TCP.message(ENDED))
    pair.carry_out(pair.one, pair.one.advertise(b"carp" * 9))
    recorded += pair.sent[-1:]
    advertised = len(pair.told(pair.other, AdvertisementOverSync))
    for datagram in recorded:
        for node in (pair.one, pair.other):
            pair.carry_out(node, node.received(WIRE.pack(datagram), pair.now_s))
    pair.pass_time(2.0)
    assert pair.one.is_owner
    assert pair.other.held == 0
    assert pair.other.is_synchronised
    assert len(pair.told(pair.other, AdvertisementOverSync)) == advertised == 1


def test_a_process_that_ended_cannot_come_back_in_the_place_of_its_successor():
    pair = Pair().join()
    recorded = [datagram for datagram in pair.sent if datagram.sender == pair.other.node_id]
    pair.other = StateSync(3, PASSWORD, Mode.CACHE)
    pair.carry_out(pair.other, pair.other.follow(pair.now_s))
    pair.pass_time(12.0)
    assert pair.one.peer == 3
    for datagram in recorded:
        pair.one.received(WIRE.pack(datagram), pair.now_s)
    assert pair.one.peer == 3
    assert pair.one.refused["old"]


def test_a_newcomer_that_was_not_heard_for_long_is_met_at_last():
    """Its first words are stale by then; the answer to them is not."""
    pair = Pair().join()
    pair.other = StateSync(3, PASSWORD, Mode.CACHE)
    (hello,) = (action for action in pair.other.follow(pair.now_s) if isinstance(action, Send))
    (answer,) = pair.one.received(hello.datagram, pair.now_s)
    pair.other.received(answer.datagram, pair.now_s)
    lonely_s = pair.now_s + 30.0
    while pair.now_s < lonely_s:
        pair.now_s += 0.1
        for node in (pair.one, pair.other):
            node.due(pair.now_s)
    pair.pass_time(3.0)
    assert pair.one.peer == 3
    assert pair.other.is_synchronised


def test_an_advertisement_of_a_lower_reign_is_heard():
    """Two MASTERs must hear each other wherever they can."""
    pair = Pair().join()
    pair.other.reign = type(pair.other.reign)(99, 0)
    pair.carry_out(pair.one, pair.one.advertise(b"carp" * 9))
    assert pair.told(pair.other, AdvertisementOverSync) == [AdvertisementOverSync(b"carp" * 9)]


def test_a_node_says_when_it_would_lose_something_and_when_no_longer():
    pair = Pair().join()
    words = [type(action) for action in pair.actions[2] if isinstance(action, Synchronised | Unsynchronised)]
    assert words == [Unsynchronised, Synchronised]
    pair.carry_out(pair.other, pair.other.own(pair.now_s))
    pair.pass_time(1.0)
    words = [type(action) for action in pair.actions[1] if isinstance(action, Synchronised | Unsynchronised)]
    assert words == [Unsynchronised, Synchronised, Unsynchronised, Synchronised]


def test_silence_is_told_once_and_its_end():
    pair = Pair().join()
    silent_s = pair.now_s + 3 * SILENCE_S_MAX
    told = []
    while pair.now_s < silent_s:
        pair.now_s += 0.1
        told += [action.event for action in pair.other.due(pair.now_s) if isinstance(action, Tell)]
    pair.pass_time(2.0)
    told += [action.event for action in pair.told(pair.other, Tell)]
    assert told.count("sync-peer-silent") == 1
    assert told.count("sync-peer-heard") == 1


def test_a_dead_replica_costs_no_memory():
    """Its stream ends, what was on its way counts as lost, and a replica that comes back gets everything."""
    pair = Pair().join()
    pair.put(TCP.message(BEGUN))
    for number in range(3000):
        message = TCP.but(source=End("10.0.0.1", number + 1)).message(BEGUN)
        pair.one.put([ctmessage.canonical(message)], pair.now_s)
        pair.now_s += 0.01
        pair.one.due(pair.now_s)
    assert not pair.one.has_replica
    assert pair.one.lost > 100
    assert not pair.one._sender._window
    assert not pair.one._sender._pending
    pair.pass_time(5.0)
    assert pair.one.has_replica
    assert pair.other.is_synchronised


@pytest.mark.parametrize("mode", Mode)
def test_at_a_takeover_the_kernel_gets_what_it_does_not_have(mode):
    """In memory: everything. In the kernel: only the times, for packets may have changed the rest already."""
    pair = Pair(mode).join()
    short, long = TCP.but(timeout_s=30), TCP.but(source=End("10.0.0.2", 5), timeout_s=432_000)
    pair.put(short.message(BEGUN), long.message(BEGUN))
    pair.actions[2].clear()
    pair.carry_out(pair.other, pair.other.own(pair.now_s))
    pair.carry_out(pair.other, pair.other.due(pair.now_s))
    written = [message for action in pair.told(pair.other, Apply) for message in action.messages]
    times = [(ctmessage.timeout_s(message), len(ctmessage.parts(message))) for message in written]
    assert times == ([(432_000, 5), (30, 5)] if mode is Mode.CACHE else [(30, 2)])


def test_a_replica_lets_nothing_expire():
    """UDP's 30 seconds pass without an event, for its packets go through the owner."""
    pair = Pair(Mode.KERNEL).join()
    pair.put(TCP.but(timeout_s=30).message(BEGUN))
    pair.pass_time(700.0)
    written = [message for action in pair.told(pair.other, Apply) for message in action.messages]
    assert {ctmessage.timeout_s(message) for message in written} == {600}
    assert len(written) == 4  # at once, and every 200 s
