"""What runs on a firewall with pf? The simulator's pf and pfsync, deciding about the kernel's packets.

    NFQUEUE (before routing) -> pf in -> pf out of the side where it is going -> on, or dropped
    the other firewall's datagrams on the sync cable -> merge
    the model's timers -> datagrams on the sync cable

The kernel routes and forwards. A frame to a group MAC has been marked by nft before we see its packet: pf
sees it 1 + N times, and from OpenBSD 4.7 on it ends here. Where pf translates, the kernel does, behind us.

The way to the internet has its latency here: this kernel may have no netem.
"""

from __future__ import annotations

import random
import select
import socket
import sys
import time
from ipaddress import ip_address, ip_interface
from typing import TYPE_CHECKING

from gimli.lab.network import topology as model
from gimli.lab.network.real import station, wire
from gimli.lab.network.real.elector import Elector
from gimli.lab.network.real.nfqueue import PacketQueue
from gimli.lab.network.real.rules import GROUP_MARK, QUEUE
from gimli.lab.network.real.station import Order
from gimli.lab.network.simulator.engine import Engine
from gimli.lab.network.simulator.packet_filter import PacketFilter
from gimli.lab.network.simulator.pfsync import Queue
from gimli.lab.network.simulator.recorder import Recorder

if TYPE_CHECKING:
    from gimli.lab.network.real.nfqueue import Queued
    from gimli.lab.network.simulator.frames import Flow, Segment
    from gimli.lab.network.simulator.pfsync import Sync

SYNC_PORT = 240
_DATAGRAM_BYTES = 65_536
_IDLE_S = 0.5
_TOLD_LATE_S = 0.1
"""How late the daemon's word of a new role may come, at most; packets come as soon as it has the address."""


class _Everything(frozenset[int]):
    """Every connection is traced: a real run cannot be repeated to ask for one of them."""

    def __contains__(self, _: object) -> bool:
        return True

    def __bool__(self) -> bool:
        return True


