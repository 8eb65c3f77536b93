"""How is one vhid present on this host? Its lease, its addresses, its frames.

What the machine of the vhid orders is done here, in the kernel. The lease never holds for longer than
``length_s`` after the last advertisement that went out: it is proved before a frame is sent, for no longer
than was left of it, and prolonged behind it. A daemon that stands still between any two of these calls holds
nothing that its peer, which waits for longer than that, could take meanwhile.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from gimli import clock
from gimli.pair import announce, guard, packet
from gimli.pair.config import Mac
from gimli.pair.guard import JIFFY_S_MAX
from gimli.pair.lease import LeaseLapsed

if TYPE_CHECKING:
    from gimli.pair.address import Addresses
    from gimli.pair.config import Carp
    from gimli.pair.guard import Lease
    from gimli.pair.lease import Leases
    from gimli.pair.packet import Address, Advertisement
    from gimli.pair.wire import Sender

_LOW_DELAY = 0x10
_FORWARDING = "/proc/sys/net/ipv6/conf/all/forwarding"


class Presence:
    """One vhid in this host's kernel.

    Args:
        carp: what it is.
        lease: its part of the fence.
        length_s: how long the fence stays open after an advertisement.
        leases: by which the fence is moved.
        addresses: of the vhid, prepared.
        sender: of frames on its interface.
        own_mac: the interface's.
        sources: the interface's own addresses, one of each family at most.
    """

    def __init__(
        self,
        carp: Carp,
        lease: Lease,
        length_s: float,
        leases: Leases,
        addresses: Addresses,
        sender: Sender,
        own_mac: bytes,
        sources: tuple[Address, ...],
    ) -> None:
        self._carp = carp
        self._lease = lease
        self._length_s = length_s
        self._leases = leases
        self._addresses = addresses
        self._sender = sender
        self._own_mac = own_mac
        self._sources = sources
        self._mac = packet.virtual_mac(carp.vhid) if carp.mac is Mac.VIRTUAL else own_mac
        self._sent_s = 0.0
        self._unicast = [_unicast_socket(peer) for peer in carp.peers]

    def take_lease(self) -> None:
        """Lift the fence.

        Raises:
            GuardRefused: the guard is not in place.
        """
        self._sent_s = _now_s()
        self._leases.acquire((self._lease,), self._length_s)

    def keep_lease(self) -> None:
        """Hold on to the lease, until the time that the last advertisement allows and no longer.

        Raises:
            LeaseLapsed: it is MASTER no more.
            GuardRefused: the guard is not in place.
        """
        try:
            self._leases.renew((self._lease,), self._left_s())
        except LeaseLapsed:
            if self._left_s() < guard.JIFFY_S_MAX:
                raise
            # By our own clock it has not: somebody has emptied the set, as a firewall does that is reloaded.
            self._leases.acquire((self._lease,), self._left_s())
            try:
                self._left_s()
            except LeaseLapsed:  # we stood still between these two lines
                self._leases.release((self._lease,))
                raise

    @property
    def has_time(self) -> bool:
        """Whether the peer waits yet, by what it has heard of us."""
        return self._sent_s + self._length_s > _now_s()

    def drop_lease(self) -> None:
        """Let the fence down.

        Raises:
            GuardRefused: the guard is not in place; then there is no fence to let down.
        """
        self._leases.release((self._lease,))

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
        self.keep_lease()
        before_s = _now_s()
        errors = self._send(advertisement)
        if not all(errors):
            self._sent_s = before_s
            self.keep_lease()
        return _in_words(errors)

    def silent_s(self) -> float:
        """How long ago the last advertisement went out."""
        return _now_s() - self._sent_s

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

    def _left_s(self) -> float:
        left_s = self._sent_s + self._length_s - _now_s()
        if left_s < JIFFY_S_MAX:  # some kernels take less than a jiffy for ever
            raise LeaseLapsed("the lease has lapsed")
        return left_s


def _in_words(errors: list[OSError | None]) -> str:
    return "; ".join(dict.fromkeys(str(error.strerror) for error in errors if error))


def _now_s() -> float:
    return clock.monotonic_ns() / clock.NANOSECONDS


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
