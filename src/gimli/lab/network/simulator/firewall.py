"""What has every firewall, whatever filters on it? One of a pair, with a CPU that takes one packet at a time.

    NIC -> wait for the CPU -> the model's filter -> route -> NIC

What comes between, and who is MASTER, is the model's: ``pf_firewall`` or ``linux``.
"""

from __future__ import annotations

from heapq import heappush
from typing import TYPE_CHECKING, Protocol

from gimli.lab.network.simulator.host import Host

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from gimli.lab.network import topology
    from gimli.lab.network.simulator.engine import Engine
    from gimli.lab.network.simulator.frames import Frame
    from gimli.lab.network.simulator.host import Nic
    from gimli.lab.network.simulator.recorder import Recorder

QUEUE_MAX = 256
"""Packets that wait for the CPU: net.inet.ip.ifq.maxlen of OpenBSD; Linux takes a thousand."""


class Seat(Protocol):
    """A virtual address that a firewall may have."""

    @property
    def nic(self) -> Nic:
        """Where it is."""

    @property
    def address(self) -> str:
        """It."""

    @property
    def mac(self) -> int:
        """Its group's."""

    @property
    def is_master(self) -> bool:
        """Whether the firewall answers for it."""


class Firewall(Host):
    """One firewall.

    Args:
        engine: whose time it lives in.
        config: what it is.
        tcp: of its own stack, which nobody talks to.
        chance: of its own.
        recorder: is told what happens.
        cpu_s: what one packet costs.
        queue_max: how many packets may wait for the CPU.

    Attributes:
        overrun: packets dropped because too many waited for the CPU.
    """

    def __init__(
        self,
        engine: Engine,
        config: topology.Firewall,
        tcp: topology.Tcp,
        chance: Random,
        recorder: Recorder,
        cpu_s: float,
        queue_max: int = QUEUE_MAX,
    ) -> None:
        super().__init__(engine, config.name, tcp, chance, recorder)
        self.overrun = 0
        self.seats: Sequence[Seat] = ()
        self._down: set[str] = set()
        self.sync_nic: Nic | None = None
        self._cpu_s = cpu_s
        self._queue_max = queue_max
        self._busy_s = 0.0
        self._waiting_packets = 0

    # What a model says.

    @property
    def is_master(self) -> bool:
        """Whether it has any virtual address."""
        raise NotImplementedError

    def start(self) -> None:
        """Take part in the election."""
        raise NotImplementedError

    def link_changed(self, nic: Nic, *, is_up: bool) -> None:
        """The NIC sees that its cable is dead, or back."""
        if is_up:
            self._down.discard(nic.name)
        else:
            self._down.add(nic.name)

    def power(self, *, is_on: bool) -> None:
        """Off: it forgets everything. On: it begins anew."""
        raise NotImplementedError

    def hang(self, *, is_hung: bool) -> None:
        """What elects stands still, or goes on; of a kernel that does both there is no such thing."""
        raise NotImplementedError

    def take(self, nic: Nic, frame: Frame) -> None:
        """It has the CPU: what becomes of a frame."""
        raise NotImplementedError

    # The same for all.

    def mac_of(self, nic: Nic, address: str) -> int | None:
        """A virtual address is at its group's MAC, where this host answers for it."""
        for seat in self.seats:
            if seat.address == address and seat.nic is nic:
                return seat.mac if seat.is_master else None
        return super().mac_of(nic, address)

    def _side_of(self, address: str) -> str:
        return self.route(address)[0].name

    # The CPU.

    def await_cpu(self, nic: Nic, frame: Frame) -> None:
        """A frame is taken when those before it have been."""
        engine = self.engine
        if self._busy_s <= engine.now_s:
            self._busy_s = engine.now_s + self._cpu_s
            self.take(nic, frame)
        elif self._waiting_packets < self._queue_max:
            self._waiting_packets += 1
            heappush(engine.heap, (self._busy_s, next(engine.order), self._take_queued, (nic, frame)))
            self._busy_s += self._cpu_s
        else:
            self.overrun += 1

    def _take_queued(self, entry: tuple[Nic, Frame]) -> None:
        self._waiting_packets -= 1
        if self.is_on:
            self.take(*entry)
