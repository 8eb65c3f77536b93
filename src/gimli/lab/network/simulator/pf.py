"""Does a packet fit the state of its connection? OpenBSD's stateful tracking of TCP.

A state remembers two peers: ``src``, who opened the connection, and ``dst``. Of each it knows

    seqlo    behind the last byte that it sent
    seqhi    how far it may send: what the other one has acknowledged, and that one's window
    max_win  the largest window that it has offered, as in its headers
    wscale   by which they are to be scaled

A packet of the one moves that one's seqlo and max_win, and the other one's seqhi. So a firewall that sees one
direction only keeps half of a state fresh: that is the whole of incident 2.

Source: pf_tcp_track_full() of sys/net/pf.c, OpenBSD 4.7 to 5.5; a state's first values: pf_create_state().
Sequence modulation, SYN proxy and scrub are not modelled, nor do numbers wrap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.lab.network.simulator.frames import ACK, FIN, RST, SYN

if TYPE_CHECKING:
    from gimli.lab.network.simulator.frames import Flow, Segment

MAX_ACK_WINDOW = 65_535 + 1500
"""MAXACKWINDOW: how far behind a seqlo an acknowledgement may be ahead. Not scaled, whatever the connection's
windows are: the constant that freezes."""

CLOSED, SYN_SENT, ESTABLISHED, CLOSING, FIN_WAIT_2, TIME_WAIT = 0, 2, 4, 6, 9, 10
"""TCPS_* as far as a tracked peer has them."""


class Peer:
    """One end of a connection, as a firewall knows it."""

    __slots__ = ("max_win", "seqhi", "seqlo", "state", "wscale")

    def __init__(
        self, seqlo: int = 0, seqhi: int = 1, max_win: int = 1, wscale: int = -1, state: int = CLOSED
    ) -> None:
        self.seqlo = seqlo
        self.seqhi = seqhi
        self.max_win = max_win
        self.wscale = wscale
        """-1: the option has not been seen."""
        self.state = state

    def take(self, other: Peer) -> None:
        """Be like that one."""
        self.seqlo = other.seqlo
        self.seqhi = other.seqhi
        self.max_win = other.max_win
        self.wscale = other.wscale
        self.state = other.state

    def copy(self) -> Peer:
        """A snapshot."""
        return Peer(self.seqlo, self.seqhi, self.max_win, self.wscale, self.state)

    def __repr__(self) -> str:
        return f"seqlo {self.seqlo} seqhi {self.seqhi} max_win {self.max_win} state {self.state}"


def first_peer(syn: Segment) -> Peer:
    """The one who opens, by the packet that does."""
    peer = Peer(
        seqlo=syn.seq,
        seqhi=syn.seq + syn.length + 1 + (1 if syn.flags & SYN else 0) + (1 if syn.flags & FIN else 0),
        max_win=max(syn.win, 1),
        wscale=syn.wscale,
        state=SYN_SENT,
    )
    if syn.wscale > 0:
        peer.max_win = (peer.max_win + (1 << syn.wscale) - 1) >> syn.wscale  # a SYN's window is not scaled
    return peer


def track(src: Peer, dst: Peer, segment: Segment) -> str:
    """Move a state on by a packet.

    Args:
        src: the packet's sender.
        dst: its receiver.
        segment: the packet.

    Returns:
        Nothing when it fits. Else the digits of pf's "State failure on:", the tests that it failed, and the
        state is as before.
    """
    flags = segment.flags
    win = segment.win
    seq = segment.seq
    sws = dws = 0
    if src.wscale >= 0 and dst.wscale >= 0 and not flags & SYN:
        sws = src.wscale
        dws = dst.wscale
    end = seq + segment.length
    if flags & (SYN | FIN):
        end += 1
    if not src.seqlo:
        win, sws, dws = _first_of(src, dst, segment, end, sws, dws)
    ack = segment.ack
    if not flags & ACK or dst.state < SYN_SENT or (ack == 0 and flags & RST):
        ack = dst.seqlo
    if seq == end:
        seq = end = src.seqlo  # no data, no question of where
    skew = dst.seqlo - ack

    if (
        src.seqhi >= end
        and seq >= src.seqlo - (dst.max_win << dws)
        and -MAX_ACK_WINDOW <= skew <= MAX_ACK_WINDOW << sws
    ):
        _move(src, dst, ack, end, win, sws)
        if flags & SYN and src.state < SYN_SENT:
            src.state = SYN_SENT
        if flags & FIN and src.state < CLOSING:
            src.state = CLOSING
        if flags & ACK:
            if dst.state == SYN_SENT:
                dst.state = ESTABLISHED
            elif dst.state == CLOSING:
                dst.state = FIN_WAIT_2
        if flags & RST:
            src.state = dst.state = TIME_WAIT
        return ""
    if (
        (dst.state < SYN_SENT or dst.state >= FIN_WAIT_2 or src.state >= FIN_WAIT_2)
        and src.seqhi + MAX_ACK_WINDOW >= end
        and seq >= src.seqlo - MAX_ACK_WINDOW
    ):
        # A handshake that is only half seen, or the last words of a connection.
        _move(src, dst, ack, end, win, sws)
        if flags & FIN and src.state < CLOSING:
            src.state = CLOSING
        if flags & RST:
            src.state = dst.state = TIME_WAIT
        return ""
    return failures(src, dst, seq, end, skew, sws, dws)


def _first_of(src: Peer, dst: Peer, segment: Segment, end: int, sws: int, dws: int) -> tuple[int, int, int]:
    """The first packet of this end sets its peer; what its window is, and how windows are to be scaled."""
    win = segment.win
    if segment.flags & SYN and dst.wscale >= 0:
        src.wscale = segment.wscale
        if src.wscale >= 0:
            sws, dws = src.wscale, dst.wscale
            win = (win + (1 << sws) - 1) >> sws
        else:
            dst.max_win <<= dst.wscale  # the other one's was taken to be scaled
            dst.wscale = -1
    src.seqlo = segment.seq
    src.state = max(src.state, SYN_SENT)
    room = end + max(1, dst.max_win << dws)
    if src.seqhi == 1 or room >= src.seqhi:
        src.seqhi = room
    src.max_win = max(src.max_win, win)
    return win, sws, dws


def _move(src: Peer, dst: Peer, ack: int, end: int, win: int, sws: int) -> None:
    if src.max_win < win:
        src.max_win = win
    if end > src.seqlo:
        src.seqlo = end
    win <<= sws
    if ack + win >= dst.seqhi:
        dst.seqhi = ack + (win if win > 1 else 1)


def failures(src: Peer, dst: Peer, seq: int, end: int, skew: int, sws: int, dws: int) -> str:
    """The digits of the tests that fail: 1 to 4 as tracked, 5 and 6 the loose ones."""
    tests = (
        src.seqhi >= end,
        seq >= src.seqlo - (dst.max_win << dws),
        skew >= -MAX_ACK_WINDOW,
        skew <= MAX_ACK_WINDOW << sws,
        src.seqhi + MAX_ACK_WINDOW >= end,
        seq >= src.seqlo - MAX_ACK_WINDOW,
    )
    return "".join(str(number) for number, passes in enumerate(tests, 1) if not passes)


class PfState:
    """One state.

    Attributes:
        wire: packets that come in are looked up by it.
        stack: packets that go out are looked up by it, reversed; another one by an address translation.
        is_out: made by a packet that went out.
        interface: of the packet that made it.
        creator: the host that made it.
        src: who opened the connection.
        dst: the other one.
        queued: of pfsync: nothing, or which queue it is in.
        updates: of pfsync: changes since it was queued.
        peer_s: of pfsync: the whole second in which the other firewall's update of it came last.
        seen_s: when a packet, or the other firewall's update, moved it last.
    """

    __slots__ = (
        "creator",
        "dst",
        "interface",
        "is_out",
        "number",
        "peer_s",
        "queued",
        "seen_s",
        "src",
        "stack",
        "updates",
        "wire",
    )

    def __init__(
        self,
        number: int,
        wire: Flow,
        stack: Flow,
        interface: str,
        creator: str,
        src: Peer,
        dst: Peer,
        *,
        is_out: bool,
    ) -> None:
        self.number = number
        self.wire = wire
        self.stack = stack
        self.interface = interface
        self.creator = creator
        self.src = src
        self.dst = dst
        self.is_out = is_out
        self.queued = 0
        self.updates = 0
        self.peer_s = -2
        self.seen_s = 0.0

    @property
    def expires_s(self) -> float:
        """How long it stays when nothing moves it: pf.conf's defaults."""
        low, high = sorted((self.src.state, self.dst.state))
        if low >= FIN_WAIT_2:
            return 90.0  # tcp.closed
        if low >= CLOSING:
            return 45.0  # tcp.finwait
        if low < ESTABLISHED:
            return 30.0  # tcp.opening
        return 900.0 if high >= CLOSING else 86_400.0  # tcp.closing, tcp.established
