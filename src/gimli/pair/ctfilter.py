"""Which connections are replicated?

Not those of the box itself, which die with it: any tuple address among the host's own addresses, those that
do not move with mastership; loopback; multicast and broadcast. And not what the operator has excepted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gimli.pair import ctmessage

if TYPE_CHECKING:
    from collections.abc import Collection
    from ipaddress import IPv4Network, IPv6Network

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "gre": 47, "icmpv6": 58, "sctp": 132, "udplite": 136}

_DECIDED_MAX = 65_536


@dataclass(frozen=True, slots=True)
class Exception_:
    """Connections that are not replicated: all that is given must hold.

    Args:
        protocol: IP protocol number; None for any.
        port: the original direction's destination port; None for any.
        network: of the source or the destination, in either direction; None for any.
    """

    protocol: int | None = None
    port: int | None = None
    network: IPv4Network | IPv6Network | None = None


class Filter:
    """Decides for the bytes of a message.

    Args:
        own: addresses of the host that do not move with mastership, packed; they may change any time.
        exceptions: what else is not replicated.
    """

    def __init__(self, own: Collection[bytes] = (), exceptions: Collection[Exception_] = ()) -> None:
        self.own = frozenset(own)
        self._exceptions = tuple(exceptions)
        self._decided: dict[bytes, bool] = {}

    @property
    def by_address_only(self) -> bool:
        """Whether :meth:`passes_addresses` is all there is to ask."""
        return not self._exceptions

    def passes(self, key: bytes, message: bytes) -> bool:
        """Whether the connection of a message is replicated.

        Args:
            key: of the message.
            message: the kernel's or the canonical form.

        Raises:
            PeerError: the message is not well formed.
        """
        found = ctmessage.attributes(message, ctmessage.BODY, len(message))
        tuples = [
            ctmessage.addresses(found[kind])
            for kind in (ctmessage.TUPLE_ORIG, ctmessage.TUPLE_REPLY)
            if kind in found
        ]
        addresses = [address for pair in tuples for address in pair]
        if not self.own.isdisjoint(addresses) or not may_move(*tuples[0]):
            return False
        return not self._exceptions or self._is_no_exception(key, found, addresses)

    def _is_no_exception(self, key: bytes, found: dict[int, bytes], addresses: list[bytes]) -> bool:
        decided = self._decided.get(key)
        if decided is None:
            if len(self._decided) >= _DECIDED_MAX:
                self._decided.clear()
            protocol, port = ctmessage.service(found[ctmessage.TUPLE_ORIG])
            decided = not any(_matches(rule, protocol, port, addresses) for rule in self._exceptions)
            self._decided[key] = decided
        return decided


def may_move(source: bytes, destination: bytes) -> bool:
    """Whether a connection between these can go on elsewhere: no loopback, no multicast, no broadcast."""
    if len(source) == 4:
        return source[0] != 127 and destination[0] < 224
    return destination[:1] != b"\xff" and bytes(15) + b"\1" not in {source, destination}


def _matches(rule: Exception_, protocol: int, port: int, addresses: list[bytes]) -> bool:
    if rule.protocol is not None and rule.protocol != protocol:
        return False
    if rule.port is not None and rule.port != port:
        return False
    return rule.network is None or any(_within(address, rule.network) for address in addresses)


def _within(address: bytes, network: IPv4Network | IPv6Network) -> bool:
    if len(address) != network.max_prefixlen // 8:
        return False
    return int.from_bytes(address, "big") & int(network.netmask) == int(network.network_address)
