"""Which segment is a packet of bytes, and which bytes are an update of pfsync? Pure.

The simulator's pf is played on real packets: their headers become its light objects. Sequence numbers are as
on the wire, but do not wrap: a direction counts on from the number that it was seen with first.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from gimli.lab.network.simulator.frames import ACK, SYN, Flow, Segment
from gimli.lab.network.simulator.pf import Peer, PfState
from gimli.lab.network.simulator.pfsync import Sync, Update

if TYPE_CHECKING:
    from gimli.lab.network.topology import Traffic

HEADERS_BYTES = 120
"""The longest of IP and TCP: what the model wants of a packet."""
FIRST_PORT = 30_000
"""Of clients: the connection's number is what the port is beyond it."""
FIRST_BACKEND = 100_000
"""Connections between balancers and servers are numbered from here, by the balancer's port."""
_TCP = 6
_WSCALE, _NOP, _END = 3, 1, 0
_TCP_HEADER = struct.Struct(">HHIIBBH")
_WRAP = 1 << 32
_HALF = 1 << 31


class WireFlow(Flow):
    """A flow that knows where its sequence numbers began, and which others there are."""

    __slots__ = ("_flows", "base")

    def __init__(self, flows: Flows, name: tuple[str, int, str, int], connection: int) -> None:
        super().__init__(*name, connection)
        self._flows = flows
        self.base = -1
        self.reverse: WireFlow

    def redirected(self, dst: str) -> WireFlow:
        """The same behind an address translation: the one of which packets will come."""
        return self._flows.of(self.src, self.sport, dst, self.dport)

    def whole(self, number: int) -> int:
        """A 32-bit sequence number as one that does not wrap."""
        if self.base < 0:
            self.base = number
        return self.base + (number - self.base + _HALF) % _WRAP - _HALF


class Flows:
    """One object per direction of each connection.

    Args:
        traffic: by whose ports connections are told.
    """

    def __init__(self, traffic: Traffic) -> None:
        self._port = traffic.port
        self._by_bytes: dict[bytes, WireFlow] = {}
        self._by_name: dict[tuple[str, int, str, int], WireFlow] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def of(self, src: str, sport: int, dst: str, dport: int) -> WireFlow:
        """The flow of these four."""
        name = (src, sport, dst, dport)
        flow = self._by_name.get(name)
        if flow is None:
            number = self._number(sport, dport)
            flow = self._by_name[name] = WireFlow(self, name, number)
            there = (dst, dport, src, sport)
            back = self._by_name[there] = WireFlow(self, there, number)
            flow.reverse, back.reverse = back, flow
        return flow

    def parse(self, packet: bytes) -> Segment | None:
        """The segment that an IPv4 packet holds, of which the first bytes are here; None when it is none."""
        if len(packet) < 40 or packet[0] >> 4 != 4 or packet[9] != _TCP:
            return None
        at = (packet[0] & 15) * 4
        key = packet[12:20] + packet[at : at + 4]
        flow = self._by_bytes.get(key)
        sport, dport, seq, ack, offset, flags, win = _TCP_HEADER.unpack_from(packet, at)
        if flow is None:
            flow = self.of(_dotted(packet[12:16]), sport, _dotted(packet[16:20]), dport)
            self._by_bytes[key] = flow
        options = at + 20
        end = at + (offset >> 4) * 4
        length = (packet[2] << 8 | packet[3]) - end
        wscale = _wscale(packet, options, end) if flags & SYN else -1
        whole_ack = flow.reverse.whole(ack) if flags & ACK else 0
        return Segment(flow, flags & 0x17, flow.whole(seq), whole_ack, length, win, wscale)

    def _number(self, sport: int, dport: int) -> int:
        if self._port in {sport, dport}:
            return max(sport, dport) - FIRST_PORT
        return FIRST_BACKEND + max(sport, dport)


def is_backend(number: int) -> bool:
    """Whether the connection of that number is between a balancer and a server."""
    return number >= FIRST_BACKEND


def pack(sync: Sync) -> bytes:
    """A packet of pfsync as a datagram."""
    return json.dumps([sync.sender, [_said(each) for each in sync.updates], sync.requests]).encode()


def unpack(data: bytes, flows: Flows) -> Sync:
    """The packet that a datagram of the other firewall holds."""
    sender, said, requests = json.loads(data)
    return Sync(sender, [_heard(each, flows) for each in said], requests, len(data))


def _said(update: Update) -> list[Any]:
    state = update.state
    return [
        update.action,
        update.serial,
        state.number,
        _name(state.wire),
        _name(state.stack),
        state.interface,
        state.creator,
        state.is_out,
        _fields(update.src),
        _fields(update.dst),
    ]


def _heard(said: list[Any], flows: Flows) -> Update:
    action, serial, number, wire, stack, interface, creator, is_out, src, dst = said
    there = flows.of(*wire)
    opener = there.reverse if is_out else there
    for flow, peer in ((opener, src), (opener.reverse, dst)):
        if flow.base < 0 and peer[0]:
            flow.base = peer[0]
    state = PfState(
        number, there, flows.of(*stack), interface, creator, Peer(*src), Peer(*dst), is_out=is_out
    )
    return Update(action, state, state.src, state.dst, serial)


def _name(flow: Flow) -> tuple[str, int, str, int]:
    return flow.src, flow.sport, flow.dst, flow.dport


def _fields(peer: Peer) -> tuple[int, int, int, int, int]:
    return peer.seqlo, peer.seqhi, peer.max_win, peer.wscale, peer.state


def _dotted(address: bytes) -> str:
    return ".".join(map(str, address))


def _wscale(packet: bytes, at: int, end: int) -> int:
    """The option of a SYN; -1 when there is none."""
    end = min(end, len(packet))
    while at < end:
        kind = packet[at]
        if kind == _END:
            break
        if kind == _NOP:
            at += 1
            continue
        if at + 1 >= end or packet[at + 1] < 2:
            break
        if kind == _WSCALE and at + 2 < end:
            return min(packet[at + 2], 14)
        at += packet[at + 1]
    return -1
