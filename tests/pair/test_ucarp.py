"""Real ucarp on a real link: it believes us, we believe it, and one of the two is MASTER."""

from __future__ import annotations

import contextlib
import random
import time
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING

import pytest

from gimli.lab.namespaces import Host, Network
from gimli.pair import carp_events
from gimli.pair.authenticator import Authenticator, Replay
from gimli.pair.packet import PROTOCOL, PacketRefused, Refusal, checksum, pack_frame, parse_advertisement
from gimli.pair.vhid import Role, Vhid
from tests.pair.wire import Node, Program, Wire, run_until, start_ucarp

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.real, pytest.mark.slow]

VIP = IPv4Address("192.0.2.10")
BACKUP, MASTER = "Switching to state: BACKUP", "Switching to state: MASTER"


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Two hosts on a cable, 192.0.2.1 and 192.0.2.2."""
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(Network())
        yield Stage(network, stack)


class Stage:
    """ucarp's host and ours, and who takes part; all of it ends with the test."""

    def __init__(self, network: Network, stack: contextlib.ExitStack) -> None:
        self.theirs, self.ours = network.host("theirs"), network.host("ours")
        network.cable(self.theirs, "lan0", self.ours, "lan0")
        self.theirs.address("lan0", "192.0.2.1/24")
        self.ours.address("lan0", "192.0.2.2/24")
        self._stack = stack

    def ucarp(
        self, *options: str, source: str = "192.0.2.1", vip: IPv4Address = VIP, password: str = "secret"
    ) -> Program:
        """A real ucarp on its host."""
        made = start_ucarp(self.theirs, "lan0", source, *options, password=password, vip=vip)
        self._stack.callback(made.close)
        return made

    def node(self, *, advskew: int = 0, source: str = "192.0.2.2", password: bytes = b"secret") -> Node:
        """A node on ours."""
        vhid = Vhid(1, advbase=1, advskew=advskew, preempt=True, source=IPv4Address(source))
        made = Node(self.ours, "lan0", vhid, Authenticator(password, 1, [VIP]), VIP)
        self._stack.callback(made.close)
        return made

    def wire(self, host: Host) -> Wire:
        """A packet socket."""
        made = Wire(host, "lan0")
        self._stack.callback(made.close)
        return made


def advertisements(wire: Wire) -> list[bytes]:
    """Frames of IP protocol 112."""
    return [frame for frame in wire.frames if frame[23] == PROTOCOL]


def vhid_of(frame: bytes) -> int:
    return frame[35]


def test_its_frames_are_parsed_believed_and_rebuilt_byte_by_byte(stage: Stage):
    """Of two vhids on one link, each with its password: each is believed by its own group only."""
    vips = {1: VIP, 2: IPv4Address("192.0.2.20")}
    passwords = {1: "secret", 2: "another secret 20ch"}
    wire = stage.wire(stage.ours)
    daemons = [
        stage.ucarp(
            "-v", str(vhid), "-b1", "-k", str(40 * vhid), "-r1", vip=vips[vhid], password=passwords[vhid]
        )
        for vhid in vips
    ]
    run_until(
        lambda: all(sum(vhid_of(frame) == vhid for frame in advertisements(wire)) >= 3 for vhid in vips),
        wire,
        *daemons,
    )
    groups = {vhid: Authenticator(passwords[vhid].encode(), vhid, [vips[vhid]]) for vhid in vips}
    for frame in advertisements(wire):
        vhid = vhid_of(frame)
        heard = parse_advertisement(frame[14:])
        groups[vhid].verify(heard.advertisement)
        assert heard.advertisement == groups[vhid].sign(1, 40 * vhid, 0, heard.advertisement.counter)
        rebuilt = pack_frame(
            groups[vhid].sign(1, 40 * vhid, 0, heard.advertisement.counter),
            ip_address("192.0.2.1"),
            bytes((0, 0, 0x5E, 0, 0, vhid)),  # where everybody else has 1 ucarp has 0
            identification=int.from_bytes(frame[18:20], "big"),
        )
        assert rebuilt == frame
        for other, kind in (
            (groups[3 - vhid], Refusal.WRONG_VHID),
            (Authenticator(b"wrong", vhid, [vips[vhid]]), Refusal.DIGEST),
            (Authenticator(passwords[vhid].encode(), vhid, [vips[3 - vhid]]), Refusal.DIGEST),
        ):
            with pytest.raises(PacketRefused) as refused:
                other.verify(heard.advertisement)
            assert refused.value.kind is kind


def test_it_stays_backup_under_us_takes_over_when_we_go_and_yields_to_preemption(stage: Stage):
    node = stage.node()
    node.give(carp_events.Enabled())
    run_until(lambda: node.vhid.role is Role.MASTER, node)
    assert node.told[-1] == "took over: no advertisement for 3.0 s"
    ucarp = stage.ucarp("-v1", "-b1", "-k100")
    run_until(lambda: ucarp.count(BACKUP) == 1, node, ucarp)
    # Its dead time is 3.39 s, and it looks every 1.4 s.
    until = node.sent + 8
    run_until(lambda: node.sent == until, node, ucarp)
    assert ucarp.count(MASTER) == 0
    assert set(node.refused) <= {Refusal.NOT_CARP}  # it joins its group, by IGMP

    # Gone without a word.
    run_until(lambda: ucarp.count(MASTER) == 1, ucarp)
    print(
        f"ucarp took over {time.monotonic() - node.sent_s:.2f} s after our last advertisement (theory 3.39 s)"
    )

    # Back: its first advertisement that is heard makes it MASTER, and ucarp yields to the first of ours.
    again = stage.node()
    again.give(carp_events.Enabled())
    run_until(lambda: again.vhid.role is Role.MASTER, again, ucarp)
    assert again.told[-1] == "took over: preempted: peer advertises every 1 s + 100/256 s, we every 1 s"
    run_until(lambda: "Preferred master advertised" in ucarp.said, again, ucarp)
    assert ucarp.count(BACKUP) == 2

    # Bowed out: nobody waits.
    again.give(carp_events.StopWanted())
    run_until(lambda: ucarp.count(MASTER) == 2, again, ucarp)
    bowed_out_s = time.monotonic() - again.sent_s
    print(f"ucarp took over {bowed_out_s * 1000:.1f} ms after the bow-out")
    assert bowed_out_s < 3.0
    run_until(lambda: "going to time out" in ucarp.said, again, ucarp)


