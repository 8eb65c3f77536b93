"""TCP's ends: whatever is lost, data come in order or the connection is reset, and nobody waits for ever."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gimli.lab.network.simulator.frames import ACK, FIN, RST, SYN, Segment
from gimli.lab.network.simulator.sender import MSS, RETRANSMISSIONS_MAX, State
from gimli.lab.network.topology import Tcp
from tests.lab.network.wire import DELAY_S, LEFT, RIGHT, Program, Wire

NO_SACK = Tcp(sack=False)
SCALED = Tcp(window=1_000_000, wscale=5)


def test_a_handshake_takes_one_and_a_half_rounds():
    wire = Wire().run(1.0)
    assert wire.programs[LEFT].connected_s == pytest.approx(2 * DELAY_S)
    assert wire.programs[RIGHT].connected_s == pytest.approx(3 * DELAY_S)
    assert [segment.flags for _, segment, _ in wire.sent[LEFT]] == [SYN, ACK]
    assert [segment.flags for _, segment, _ in wire.sent[RIGHT]] == [SYN | ACK]


def test_data_and_close_leave_nothing_behind():
    wire = Wire(Program(write_at_once=100_000, closes_after=0), Program(closes_after=100_000)).run(60.0)
    assert wire.programs[RIGHT].got_bytes == 100_000
    assert wire.left.state is wire.right.state is State.TIME_WAIT
    assert [wire.programs[side].told[-1] for side in (LEFT, RIGHT)] == ["closed", "closed"]
    assert not wire.engine.heap or wire.engine.heap[0][0] < 60.0, "no timer goes on"


def test_a_single_segment_is_acknowledged_late_and_every_second_at_once():
    wire = Wire(Program(write_at_once=100)).run(1.0)
    assert wire.times(RIGHT, flags=ACK) == [pytest.approx(3 * DELAY_S + 0.1)]
    wire = Wire(Program(write_at_once=2 * MSS)).run(1.0)
    assert wire.times(RIGHT, flags=ACK) == [pytest.approx(3 * DELAY_S)]


def test_an_answer_carries_the_acknowledgement():
    wire = Wire(Program(write_at_once=100), Program())
    wire.programs[RIGHT].got = lambda end, length: end.write(50)
    wire.run(0.05)
    assert [segment.length for _, segment, _ in wire.sent[RIGHT]] == [0, 50]


def test_a_sender_starts_slowly_and_ends_at_the_window():
    wire = Wire(Program(write_at_once=400_000)).run(5.0)
    flights = [
        sum(segment.length for _, segment, _ in group)
        for _, group in itertools.groupby(
            wire.sent[LEFT][2:], key=lambda sent: round(sent[0] / (2 * DELAY_S))
        )
    ]
    assert flights[0] == 3 * MSS
    assert all(later <= 2.1 * earlier for earlier, later in itertools.pairwise(flights[:5]))
    assert max(flights) <= 65_535
    assert max(flights) > 60_000


def test_a_scaled_window_lets_more_be_on_its_way():
    wire = Wire(Program(write_at_once=3_000_000), tcp=SCALED).run(5.0)
    assert wire.programs[RIGHT].got_bytes == 3_000_000
    assert wire.left.snd_wnd > 900_000


@pytest.mark.parametrize("scaled", [LEFT, RIGHT])
def test_one_end_without_the_option_and_nobody_scales(scaled):
    tcp, right_tcp = (SCALED, Tcp()) if scaled == LEFT else (Tcp(), SCALED)
    wire = Wire(Program(write_at_once=500_000), tcp=tcp, right_tcp=right_tcp).run(5.0)
    assert wire.programs[RIGHT].got_bytes == 500_000
    assert wire.left.snd_wnd <= 65_535


def lose(*numbers):
    return lambda side, number, segment: side == LEFT and number in numbers


@pytest.mark.parametrize("tcp", [Tcp(), NO_SACK], ids=["sack", "newreno"])
def test_three_duplicates_bring_the_lost_segment_at_once(tcp):
    wire = Wire(Program(write_at_once=40 * MSS), tcp=tcp, drops=lose(10)).run(5.0)
    lost = wire.sent[LEFT][10]
    again = next(sent for sent in wire.sent[LEFT][11:] if sent[1].seq == lost[1].seq)
    assert again[0] - lost[0] < 0.05, "without waiting for the time-out"
    assert again[1].is_again
    assert wire.programs[RIGHT].got_bytes == 40 * MSS


def test_sack_fills_several_holes_in_one_round():
    holes = (12, 14, 16)

    def spent(tcp):
        wire = Wire(Program(write_at_once=60 * MSS, closes_after=0), tcp=tcp, drops=lose(*holes)).run(20.0)
        assert wire.programs[RIGHT].got_bytes == 60 * MSS
        return wire.sent[LEFT][-1][0]

    assert spent(Tcp()) < spent(NO_SACK)


def test_sack_sends_nothing_again_that_has_arrived():
    wire = Wire(Program(write_at_once=60 * MSS), drops=lose(12, 14)).run(20.0)
    again = [segment.seq for _, segment, _ in wire.sent[LEFT] if segment.is_again]
    assert sorted(again) == [wire.sent[LEFT][number][1].seq for number in (12, 14)]


def test_the_time_out_doubles_up_to_its_limit_and_the_end_gives_up():
    wire = Wire(Program(write_at_once=100), drops=lambda side, number, segment: segment.length > 0).run(
        7200.0
    )
    times = wire.times(LEFT, length=100)
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert waits[0] == pytest.approx(1.0), "no round was measured yet"
    assert waits[1:6] == pytest.approx([2.0, 4.0, 8.0, 16.0, 32.0])
    assert max(waits) == pytest.approx(64.0)
    assert len(times) == RETRANSMISSIONS_MAX + 1
    assert wire.programs[LEFT].told == ["timed out"]


def test_a_shorter_time_out_takes_the_place_of_one_that_had_grown():
    """Otherwise what heals after a long silence waits once more for as long."""
    wire = Wire(Program(write_at_once=100)).run(1.5)
    wire.delays = lambda side, number: 30.0 - wire.engine.now_s if wire.engine.now_s < 29.0 else DELAY_S
    wire.left.write(100)
    wire.engine.run(30.1)
    assert not wire.left.is_sending, "all came at once; the next time-out was to be at 52 s"
    lost = len(wire.sent[LEFT])
    wire.drops = lambda side, number, segment: side == LEFT and number == lost
    wire.left.write(100)
    wire.engine.run(31.0)
    assert wire.programs[RIGHT].got_bytes == 300


def test_the_application_is_told_when_a_silence_ends():
    wire = Wire(
        Program(write_at_once=100), drops=lambda side, number, segment: 0.015 < wire.engine.now_s < 5.0
    )
    wire.run(20.0)
    assert any(told.startswith("moved after") for told in wire.programs[LEFT].told)


def test_a_reset_in_the_window_ends_and_any_other_does_not():
    for seq, state in ((0, State.ESTABLISHED), (9_001, State.CLOSED), (9_001 + 70_000, State.ESTABLISHED)):
        wire = Wire().run(1.0)
        wire.left.receive(Segment(wire.right.out, RST | ACK, seq, 0, 0, 0))
        assert wire.left.state is state


def test_a_syn_in_the_middle_is_answered_and_changes_nothing():
    wire = Wire().run(1.0)
    wire.left.receive(Segment(wire.right.out, SYN, 77, 0, 0, 100))
    assert wire.left.state is State.ESTABLISHED
    assert wire.sent[LEFT][-1][1].flags == ACK


def test_a_port_where_nobody_listens_refuses():
    wire = Wire()
    wire.left.connect()
    wire.left.receive(Segment(wire.right.out, RST | ACK, 0, 1001, 0, 0))
    assert wire.programs[LEFT].told == ["refused"]


def test_data_for_a_program_that_has_closed_are_answered_by_a_reset():
    """What the story's application side did: it had given up, and the request came after all."""
    wire = Wire().run(1.0)
    wire.right.close()
    wire.left.write(500)
    wire.engine.run(2.0)
    assert any(segment.flags & RST for _, segment, _ in wire.sent[RIGHT])
    assert wire.programs[LEFT].told == ["peer closed", "reset"]


