"""Two state syncs over a virtual link, on virtual time, from a seed: roles change, nodes die.

What must hold at every step is checked at every step (:class:`Breach`); what must hold in the end is checked
once everything has been quiet for a while.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import random
import struct

from gimli.errors import PeerError
from gimli.pair import ctinsertion, ctmessage, netlink
from gimli.pair.ctfilter import Filter
from gimli.pair.ctintake import Intake
from gimli.pair.statesync import StateSync
from gimli.pair.syncactions import (
    AdvertisementOverSync,
    Apply,
    Dump,
    Listen,
    Mode,
    Outranked,
    RememberEpoch,
    Send,
)
from gimli.pair.syncreceiver import DOUBT_S
from gimli.pair.syncwire import Kind, Reign, Wire
from tests.pair.connections import BEGUN, DUMPED, ENDED, UDP, UPDATED, Connection, End

PASSWORD = b"shared"
EVENTS_MAX = 40
STREAM = {Kind.STATES, Kind.BULK_BEGIN, Kind.BULK_END}
TUPLES = [
    Connection(
        End(f"10.0.0.{number}", 1000 + number), End("192.0.2.10", 80), protocol=6 if number % 3 else UDP
    )
    for number in range(1, 13)
]


class Breach(AssertionError):
    """A rule was broken; the text says which and when."""


class Kernel:
    """A connection table, told and changed by the messages of ctnetlink."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.table: dict[bytes, dict[int, bytes]] = {}

    def change(self) -> bytes:
        """Something happens to some connection; what the kernel tells of it."""
        base = self._chance.choice(TUPLES)
        key = ctmessage.canonical(base.message(BEGUN))[0]
        now = base.but(
            state=self._chance.randrange(1, 8) if base.protocol == 6 else None,
            timeout_s=self._chance.choice((30, 120, 432_000)),
            mark=self._chance.choice((0, 0, 5, 6)),
            labels=self._chance.choice((b"", b"\1" * 16)),
        )
        if key not in self.table:
            message = now.message(BEGUN)
            self.table[key] = ctmessage.parts(ctmessage.canonical(message)[1])
        elif self._chance.random() < 0.3:
            message = now.message(ENDED)
            del self.table[key]
        else:
            names = [name for name in ("protoinfo", "mark", "labels") if self._chance.random() < 0.5]
            message = now.message(UPDATED, names=names)
            self.table[key] |= ctmessage.parts(ctmessage.canonical(message)[1])
        return message

    def entry(self, key: bytes) -> bytes:
        """An entry of a dump."""
        return told(DUMPED, self.table[key])

    def write(self, message: bytes) -> list[bytes]:
        """What ctnetlink does with a message, and what it tells of it."""
        key, found = ctmessage.key_of(message), ctmessage.parts(message)
        _, kind, flags, _, _ = struct.unpack_from("=IHHII", message)
        if kind == ctmessage.DELETE:
            gone = self.table.pop(key, None)
            return [told(ENDED, gone)] if gone else []
        if key in self.table and not flags & netlink.EXCLUSIVE:
            self.table[key] |= found
            return [told(UPDATED, self.table[key])]
        if key not in self.table and flags & netlink.CREATE:
            self.table[key] = found
            return [told(BEGUN, found)]
        error = errno.EEXIST if key in self.table else errno.ENOENT
        tries = ctinsertion.second_try(message, error) or ()
        return [event for again in tries for event in self.write(again)]


def told(kind: tuple[int, int], parts: dict[int, bytes]) -> bytes:
    """A message of the kernel."""
    body = b"\2\0\0\0" + b"".join(parts.values())
    return struct.pack("=IHHII", 16 + len(body), *kind, 0, 0) + body


