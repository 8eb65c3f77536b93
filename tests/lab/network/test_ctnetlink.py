"""What a simulated kernel says by ctnetlink is what Linux says, byte by byte; what it is told, it does."""

from __future__ import annotations

import errno

import pytest

from gimli.lab.network.simulator import conntrack, ctnetlink
from gimli.lab.network.simulator.conntrack import Connection
from gimli.lab.network.simulator.conntrack_table import ConntrackTable
from gimli.lab.network.simulator.engine import Engine
from gimli.lab.network.simulator.flows import Flows
from gimli.lab.network.simulator.frames import ACK, SYN, Segment, pair_of_flows
from gimli.lab.network.simulator.recorder import Recorder
from gimli.lab.network.topology import Linux
from gimli.pair import ctinsertion
from gimli.pair.ctfilter import Filter
from gimli.pair.ctintake import Intake
from gimli.pair.ctmessage import Change, as_change, change_in, deletion_of
from tests.pair import connections

OUTSIDE, INSIDE = "203.0.113.1", "10.2.0.11"
CLIENT = ("198.51.100.9", 40122)


def tracked(*, translated=False):
    original = pair_of_flows(*CLIENT, OUTSIDE if translated else INSIDE, 8080, 7)
    reply = pair_of_flows(*CLIENT, INSIDE, 8080, 7).reverse if translated else original.reverse
    made = Connection(original, reply)
    made.state = conntrack.ESTABLISHED
    made.has_reply = made.is_assured = True
    made.expires_s = 300.5
    for half in made.halves:
        half.has_scale, half.scale = True, 7
    return made


def expected(*, translated=False):
    status = connections.CONFIRMED | connections.SEEN_REPLY | connections.ASSURED
    if translated:
        status |= connections.DST_NAT | 0x100
    return connections.Connection(
        connections.End(*CLIENT),
        connections.End(OUTSIDE if translated else INSIDE, 8080),
        reply_source=connections.End(INSIDE, 8080),
        reply_destination=connections.End(*CLIENT),
        status=status,
        timeout_s=300,
        state=connections.ESTABLISHED,
        flags=(0x03, 0x03),
        identity=7,
    )


@pytest.mark.parametrize("translated", [False, True], ids=["plain", "dnat"])
@pytest.mark.parametrize("kind", ["BEGUN", "UPDATED", "ENDED", "DUMPED"])
def test_a_message_is_the_kernels(kind, translated):
    """But for the port of whoever asked, which stands behind the sequence number."""
    made = ctnetlink.pack(tracked(translated=translated), getattr(ctnetlink, kind), 0.5)
    real = expected(translated=translated).message(getattr(connections, kind))
    assert made[:12] + made[16:] == real[:12] + real[16:]


class Pair:
    """Two kernels; what the one tells is written into the other, as a pair does it."""

    def __init__(self, **config):
        self.engine = Engine()
        recorder = Recorder(self.engine)
        flows = Flows()
        self.one, self.other = (
            ConntrackTable(self.engine, name, Linux(**config), flows, lambda _: "ext", recorder)
            for name in ("fw1", "fw2")
        )
        self.told = []
        self.one.tell = self.told.append

    def say(self, table, flow, flags, seq, ack=0):
        return table.passes("ext", Segment(flow, flags, seq, ack, 0, 1000, 3 if flags & SYN else -1))

    def replicate(self):
        told, self.told[:] = list(self.told), []
        changes = Intake(Filter()).take(told)
        assert len(changes) == len(told)
        begun = {key for key, message in changes if change_in(message) == Change.BEGUN}
        made = [ctinsertion.insertion(message) if key in begun else message for key, message in changes]
        return [self.other.asked(message) for message in made]


def test_a_connection_comes_to_the_other_kernel_with_its_translation():
    pair = Pair(redirect=(OUTSIDE, INSIDE))
    out = pair_of_flows(*CLIENT, OUTSIDE, 8080, 7)
    inner = pair.say(pair.one, out, SYN, 100)
    assert (inner.src, inner.dst) == (CLIENT[0], INSIDE)
    assert pair.replicate() == [0]
    assert pair.say(pair.one, inner.reverse, SYN | ACK, 500, 101) is out.reverse
    assert pair.say(pair.one, out, ACK, 101, 501) is inner
    assert pair.replicate() == [0, 0]
    assert pair.say(pair.other, out, ACK, 101, 501) is inner
    assert pair.say(pair.other, inner.reverse, ACK, 501, 101) is out.reverse
    assert len(pair.other) == 1


@pytest.mark.parametrize("liberal", [True, False])
def test_a_replica_is_liberal_where_that_is_heard(liberal):
    pair = Pair(liberal=liberal)
    out = pair_of_flows(*CLIENT, INSIDE, 8080, 7)
    for said in ((out, SYN, 100), (out.reverse, SYN | ACK, 500, 101), (out, ACK, 101, 501)):
        pair.say(pair.one, *said)
    pair.replicate()
    pair.other.look_at("dmz", Segment(out, ACK, 200, 600, 10, 1000))
    assert bool(pair.say(pair.other, out, ACK, 210, 700)) == liberal


def test_the_kernel_refuses_what_linux_refuses():
    pair = Pair()
    out = pair_of_flows(*CLIENT, INSIDE, 8080, 7)
    pair.say(pair.one, out, SYN, 100)
    ((_, begun),) = Intake(Filter()).take(pair.told)
    assert pair.other.asked(as_change(begun, Change.UPDATED)) == errno.ENOENT
    assert pair.other.asked(begun) == 0
    assert pair.other.asked(begun) == errno.EEXIST
    assert pair.other.asked(as_change(begun, Change.UPDATED)) == 0
    assert pair.other.asked(deletion_of(begun)) == 0
    assert pair.other.asked(deletion_of(begun)) == errno.ENOENT
    assert len(pair.other) == 0


def test_connections_end_when_their_time_is_over_and_that_is_told():
    pair = Pair()
    out = pair_of_flows(*CLIENT, INSIDE, 8080, 7)
    pair.say(pair.one, out, SYN, 100)
    pair.replicate()
    assert (len(pair.one), len(pair.one.dump()), len(pair.other)) == (1, 1, 1)
    pair.engine.run(140.0)
    assert pair.replicate() == [errno.ENOENT], "it has gone there as well: nobody gave it time"
    assert (len(pair.one), len(pair.other)) == (0, 0)