@pytest.mark.parametrize("tcp", [Tcp(), NO_SACK], ids=["sack", "newreno"])
@pytest.mark.parametrize("is_last_heard", [True, False], ids=["the last was heard", "nothing was heard"])
def test_a_reset_beyond_a_hole_is_asked_about(tcp, is_last_heard):
    """RFC 5961: whoever said it and has no connection left repeats it with the number that is expected.

    With SACK it is enough that all was heard but the holes.
    """
    wire = Wire(tcp=tcp, drops=lambda side, number, segment: segment.length == MSS or not is_last_heard)
    wire.drops, drops = lambda side, number, segment: False, wire.drops
    wire.run(1.0)
    wire.drops = drops
    wire.left.write(MSS + 100)
    wire.engine.run(1.01)
    wire.drops = lambda side, number, segment: False
    wire.left.abort()
    wire.engine.run(1.1)
    is_over = tcp.sack and is_last_heard
    assert wire.programs[RIGHT].told == ["reset"] * is_over
    assert (wire.sent[RIGHT][-1][1].flags, wire.sent[RIGHT][-1][1].ack) == (ACK, 1_001)
    assert (wire.sent[RIGHT][-1][0] > 1.01) is not is_over
    wire.engine.run(1.15)
    wire.right.receive(Segment(wire.right.out.reverse, RST, 1_001, 0, 0, 0))
    assert wire.programs[RIGHT].told == ["reset"]


