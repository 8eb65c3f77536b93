"""Which links and addresses has the kernel, and how are they changed?

By rtnetlink, with messages of our own: a takeover is one system call for all of its steps, each
acknowledged, and none of it imports a library.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from gimli.errors import PeerError
from gimli.pair import netlink, netlink_socket
from gimli.pair.netlink import attribute, nest, text
from gimli.pair.netlink_socket import Message

Interface = IPv4Interface | IPv6Interface

NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, DELADDR, GETADDR = 20, 21, 22

UP, LOWER_UP = 0x1, 0x10000
"""IFF_UP: wanted by the operator. IFF_LOWER_UP: there is a carrier."""

_IFINFO = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_IFADDR = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
_AF_INET, _AF_INET6 = 2, 10
_NODAD, _NOPREFIXROUTE = 0x02, 0x200
_MACVLAN_PRIVATE = 1
_ADDR_GEN_MODE_NONE = 1

OURS = 112
"""IFA_PROTO of the addresses we add (Linux 5.18): CARP's protocol number. It tells a leftover for certain."""


@dataclass(frozen=True, slots=True)
class Link:
    """A network device; ``parent`` is the one below it (a veth's peer), ``master`` its bridge or bond."""

    index: int
    name: str
    flags: int
    mac: str = ""
    kind: str = ""
    parent: int = 0
    master: int = 0
    info: bytes = b""
    """What is special to its kind: IFLA_INFO_DATA."""
    has_xdp: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a device."""

    index: int
    address: Interface
    origin: int = 0


def link_of(body: bytes) -> Link:
    """A link from the body of NEWLINK or DELLINK.

    Raises:
        PeerError: it is not well formed.
    """
    _, _, index, flags, _ = netlink.fixed(_IFINFO, body)
    parts = dict(netlink.contents(body, _IFINFO.size))
    info = dict(netlink.contents(parts.get(18, b"")))  # IFLA_LINKINFO
    return Link(
        index,
        _text(parts.get(3, b"")),  # IFLA_IFNAME
        flags,
        parts.get(1, b"").hex(":"),  # IFLA_ADDRESS
        _text(info.get(1, b"")),  # IFLA_INFO_KIND
        0 if 37 in parts else _number(parts.get(5, b"")),  # IFLA_LINK_NETNSID: it is another namespace's
        _number(parts.get(10, b"")),  # IFLA_MASTER
        info.get(2, b""),  # IFLA_INFO_DATA
        dict(netlink.contents(parts.get(43, b""))).get(2, b"\0") != b"\0",  # IFLA_XDP, IFLA_XDP_ATTACHED
    )


def address_of(body: bytes) -> Address:
    """An address from the body of NEWADDR or DELADDR.

    Raises:
        PeerError: it is not well formed.
    """
    _, length, _, _, index = netlink.fixed(_IFADDR, body)
    parts = dict(netlink.contents(body, _IFADDR.size))
    # IFA_LOCAL; IFA_ADDRESS is the peer's on a point-to-point link.
    packed = parts.get(2) or parts.get(1, b"")
    try:
        address = ip_interface((packed, length))
    except ValueError as error:
        raise PeerError(f"an address of {len(packed)} bytes, /{length}") from error
    return Address(index, address, (parts.get(11) or b"\0")[0])  # IFA_PROTO


class Links:
    """The socket by which links and addresses are read and changed."""

    def __init__(self) -> None:
        self._netlink = netlink_socket.Netlink(netlink_socket.ROUTE)

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def links(self) -> tuple[Link, ...]:
        """Every link of this namespace."""
        request = Message(GETLINK, _IFINFO.pack(0, 0, 0, 0, 0))
        return tuple(link_of(body) for kind, body in self._netlink.dump(request) if kind == NEWLINK)

    def link(self, name: str) -> Link | None:
        """The link of that name; its flags as they are now, not as the last event had them."""
        try:
            _, body = self._netlink.get(Message(GETLINK, _IFINFO.pack(0, 0, 0, 0, 0) + text(3, name)))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return None
        return link_of(body)

    def addresses(self, index: int = 0) -> tuple[Address, ...]:
        """The addresses of one link, or of all."""
        request = Message(GETADDR, _IFADDR.pack(0, 0, 0, 0, 0))
        found = (address_of(body) for kind, body in self._netlink.dump(request) if kind == NEWADDR)
        return tuple(each for each in found if index in (0, each.index))

    def change(self, *steps: Message, tolerate: tuple[int, ...] = ()) -> None:
        """Carry out steps in order.

        Args:
            steps: of the functions below. A step that fails does not keep the next from being tried.
            tolerate: errors that are none, such as ENOENT for what was to be removed.

        Raises:
            OSError: the first step that has failed, and why.
        """
        for answer in self._netlink.ask(steps):
            if answer.errno and answer.errno not in tolerate:
                raise OSError(answer.errno, str(answer))


def make_macvlan(name: str, parent: Link, mac: str) -> Message:
    """A device with a MAC of its own on another one, down."""
    mode = attribute(1, struct.pack("=I", _MACVLAN_PRIVATE))  # IFLA_MACVLAN_MODE
    return Message(
        NEWLINK,
        _IFINFO.pack(0, 0, 0, 0, 0)
        + text(3, name)
        + attribute(5, struct.pack("=I", parent.index))
        + attribute(1, bytes.fromhex(mac.replace(":", "")))
        + nest(18, text(1, "macvlan"), nest(2, mode)),
        netlink.CREATE | netlink.EXCLUSIVE,
    )


def without_link_local(index: int) -> Message:
    """The device makes no IPv6 address by itself; to be said while it is down."""
    mode = attribute(8, bytes([_ADDR_GEN_MODE_NONE]))  # IFLA_INET6_ADDR_GEN_MODE
    return Message(NEWLINK, _IFINFO.pack(0, 0, index, 0, 0) + nest(26, nest(_AF_INET6, mode)))  # IFLA_AF_SPEC


def delete_link(index: int) -> Message:
    """The device is gone, and its addresses with it."""
    return Message(DELLINK, _IFINFO.pack(0, 0, index, 0, 0))


def switch_link(index: int, *, up: bool) -> Message:
    """The device is up, or down."""
    return Message(NEWLINK, _IFINFO.pack(0, 0, index, UP if up else 0, UP))


def add_address(index: int, address: Interface, *, prefix_route: bool) -> Message:
    """The device has the address, at once usable (no duplicate address detection)."""
    flags = _NODAD | (0 if prefix_route else _NOPREFIXROUTE)
    details = attribute(8, struct.pack("=I", flags)) + attribute(11, bytes([OURS]))  # IFA_FLAGS, IFA_PROTO
    return Message(NEWADDR, _address(index, address) + details, netlink.CREATE | netlink.EXCLUSIVE)


def delete_address(index: int, address: Interface) -> Message:
    """The device has the address no more."""
    return Message(DELADDR, _address(index, address))


GONE = (errno.ENOENT, errno.EADDRNOTAVAIL, errno.ENODEV)
"""What the kernel says of an address or a device that is not there."""


def _address(index: int, address: Interface) -> bytes:
    family = _AF_INET if address.version == 4 else _AF_INET6
    packed = address.ip.packed
    return (
        _IFADDR.pack(family, address.network.prefixlen, 0, 0, index)
        + attribute(2, packed)
        + attribute(1, packed)
    )


def _text(payload: bytes) -> str:
    return payload.rstrip(b"\0").decode(errors="replace")


def _number(payload: bytes) -> int:
    number: int = struct.unpack("=I", payload)[0] if len(payload) == 4 else 0
    return number
