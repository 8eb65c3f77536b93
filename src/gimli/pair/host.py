"""What has this host for its vhids? Links, sockets, the guard, and one presence for each.

Everything of the kernel that is neither a timer nor a connection is opened, looked at and closed here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gimli import clock
from gimli.errors import GimliError
from gimli.pair import guard, netlink, nft, packet
from gimli.pair.address import Addresses, AddressRefused, Place
from gimli.pair.config import Mac
from gimli.pair.guard import Guard, Guarded, Vhid
from gimli.pair.links import Links
from gimli.pair.nft import GuardRefused, Leases
from gimli.pair.presence import Presence
from gimli.pair.settings import Settings
from gimli.pair.tenure import Tenure
from gimli.pair.track import Finding
from gimli.pair.vhid import advertise_interval_s, master_down_interval_s
from gimli.pair.wire import Receiver, Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.loop import Loop
    from gimli.pair.config import Carp, Pair
    from gimli.pair.links import Link
    from gimli.pair.packet import Address

_ETHERNET_BYTES = 14
_RTNLGRPS = (1, 5, 9)
"""RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR"""
_NFNLGRP_NFTABLES = 7


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
        self._closers: list[Callable[[], None]] = []

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
        links_changed: Callable[[], None],
        guard_altered: Callable[[], None],
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
        self._subscribe(loop, netlink.ROUTE, _RTNLGRPS, links_changed)
        self._subscribe(loop, netlink.NETFILTER, (_NFNLGRP_NFTABLES,), guard_altered)

    def obstacles(self) -> dict[int, str]:
        """For each vhid why its link is of no use; empty where it is."""
        links = {link.name: link for link in self._links.links()}
        troubles = [(carp, _trouble(links.get(carp.interface))) for carp in self._pair.carp]
        return {carp.vhid: f"{carp.interface} {trouble}" if trouble else "" for carp, trouble in troubles}

    def look_at_links(self, names: tuple[str, ...]) -> list[Finding]:
        """What is wrong with tracked interfaces."""
        links = {link.name: link for link in self._links.links()}
        return [Finding(f"interface {name}", _trouble(links.get(name))) for name in names]

    def own_addresses(self) -> frozenset[bytes]:
        """Addresses that do not move with mastership, packed: their connections are this host's own."""
        found = (each.address.ip for each in self._links.addresses())
        return frozenset(address.packed for address in found if address not in self._virtual)

    def guard_counts(self) -> dict[str, int] | None:
        """Frames dropped, by counter; None when there are no rules.

        Raises:
            GuardRefused: the rules cannot be read.
        """
        listing = nft.read()
        return {name: count.packets for name, count in guard.counts(listing).items()} if listing else None

    def mend_guard(self) -> tuple[str, ...]:
        """What is different from what was set up and cannot be mended."""
        assert self.guard is not None
        try:
            differences = guard.verify(nft.read(), self.guard)
            if differences:
                nft.apply(guard.ruleset(self.guard, fresh=False))
                differences = guard.verify(nft.read(), self.guard)
        except GuardRefused as refused:
            differences = (str(refused),)
        return differences

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
        self._links.close()
        return wrong

    def _set_up_guard(self) -> None:
        pair = self._pair
        vhids = tuple(
            Vhid(place.vhid, place.interface, tuple(str(address.ip) for address in carp.addresses), place.mac)
            for carp, place in zip(pair.carp, self.places, strict=True)
        )
        names = pair.guard.interfaces if pair.guard.is_on else ()
        guarded = tuple(Guarded(name, self._subnets(name)) for name in names)
        self.guard = Guard(vhids, guarded, nft.has_egress())
        nft.apply(guard.ruleset(self.guard))
        if differences := guard.verify(nft.read(), self.guard):
            raise GuardRefused("the guard is not what was set up", why="; ".join(differences))

    def _tenure(self, carp: Carp, loop: Loop) -> Tenure:
        assert self.guard is not None
        return Tenure(
            guard.lease_of(self.guard, carp.vhid),
            lease_length_s(carp),
            self._leases,
            lambda: loop.now_ns() / clock.NANOSECONDS,
        )

    def _subnets(self, interface: str) -> tuple[str, ...]:
        link = self._link(interface)
        return tuple(str(each.address.network) for each in self._links.addresses(link.index))

    def _listen(self, loop: Loop, interface: str, heard: Callable[[str, bytes], None]) -> None:
        receiver = Receiver(interface)

        def readable(_: int) -> None:
            try:
                frames = receiver.receive()
            except OSError:
                return  # it has gone down: the link's own message says so
            for frame in frames:
                heard(interface, frame[_ETHERNET_BYTES:])

        loop.watch(receiver.fileno(), readable)
        self._close_later(loop, receiver)

    def _subscribe(
        self, loop: Loop, protocol: int, groups: tuple[int, ...], changed: Callable[[], None]
    ) -> None:
        subscription = netlink.Subscription(protocol, groups)

        def readable(_: int) -> None:
            messages, lost = subscription.read()
            if lost or any(port != self._leases.port for _kind, port, _body in messages):
                changed()

        loop.watch(subscription.fileno(), readable)
        self._close_later(loop, subscription)

    def _close_later(self, loop: Loop, opened: Receiver | netlink.Subscription) -> None:
        def close() -> None:
            loop.forget(opened.fileno())
            opened.close()

        self._closers.append(close)

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


def lease_length_s(carp: Carp) -> float:
    """How long the fence stays open after an advertisement: less than the most eager peer waits.

    Raises:
        UsageError: with these settings there is no such time.
    """
    handicap = carp.advskew if carp.advbase_s == 0 else 0
    dead_s = master_down_interval_s(carp.advbase_s, handicap)
    return guard.lease_s(advertise_interval_s(carp.advbase_s, carp.advskew), dead_s)


def _place(carp: Carp) -> Place:
    mac = packet.virtual_mac(carp.vhid).hex(":") if carp.mac is Mac.VIRTUAL else ""
    return Place(carp.vhid, carp.interface, tuple(str(address) for address in carp.addresses), mac)


def _trouble(link: Link | None) -> str:
    if link is None:
        return "is not there"
    return "" if link.is_usable else "has no carrier"
