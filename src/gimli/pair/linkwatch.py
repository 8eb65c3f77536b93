"""What has happened to the interfaces?

The kernel tells by rtnetlink; what it tells becomes events on a file descriptor. A loss of carrier it tells
at once on stacked and virtual devices, and on others **up to a second late** (it sends at most one such
message a second, net/core/link_watch.c). Who cannot wait asks with :meth:`LinkWatch.poll`, before each
advertisement: that sees the carrier as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gimli.errors import PeerError
from gimli.pair import links, netlink_socket
from gimli.pair.links import Link, Links, address_of, link_of

if TYPE_CHECKING:
    from collections.abc import Iterable

_GROUPS = (1, 5, 9)  # RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR


@dataclass(frozen=True, slots=True)
class LinkCameUp:
    """The interface can be used."""

    interface: str


@dataclass(frozen=True, slots=True)
class LinkWentDown:
    """The interface cannot be used any more."""

    interface: str
    why: str


@dataclass(frozen=True, slots=True)
class AddressWent:
    """An address has been removed from the interface, by whomsoever."""

    interface: str
    address: str


LinkEvent = LinkCameUp | LinkWentDown | AddressWent


class LinkWatch:
    """Watches some interfaces.

    Args:
        interfaces: their names; they need not exist.
    """

    def __init__(self, interfaces: Iterable[str]) -> None:
        self._subscription = netlink_socket.Subscription(netlink_socket.ROUTE, _GROUPS)
        self._links = Links()
        # Subscribed first: what happens between the two is heard.
        self._known = {link.index: link for link in self._links.links()}
        self._trouble = {name: self._trouble_of(name) for name in interfaces}

    def fileno(self) -> int:
        """To be watched for reading."""
        return self._subscription.fileno()

    def close(self) -> None:
        """Close the sockets."""
        self._subscription.close()
        self._links.close()

    def trouble(self, interface: str) -> str:
        """Why the interface cannot be used; empty when it can."""
        return self._trouble[interface]

    def read(self) -> list[LinkEvent]:
        """What has happened, in order, without waiting."""
        heard, lost = self._subscription.read()
        events: list[LinkEvent] = []
        for kind, _, body in heard:
            try:
                events += self._hear(kind, body)
            except PeerError:
                lost = True  # what it was to say is there to be seen
        return events + self._look() if lost else events

    def poll(self) -> list[LinkEvent]:
        """Ask the kernel now; what it will tell later is no event again."""
        for name in self._trouble:
            link = self._links.link(name)
            self._known = {index: known for index, known in self._known.items() if known.name != name}
            if link is not None:
                self._known[link.index] = link
        return self._compared()

    def _look(self) -> list[LinkEvent]:
        self._known = {link.index: link for link in self._links.links()}
        return self._compared()

    def _hear(self, kind: int, body: bytes) -> list[LinkEvent]:
        if kind == links.DELADDR:
            gone = address_of(body)
            name = self._known[gone.index].name if gone.index in self._known else ""
            return [AddressWent(name, str(gone.address.ip))] if name in self._trouble else []
        if kind not in {links.NEWLINK, links.DELLINK} or body[:1] != b"\0":
            return []  # of another family: a bridge's news about its ports
        link = link_of(body)
        if kind == links.NEWLINK:
            self._known[link.index] = link
        else:
            self._known.pop(link.index, None)
        return self._compared()

    def _compared(self) -> list[LinkEvent]:
        events: list[LinkEvent] = []
        for name, before in self._trouble.items():
            now = self._trouble_of(name)
            if now == before:
                continue
            self._trouble[name] = now
            if now:
                events.append(LinkWentDown(name, now))
            else:
                events.append(LinkCameUp(name))
        return events

    def _trouble_of(self, name: str) -> str:
        link: Link | None = next((each for each in self._known.values() if each.name == name), None)
        if link is None:
            return "there is no such interface"
        if not link.flags & links.UP:
            return "it is switched off"
        return "" if link.flags & links.LOWER_UP else "it has no carrier"
