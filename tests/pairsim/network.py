"""What becomes of a frame or a datagram on its way to the other host?"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pairsim.machine import Machine
    from pairsim.world import World

_REMEMBERED = 300


@dataclass(slots=True)
class Direction:
    """One way over a link.

    Args:
        delay_s: that everything takes.
        loss: probability that it is lost.
        jitter_s: more delay, up to that: things overtake each other.
        copies: probability that it comes twice.
        is_cut: nothing passes.
    """

    delay_s: float
    loss: float = 0.0
    jitter_s: float = 0.0
    copies: float = 0.0
    is_cut: bool = False

    @property
    def is_sound(self) -> bool:
        """Whether everything passes, soon."""
        return not (self.is_cut or self.loss or self.jitter_s > 0.01)


class Link:
    """A link between the two hosts.

    Args:
        world: whose chance decides.
        name: of the interface at both ends.
        machines: the ends.
        delay_s: one way.
    """

    def __init__(self, world: World, name: str, machines: tuple[Machine, Machine], delay_s: float) -> None:
        self._world = world
        self.name = name
        self._machines = machines
        self.is_bad = False
        """It always loses something, and brings something late and twice."""
        self.directions = {machine.name: Direction(delay_s) for machine in machines}
        """By the sender's name."""
        self.remembered: deque[bytes] = deque(maxlen=_REMEMBERED)
        """By somebody who listens, and may send it again."""

    @property
    def is_sound(self) -> bool:
        """Whether both hosts can hear each other by it."""
        return all(each.is_sound for each in self.directions.values()) and all(
            machine.links[self.name] for machine in self._machines
        )

    def mend(self) -> None:
        """Nothing is lost any more, but what always was."""
        for name, each in self.directions.items():
            self.directions[name] = Direction(each.delay_s)
            if self.is_bad:
                self.directions[name] = Direction(each.delay_s, loss=0.1, jitter_s=0.02, copies=0.1)

    def send(self, sender: Machine, data: bytes) -> None:
        """From one host to the other."""
        world, way = self._world, self.directions[sender.name]
        self.remembered.append(data)
        if way.is_cut or (way.loss and world.likely(way.loss)):
            return
        receiver = self._machines[sender is self._machines[0]]
        for _ in range(2 if way.copies and world.likely(way.copies) else 1):
            delay_s = way.delay_s + (world.between(0, way.jitter_s) if way.jitter_s else 0.0)
            world.after(delay_s, self.name, lambda: self.deliver(receiver, data))

    def deliver(self, receiver: Machine, data: bytes) -> None:
        """It has arrived."""
        process = receiver.process
        if process and receiver.links[self.name] and (inbox := process.inboxes.get(self.name)):
            inbox.put(data)
