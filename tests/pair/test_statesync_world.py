"""State sync under trouble: after it the replica has what the owner has, and in it no rule is broken."""

import os

import pytest

from gimli.pair import syncwire
from gimli.pair.statesync import StateSync
from gimli.pair.syncactions import Apply, Mode, Send
from gimli.pair.syncwire import Kind
from tests.pair.syncworld import Breach, World

SEEDS = int(os.environ.get("GIMLI_SYNC_SEEDS", "25"))
STEPS = 1500


def story(seed, mode, kind=StateSync):
    world = World(seed, mode, kind)
    try:
        world.run(STEPS)
        world.settle()
        world.check()
    except Breach as breach:
        raise Breach(f"{breach} (seed {seed}, mode {mode.value})") from breach
    return world


def stories(seeds, kind):
    for seed in seeds:
        story(seed, Mode.CACHE, kind)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_after_any_trouble_the_replica_has_what_the_owner_has(seed, mode):
    story(seed, mode)


def test_the_troubles_are_real():
    """A world in which nothing happens would prove nothing."""
    refused, outranked, lost = set(), 0, 0
    for seed in range(10):
        world = story(seed, Mode.CACHE)
        outranked += world.outranked
        for node in world.nodes:
            refused |= set(node.sync.refused)
            lost += node.sync.lost
    assert {"tag", "stale", "duplicate", "not-for-us", "not-joined"} <= refused
    assert outranked
    assert lost


class ReplicaSends(StateSync):
    """Incident 2: the backup sees copies of packets, and sends what it makes of them."""

    def put(self, changes, now_s):
        """Of a replica, too."""
        if not self.is_owner:
            self._strays = [message for _, message in changes]
        super().put(changes, now_s)

    def due(self, now_s):
        """Sends them."""
        strays, self._strays = getattr(self, "_strays", []), []
        return super().due(now_s) + [Send(self._seal(Kind.STATES, 1, message)) for message in strays]

    def follow(self, now_s):
        """Goes on listening to its kernel."""
        return [action for action in super().follow(now_s) if type(action).__name__ != "Listen"]


class IgnoresEpochs(StateSync):
    """Merges by sequence numbers alone, whoever sends."""

    def _compare_reigns(self, datagram, now_s, out):
        pass

    def _heard_owner(self, datagram, now_s, out):
        if datagram.kind is Kind.HEARTBEAT:
            join, _ = syncwire.parse_beat(datagram.payload)
            if self._receiver.heartbeat(datagram.number, join):
                out += self._beat(now_s)
        elif messages := self._receiver.received(datagram, now_s):
            out.append(Apply(messages))


@pytest.mark.parametrize(
    ("kind", "words"),
    [(ReplicaSends, "is a replica, and sends"), (IgnoresEpochs, "has applied|owners|not the owner's")],
)
def test_a_mutant_is_caught(kind, words):
    """The rules that the tests above hold would be worth nothing if they could not be broken."""
    with pytest.raises(Breach, match=words):
        stories(range(10), kind)
