"""The simulation's connection tracking beside this kernel's: the same packets, and the same verdict on each.

A namespace forwards between two cables. Packets made here go in at one end, and whether one comes out at
the other is the kernel's verdict. Behind each goes a datagram that always passes, so that nobody has to wait:
what has not come before it does not come.
"""

from __future__ import annotations

import os
import random
import socket
import struct

import pytest

from gimli.lab.namespaces import Network
from gimli.lab.network.simulator import ctnetlink
from gimli.lab.network.simulator.conntrack import (
    ESTABLISHED,
    ORIGINAL,
    REPLY,
    STATES,
    TIMEOUTS_S,
    Connection,
)
from gimli.lab.network.simulator.conntrack_table import ConntrackTable
from gimli.lab.network.simulator.engine import Engine
from gimli.lab.network.simulator.flows import Flows
from gimli.lab.network.simulator.frames import ACK, FIN, RST, SYN, Segment, pair_of_flows
from gimli.lab.network.simulator.recorder import Recorder
from gimli.lab.network.topology import Linux
from gimli.pair import conntrack, ctmessage, netlink
from gimli.pair.ctfilter import Filter
from gimli.pair.ctintake import Intake
from gimli.pair.packet import checksum
from tests.pair.wire import Wire, inside, run_until

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces take root"),
]

CLIENT, SERVER = "10.1.0.2", "10.2.0.2"
CLIENT_MAC, SERVER_MAC, LAN_MAC, DMZ_MAC = (bytes((2, 0, 0, 0, 0, number)) for number in range(1, 5))
GROUP_MAC = bytes.fromhex("01005e000264")
RULES = """
table inet t {
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state invalid drop
    ct state new,established,related accept
  }
}
"""
_MARK_PORT = 9
_WIN, _SCALE = 500, 2


class Kernel:
    """A namespace that forwards, with somebody at both ends."""

    def __init__(self, network):
        client, self.host, server = (network.host(name) for name in ("client", "fw", "server"))
        network.cable(client, "lan0", self.host, "lan0")
        network.cable(server, "dmz0", self.host, "dmz0")
        for host, device, mac in (
            (client, "lan0", CLIENT_MAC),
            (self.host, "lan0", LAN_MAC),
            (server, "dmz0", SERVER_MAC),
            (self.host, "dmz0", DMZ_MAC),
        ):
            host.run("ip", "link", "set", device, "address", mac.hex(":"))
        self.host.address("lan0", "10.1.0.1/16")
        self.host.address("dmz0", "10.2.0.1/16")
        for address, mac, device in ((CLIENT, CLIENT_MAC, "lan0"), (SERVER, SERVER_MAC, "dmz0")):
            self.host.run(
                *("ip", "neigh", "replace", address, "lladdr", mac.hex(":")),
                *("dev", device, "nud", "permanent"),
            )
        self.host.run("nft", "-f", "-", text=RULES)
        self.host.sysctl(
            ipv4__ip_forward=1,
            netfilter__nf_conntrack_tcp_loose=0,
            netfilter__nf_conntrack_checksum=0,
        )
        with inside(self.host):
            self.writer = conntrack.Writer()
        self.ends = (Wire(client, "lan0"), Wire(server, "dmz0"))
        self._marks = 0

    def takes(self, segment, direction, *, is_copy):
        """Whether it forwards a segment; a copy comes in from the inner side, in a frame to a group MAC."""
        packet = packed(segment)
        if is_copy:
            self.ends[REPLY].socket.send(GROUP_MAC + LAN_MAC + b"\x08\0" + packet)
            return self._comes(ORIGINAL, packet) or self._comes(REPLY, packet)
        mac = LAN_MAC if direction == ORIGINAL else DMZ_MAC
        self.ends[direction].socket.send(mac + bytes(6) + b"\x08\0" + packet)
        return self._comes(direction, packet)

    def _comes(self, direction, packet):
        """Whether it has come to the other end when the mark does."""
        self._marks += 1
        payload = struct.pack(">I", self._marks)
        ends = (CLIENT, SERVER)[:: 1 if direction == ORIGINAL else -1]
        mark = ip(17, *ends, struct.pack(">HHHH", _MARK_PORT, _MARK_PORT, 12, 0) + payload)
        mac = LAN_MAC if direction == ORIGINAL else DMZ_MAC
        self.ends[direction].socket.send(mac + bytes(6) + b"\x08\0" + mark)
        other = self.ends[1 - direction]
        run_until(lambda: any(frame.endswith(payload) and frame[23] == 17 for frame in other.frames), other)
        # A router changes the TTL and with it the checksum of the header.
        came = any(frame[23] == 6 and frame[34:].startswith(packet[20:]) for frame in other.frames)
        other.frames.clear()
        return came

    def state(self, tuple_attribute):
        """Of a connection, by name; None where there is none."""
        with inside(self.host):
            dump = conntrack.Dump()
        try:
            while not dump.done:
                for message in dump.drain():
                    found = ctmessage.parts(message)
                    if found[ctmessage.TUPLE_ORIG] == tuple_attribute:
                        tcp = netlink.nested(netlink.nested(found[ctmessage.PROTOINFO])[1])
                        return STATES[netlink.value(tcp[1], 1)[0]]
            return None
        finally:
            dump.close()

    def close(self):
        for each in (*self.ends, self.writer):
            each.close()


