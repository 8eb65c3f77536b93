"""Which of the balancers answers? Every one sees every frame to their group MAC; one takes it.

A new connection from outside is whose number the hash of its sender is; a connection of a balancer's own is
whose range its port is in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

from gimli.lab.network.simulator.frames import Arp, Segment
from gimli.lab.network.simulator.host import Host, Nic

if TYPE_CHECKING:
    from random import Random

    from gimli.lab.network import topology
    from gimli.lab.network.simulator.engine import Engine
    from gimli.lab.network.simulator.frames import Flow, Frame
    from gimli.lab.network.simulator.recorder import Recorder

FIRST_PORT = 20_000
PORTS = 10_000
"""Of each balancer, from ``FIRST_PORT`` on."""


class Balancer(Host):
    """One of them.

    Args:
        engine: whose time it lives in.
        config: what it is.
        tcp: its stack.
        chance: for its sequence numbers.
        recorder: is told of resets.
    """

    def __init__(
        self,
        engine: Engine,
        config: topology.Balancer,
        tcp: topology.Tcp,
        chance: Random,
        recorder: Recorder,
    ) -> None:
        super().__init__(engine, config.name, tcp, chance, recorder)
        self.config = config
        self.addresses.add(config.address)
        self._port = 0

    def receive(self, nic: Nic, frame: Frame) -> None:
        """A frame came in: ours, or another balancer's."""
        packet = frame.packet
        if type(packet) is Segment:
            flow = packet.flow
            end = self._ends.get(flow)
            if end is not None:
                if self.is_on:
                    end.receive(packet)
            elif self._is_ours(flow):
                super().receive(nic, frame)
        elif type(packet) is Arp:
            super().receive(nic, frame)

    def next_port(self) -> int:
        """For a connection of its own."""
        self._port = (self._port + 1) % PORTS
        return FIRST_PORT + PORTS * self.config.share + self._port

    def _is_ours(self, flow: Flow) -> bool:
        if flow.dport >= FIRST_PORT:
            return (flow.dport - FIRST_PORT) // PORTS == self.config.share
        return crc32(f"{flow.src}:{flow.sport}".encode()) % self.config.shares == self.config.share
