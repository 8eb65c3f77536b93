"""What does state sync send, acknowledge and apply? The real one, looked at from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.pair import ctmessage
from gimli.pair.ctmessage import Change
from gimli.pair.statesync import StateSync
from gimli.pair.syncactions import Apply
from gimli.pair.syncwire import Datagram, Kind, Wire
from pairsim.traffic import content
from simulation.world import Violated

if TYPE_CHECKING:
    from gimli.pair.config import Sync
    from gimli.pair.replication import Replication
    from gimli.pair.syncactions import Action
    from pairsim.conntrack import Attributes
    from pairsim.machine import Machine

_STREAM = frozenset({Kind.STATES, Kind.BULK_BEGIN, Kind.BULK_END})
_KIND_AT = 5
"""Byte of a datagram that has its kind."""


class Streams:
    """What every owner of a story has sent: datagrams by number, by the owner's id."""

    def __init__(self) -> None:
        self._sent: dict[int, dict[int, Datagram]] = {}

    def note(self, datagram: Datagram) -> None:
        """An owner makes one."""
        self._sent.setdefault(datagram.sender, {})[datagram.number] = datagram

    def after(self, owner: int, number: int, last: int) -> list[Datagram]:
        """Those of an owner from behind ``number`` to ``last``; from the last beginning on, if there is one."""
        sent = self._sent.get(owner, {})
        found = [sent[each] for each in range(number + 1, last + 1) if each in sent]
        begins = [at for at, datagram in enumerate(found) if datagram.kind is Kind.BULK_BEGIN]
        return found[begins[-1] :] if begins else found


def attributes_of(message: bytes) -> Attributes:
    """What a canonical message says, but for the time that is left."""
    return content(ctmessage.parts(message))


class _Expected:
    """What a replica that has applied a stream up to a number must hold."""

    def __init__(self) -> None:
        self.owner = 0
        self.number = 0
        self.connections: dict[bytes, Attributes] = {}
        self.is_whole = False
        """A bulk has ended: it holds nothing else."""
        self._is_in_bulk = False

    def advance(self, streams: Streams, owner: int, number: int) -> set[bytes]:
        """To another number; the keys of connections that have changed."""
        if owner != self.owner or number < self.number:
            self.__init__()  # type: ignore[misc]
            self.owner = owner
        changed: set[bytes] = set()
        for datagram in streams.after(owner, self.number, number):
            if datagram.kind is Kind.BULK_BEGIN:
                self.connections, self.is_whole, self._is_in_bulk = {}, False, True
            elif datagram.kind is Kind.BULK_END:
                self.is_whole, self._is_in_bulk = self._is_in_bulk or self.is_whole, False
                changed.update(self.connections)
            else:
                for key, message in ctmessage.split(datagram.payload):
                    changed.add(key)
                    self._apply(key, message)
        self.number = number
        return changed

    def _apply(self, key: bytes, message: bytes) -> None:
        change = ctmessage.change_in(message)
        if change == Change.ENDED:
            self.connections.pop(key, None)
        elif change == Change.UPDATED and key in self.connections:
            self.connections[key] |= attributes_of(message)
        else:
            self.connections[key] = attributes_of(message)


class WatchedSync(StateSync):
    """State sync of one process.

    Args:
        node_id: of the process.
        config: what it was told.
        epoch: from the disk.
        streams: of the story.
        machine: on which it is.
    """

    def __init__(self, node_id: int, config: Sync, epoch: int, streams: Streams, machine: Machine) -> None:
        super().__init__(node_id, config.password, config.mode, epoch)
        self._wire = _WatchedWire(config.password, self)
        self._streams = streams
        self._machine = machine
        self._name = machine.name
        self._expected = _Expected()
        self._parsed: Datagram | None = None
        self._before: dict[bytes, bytes] = {}
        self.owed: dict[bytes, bytes] = {}
        """What was held when it became owner: its kernel must have it."""

    @property
    def connections(self) -> dict[bytes, bytes]:
        """What it holds as a replica."""
        return self._receiver.held

    def watch(self, replication: Replication) -> None:
        """Look at each datagram when it is sent."""
        replication._socket.is_watched_for = self._sending  # type: ignore[attr-defined]

    def own(self, now_s: float) -> list[Action]:
        """As it does, and what it owes."""
        before = self.reign
        if not self.is_owner:
            self.owed = dict(self.connections)
            self._machine.conntrack.touched.clear()
        actions = super().own(now_s)
        self._check_reign(before)
        return actions

    def received(self, data: bytes, now_s: float) -> list[Action]:
        """As it does; what is of a lower reign changes nothing."""
        before, self._parsed = self.reign, None
        actions = super().received(data, now_s)
        self._check_reign(before)
        heard = self._parsed
        if heard and heard.kind in _STREAM and heard.reign < before:
            if self.connections != self._before or any(isinstance(action, Apply) for action in actions):
                raise Violated(f"{self._name} applies states of {heard.reign}, and knows {before}")
        return actions

    def heard(self, datagram: Datagram) -> None:
        """The wire has parsed one."""
        self._parsed = datagram
        if datagram.reign < self.reign:
            self._before = dict(self.connections)

    def made(self, datagram: Datagram) -> None:
        """The wire has packed one."""
        if datagram.kind in _STREAM:
            self._streams.note(datagram)
        elif datagram.kind is Kind.ACK and not self.is_owner:
            self._check_acknowledged(datagram)

    def _sending(self, datagram: bytes) -> None:
        if datagram[_KIND_AT] in _STREAM and not self.is_owner:
            raise Violated(f"{self._name} is a replica, and sends {Kind(datagram[_KIND_AT]).name}")

    def _check_acknowledged(self, datagram: Datagram) -> None:
        expected, held = self._expected, self.connections
        for key in expected.advance(self._streams, datagram.reign.owner, datagram.number):
            wanted = expected.connections.get(key)
            found = attributes_of(held[key]) if key in held else None
            if found != wanted:
                raise Violated(
                    f"{self._name} acknowledges {datagram.number}, and holds {found} where {wanted} was sent"
                )
        if expected.is_whole and len(held) != len(expected.connections):
            raise Violated(
                f"{self._name} acknowledges {datagram.number}, and holds {len(held)} connections "
                f"where {len(expected.connections)} were sent"
            )

    def _check_reign(self, before: object) -> None:
        if self.reign < before:  # type: ignore[operator]
            raise Violated(f"{self._name} forgets the reign {before} for {self.reign}")


class _WatchedWire(Wire):
    def __init__(self, password: bytes, sync: WatchedSync) -> None:
        super().__init__(password)
        self._sync = sync

    def pack(self, datagram: Datagram) -> bytes:
        self._sync.made(datagram)
        return super().pack(datagram)

    def parse(self, data: bytes) -> Datagram:
        datagram = super().parse(data)
        self._sync.heard(datagram)
        return datagram