@pytest.mark.parametrize(
    ("theirs", "ours", "stays"), [("10.0.1.1", "10.0.0.9", "ucarp"), ("10.0.0.9", "10.0.1.1", "gimli")]
)
def test_of_two_equals_it_and_we_agree_who_stays(stage: Stage, theirs: str, ours: str, stays: str):
    """The last byte counts first: read as numbers are read, both would stay, or both would yield."""
    stage.theirs.address("lan0", f"{theirs}/16")
    stage.ours.address("lan0", f"{ours}/16")
    ucarp = stage.ucarp("-v1", "-b1", "-k0", "-r1", source=theirs)
    run_until(lambda: ucarp.count(MASTER) == 1, ucarp)
    node = stage.node(source=ours)
    node.give(carp_events.Enabled())
    node.give(carp_events.MasterDownExpired(3.0))
    if stays == "ucarp":
        run_until(lambda: node.vhid.role is Role.BACKUP, node, ucarp)
        run_until(lambda: "Non-preferred master advertising" in ucarp.said, node, ucarp)
        assert "10.0.1.1 is our equal, and ranks before our address 10.0.0.9" in node.told[-1]
        assert "Preferred master advertised" not in ucarp.said
    else:
        run_until(lambda: "Preferred master advertised" in ucarp.said, node, ucarp)
        until = node.sent + 2
        run_until(lambda: node.sent == until, node, ucarp)
        assert node.vhid.role is Role.MASTER


def test_neither_believes_the_other_with_another_password(stage: Stage):
    """Both are MASTER then, and both say why."""
    ucarp = stage.ucarp("-v1", "-b1", "-k100", "-r1")
    run_until(lambda: ucarp.count(MASTER) == 1, ucarp)
    node = stage.node(password=b"Secret")
    node.give(carp_events.Enabled())
    run_until(lambda: "Bad digest" in ucarp.said and node.refused[Refusal.DIGEST] >= 3, node, ucarp)
    assert node.vhid.role is Role.MASTER
    assert ucarp.count(BACKUP) == 1


def test_hostile_frames_are_counted_and_change_nothing(stage: Stage):
    """Garbage, damage, what belongs to others, and our own frames played back: a MASTER stays MASTER."""
    node = stage.node()
    attacker = stage.wire(stage.theirs)
    node.give(carp_events.Enabled())
    node.give(carp_events.MasterDownExpired(3.0))
    run_until(lambda: len(advertisements(attacker)) == 1, node, attacker)
    (own,) = advertisements(attacker)
    peer = pack_frame(node.authenticator.sign(1, 100, 0, 1), IPv4Address("192.0.2.1"), own[6:12])
    chance = random.Random(4)
    hostile = [
        own,
        peer[:40],
        damaged(peer, 22, 64),  # time to live
        damaged(peer, 35, 2),  # vhid
        damaged(peer, 54, peer[54] ^ 1),  # digest
        damaged(peer, 34, 0x31),  # VRRP 3
        peer[:45] + bytes((peer[45] ^ 1,)) + peer[46:],
        *(peer[:34] + chance.randbytes(chance.randrange(60)) for _ in range(500)),
        *(peer[:14] + chance.randbytes(chance.randrange(80)) for _ in range(500)),
    ]
    for sent, frame in enumerate(hostile, 1):
        attacker.socket.send(frame)
        if sent % 50 == 0 or sent == len(hostile):  # the socket's buffer holds some 200
            run_until(lambda sent=sent: node.refused.total() == sent, node, attacker)
    until = node.sent + 2
    run_until(lambda: node.sent == until, node, attacker)
    for kind in (
        Refusal.OWN_COOKIE,
        Refusal.SHORT,
        Refusal.TTL,
        Refusal.WRONG_VHID,
        Refusal.DIGEST,
        Refusal.VERSION,
        Refusal.CHECKSUM,
    ):
        assert node.refused[kind] > 0, kind
    assert node.vhid.role is Role.MASTER
    assert node.told == [
        "enabled: takes over after 3.0 s without an advertisement",
        "took over: no advertisement for 3.0 s",
    ]

    # A genuine advertisement that is played again is believed: ucarp's and OpenBSD's counters forbid more.
    attacker.socket.send(peer)
    attacker.socket.send(peer)
    run_until(lambda: node.vhid.contest is not None, node, attacker)
    assert node.vhid.role is Role.MASTER
    window = Replay({}).accept(parse_advertisement(peer[14:]))
    with pytest.raises(PacketRefused):
        window.accept(parse_advertisement(peer[14:]))


def damaged(frame: bytes, at: int, value: int) -> bytes:
    """A frame with one byte changed and its checksums right."""
    made = bytearray(frame)
    made[at] = value
    for start, end, place in ((14, 34, 24), (34, 70, 40)):
        made[place : place + 2] = bytes(2)
        made[place : place + 2] = checksum(bytes(made[start:end])).to_bytes(2, "big")
    return bytes(made)
