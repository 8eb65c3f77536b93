"""How does a host take, keep and give up the right to an address?

By elements with a timeout in nf_tables sets, which the guard's rules ask (``guard.py``). A lease is renewed
with every advertisement, in the fast mode many times a second: so not by a program but by a netlink socket
that stays open, one transaction of one system call each way, whose answer is read. It takes 50 us, where the
``nft`` program takes 18 ms; a lease ends within a jiffy of its time (docs/pair/guard.md).
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from gimli.errors import GimliError
from gimli.pair import netlink, netlink_socket
from gimli.pair.guard import JIFFY_S_MAX, TABLE
from gimli.pair.netlink import attribute, nest, text
from gimli.pair.netlink_socket import Message
from gimli.pair.nft import GuardRefused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gimli.pair.guard import Lease

# Names and numbers from linux/netfilter/nfnetlink.h and nf_tables.h.
_NFTABLES = 10  # NFNL_SUBSYS_NFTABLES
_NEWSETELEM, _DELSETELEM = _NFTABLES << 8 | 12, _NFTABLES << 8 | 14
_FAMILY_NETDEV = 5
_IFNAME_BYTES = 16

_GENERIC = struct.Struct(">BBH")  # nfgenmsg: family, version, resource
_BATCH_BEGIN = Message(0x10, _GENERIC.pack(0, 0, _NFTABLES))
_BATCH_END = Message(0x11, _GENERIC.pack(0, 0, _NFTABLES))


class LeaseLapsed(GimliError):
    """The lease had ended before it was renewed: this host is not MASTER any more."""


class Leases:
    """The socket by which leases are taken, renewed and given up.

    Each call is one transaction: of several vhids' leases all change, or none.
    """

    def __init__(self) -> None:
        self._netlink = netlink_socket.Netlink(netlink_socket.NETFILTER)
        self.port = self._netlink.port
        """By which changes of our own are known."""

    def close(self) -> None:
        """Close the socket; leases that are held lapse in their time."""
        self._netlink.close()

    def acquire(self, leases: Iterable[Lease], length_s: float) -> None:
        """Hold leases from now on, for ``length_s``, whether they were held or not.

        Raises:
            ValueError: the length is less than a jiffy: Linux before 6.12 would make one for ever of it.
            GuardRefused: there is no such set: the guard is not in place.
        """
        # Added first, so that the deletion finds something: what was there might have the old time.
        steps = [
            step
            for lease in leases
            for step in (_add(lease, length_s), _delete(lease), _add(lease, length_s))
        ]
        self._transact(steps, GuardRefused("cannot take the lease", fix="set up the guard first"))

    def renew(self, leases: Iterable[Lease], length_s: float) -> None:
        """Hold leases for another ``length_s`` from now on, unless one has lapsed.

        A lapsed lease is not revived: the deletion of an element that is not there, or is past its time,
        fails, and the whole transaction with it.

        Raises:
            ValueError: the length is less than a jiffy, see :meth:`acquire`.
            LeaseLapsed: at least one had ended; none was renewed.
        """
        steps = [step for lease in leases for step in (_delete(lease), _add(lease, length_s))]
        self._transact(steps, LeaseLapsed("the lease has lapsed"))

    def release(self, leases: Iterable[Lease]) -> None:
        """Hold leases no more, whether they were held or not.

        Raises:
            GuardRefused: there is no such set: the guard is not in place.
        """
        steps = [step for lease in leases for step in (_add(lease, 1.0), _delete(lease))]
        self._transact(steps, GuardRefused("cannot give up the lease", fix="set up the guard again"))

    def _transact(self, steps: list[Message], absent: GimliError) -> None:
        try:
            answers = self._netlink.ask(steps, before=_BATCH_BEGIN, behind=_BATCH_END)
        except OSError as error:
            raise GuardRefused("the kernel does not answer about a lease", why=str(error)) from error
        failed = next((answer for answer in answers if answer.errno), None)
        if failed is None:
            return
        if failed.errno != errno.ENOENT:
            raise GuardRefused("the kernel refuses to change a lease", why=str(failed))
        absent.why = str(failed)
        raise absent


def _elements(lease: Lease, *details: bytes) -> bytes:
    listed = (
        nest(1, nest(1, attribute(1, name.encode().ljust(_IFNAME_BYTES, b"\0"))), *details)
        for name in lease.interfaces
    )
    return (
        _GENERIC.pack(_FAMILY_NETDEV, 0, 0)
        + text(1, TABLE)  # NFTA_SET_ELEM_LIST_TABLE
        + text(2, lease.set_name)
        + nest(3, *listed)  # NFTA_SET_ELEM_LIST_ELEMENTS
    )


def _add(lease: Lease, length_s: float) -> Message:
    if length_s < JIFFY_S_MAX:
        raise ValueError(f"a lease of {length_s * 1000:.1f} ms: at least {JIFFY_S_MAX * 1000:.0f} are wanted")
    timeout = attribute(4, struct.pack(">Q", round(length_s * 1000)))  # NFTA_SET_ELEM_TIMEOUT, milliseconds
    return Message(_NEWSETELEM, _elements(lease, timeout), netlink.CREATE)


def _delete(lease: Lease) -> Message:
    return Message(_DELSETELEM, _elements(lease))
