"""Does a packet fit its connection? Linux's tracking of TCP.

A connection has a state, and knows two halves, one for each direction. Of who sends in it a half knows

    end      behind the last byte that was sent
    maxend   how far it may send: what the other one has acknowledged, and that one's window
    maxwin   the largest window that it has offered, scaled
    scale    of its windows

Nothing of a half is known (maxwin 0) until its first packet is seen: it is then taken from that packet. So a
replica that ctnetlink has made, which carries no windows, finds its way by itself. Unless it was shown one
direction only: then the other half is what the first packet said of it, for good, and an acknowledgement of
what was sent since does not fit. Being liberal, it lets pass what does not fit.

Source: nf_conntrack_tcp_packet(), tcp_new() and tcp_in_window() of net/netfilter/nf_conntrack_proto_tcp.c,
Linux 6.x. Numbers do not wrap; retransmissions are not counted.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from gimli.lab.network.simulator.frames import ACK, FIN, RST, SYN

if TYPE_CHECKING:
    from gimli.lab.network.simulator.frames import Flow, Segment

ORIGINAL, REPLY = 0, 1
"""Directions: who opened the connection, and the other one."""

NONE, SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT, LAST_ACK, TIME_WAIT, CLOSE, SYN_SENT2 = range(10)
"""TCP_CONNTRACK_*."""
_IG, _IV = -1, -2
"""Ignored; invalid."""

STATES = (
    *("NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT"),
    *("CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"),
)
TIMEOUTS_S = (120, 120, 60, 432_000, 120, 60, 30, 120, 10, 120)
"""By state: nf_conntrack_tcp_timeout_*."""

_IGNORED = "ignored"
_CLOSING = frozenset({FIN_WAIT, CLOSE_WAIT, LAST_ACK, TIME_WAIT, CLOSE})
_INVALID_ALWAYS = (_IV,) * 10
_TABLE = (
    {
        SYN: (*(SYN_SENT, SYN_SENT, _IG, _IG, _IG), *(_IG, _IG, SYN_SENT, SYN_SENT, SYN_SENT2)),
        SYN | ACK: (_IV, _IV, SYN_RECV, _IV, _IV, _IV, _IV, _IV, _IV, SYN_RECV),
        FIN: (*(_IV, _IV, FIN_WAIT, FIN_WAIT, LAST_ACK), *(LAST_ACK, LAST_ACK, TIME_WAIT, CLOSE, _IV)),
        ACK: (
            *(ESTABLISHED, _IV, ESTABLISHED, ESTABLISHED, CLOSE_WAIT),
            *(CLOSE_WAIT, TIME_WAIT, TIME_WAIT, CLOSE, _IV),
        ),
        RST: (_IV, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE),
    },
    {
        SYN: (*(_IV, SYN_SENT2, _IV, _IV, _IV), *(_IV, _IV, SYN_SENT, _IV, SYN_SENT2)),
        SYN | ACK: (_IV, SYN_RECV, _IG, _IG, _IG, _IG, _IG, _IG, _IG, SYN_RECV),
        FIN: (*(_IV, _IV, FIN_WAIT, FIN_WAIT, LAST_ACK), *(LAST_ACK, LAST_ACK, TIME_WAIT, CLOSE, _IV)),
        ACK: (
            *(_IV, _IG, SYN_RECV, ESTABLISHED, CLOSE_WAIT),
            *(CLOSE_WAIT, TIME_WAIT, TIME_WAIT, CLOSE, _IG),
        ),
        RST: (_IV, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE),
    },
)
"""By direction, kind of packet and state, the next state: tcp_conntracks."""

ACK_WINDOW = 66_000
"""MAXACKWINCONST: an acknowledgement older by more, and by more than the largest window, is a late one."""


class Half:
    """One direction of a connection."""

    __slots__ = ("end", "has_scale", "is_liberal", "maxack", "maxend", "maxwin", "scale")

    def __init__(self) -> None:
        self.end = 0
        self.maxend = 0
        self.maxwin = 0
        self.scale = 0
        self.has_scale = False
        self.is_liberal = False
        self.maxack = -1
        """The highest acknowledgement it has sent; -1: none."""

    def __repr__(self) -> str:
        return f"end {self.end} maxend {self.maxend} maxwin {self.maxwin}"


class Connection:
    """One connection.

    Attributes:
        original: the flow of who opened it, as it is before any translation.
        reply: the flow of the other one's packets, as they are when they come.
        state: of the connection.
        halves: by direction.
        is_confirmed: a packet of it has got through.
        has_reply: the other one has answered.
        is_assured: the handshake is over.
        is_translated: the two flows are not each other's reverse.
        is_replica: ctnetlink has made it.
        changed: something of it is to be told.
        last: kind and direction of its last packet, and where the data of the last acknowledgement ended.
        expires_s: when it is removed.
    """

    __slots__ = (
        "changed",
        "expires_s",
        "halves",
        "has_reply",
        "is_assured",
        "is_confirmed",
        "is_replica",
        "is_translated",
        "last",
        "original",
        "reply",
        "state",
    )

    def __init__(self, original: Flow, reply: Flow) -> None:
        self.original = original
        self.reply = reply
        self.state = NONE
        self.halves = (Half(), Half())
        self.is_confirmed = False
        self.has_reply = False
        self.is_assured = False
        self.is_translated = reply is not original.reverse
        self.is_replica = False
        self.changed = False
        self.last = (0, ORIGINAL, 0)
        self.expires_s = 0.0


class Verdict(Enum):
    """What becomes of a packet."""

    FITS = "fits"
    INVALID = "invalid"
    ANEW = "anew"
    """It opens a connection in the place of one that is over."""


def begin(tracked: Connection, segment: Segment, *, is_loose: bool) -> bool:
    """Take what a first packet says of its connection; whether it begins one.

    Args:
        tracked: new.
        segment: its first packet.
        is_loose: one from the middle of a connection begins one as well.
    """
    state = _TABLE[ORIGINAL].get(_kind(segment.flags), _INVALID_ALWAYS)[NONE]
    if state < NONE:
        return False
    half, other = tracked.halves
    half.end = _end_of(segment)
    half.maxwin = max(segment.win, 1)
    if state == SYN_SENT:
        half.maxend = half.end
        _take_options(half, segment)
        return True
    if not is_loose:
        return False
    half.maxend = half.end + half.maxwin
    half.is_liberal = other.is_liberal = True  # nobody knows how its windows are scaled
    return True


def track(tracked: Connection, direction: int, segment: Segment) -> tuple[Verdict, str]:
    """Move a connection on by a packet.

    Returns:
        Whether it fits, and why it does not.
    """
    kind = _kind(segment.flags)
    old = tracked.state
    new = _TABLE[direction].get(kind, _INVALID_ALWAYS)[old]
    if new == _IV:
        return Verdict.INVALID, f"not in {STATES[old]}"
    if new == SYN_SENT and old >= TIME_WAIT:
        return Verdict.ANEW, ""
    if new == _IG:
        tracked.last = (kind, direction, _end_of(segment))
        return Verdict.FITS, ""
    wrong: str | None = None
    is_looked_at = True
    if kind == RST:
        wrong, new, is_looked_at = _judge_reset(tracked, direction, segment)
    if wrong is None and is_looked_at:
        wrong = _look_at_window(tracked, direction, segment)
    if wrong is _IGNORED:
        return Verdict.FITS, ""
    if wrong:
        _note_invalid(tracked, kind, direction)
        return Verdict.INVALID, wrong
    # Where the last acknowledgement's data ends; of other packets, that stays.
    end = _end_of(segment) if kind == ACK and wrong is None else tracked.last[2]
    tracked.last = (kind, direction, end)
    if new != old:
        tracked.state = new
        tracked.changed = True
    if direction == REPLY and not tracked.has_reply:
        tracked.has_reply = tracked.changed = True
    if not tracked.is_assured and tracked.has_reply and new == ESTABLISHED and old in {SYN_RECV, ESTABLISHED}:
        tracked.is_assured = tracked.changed = True
    return Verdict.FITS, ""


def _judge_reset(tracked: Connection, direction: int, segment: Segment) -> tuple[str | None, int, bool]:
    """Why a reset is refused, the state behind it, and whether its window is looked at."""
    old = tracked.state
    if old in _CLOSING:
        return None, CLOSE, False  # another connection may have its addresses by now
    kind, last_direction, last_end = tracked.last
    asked = tracked.halves[1 - direction].maxack
    new = CLOSE
    is_established = old == ESTABLISHED and tracked.is_assured
    if asked >= 0 and kind != SYN and not (segment.seq == 0 and not is_established):
        if segment.seq < asked:
            return f"RST at {segment.seq}, acknowledged up to {asked}", old, True
        is_behind_data = (kind, last_direction, last_end) == (ACK, direction, segment.seq)
        if is_established and segment.seq != asked and not is_behind_data:
            new = old  # its receiver may ask whether it is meant
    answers = (tracked.has_reply and kind == SYN) or (not tracked.is_assured and kind == ACK)
    return None, new, not (answers and segment.ack == last_end)


def _note_invalid(tracked: Connection, kind: int, direction: int) -> None:
    """Of the ends that do not fit, the first one is remembered."""
    last_kind, last_direction, last_end = tracked.last
    answers = last_direction != direction and last_kind in {FIN, RST}
    if tracked.is_assured and kind in {FIN, RST} and not answers:
        tracked.last = (kind, direction, last_end)


def _kind(flags: int) -> int:
    """The row of the table: get_conntrack_index()."""
    if flags & RST:
        return RST
    if flags & SYN:
        return flags & (SYN | ACK)
    if flags & FIN:
        return FIN
    return flags & ACK


def _end_of(segment: Segment) -> int:
    return segment.seq + segment.length + bool(segment.flags & SYN) + bool(segment.flags & FIN)


def _take_options(half: Half, segment: Segment) -> None:
    half.has_scale = segment.wscale >= 0
    half.scale = max(segment.wscale, 0)


def _look_at_window(tracked: Connection, direction: int, segment: Segment) -> str | None:
    """tcp_in_window(): None when the packet fits, "" when it does not and its sender's half is liberal."""
    sender, receiver = tracked.halves if direction == ORIGINAL else tracked.halves[::-1]
    flags, seq, ack = segment.flags, segment.seq, segment.ack
    end = seq + segment.length
    if flags & (SYN | FIN):
        end += 1
    sack = ack
    for _, high in segment.sack:
        if high > sack:
            sack = high
    if not sender.maxwin or (flags & SYN and end > sender.end and tracked.state in {SYN_SENT, SYN_RECV}):
        _first_of(sender, receiver, direction, segment, end, sack)
    if not flags & ACK or (flags & RST and not ack):
        ack = sack = receiver.end
    if flags & RST and not seq and tracked.state == SYN_SENT:
        seq = end = sender.end
    wrong = _misfit(sender, receiver, seq, end, sack)
    if wrong:
        return "" if sender.is_liberal else wrong
    _move(sender, receiver, segment, end, ack, sack)
    return None


