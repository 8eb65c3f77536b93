"""What is known of a connection after an update, fast?

An event names only what has changed, so it is merged with what was known. What stands behind the tuples is
the same bytes for thousands of connections: what two such tails become is looked up.
"""

from __future__ import annotations

from gimli.pair import ctmessage

_KNOWN_MAX = 4096

_TUPLES = slice(16, 124)
"""nfgenmsg and the tuples of a protocol with ports over IPv4."""


class Merger:
    """Merges canonical messages."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes, bytes], tuple[bytes, bytes]] = {}

    def merged(self, held: bytes, update: bytes) -> bytes:
        """What ``held`` becomes by ``update``; both are about the same connection.

        Raises:
            PeerError: one of them is not well formed.
        """
        tuples = held[_TUPLES]
        if tuples != update[_TUPLES] or held[72:76] != ctmessage.REPLY4_HEADER:
            return ctmessage.merged(held, update)
        start, tail, new_tail = held[:16], held[124:], update[124:]
        if known := self._known.get((start, tail, new_tail)):
            return known[0] + tuples + known[1]
        made = ctmessage.merged(held, update)
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known[start, tail, new_tail] = made[:16], made[124:]
        return made
