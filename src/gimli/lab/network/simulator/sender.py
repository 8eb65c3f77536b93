"""What does an end of a connection send, how much of it, and when again?

The sending half of :class:`gimli.lab.network.simulator.tcp.End`, with the parts of TCP that decide how long a
connection stands still: RFC 6298 (time-out with backoff, Karn), 5681 (slow start, congestion avoidance, fast
retransmit and recovery), 6582 (NewReno) or, where both ends offer it, 6675 in short (SACK), 1122 (probing a
closed window).

    snd_una          snd_nxt          snd_max           snd_end
    | sent, not acknowledged |  to be sent again  |  written, not sent |
"""

from __future__ import annotations

from enum import Enum
from heapq import heappush
from typing import TYPE_CHECKING

from gimli.lab.network.simulator.frames import ACK, FIN, SYN, Segment
from gimli.lab.network.simulator.patience import Patience
from gimli.lab.network.simulator.ranges import Ranges

if TYPE_CHECKING:
    from gimli.lab.network.simulator.engine import Engine
    from gimli.lab.network.topology import Tcp

MSS = 1460
INITIAL_WINDOW = 3
"""Segments, RFC 3390."""
RETRANSMISSIONS_MAX = 12
STILL_S = 1.0
"""An application is told when nothing moved for longer."""
_DUPLICATES = 3


class State(Enum):
    """Without LISTEN, which is the host's, and with the closing states as far as they differ here."""

    SYN_SENT = "SYN_SENT"
    SYN_RECEIVED = "SYN_RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    TIME_WAIT = "TIME_WAIT"
    CLOSED = "CLOSED"