def _first_of(sender: Half, receiver: Half, direction: int, segment: Segment, end: int, sack: int) -> None:
    """The first packet of a half tells what is known of it."""
    sender.end = end
    if segment.flags & SYN:
        sender.maxend = end
        sender.maxwin = max(segment.win, 1)
        _take_options(sender, segment)
        if direction == REPLY and not (sender.has_scale and receiver.has_scale):
            sender.scale = receiver.scale = 0
        return
    sender.maxwin = max(segment.win << sender.scale, 1)
    sender.maxend = end + sender.maxwin
    if not receiver.maxwin:
        # Nothing of the other one was seen: what this one has acknowledged is all that it can have sent.
        receiver.end = receiver.maxend = sack
    elif sack == receiver.end + 1:
        receiver.end += 1  # the answer to a keepalive


def _misfit(sender: Half, receiver: Half, seq: int, end: int, sack: int) -> str:
    """Which of the tests fails, in the kernel's words; what fails by too little is let pass, untracked."""
    oldest_ack = receiver.end - max(sender.maxwin, ACK_WINDOW)
    oldest_end = sender.end - receiver.maxwin
    if seq > sender.maxend:
        if oldest_end <= end < sender.maxend + receiver.maxwin and oldest_ack <= sack <= receiver.end:
            sender.end = end  # there are TCPs that send a little more; if that is acknowledged, it is to fit
            return _IGNORED
        return f"SEQ is over the upper bound: {seq} > {sender.maxend}"
    if sack > receiver.end:
        return f"ACK is over the upper bound (ACKed data not seen yet): {sack} > {receiver.end}"
    if (receiver.maxwin and end < oldest_end) or sack < oldest_ack:
        return _IGNORED  # sent again, or delayed
    return ""


def _move(sender: Half, receiver: Half, segment: Segment, end: int, ack: int, sack: int) -> None:
    win = segment.win if segment.flags & SYN else segment.win << sender.scale
    offered = win + sack - ack
    if offered > sender.maxwin:
        sender.maxwin = offered
    if end > sender.end:
        sender.end = end
    if segment.flags & ACK and ack > sender.maxack:
        sender.maxack = ack
    if receiver.maxwin and end > sender.maxend:
        receiver.maxwin += end - sender.maxend
    if sack + win >= receiver.maxend:
        receiver.maxend = sack + (win or 1)
