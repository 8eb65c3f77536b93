"""Many damaged packets for everything of the pair that reads what others have written: nothing falls.

Each begins with one that is right, so that damage gets past the first checks; what is authenticated is
damaged before it is signed as well. ``GIMLI_FUZZ_PACKETS`` says how many for each reader; `make soak` takes a
million.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_interface
from random import Random

import pytest

from gimli.errors import PeerError
from gimli.pair import ctdescribe, ctmessage, links, netlink
from gimli.pair.announce import Form, gratuitous_arp, neighbour_advertisement
from gimli.pair.authenticator import Authenticator
from gimli.pair.config import Carp, Guard, Pair
from gimli.pair.ctfilter import Filter
from gimli.pair.ctinsertion import insertion, second_try
from gimli.pair.ctintake import Intake
from gimli.pair.node import Node
from gimli.pair.packet import PacketRefused, pack_packet, parse_advertisement
from gimli.pair.statesync import StateSync
from gimli.pair.syncactions import Mode
from gimli.pair.syncwire import Datagram, Kind, Refused, Reign, Wire
from gimli.pair.traffic import FRAME_BYTES, Traffic
from tests.pair.connections import BEGUN, DUMPED, ENDED, ESTABLISHED, UPDATED, Connection, End
from tests.pair.frames import ethernet, ipv4_frame, ipv6_frame, mac_bytes

PACKETS = int(os.environ.get("GIMLI_FUZZ_PACKETS", "4000"))
PASSWORD = b"correct horse"
TAG_BYTES = 16
INTERESTING = (0, 1, 4, 0x7F, 0x80, 0xFF)

Read = Callable[[bytes], object]


def damaged(chance: Random, seeds: list[bytes]) -> bytes:
    """One of the seeds with a few things wrong."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at = chance.randrange(len(data)) if data else 0
        match chance.randrange(6):
            case 0 if data:
                data[at] ^= 1 << chance.randrange(8)
            case 1 if data:
                data[at] = chance.choice(INTERESTING)
            case 2:
                del data[at:]
            case 3:
                data[at:at] = chance.randbytes(chance.choice((1, 4, 16)))
            case 4:
                del data[at : at + chance.choice((1, 2, 4, 8))]
            case _:
                other = chance.choice(seeds)
                data[at:] = other[min(at, len(other)) :]
    return bytes(data)


def connections() -> list[bytes]:
    """What a kernel says of connections."""
    tcp = Connection(state=ESTABLISHED)
    seen = [
        tcp,
        tcp.but(mark=3, labels=b"\1" * 16, zone=7),
        tcp.but(source=End("2001:db8::1", 4000), destination=End("2001:db8::2", 80)),
        tcp.but(reply_destination=End("203.0.113.1", 40122), helper="ftp"),
    ]
    return [one.message(kind) for one in seen for kind in (BEGUN, UPDATED, ENDED, DUMPED)]


def node(sync: StateSync | None = None) -> Node:
    """A host of a pair, on its way."""
    addresses = (ip_interface("192.0.2.1/24"), ip_interface("2001:db8::1/64"))
    pair = Pair((Carp(1, "lan0", addresses, PASSWORD),), Guard(()))
    made = Node(pair, {1: ip_address("192.0.2.2")}, 1, sync)
    made.begin(0.0)
    return made


def advertisements() -> list[bytes]:
    """What a peer says on the link, by both addresses."""
    said = Authenticator(PASSWORD, 1, [ip_address("192.0.2.1"), ip_address("2001:db8::1")])
    sources = [
        (ip_address("192.0.2.3"), ip_address("224.0.0.18")),
        (ip_address("fe80::3"), ip_address("ff02::12")),
    ]
    return [
        pack_packet(said.sign(advbase, skew, demotion, counter), source, group)
        for counter, (advbase, skew, demotion) in enumerate(
            [(1, 0, 0), (1, 100, 32), (0, 6, 0), (255, 255, 0)]
        )
        for source, group in sources
    ]


def read_advertisement(packet: bytes) -> object:
    """The decoder alone."""
    with contextlib.suppress(PacketRefused):
        return parse_advertisement(packet)
    return None


def hear(packet: bytes, listening: Node) -> None:
    """The whole node: checks, digest, election."""
    listening.heard("lan0", packet, 1.0)
    listening.take_orders()


def datagrams() -> list[Datagram]:
    """What a peer says on the sync link."""
    states = b"".join(ctmessage.canonical(message)[1] for message in connections())
    owner = Datagram(Kind.STATES, 7, 1, Reign(3, 7), 5, states, owns=True, beat=1, echo=2)
    return [
        owner,
        *(
            replace(owner, kind=kind, payload=payload)
            for kind in Kind
            for payload in (b"", bytes(16), states)
        ),
        *(replace(owner, kind=kind, payload=bytes(32), owns=False) for kind in Kind),
    ]


def resigned(chance: Random, sent: list[Datagram], wire: Wire) -> bytes:
    """Of somebody who knows the password."""
    one = chance.choice(sent)
    hostile = replace(
        one,
        number=chance.choice((0, 1, 5, 6, 7, 2**64 - 1)),
        reign=Reign(chance.choice((0, 1, 3, 4, 2**62)), one.reign.owner),
        to=chance.choice((0, 1, 2)),
        beat=chance.choice((0, 1, 2**64 - 1)),
        echo=chance.choice((0, 1, 2**64 - 1)),
        payload=damaged(chance, [one.payload or b"\0"]),
    )
    return wire.pack(hostile)


