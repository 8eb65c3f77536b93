"""pf's tracking of TCP: each of its tests at its boundary, and all of it against C's arithmetic."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from gimli.lab.network.simulator.frames import ACK, FIN, RST, SYN, Segment, pair_of_flows
from gimli.lab.network.simulator.pf import (
    CLOSED,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_2,
    MAX_ACK_WINDOW,
    SYN_SENT,
    TIME_WAIT,
    Peer,
    first_peer,
    track,
)
from tests.lab.network import pf_in_c

FLOW = pair_of_flows("198.51.100.9", 40122, "192.0.2.10", 80, 1)
BASE = 1 << 28
WSCALES = (-1, 0, 1, 3, 7, 14)
WINDOWS = (1, 1460, 16_384, 65_535)
OFFSETS = (-70_000, -1, 0, 1, 70_000)


def segment(seq, ack, length=0, win=1000, flags=ACK, wscale=-1):
    return Segment(FLOW, flags, seq, ack, length, win, wscale)


def established(*, src_wscale=-1, dst_wscale=-1, dst_max_win=16_384):
    """Two peers of which one may send 100,000 bytes more, and has all of its own acknowledged."""
    src = Peer(BASE, BASE + 100_000, 16_384, src_wscale, ESTABLISHED)
    dst = Peer(2 * BASE, 2 * BASE + 100_000, dst_max_win, dst_wscale, ESTABLISHED)
    return src, dst


def scales(src_wscale, dst_wscale):
    """Windows are scaled only when both ends have the option."""
    return (src_wscale, dst_wscale) if src_wscale >= 0 and dst_wscale >= 0 else (0, 0)


CASES = list(itertools.product(WSCALES, WSCALES, WINDOWS, OFFSETS))


def test_1_the_last_byte_is_within_what_the_other_end_has_room_for():
    for src_wscale, dst_wscale, length, offset in CASES:
        src, dst = established(src_wscale=src_wscale, dst_wscale=dst_wscale)
        end = src.seqhi + offset
        failed = track(src, dst, segment(end - length, dst.seqlo, length))
        assert ("1" in failed) == (offset > 0), (src_wscale, dst_wscale, length, offset)


def test_2_a_retransmission_is_not_more_than_a_window_back():
    for src_wscale, dst_wscale, max_win, offset in CASES:
        src, dst = established(src_wscale=src_wscale, dst_wscale=dst_wscale, dst_max_win=max_win)
        _, dws = scales(src_wscale, dst_wscale)
        seq = src.seqlo - (max_win << dws) + offset
        failed = track(src, dst, segment(seq, dst.seqlo, 1))
        assert ("2" in failed) == (offset < 0), (src_wscale, dst_wscale, max_win, offset)


def test_3_an_acknowledgement_is_not_far_ahead_and_that_far_is_never_scaled():
    """The constant that freezes: 67,035 bytes, also where the windows are a megabyte."""
    for src_wscale, dst_wscale, win, offset in CASES:
        src, dst = established(src_wscale=src_wscale, dst_wscale=dst_wscale)
        failed = track(src, dst, segment(src.seqlo, dst.seqlo + 67_035 + offset, win=win))
        assert ("3" in failed) == (offset > 0), (src_wscale, dst_wscale, win, offset)


def test_4_an_acknowledgement_is_not_far_behind_and_that_far_is_scaled():
    for src_wscale, dst_wscale, win, offset in CASES:
        src, dst = established(src_wscale=src_wscale, dst_wscale=dst_wscale)
        sws, _ = scales(src_wscale, dst_wscale)
        failed = track(src, dst, segment(src.seqlo, dst.seqlo - (67_035 << sws) - offset, win=win))
        assert ("4" in failed) == (offset > 0), (src_wscale, dst_wscale, win, offset)


@pytest.mark.parametrize("offset", OFFSETS)
def test_5_and_6_are_told_but_save_no_established_connection(offset):
    src, dst = established()
    failed = track(src, dst, segment(src.seqhi + MAX_ACK_WINDOW + offset - 10, dst.seqlo, 10))
    assert failed == ("15" if offset > 0 else "1" if offset > -MAX_ACK_WINDOW else "")
    src, dst = established(dst_max_win=1)
    failed = track(src, dst, segment(src.seqlo - MAX_ACK_WINDOW + offset, dst.seqlo, 1))
    assert failed == ("26" if offset < 0 else "2" if offset < MAX_ACK_WINDOW - 1 else "")


def test_a_packet_that_fails_leaves_the_state_as_it_was():
    src, dst = established()
    before = repr(src), repr(dst)
    assert track(src, dst, segment(src.seqlo, dst.seqlo + 200_000, 100)) == "3"
    assert (repr(src), repr(dst)) == before


def test_a_packet_moves_its_senders_seqlo_and_the_other_ones_seqhi():
    """And nothing else of the other one: who sees one direction only, keeps half of a state fresh."""
    src, dst = established()
    lo, hi = dst.seqlo, dst.seqhi
    assert not track(src, dst, segment(src.seqlo, dst.seqlo + 50_000, 1460, win=60_000))
    assert (src.seqlo, src.max_win) == (BASE + 1460, 60_000)
    assert (dst.seqlo, dst.max_win) == (lo, 16_384)
    assert dst.seqhi == max(hi, lo + 50_000 + 60_000)


def test_a_window_only_moves_what_the_other_end_may_send_forward():
    src, dst = established()
    hi = dst.seqhi
    track(src, dst, segment(src.seqlo, dst.seqlo, win=10))
    assert dst.seqhi == hi


def test_a_segment_without_data_may_be_anywhere():
    """Keepalives and resets: "ease sequencing restrictions on no data packets"."""
    src, dst = established()
    assert not track(src, dst, segment(src.seqlo - 500_000, dst.seqlo))
    assert not track(src, dst, segment(src.seqlo + 500_000, dst.seqlo, flags=RST | ACK))
    assert src.state == dst.state == TIME_WAIT


def handshake(client_wscale=7, server_wscale=3, client_win=64_000, server_win=50_000):
    syn = segment(1000, 0, win=client_win, flags=SYN, wscale=client_wscale)
    client, server = first_peer(syn), Peer()
    answer = segment(5000, 1001, win=server_win, flags=SYN | ACK, wscale=server_wscale)
    assert not track(server, client, answer)
    return client, server


def test_a_handshake_sets_both_peers():
    client, server = handshake()
    assert (client.state, server.state) == (ESTABLISHED, SYN_SENT)
    assert not track(client, server, segment(1001, 5001, win=500))
    assert server.state == ESTABLISHED
    assert (client.wscale, server.wscale) == (7, 3)
    assert client.max_win == 500, "the window of a SYN is not scaled, and was divided"
    assert server.seqhi == 5001 + (500 << 7)


def test_without_the_option_in_the_answer_nothing_is_scaled():
    """The client's window was taken to be scaled, and is put right."""
    client, server = handshake(server_wscale=-1)
    assert client.wscale == server.wscale == -1
    assert client.max_win == 500 << 7
    track(client, server, segment(1001, 5001, win=60_000))
    assert server.seqhi == 5001 + 64_000