class Firewall:
    """One firewall's filter.

    Args:
        part: what it is to play.
        config: what it is.
        queue: of the kernel's packets.
        elector: says whether it is MASTER.
    """

    def __init__(
        self, part: station.Part, config: model.Firewall, queue: PacketQueue, elector: Elector
    ) -> None:
        self._name = config.name
        self._packets = queue
        self._elector = elector
        self._engine = Engine()
        self._recorder = Recorder(self._engine, _Everything())
        self._flows = wire.Flows(part.topology.traffic)
        self._known: set[int] = set()
        self._verdicts: list[tuple[int, bool]] = []
        self._is_on = True
        self._as_backup_s: list[float] = []
        """When something was passed on by a firewall that was not MASTER, as far as was known then."""
        self._events = 0
        self._sync_lost = 0
        self._is_forwarding_groups = config.pf.is_forwarding_groups
        self._sides = [(ip_interface(each.address).network, each.name) for each in config.interfaces]
        self._side_by_address: dict[str, str] = {}
        self._outside = ""
        self._outside = self._side_of(config.gateway)
        self._side_by_address.clear()
        self._latency_s = _latency_to_clients(part.topology)
        self._side_by_device = {each.name: each.name for each in config.interfaces}
        self._side_by_device |= {f"carp{carp.vhid}": carp.interface for carp in config.carp}
        self._side_by_index: dict[int, str] = {}
        self._carps = {
            each.name: sum(carp.interface == each.name for carp in config.carp) for each in config.interfaces
        }
        chance = random.Random(f"{part.seed}/{config.name}")  # noqa: S311 - repeatable, not secret
        index = part.topology.firewalls.index(config)
        self._sync = _sync_socket(part.topology, config)
        self._queue = Queue(self._engine, config.name, config.pf.tick_s, chance.random(), self._send_sync)
        self._filter = PacketFilter(
            self._engine,
            config.name,
            config.pf,
            index,
            self._queue if config.sync else None,
            self._side_of,
            _no_answer,
            self._recorder,
        )

    def run(self, began_s: float) -> station.Findings:
        """Play until our input ends."""
        own = [sys.stdin.fileno(), self._packets.fileno(), *([self._sync] if self._sync else [])]
        while True:
            watched = [*own, *self._elector.watched()]
            due_s = self._engine.heap[0][0] if self._engine.heap else _IDLE_S
            waits_s = min(max(due_s - (time.monotonic() - began_s), 0.0), _IDLE_S)
            ready, _, _ = select.select(watched, [], [], waits_s)
            self._engine.run(time.monotonic() - began_s)
            if not set(ready) <= set(own):
                self._elector.look()
            if sys.stdin.fileno() in ready:
                orders = station.orders()
                if not orders:
                    break
                for order in orders:
                    self._obey(order)
            for packet in self._packets.read():
                self._receive(packet)
            if self._sync is not None:
                self._receive_sync(self._sync)
            self._queue.settle()
            self._decide()
        return self._findings(began_s)

    def _obey(self, order: Order) -> None:
        self._elector.obey(order)
        if order is Order.OFF:
            self._filter.clear()
        if order in {Order.OFF, Order.ON}:
            self._is_on = order is Order.ON
        station.say_done()

    def _decide(self) -> None:
        self._packets.decide(self._verdicts)
        self._verdicts.clear()

    # Packets of the kernel.

    def _receive(self, packet: Queued) -> None:
        side = self._side_of_device(packet.interface)
        if side == self._outside and self._latency_s:
            self._engine.at(self._engine.now_s + self._latency_s, self._judge_late, (packet, side))
        else:
            self._judge(packet, side)

    def _judge_late(self, entry: tuple[Queued, str]) -> None:
        self._judge(*entry)

    def _judge(self, packet: Queued, side: str) -> None:
        self._events += 1
        segment = self._flows.parse(packet.payload)
        if segment is None or not self._is_on:
            self._verdicts.append((packet.number, self._is_on))
            return
        self._know(segment.flow)
        is_copy = packet.mark == GROUP_MARK
        through = self._judge_copies(side, segment) if is_copy else self._passes(side, segment)
        goes_to = self._side_of(through.flow.dst) if through is not None else ""
        if goes_to == self._outside and self._latency_s:
            self._engine.at(self._engine.now_s + self._latency_s, self._pass, packet.number)
        else:
            self._verdicts.append((packet.number, bool(goes_to)))

    def _pass(self, number: int) -> None:
        self._verdicts.append((number, True))

    def _passes(self, side: str, segment: Segment) -> Segment | None:
        """In, and out of the other side."""
        through = self._filter.incoming(side, segment, is_copy=False)
        return through if through is not None and self._goes_out(through) else None

    def _judge_copies(self, side: str, segment: Segment) -> Segment | None:
        """Of the passes that let it through one goes on: the kernel has one packet to decide about."""
        recorder = self._recorder
        recorder.count(recorder.copies, self._name)
        passed: Segment | None = None
        for _ in range(1 + self._carps.get(side, 0)):
            through = self._filter.incoming(side, segment, is_copy=True)
            if through is not None and self._is_forwarding_groups and self._goes_out(through):
                recorder.count(recorder.forwarded_groups, self._name)
                passed = through
        return passed

    def _goes_out(self, segment: Segment) -> bool:
        if self._filter.outgoing(self._side_of(segment.flow.dst), segment) is None:
            return False
        if not self._elector.is_master:
            self._as_backup_s.append(self._engine.now_s)
        return True

    def _know(self, flow: Flow) -> None:
        """What is dropped of a connection is told of its fate."""
        if flow.connection not in self._known:
            self._known.add(flow.connection)
            is_answer = flow.sport < flow.dport
            opener = flow.reverse if is_answer else flow
            self._recorder.opened(opener, is_backend=wire.is_backend(flow.connection))

    def _side_of_device(self, index: int) -> str:
        """By which side a packet came: frames for a virtual MAC come by a device of that MAC's own."""
        side = self._side_by_index.get(index)
        if side is None:
            try:
                name = socket.if_indextoname(index)
            except OSError:
                return ""  # it is gone, with a daemon that was
            side = self._side_by_index[index] = self._side_by_device.get(name, "")
        return side

    def _side_of(self, address: str) -> str:
        side = self._side_by_address.get(address)
        if side is None:
            there = ip_address(address)
            side = next((side for network, side in self._sides if there in network), self._outside)
            self._side_by_address[address] = side
        return side

    # The other firewall.

    def _send_sync(self, sync: Sync) -> None:
        for update in sync.updates:
            self._recorder.updated(self._name, update, is_master=self._elector.is_master)
        if self._sync is not None:
            try:
                self._sync.send(wire.pack(sync))
            except OSError:
                self._sync_lost += 1  # the cable is out, or nobody is there; pfsync does not try again either

    def _receive_sync(self, sync: socket.socket) -> None:
        while True:
            try:
                data = sync.recv(_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue  # what a send has met with: it was counted there
            self._filter.merge_all(wire.unpack(data, self._flows))

    # The end.

    def _findings(self, began_s: float) -> station.Findings:
        recorder = self._recorder
        counts = {what: by_host.get(self._name, 0) for what, by_host in recorder.counts.items()}
        mastered_s = [change.at_s - began_s for change in self._elector.changes if change.is_master]
        counts["forwarded"] = sum(
            all(abs(at_s - since_s) >= _TOLD_LATE_S for since_s in mastered_s) for at_s in self._as_backup_s
        )
        return station.Findings(
            log=recorder.log,
            fates=list(recorder.fates.values()),
            counts=counts | {"sync_lost": self._sync_lost},
            roles=self._elector.changes,
            back_most=recorder.back_most,
            events=self._events,
            overrun=self._packets.lost,
        )


def main(part: station.Part, config: model.Firewall) -> None:
    """Play a firewall."""
    queue = PacketQueue(QUEUE, wire.HEADERS_BYTES)
    elector = Elector(part.topology, config)
    try:
        firewall = Firewall(part, config, queue, elector)
        station.give(firewall.run(station.wait_for_begin()))
    finally:
        elector.close()


def _latency_to_clients(topology: model.Topology) -> float:
    clients = [host.interface.link for host in topology.hosts if isinstance(host, model.Client)]
    return max((link.latency_s for link in clients), default=0.0)


def _sync_socket(topology: model.Topology, config: model.Firewall) -> socket.socket | None:
    if not config.sync:
        return None
    ours = next(ip_interface(each.address).ip for each in config.interfaces if each.name == config.sync)
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # With the cable out, the other one's address would be looked for on the internet.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, config.sync.encode())
    made.bind((str(ours), SYNC_PORT))
    made.connect((topology.sync_peer_of(config), SYNC_PORT))
    made.setblocking(False)
    return made


def _no_answer(segment: Segment) -> None:
    """``block return`` is refused before a real run begins."""
    raise AssertionError(segment)