class Node:
    """One host: its kernel, which outlives its daemon, and its daemon."""

    def __init__(self, world: World, name: str, mode: Mode, kind: type[StateSync]) -> None:
        self._world = world
        self.name = name
        self.mode = mode
        self._kind = kind
        self.kernel = Kernel(world.chance)
        self.epoch_on_disk = 0
        self._wire = Wire(PASSWORD)
        self.start()

    def start(self) -> None:
        """Start the daemon, for the first time or anew."""
        self.sync = self._kind(
            self._world.chance.getrandbits(64) | 1, PASSWORD, self.mode, self.epoch_on_disk
        )
        self.intake = Intake(Filter())
        self.seen = Reign(self.epoch_on_disk, 0)
        self._listening = False
        self._events: list[bytes] = []
        self._overflow = False
        self._dump: list[bytes] | None = None
        self._dumped_ahead: list[bytes] = []
        self.advertisements: list[bytes] = []
        self.carry_out(self.sync.follow(self._world.now_s))

    def own(self) -> None:
        """CARP makes it MASTER."""
        self.carry_out(self.sync.own(self._world.now_s))
        self.seen = max(self.seen, self.sync.reign)

    def follow(self) -> None:
        """CARP makes it BACKUP."""
        self.carry_out(self.sync.follow(self._world.now_s))

    def traffic(self) -> None:
        """Packets change the kernel's table."""
        self._tell([self.kernel.change()])

    def _tell(self, messages: list[bytes]) -> None:
        if self._listening:
            self._events += messages
        if len(self._events) > EVENTS_MAX:
            del self._events[EVENTS_MAX:]
            self._overflow = True

    def run(self) -> None:
        """The loop has its turn."""
        now_s = self._world.now_s
        if self._overflow:
            self._overflow, self._events = False, []
            self.carry_out(self.sync.events_lost(now_s))
        events, self._events = self._events, []
        self.sync.put(self.intake.take(events), now_s)
        if self._dump is not None and self.sync.wants_dump:
            self._read_dump(now_s)
        if self.sync.next_due_s() <= now_s:
            self.carry_out(self.sync.due(now_s))

    def hear(self, data: bytes) -> None:
        """A datagram has come."""
        before = dict(self.sync._receiver.held)
        self.carry_out(self.sync.received(data, self._world.now_s))
        changed = before != self.sync._receiver.held
        try:
            datagram = self._wire.parse(data)
        except PeerError:
            if changed:
                raise Breach(f"{self.name} has applied what is not authentic") from None
            return
        if changed and datagram.reign < self.seen:
            raise Breach(f"{self.name} has applied {datagram.reign}, and knew {self.seen}")
        if datagram.to == self.sync.node_id and datagram.sender == self.sync.peer:
            self.seen = max(self.seen, datagram.reign)
        self.seen = max(self.seen, self.sync.reign)

    def carry_out(self, actions: list) -> None:
        """Do what state sync orders."""
        for action in actions:
            match action:
                case Send(datagram):
                    self._look_at(datagram)
                    self._world.send(self, datagram)
                case Apply(messages):
                    for message in messages:
                        self._tell(self.kernel.write(message))
                case Listen(wanted):
                    self._listening, self._events = wanted, []
                case Dump():
                    self._dump, self._dumped_ahead = list(self.kernel.table), []
                case RememberEpoch(epoch):
                    self.epoch_on_disk = max(epoch, self.epoch_on_disk)
                case Outranked():
                    self._world.outranked += 1
                case AdvertisementOverSync(packet):
                    self.advertisements.append(packet)

    def _look_at(self, data: bytes) -> None:
        datagram = self._wire.parse(data)
        if datagram.kind in STREAM and not self.sync.is_owner:
            raise Breach(f"{self.name} is a replica, and sends {datagram.kind.name}")

    def _read_dump(self, now_s: float) -> None:
        """As the kernel does it: a part is made when the one before is read, so it is old when it is read."""
        ready, self._dumped_ahead = self._dumped_ahead, []
        for key in self._dump[:3]:
            if key in self.kernel.table:
                self._dumped_ahead.append(self.kernel.entry(key))
        finished = not self._dump and not self._dumped_ahead
        del self._dump[:3]
        self.sync.put_dumped(self.intake.take_dumped(ready), now_s)
        if finished:
            self._dump = None
            self.carry_out(self.sync.dump_done(now_s))


