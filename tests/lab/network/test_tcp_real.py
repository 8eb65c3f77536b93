"""The simulation's TCP beside this kernel's: the same programs, the same losses, and what the cable carries.

Whatever the lab's verdicts depend on is compared: when something is sent again and what, who says RST, and
how a connection goes on. Orders and counts are compared, and times only by the factors between them. Where
the two differ, the test says how, and so does docs/lab/simulator.md.
"""

from __future__ import annotations

import itertools
import os

import pytest

from gimli.lab.namespaces import Network
from gimli.lab.network.simulator.engine import Engine
from gimli.lab.network.simulator.frames import ACK, FIN, RST, SYN, pair_of_flows
from gimli.lab.network.simulator.host import Host, Nic
from gimli.lab.network.simulator.recorder import Recorder
from gimli.lab.network.simulator.sender import INITIAL_WINDOW, MSS
from gimli.lab.network.topology import Tcp
from tests.lab.network import wire
from tests.lab.network.kernel_wire import ADDRESSES, ISNS, OTHER, Cable, KernelWire, one_cpu
from tests.lab.network.wire import LEFT, RIGHT

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces take root"),
]

DELAY_S = 0.001
PATIENT_S = 30
"""So long that no test waits for it: where a time-out is not what is looked at, none comes."""
SACK, NEWRENO, SCALED = Tcp(), Tcp(sack=False), Tcp(window=131_072, wscale=2)
STACKS = pytest.mark.parametrize("tcp", [SACK, NEWRENO], ids=["sack", "newreno"])


class Program(wire.Program):
    """Whoever has an end: it closes when the test says so, and does not always read."""

    is_reading = True

    def got(self, end, length):
        super().got(end, length)
        if not self.is_reading:
            end.window -= length

    def peer_closed(self, end):
        self.told.append("peer closed")


class First:
    """No chance: sequence numbers begin where the other wire says that they do."""

    def __init__(self, isn):
        self._isn = isn

    def randrange(self, *_):
        return self._isn


class Line:
    """From one simulated host to the other."""

    def __init__(self, wire, side):
        self.wire, self.side = wire, side

    def send(self, frame, after_s=0.0):
        self.wire.carry(self.side, frame)


class SimulatedWire:
    """As :class:`KernelWire`, between two hosts of the simulation."""

    def __init__(self, *, tcp, drops=None):
        self.drops = drops or (lambda side, number, segment: False)
        self.sent = {LEFT: [], RIGHT: []}
        self.turns = []
        self.programs = {LEFT: Program(), RIGHT: Program()}
        self.ends = {}
        self.engine = Engine()
        self._tcp = tcp
        self._flying = 0
        self._turn = (0.0, "")
        recorder = Recorder(self.engine)
        self.hosts = {side: Host(self.engine, side, tcp, First(isn), recorder) for side, isn in ISNS.items()}
        for number, (side, host) in enumerate(self.hosts.items()):
            nic = Nic("lan0", number, f"{ADDRESSES[side]}/24")
            nic.neighbours[ADDRESSES[OTHER[side]]] = 1 - number
            nic.lane = Line(self, side)
            host.add_nic(nic)

    @property
    def told(self):
        return {
            side: [what for what in program.told if what in {"peer closed", "reset"}]
            for side, program in self.programs.items()
        }

    @property
    def got_bytes(self):
        return {side: program.got_bytes for side, program in self.programs.items()}

    def carry(self, side, frame):
        segment = frame.packet
        now_s = self.engine.now_s
        is_lost = bool(self.drops(side, len(self.sent[side]), segment))
        self.sent[side].append((now_s, segment, is_lost))
        if self._turn != (now_s, side):
            self._turn = (now_s, side)
            self.turns.append((side, []))
        self.turns[-1][1].append(segment)
        if not is_lost:
            self._flying += 1
            self.engine.at(now_s + DELAY_S, self._arrive, (OTHER[side], frame))

    def _arrive(self, arrival):
        side, frame = arrival
        self._flying -= 1
        host = self.hosts[side]
        host.receive(host.nics["lan0"], frame)

    def connect(self, *, is_listening=True):
        flow = pair_of_flows(ADDRESSES[LEFT], 1024, ADDRESSES[RIGHT], 80, 1)
        if is_listening:
            self.hosts[RIGHT].listen(80, self.programs[RIGHT])
        self.ends[LEFT] = self.hosts[LEFT].connect(flow, self.programs[LEFT])
        for side, program in self.programs.items():
            program.ended = lambda end, why, side=side: self._ended(side, end, why)
        self.settle()
        self.ends[RIGHT] = self.hosts[RIGHT]._ends.get(flow)
        return self

    def _ended(self, side, end, why):
        self.programs[side].told.append(why)
        self.hosts[side].forget(end)

    def write(self, side, length):
        self.ends[side].write(length)

    def close(self, side):
        self.ends[side].close()

    def abort(self, side):
        self.ends[side].abort()

    def stop_reading(self, side):
        self.programs[side].is_reading = False

    def read_on(self, side):
        self.programs[side].is_reading = True
        self.ends[side].open_window(self._tcp.window)

    def settle(self):
        self.until(lambda: not self._flying)

    def until(self, condition):
        while not condition():
            assert self.engine.heap, "it does not come"
            self.engine.run(self.engine.heap[0][0])