def take_connection(message: bytes, intake: Intake) -> None:
    """All that is done with a connection on its way from one kernel to the other."""
    second_try(message, errno.EBUSY)
    try:
        whole = list(netlink.messages(message))
    except PeerError:
        return
    for key, made in [*intake.take(whole), *intake.take_dumped(whole)]:
        assert ctmessage.split(made) == [(key, made)]
        with contextlib.suppress(PeerError):
            ctdescribe.describe(made)
        with contextlib.suppress(PeerError):
            insertion(made)
            ctmessage.merged(made, made)


def read_netlink(answer: bytes) -> None:
    """Whatever a kernel may answer, or somebody in its place."""
    with contextlib.suppress(PeerError):
        for message in netlink.messages(answer):
            body = message[netlink.HEADER.size :]
            for read in (links.link_of, links.address_of):
                with contextlib.suppress(PeerError):
                    read(body)


def frames() -> list[bytes]:
    """What ``gimli pair check`` sees of a link."""
    own, group = mac_bytes("02:00:00:00:00:01"), mac_bytes("01:00:5e:01:00:64")
    return [
        ipv4_frame(group, "10.1.0.100"),
        ipv6_frame(group, "2001:db8::64"),
        gratuitous_arp(IPv4Address("192.0.2.1"), own, Form.REPLY),
        neighbour_advertisement(ip_address("2001:db8::1"), own, router=True),
        ethernet(group, own, 0x88B5, b""),
    ]


@pytest.fixture
def chance():
    return Random(int(os.environ.get("GIMLI_SIMULATION_SEED", "0")))


def fuzz(read: Read, make: Callable[[], bytes], outcomes: Counter[str] | None = None) -> None:
    """Read many; what comes out as an exception is a fall, and says with which bytes."""
    for _ in range(PACKETS):
        data = make()
        try:
            found = read(data)
        except Exception as error:
            raise AssertionError(f"{error!r} came of {data.hex()}") from error
        if outcomes is not None:
            outcomes["taken" if found else "refused"] += 1


def test_damaged_advertisements(chance):
    seeds, outcomes = advertisements(), Counter()
    fuzz(read_advertisement, lambda: damaged(chance, seeds), outcomes)
    assert outcomes["refused"] > PACKETS / 2  # the checksum
    listening = node()
    fuzz(lambda packet: hear(packet, listening), lambda: damaged(chance, seeds))
    assert sum(listening.refused(1).values()) > PACKETS / 2


def test_damaged_datagrams_of_the_state_sync(chance):
    """Damage is found by the tag, and a peer that has the password is believed as far as it makes sense."""
    wire, sent = Wire(PASSWORD), datagrams()
    packed = [wire.pack(datagram) for datagram in sent]
    sync = StateSync(1, PASSWORD, Mode.KERNEL)
    listening = node(sync)
    fuzz(
        lambda data: (listening.received(data, 1.0), listening.take_orders()), lambda: damaged(chance, packed)
    )
    assert sync.refused["tag"] > PACKETS / 2
    fuzz(
        lambda data: (listening.received(data, 1.0), listening.take_orders()),
        lambda: resigned(chance, sent, wire),
    )
    assert sync.refused["malformed"]


def test_damaged_datagrams_behind_the_tag(chance):
    """The header's fields one by one: what the tag vouches for may still be nonsense."""
    wire, sent = Wire(PASSWORD), datagrams()
    packed = [wire.pack(datagram)[:-TAG_BYTES] for datagram in sent]

    def make() -> bytes:
        data = damaged(chance, packed)
        return data + wire._tag(data, b"")

    def read(data: bytes) -> object:
        with contextlib.suppress(Refused):
            return wire.parse(data)
        return None

    outcomes: Counter[str] = Counter()
    fuzz(read, make, outcomes)
    assert min(outcomes["taken"], outcomes["refused"]) > PACKETS / 20


def test_damaged_connections(chance):
    intake, seeds = Intake(Filter()), connections()

    def make() -> bytes:
        """Of a kernel that at least says how long its message is."""
        body = damaged(chance, seeds)[4:]
        return struct.pack("=I", 4 + len(body)) + body

    fuzz(lambda message: take_connection(message, intake), make)
    assert intake.refused > PACKETS / 20


def test_damaged_answers_of_the_kernel(chance):
    name = struct.pack("=HH5s3x", 9, 3, b"lan0\0")
    bodies = [struct.pack("=BxHiII", 0, 1, 2, 0x11043, 0) + name, struct.pack("=4BI", 2, 24, 0, 0, 2) + name]
    answers = [netlink.HEADER.pack(16 + len(body), 16, 0, 1, 0) + body for body in bodies]
    seeds = [*answers, b"".join(answers), *connections()]
    fuzz(read_netlink, lambda: damaged(chance, seeds))


def test_damaged_frames(chance):
    traffic = Traffic("lan0", own_macs=frozenset(), broadcasts=frozenset(), virtual=frozenset({"192.0.2.1"}))
    seeds = frames()
    fuzz(lambda frame: traffic.see(frame[:FRAME_BYTES]), lambda: damaged(chance, seeds))
    assert traffic.frames > PACKETS / 2
