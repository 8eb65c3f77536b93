"""How is one vhid present on this host? Its lease, its addresses, its frames.

What the machine of the vhid orders is done here, in the kernel.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from gimli.pair import announce, packet
from gimli.pair.config import Mac

if TYPE_CHECKING:
    from gimli.pair.address import Addresses
    from gimli.pair.config import Carp
    from gimli.pair.packet import Address, Advertisement
    from gimli.pair.tenure import Tenure
    from gimli.pair.wire import Sender

_LOW_DELAY = 0x10
_FORWARDING = "/proc/sys/net/ipv6/conf/all/forwarding"


class Presence:
    """One vhid in this host's kernel.

    Args:
        carp: what it is.
        tenure: its lease.
        addresses: of the vhid, prepared.
        sender: of frames on its interface.
        own_mac: the interface's.
        sources: the interface's own addresses, one of each family at most.
    """

    def __init__(
        self,
        carp: Carp,
        tenure: Tenure,
        addresses: Addresses,
        sender: Sender,
        own_mac: bytes,
        sources: tuple[Address, ...],
    ) -> None:
        self._carp = carp
        self.tenure = tenure
        self._addresses = addresses
        self._sender = sender
        self._own_mac = own_mac
        self._sources = sources
        self._mac = packet.virtual_mac(carp.vhid) if carp.mac is Mac.VIRTUAL else own_mac
        self._unicast = [_unicast_socket(peer) for peer in carp.peers]

    def take_addresses(self) -> None:
        """Have them.

        Raises:
            AddressRefused: the kernel does not give them all.
        """
        self._addresses.take()

    def drop_addresses(self) -> None:
        """Have none of them.

        Raises:
            AddressRefused: one has stayed.
        """
        self._addresses.drop()

    def advertise(self, advertisement: Advertisement) -> str:
        """Send an advertisement of a MASTER, and hold on to the lease.

        Returns:
            Why it did not go out on every path; empty when it did.

        Raises:
            LeaseLapsed: it is MASTER no more.
            GuardRefused: the guard is not in place.
        """
        return _in_words(self.tenure.advertise(lambda: self._send(advertisement)))

    def bow_out(self, advertisement: Advertisement) -> None:
        """Send the last advertisement of a MASTER, as far as it goes."""
        self._send(advertisement)

    def announce(self) -> str:
        """Tell the link where the addresses are; why that was not possible, empty when it was."""
        addresses = [address.ip for address in self._carp.addresses]
        frames = announce.announcements(addresses, self._mac, router=_is_router())
        return _in_words([self._sender.send(frame) for frame in frames])

    def close(self) -> None:
        """Remove what was made for it.

        Raises:
            AddressRefused: an address has stayed.
        """
        for each in self._unicast:
            each.close()
        self._addresses.close()

    def _send(self, advertisement: Advertisement) -> list[OSError | None]:
        """By every path; for each why it did not go out."""
        if self._carp.peers:
            payload = packet.pack_advertisement(advertisement)
            paths = zip(self._unicast, self._carp.peers, strict=True)
            return [_send(each, payload, peer) for each, peer in paths]
        frames = (packet.pack_frame(advertisement, source, self._mac) for source in self._sources)
        return [self._sender.send(frame) for frame in frames]


def _in_words(errors: list[OSError | None]) -> str:
    return "; ".join(dict.fromkeys(str(error.strerror) for error in errors if error))


def _is_router() -> bool:
    try:
        with open(_FORWARDING, encoding="ascii") as file:
            return file.read().strip() != "0"
    except OSError:
        return False  # no IPv6, and no advertisement that would say so


def _unicast_socket(peer: Address) -> socket.socket:
    """The kernel finds the peer's MAC, so this is not a packet socket; TTL 255, as the protocol demands."""
    family = socket.AF_INET if peer.version == 4 else socket.AF_INET6
    made = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, packet.PROTOCOL)
    if peer.version == 4:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, packet.TTL)
        made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _LOW_DELAY)
    else:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, packet.TTL)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)  # it gets a copy of what comes, and nobody reads
    return made


def _send(through: socket.socket, payload: bytes, peer: Address) -> OSError | None:
    try:
        through.sendto(payload, (str(peer), 0))
    except OSError as error:
        return error
    return None
