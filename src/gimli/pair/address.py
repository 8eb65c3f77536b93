"""How does a host come to have a virtual address, and to have it no more?

On a MAC of its own (the default), or on the interface's.

**A MAC of its own.** ``carpVHID`` is a macvlan on the interface, MAC 00:00:5e:00:01:VHID. It exists from the
start and is down, without addresses; being MASTER it is up and has them. Neighbours keep the MAC over a
failover, only the switch has to learn the port. ARP is answered by the device that has the address and by
no other (``arp_ignore``), and asked in the name of addresses of the asking device (``arp_announce``).
Frames for the address arrive on ``carpVHID`` and answers leave by the interface's route, hence ``rp_filter``
2 on ``carpVHID``. Rules of a firewall that name the interface must name ``carpVHID`` too.

**The interface's MAC.** The address is added to the interface, as ucarp's scripts do.

Taking is one system call. Dropping is read back, tried again, and told when it fails: an address that stays
is a second host answering for it.
"""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import TYPE_CHECKING

from gimli.errors import GimliError
from gimli.pair import links
from gimli.pair import settings as kernel_settings
from gimli.pair.links import GONE, Links

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gimli.pair.links import Address, Interface, Link
    from gimli.pair.settings import Settings

_STACKED = ("vlan", "macvlan", "ipvlan")
_VIRTUAL_MAC = "00:00:5e:00:01:"
_DROP_ATTEMPTS = 3


class AddressRefused(GimliError):
    """The kernel does not let the host take, or drop, an address."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the addresses of one vhid belong.

    Args:
        vhid: 1 to 255.
        interface: that the LAN is on.
        addresses: with prefix length, such as ``192.0.2.1/24``.
        mac: virtual; empty for the interface's own.
    """

    vhid: int
    interface: str
    addresses: tuple[str, ...]
    mac: str = ""

    @property
    def device(self) -> str:
        """The device that has the addresses."""
        return f"carp{self.vhid}" if self.mac else self.interface


class Addresses:
    """The addresses of one vhid on this host.

    Args:
        place: where they belong.
        settings: remembers what was changed for them.
    """

    def __init__(self, place: Place, settings: Settings) -> None:
        self.place = place
        self._settings = settings
        self._links = Links()
        self._devices: set[int] = set()
        """Where the addresses have been put."""
        self._wanted = tuple(ip_interface(address) for address in place.addresses)
        self._link_local = _link_local(place.mac) if place.mac else None
        self._ours = {each.ip for each in (*self._wanted, self._link_local) if each}

    def prepare(self) -> None:
        """Make ready for :meth:`take`; the host has the addresses no more than before.

        Raises:
            AddressRefused: there is no such interface, or no device can be made on it.
        """
        parent = self._link(self.place.interface)
        if self.place.mac:
            self._make_device(parent)
            self._settle(parent)
        else:
            # An address of the host's own in the same prefix must not go when the virtual one goes.
            self._settings.set(f"ipv4/conf/{parent.name}/promote_secondaries", "1")

    def take(self) -> None:
        """Have the addresses. Taking what is there already is none the worse.

        Raises:
            AddressRefused: not all of them could be had; what could, stays.
        """
        if self._links.link(self.place.device) is None:
            self.prepare()  # somebody has removed it, or its interface was away
        parent = self._link(self.place.interface)
        device = self._link(self.place.device)
        self._devices.add(device.index)
        connected = {each.address.network for each in self._links.addresses(parent.index)}
        steps = [links.switch_link(device.index, up=True)] if self.place.mac else []
        for address in self._wanted:
            owns_prefix = address.network not in connected
            steps.append(links.add_address(device.index, address, prefix_route=owns_prefix))
            if owns_prefix and address.version == 6 and self._link_local:
                # Routes lead here, and the kernel looks for neighbours from a link-local address only.
                steps.append(links.add_address(device.index, self._link_local, prefix_route=True))
        try:
            self._links.change(*steps, tolerate=(errno.EEXIST,))
        except OSError as error:
            raise self._refused("take", error) from error

    def drop(self) -> None:
        """Have none of the addresses, for certain.

        Raises:
            AddressRefused: one of them has stayed.
        """
        why: OSError | None = None
        for _ in range(_DROP_ATTEMPTS):
            try:
                self._try_to_drop()
                if not self._present():
                    return
            except OSError as error:
                why = error
        raise self._refused("drop", why)

    def _try_to_drop(self) -> None:
        steps = [links.delete_address(each.index, each.address) for each in self._present()]
        if self.place.mac and (device := self._links.link(self.place.device)):
            steps.append(links.switch_link(device.index, up=False))
        self._links.change(*steps, tolerate=GONE)

    def close(self) -> None:
        """Drop the addresses, and remove the device made for them.

        Raises:
            AddressRefused: one of them has stayed.
        """
        try:
            self.drop()
            if self.place.mac and (device := self._links.link(self.place.device)):
                self._links.change(links.delete_link(device.index), tolerate=GONE)
        finally:
            self._links.close()

    def _present(self) -> tuple[Address, ...]:
        """The addresses as they are, also on a device that has got another name since."""
        device = self._links.link(self.place.device)
        devices = self._devices | ({device.index} if device else set())
        return tuple(
            each
            for each in self._links.addresses()
            if each.index in devices and each.address.ip in self._ours
        )

    def _link(self, name: str) -> Link:
        found = self._links.link(name)
        if found is None:
            raise _absent(name)
        return found

    def _make_device(self, parent: Link) -> None:
        device = self._links.link(self.place.device)
        if device and (device.kind, device.parent, device.mac) == ("macvlan", parent.index, self.place.mac):
            return
        try:
            self._links.change(links.make_macvlan(self.place.device, parent, self.place.mac))
        except OSError as error:
            raise AddressRefused(
                f"vhid {self.place.vhid}: cannot make {self.place.device} on {parent.name}",
                why=str(error),
                fix="give the bridge or bond that it is a port of as the interface"
                if error.errno == errno.EBUSY
                else "",
            ) from error

    def _settle(self, parent: Link) -> None:
        device = self.place.device
        for name in (parent.name, device):
            self._settings.raise_to(f"ipv4/conf/{name}/arp_ignore", 1)
            self._settings.raise_to(f"ipv4/conf/{name}/arp_announce", 2)
        self._settings.set(f"ipv4/conf/{device}/rp_filter", "2")
        for family in ("ipv4", "ipv6"):
            if kernel_settings.exists(f"{family}/conf/{device}/forwarding"):
                forwarding = kernel_settings.read(f"{family}/conf/{parent.name}/forwarding")
                self._settings.set(f"{family}/conf/{device}/forwarding", forwarding)
        if kernel_settings.exists(f"ipv6/conf/{device}/accept_ra"):
            self._settings.set(f"ipv6/conf/{device}/accept_ra", "0")
            if not any(address.version == 6 for address in self._wanted):
                self._settings.set(f"ipv6/conf/{device}/disable_ipv6", "1")
            self._links.change(links.without_link_local(self._link(device).index))

    def _refused(self, verb: str, error: OSError | None) -> AddressRefused:
        return AddressRefused(
            f"vhid {self.place.vhid}: cannot {verb} {', '.join(self.place.addresses)} "
            f"{'on' if verb == 'take' else 'from'} {self.place.device}",
            why=error.strerror or str(error) if error else "the kernel says it is done, and it is not",
        )


