"""What does a firewall do with a frame? One of a pair, with OpenBSD's pf, pfsync and CARP.

    NIC -> guard -> [pf in -> route -> pf out -> NIC]     the part in brackets 1 + N times for a frame to a group
                                                          MAC, N being the CARP interfaces that are up on the NIC

pf comes before the question whether the packet is to be forwarded at all. A frame to a group MAC is not, from 4.7
on; but pf has seen it, and moved the state on that pfsync had brought.

Source: ether_input(), carp_input() and ipv4_input() of OpenBSD 4.4 to 5.5.
"""

from __future__ import annotations

from heapq import heappush
from typing import TYPE_CHECKING

from gimli.lab.network.simulator.frames import (
    ACK,
    GROUP_BIT,
    IP_GROUP_MAC,
    RST,
    SYN,
    TTL,
    Arp,
    Carp,
    Flow,
    Frame,
    Segment,
)
from gimli.lab.network.simulator.host import Host
from gimli.lab.network.simulator.merge import DST, SRC, STALE, merge
from gimli.lab.network.simulator.pf import PfState, first_peer, track
from gimli.lab.network.simulator.pf import Peer as PfPeer
from gimli.lab.network.simulator.pfsync import DELETE, INSERT, Queue, Sync, Update
from gimli.lab.network.topology import Binding, Block, Merge

if TYPE_CHECKING:
    from random import Random

    from gimli.lab.network import topology
    from gimli.lab.network.simulator.carp import Seat
    from gimli.lab.network.simulator.engine import Engine
    from gimli.lab.network.simulator.host import Nic
    from gimli.lab.network.simulator.record import Recorder

QUEUE_MAX = 256
"""Packets that wait for the CPU: net.inet.ip.ifq.maxlen."""
PURGE_S = 10.0
"""Every so often, states that have expired are removed: pf.conf's interval."""
_SYNC_MAC = 0x01005E0000F0
"""Of 224.0.0.240, to which pfsync talks."""


