"""What does one end of a TCP connection send, and when?

RFC 793 with the parts that decide how long a connection stands still: RFC 6298 (time-out with backoff, Karn),
5681 (slow start, congestion avoidance, fast retransmit and recovery), 6582 (NewReno) or, where both ends offer it,
6675 in short (SACK), 7323 (window scale), 1122 (delayed acknowledgements, probing a closed window). Data are
counted, not kept; that they arrive in order and once is what ``rcv_nxt`` and :meth:`Application.got` show.

An end gives up when its application does (``abort``), when a RST comes, or after ``RETRANSMISSIONS_MAX``.
"""

from __future__ import annotations

from enum import Enum
from heapq import heappush
from typing import TYPE_CHECKING, Protocol

from gimli.lab.network.simulator.frames import ACK, FIN, RST, SYN, Segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.lab.network.simulator.engine import Engine
    from gimli.lab.network.simulator.frames import Flow
    from gimli.lab.network.topology import Tcp

MSS = 1460
INITIAL_WINDOW = 3
"""Segments, RFC 3390."""
RTO_FIRST_S = 1.0
RTO_MAX_S = 64.0
RETRANSMISSIONS_MAX = 12
DELAYED_ACK_S = 0.1
STILL_S = 1.0
"""An application is told when nothing moved for longer."""
_DUPLICATES = 3
_SACK_BLOCKS_MAX = 3


class State(Enum):
    """Without LISTEN, which is the host's, and with the closing states as far as they differ here."""

    SYN_SENT = "SYN_SENT"
    SYN_RECEIVED = "SYN_RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    TIME_WAIT = "TIME_WAIT"
    CLOSED = "CLOSED"


class Application(Protocol):
    """Who reads and writes. It reads at once what comes; a slow one makes ``window`` smaller."""

    def connected(self, end: End) -> None:
        """The handshake is done."""
        ...

    def got(self, end: End, length: int) -> None:
        """Data came, in order; all of it that is new."""
        ...

    def moved(self, end: End, since_s: float) -> None:
        """Something moves again, after more than ``STILL_S``."""
        ...

    def peer_closed(self, end: End) -> None:
        """There will be no more data."""
        ...

    def ended(self, end: End, why: str) -> None:
        """It is over: ``closed``, ``reset``, ``timed out`` or ``aborted``."""
        ...


