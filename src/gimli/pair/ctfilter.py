"""Which connections are replicated?

Not those of the box itself, which die with it: those with an address that stays with the host when mastership
goes. Not what cannot go on elsewhere: loopback, multicast, broadcast. And not what the operator has exempted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gimli.errors import PeerError
from gimli.pair import ctmessage
from gimli.pair.cttuple import Tuple

if TYPE_CHECKING:
    from collections.abc import Collection
    from ipaddress import IPv4Network, IPv6Network

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "gre": 47, "icmpv6": 58, "sctp": 132, "udplite": 136}

_LOOPBACK_6 = bytes(15) + b"\x01"


@dataclass(frozen=True, slots=True)
class Exemption:
    """Connections that are not replicated: those for which all that is given holds.

    Args:
        protocol: IP protocol number; None for any.
        port: destination port of the original direction; None for any.
        network: of one of the addresses, in either direction; None for any.
    """

    protocol: int | None = None
    port: int | None = None
    network: IPv4Network | IPv6Network | None = None


class Filter:
    """Decides about the bytes of a message; the same for every message of a connection.

    Args:
        own: packed addresses of the host that do not move with mastership; ``own`` may be set anew any time.
        exemptions: what else is not replicated.
    """

    def __init__(self, own: Collection[bytes] = (), exemptions: Collection[Exemption] = ()) -> None:
        self.own: Collection[bytes] = frozenset(own)
        self.exemptions = tuple(exemptions)

    def passes(self, message: bytes) -> bool:
        """Whether the connection of a message, the kernel's or a canonical one, is replicated.

        Raises:
            PeerError: the message is not well formed.
        """
        found = ctmessage.parts(message)
        if ctmessage.TUPLE_ORIG not in found:
            raise PeerError("a connection without its tuples")
        original = Tuple(found[ctmessage.TUPLE_ORIG])
        addresses = [original.source, original.destination]
        if ctmessage.TUPLE_REPLY in found:
            reply = Tuple(found[ctmessage.TUPLE_REPLY])
            addresses += [reply.source, reply.destination]
        if any(address in self.own for address in addresses) or not may_move(
            original.source, original.destination
        ):
            return False
        return not self._is_exempt(original, addresses)

    def is_exempt(self, original: bytes, reply: bytes) -> bool:
        """Whether an exemption is for the connection with these tuples, whatever else there is to say of it.

        Raises:
            PeerError: one of them is not well formed.
        """
        one, other = Tuple(original), Tuple(reply)
        return self._is_exempt(one, [one.source, one.destination, other.source, other.destination])

    def _is_exempt(self, original: Tuple, addresses: list[bytes]) -> bool:
        port = int.from_bytes(original.destination_port, "big")
        return any(_matches(one, original.protocol, port, addresses) for one in self.exemptions)


def may_move(source: bytes, destination: bytes) -> bool:
    """Whether a connection between two addresses can go on elsewhere: no loopback, multicast or broadcast."""
    if len(source) == 4:
        return source[0] != 127 and destination[0] < 224
    return destination[0] != 0xFF and _LOOPBACK_6 not in {source, destination}


def _matches(exemption: Exemption, protocol: int, port: int, addresses: list[bytes]) -> bool:
    if exemption.protocol is not None and exemption.protocol != protocol:
        return False
    if exemption.port is not None and exemption.port != port:
        return False
    network = exemption.network
    return network is None or any(_is_within(address, network) for address in addresses)


def _is_within(address: bytes, network: IPv4Network | IPv6Network) -> bool:
    if len(address) * 8 != network.max_prefixlen:
        return False
    return int.from_bytes(address, "big") & int(network.netmask) == int(network.network_address)
