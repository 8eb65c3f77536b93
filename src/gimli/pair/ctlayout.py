"""Where is what in a message of ctnetlink, if the message is of the usual kind?

Almost all messages are about a protocol with ports and have the same attributes in the same order: the two
tuples, a few numbers, then a tail. Whether one is like that is asked as one number under one mask.
"""

from __future__ import annotations

from gimli.pair import ctmessage, netlink


class Layout:
    """One order of attributes, over one family.

    Args:
        family: AF_INET or AF_INET6.
        numbers: types of the attributes of four bytes between the tuples and the tail.
    """

    def __init__(self, family: int, numbers: tuple[int, ...]) -> None:
        self._shape = bytes((family, 0, 0, 0))
        self._mask = b"\xff" * 4
        # CTA_IP_V4_SRC or CTA_IP_V6_SRC; the destination follows.
        source_kind, address_bytes = (1, 4) if family == AF_INET else (3, 16)
        for direction in (ctmessage.TUPLE_ORIG, ctmessage.TUPLE_REPLY):
            self._tuple(direction, source_kind, address_bytes)
        tuples_end = 16 + len(self._shape)
        for kind in numbers:
            self._header(8, kind)
            self._free(4)
        end = 16 + len(self._shape)
        tuple_bytes = (tuples_end - ctmessage.BODY) // 2
        key_end = ctmessage.BODY + tuple_bytes
        source_at = ctmessage.BODY + 12  # behind the headers of the tuple, of its addresses and of the source
        destination_at = source_at + address_bytes + 4

        self.mask = int.from_bytes(self._mask, "little")
        self.shape = int.from_bytes(self._shape, "little")
        self.head = slice(16, end)
        """What the mask is for: ``from_bytes(message[head], "little") & mask == shape``."""
        self.tuples = slice(16, tuples_end)
        """nfgenmsg and both tuples: they stand at the same place in a canonical message."""
        self.key = slice(ctmessage.BODY, key_end)
        self.reply = slice(key_end, tuples_end)
        self.family_and_key = slice(16, key_end)
        self.addresses = tuple(
            slice(at, at + address_bytes)
            for start in (0, tuple_bytes)
            for at in (source_at + start, destination_at + start)
        )
        """Source and destination of both tuples."""
        self.number = {
            kind: slice(tuples_end + 8 * place, tuples_end + 8 * place + 8)
            for place, kind in enumerate(numbers)
        }
        """Attributes by type."""
        self.tail = slice(end, None)
        self.deletion_header = ctmessage.deletion(bytes(4), bytes(tuple_bytes))[:16]

    def _tuple(self, direction: int, source_kind: int, address_bytes: int) -> None:
        address, ports_bytes = 4 + address_bytes, 28
        ip_bytes = 4 + 2 * address
        self._header(4 + ip_bytes + ports_bytes, netlink.NESTED | direction)
        self._header(ip_bytes, netlink.NESTED | 1)  # CTA_TUPLE_IP
        for kind in (source_kind, source_kind + 1):
            self._header(address, kind)
            self._free(address_bytes)
        self._header(ports_bytes, netlink.NESTED | 2)  # CTA_TUPLE_PROTO
        for kind, value_bytes in ((1, 1), (2, 2), (3, 2)):  # CTA_PROTO_NUM, _SRC_PORT, _DST_PORT
            self._header(4 + value_bytes, kind)
            self._free(value_bytes, padding=4 - value_bytes)

    def _header(self, length: int, kind: int) -> None:
        self._shape += netlink.ATTRIBUTE.pack(length, kind)
        self._mask += b"\xff" * 4

    def _free(self, value_bytes: int, padding: int = 0) -> None:
        self._shape += bytes(value_bytes + padding)
        self._mask += bytes(value_bytes) + b"\xff" * padding


AF_INET, AF_INET6 = 2, 10
"""As Linux numbers them; this module must not import socket."""


def by_family(*numbers: int) -> dict[bytes, Layout]:
    """A layout for each family, by the byte of a message that tells it."""
    return {bytes((family,)): Layout(family, numbers) for family in (AF_INET, AF_INET6)}