class End:
    """One end of one connection.

    Args:
        engine: whose time it lives in.
        out: the direction that it sends.
        tcp: its stack.
        isn: where its sequence numbers begin.
        send: puts a segment on its way.
        application: who reads and writes.

    Attributes:
        snd_una: the oldest byte that is not acknowledged.
        snd_nxt: the next one to send; after a time-out it goes back.
        snd_max: behind the last byte ever sent.
        snd_end: behind the last byte that was written; SYN and FIN take one each.
        snd_wnd: what the peer is ready to receive.
        rcv_nxt: the next byte that is expected.
        window: what we are ready to receive.
        progress_s: when something new was acknowledged, or received, last.
        data: the application's.
    """

    __slots__ = (
        "_ack_due_s",
        "_ack_is_pending",
        "_cwnd",
        "_duplicates",
        "_engine",
        "_fin_seq",
        "_hole",
        "_is_deaf",
        "_is_peer_closed",
        "_is_recovering",
        "_out_of_order",
        "_peer_sack",
        "_peer_wscale",
        "_rcv_edge",
        "_recover",
        "_retransmissions",
        "_rto_due_s",
        "_rto_is_pending",
        "_rto_s",
        "_rttvar_s",
        "_sacked",
        "_send",
        "_srtt_s",
        "_ssthresh",
        "_tcp",
        "_timed_s",
        "_timed_seq",
        "_unacked",
        "_wscale",
        "application",
        "data",
        "isn",
        "out",
        "progress_s",
        "rcv_nxt",
        "snd_end",
        "snd_max",
        "snd_nxt",
        "snd_una",
        "snd_wnd",
        "state",
        "window",
    )

    def __init__(
        self,
        engine: Engine,
        out: Flow,
        tcp: Tcp,
        isn: int,
        send: Callable[[Segment], None],
        application: Application,
    ) -> None:
        self._engine = engine
        self._tcp = tcp
        self._send = send
        self.out = out
        self.application = application
        self.data: object = None
        self.state = State.CLOSED
        self.isn = isn
        self.snd_una = self.snd_nxt = self.snd_max = isn
        self.snd_end = isn + 1
        self.snd_wnd = 1
        self.rcv_nxt = 0
        self._rcv_edge = 0
        self.window = tcp.window
        self.progress_s = engine.now_s
        self._fin_seq: int | None = None
        self._is_deaf = False
        self._is_peer_closed = False
        self._wscale = 0
        self._peer_wscale = 0
        self._peer_sack = False
        self._cwnd = INITIAL_WINDOW * MSS
        self._ssthresh = 1 << 30
        self._duplicates = 0
        self._is_recovering = False
        self._recover = isn
        self._hole = isn
        self._sacked: list[tuple[int, int]] = []
        self._srtt_s = 0.0
        self._rttvar_s = 0.0
        self._rto_s = RTO_FIRST_S
        self._rto_due_s = 0.0
        self._rto_is_pending = False
        self._retransmissions = 0
        self._timed_seq = 0
        self._timed_s = 0.0
        self._unacked = 0
        self._ack_due_s = 0.0
        self._ack_is_pending = False
        self._out_of_order: list[tuple[int, int]] = []

    # What the application does.

    def connect(self) -> None:
        """Begin the handshake."""
        self.state = State.SYN_SENT
        self._send_syn(SYN)

    def write(self, length: int) -> None:
        """Send that many bytes more."""
        assert self._fin_seq is None, "nothing is written after the end"
        if self.snd_una == self.snd_max and self._engine.now_s - self.progress_s > self._rto_s:
            self._cwnd = min(self._cwnd, INITIAL_WINDOW * MSS)  # RFC 5681 section 4.1: idle
        self.snd_end += length
        if self.state is State.ESTABLISHED:
            self._transmit()

    def close(self) -> None:
        """Send what was written, then FIN; what still comes is refused."""
        self._is_deaf = True
        if self._fin_seq is None and self.state is not State.CLOSED:
            self._fin_seq = self.snd_end
            self.snd_end += 1
            if self.state is State.ESTABLISHED:
                self._transmit()

    def abort(self) -> None:
        """Give up: RST."""
        if self.state in {State.SYN_RECEIVED, State.ESTABLISHED}:
            self._emit(RST | ACK, self.snd_max, 0)
        if self.state is not State.CLOSED:
            self._end(State.CLOSED, "aborted")

    def open_window(self, window: int) -> None:
        """Be ready to receive that much from now on; the peer is told when it is more."""
        is_more = window > self.window
        self.window = window
        if is_more and self.state is State.ESTABLISHED:
            self._emit(ACK, self.snd_nxt, 0)

    @property
    def is_sending(self) -> bool:
        """Whether something written is not acknowledged."""
        return self.snd_una < self.snd_end

    # What the network does.

    def accept(self, syn: Segment) -> None:
        """Answer the SYN that it was made for."""
        self.state = State.SYN_RECEIVED
        self._take_options(syn)
        self._send_syn(SYN | ACK)

    def receive(self, segment: Segment) -> None:
        """A segment of the connection came."""
        state = self.state
        if state is State.ESTABLISHED:
            self._receive_established(segment)
        elif state is State.SYN_SENT:
            self._receive_in_syn_sent(segment)
        elif state is State.SYN_RECEIVED:
            self._receive_in_syn_received(segment)
        elif state is State.TIME_WAIT and segment.flags & FIN:
            self._emit(ACK, self.snd_max, 0)  # the last one was lost

    def _receive_in_syn_sent(self, segment: Segment) -> None:
        flags = segment.flags
        if not flags & ACK or segment.ack != self.isn + 1:
            return
        if flags & RST:
            self._end(State.CLOSED, "refused")
        elif flags & SYN:
            self._take_options(segment)
            self._established()
            self.snd_wnd = segment.win
            self._emit(ACK, self.snd_nxt, 0)
            self.application.connected(self)
            self._transmit()

    def _receive_in_syn_received(self, segment: Segment) -> None:
        flags = segment.flags
        if flags & RST:
            self._end(State.CLOSED, "reset")
        elif flags & SYN:
            self._emit(SYN | ACK, self.isn, 0)  # it was lost
        elif flags & ACK and segment.ack == self.isn + 1:
            self._established()
            self.snd_wnd = segment.win << self._peer_wscale
            self.application.connected(self)
            self.receive(segment)

    def _established(self) -> None:
        self.state = State.ESTABLISHED
        self.snd_una = self.isn + 1
        self._retransmissions = 0
        self._rto_due_s = 0.0
        self.progress_s = self._engine.now_s

    def _take_options(self, syn: Segment) -> None:
        self.rcv_nxt = self._rcv_edge = syn.seq + 1
        self.snd_wnd = syn.win
        if syn.wscale >= 0 and self._tcp.wscale:
            self._peer_wscale = syn.wscale
            self._wscale = self._tcp.wscale
        self._peer_sack = self._tcp.sack and bool(syn.sack)

    def _receive_established(self, segment: Segment) -> None:
        flags = segment.flags
        if flags & RST:
            # In the window: RFC 793. Elsewhere it is older than the connection.
            if self.rcv_nxt - 1 <= segment.seq <= self._rcv_edge:
                self._end(State.CLOSED, "reset")
            return
        if flags & SYN:
            self._emit(ACK, self.snd_nxt, 0)  # RFC 5961: whoever means it will say RST
            return
        self._receive_ack(segment)
        if self.state is State.ESTABLISHED and (segment.length or flags & FIN):
            self._receive_data(segment)

    # Receiving data.

    def _receive_data(self, segment: Segment) -> None:
        start = segment.seq
        end = start + segment.length
        is_fin = segment.flags & FIN
        if self._is_deaf and end > self.rcv_nxt and segment.length:
            self.abort()  # nobody will read it
            return
        if start > self.rcv_nxt:
            if end <= self._rcv_edge:
                self._keep(start, end)
            self._emit(ACK, self.snd_nxt, 0)
            return
        if end > self._rcv_edge:
            end, is_fin = self._rcv_edge, 0  # more than there is room for
        new = end - self.rcv_nxt
        if new < 0 or (new == 0 and not is_fin) or self._is_peer_closed:
            self._emit(ACK, self.snd_nxt, 0)
            return
        now_s = self._engine.now_s
        self.rcv_nxt = end
        had_hole = bool(self._out_of_order)
        if had_hole:
            new += self._join()
        self._unacked += 1
        if now_s - self.progress_s > STILL_S:
            self.application.moved(self, self.progress_s)
        self.progress_s = now_s
        if new:
            self.application.got(self, new)
        if is_fin and self.rcv_nxt == end:
            self._receive_fin()
        elif self._unacked and self.state is State.ESTABLISHED:
            if self._unacked > 1 or had_hole:
                self._emit(ACK, self.snd_nxt, 0)
            else:
                self._delay_ack(now_s)

    def _receive_fin(self) -> None:
        self.rcv_nxt += 1
        self._is_peer_closed = True
        if self.state is not State.ESTABLISHED:
            return
        self._emit(ACK, self.snd_nxt, 0)
        if self._fin_seq is not None and self.snd_una > self._fin_seq:
            self._end(State.TIME_WAIT, "closed")
        else:
            self.application.peer_closed(self)

    def _keep(self, start: int, end: int) -> None:
        """Beyond a hole: kept, the newest range first."""
        kept = []
        for low, high in self._out_of_order:
            if high < start or low > end:
                kept.append((low, high))
            else:
                start, end = min(start, low), max(end, high)
        self._out_of_order = [(start, end), *kept]

    def _join(self) -> int:
        """Bytes that were kept and follow now."""
        before = self.rcv_nxt
        for low, high in sorted(self._out_of_order):
            if low <= self.rcv_nxt < high:
                self.rcv_nxt = high
        self._out_of_order = [kept for kept in self._out_of_order if kept[1] > self.rcv_nxt]
        return self.rcv_nxt - before

    def _delay_ack(self, now_s: float) -> None:
        self._ack_due_s = now_s + DELAYED_ACK_S
        if not self._ack_is_pending:
            self._ack_is_pending = True
            engine = self._engine
            heappush(engine.heap, (self._ack_due_s, next(engine.order), self._ack_due, None))

    def _ack_due(self, _: None) -> None:
        self._ack_is_pending = False
        if self._unacked and self.state is State.ESTABLISHED:
            if self._ack_due_s > self._engine.now_s:
                self._ack_is_pending = True
                self._engine.at(self._ack_due_s, self._ack_due)
            else:
                self._emit(ACK, self.snd_nxt, 0)

    # Receiving acknowledgements.

    def _receive_ack(self, segment: Segment) -> None:
        ack = segment.ack
        if ack > self.snd_max:
            self._emit(ACK, self.snd_nxt, 0)
            return
        window = segment.win << self._peer_wscale
        if segment.sack and self._peer_sack:
            self._note_sack(segment.sack)
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
            self.application.moved(self, self.progress_s)
        self.progress_s = now_s
        if self._timed_seq and ack >= self._timed_seq:
            self._sample(now_s - self._timed_s)
            self._timed_seq = 0
        elif self._retransmissions:
            self._rto_s = max(self._tcp.rto_min_s, self._srtt_s + 4 * self._rttvar_s)
        self._retransmissions = 0
        if self._sacked:
            self._sacked = [kept for kept in self._sacked if kept[1] > ack]
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

    def _note_sack(self, blocks: tuple[tuple[int, int], ...]) -> None:
        """The peer has these."""
        ranges = sorted(block for block in (*self._sacked, *blocks) if block[1] > self.snd_una)
        merged: list[tuple[int, int]] = []
        for low, high in ranges:
            if merged and low <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], high))
            else:
                merged.append((low, high))
        self._sacked = merged

    def _fill_holes(self) -> None:
        """Send again what the peer's ranges leave out, then go on, as much as the network carries.

        RFC 6675 in short: what is below the highest range and was not sent again counts as lost.
        """
        hole = self._hole = max(self._hole, self.snd_una)
        sacked = self._sacked
        top = sacked[-1][1] if sacked else self.snd_una
        on_its_way = self.snd_max - self.snd_una - sum(high - low for low, high in sacked)
        for low, high in _holes(self.snd_una, sacked):
            on_its_way -= max(0, high - max(low, hole))
        while on_its_way + MSS <= self._cwnd:
            hole = self._behind_sacked(self._hole)
            if hole < min(top, self._recover):
                self._hole = hole + self._emit_again(hole)
            elif self.snd_nxt < self.snd_end and self.snd_nxt < self.snd_una + self.snd_wnd:
                before = self.snd_nxt
                self._transmit(most=1, is_windowed=False)
                if self.snd_nxt == before:
                    return
            else:
                return
            on_its_way += MSS

    def _behind_sacked(self, seq: int) -> int:
        """The first byte from ``seq`` on that the peer does not have."""
        for low, high in self._sacked:
            if low <= seq < high:
                return high
        return seq

    def _sample(self, rtt_s: float) -> None:
        """RFC 6298 section 2."""
        if self._srtt_s:
            self._rttvar_s += (abs(self._srtt_s - rtt_s) - self._rttvar_s) / 4
            self._srtt_s += (rtt_s - self._srtt_s) / 8
        else:
            self._srtt_s = rtt_s
            self._rttvar_s = rtt_s / 2
        self._rto_s = max(self._tcp.rto_min_s, self._srtt_s + 4 * self._rttvar_s)

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
                seq = self._behind_sacked(seq)
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
        for low, _ in self._sacked:
            if seq < low:
                length = min(length, low - seq)
        is_last = seq + length == self._fin_seq and self.snd_max > seq + length
        self._timed_seq = 0
        self._emit(ACK | FIN if is_last else ACK, seq, length)
        return max(length, 1)

    def _send_syn(self, flags: int) -> None:
        self._emit(flags, self.isn, 0)
        self.snd_nxt = self.snd_max = self.isn + 1
        self._arm()

    def _emit(self, flags: int, seq: int, length: int) -> None:
        window = self.window
        wscale = -1
        sack: tuple[tuple[int, int], ...] = ()
        if flags & SYN:
            win = min(window, 65_535)
            if self._tcp.wscale and (self._wscale or not flags & ACK):
                wscale = self._tcp.wscale
            if self._tcp.sack and (self._peer_sack or not flags & ACK):
                sack = ((0, 0),)  # permitted
        else:
            if window < self._rcv_edge - self.rcv_nxt:
                window = self._rcv_edge - self.rcv_nxt  # what was promised is not taken back
            win = window >> self._wscale
            if win > 65_535:
                win = 65_535
            window = win << self._wscale
            if self._out_of_order and self._peer_sack:
                sack = tuple(self._out_of_order[:_SACK_BLOCKS_MAX])
        if flags & ACK:
            self._unacked = 0
            edge = self.rcv_nxt + window
            if edge > self._rcv_edge:
                self._rcv_edge = edge
        is_again = seq < self.snd_max and (length > 0 or flags & (SYN | FIN) != 0)
        self._send(Segment(self.out, flags, seq, self.rcv_nxt, length, win, wscale, sack, is_again))

    # Time-outs.

    def _arm(self) -> None:
        engine = self._engine
        self._rto_due_s = due_s = engine.now_s + self._rto_s
        if not self._rto_is_pending:
            self._rto_is_pending = True
            heappush(engine.heap, (due_s, next(engine.order), self._rto, None))

    def _rto(self, _: None) -> None:
        """The time-out, or an earlier one that was moved."""
        self._rto_is_pending = False
        if not self._rto_due_s or self.state in {State.CLOSED, State.TIME_WAIT}:
            return
        if self._rto_due_s > self._engine.now_s:
            self._rto_is_pending = True
            self._engine.at(self._rto_due_s, self._rto)
            return
        self._retransmissions += 1
        if self._retransmissions > RETRANSMISSIONS_MAX:
            self._end(State.CLOSED, "timed out")
            return
        self._rto_s = min(2 * self._rto_s, RTO_MAX_S)
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
            self._sacked = []  # RFC 2018: the receiver may have thought otherwise
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

    def _end(self, state: State, why: str) -> None:
        self.state = state
        self._rto_due_s = 0.0
        self.application.ended(self, why)


def _holes(start: int, ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What ranges leave out from ``start`` to the last of them."""
    holes = []
    for low, high in ranges:
        if low > start:
            holes.append((start, low))
        start = max(start, high)
    return holes