def _link_local(mac: str) -> Interface:
    """The link-local address of a MAC (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return ip_interface((b"\xfe\x80" + bytes(6) + identifier, 64))


def remove_leftovers(places: Iterable[Place]) -> tuple[str, ...]:
    """Remove what a daemon that was killed has left, and whatever else is in the place of these addresses.

    Returns:
        What was removed, in words.
    """
    asking = Links()
    removed = []
    try:
        names = {link.index: link.name for link in asking.links()}
        for link in asking.links():
            if _is_ours(link):
                asking.change(links.delete_link(link.index), tolerate=GONE)
                removed.append(f"device {link.name}")
        wanted = {(place.interface, ip_interface(each).ip) for place in places for each in place.addresses}
        for each in asking.addresses():
            name = names.get(each.index, "")
            if each.origin == links.OURS or (name, each.address.ip) in wanted:
                with contextlib.suppress(OSError):
                    asking.change(links.delete_address(each.index, each.address), tolerate=GONE)
                    removed.append(f"address {each.address} of {name}")
    finally:
        asking.close()
    return tuple(removed)


def _absent(interface: str) -> AddressRefused:
    return AddressRefused(
        f"there is no interface {interface}", why="the host has none of that name", fix="see: ip link"
    )


def _is_ours(link: Link) -> bool:
    return link.kind == "macvlan" and any(
        (link.name, link.mac) == (f"carp{vhid}", f"{_VIRTUAL_MAC}{vhid:02x}") for vhid in range(1, 256)
    )


def subnets_of(interface: str) -> tuple[str, ...]:
    """The subnets that an interface, and whatever is on top of it such as VLANs, have addresses in.

    Raises:
        AddressRefused: there is no such interface.
    """
    asking = Links()
    try:
        every = asking.links()
        if interface not in {link.name for link in every}:
            raise _absent(interface)
        indices = {link.index for link in every if link.name == interface}
        indices |= {link.index for link in every if link.kind in _STACKED and link.parent in indices}
        networks = (each.address.network for each in asking.addresses() if each.index in indices)
        return tuple(sorted({str(network) for network in networks}))
    finally:
        asking.close()