def test_a_fin_that_was_lost_is_sent_again_and_answered_in_time_wait():
    lost = []

    def drops(side, number, segment):
        if side == LEFT and segment.flags & ACK and not segment.flags & FIN and lost == ["fin"]:
            lost.append("last ack")
            return True
        if side == RIGHT and segment.flags & FIN and not lost:
            lost.append("fin")
            return True
        return False

    wire = Wire(Program(write_at_once=10, closes_after=0), drops=drops).run(60.0)
    assert lost == ["fin", "last ack"]
    assert wire.left.state is wire.right.state is State.TIME_WAIT


def test_a_closed_window_is_probed_until_it_opens_though_the_update_is_lost():
    wire = Wire(Program(write_at_once=200_000), Program())
    wire.programs[RIGHT].got = lambda end, length: setattr(end, "window", 0)
    wire.run(10.0)
    before = wire.programs[LEFT], wire.right.rcv_nxt
    assert wire.left.snd_wnd == 0
    assert wire.right.rcv_nxt - 9_001 < 200_000 or before
    wire.programs[RIGHT].got = Program().got
    wire.drops = lambda side, number, segment: side == RIGHT and wire.engine.now_s < 10.5
    wire.right.open_window(65_535)
    wire.engine.run(200.0)
    assert wire.right.rcv_nxt == 1_001 + 200_000
    assert wire.left.state is State.ESTABLISHED


def test_the_window_that_was_promised_is_not_taken_back():
    wire = Wire(Program(write_at_once=50_000), Program()).run(0.04)
    edges = []
    wire.right.window = 0
    wire.engine.run(5.0)
    for _, segment, _ in wire.sent[RIGHT][1:]:
        edges.append(segment.ack + segment.win)
    assert edges == sorted(edges)


def test_an_idle_connection_starts_slowly_again():
    """A burst after a pause is not sent in one go: RFC 5681, section 4.1."""
    wire = Wire(Program(write_at_once=200_000)).run(10.0)
    wire.left.write(100_000)
    assert sum(1 for when_s, _, _ in wire.sent[LEFT] if when_s == 10.0) == 3


def outcome(wire, wanted):
    """Everything came, or an end was reset or gave up; and then it is quiet."""
    left, right = wire.programs[LEFT], wire.programs[RIGHT]
    got = right.got_bytes, left.got_bytes
    assert got <= wanted
    if got != wanted:
        assert {"timed out", "reset", "aborted"} & {*left.told, *right.told}, "a deadlock"
    assert not [entry for entry in wire.engine.heap if entry[0] < 1e9 and entry[2].__name__ != "_rto"]
    return got == wanted


SIZES = st.sampled_from((1, 100, MSS, MSS + 1, 20_000, 150_000))
STACKS = st.sampled_from((Tcp(), NO_SACK, SCALED, Tcp(window=4_000), Tcp(window=1_000)))


@settings(max_examples=150)
@given(
    st.lists(st.booleans(), max_size=60), st.lists(st.booleans(), max_size=60), SIZES, SIZES, STACKS, STACKS
)
def test_whatever_is_lost_at_first_everything_comes(left, right, there, back, tcp, right_tcp):
    """Any pattern of losses that ends: no deadlock, and no data twice, out of order or missing."""
    patterns = {LEFT: left, RIGHT: right}
    wire = Wire(
        Program(write_at_once=there),
        Program(write_at_once=back),
        tcp=tcp,
        right_tcp=right_tcp,
        drops=lambda side, number, segment: number < len(patterns[side]) and patterns[side][number],
    ).run(36_000.0)
    assert wire.right.rcv_nxt in {0, 1_001 + wire.programs[RIGHT].got_bytes}
    is_given_up = "timed out" in wire.programs[LEFT].told + wire.programs[RIGHT].told
    assert outcome(wire, (there, back)) or is_given_up


@pytest.mark.parametrize(
    "tcp", [Tcp(), NO_SACK, SCALED, Tcp(window=3_000)], ids=["sack", "newreno", "scaled", "small"]
)
@pytest.mark.parametrize("loss", [0.01, 0.1, 0.4])
def test_with_losses_that_never_end_data_come_in_order_or_the_connection_ends(tcp, loss):
    for seed in range(8):
        chance = random.Random(seed)
        wire = Wire(
            Program(write_at_once=60_000, closes_after=30_000),
            Program(write_at_once=30_000),
            tcp=tcp,
            drops=lambda side, number, segment, chance=chance: chance.random() < loss,
            delays=lambda side, number, chance=chance: DELAY_S * (0.5 + chance.random()),
        ).run(36_000.0)
        outcome(wire, (60_000, 30_000))


@pytest.mark.parametrize("tcp", [Tcp(), NO_SACK], ids=["sack", "newreno"])
def test_segments_that_overtake_each_other_cost_nothing_but_time(tcp):
    chance = random.Random(1)
    wire = Wire(
        Program(write_at_once=300_000),
        tcp=tcp,
        delays=lambda side, number: DELAY_S * chance.choice((1, 1, 1, 3)),
    ).run(600.0)
    assert wire.programs[RIGHT].got_bytes == 300_000