class World:
    """Everything, from a seed.

    Args:
        seed: of all chance.
        mode: of both nodes.
        kind: a state sync, or a mutant of it.
    """

    def __init__(self, seed: int, mode: Mode, kind: type[StateSync] = StateSync) -> None:
        self.chance = random.Random(seed)
        self.now_s = 1000.0
        self.outranked = 0
        self._order = itertools.count()
        self._on_the_way: list[tuple[float, int, Node, bytes]] = []
        self._recorded: list[tuple[Node, bytes]] = []
        self._loss = self._doubling = self._damage = 0.0
        self._cut = False
        self.nodes = [Node(self, name, mode, kind) for name in "ab"]

    def send(self, sender: Node, data: bytes) -> None:
        """Put a datagram on the link, which does what links do."""
        chance = self.chance
        to = (
            next(node for node in getattr(self, "nodes", ()) if node is not sender)
            if hasattr(self, "nodes")
            else None
        )
        if to is None or self._cut or chance.random() < self._loss:
            return
        if chance.random() < self._damage:
            at = chance.randrange(len(data))
            data = data[:at] + bytes((data[at] ^ chance.randrange(1, 256),)) + data[at + 1 :]
        for _ in range(2 if chance.random() < self._doubling else 1):
            delay_s = chance.expovariate(1000) + (
                chance.random() if chance.random() < self._doubling / 4 else 0
            )
            heapq.heappush(self._on_the_way, (self.now_s + delay_s, next(self._order), to, data))
        if chance.random() < 0.05:
            self._recorded.append((to, data))

    def run(self, steps: int) -> None:
        """Trouble."""
        for _ in range(steps):
            self._trouble()
            self._pass_time(self.chance.expovariate(200))

    def settle(self, seconds: float = 40.0) -> None:
        """Quiet: no traffic, a perfect link, one master."""
        self._loss = self._doubling = self._damage = 0.0
        self._cut = False
        self._quiet(seconds)
        if not any(node.sync.is_owner for node in self.nodes):
            self.chance.choice(self.nodes).own()
        self._quiet(seconds)

    def check(self) -> None:
        """What must hold when all is settled."""
        owners = [node for node in self.nodes if node.sync.is_owner]
        if len(owners) != 1:
            raise Breach(f"{len(owners)} owners")
        (owner,) = owners
        (replica,) = (node for node in self.nodes if node is not owner)
        held = {key: ctmessage.parts(message) for key, message in replica.sync._receiver.held.items()}
        if held != owner.kernel.table:
            raise Breach(f"the replica holds {len(held)} connections that are not the owner's")
        if not replica.sync.is_synchronised:
            raise Breach("the replica does not know that it has everything")
        if replica.mode is Mode.KERNEL:
            self._check_kernel(replica, held)

    def _check_kernel(self, replica: Node, held: dict[bytes, dict[int, bytes]]) -> None:
        for key, found in replica.kernel.table.items():
            if key not in held:
                if int.from_bytes(found[ctmessage.TIMEOUT][4:], "big") > DOUBT_S:
                    raise Breach("a connection that the owner does not have stays in the replica's kernel")
            elif {**found, ctmessage.TIMEOUT: b""} != {**held[key], ctmessage.TIMEOUT: b""}:
                raise Breach("the replica's kernel has another state than it holds")
        if missing := set(held) - set(replica.kernel.table):
            raise Breach(f"{len(missing)} connections are missing in the replica's kernel")

    def _trouble(self) -> None:
        chance, node = self.chance, self.chance.choice(self.nodes)
        owners = [one for one in self.nodes if one.sync.is_owner]
        match chance.randrange(120):
            case 0:
                node.follow()
            case 1 | 2:
                node.own()
            case 3:
                # A clean switch of roles.
                for one in owners:
                    one.follow()
                node.own()
            case 4:
                node.start()
                if chance.random() < 0.3:
                    node.epoch_on_disk = 0
            case 5:
                self._loss, self._doubling = chance.choice((0, 0.05, 0.3)), chance.choice((0, 0.1, 0.5))
                self._damage = chance.choice((0, 0, 0.05))
            case 6:
                self._cut = chance.random() < 0.5
            case 7:
                self._pass_time(chance.choice((0.5, 2.0, 8.0)))
            case 8 if self._recorded:
                # Somebody plays back what he has recorded.
                to, data = chance.choice(self._recorded)
                to.hear(data)
            case 9:
                for one in owners * 60:
                    one.traffic()
            case 10:
                node.carry_out(node.sync.advertise(chance.randbytes(36)))
            case number if number < 90:
                for one in owners:
                    one.traffic()

    def _quiet(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self._pass_time(0.01)

    def _pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        while self._on_the_way and self._on_the_way[0][0] <= self.now_s:
            _, _, to, data = heapq.heappop(self._on_the_way)
            to.hear(data)
        for node in self.nodes:
            if self.chance.random() < 0.8:
                node.run()
