"""What has this host for its vhids? Links, sockets, the guard, and one presence for each.

Everything of the kernel that is neither a timer nor a connection is opened, looked at and closed here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from gimli import clock
from gimli.errors import GimliError
from gimli.pair import guard, nft, packet, readback
from gimli.pair.address import Addresses, AddressRefused, Place, subnets_of
from gimli.pair.aside import Aside
from gimli.pair.carrier import Carrier
from gimli.pair.config import Mac
from gimli.pair.guard import Guard, Guarded, Vhid
from gimli.pair.lease import Leases
from gimli.pair.links import Links
from gimli.pair.linkwatch import LinkWatch
from gimli.pair.netlink_socket import NETFILTER, Netlink
from gimli.pair.nft import GuardRefused, GuardWatch
from gimli.pair.presence import Presence
from gimli.pair.settings import Settings
from gimli.pair.tenure import Tenure
from gimli.pair.track import Tracked
from gimli.pair.warden import look_and_mend
from gimli.pair.wire import Receiver, Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.loop import Loop
    from gimli.pair.config import Carp, Pair
    from gimli.pair.links import Link
    from gimli.pair.linkwatch import LinkEvent
    from gimli.pair.packet import Address
    from gimli.pair.warden import Look

_ETHERNET_BYTES = 14
_HEARINGS_MAX = 32
"""Of 64 frames each: who floods us is not waited for."""
_GUARD_DEBOUNCE_S = 0.01
"""Somebody else's change may come in several transactions."""


class SourceMissing(GimliError):
    """An interface has no address of its own to advertise from."""


