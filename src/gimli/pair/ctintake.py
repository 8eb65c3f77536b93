"""What do the kernel's messages become for the peer? The hot path: 50,000 messages a second come through.

Almost all are events of one layout: the two tuples, with ports, an id, then a tail of status, timeout and
what the protocol has to say. The layout is checked as one number under one mask. The tail is the same bytes
for thousands of connections, so what it becomes is looked up. Other messages, and a tail that is seen for the
first time, take the way through :func:`gimli.pair.ctmessage.canonical`, which knows every layout.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from gimli.errors import PeerError
from gimli.pair import ctmessage, netlink
from gimli.pair.ctfilter import may_move

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gimli.pair.ctfilter import Filter

    _Tails = dict[bytes, tuple[bytes, bytes]]

_KNOWN_MAX = 4096

_KIND = slice(4, 8)
_BEGUN = struct.pack("=HH", ctmessage.NEW, netlink.CREATE | netlink.EXCLUSIVE)
_UPDATED = struct.pack("=HH", ctmessage.NEW, 0)
_ENDED = struct.pack("=HH", ctmessage.DELETE, 0)
"""Type and flags of the three kinds of event."""

_FAMILY = slice(16, 17)


class _Layout:
    """Where things are in an event about a protocol with ports, over one family.

    Args:
        family: AF_INET or AF_INET6.
        address_bytes: 4 or 16.
        source_kind: CTA_IP_V4_SRC or CTA_IP_V6_SRC.
    """

    def __init__(self, family: int, address_bytes: int, source_kind: int) -> None:
        self._shape = bytes((family, 0, 0, 0))
        self._mask = b"\xff" * 4
        address, ports_bytes = 4 + address_bytes, 28
        ip_bytes = 4 + 2 * address
        for direction in (ctmessage.TUPLE_ORIG, ctmessage.TUPLE_REPLY):
            self._header(4 + ip_bytes + ports_bytes, netlink.NESTED | direction)
            self._header(ip_bytes, netlink.NESTED | 1)  # CTA_TUPLE_IP
            self._header(address, source_kind)
            self._free(address_bytes)
            self._header(address, source_kind + 1)
            self._free(address_bytes)
            self._header(ports_bytes, netlink.NESTED | 2)  # CTA_TUPLE_PROTO
            for kind, value_bytes in ((1, 1), (2, 2), (3, 2)):  # CTA_PROTO_NUM, _SRC_PORT, _DST_PORT
                self._header(4 + value_bytes, kind)
                self._free(value_bytes, padding=4 - value_bytes)
        tuples_end = 16 + len(self._shape)
        self._header(8, ctmessage.ID)
        tuple_bytes = (tuples_end - ctmessage.BODY) // 2
        source_at = ctmessage.BODY + 12  # behind the headers of the tuple, its addresses and the source
        destination_at = source_at + address
        self.head = slice(16, 16 + len(self._shape))
        self.mask, self.shape = (int.from_bytes(one, "little") for one in (self._mask, self._shape))
        self.tuples = slice(16, tuples_end)
        self.key = slice(ctmessage.BODY, ctmessage.BODY + tuple_bytes)
        self.tail = slice(tuples_end + 8, None)
        self.family_and_key = slice(16, ctmessage.BODY + tuple_bytes)
        self.deletion_header = ctmessage.deletion(bytes(4), bytes(tuple_bytes))[:16]
        self.addresses = tuple(
            slice(at, at + address_bytes)
            for start in (0, tuple_bytes)
            for at in (source_at + start, destination_at + start)
        )

    def _header(self, length: int, kind: int) -> None:
        self._shape += netlink.ATTRIBUTE.pack(length, kind)
        self._mask += b"\xff" * 4

    def _free(self, value_bytes: int, padding: int = 0) -> None:
        self._shape += bytes(value_bytes + padding)
        self._mask += bytes(value_bytes) + b"\xff" * padding


_LAYOUTS = {b"\x02": _Layout(2, 4, 1), b"\x0a": _Layout(10, 16, 3)}


class Intake:
    """Turns the kernel's messages into canonical ones, and leaves out what is not replicated.

    Args:
        chosen: decides what is replicated.
    """

    def __init__(self, chosen: Filter) -> None:
        self._filter = chosen
        self.filtered = 0
        """Messages about connections that are not replicated."""
        self.refused = 0
        """Messages that were not understood."""
        self._known: dict[bytes, tuple[_Layout, dict[bytes, _Tails]]] = {
            family: (layout, {_BEGUN: {}, _UPDATED: {}}) for family, layout in _LAYOUTS.items()
        }
        """By family the layout; by kind of event and by tail the canonical message's header and tail."""
        self._exempt: dict[bytes, bool] = {}

    def take(self, messages: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
        """Keys and canonical messages, in order.

        Args:
            messages: of ctnetlink: events and entries of dumps.
        """
        taken: list[tuple[bytes, bytes]] = []
        append, number, known_of, own = taken.append, int.from_bytes, self._known.get, self._filter.own
        exempts = bool(self._filter.exemptions)
        other = self._known[b"\x02"]  # its layout fits no message of another family
        for message in messages:
            layout, tails_of = known_of(message[_FAMILY], other)
            if number(message[layout.head], "little") & layout.mask != layout.shape:
                self._take_any(message, taken)
                continue
            one, two, three, four = layout.addresses
            source, destination = message[one], message[two]
            if (
                source in own
                or destination in own
                or message[three] in own
                or message[four] in own
                or not may_move(source, destination)
                or (exempts and self._is_exempt(message[layout.tuples], message))
            ):
                self.filtered += 1
                continue
            kind = message[_KIND]
            if kind == _ENDED:
                append((message[layout.key], layout.deletion_header + message[layout.family_and_key]))
                continue
            tails = tails_of.get(kind)
            if tails is None:
                self._take_any(message, taken)
            elif made := tails.get(message[layout.tail]):
                append((message[layout.key], made[0] + message[layout.tuples] + made[1]))
            elif self._take_any(message, taken):
                _learn(tails, layout, message, taken[-1][1])
        return taken

    def _take_any(self, message: bytes, taken: list[tuple[bytes, bytes]]) -> bool:
        """Take a message of whatever layout, if it is to be taken."""
        try:
            if self._filter.passes(message):
                taken.append(ctmessage.canonical(message))
                return True
            self.filtered += 1
        except PeerError:
            self.refused += 1
        return False

    def _is_exempt(self, tuples: bytes, message: bytes) -> bool:
        """What the filter says of a connection; it is asked once about each pair of tuples."""
        known = self._exempt.get(tuples)
        if known is None:
            if len(self._exempt) >= 16 * _KNOWN_MAX:
                self._exempt.clear()
            known = self._exempt[tuples] = not self._filter.passes(message)
        return known


def _learn(tails: _Tails, layout: _Layout, message: bytes, made: bytes) -> None:
    """Keep what became of a message's tail, if what is before the tail was passed on as it is."""
    end = layout.tuples.stop
    if made[16:end] != message[layout.tuples]:
        return
    if len(tails) >= _KNOWN_MAX:
        tails.clear()
    tails[message[layout.tail]] = made[:16], made[end:]
