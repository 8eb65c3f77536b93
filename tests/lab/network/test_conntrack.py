"""Linux's tracking of TCP: what fits, what a replica without windows makes of it, and what liberal means."""

from __future__ import annotations

import pytest

from gimli.lab.network.simulator import conntrack
from gimli.lab.network.simulator.conntrack import (
    CLOSE,
    ESTABLISHED,
    FIN_WAIT,
    LAST_ACK,
    ORIGINAL,
    REPLY,
    SYN_RECV,
    SYN_SENT,
    TIME_WAIT,
    Connection,
    Verdict,
    begin,
    track,
)
from gimli.lab.network.simulator.frames import ACK, FIN, RST, SYN, Segment, pair_of_flows

WIN = 1000
SCALE = 3


class Spoken:
    """Two ends that speak; what the tracker says of each packet."""

    def __init__(self, *, is_loose=False):
        self.out = pair_of_flows("198.51.100.9", 40122, "192.0.2.100", 80, 1)
        self.connection = Connection(self.out, self.out.reverse)
        self.is_loose = is_loose
        self.is_new = True

    def say(self, direction, flags, seq, ack=0, length=0, win=WIN, wscale=-1, sack=()):
        flow = self.out if direction == ORIGINAL else self.out.reverse
        segment = Segment(flow, flags, seq, ack, length, win, wscale, sack)
        if self.is_new:
            assert direction == ORIGINAL
            if not begin(self.connection, segment, is_loose=self.is_loose):
                return "no connection"
            self.is_new = False
        verdict, why = track(self.connection, direction, segment)
        assert bool(why) == (verdict is Verdict.INVALID)
        return why or verdict.value

    def shake_hands(self):
        """Client's bytes from 101, server's from 501."""
        said = [
            self.say(ORIGINAL, SYN, 100, wscale=SCALE),
            self.say(REPLY, SYN | ACK, 500, 101, wscale=SCALE),
            self.say(ORIGINAL, ACK, 101, 501),
        ]
        assert said == ["fits"] * 3
        return self


def replica(*, is_liberal):
    """As ctnetlink makes it: established, its scale known, its windows not."""
    spoken = Spoken().shake_hands()
    connection = spoken.connection = Connection(spoken.out, spoken.out.reverse)
    connection.state = ESTABLISHED
    for half in connection.halves:
        half.scale, half.has_scale, half.is_liberal = SCALE, True, is_liberal
    return spoken


def test_a_connection_goes_through_its_states():
    spoken = Spoken()
    states = []
    for said in (
        (ORIGINAL, SYN, 100),
        (REPLY, SYN | ACK, 500, 101),
        (ORIGINAL, ACK, 101, 501),
        (ORIGINAL, FIN | ACK, 101, 501),
        (REPLY, FIN | ACK, 501, 102),
        (ORIGINAL, ACK, 102, 502),
    ):
        assert spoken.say(*said) == "fits"
        states.append(spoken.connection.state)
    assert states == [SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT, LAST_ACK, TIME_WAIT]
    assert spoken.connection.is_assured


def test_a_syn_in_the_place_of_what_is_over_begins_anew():
    spoken = Spoken().shake_hands()
    spoken.connection.state = TIME_WAIT
    assert spoken.say(ORIGINAL, SYN, 9000) == "anew"
    assert spoken.say(REPLY, SYN | ACK, 9000, 101) == "fits", "ignored"
    assert spoken.connection.state == TIME_WAIT


@pytest.mark.parametrize(("is_loose", "said"), [(False, "no connection"), (True, "fits")])
def test_a_packet_from_the_middle_begins_a_connection_only_where_that_is_allowed(is_loose, said):
    spoken = Spoken(is_loose=is_loose)
    assert spoken.say(ORIGINAL, ACK, 7000, 900) == said
    if is_loose:
        assert all(half.is_liberal for half in spoken.connection.halves), "nobody knows the scale"


def test_a_window_is_scaled_but_that_of_a_syn():
    spoken = Spoken().shake_hands()
    assert spoken.connection.halves[ORIGINAL].maxwin == WIN << SCALE
    assert spoken.say(REPLY, ACK, 501, 101, length=WIN << SCALE) == "fits"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ((REPLY, ACK, 501 + 3 * (WIN << SCALE), 101, 10), "SEQ is over the upper bound"),
        ((ORIGINAL, ACK, 101, 502, 0), "ACK is over the upper bound"),
        ((ORIGINAL, SYN | ACK, 101, 501, 0), "not in ESTABLISHED"),
    ],
)
def test_what_does_not_fit_says_why_and_changes_nothing(said, why):
    spoken = Spoken().shake_hands()
    before = [repr(half) for half in spoken.connection.halves]
    assert spoken.say(*said).startswith(why)
    assert [repr(half) for half in spoken.connection.halves] == before