def packed(segment):
    """The IP packet of a segment; TCP's checksum is not looked at."""
    flow = segment.flow
    options = b""
    if segment.wscale >= 0:
        options = bytes((3, 3, segment.wscale, 1, 1, 1, 4, 2))
    head = struct.pack(
        ">HHIIBBHHH",
        flow.sport,
        flow.dport,
        segment.seq,
        segment.ack,
        (20 + len(options)) // 4 << 4,
        segment.flags,
        segment.win,
        0,
        0,
    )
    return ip(6, flow.src, flow.dst, head + options + bytes(segment.length))


def ip(protocol, source, destination, payload):
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, 0)
    return head[:10] + struct.pack(">H", checksum(head + ends)) + ends + payload


class Both:
    """One connection, at the kernel and at the simulation."""

    def __init__(self, kernel, port, chance):
        self.kernel = kernel
        self.chance = chance
        self.flow = pair_of_flows(CLIENT, port, SERVER, 80, port)
        engine, flows = Engine(), Flows()
        flows.know(self.flow)
        self.table = ConntrackTable(
            engine,
            "fw",
            Linux(),
            flows,
            lambda address: "lan0" if address == CLIENT else "dmz0",
            Recorder(engine),
        )
        self.at = [chance.randrange(1 << 20, 1 << 24) for _ in range(2)]
        """The next number of each end."""
        self.told = []

    def say(self, direction, flags, seq, ack, length=0, *, is_copy=False, wscale=-1, win=_WIN):
        flow = self.flow if direction == ORIGINAL else self.flow.reverse
        segment = Segment(flow, flags, seq, ack, length, win, wscale)
        side = "lan0" if direction == ORIGINAL else "dmz0"
        if is_copy:
            self.table.look_at("dmz0", segment)
            expected = False
        else:
            expected = self.table.passes(side, segment) is not None
        self.told.append(f"{'copy of ' * is_copy}{(direction, segment)}: {expected}")
        assert self.kernel.takes(segment, direction, is_copy=is_copy) == expected, "\n".join(self.told)
        return expected

    def shake_hands(self):
        client, server = self.at
        assert self.say(ORIGINAL, SYN, client, 0, wscale=_SCALE)
        assert self.say(REPLY, SYN | ACK, server, client + 1, wscale=_SCALE)
        assert self.say(ORIGINAL, ACK, client + 1, server + 1)
        self.at = [client + 1, server + 1]

    def replicate(self, *, is_liberal):
        """Both are told of the connection by the same message."""
        owners = Connection(self.flow, self.flow.reverse)
        owners.state, owners.has_reply, owners.is_assured = ESTABLISHED, True, True
        owners.expires_s = TIMEOUTS_S[ESTABLISHED]
        for half in owners.halves:
            half.scale, half.has_scale = _SCALE, True
        ((_, message),) = Intake(Filter()).take([ctnetlink.pack(owners, ctnetlink.BEGUN, 0.0)])
        if not is_liberal:
            for kind in (4, 5):  # CTA_PROTOINFO_TCP_FLAGS_ORIGINAL and _REPLY: flags and mask
                told, wanted = (netlink.attribute(kind, bytes((bits, 0x0F))) for bits in (0x0B, 0x03))
                assert told in message
                message = message.replace(told, wanted)
        assert self.table.asked(message) == 0
        self.kernel.writer.write([message])
        assert not self.kernel.writer.failed

    def babble(self, packets, *, copies=0.0):
        """Data, acknowledgements, old ones, some that are too far; now and then an end."""
        chance = self.chance
        for _ in range(packets):
            direction = chance.randrange(2)
            mine, theirs = self.at[direction], self.at[1 - direction]
            length = chance.choice((0, 0, 1, 100, 1000, 1400))
            seq = mine + chance.choice((0, 0, 0, 0, -1, -500, -3000, -70_000, 700, 1999, 2001, 30_000))
            ack = theirs + chance.choice((0, 0, 0, 0, -1, -900, -65_000, -68_000, 1, 5000))
            flags = chance.choice((ACK,) * 20 + (ACK | FIN, RST, RST | ACK))
            is_copy = direction == ORIGINAL and chance.random() < copies
            win = chance.choice((_WIN, _WIN, 0, 5, 20_000))
            went = self.say(direction, flags, seq, ack, length, is_copy=is_copy, win=win)
            if went or is_copy:
                self.at[direction] = max(mine, seq + length)

    def check_state(self):
        found = self.kernel.state(ctnetlink.pack_tuple(self.flow, ORIGINAL))
        known = self.table._by_flow.get(self.flow)
        assert found == (STATES[known.state] if known else None), "\n".join(self.told)


