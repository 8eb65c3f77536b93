"""Which interfaces can be used, as it is at this moment?

The kernel tells of a lost carrier up to a second late (``linkwatch``), so it is asked at each advertisement.
It answers under a lock that every change to any interface of the machine holds, for as long as that takes
(measured: 15 ms on a busy host): half a lease in the fast mode. So the daemon has it asked aside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.pair.links import LOWER_UP, UP, Links

if TYPE_CHECKING:
    from collections.abc import Iterable


class Carrier:
    """Asks, and says when the answer is another one.

    Args:
        interfaces: their names; they need not exist.
    """

    def __init__(self, interfaces: Iterable[str]) -> None:
        self._interfaces = tuple(interfaces)
        self._links = Links()
        self._usable = self._ask()

    def has_changed(self) -> bool | None:
        """Whether another one can be used than the last time; None when not."""
        before, self._usable = self._usable, self._ask()
        return True if self._usable != before else None

    def close(self) -> None:
        """Close the socket."""
        self._links.close()

    def _ask(self) -> list[int]:
        found = [self._links.link(name) for name in self._interfaces]
        return [link.flags & (UP | LOWER_UP) if link else 0 for link in found]
