"""The wire of ``wire.py`` between two ends of this kernel's TCP: the test is the cable.

A namespace in the middle takes the frames of both ends with packet sockets and hands them on, or does not.
It does so by turns: all that one end has said goes to the other one, and an echo request behind it. All of it
is on one CPU, so whatever an end says at once comes before its echo: nobody has to wait, and a turn is what
it is in the simulation, where half a round takes a fixed time.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import struct

from gimli.lab.network.real import endpoint
from gimli.lab.network.simulator.frames import ACK, FIN, SYN, Segment, pair_of_flows
from gimli.pair.packet import checksum
from tests.lab.network.wire import LEFT, RIGHT
from tests.pair import wire

ADDRESSES = {LEFT: "10.9.0.1", RIGHT: "10.9.0.2"}
MACS = {LEFT: bytes((2, 0, 0, 0, 9, 1)), RIGHT: bytes((2, 0, 0, 0, 9, 2))}
OTHER = {LEFT: RIGHT, RIGHT: LEFT}
ISNS = {LEFT: 1_000, RIGHT: 9_000}
"""Sequence numbers are told as the simulated wire has them."""
_PORT = 80
_SO_TIMESTAMPNS = 35
_NO_LINGER = struct.pack("ii", 1, 0)
_TIMESPEC = struct.Struct("=qq")
_END, _NOP, _MSS, _WSCALE, _SACK_PERMITTED, _SACK = 0, 1, 2, 3, 4, 5


class Tap(wire.Wire):
    """Frames with the kernel's time of each."""

    def __init__(self, host, device):
        super().__init__(host, device)
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)

    def read(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, ((_, _, stamp),), _, _ = self.socket.recvmsg(2048, socket.CMSG_SPACE(_TIMESPEC.size))
                seconds, nanoseconds = _TIMESPEC.unpack(stamp)
                self.frames.append((seconds + nanoseconds / 1e9, frame))


class Cable:
    """Two hosts, and what is between them."""

    def __init__(self, network):
        middle = network.host("middle")
        self.hosts = {side: network.host(side) for side in (LEFT, RIGHT)}
        self.taps = {}
        for side, host in self.hosts.items():
            network.cable(host, "lan0", middle, side)
            host.run("ip", "link", "set", "lan0", "address", MACS[side].hex(":"))
            host.run("ethtool", "-K", "lan0", "tso", "off", "gso", "off", "gro", "off", "tx", "off")
            host.address("lan0", f"{ADDRESSES[side]}/24")
            other = ("ip", "neigh", "replace", ADDRESSES[OTHER[side]], "lladdr", MACS[OTHER[side]].hex(":"))
            host.run(*other, "dev", "lan0", "nud", "permanent")
            self.taps[side] = Tap(middle, side)
        self.echoes = 0
        self.ports = itertools.count(20_000)
        """One that was never used: of earlier connections an end may be left, which still talks."""

    def close(self):
        for tap in self.taps.values():
            tap.close()


class KernelWire:
    """One connection between two kernels; as :class:`tests.lab.network.wire.Wire` has it.

    Attributes:
        sent: of each side: when, what, and whether it was lost.
        turns: what one side has said at a time.
        got_bytes: what each side's program has read.
        told: what it was told.
        mss: that each side has offered.
    """

    def __init__(self, cable, *, tcp, right_tcp=None, drops=None):
        self.cable = cable
        self.drops = drops or (lambda side, number, segment: False)
        self.sent = {LEFT: [], RIGHT: []}
        self.turns = []
        self.got_bytes = {LEFT: 0, RIGHT: 0}
        self.told = {LEFT: [], RIGHT: []}
        self.mss = {}
        self._readers = {LEFT, RIGHT}
        self._isns = {}
        self._began_s = 0.0
        self._ways = {side: [] for side in ADDRESSES}
        """What a side has said and the other one has not got."""
        flow = pair_of_flows("a", 1, "b", 2, 1)
        self._flows = {LEFT: flow, RIGHT: flow.reverse}
        self._listener = self._socket(RIGHT, right_tcp or tcp)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((ADDRESSES[RIGHT], _PORT))
        self.left = self._socket(LEFT, tcp)
        self._port = next(cable.ports)
        self.left.bind((ADDRESSES[LEFT], self._port))
        self.ends = {LEFT: self.left}

    def _socket(self, side, tcp):
        host = self.cable.hosts[side]
        host.sysctl(ipv4__tcp_sack=int(tcp.sack))
        with wire.inside(host):
            made = socket.socket()
        made.setblocking(False)
        endpoint.shape(made, tcp)
        return made

    def connect(self, *, is_listening=True):
        """Up to where both have it, or one is refused."""
        if is_listening:
            self._listener.listen()
        with contextlib.suppress(BlockingIOError):
            self.left.connect((ADDRESSES[RIGHT], _PORT))
        self.settle()
        if is_listening:
            self.ends[RIGHT], _ = self._listener.accept()
            self.ends[RIGHT].setblocking(False)
        return self

    def write(self, side, length):
        """The kernel takes all of it, or the test asks for too much."""
        self.ends[side].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 200_000)
        assert self.ends[side].send(bytes(length)) == length

    def abort(self, side):
        """Give up: RST."""
        self.ends[side].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.close(side)

    def stop_reading(self, side):
        """What comes stays with the kernel."""
        self._readers.discard(side)

    def read_on(self, side):
        """Read what is there, and what comes."""
        self._readers.add(side)
        self._read(side)

    def settle(self):
        """Hand on what comes until nothing does any more."""
        self._hear_all()
        while any(self._ways.values()):
            for side in ADDRESSES:
                self._hand_on(side)

    def until(self, condition):
        """Hand on what comes until that holds: for what an end's timers say."""
        self.settle()
        taps = self.cable.taps.values()
        while not condition():
            wire.run_until(lambda: any(tap.frames for tap in taps), *taps)
            self.settle()

    def close(self, *sides):
        """Close the programs' ends, of both sides unless it says which."""
        for side in sides or tuple(self.ends):
            self.ends.pop(side).close()

    def leave(self):
        """Nobody has an end of it any more."""
        self._listener.close()
        self.close()

    # The cable.

    def _hand_on(self, side):
        frames, self._ways[side] = self._ways[side], []
        other = OTHER[side]
        for frame in frames:
            self.cable.taps[other].socket.send(frame)
            if other in self.ends and other in self._readers:
                self._read(other)
        self._hear_all()

    def _hear_all(self):
        """All that the ends have said up to now."""
        taps = self.cable.taps
        for side in ADDRESSES:
            self.cable.echoes += 1
            mark = struct.pack(">I", self.cable.echoes)
            taps[side].socket.send(_echo_request(side, mark))
            wire.run_until(
                lambda side=side, mark=mark: any(
                    frame[23] == socket.IPPROTO_ICMP and frame.endswith(mark)
                    for _, frame in taps[side].frames
                ),
                taps[side],
            )
        for side, tap in taps.items():
            frames, tap.frames = tap.frames, []
            self._hear(side, frames)

    def _hear(self, side, frames):
        said = []
        for when_s, frame in frames:
            if frame[23] != socket.IPPROTO_TCP or self._port not in struct.unpack_from(">HH", frame, 34):
                continue
            segment = self._segment(side, frame[34 : 14 + int.from_bytes(frame[16:18], "big")])
            self._began_s = self._began_s or when_s
            is_lost = bool(self.drops(side, len(self.sent[side]), segment))
            self.sent[side].append((when_s - self._began_s, segment, is_lost))
            said.append(segment)
            if not is_lost:
                self._ways[side].append(frame)
        if said:
            self.turns.append((side, said))

    def _segment(self, side, packet):
        _, _, seq, ack, offset, flags, win = struct.unpack_from(">HHIIBBH", packet)
        head = offset >> 4 << 2
        if flags & SYN:
            self._isns[side] = seq
        seq = self._told(side, seq)
        options = dict(_options(packet[20:head]))
        if _MSS in options:
            self.mss[side] = int.from_bytes(options[_MSS], "big")
        sack = options.get(_SACK, b"")
        edges = [self._told(OTHER[side], edge) for (edge,) in struct.iter_unpack(">I", sack)]
        is_again = any(
            said.seq + said.length > seq or (said.seq == seq and said.flags & flags & (SYN | FIN))
            for _, said, _ in self.sent[side]
        ) and (len(packet) > head or flags & (SYN | FIN))
        return Segment(
            self._flows[side],
            flags & 0x17,  # without PSH, which the simulation does not have
            seq,
            self._told(OTHER[side], ack) if flags & ACK else 0,
            len(packet) - head,
            win,
            options[_WSCALE][0] if _WSCALE in options else -1,
            ((0, 0),) if _SACK_PERMITTED in options else tuple(zip(edges[::2], edges[1::2], strict=True)),
            bool(is_again),
        )

    def _told(self, side, number):
        if side not in self._isns:
            return number  # it has refused
        return (number - self._isns[side]) % (1 << 32) + ISNS[side]

    def _read(self, side):
        try:
            while data := self.ends[side].recv(1 << 20):
                self.got_bytes[side] += len(data)
        except BlockingIOError:
            return
        except ConnectionError:
            self.told[side].append("reset")
        else:
            if "peer closed" not in self.told[side]:
                self.told[side].append("peer closed")
            if self.ends[side].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.told[side].append("reset")


def _echo_request(side, mark):
    """For one end, as if from the other one."""
    message = struct.pack(">BBHHH", 8, 0, 0, 0, 0) + mark
    message = message[:2] + struct.pack(">H", checksum(message)) + message[4:]
    ends = socket.inet_aton(ADDRESSES[OTHER[side]]) + socket.inet_aton(ADDRESSES[side])
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(message), 0, 0, 64, socket.IPPROTO_ICMP, 0)
    head = head[:10] + struct.pack(">H", checksum(head + ends)) + ends
    return MACS[side] + MACS[OTHER[side]] + b"\x08\0" + head + message


def _options(data):
    """Kind and value of each of TCP's options."""
    while data and data[0] != _END:
        if data[0] == _NOP:
            data = data[1:]
        else:
            yield data[0], data[2 : data[1]]
            data = data[data[1] :]


@contextlib.contextmanager
def one_cpu():
    """This process on one CPU: what the kernel does for it is done in one order."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
