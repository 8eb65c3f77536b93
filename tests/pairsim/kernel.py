"""What of its kernel does a daemon see? The interfaces of ``gimli.pair``, on a machine that is not."""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from typing import TYPE_CHECKING, Any

from gimli.pair import conntrack
from gimli.pair.address import AddressRefused, Place
from gimli.pair.guard import Lease, lease_length_s, lease_set
from gimli.pair.lease import LeaseLapsed
from gimli.pair.linkwatch import LinkCameUp, LinkWentDown
from gimli.pair.nft import GuardRefused
from gimli.pair.presence import Presence
from gimli.pair.tenure import Tenure
from gimli.pair.track import Tracked
from gimli.pair.warden import Look
from pairsim.conntrack import Events, Netlink
from pairsim.machine import LAN, SYNC
from pairsim.process import Inbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gimli.errors import GimliError
    from gimli.loop import Loop
    from gimli.pair.config import Carp, Pair
    from gimli.pair.linkwatch import LinkEvent
    from gimli.pair.packet import Address
    from pairsim.network import Link
    from pairsim.process import Process

_ETHERNET_BYTES = 14
_CARP = 112
_NO_CARRIER = "it has no carrier"


class Weather:
    """How likely a call of a kernel fails, at the moment.

    Args:
        likely: chance.
    """

    def __init__(self, likely: Callable[[float], bool]) -> None:
        self._likely = likely
        self.sending = 0.0
        self.addresses = 0.0
        self.guard = 0.0

    def clear(self) -> None:
        """Nothing fails."""
        self.sending = self.addresses = self.guard = 0.0

    def fails(self, probability: float) -> bool:
        """Whether this one does."""
        return bool(probability) and self._likely(probability)


class Leases:
    """As ``gimli.pair.nft.Leases``."""

    def __init__(self, process: Process, weather: Weather) -> None:
        self._process = process
        self._machine = process.machine
        self._weather = weather

    def acquire(self, leases: Iterable[Lease], length_s: float) -> None:
        """Hold them from now on."""
        self._transact("acquire", leases, GuardRefused("cannot take the lease"))
        for lease in leases:
            self._machine.lease(lease.set_name, length_s)

    def renew(self, leases: Iterable[Lease], length_s: float) -> None:
        """Hold them for longer, if they are held."""
        lapsed = LeaseLapsed("the lease has lapsed")
        self._transact("renew", leases, lapsed)
        if not all(self._machine.holds(lease.set_name) for lease in leases):
            raise lapsed
        for lease in leases:
            self._machine.lease(lease.set_name, length_s)

    def release(self, leases: Iterable[Lease]) -> None:
        """Hold them no more."""
        self._transact("release", leases, GuardRefused("cannot give up the lease"))
        for lease in leases:
            self._machine.unlease(lease.set_name)

    def _transact(self, what: str, leases: Iterable[Lease], absent: GimliError) -> None:
        self._process.call(what)
        if self._weather.fails(self._weather.guard):
            raise GuardRefused("the kernel does not answer about a lease")
        if not {lease.set_name for lease in leases} <= (self._machine.fence or set()):
            raise absent


class Addresses:
    """As ``gimli.pair.address.Addresses``."""

    def __init__(self, process: Process, weather: Weather, vhid: int) -> None:
        self._process = process
        self._weather = weather
        self._vhid = vhid

    def take(self) -> None:
        """Have them, or some of them and an error."""
        self._process.call("take addresses")
        if self._weather.fails(self._weather.addresses):
            raise AddressRefused("cannot take the addresses")
        self._process.machine.give_address(self._vhid, present=True)

    def drop(self) -> None:
        """Have none of them."""
        self._process.call("drop addresses")
        if self._weather.fails(self._weather.addresses):
            raise AddressRefused("cannot drop the addresses")
        self._process.machine.give_address(self._vhid, present=False)

    def close(self) -> None:
        """Drop them, and remove their device."""
        self.drop()


class Sender:
    """As ``gimli.pair.wire.Sender``, with the fence at egress."""

    def __init__(self, process: Process, weather: Weather, link: Link, vhid: int) -> None:
        self._process = process
        self._weather = weather
        self._link = link
        self._vhid = vhid

    def send(self, frame: bytes) -> OSError | None:
        """Send a frame; what is no advertisement, nobody here listens to."""
        self._process.call("send")
        machine = self._process.machine
        if not machine.links[LAN]:
            return OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN))
        if not machine.may_send(self._vhid) or self._weather.fails(self._weather.sending):
            return OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        if (frame[12:14] == b"\x08\0" and frame[23] == _CARP) or (
            frame[12:14] == b"\x86\xdd" and frame[20] == _CARP
        ):
            self._link.send(machine, frame)
        return None


