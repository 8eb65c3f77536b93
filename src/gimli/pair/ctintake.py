"""What do the kernel's messages become for the peer? The hot path: 50,000 messages a second come through.

In a message of the usual layout (:mod:`gimli.pair.ctlayout`) what stands behind the tuples is the same bytes
for thousands of connections, so what it becomes is looked up. Other messages, and what is seen for the first
time, take the way through :func:`gimli.pair.ctmessage.canonical`, which knows every layout.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from gimli.errors import PeerError
from gimli.pair import ctlayout, ctmessage, netlink
from gimli.pair.ctfilter import may_move

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gimli.pair.ctfilter import Filter
    from gimli.pair.ctlayout import Layout

    _Tails = dict[bytes, tuple[bytes, bytes]]

_KNOWN_MAX = 4096

_KIND = slice(4, 8)
_BEGUN = struct.pack("=HH", ctmessage.NEW, netlink.CREATE | netlink.EXCLUSIVE)
_UPDATED = struct.pack("=HH", ctmessage.NEW, 0)
_ENDED = struct.pack("=HH", ctmessage.DELETE, 0)
_DUMPED = struct.pack("=HH", ctmessage.NEW, netlink.MULTI)
"""Type and flags of the three kinds of event, and of an entry of a dump."""

_FAMILY = slice(16, 17)
_INET = bytes((ctlayout.AF_INET,))

_EVENTS = ctlayout.by_family(ctmessage.ID)
_ENTRIES = ctlayout.by_family(
    ctmessage.STATUS, ctmessage.MARK, ctmessage.ID, ctmessage.USE, ctmessage.TIMEOUT
)


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
        self._events: dict[bytes, tuple[Layout, dict[bytes, _Tails]]] = {
            family: (layout, {_BEGUN: {}, _UPDATED: {}}) for family, layout in _EVENTS.items()
        }
        """By family the layout; by kind of event and by tail the canonical message's header and tail."""
        self._entries: dict[bytes, tuple[Layout, dict[bytes, tuple[bytes, bytes, bytes]]]] = {
            family: (layout, {}) for family, layout in _ENTRIES.items()
        }
        """By family the layout; by status, mark and tail the canonical header, status, and what follows the
        time-out."""
        self._exempt: dict[tuple[bytes, bytes], bool] = {}

    def take(self, messages: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
        """Keys and canonical messages, in order.

        Args:
            messages: of ctnetlink, whatever they are; this is fast with events.
        """
        taken: list[tuple[bytes, bytes]] = []
        append, number, known_of = taken.append, int.from_bytes, self._events.get
        other = self._events[_INET]  # its layout fits no message of another family
        for message in messages:
            layout, tails_of = known_of(message[_FAMILY], other)
            if number(message[layout.head], "little") & layout.mask != layout.shape:
                self._take_any(message, taken)
                continue
            if not self._passes(layout, message):
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
                _learn_event(tails, layout, message, taken[-1][1])
        return taken

    def take_dumped(self, messages: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
        """The same; this is fast with entries of a dump, each of which has another time left."""
        taken: list[tuple[bytes, bytes]] = []
        number, other = int.from_bytes, self._entries[_INET]
        for message in messages:
            layout, known = self._entries.get(message[_FAMILY], other)
            usual = number(message[layout.head], "little") & layout.mask == layout.shape
            # A number at the end that is cut off looks like a small one.
            if not usual or len(message) < layout.tail.start or message[_KIND] != _DUMPED:
                self._take_any(message, taken)
                continue
            if not self._passes(layout, message):
                continue
            lasting = _lasting(layout, message)
            if made := known.get(lasting):
                header, status, rest = made
                timeout = message[layout.number[ctmessage.TIMEOUT]]
                taken.append((message[layout.key], header + message[layout.tuples] + status + timeout + rest))
            elif self._take_any(message, taken):
                _learn_entry(known, layout, message, taken[-1][1])
        return taken

    def _passes(self, layout: Layout, message: bytes) -> bool:
        """What :meth:`Filter.passes` says, for a message of the usual layout."""
        own = self._filter.own
        one, two, three, four = layout.addresses
        source, destination = message[one], message[two]
        if (
            source in own
            or destination in own
            or message[three] in own
            or message[four] in own
            or not may_move(source, destination)
            or (self._filter.exemptions and self._is_exempt(message[layout.key], message[layout.reply]))
        ):
            self.filtered += 1
            return False
        return True

    def _is_exempt(self, original: bytes, reply: bytes) -> bool:
        """What the filter says; it is asked once about each pair of tuples."""
        known = self._exempt.get((original, reply))
        if known is None:
            if len(self._exempt) >= 16 * _KNOWN_MAX:
                self._exempt.clear()
            known = self._exempt[original, reply] = self._filter.is_exempt(original, reply)
        return known

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


def _learn_event(tails: _Tails, layout: Layout, message: bytes, made: bytes) -> None:
    """Keep what became of a message's tail, if what is before the tail was passed on as it is."""
    end = layout.tuples.stop
    if made[16:end] != message[layout.tuples]:
        return
    if len(tails) >= _KNOWN_MAX:
        tails.clear()
    tails[message[layout.tail]] = made[:16], made[end:]


def _learn_entry(
    known: dict[bytes, tuple[bytes, bytes, bytes]], layout: Layout, message: bytes, made: bytes
) -> None:
    """Likewise; the time-out stands between status and the rest of a canonical message."""
    end = layout.tuples.stop
    if made[16:end] != message[layout.tuples]:
        return
    if made[end + 8 : end + 16] != message[layout.number[ctmessage.TIMEOUT]]:
        return
    if len(known) >= _KNOWN_MAX:
        known.clear()
    known[_lasting(layout, message)] = made[:16], made[end : end + 8], made[end + 16 :]


def _lasting(layout: Layout, message: bytes) -> bytes:
    """What an entry says besides its tuples and what differs from entry to entry: id, uses, time left."""
    numbers = layout.number
    return message[numbers[ctmessage.STATUS]] + message[numbers[ctmessage.MARK]] + message[layout.tail]
