"""What do the kernel's messages become for the peer? The hot path: 50,000 messages a second come through here.

Almost all of them are TCP or UDP over IPv4 or IPv6, in one layout: the tuples, an id, then a tail of status,
timeout and what the protocol has to say. The layout is checked as one number under one mask. The tail is the
same bytes for thousands of connections, so what it becomes is looked up. All others take the way through
:func:`gimli.pair.ctmessage.canonical`, which knows every layout; a test holds the two against each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.errors import PeerError
from gimli.pair import ctmessage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gimli.pair.ctfilter import Filter


class Intake:
    """Turns the kernel's messages into canonical ones, and leaves out what is not replicated.

    Args:
        chosen: decides what is replicated.
    """

    def __init__(self, chosen: Filter) -> None:
        self.filter = chosen
        self.filtered = 0
        """Messages about connections that are not replicated."""
        self.refused = 0
        """Messages of the kernel that were not understood."""

    def take(self, messages: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
        """Keys and canonical messages, in order.

        Args:
            messages: netlink messages of ctnetlink.
        """
        taken = []
        for message in messages:
            try:
                key, made = ctmessage.canonical(message)
                if self.filter.passes(key, message):
                    taken.append((key, made))
                else:
                    self.filtered += 1
            except (PeerError, KeyError):
                self.refused += 1
        return taken
