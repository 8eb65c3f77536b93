"""What does an OpenBSD firewall do with a frame? One of a pair, with pf, pfsync and CARP.

    NIC -> guard -> [pf in -> route -> pf out -> NIC]

The part in brackets is gone through 1 + N times for a frame to a group MAC, N being the CARP interfaces of
the NIC. pf comes before the question whether the packet is to be forwarded at all: from 4.7 on a frame to a
group MAC is not, but pf has seen it, and has moved the state on that pfsync had brought.

Source: ether_input(), carp_input() and ipv4_input() of OpenBSD 4.4 to 5.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.lab.network.simulator.firewall import Firewall
from gimli.lab.network.simulator.frames import GROUP_BIT, IP_GROUP_MAC, TTL, Arp, Carp, Frame, Segment
from gimli.lab.network.simulator.packet_filter import PacketFilter
from gimli.lab.network.simulator.pfsync import Queue, Sync

if TYPE_CHECKING:
    from random import Random

    from gimli.lab.network import topology
    from gimli.lab.network.simulator.carp import Seat
    from gimli.lab.network.simulator.engine import Engine
    from gimli.lab.network.simulator.host import Nic
    from gimli.lab.network.simulator.recorder import Recorder

_SYNC_MAC = 0x01005E0000F0
"""Of 224.0.0.240, to which pfsync talks."""


class PfFirewall(Firewall):
    """One firewall.

    Args:
        engine: whose time it lives in.
        config: what it is.
        tcp: of its own stack, which nobody talks to.
        index: its number among the firewalls; states are numbered from it.
        chance: for its clock.
        recorder: is told what happens.
    """

    def __init__(
        self,
        engine: Engine,
        config: topology.Firewall,
        tcp: topology.Tcp,
        index: int,
        chance: Random,
        recorder: Recorder,
    ) -> None:
        pf = config.pf
        super().__init__(engine, config, tcp, chance, recorder, pf.cpu_s)
        self.seats: list[Seat] = []
        self.queue = Queue(engine, self.name, pf.tick_s, chance.random(), self._send_sync)
        queue = self.queue if config.sync else None
        self.filter = PacketFilter(
            engine, self.name, pf, index, queue, self._side_of, self._send_own, recorder
        )
        self._has_guard = config.is_guarded
        self._is_forwarding_groups = pf.is_forwarding_groups
        self._carps: dict[str, int] = {}

    # Wiring.

    def add_seat(self, seat: Seat) -> None:
        """Give it a virtual address."""
        self.seats.append(seat)
        self._carps[seat.nic.name] = self._carps.get(seat.nic.name, 0) + 1

    def start(self) -> None:
        """Take part in the election."""
        for seat in self.seats:
            seat.enable()

    @property
    def is_master(self) -> bool:
        """Whether it has any virtual address."""
        return any(seat.is_master for seat in self.seats)

    # Faults.

    def link_changed(self, nic: Nic, *, is_up: bool) -> None:
        """The NIC sees that its cable is dead, or back. The other groups go where this one goes."""
        super().link_changed(nic, is_up=is_up)
        for seat in self.seats:
            if seat.nic is nic:
                if is_up:
                    seat.enable()
                else:
                    seat.disable("no link")
        total = len({seat.nic.name for seat in self.seats} & self._down)
        for seat in self.seats:
            seat.demote(total, "another group has no link" if total else "")

    def power(self, *, is_on: bool) -> None:
        """Off: it forgets everything. On: it begins anew."""
        self.is_on = is_on
        if is_on:
            self.start()
            return
        for seat in self.seats:
            seat.disable("off")
        self.filter.clear()
        self._paths.clear()

    # Frames in.

    def receive(self, nic: Nic, frame: Frame) -> None:
        """A frame came in. What is for IP waits for the CPU, one packet after another."""
        if not self.is_on:
            return
        packet = frame.packet
        kind = type(packet)
        if kind is Segment or kind is Sync:
            if kind is Segment and frame.dst & GROUP_BIT and self._has_guard:
                self.recorder.count(self.recorder.guarded, self.name)
                return
            self.await_cpu(nic, frame)
        elif type(packet) is Carp:
            for seat in self.seats:
                if seat.nic is nic:
                    seat.hear(packet.heard)
        elif type(packet) is Arp:
            self.hear_arp(nic, packet)

    def take(self, nic: Nic, frame: Frame) -> None:
        """Packets of IP have the CPU."""
        packet = frame.packet
        if type(packet) is Sync:
            if nic is self.sync_nic:
                self.filter.merge_all(packet)
        elif type(packet) is Segment:
            if frame.dst & GROUP_BIT:
                self._input_copies(nic, packet, frame.ttl)
            else:
                segment = self.filter.incoming(nic.name, packet, is_copy=False)
                if segment is not None:
                    self._forward(segment, frame.ttl, is_copy=False)
        if not self._waiting_packets:
            # netintr(): pfsync has its turn when the queue of IP is empty.
            self.queue.settle()

    def _input_copies(self, nic: Nic, packet: Segment, ttl: int) -> None:
        self.recorder.count(self.recorder.copies, self.name)
        for _ in range(1 + self._carps.get(nic.name, 0)):
            segment = self.filter.incoming(nic.name, packet, is_copy=True)
            if segment is not None and self._is_forwarding_groups:
                self._forward(segment, ttl, is_copy=True)

    # Packets out.

    def _forward(self, segment: Segment, ttl: int, *, is_copy: bool) -> None:
        dst = segment.flow.dst
        if dst in self.addresses:
            return
        if ttl <= 1:
            self.recorder.count(self.recorder.ttl_ended, self.name)
            return
        nic, _ = self.route(dst)
        out = self.filter.outgoing(nic.name, segment)
        if out is None:
            return
        if not self.is_master:
            self.recorder.count(self.recorder.forwarded, self.name)
        if is_copy:
            # ip_output() takes a packet that came to a group MAC for one to a group.
            self.recorder.count(self.recorder.forwarded_groups, self.name)
            nic.lane.send(Frame(_group_mac(dst), nic.mac, out, ttl - 1), self._cpu_s)
        else:
            self.send_packet(dst, out, ttl - 1, self._cpu_s)

    def _send_own(self, segment: Segment) -> None:
        self.send_packet(segment.flow.dst, segment, TTL, self._cpu_s)

    def _send_sync(self, sync: Sync) -> None:
        assert self.sync_nic is not None
        if self.recorder.traced:
            for update in sync.updates:
                self.recorder.updated(self.name, update, is_master=self.is_master)
        self.sync_nic.lane.send(Frame(_SYNC_MAC, self.sync_nic.mac, sync), self._cpu_s)


def _group_mac(address: str) -> int:
    """ETHER_MAP_IP_MULTICAST."""
    _, b, c, d = map(int, address.split("."))
    return IP_GROUP_MAC | (b & 127) << 16 | c << 8 | d