class Sender:
    """The sending half of one end.

    Args:
        engine: whose time it lives in.
        tcp: its stack.
        isn: where its sequence numbers begin.

    Attributes:
        snd_una: the oldest byte that is not acknowledged.
        snd_nxt: the next one to send; after a time-out it goes back.
        snd_max: behind the last byte ever sent.
        snd_end: behind the last byte that was written; SYN and FIN take one each.
        snd_wnd: what the peer is ready to receive.
        progress_s: when something new was acknowledged, or received, last.
    """

    __slots__ = (
        "_cwnd",
        "_duplicates",
        "_engine",
        "_fin_seq",
        "_hole",
        "_is_peer_closed",
        "_is_recovering",
        "_patience",
        "_peer_sack",
        "_peer_wscale",
        "_recover",
        "_retransmissions",
        "_rto_due_s",
        "_rto_event_s",
        "_sacked",
        "_ssthresh",
        "_tcp",
        "_timed_s",
        "_timed_seq",
        "isn",
        "progress_s",
        "snd_end",
        "snd_max",
        "snd_nxt",
        "snd_una",
        "snd_wnd",
        "state",
    )

    def __init__(self, engine: Engine, tcp: Tcp, isn: int) -> None:
        self._engine = engine
        self._tcp = tcp
        self.state = State.CLOSED
        self.isn = isn
        self.snd_una = self.snd_nxt = self.snd_max = isn
        self.snd_end = isn + 1
        self.snd_wnd = 1
        self.progress_s = engine.now_s
        self._fin_seq: int | None = None
        self._is_peer_closed = False
        self._peer_wscale = 0
        self._peer_sack = False
        self._cwnd = INITIAL_WINDOW * MSS
        self._ssthresh = 1 << 30
        self._duplicates = 0
        self._is_recovering = False
        self._recover = isn
        self._hole = isn
        self._sacked = Ranges()
        self._patience = Patience(tcp.rto_min_s)
        self._rto_due_s = 0.0
        self._rto_event_s = 0.0
        self._retransmissions = 0
        self._timed_seq = 0
        self._timed_s = 0.0

    # What the other half does.

    def _emit(self, flags: int, seq: int, length: int) -> None:
        """Send a segment, with what is to be acknowledged."""
        raise NotImplementedError

    def _moved(self, since_s: float) -> None:
        """Nothing moved for long, and now something does."""
        raise NotImplementedError

    def _end(self, state: State, why: str) -> None:
        """It is over."""
        raise NotImplementedError

    @property
    def is_sending(self) -> bool:
        """Whether something written is not acknowledged."""
        return self.snd_una < self.snd_end

    def _write(self, length: int) -> None:
        idle_s = self._engine.now_s - self.progress_s
        if self.snd_una == self.snd_max and idle_s > self._patience.rto_s:
            self._cwnd = min(self._cwnd, INITIAL_WINDOW * MSS)  # RFC 5681 section 4.1
        self.snd_end += length
        if self.state is State.ESTABLISHED:
            self._transmit()

    # Acknowledgements.

    def _receive_ack(self, segment: Segment) -> None:
        ack = segment.ack
        if ack > self.snd_max:
            self._emit(ACK, self.snd_nxt, 0)
            return
        window = segment.win << self._peer_wscale
        if segment.sack and self._peer_sack:
            for low, high in segment.sack:
                self._sacked.add(low, high)
            self._sacked.forget_below(max(ack, self.snd_una))
        if ack > self.snd_una:
            self._advance(ack, window)
        elif ack == self.snd_una:
            is_duplicate = (
                not segment.length
                and 0 < window == self.snd_wnd
                and ack < self.snd_max
                and not segment.flags & FIN
            )
            if not window:
                self._retransmissions = 0  # it lives: RFC 1122 4.2.2.17
            elif not self.snd_wnd:
                self.snd_nxt = ack  # what probed was not taken
            self.snd_wnd = window
            if is_duplicate:
                self._receive_duplicate(ack)
            elif self.snd_nxt < self.snd_end:
                self._transmit()

    def _advance(self, ack: int, window: int) -> None:
        now_s = self._engine.now_s
        acked = ack - self.snd_una
        self.snd_una = ack
        self.snd_wnd = window
        if self.snd_nxt < ack:
            self.snd_nxt = ack
        if now_s - self.progress_s > STILL_S:
            self._moved(self.progress_s)
        self.progress_s = now_s
        if self._timed_seq and ack >= self._timed_seq:
            self._patience.sample(now_s - self._timed_s)
            self._timed_seq = 0
        elif self._retransmissions:
            self._patience.recover()
        self._retransmissions = 0
        if self._sacked:
            self._sacked.forget_below(ack)
        if self._is_recovering:
            self._advance_in_recovery(ack, acked)
        else:
            self._duplicates = 0
            if self._cwnd < self._ssthresh:
                self._cwnd += min(acked, 2 * MSS)
            else:
                self._cwnd += max(1, MSS * acked // self._cwnd)
        if ack == self.snd_max:
            self._rto_due_s = 0.0
        else:
            self._arm()
        if self._fin_seq is not None and ack > self._fin_seq and self._is_peer_closed:
            self._end(State.TIME_WAIT, "closed")
        elif self.snd_nxt < self.snd_end:
            self._transmit()

    def _advance_in_recovery(self, ack: int, acked: int) -> None:
        if ack >= self._recover:
            self._is_recovering = False
            self._duplicates = 0
            self._cwnd = self._ssthresh
        elif self._peer_sack:
            self._fill_holes()
        else:
            # RFC 6582: a partial acknowledgement names the next hole.
            self._cwnd = max(MSS, self._cwnd - acked + MSS)
            self._emit_again(ack)

    def _receive_duplicate(self, ack: int) -> None:
        self._duplicates += 1
        if self._is_recovering:
            if self._peer_sack:
                self._fill_holes()
            else:
                self._cwnd += MSS
                self._transmit()
        elif self._duplicates == _DUPLICATES and ack > self._recover:
            self._ssthresh = max((self.snd_max - self.snd_una) // 2, 2 * MSS)
            self._recover = self.snd_max
            self._is_recovering = True
            self._timed_seq = 0
            self._emit_again(ack)
            self._hole = ack + MSS
            self._cwnd = self._ssthresh + (0 if self._peer_sack else _DUPLICATES * MSS)
            self._arm()
        elif self._duplicates < _DUPLICATES and self.snd_max - ack < self._cwnd + 2 * MSS:
            self._transmit(most=1, is_windowed=False)  # RFC 3042: so that a third duplicate may come

    def _fill_holes(self) -> None:
        """Send again what the peer's ranges leave out, then go on, as much as the network carries.

        RFC 6675 in short: what is below the highest range and was not sent again counts as lost.
        """
        self._hole = max(self._hole, self.snd_una)
        sacked = self._sacked
        top = min(sacked.top, self._recover) if sacked else self.snd_una
        on_its_way = self.snd_max - self.snd_una - sacked.size - sacked.missing(self.snd_una, self._hole)
        while on_its_way + MSS <= self._cwnd:
            hole = sacked.end_of(self._hole)
            if hole < top:
                self._hole = hole + self._emit_again(hole)
            elif self.snd_nxt < self.snd_end and self.snd_nxt < self.snd_una + self.snd_wnd:
                before = self.snd_nxt
                self._transmit(most=1, is_windowed=False)
                if self.snd_nxt == before:
                    return
            else:
                return
            on_its_way += MSS

    # Sending.

    def _transmit(self, most: int = 1 << 30, *, is_windowed: bool = True) -> None:
        """Send what the windows allow, ``most`` segments at most."""
        end = self.snd_end
        data_end = end if self._fin_seq is None else self._fin_seq
        wnd = self.snd_wnd
        limit = self.snd_una + (self._cwnd if is_windowed and self._cwnd < wnd else wnd)
        while self.snd_nxt < end and most:
            seq = self.snd_nxt
            if self._sacked:
                seq = self._sacked.end_of(seq)
            length = data_end - seq
            if length > MSS:
                length = MSS
            if length > limit - seq:
                # Part of a segment only where nothing is on its way: RFC 1122 on silly windows.
                if seq > self.snd_una or limit <= seq:
                    break
                length = limit - seq
            most -= 1
            is_last = seq + length == self._fin_seq
            if not length and not is_last:
                self.snd_nxt = seq
                break
            if seq == self.snd_max and length and not self._timed_seq:
                self._timed_seq = seq + length
                self._timed_s = self._engine.now_s
            self._emit(ACK | FIN if is_last else ACK, seq, length)
            self.snd_nxt = seq + length + is_last
            if self.snd_nxt > self.snd_max:
                self.snd_max = self.snd_nxt
        if not self._rto_due_s and self.snd_una < end:
            self._arm()  # also for a window that is closed: whoever opens it may not be heard

    def _emit_again(self, seq: int) -> int:
        """Send one segment again; returns its length."""
        data_end = self.snd_end if self._fin_seq is None else self._fin_seq
        length = min(MSS, data_end - seq, self.snd_max - seq)
        if self._sacked and (next_start := self._sacked.next_start(seq)) is not None:
            length = min(length, next_start - seq)
        is_last = seq + length == self._fin_seq and self.snd_max > seq + length
        self._timed_seq = 0
        self._emit(ACK | FIN if is_last else ACK, seq, length)
        return max(length, 1)

    def _send_syn(self, flags: int) -> None:
        self._emit(flags, self.isn, 0)
        self.snd_nxt = self.snd_max = self.isn + 1
        self._arm()

    # Time-outs.

    def _arm(self) -> None:
        engine = self._engine
        self._rto_due_s = due_s = engine.now_s + self._patience.rto_s
        # The time-out is moved with every acknowledgement: one event looks where it has gone to.
        if not self._rto_event_s or due_s < self._rto_event_s:
            self._rto_event_s = due_s
            heappush(engine.heap, (due_s, next(engine.order), self._rto, due_s))

    def _rto(self, event_s: float) -> None:
        if event_s != self._rto_event_s:
            return  # an earlier one took its place
        self._rto_event_s = 0.0
        if not self._rto_due_s or self.state in {State.CLOSED, State.TIME_WAIT}:
            return
        if self._rto_due_s > event_s:
            self._rto_event_s = self._rto_due_s
            self._engine.at(self._rto_due_s, self._rto, self._rto_due_s)
            return
        self._time_out()

    def _time_out(self) -> None:
        self._retransmissions += 1
        if self._retransmissions > RETRANSMISSIONS_MAX:
            self._end(State.CLOSED, "timed out")
            return
        self._patience.back_off()
        self._timed_seq = 0
        if self.state is not State.ESTABLISHED:
            self._emit(SYN if self.state is State.SYN_SENT else SYN | ACK, self.isn, 0)
        elif self.snd_una == self.snd_max:
            self._probe()
        else:
            self._ssthresh = max((self.snd_max - self.snd_una) // 2, 2 * MSS)
            self._cwnd = MSS
            self._is_recovering = False
            self._duplicates = 0
            self._recover = self.snd_max
            self.snd_nxt = self.snd_una
            self._sacked.clear()  # RFC 2018: the receiver may have thought otherwise
            if self.snd_wnd == 0:
                self._emit_again(self.snd_una)
            else:
                self._transmit(most=1)
        self._arm()

    def _probe(self) -> None:
        """One byte into a window that is closed: the answer says whether it still is. RFC 1122 4.2.2.17."""
        self._retransmissions = 0
        is_data = self._fin_seq is None or self.snd_nxt < self._fin_seq
        self._emit(ACK if is_data else ACK | FIN, self.snd_nxt, int(is_data))
        self.snd_nxt += 1
        self.snd_max = max(self.snd_max, self.snd_nxt)