class Host:
    """As ``gimli.pair.host.Host``.

    Args:
        process: whose.
        pair: what it was told.
        sources: the interface's own addresses.
        lan: where its frames go.
        weather: how likely its calls fail.
    """

    def __init__(
        self, process: Process, pair: Pair, sources: tuple[Address, ...], lan: Link, weather: Weather
    ) -> None:
        self._process = process
        self._machine = process.machine
        self._pair = pair
        self._sources = sources
        self._lan = lan
        self._weather = weather
        self._fence = {lease_set(carp.vhid) for carp in pair.carp}
        self._carrier = dict(self._machine.links)
        self.presences: dict[int, Presence] = {}
        self._readable: Callable[[int], None] = lambda _: None
        self.places: tuple[Place, ...] = ()  # nobody else removes an address here

    def sources(self) -> dict[int, Address]:
        """The address that ranks a vhid among equals."""
        return {carp.vhid: self._of_its_families(carp)[0] for carp in self._pair.carp}

    def open(
        self,
        loop: Loop,
        heard: Callable[[str, bytes], None],
        links_changed: Callable[[list[LinkEvent]], None],
        guard_changed: Callable[[list[Look]], None],
    ) -> None:
        """Set up the guard, then everything that listens."""
        process = self._process
        process.call("set up the guard")
        self._machine.build_fence(self._fence, fresh=True)
        leases = Leases(process, self._weather)
        for carp in self._pair.carp:
            self.presences[carp.vhid] = Presence(
                carp,
                Tenure(
                    Lease(lease_set(carp.vhid), (carp.interface,)),
                    lease_length_s(carp.advbase_s, carp.advskew),
                    leases,  # type: ignore[arg-type]
                    lambda: loop.now_ns() / 1e9,
                ),
                Addresses(process, self._weather, carp.vhid),  # type: ignore[arg-type]
                Sender(process, self._weather, self._lan, carp.vhid),  # type: ignore[arg-type]
                bytes((2, 0, 0, 0, 0, self._machine.number)),
                self._of_its_families(carp),
            )
        lan = process.inboxes[LAN] = Inbox(process.wake)

        def readable(_: int) -> None:
            for frame in lan.take():
                heard(LAN, frame[_ETHERNET_BYTES:])

        self._readable = readable

        def guard_told(_: int) -> None:
            process.fence_events.take()
            guard_changed([self._mend_guard()])

        def links_told(_: int) -> None:
            process.link_events.take()
            links_changed(self._hear())

        loop.watch(process.epoll.open(lan), readable)
        loop.watch(process.epoll.open(process.fence_events), guard_told)
        loop.watch(process.epoll.open(process.link_events), links_told)

    def obstacles(self) -> dict[int, str]:
        """Why a vhid's link is of no use."""
        return {carp.vhid: "" if self._carrier[LAN] else f"{LAN}: {_NO_CARRIER}" for carp in self._pair.carp}

    def look_at_links(self) -> list[Tracked]:
        """What is wrong with tracked interfaces."""
        return [
            Tracked(f"interface {name}:", "" if self._carrier[name] else _NO_CARRIER)
            for name in self._pair.track.interfaces
        ]

    def hear(self) -> None:
        """Read what has come, and nobody has read yet."""
        while self._process.inboxes[LAN].is_ready:
            self._readable(0)

    def ask_for_carriers(self) -> None:
        """Here links tell at once."""
        self._process.call("ask for carriers")

    def look_at_guard(self) -> None:
        """Have the rules looked at, and mended, aside."""
        self._process.call("look at the guard")
        self._process.fence_events.put("look")

    def _hear(self) -> list[LinkEvent]:
        """As ``gimli.pair.linkwatch.LinkWatch``: what has changed since the last time."""
        events: list[LinkEvent] = []
        for name, carrier in self._machine.links.items():
            if carrier != self._carrier[name]:
                self._carrier[name] = carrier
                events.append(LinkCameUp(name) if carrier else LinkWentDown(name, _NO_CARRIER))
        return events

    def own_addresses(self) -> frozenset[bytes]:
        """Those that do not move."""
        return frozenset(source.packed for source in self._sources)

    def _mend_guard(self) -> Look:
        """As ``gimli.pair.warden.look_and_mend``."""
        self._process.call("mend the guard")
        if self._weather.fails(self._weather.guard):
            return Look((), ("nft hangs",))
        if self._machine.is_guard_whole:
            return Look()
        self._machine.build_fence(self._fence, fresh=False)
        return Look(("it was altered",))

    def close(self) -> list[str]:
        """Leave nothing behind but the guard."""
        wrong = []
        for presence in self.presences.values():
            try:
                presence.tenure.end()
                presence.close()
            except (AddressRefused, GuardRefused) as refused:
                wrong.append(str(refused))
        return wrong

    def _of_its_families(self, carp: Carp) -> tuple[Address, ...]:
        versions = {address.version for address in carp.addresses}
        return tuple(source for source in self._sources if source.version in versions)