@pytest.fixture(scope="module")
def cable():
    with one_cpu(), Network() as network:
        cable = Cable(network)
        for host in cable.hosts.values():
            # As in a real run of the lab; and the congestion control that the simulation has.
            host.sysctl(
                ipv4__tcp_timestamps=0, ipv4__tcp_no_metrics_save=1, ipv4__tcp_congestion_control="reno"
            )
        yield cable
        cable.close()


@pytest.fixture
def both(cable):
    """Makes the two: the kernel's, and the simulation's."""
    made = []

    def make(tcp, *, drops=lambda side, number, segment: False, route=("initcwnd", INITIAL_WINDOW), probes=0):
        for side, host in cable.hosts.items():
            at = (f"{ADDRESSES[side].rpartition('.')[0]}.0/24", "dev", "lan0", "src", ADDRESSES[side])
            host.run("ip", "route", "replace", *at, *(str(word) for word in route))
            host.sysctl(ipv4__tcp_early_retrans=probes)
        made.append(KernelWire(cable, tcp=tcp, drops=drops))
        return made[-1], SimulatedWire(tcp=tcp, drops=drops)

    yield make
    for each in made:
        each.leave()


WITHOUT_TIME_OUTS = ("initcwnd", INITIAL_WINDOW, "rto_min", f"{PATIENT_S}s")


