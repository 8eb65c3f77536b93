"""How does a frame get from one end of a cable to the other?

A cable is two lanes, one per direction. A lane sends one frame after another at its rate, then each takes the
latency. What it may do to frames beside that (lose, double, overtake, delay) is drawn from its own chance; an
undisturbed lane draws nothing.
"""

from __future__ import annotations

from heapq import heappush
from typing import TYPE_CHECKING

from gimli.lab.network.simulator.frames import GROUP_BIT

if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from random import Random

    from gimli.lab.network.simulator.engine import Engine
    from gimli.lab.network.simulator.frames import Frame
    from gimli.lab.network.topology import Link

_BITS_PER_BYTE = 8


class Lane:
    """One direction of a cable.

    Args:
        engine: whose time it lives in.
        link: what it is like.
        chance: for what it does to frames.
        deliver: called with each frame that arrives.

    Attributes:
        accepts: the MACs that the NIC at its end takes; None for a switch's port, which takes all. Asked when
            a frame is sent, so that what a NIC would not take costs no event.
        accepts_groups: whether that NIC takes every group MAC.
        sent: frames that were put on it, and those of them that were lost, in either way.
    """

    __slots__ = (
        "_backlog_s",
        "_chance",
        "_cuts",
        "_engine",
        "_free_s",
        "_is_disturbed",
        "_last_s",
        "_latency_s",
        "_link",
        "_s_per_byte",
        "accepts",
        "accepts_groups",
        "deliver",
        "lost",
        "sent",
    )

    def __init__(self, engine: Engine, link: Link, chance: Random, deliver: Callable[[Frame], None]) -> None:
        self._engine = engine
        self._chance = chance
        self._free_s = 0.0
        self._last_s = 0.0
        self.deliver = deliver
        self.accepts: Container[int] | None = None
        self.accepts_groups = False
        self._cuts: set[str] = set()
        self.sent = 0
        self.lost = 0
        self.set_link(link)

    @property
    def link(self) -> Link:
        """What it is like now."""
        return self._link

    def set_link(self, link: Link) -> None:
        """Let it be like that from now on."""
        self._link = link
        self._s_per_byte = _BITS_PER_BYTE / (link.rate_mbit * 1e6)
        self._latency_s = link.latency_s
        self._backlog_s = link.queue_bytes * self._s_per_byte
        self._look()

    def cut(self, mark: str) -> None:
        """Let nothing through until this mark, and every other one, is taken off again."""
        self._cuts.add(mark)
        self._look()

    def mend(self, mark: str) -> None:
        """Take a mark off."""
        self._cuts.discard(mark)
        self._look()

    def _look(self) -> None:
        link = self._link
        self._is_disturbed = bool(self._cuts or link.jitter_s or link.loss or link.duplicate or link.reorder)

    def send(self, frame: Frame, after_s: float = 0.0) -> None:
        """Put a frame on it, ``after_s`` from now; what is sent later may not be sent earlier."""
        self.sent += 1
        engine = self._engine
        now_s = engine.now_s + after_s
        begins_s = self._free_s
        if begins_s < now_s:
            begins_s = now_s
        elif begins_s - now_s > self._backlog_s:
            self.lost += 1
            return
        self._free_s = free_s = begins_s + frame.packet.bytes * self._s_per_byte
        accepts = self.accepts
        if accepts is not None:
            dst = frame.dst
            if dst not in accepts and not (self.accepts_groups and dst & GROUP_BIT):
                return
        if self._is_disturbed:
            self._send_disturbed(frame, free_s)
        else:
            heappush(engine.heap, (free_s + self._latency_s, next(engine.order), self.deliver, frame))

    def _send_disturbed(self, frame: Frame, free_s: float) -> None:
        link, chance, engine = self._link, self._chance, self._engine
        if self._cuts:
            self.lost += 1
            return
        if link.loss and chance.random() < link.loss:
            self.lost += 1
            return
        copies = 2 if link.duplicate and chance.random() < link.duplicate else 1
        for _ in range(copies):
            arrives_s = free_s + link.latency_s
            if link.jitter_s:
                # Order is kept: a queue somewhere on the way is longer or shorter.
                arrives_s = max(self._last_s, arrives_s + link.jitter_s * chance.random())
                self._last_s = arrives_s
            if link.reorder and chance.random() < link.reorder:
                arrives_s += link.reorder_s * chance.random()
            engine.at(arrives_s, self.deliver, frame)