class Ends:
    """As ``gimli.pair.replication.Ends``: the real classes, on sockets that are not."""

    def __init__(self, process: Process, link: Link, peer: str, events_size: int) -> None:
        self._process = process
        self._link = link
        self._peer = peer
        self._events_size = events_size

    def link(self) -> LinkSocket:
        """To the peer."""
        made = LinkSocket(self._process, self._link, self._peer)
        made.fd = self._process.epoll.open(made.inbox)
        return made

    def events(self) -> Events:
        """Of this kernel."""
        self._process.call("listen")
        made = Events(self._process.machine.conntrack, self._events_size, self._process.wake)
        made.fd = self._process.epoll.open(made)
        return made

    def dump(self) -> conntrack.Dump:
        """Of this kernel."""
        with _instead(self._netlink(lambda _: None)):  # by a thread, which is not where a process is ended
            return conntrack.Dump()

    def aside(self, work: Callable[[], conntrack.Dump | None]) -> Aside:
        """Who does what takes the kernel long."""
        made = Aside(self._process, work)
        made.fd = self._process.epoll.open(made)
        return made

    def writer(self) -> conntrack.Writer:
        """Into this kernel."""
        with _instead(self._netlink(self._process.call)):
            return conntrack.Writer()

    def _netlink(self, call: Callable[[str], None]) -> Netlink:
        made = Netlink(self._process.machine.conntrack, call)
        made.fd = self._process.epoll.open(made)
        return made


class Aside:
    """As ``gimli.pair.aside.Aside``: a thread of the process, that stands still and ends with it."""

    def __init__(self, process: Process, work: Callable[[], Any]) -> None:
        self._process = process
        self._work = work
        self._found: deque[Any] = deque()
        self._is_told = False
        self.fd = -1

    @property
    def is_ready(self) -> bool:
        """Whether there is something to take."""
        return bool(self._found)

    def fileno(self) -> int:
        """For the loop."""
        return self.fd

    def tell(self) -> None:
        """Do it soon."""
        if not self._is_told:
            self._is_told = True
            self._process.world.after(self._process.world.between(0.0001, 0.01), "aside", self._serve)

    def take(self) -> list[Any]:
        """What was found."""
        found, self._found = list(self._found), deque()
        return found

    def close(self) -> None:
        """It ends."""
        self._work = lambda: None

    def _serve(self) -> None:
        process = self._process
        if process.is_frozen:
            process.world.after(0.01, "aside", self._serve)
        elif not process.is_dead:
            self._is_told = False
            if (found := self._work()) is not None:
                self._found.append(found)
                process.wake()


@contextlib.contextmanager
def _instead(made: Netlink) -> Iterator[None]:
    """The next ctnetlink socket is this one."""
    real, conntrack._netlink_socket = conntrack._netlink_socket, lambda _bytes: made  # type: ignore[assignment]
    try:
        yield
    finally:
        conntrack._netlink_socket = real


class LinkSocket:
    """A UDP socket on the sync link."""

    def __init__(self, process: Process, link: Link, peer: str) -> None:
        self._process = process
        self._link = link
        self._peer = peer
        self.inbox = process.inboxes[SYNC] = Inbox(process.wake)
        self.fd = -1
        self.is_watched_for: Callable[[bytes], None] = lambda _datagram: None

    def fileno(self) -> int:
        """For the loop."""
        return self.fd

    def recvfrom(self, _bytes: int) -> tuple[bytes, tuple[str, int]]:
        """A datagram and its sender."""
        found = self.inbox.take(1)
        if not found:
            raise BlockingIOError
        return found[0], (self._peer, 3781)

    def sendto(self, datagram: bytes, _peer: Any) -> None:
        """Send a datagram."""
        self._process.call("sendto")
        machine = self._process.machine
        if not machine.links[SYNC]:
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        self.is_watched_for(datagram)
        self._link.send(machine, datagram)

    def close(self) -> None:
        """Hear no more."""
        self._process.inboxes.pop(SYNC, None)


class Journal:
    """As ``gimli.journal.Journal``; it outlives the daemon."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def record(self, event: str, **details: Any) -> None:
        """Write a line."""
        self._process.call("journal")
        machine, world = self._process.machine, self._process.world
        world.say(machine.name, "journal:", event, details)
        machine.journal.append((world.now_ns, event, details))


class Hooks:
    """As ``gimli.pair.hooks.Hooks``."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def role_changed(self, _carp: Carp, _role: str) -> None:
        """A command would run."""
        self._process.call("hook")