class Firewall(Host):
    """One firewall.

    Args:
        engine: whose time it lives in.
        config: what it is.
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
        super().__init__(engine, config.name, tcp, chance, recorder)
        self.config = config
        self.seats: list[Seat] = []
        self.sync_nic: Nic | None = None
        self.queue = Queue(engine, self.name, config.pf.tick_s, chance.random(), self._send_sync)
        self._cpu_s = config.pf.cpu_s
        self._is_floating = config.pf.binding is Binding.FLOATING
        self._is_forwarding_groups = config.pf.is_forwarding_groups
        self._merging = config.pf.merging
        self._is_old_merge = self._merging in {Merge.WHOLE, Merge.WHOLE_BUT_SRC}
        self._copies: dict[str, int] = {}
        self._seats_by_mac: dict[int, Seat] = {}
        self._wire: dict[Flow, PfState] = {}
        self._stack: dict[Flow, PfState] = {}
        self._states: dict[int, PfState] = {}
        self._next_number = (index + 1) << 32
        self._busy_s = 0.0
        self._waiting_packets = 0
        self.overrun = 0
        self._down: set[str] = set()
        engine.at(PURGE_S, self._purge)

    # Wiring.

    def add_seat(self, seat: Seat) -> None:
        """Give it a virtual address."""
        self.seats.append(seat)
        self._seats_by_mac[seat.mac] = seat
        self._copies[seat.nic.name] = self._copies.get(seat.nic.name, 0) + 1

    def start(self) -> None:
        """Take part in the election."""
        for seat in self.seats:
            seat.enable()

    @property
    def is_master(self) -> bool:
        """Whether it has any virtual address."""
        return any(seat.is_master for seat in self.seats)

    @property
    def states(self) -> int:
        """How many states it holds."""
        return len(self._states)

    def mac_of(self, nic: Nic, address: str) -> int | None:
        """A virtual address is at its group's MAC, where we are MASTER."""
        for seat in self.seats:
            if seat.address == address and seat.nic is nic:
                return seat.mac if seat.is_master else None
        return super().mac_of(nic, address)

    # Faults.

    def link_changed(self, nic: Nic, *, is_up: bool) -> None:
        """The NIC sees that its cable is dead, or back. The other groups go where this one goes."""
        if is_up:
            self._down.discard(nic.name)
        else:
            self._down.add(nic.name)
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
        self._wire.clear()
        self._stack.clear()
        self._states.clear()
        self._paths.clear()

    # Frames in.

    def receive(self, nic: Nic, frame: Frame) -> None:
        """A frame came in."""
        if not self.is_on:
            return
        packet = frame.packet
        kind = type(packet)
        if kind is Segment or kind is Sync:
            engine = self.engine
            if kind is Segment and frame.dst & GROUP_BIT and self.config.guard:
                self.recorder.count(self.recorder.guarded, self.name)
                return
            if self._busy_s > engine.now_s:
                if self._waiting_packets >= QUEUE_MAX:
                    self.overrun += 1
                    return
                self._waiting_packets += 1
                heappush(engine.heap, (self._busy_s, next(engine.order), self._input_queued, (nic, frame)))
                self._busy_s += self._cpu_s
                return
            self._busy_s = engine.now_s + self._cpu_s
            self._input(nic, frame)
        elif type(packet) is Carp:
            for seat in self.seats:
                if seat.nic is nic:
                    seat.hear(packet.heard)
        elif type(packet) is Arp:
            self.hear_arp(nic, packet)

    def _input_queued(self, entry: tuple[Nic, Frame]) -> None:
        self._waiting_packets -= 1
        if self.is_on:
            self._input(*entry)

    def _input(self, nic: Nic, frame: Frame) -> None:
        packet = frame.packet
        if type(packet) is Sync:
            self._merge_all(packet)
        elif frame.dst & GROUP_BIT:
            self._input_copy(nic, frame)
        else:
            segment = self._pf_in(nic, packet, is_copy=False)  # type: ignore[arg-type]  # receive() looked
            if segment is not None:
                self._forward(segment, frame.ttl, is_copy=False)
        if not self._waiting_packets:
            # netintr(): pfsync has its turn when the queue of IP is empty.
            self.queue.settle()

    def _input_copy(self, nic: Nic, frame: Frame) -> None:
        self.recorder.count(self.recorder.copies, self.name)
        for _ in range(1 + self._copies.get(nic.name, 0)):
            segment = self._pf_in(nic, frame.packet, is_copy=True)  # type: ignore[arg-type]  # receive() looked
            if segment is not None and self._is_forwarding_groups:
                self._forward(segment, frame.ttl, is_copy=True)

    # Forwarding.

    def _forward(self, segment: Segment, ttl: int, *, is_copy: bool) -> None:
        dst = segment.flow.dst
        if dst in self.addresses:
            return
        if ttl <= 1:
            self.recorder.count(self.recorder.ttl_ended, self.name)
            return
        nic, _ = self.route(dst)
        out = self._pf_out(nic, segment)
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

    # The packet filter.

    def _pf_in(self, nic: Nic, segment: Segment, *, is_copy: bool) -> Segment | None:
        """The packet as it goes on, translated where it must be; None when it does not."""
        flow = segment.flow
        state = self._wire.get(flow)
        if state is None or not (self._is_floating or state.interface == nic.name):
            return self._by_rules_in(nic, segment, is_copy=is_copy)
        if not self._fits(nic, segment, state, is_src=not state.is_out, is_copy=is_copy):
            return None
        inner = state.stack
        return segment if inner is flow or state.is_out else translated(segment, inner)

    def _pf_out(self, nic: Nic, segment: Segment) -> Segment | None:
        reverse = segment.flow.reverse
        state = self._stack.get(reverse)
        if state is None or not (self._is_floating or state.interface == nic.name):
            if segment.flags & (SYN | ACK) != SYN:
                self.recorder.count(self.recorder.no_state, self.name)
                return None
            self._create(nic, segment, reverse, reverse, is_out=True)
            return segment
        if not self._fits(nic, segment, state, is_src=state.is_out, is_copy=False):
            return None
        outer = state.wire
        return segment if outer is reverse else translated(segment, outer.reverse)

    def _fits(self, nic: Nic, segment: Segment, state: PfState, *, is_src: bool, is_copy: bool) -> bool:
        src, dst = (state.src, state.dst) if is_src else (state.dst, state.src)
        failed = track(src, dst, segment)
        recorder = self.recorder
        if failed:
            recorder.dropped(self.name, nic.name, segment, state, failed, is_copy=is_copy, is_from_src=is_src)
            return False
        state.seen_s = self.engine.now_s
        if self.sync_nic is not None:
            self.queue.update(state)
        if segment.flow.connection in recorder.traced:
            recorder.tracked(self.name, nic.name, segment, state, is_copy=is_copy, is_from_src=is_src)
        return True

    def _by_rules_in(self, nic: Nic, segment: Segment, *, is_copy: bool) -> Segment | None:
        """No state: what comes from where its sender is, and begins a connection, makes one."""
        flow = segment.flow
        inner = flow
        redirect = self.config.pf.redirect
        is_opening = segment.flags & (SYN | ACK | RST) == SYN and self.route(flow.src)[0] is nic
        if is_opening and redirect and redirect[0] == flow.dst:
            inner = Flow(flow.src, flow.sport, redirect[1], flow.dport, flow.connection)
            inner.reverse = Flow(redirect[1], flow.dport, flow.src, flow.sport, flow.connection)
            inner.reverse.reverse = inner
        if is_opening and not is_copy:
            self._create(nic, segment, flow, inner, is_out=False)
            return segment if inner is flow else translated(segment, inner)
        self.recorder.count(self.recorder.no_state, self.name)
        if self.config.pf.block is Block.RETURN and not segment.flags & RST:
            self.recorder.count(self.recorder.returned, self.name)
            self.send_packet(flow.src, reset_of(segment), TTL, self._cpu_s)
        return None

    def _create(self, nic: Nic, syn: Segment, wire: Flow, stack: Flow, *, is_out: bool) -> None:
        number = self._next_number
        self._next_number += 1
        state = PfState(number, wire, stack, nic.name, self.name, first_peer(syn), PfPeer(), is_out=is_out)
        state.seen_s = self.engine.now_s
        self._insert(state)
        if self.sync_nic is not None:
            self.queue.insert(state)

    def _insert(self, state: PfState) -> None:
        self._wire[state.wire] = state
        self._stack[state.stack] = state
        self._states[state.number] = state

    def _unlink(self, state: PfState) -> None:
        self._states.pop(state.number, None)
        if self._wire.get(state.wire) is state:
            del self._wire[state.wire]
        if self._stack.get(state.stack) is state:
            del self._stack[state.stack]

    def _purge(self, _: None) -> None:
        now_s = self.engine.now_s
        for state in [one for one in self._states.values() if now_s - one.seen_s > one.expires_s]:
            self._unlink(state)
            if state.creator == self.name and self.sync_nic is not None:
                self.queue.delete(state)
        self.engine.at(now_s + PURGE_S, self._purge)

    # The other firewall.

    def _send_sync(self, sync: Sync) -> None:
        assert self.sync_nic is not None
        if self.recorder.traced:
            for update in sync.updates:
                self.recorder.updated(self.name, update)
        self.sync_nic.lane.send(Frame(_SYNC_MAC, self.sync_nic.mac, sync), self._cpu_s)

    def _merge_all(self, sync: Sync) -> None:
        for update in sync.updates:
            state = self._states.get(update.state.number)
            if update.action == DELETE:
                if state is not None:
                    self._unlink(state)
            elif state is not None:
                self._merge(state, update)
            elif update.action == INSERT:
                self._import(update)
            else:
                self.queue.request(update.state.number)
        for number in sync.requests:
            if number in self._states:
                self.queue.answer(self._states[number])

    def _import(self, update: Update) -> None:
        theirs = update.state
        state = PfState(
            theirs.number,
            theirs.wire,
            theirs.stack,
            theirs.interface,
            theirs.creator,
            update.src.copy(),
            update.dst.copy(),
            is_out=theirs.is_out,
        )
        state.seen_s = self.engine.now_s
        state.peer_s = self.queue.second
        self._insert(state)

    def _merge(self, state: PfState, update: Update) -> None:
        src, dst = state.src, state.dst
        src_lo, src_hi, dst_lo, dst_hi = src.seqlo, src.seqhi, dst.seqlo, dst.seqhi
        taken = merge(self._merging, state, update.src, update.dst)
        back: tuple[tuple[str, int], ...] = ()
        if src.seqlo < src_lo or src.seqhi < src_hi or dst.seqlo < dst_lo or dst.seqhi < dst_hi:
            moves = (
                ("src.seqlo", src_lo - src.seqlo),
                ("src.seqhi", src_hi - src.seqhi),
                ("dst.seqlo", dst_lo - dst.seqlo),
                ("dst.seqhi", dst_hi - dst.seqhi),
            )
            back = tuple((name, by) for name, by in moves if by > 0)
        is_stale = taken & STALE
        if not is_stale or not self._is_old_merge:
            state.peer_s = self.queue.second
        if taken & (SRC | DST):
            state.seen_s = self.engine.now_s
        if back or is_stale or self.recorder.traced:
            self.recorder.merged(self.name, update, state, taken, back)
        if is_stale:
            self.queue.update(state)
            self.queue.hurry()


def translated(segment: Segment, flow: Flow) -> Segment:
    """The same on the other side of an address translation."""
    return Segment(
        flow,
        segment.flags,
        segment.seq,
        segment.ack,
        segment.length,
        segment.win,
        segment.wscale,
        segment.sack,
        segment.is_again,
    )


def reset_of(segment: Segment) -> Segment:
    """What ``block return`` answers."""
    ack = segment.seq + segment.length + (1 if segment.flags & SYN else 0)
    seq = segment.ack if segment.flags & ACK else 0
    return Segment(segment.flow.reverse, RST | ACK, seq, ack, 0, 0)


def _group_mac(address: str) -> int:
    """ETHER_MAP_IP_MULTICAST."""
    a, b, c, d = map(int, address.split("."))
    return IP_GROUP_MAC | (b & 127) << 16 | c << 8 | d
