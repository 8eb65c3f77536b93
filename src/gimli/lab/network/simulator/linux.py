"""What does a Linux firewall do with a frame? One of a pair, with connection tracking and ``gimli pair``.

    NIC -> lease, guard -> connection tracking -> is it for this host? -> rules -> route -> NIC

Connection tracking comes before the question whether a packet is to be forwarded. That of a frame to a group
MAC is not, by any release, but it has been tracked. So the guard stands before both, at the first hook.

A frame for a virtual address passes only while the lease is held, whoever answers for the address.

Source: ip_rcv(), ip_forward() of Linux 6.x, which drops what is not PACKET_HOST, and net/netfilter. The
NIC takes every group MAC, as that of a virtual machine or a bridge's port does; one that filters them sees
fewer copies.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gimli.lab.network.simulator.conntrack_table import ConntrackTable
from gimli.lab.network.simulator.daemon import Daemon
from gimli.lab.network.simulator.fence import Fence
from gimli.lab.network.simulator.firewall import Firewall
from gimli.lab.network.simulator.frames import (
    BROADCAST,
    CARP_GROUP_MAC,
    GROUP_BIT,
    Arp,
    Frame,
    Packed,
    Segment,
)
from gimli.lab.network.simulator.packet_filter import translated
from gimli.pair.packet import virtual_mac

if TYPE_CHECKING:
    from random import Random

    from gimli.lab.network import topology
    from gimli.lab.network.simulator.engine import Engine
    from gimli.lab.network.simulator.flows import Flows
    from gimli.lab.network.simulator.host import Nic
    from gimli.lab.network.simulator.recorder import Recorder

BACKLOG_MAX = 1000
"""Packets that wait for the CPU: net.core.netdev_max_backlog."""


@dataclass(slots=True)
class Seat:
    """One virtual address.

    Args:
        vhid: its group.
        nic: where it is.
        address: the address.
        mac: the virtual one.
        has_address: it is on an interface of this host.
        is_master: it answers for the address.
    """

    vhid: int
    nic: Nic
    address: str
    mac: int
    has_address: bool = False
    is_master: bool = False


class LinuxFirewall(Firewall):
    """One firewall.

    Args:
        engine: whose time it lives in.
        config: what it is.
        tcp: of its own stack, which nobody talks to.
        chance: for its daemon.
        recorder: is told what happens.
        flows: of the whole network.
        peer: the other one's address on the sync link; empty where there is none.
    """

    def __init__(
        self,
        engine: Engine,
        config: topology.Firewall,
        tcp: topology.Tcp,
        chance: Random,
        recorder: Recorder,
        flows: Flows,
        peer: str,
    ) -> None:
        super().__init__(engine, config, tcp, chance, recorder, config.linux.cpu_s, BACKLOG_MAX)
        self._config = config
        self._peer = peer
        self._has_guard = config.is_guarded
        self._leading = config.carp[0].vhid if config.carp else 0
        self._is_master = False
        self._epoch = 0
        self._daemon: Daemon | None = None
        self.seats: list[Seat] = []
        self._by_mac: dict[int, Seat] = {}
        self.fence = Fence(engine, self._look_at_roles)
        self.table = ConntrackTable(engine, self.name, config.linux, flows, self._side_of, recorder)

    def start(self) -> None:
        """Take part in the election."""
        if not self.seats:
            self.seats = [
                Seat(carp.vhid, self.nics[carp.interface], carp.address, _mac_of(carp.vhid))
                for carp in self._config.carp
            ]
            self._by_mac = {seat.mac: seat for seat in self.seats}
        self._daemon = Daemon(self.engine, self, self._config, self._peer, self._chance, self._epoch)
        self._daemon.begin()

    @property
    def is_master(self) -> bool:
        """Whether it answers for any virtual address."""
        return self._is_master

    # Faults.

    def link_changed(self, nic: Nic, *, is_up: bool) -> None:
        """The NIC sees that its cable is dead, or back: the daemon is told."""
        super().link_changed(nic, is_up=is_up)
        if self._daemon is not None:
            self._daemon.links_changed()

    def power(self, *, is_on: bool) -> None:
        """Off: what the kernel knows is gone. On: it boots."""
        self.is_on = is_on
        if is_on:
            self.start()
            return
        if self._daemon is not None:
            self._daemon.end()
        self._daemon = None
        for seat in self.seats:
            self._give(seat, present=False)
        self.fence.clear()
        self.table.clear()
        self._paths.clear()

    def hang(self, *, is_hung: bool) -> None:
        """The daemon stands still, or goes on. The kernel does what it did."""
        if self._daemon is None:
            return
        if is_hung:
            self._daemon.loop.is_hung = True
        else:
            self._daemon.loop.go_on()

    # Frames.

    def receive(self, nic: Nic, frame: Frame) -> None:
        """A frame came in."""
        if not self.is_on:
            return
        packet = frame.packet
        kind = type(packet)
        if kind is Segment:
            dst = frame.dst
            if dst & GROUP_BIT:
                if self._has_guard and not self.fence.holds(self._leading):
                    self.recorder.count(self.recorder.guarded, self.name)
                    return
            elif dst != nic.mac and not self._answers_at(dst):
                self.recorder.count(self.recorder.fenced, self.name)
                return
            self.await_cpu(nic, frame)
        elif type(packet) is Packed:
            if self._daemon is None:
                return
            if packet.is_carp:
                self._daemon.heard(nic.name, packet.data)
            elif nic is self.sync_nic:
                self._daemon.received(packet.data)
        elif type(packet) is Arp:
            self.hear_arp(nic, packet)

    def take(self, nic: Nic, frame: Frame) -> None:
        """It has the CPU: its packet is tracked, and forwarded if the frame was for this host."""
        segment = frame.packet
        assert type(segment) is Segment
        if frame.dst & GROUP_BIT:
            self.recorder.count(self.recorder.copies, self.name)
            self.table.look_at(nic.name, segment)
            return
        flow = self.table.passes(nic.name, segment)
        if flow is not None:
            self._forward(segment if flow is segment.flow else translated(segment, flow), frame.ttl)

    def _forward(self, segment: Segment, ttl: int) -> None:
        dst = segment.flow.dst
        if dst in self.addresses:
            return
        if ttl <= 1:
            self.recorder.count(self.recorder.ttl_ended, self.name)
            return
        if not self._is_master:
            self.recorder.count(self.recorder.forwarded, self.name)
        self.send_packet(dst, segment, ttl - 1, self._cpu_s)

    def _answers_at(self, mac: int) -> bool:
        seat = self._by_mac.get(mac)
        return seat is not None and self.fence.holds(seat.vhid)

    # What its daemon has the kernel do.

    def send_carp(self, vhid: int, ip_packet: bytes) -> OSError | None:
        """Send a packet of CARP with the virtual MAC; why it did not go out."""
        seat = self._seat(vhid)
        if seat.nic.name in self._down:
            return OSError(errno.ENETDOWN, "Network is down")
        if not self.fence.holds(vhid):
            return OSError(errno.ENOBUFS, "No buffer space available")
        seat.nic.lane.send(Frame(CARP_GROUP_MAC, seat.mac, Packed(ip_packet, is_carp=True)))
        return None

    def send_datagram(self, datagram: bytes) -> None:
        """Send a datagram to the peer."""
        self.send_packet(self._peer, Packed(datagram, is_carp=False))

    def give_address(self, vhid: int, *, present: bool) -> None:
        """Have the address of a vhid, or have it no more."""
        self._give(self._seat(vhid), present=present)

    def announce(self, vhid: int) -> None:
        """Tell the link where the address is."""
        seat = self._seat(vhid)
        if self.fence.holds(vhid):
            unasked = Arp(seat.address, seat.mac, seat.address, is_request=True)
            seat.nic.lane.send(Frame(BROADCAST, seat.mac, unasked))

    def obstacle(self, interface: str) -> str:
        """Why a link is of no use; empty where it is of use."""
        return f"{interface}: it has no carrier" if interface in self._down else ""

    def tell(self, event: str, details: dict[str, Any]) -> None:
        """For the journal."""
        if event == "role":
            words = f"vhid {details['vhid']} {details['role']}: {details['why']}"
        else:
            told = (f"{name} {item}" for name, item in details.items() if item != "")
            words = ", ".join((event.replace("-", " "), *told))
        self.recorder.tell(self.name, "role" if event == "role" else "pair", words)

    def remember(self, epoch: int) -> None:
        """On the disk."""
        self._epoch = epoch

    def _seat(self, vhid: int) -> Seat:
        return next(seat for seat in self.seats if seat.vhid == vhid)

    def _give(self, seat: Seat, *, present: bool) -> None:
        seat.has_address = present
        if present:
            seat.nic.accepts.add(seat.mac)
        else:
            seat.nic.accepts.discard(seat.mac)
        self._look_at_roles()

    def _look_at_roles(self) -> None:
        """Who has an address and the lease is MASTER, whatever its daemon believes."""
        for seat in self.seats:
            holds = self.fence.holds(seat.vhid)
            is_master = seat.has_address and holds
            if is_master == seat.is_master:
                continue
            seat.is_master = is_master
            self.recorder.role_changed(seat.vhid, self.name, is_master=is_master)
            if seat.has_address and not holds and self.is_on:
                words = f"vhid {seat.vhid}: the lease is over, the kernel drops its frames"
                self.recorder.tell(self.name, "lease", words)
        self._is_master = any(seat.is_master for seat in self.seats)


def _mac_of(vhid: int) -> int:
    return int.from_bytes(virtual_mac(vhid), "big")