class Host:
    """This host's side of a pair.

    Args:
        pair: what it was told.
        runtime_dir: for what must be remembered until the next boot.

    Raises:
        GimliError: an interface is not there, or has no address to advertise from.
    """

    def __init__(self, pair: Pair, runtime_dir: str) -> None:
        self._pair = pair
        self._settings = Settings(os.path.join(runtime_dir, "settings.json"))
        self._links = Links()
        self.places = tuple(_place(carp) for carp in pair.carp)
        self.presences: dict[int, Presence] = {}
        self.guard: Guard | None = None
        self._virtual = {address.ip for carp in pair.carp for address in carp.addresses}
        self._leases = Leases()
        self._asking = Netlink(NETFILTER)
        devices = {name for place in self.places for name in (place.interface, place.device)}
        self._watch = LinkWatch(dict.fromkeys([*devices, *pair.track.interfaces]))
        self._closers: list[Callable[[], None]] = []
        self._hearing: list[Callable[[], bool]] = []
        self._carriers: Aside[bool] | None = None
        self._warden: Aside[Look] | None = None

    def sources(self) -> dict[int, Address]:
        """For each vhid the address that ranks it among equals.

        Raises:
            SourceMissing: an interface has none.
        """
        return {carp.vhid: self._sources(carp)[0] for carp in self._pair.carp}

    def open(
        self,
        loop: Loop,
        heard: Callable[[str, bytes], None],
        links_changed: Callable[[list[LinkEvent]], None],
        guard_changed: Callable[[list[Look]], None],
    ) -> None:
        """Set up the guard, then everything that listens.

        Raises:
            GimliError: the kernel refuses.
        """
        self._set_up_guard()
        assert self.guard is not None
        for carp, place in zip(self._pair.carp, self.places, strict=True):
            addresses = Addresses(place, self._settings)
            addresses.prepare()
            link = self._link(carp.interface)
            sender = Sender(carp.interface)
            self._closers.append(sender.close)
            self.presences[carp.vhid] = Presence(
                carp,
                self._tenure(carp, loop),
                addresses,
                sender,
                bytes.fromhex(link.mac.replace(":", "")),
                self._sources(carp),
            )
        for interface in dict.fromkeys(carp.interface for carp in self._pair.carp):
            self._listen(loop, interface, heard)
        self._watch_links(loop, links_changed)
        self._watch_guard(loop, guard_changed)

    def obstacles(self) -> dict[int, str]:
        """For each vhid why its link is of no use; empty where it is of use."""
        troubles = {
            carp.vhid: (carp.interface, self._watch.trouble(carp.interface)) for carp in self._pair.carp
        }
        return {vhid: f"{name}: {trouble}" if trouble else "" for vhid, (name, trouble) in troubles.items()}

    def look_at_links(self) -> list[Tracked]:
        """What is wrong with tracked interfaces."""
        return [
            Tracked(f"interface {name}:", self._watch.trouble(name)) for name in self._pair.track.interfaces
        ]

    def ask_for_carriers(self) -> None:
        """Ask for what the kernel would tell up to a second late; it comes to ``links_changed``."""
        if self._carriers:
            self._carriers.tell()

    def hear(self) -> None:
        """Read what has come on the interfaces, and nobody has read yet."""
        for readable in self._hearing:
            for _ in range(_HEARINGS_MAX):
                if not readable():
                    break

    def own_addresses(self) -> frozenset[bytes]:
        """Addresses that do not move with mastership, packed: their connections are this host's own."""
        found = (each.address.ip for each in self._links.addresses())
        return frozenset(address.packed for address in found if address not in self._virtual)

    def look_at_guard(self) -> None:
        """Have the rules looked at, and mended; ``guard_changed`` is called then."""
        if self._warden:
            self._warden.tell()

    def guard_counts(self) -> dict[str, int] | None:
        """Frames dropped, by counter; None when there are no rules.

        Raises:
            GuardRefused: the rules cannot be read.
        """
        return nft.counts(self._asking)

    def close(self) -> list[str]:
        """Leave nothing behind but the guard.

        Returns:
            What could not be removed, in words.
        """
        wrong = []
        for presence in self.presences.values():
            try:
                presence.tenure.end()
                presence.close()
            except (AddressRefused, GuardRefused) as refused:
                wrong.append(str(refused))
        for close in reversed(self._closers):
            close()
        self._settings.restore()
        self._leases.close()
        self._asking.close()
        self._links.close()
        return wrong

    def _set_up_guard(self) -> None:
        self.guard = wanted_guard(self._pair, has_egress=nft.has_egress())
        nft.apply(guard.ruleset(self.guard))
        if differences := readback.verify(nft.read(), self.guard):
            raise GuardRefused("the guard is not what was set up", why="; ".join(differences))

    def _tenure(self, carp: Carp, loop: Loop) -> Tenure:
        assert self.guard is not None
        return Tenure(
            guard.lease_of(self.guard, carp.vhid),
            guard.lease_length_s(carp.advbase_s, carp.advskew),
            self._leases,
            lambda: loop.now_ns() / clock.NANOSECONDS,
        )

    def _listen(self, loop: Loop, interface: str, heard: Callable[[str, bytes], None]) -> None:
        receiver = Receiver(interface)

        def readable() -> bool:
            frames = receiver.receive()
            for frame in frames:
                heard(interface, frame[_ETHERNET_BYTES:])
            return bool(frames)

        self._hearing.append(readable)
        self._call_back(loop, receiver, readable)

    def _call_back(
        self,
        loop: Loop,
        opened: Receiver | LinkWatch | GuardWatch | Aside[Any],
        readable: Callable[[], object],
    ) -> None:
        def close() -> None:
            loop.forget(opened.fileno())
            opened.close()

        def call_back(_: int) -> None:
            readable()

        loop.watch(opened.fileno(), call_back)
        self._closers.append(close)

    def _watch_links(self, loop: Loop, links_changed: Callable[[list[LinkEvent]], None]) -> None:
        watch = self._watch
        asking = Carrier(
            dict.fromkeys([*(carp.interface for carp in self._pair.carp), *self._pair.track.interfaces])
        )
        self._closers.append(asking.close)
        carriers = self._carriers = Aside("carrier", asking.has_changed)
        self._call_back(loop, watch, lambda: links_changed(watch.read()))
        self._call_back(loop, carriers, lambda: links_changed(watch.poll() if carriers.take() else []))

    def _watch_guard(self, loop: Loop, guard_changed: Callable[[list[Look]], None]) -> None:
        assert self.guard is not None
        wanted, watch, waits = self.guard, GuardWatch(self._leases.port), False
        warden = self._warden = Aside("warden", lambda: look_and_mend(wanted))

        def changed() -> None:
            nonlocal waits
            if watch.has_changed() and not waits:
                waits = True
                loop.after(_GUARD_DEBOUNCE_S, look)

        def look() -> None:
            nonlocal waits
            waits = False
            warden.tell()

        self._call_back(loop, watch, changed)
        self._call_back(loop, warden, lambda: guard_changed(warden.take()))

    def _link(self, name: str) -> Link:
        link = self._links.link(name)
        if link is None:
            raise AddressRefused(
                f"there is no interface {name}", why="the host has none of that name", fix="see: ip link"
            )
        return link

    def _sources(self, carp: Carp) -> tuple[Address, ...]:
        """The interface's own addresses to advertise from: one of each family that the vhid has."""
        link = self._link(carp.interface)
        own = [each.address.ip for each in self._links.addresses(link.index)]
        own = [address for address in own if address not in self._virtual]
        versions = {address.version for address in carp.addresses}
        ipv4 = [address for address in own if address.version == 4 in versions]
        ipv6 = [address for address in own if address.version == 6 in versions and address.is_link_local]
        found: list[Address] = [*ipv4[:1], *ipv6[:1]]
        if not found:
            raise SourceMissing(
                f"vhid {carp.vhid}: {carp.interface} has no address of its own",
                why="advertisements come from one, of the same family as the virtual addresses",
                fix=f"give it one: ip address add 192.0.2.2/24 dev {carp.interface}",
            )
        return tuple(found)


def wanted_guard(pair: Pair, *, has_egress: bool) -> Guard:
    """The guard of this host, the same in every role.

    Raises:
        AddressRefused: an interface is not there.
    """
    vhids = tuple(
        Vhid(place.vhid, place.interface, tuple(str(address.ip) for address in carp.addresses), place.mac)
        for carp in pair.carp
        for place in [_place(carp)]
    )
    names = pair.guard.interfaces if pair.guard.is_on else ()
    return Guard(vhids, tuple(Guarded(name, _subnets(pair, name)) for name in names), has_egress)


def _subnets(pair: Pair, interface: str) -> tuple[str, ...]:
    virtual = {
        str(each.network) for carp in pair.carp if carp.interface == interface for each in carp.addresses
    }
    return tuple(sorted(virtual | set(subnets_of(interface))))


def _place(carp: Carp) -> Place:
    mac = packet.virtual_mac(carp.vhid).hex(":") if carp.mac is Mac.VIRTUAL else ""
    return Place(carp.vhid, carp.interface, tuple(str(address) for address in carp.addresses), mac)
