"""Two ends of one connection, a wire between them that a test may cut, and what each end was told."""

from __future__ import annotations

from dataclasses import dataclass, field

from gimli.lab.network.simulator.engine import Engine
from gimli.lab.network.simulator.frames import pair_of_flows
from gimli.lab.network.simulator.sender import State
from gimli.lab.network.simulator.tcp import End
from gimli.lab.network.topology import Tcp

DELAY_S = 0.01
LEFT, RIGHT = "left", "right"


@dataclass
class Program:
    """Reads and writes at one end; keeps what it was told."""

    write_at_once: int = 0
    closes_after: int = -1
    got_bytes: int = 0
    connected_s: float | None = None
    told: list[str] = field(default_factory=list)

    def connected(self, end):
        """The handshake is done."""
        self.connected_s = end._engine.now_s
        if self.write_at_once:
            end.write(self.write_at_once)
        if self.closes_after == 0:
            end.close()

    def got(self, end, length):
        """Data came."""
        assert length > 0
        self.got_bytes += length
        if self.got_bytes == self.closes_after:
            end.close()

    def moved(self, end, since_s):
        """It moves again."""
        self.told.append(f"moved after {end._engine.now_s - since_s:.1f} s")

    def peer_closed(self, end):
        """There will be no more data."""
        self.told.append("peer closed")
        end.close()

    def ended(self, end, why):
        """It is over."""
        self.told.append(why)


class Wire:
    """``drops(side, number, segment)`` says whether what a side sends is lost; ``delays``, how late it is."""

    def __init__(self, left=None, right=None, *, tcp=None, right_tcp=None, drops=None, delays=None):
        self.engine = Engine()
        self.drops = drops or (lambda side, number, segment: False)
        self.delays = delays or (lambda side, number: DELAY_S)
        self.sent = {LEFT: [], RIGHT: []}
        """Of each side: when, what, and whether it was lost."""
        self.programs = {LEFT: left or Program(), RIGHT: right or Program()}
        out = pair_of_flows("a", 1, "b", 2, 1)
        tcp = tcp or Tcp()
        self.left = self._end(LEFT, out, tcp, 1_000)
        self.right = self._end(RIGHT, out.reverse, right_tcp or tcp, 9_000)
        self.ends = {LEFT: self.left, RIGHT: self.right}

    def _end(self, side, out, tcp, isn):
        return End(self.engine, out, tcp, isn, lambda segment: self._send(side, segment), self.programs[side])

    def _send(self, side, segment):
        number = len(self.sent[side])
        is_lost = bool(self.drops(side, number, segment))
        self.sent[side].append((round(self.engine.now_s, 6), segment, is_lost))
        if not is_lost:
            at_s = self.engine.now_s + self.delays(side, number)
            self.engine.at(at_s, self._arrive, (RIGHT if side == LEFT else LEFT, segment))

    def _arrive(self, arrival):
        side, segment = arrival
        end = self.ends[side]
        if end.state is State.CLOSED and end is self.right and not end.rcv_nxt:
            end.accept(segment)
        else:
            end.receive(segment)

    def run(self, seconds=3600.0):
        """Connect, and let that much time pass."""
        self.left.connect()
        self.engine.run(seconds)
        return self

    def times(self, side, *, flags=None, length=None):
        """When a side sent what is like that."""
        return [
            when_s
            for when_s, segment, _ in self.sent[side]
            if (flags is None or segment.flags == flags) and (length is None or segment.length == length)
        ]