def data(each):
    """What the left one has sent: when, which segment of its data, and whether it had sent it before."""
    return [
        (when_s, (segment.seq - ISNS[LEFT] - 1) // MSS, segment.is_again)
        for when_s, segment, _ in each.sent[LEFT]
        if segment.length
    ]


def sent_again(each):
    return [number for _, number, is_again in data(each) if is_again]


def said(each):
    """All that is more than an acknowledgement."""
    return [
        (side, segment.flags, segment.seq, segment.length, segment.ack if segment.flags & ACK else 0)
        for side, turn in each.turns
        for segment in turn
        if segment.length or segment.flags & (SYN | FIN | RST)
    ]


@pytest.mark.parametrize("tcp", [SACK, NEWRENO, SCALED], ids=["sack", "newreno", "scaled"])
def test_a_handshake_has_the_same_segments_and_options(both, tcp):
    """The kernel offers a factor of 0 where the simulation offers none, and a window of whole segments."""
    kernel, simulated = both(tcp)
    told = []
    for each in (kernel, simulated):
        each.connect()
        assert [side for side, _ in each.turns] == [LEFT, RIGHT, LEFT]
        told.append(
            [
                (
                    *(segment.flags, segment.seq, segment.ack, segment.length),
                    *(max(0, segment.wscale), segment.sack),
                )
                for _, turn in each.turns
                for segment in turn
            ]
        )
    assert told[0] == told[1]
    assert kernel.mss == {LEFT: MSS, RIGHT: MSS}
    syns = [each.sent[LEFT][0][1] for each in (kernel, simulated)]
    assert min(tcp.window, 65_535) == syns[1].win
    assert syns[1].win - MSS < syns[0].win <= syns[1].win
    assert syns[0].wscale == tcp.wscale


def growth(each):
    """Of a slow start: how many segments were acknowledged whenever the sender had said all that it may."""
    acked = sent = 0
    for side, turn in each.turns[3:]:
        if side == RIGHT:
            acked = (turn[-1].ack - ISNS[LEFT] - 1) // MSS
        elif turn[-1].length:
            sent = (turn[-1].seq + turn[-1].length - ISNS[LEFT] - 1) // MSS
            yield acked, sent


@STACKS
def test_a_sender_starts_slowly_in_the_same_way(both, tcp):
    """Two new segments for each that is acknowledged, from the initial window on."""
    for each in both(tcp, route=WITHOUT_TIME_OUTS):
        each.connect()
        each.write(LEFT, 40 * MSS)
        each.until(lambda each=each: each.got_bytes[RIGHT] == 40 * MSS)
        pairs = list(growth(each))
        assert pairs[0] == (0, INITIAL_WINDOW)
        assert len(pairs) > 3
        assert all(sent == min(40, INITIAL_WINDOW + 2 * acked) for acked, sent in pairs), pairs


def test_this_kernel_left_alone_begins_with_ten_segments(both):
    """RFC 6928; the simulation has the three of RFC 3390, which `ip route` can give a kernel, too."""
    kernel, _ = both(SACK, route=("rto_min", f"{PATIENT_S}s"))
    kernel.connect()
    kernel.write(LEFT, 40 * MSS)
    kernel.until(lambda: kernel.got_bytes[RIGHT] == 40 * MSS)
    assert next(growth(kernel)) == (0, 10)


@STACKS
@pytest.mark.parametrize("holes", [(0,), (18,), (18, 20, 23)], ids=["the first", "one", "three"])
def test_what_is_lost_in_the_middle_of_a_flight_is_sent_again_and_nothing_else(both, tcp, holes):
    """At once: no time-out comes. With SACK all holes in fewer rounds than one for each.

    The first flight is too short for three duplicates, so new segments must follow it (RFC 3042).
    """

    def drops(side, number, segment):
        return side == LEFT and segment.length and not segment.is_again and segment.seq in lost

    lost = {ISNS[LEFT] + 1 + hole * MSS for hole in holes}
    waits = (PATIENT_S, tcp.rto_min_s)
    for each, wait_s in zip(both(tcp, drops=drops, route=WITHOUT_TIME_OUTS), waits, strict=True):
        each.connect()
        each.write(LEFT, 60 * MSS)
        each.until(lambda each=each: each.got_bytes[RIGHT] == 60 * MSS)
        assert sent_again(each) == list(holes)
        assert each.sent[LEFT][-1][0] < wait_s
        rounds = [turn for side, turn in each.turns if side == LEFT and any(seg.is_again for seg in turn)]
        assert (len(rounds) < len(holes)) == (tcp.sack and len(holes) > 1)


@STACKS
def test_one_that_is_not_heard_waits_twice_as_long_each_time_and_goes_on_when_it_is(both, tcp):
    """With SACK the kernel first sends the last one again: a tail loss probe, which is not simulated."""
    for each, probes in zip(both(tcp, probes=3), (int(tcp.sack), 0), strict=True):
        each.connect()
        each.write(LEFT, 2 * MSS)  # a round that is measured
        each.settle()
        lost = range(4, 4 + 3 + probes + 2)
        each.drops = lambda side, number, segment, lost=lost: side == LEFT and number in lost
        each.write(LEFT, 3 * MSS)
        each.until(lambda each=each: each.got_bytes[RIGHT] == 5 * MSS)
        each.settle()
        assert sent_again(each) == [4] * probes + [2, 2, 2, 3, 4]
        times = [when_s for when_s, _, _ in data(each)[4 + probes :][:4]]
        waits = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert waits[0] > 0.19
        assert waits[1:] == pytest.approx([2 * waits[0], 4 * waits[0]], rel=0.3)
        assert not any(each.told.values())


def test_a_window_that_is_closed_is_probed_less_and_less_often_until_it_opens(both):
    """The kernel probes with an old number and no data, the simulation with the next byte."""
    for each in both(NEWRENO):
        each.connect()
        each.stop_reading(RIGHT)
        each.write(LEFT, 150_000)

        def probes(each=each):
            return [(when_s, segment) for when_s, segment, _ in each.sent[LEFT] if is_probe(each, segment)]

        each.until(lambda: len(probes()) == 3)
        times = [when_s for when_s, _ in probes()]
        assert times[2] - times[1] == pytest.approx(2 * (times[1] - times[0]), rel=0.3)
        each.read_on(RIGHT)
        each.until(lambda each=each: each.got_bytes[RIGHT] == 150_000)
        assert not any(each.told.values())


def is_probe(each, segment):
    if isinstance(each, SimulatedWire):
        return segment.length == 1
    return not segment.length and segment.seq + 1 == max(answer.ack for _, answer, _ in each.sent[RIGHT])


def closes(each):
    each.close(RIGHT)
    each.settle()
    each.close(LEFT)


def says_more_to_one_that_has_closed(each):
    each.close(RIGHT)
    each.settle()
    each.write(LEFT, 100)


def gives_up(each):
    each.write(LEFT, 100)
    each.settle()
    each.abort(LEFT)


def gives_up_what_was_not_heard(each):
    each.drops = lambda side, number, segment: segment.length
    each.write(LEFT, 100)
    each.settle()
    each.abort(LEFT)


def gives_up_when_only_the_last_was_heard(each):
    each.drops = lambda side, number, segment: segment.length and segment.seq == ISNS[LEFT] + 1
    each.write(LEFT, 3 * MSS)
    each.settle()
    each.abort(LEFT)


@STACKS
@pytest.mark.parametrize(
    "end",
    [
        closes,
        says_more_to_one_that_has_closed,
        gives_up,
        gives_up_what_was_not_heard,
        gives_up_when_only_the_last_was_heard,
    ],
    ids=lambda end: end.__name__,
)
def test_it_ends_in_the_same_way(both, tcp, end):
    """Each FIN and each RST with its numbers. A RST beyond what was not heard is asked about first."""
    kernel, simulated = both(tcp, route=WITHOUT_TIME_OUTS)
    for each in (kernel, simulated):
        each.connect()
        end(each)
        each.settle()
    assert said(kernel) == said(simulated)
    assert kernel.told == simulated.told


def test_this_kernel_says_reset_when_a_program_closes_that_has_not_read_all(both):
    """A program of the simulation reads at once: there is never anything that it has not read."""
    kernel, _ = both(SACK, route=WITHOUT_TIME_OUTS)
    kernel.connect()
    kernel.stop_reading(RIGHT)
    kernel.write(LEFT, 100)
    kernel.settle()
    kernel.close(RIGHT)
    kernel.settle()
    assert said(kernel)[-1] == (RIGHT, RST | ACK, ISNS[RIGHT] + 1, 0, ISNS[LEFT] + 101)
    assert kernel.told[LEFT] == ["reset"]


@STACKS
def test_data_that_meet_a_fin_are_answered_by_a_reset_with_the_number_of_the_fin(both, tcp):
    """Which counts. The kernel acknowledges that FIN late; the simulation at once, and is refused again."""
    kernel, simulated = both(tcp, route=WITHOUT_TIME_OUTS)
    for each in (kernel, simulated):
        each.connect()
        each.write(LEFT, 100)
        each.close(RIGHT)
        each.settle()
    assert said(kernel) == said(simulated)[:-1]
    assert said(kernel)[-1] == (RIGHT, RST, ISNS[RIGHT] + 1, 0, 0)
    assert kernel.told == simulated.told == {LEFT: ["peer closed", "reset"], RIGHT: []}


def test_one_who_does_not_listen_refuses_in_the_same_way(both):
    kernel, simulated = both(SACK)
    for each in (kernel, simulated):
        each.connect(is_listening=False)
    assert said(kernel) == said(simulated)
