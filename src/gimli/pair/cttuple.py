"""Who speaks with whom, in one direction of a connection?"""

from __future__ import annotations

from gimli.errors import PeerError
from gimli.pair import netlink

_IP, _PROTO = 1, 2  # CTA_TUPLE_IP, CTA_TUPLE_PROTO
_V4_SRC, _V6_SRC = 1, 3  # CTA_IP_V4_SRC, CTA_IP_V6_SRC; the destination follows
_NUM, _SRC_PORT, _DST_PORT = 1, 2, 3  # CTA_PROTO_...
_ICMP_ID, _ICMPV6_ID = 4, 7  # type and code follow


class Tuple:
    """One direction's addresses and ports as they are in the packets; empty where there is none.

    Args:
        attribute: CTA_TUPLE_ORIG or one like it.

    Raises:
        PeerError: it is not well formed.
    """

    def __init__(self, attribute: bytes) -> None:
        self._top = netlink.nested(attribute)
        if _IP not in self._top or _PROTO not in self._top:
            raise PeerError("a tuple without addresses or protocol")
        ip, proto = netlink.nested(self._top[_IP]), netlink.nested(self._top[_PROTO])
        self._ip, self._proto = ip, proto
        self._source_kind, address_bytes = (_V4_SRC, 4) if _V4_SRC in ip else (_V6_SRC, 16)
        self._icmp_kind = _ICMP_ID if _ICMP_ID in proto else _ICMPV6_ID
        self.source = _found(ip, self._source_kind, address_bytes)
        self.destination = _found(ip, self._source_kind + 1, address_bytes)
        if not self.source or not self.destination or _NUM not in proto:
            raise PeerError("a tuple without a source, a destination or a protocol")
        self.protocol = netlink.value(proto[_NUM], 1)[0]
        self.source_port = _found(proto, _SRC_PORT, 2)
        self.destination_port = _found(proto, _DST_PORT, 2)
        self.icmp_id = _found(proto, self._icmp_kind, 2)
        self.icmp_type = _found(proto, self._icmp_kind + 1, 1)

    def answer_to(self, original: Tuple) -> bytes:
        """The content of this tuple if it answered ``original`` without NAT."""
        kind = self._source_kind
        ip = (netlink.attribute(kind, original.destination), netlink.attribute(kind + 1, original.source))
        proto = dict(self._proto)
        for changed, content in (
            (_SRC_PORT, original.destination_port),
            (_DST_PORT, original.source_port),
            (self._icmp_kind, original.icmp_id),
        ):
            if changed in proto:
                proto[changed] = netlink.attribute(changed, content)
        rest = (raw for other, raw in self._top.items() if other not in {_IP, _PROTO})
        return b"".join([netlink.nest(_IP, *ip), netlink.nest(_PROTO, *proto.values()), *rest])


def _found(attributes: dict[int, bytes], kind: int, length: int) -> bytes:
    return netlink.value(attributes[kind], length) if kind in attributes else b""
