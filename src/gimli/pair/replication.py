"""How do connections travel between this kernel and the peer? The kernel's side of ``statesync``.

    owner:    events, dump --> intake --> StateSync --> datagrams
    replica:  datagrams --> StateSync --> writer

The kernel is never kept waiting: its events are read a little after the first of them, and then at that pace
until there are none; what the peer does not take piles up in StateSync, by connection and bounded.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections import deque
from ipaddress import ip_network
from typing import TYPE_CHECKING

from gimli import clock
from gimli.errors import GimliError
from gimli.pair import syncactions
from gimli.pair.aside import Aside
from gimli.pair.conntrack import Dump, Events, Writer, enable_events
from gimli.pair.ctfilter import Exemption, Filter
from gimli.pair.ctintake import Intake

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from gimli.loop import Deadline, Loop
    from gimli.pair.config import Sync
    from gimli.pair.statesync import StateSync
    from gimli.pair.syncactions import Action

_DATAGRAM_BYTES = 65_536
_DATAGRAMS_AT_ONCE = 64
_BATCHES_AT_ONCE = 16
"""Some 2,000 events, 5 ms of work; then others have their turn."""

_READ_AFTER_S = 0.002
"""How long an event may wait for others. To read costs as much as twenty events, and so does the datagram
that is made of them. On a host with little to do this is how far the replica is behind."""

_BUFFER_BYTES = 16 << 20
_SO_RCVBUFFORCE = 33


class SyncRefused(GimliError):
    """The sync link cannot be used."""


class Ends:
    """Where connections come from and go to; a simulation has others.

    Args:
        config: the link.
    """

    def __init__(self, config: Sync) -> None:
        self._config = config

    def link(self) -> socket.socket:
        """To the peer.

        Raises:
            SyncRefused: it cannot be opened.
        """
        return _open(self._config)

    def events(self) -> Events:
        """Of this kernel."""
        return Events()

    def dump(self) -> Dump:
        """Of this kernel."""
        return Dump()

    def writer(self) -> Writer:
        """Into this kernel, which is to tell of its connections from now on."""
        enable_events()
        return Writer()

    def aside(self, work: Callable[[], Dump | None]) -> Aside[Dump]:
        """Who does what takes the kernel long."""
        return Aside("conntrack", work)


class Replication:
    """The connections of this kernel, to or from the peer.

    Args:
        config: the link.
        sync: the machine.
        loop: that calls back.
        received: called with each datagram of the peer.
        due: called when the machine has a deadline.
        ordered: called with what the machine ordered on what the kernel told.
        own: this host's own addresses, packed, whose connections stay.
        ends: the link and this kernel.

    Raises:
        SyncRefused: the link cannot be opened.
        ConntrackRefused: the kernel does not tell of its connections.
    """

    def __init__(
        self,
        config: Sync,
        sync: StateSync,
        loop: Loop,
        received: Callable[[bytes], None],
        due: Callable[[], None],
        ordered: Callable[[list[Action]], None],
        own: Collection[bytes],
        ends: Ends | None = None,
    ) -> None:
        self._ends = ends or Ends(config)
        self._sync = sync
        self._loop = loop
        self._received = received
        self._due = due
        self._ordered = ordered
        self._peer = (str(config.peer), config.port)
        self._deadline: Deadline | None = None
        self.filter = Filter(own, [Exemption(network=ip_network(text)) for text in config.ignore])
        self._intake = Intake(self.filter)
        self.writer = self._ends.writer()
        self.unsent = 0
        self._events: Events | None = None
        self._reading: Deadline | None = None
        self._dump: Dump | None = None
        self._is_dump_wanted = False
        self._spare: Dump | None = None
        self._given_up: deque[Dump] = deque()
        self._aside = self._ends.aside(self._begin_dump)
        loop.watch(self._aside.fileno(), self._opened)
        self._socket = self._ends.link()
        loop.watch(self._socket.fileno(), self._readable)

    def carry_out(self, action: Action) -> None:
        """An order of the machine that is no journal line."""
        match action:
            case syncactions.Send(datagram):
                self._send(datagram)
            case syncactions.Apply(messages):
                self.writer.write(messages)
            case syncactions.Listen(wanted):
                self._stop_listening()
                if wanted:
                    self._events = self._ends.events()
                    self._loop.watch(self._events.fileno(), self._happened)
            case syncactions.Dump():
                self._close_dump()
                self._is_dump_wanted = True
                self._aside.tell()
            case _:
                raise AssertionError(f"{action} is for somebody else")

    def hear(self) -> None:
        """Read what has come, and nobody has read yet; some of it, where there is much."""
        self._readable(0)

    def settle(self) -> None:
        """After orders: wake when the machine has something to do."""
        # The nanosecond behind it: a hair before it, nothing is due, and it is asked for again at once.
        due_ns = int(self._sync.next_due_s() * clock.NANOSECONDS) + 1
        if self._deadline is None or self._deadline.callback is None or due_ns < self._deadline.at_ns:
            if self._deadline:
                self._deadline.cancel()
            self._deadline = self._loop.at(due_ns, self._wake)

    def close(self) -> None:
        """Let go of the link and of the kernel."""
        if self._deadline:
            self._deadline.cancel()
        self._close_dump()
        self._stop_listening()
        self._loop.forget(self._aside.fileno())
        self._aside.close()
        for dump in [*self._given_up, *([self._spare] if self._spare else [])]:
            dump.close()
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        self.writer.close()

    def _wake(self) -> None:
        self._deadline = None
        self._due()

    def _readable(self, _: int) -> None:
        for _round in range(_DATAGRAMS_AT_ONCE):
            try:
                datagram, sender = self._socket.recvfrom(_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError:
                return  # what came back of something we sent: nobody listens there yet
            if sender[0] == self._peer[0]:
                self._received(datagram)

    def _happened(self, _: int) -> None:
        assert self._events is not None
        self._loop.forget(self._events.fileno())
        self._reading = self._loop.after(_READ_AFTER_S, self._read)

    def _read(self) -> None:
        assert self._events is not None
        self._reading, events = None, self._events
        is_quiet = True
        for _round in range(_BATCHES_AT_ONCE):
            batch = events.drain()
            is_quiet = is_quiet and not batch.messages and not batch.lost
            if batch.lost:
                self._ordered(self._sync.events_lost(self._now_s()))
            self._sync.put(self._intake.take(batch.messages), self._now_s())
            if not batch.may_be_more:
                break
        self._due()
        if self._events is not events:
            return  # what was due has ended the listening, or begun it anew
        if is_quiet:
            self._loop.watch(events.fileno(), self._happened)
        else:
            self._reading = self._loop.after(_READ_AFTER_S, self._read)

    def _dumped(self, _: int) -> None:
        assert self._dump is not None
        if not self._sync.wants_dump:
            # The peer is slower than the kernel, which waits; we look again when the peer has taken some.
            self._loop.forget(self._dump.fileno())
            self._loop.after(0.01, self._dump_again)
            return
        self._sync.put_dumped(self._intake.take_dumped(self._dump.drain()), self._now_s())
        if self._dump.done:
            self._close_dump()
            self._ordered(self._sync.dump_done(self._now_s()))
        self._due()

    def _dump_again(self) -> None:
        if self._dump is not None:
            self._loop.watch(self._dump.fileno(), self._dumped)

    def _stop_listening(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        if self._events is not None:
            self._loop.forget(self._events.fileno())
            self._events.close()
            self._events = None

    def _close_dump(self) -> None:
        if self._dump is not None:
            self._loop.forget(self._dump.fileno())
            if self._dump.done and self._spare is None:
                self._spare = self._dump
            else:
                self._given_up.append(self._dump)
                self._aside.tell()
            self._dump = None

    def _begin_dump(self) -> Dump | None:
        """What the kernel takes long for, aside.

        For the first entry of a dump it walks through all of its buckets: 9 ms for 262,144. And the end of a
        netfilter socket waits for what the renewals of leases have left to do, a grace period of RCU, in
        which no lease can be renewed: 5 to 50 ms (nft_rcv_nl_event() in net/netfilter/nf_tables_api.c). So
        one whose dump has come to its end is used again.
        """
        while self._given_up:
            self._given_up.popleft().close()
        if not self._is_dump_wanted:
            return None
        self._is_dump_wanted = False
        if self._spare is None:
            return self._ends.dump()
        dump, self._spare = self._spare, None
        dump.again()
        return dump

    def _opened(self, _: int) -> None:
        for dump in self._aside.take():
            self._close_dump()
            self._dump = dump
            self._loop.watch(dump.fileno(), self._dumped)
        if self._is_dump_wanted:  # another one was ordered since
            self._close_dump()

    def _send(self, datagram: bytes) -> None:
        try:
            self._socket.sendto(datagram, self._peer)
        except OSError as error:
            # The link is down, or full: what counts is sent again.
            self.unsent += error.errno != errno.ECONNREFUSED

    def _now_s(self) -> float:
        return self._loop.now_ns() / clock.NANOSECONDS


def _open(config: Sync) -> socket.socket:
    family = socket.AF_INET if config.peer.version == 4 else socket.AF_INET6
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, config.interface.encode())
        for option in (socket.SO_SNDBUF, _SO_RCVBUFFORCE):
            made.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
        made.bind(("", config.port))
    except OSError as error:
        made.close()
        raise SyncRefused(
            f"cannot listen on port {config.port} of {config.interface}",
            why=str(error.strerror),
            fix="it takes root; see: ip link, and that no other program has the port: ss -ulpn",
        ) from error
    return made


def load_epoch(path: str) -> int:
    """The highest epoch that this host has seen before; 0 where nothing tells."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read(32).strip()
    except (OSError, UnicodeDecodeError):
        return 0
    return int(text) if text.isdigit() and len(text) < 20 else 0


def save_epoch(path: str, epoch: int) -> None:
    """Remember an epoch. A disk that refuses is no reason to stop: the peer knows it too.

    Written in place, for to put another file there may wait for the disk; epochs only grow, so that no digit
    of an earlier one stays.
    """
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(fd, f"{epoch}\n".encode())
        finally:
            os.close(fd)