def test_a_closed_connection_is_let_say_its_last_words():
    src, dst = established()
    src.state = dst.state = FIN_WAIT_2
    assert not track(src, dst, segment(src.seqhi + 60_000 - 10, dst.seqlo, 10))


def test_fins_close_both_ends():
    src, dst = established()
    assert not track(src, dst, segment(src.seqlo, dst.seqlo, flags=FIN | ACK))
    assert src.state == CLOSING
    assert not track(dst, src, segment(dst.seqlo, src.seqlo, flags=FIN | ACK))
    assert (src.state, dst.state) == (FIN_WAIT_2, CLOSING)
    assert not track(src, dst, segment(src.seqlo, dst.seqlo))
    assert dst.state == FIN_WAIT_2


# Against C.

STATES = (CLOSED, SYN_SENT, ESTABLISHED, CLOSING, FIN_WAIT_2, TIME_WAIT)
FLAGS = (ACK, ACK, ACK, ACK | FIN, SYN, SYN | ACK, RST, RST | ACK, 0)
EDGES = (0, MAX_ACK_WINDOW, -MAX_ACK_WINDOW, 65_535, -65_535)


def near(chance, number):
    """Close to a number, often at one of the distances that matter."""
    return number + chance.choice(EDGES) + chance.choice((-1, 0, 0, 1, chance.randint(-200_000, 200_000)))


def any_peer(chance, base):
    is_unseen = not chance.randrange(10)
    return Peer(
        seqlo=0 if is_unseen else near(chance, base),
        seqhi=1 if is_unseen else near(chance, base),
        max_win=chance.choice((1, 1460, 65_535, chance.randint(1, 65_535))),
        wscale=chance.choice(WSCALES),
        state=chance.choice(STATES),
    )


def in_c(peer):
    return {
        "seqlo": peer.seqlo,
        "seqhi": peer.seqhi,
        "max_win": peer.max_win,
        "state": peer.state,
        "wscale": wscale_in_c(peer.wscale),
    }


def wscale_in_c(wscale):
    return 0 if wscale < 0 else pf_in_c.PF_WSCALE_FLAG | wscale


@pytest.mark.parametrize("seed", range(4))
def test_every_packet_is_judged_as_c_judges_it(seed):
    """Ten thousand peers and packets each: the same digits, and the same peers afterwards."""
    chance = random.Random(seed)
    judged = Counter()
    for case in range(10_000):
        src, dst = any_peer(chance, BASE), any_peer(chance, 2 * BASE)
        before = f"seed {seed} case {case}: {src}; {dst}"
        flags = chance.choice(FLAGS)
        packet = Segment(
            FLOW,
            flags,
            near(chance, src.seqlo or BASE),
            near(chance, dst.seqlo or 2 * BASE) if flags & ACK else 0,
            chance.choice((0, 1, 1460)),
            chance.randint(0, 65_535),
            chance.choice(WSCALES) if flags & SYN else -1,
        )
        src_c, dst_c = in_c(src), in_c(dst)
        header = {
            "win": packet.win,
            "flags": flags,
            "seq": packet.seq,
            "ack": packet.ack,
            "len": packet.length,
            "wscale": wscale_in_c(packet.wscale),
        }
        failed = track(src, dst, packet)
        assert failed == pf_in_c.track(src_c, dst_c, header), before
        assert (in_c(src), in_c(dst)) == (src_c, dst_c), before
        judged[failed] += 1
    assert {"", "1", "2", "3", "4"} <= set(judged), "each test decides, alone, now and then"
