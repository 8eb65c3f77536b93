"""What is one end of a TCP connection? The handshake, receiving, closing; sending is in ``sender``.

RFC 793 with 7323 (window scale), 2018 (SACK), 1122 (delayed acknowledgements), 5961 (what a SYN in the middle
means). Data are counted, not kept: that they come in order and once is what :meth:`Application.got` and
``rcv_nxt`` show.

An end gives up when its application does (``abort``), when a RST comes, or after ``RETRANSMISSIONS_MAX``.
"""

from __future__ import annotations

from heapq import heappush
from typing import TYPE_CHECKING, Protocol

from gimli.lab.network.simulator.frames import ACK, FIN, RST, SYN, Segment
from gimli.lab.network.simulator.ranges import Ranges
from gimli.lab.network.simulator.sender import STILL_S, Sender, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.lab.network.simulator.engine import Engine
    from gimli.lab.network.simulator.frames import Flow
    from gimli.lab.network.topology import Tcp

DELAYED_ACK_S = 0.1
_SACK_BLOCKS_MAX = 3


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


class End(Sender):
    """One end of one connection.

    Args:
        engine: whose time it lives in.
        out: the direction that it sends.
        tcp: its stack.
        isn: where its sequence numbers begin.
        send: puts a segment on its way.
        application: who reads and writes.

    Attributes:
        rcv_nxt: the next byte that is expected.
        window: what we are ready to receive.
        data: the application's.
    """

    __slots__ = (
        "_ack_due_s",
        "_ack_is_pending",
        "_is_deaf",
        "_kept",
        "_rcv_edge",
        "_send",
        "_unacked",
        "_wscale",
        "application",
        "data",
        "out",
        "rcv_nxt",
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
        super().__init__(engine, tcp, isn)
        self._send = send
        self.out = out
        self.application = application
        self.data: object = None
        self.rcv_nxt = 0
        self.window = tcp.window
        self._rcv_edge = 0
        self._wscale = 0
        self._is_deaf = False
        self._unacked = 0
        self._ack_due_s = 0.0
        self._ack_is_pending = False
        self._kept = Ranges()

    # What the application does.

    def connect(self) -> None:
        """Begin the handshake."""
        self.state = State.SYN_SENT
        self._send_syn(SYN)

    def write(self, length: int) -> None:
        """Send that many bytes more."""
        assert self._fin_seq is None, "nothing is written after the end"
        self._write(length)

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
        if self.state not in {State.CLOSED, State.TIME_WAIT}:
            self._end(State.CLOSED, "aborted")

    def open_window(self, window: int) -> None:
        """Be ready to receive that much from now on; the peer is told when it is more."""
        is_more = window > self.window
        self.window = window
        if is_more and self.state is State.ESTABLISHED:
            self._emit(ACK, self.snd_nxt, 0)

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
            self._receive_reset(segment.seq)
            return
        if flags & SYN:
            self._emit(ACK, self.snd_nxt, 0)  # RFC 5961: whoever means it will say RST
            return
        self._receive_ack(segment)
        if self.state is State.ESTABLISHED and (segment.length or flags & FIN):
            self._receive_data(segment)

    def _receive_reset(self, seq: int) -> None:
        """RFC 5961: only the very next number ends it, or what Linux takes for that."""
        is_past_holes = self._peer_sack and bool(self._kept) and seq == self._kept.top
        is_before_fin = self._is_peer_closed and seq == self.rcv_nxt - 1
        if seq == self.rcv_nxt or is_past_holes or is_before_fin:
            self._end(State.CLOSED, "reset")
        elif self.rcv_nxt < seq <= self._rcv_edge:
            self._emit(ACK, self.snd_nxt, 0)  # whoever has no such connection answers with the right number

    # Receiving data.

    def _receive_data(self, segment: Segment) -> None:
        start = segment.seq
        end = start + segment.length
        is_fin = segment.flags & FIN
        if self._is_deaf and end > self.rcv_nxt and segment.length:
            self._emit(RST, segment.ack, 0)  # nobody will read it
            self._end(State.CLOSED, "aborted")
            return
        if start > self.rcv_nxt:
            if end <= self._rcv_edge:
                self._kept.add(start, end)
            self._emit(ACK, self.snd_nxt, 0)
            return
        if end > self._rcv_edge:
            end, is_fin = self._rcv_edge, 0  # more than there is room for
        new = end - self.rcv_nxt
        if new < 0 or (new == 0 and not is_fin) or self._is_peer_closed:
            self._emit(ACK, self.snd_nxt, 0)
            return
        now_s = self._engine.now_s
        had_hole = bool(self._kept)
        if had_hole:
            end = self._kept.end_of(end)
            new = end - self.rcv_nxt
            self._kept.forget_below(end)
            is_fin = is_fin and end == start + segment.length
        self.rcv_nxt = end
        self._unacked += 1
        if now_s - self.progress_s > STILL_S:
            self._moved(self.progress_s)
        self.progress_s = now_s
        if new:
            self.application.got(self, new)
        if is_fin:
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

    def _delay_ack(self, now_s: float) -> None:
        self._ack_due_s = now_s + DELAYED_ACK_S
        if not self._ack_is_pending:
            self._ack_is_pending = True
            engine = self._engine
            heappush(engine.heap, (self._ack_due_s, next(engine.order), self._ack_due, None))

    def _ack_due(self, _: object) -> None:
        self._ack_is_pending = False
        if self._unacked and self.state is State.ESTABLISHED:
            if self._ack_due_s > self._engine.now_s:
                self._ack_is_pending = True
                self._engine.at(self._ack_due_s, self._ack_due)
            else:
                self._emit(ACK, self.snd_nxt, 0)

    # Sending.

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
            if self._kept and self._peer_sack:
                sack = self._kept.blocks(_SACK_BLOCKS_MAX)
        if flags & ACK:
            self._unacked = 0
            edge = self.rcv_nxt + window
            if edge > self._rcv_edge:
                self._rcv_edge = edge
        is_again = seq < self.snd_max and (length > 0 or flags & (SYN | FIN) != 0)
        self._send(Segment(self.out, flags, seq, self.rcv_nxt, length, win, wscale, sack, is_again))

    def _moved(self, since_s: float) -> None:
        self.application.moved(self, since_s)

    def _end(self, state: State, why: str) -> None:
        self.state = state
        self._rto_due_s = 0.0
        self.application.ended(self, why)
