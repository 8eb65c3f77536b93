"""What is known of a connection after an update, fast?

An event names only what has changed, so it is merged with what was known. The ends of the messages, behind the
tuples, are few: what two of them become is looked up.
"""

from __future__ import annotations

from gimli.pair import ctmessage

_KNOWN_MAX = 4096


class Merger:
    """Merges two canonical messages of one connection."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], bytes] = {}

    def merged(self, held: bytes, update: bytes) -> bytes:
        """What ``held`` is after ``update``."""
        return ctmessage.merged(held, update)