@pytest.fixture(name="kernel", scope="module")
def _kernel():
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})  # so that packets cannot overtake each other
    try:
        with Network() as network:
            kernel = Kernel(network)
            yield kernel
            kernel.close()
    finally:
        os.sched_setaffinity(0, processors)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("begins", ["handshake", "liberal", "minded"])
def test_every_verdict_is_the_kernels(kernel, begins, seed):
    """36 connections of 40 packets, a part of them flooded copies where the connection is a replica."""
    port = 10_000 + 100 * seed + len(begins)
    both = Both(kernel, port, random.Random(f"{begins} {seed}"))
    if begins == "handshake":
        both.shake_hands()
        both.babble(40)
    else:
        both.replicate(is_liberal=begins == "liberal")
        both.babble(40, copies=0.5)
    both.check_state()


def test_a_replica_that_copies_have_moved_refuses_both_directions_in_the_kernel_too(kernel):
    """What linux-pair shows without its guard, on this kernel: copies of one direction, then a takeover."""
    both = Both(kernel, 20_000, random.Random(1))
    both.replicate(is_liberal=False)
    client, server = 5_000_000, 9_000_000
    for round_ in range(3):
        both.say(ORIGINAL, ACK, client + 100 * round_, server + 1400 * round_, 100, is_copy=True)
    assert not both.say(ORIGINAL, ACK, client + 300, server + 5600, 100), "it acknowledges what was not seen"
    assert not both.say(REPLY, ACK, server + 5600, client + 300, 100)


def test_a_replica_that_nothing_was_shown_goes_on_in_the_kernel_too(kernel):
    both = Both(kernel, 20_001, random.Random(1))
    both.replicate(is_liberal=False)
    client, server = 5_000_000, 9_000_000
    assert both.say(ORIGINAL, ACK, client + 300, server + 5600, 100)
    assert both.say(REPLY, ACK, server + 5600, client + 400, 100)