def test_a_little_more_than_the_window_passes_and_may_be_acknowledged():
    """Since Linux 6.1: there are TCPs that send it."""
    spoken = Spoken().shake_hands()
    end = 501 + (WIN << SCALE) + 11
    assert spoken.say(REPLY, ACK, end - 10, 101, length=10) == "fits"
    assert spoken.say(ORIGINAL, ACK, 101, end) == "fits"


def test_what_is_too_old_passes_and_moves_nothing():
    """Since Linux 6.2: sent again, or late. Up to then it was invalid."""
    spoken = Spoken().shake_hands()
    halves = spoken.connection.halves
    before = [repr(half) for half in halves]
    assert spoken.say(ORIGINAL, ACK, 101 - 10 * WIN, 501) == "fits"
    assert [repr(half) for half in halves] == before


def test_an_acknowledgement_may_be_66000_bytes_old():
    """A late one opens no window."""
    spoken = Spoken().shake_hands()
    for half in spoken.connection.halves:
        half.maxend += 200_000
    assert spoken.say(REPLY, ACK, 501, 101, length=100_000) == "fits"
    oldest = 501 + 100_000 - conntrack.ACK_WINDOW
    assert spoken.say(ORIGINAL, ACK, 101, oldest - 1, win=50_000) == "fits"
    assert spoken.connection.halves[REPLY].maxend < 250_000
    assert spoken.say(ORIGINAL, ACK, 101, oldest, win=50_000) == "fits"
    assert spoken.connection.halves[REPLY].maxend > 400_000


def test_a_selective_acknowledgement_tells_of_data_as_well():
    spoken = Spoken().shake_hands()
    assert spoken.say(ORIGINAL, ACK, 101, 501, sack=((600, 700),)).startswith("ACK is over")
    spoken.say(REPLY, ACK, 501, 101, length=300)
    assert spoken.say(ORIGINAL, ACK, 101, 501, sack=((600, 700),)) == "fits"


def test_a_reset_closes_what_it_hits_and_is_refused_when_it_is_old():
    spoken = Spoken().shake_hands()
    assert spoken.say(REPLY, RST, 400).startswith("RST at 400, acknowledged up to 501")
    assert spoken.connection.state == ESTABLISHED
    assert spoken.say(REPLY, RST, 501) == "fits"
    assert spoken.connection.state == CLOSE


@pytest.mark.parametrize("is_liberal", [False, True])
def test_a_replica_finds_its_windows_when_it_sees_both_directions(is_liberal):
    """So a replica that nothing was shown before a takeover goes on, liberal or not."""
    spoken = replica(is_liberal=is_liberal)
    for round_ in range(5):
        client, server = 70_000 + 100 * round_, 90_000 + 2000 * round_
        assert spoken.say(ORIGINAL, ACK, client, server, length=100) == "fits"
        assert spoken.say(REPLY, ACK, server, client + 100, length=2000) == "fits"


def test_a_replica_that_was_shown_one_direction_refuses_both_after_a_takeover():
    """What a flooded frame does without a guard, where nobody is liberal: incident 2 on Linux."""
    spoken = replica(is_liberal=False)
    assert spoken.say(ORIGINAL, ACK, 70_000, 90_000, length=100) == "fits", "the first copy sets both halves"
    assert spoken.say(ORIGINAL, ACK, 70_100, 92_000, length=100).startswith("ACK is over the upper bound")
    # The takeover: now it is shown both, and neither fits.
    assert spoken.say(REPLY, ACK, 95_000, 70_300, length=10).startswith("ACK is over the upper bound")
    assert spoken.say(ORIGINAL, ACK, 70_300, 96_000, length=10).startswith("ACK is over the upper bound")


def test_a_liberal_replica_lets_pass_what_does_not_fit():
    spoken = replica(is_liberal=True)
    for said in (
        (ORIGINAL, ACK, 70_000, 90_000, 100),
        (ORIGINAL, ACK, 70_100, 92_000, 100),
        (REPLY, ACK, 95_000, 70_300, 10),
        (ORIGINAL, FIN | ACK, 70_300, 96_000, 0),
    ):
        assert spoken.say(*said) == "fits"
    assert spoken.connection.state == FIN_WAIT
