"""How do the guard's rules and the leases get into the kernel?

Rules: rarely, by the ``nft`` program. Leases: many times a second, by a netlink socket that stays open.

**What stays when the daemon ends.** The table stays, and without a lease it guards: a host whose daemon was
stopped, killed or never started again is silent about the virtual address, and its backup's blindness to
group MACs goes on. ``gimli pair run`` replaces the table when it starts. To be rid of it:
``nft delete table netdev gimli``.
"""

from __future__ import annotations

import errno
import json
import struct
import subprocess
from typing import TYPE_CHECKING, Any

from gimli.errors import GimliError
from gimli.pair import netlink
from gimli.pair.guard import FAMILY, TABLE
from gimli.pair.netlink import Message, attribute, nest, text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gimli.pair.guard import Lease

_NFT_TIMEOUT_S = 10.0


class GuardRefused(GimliError):
    """The kernel, or the nft program, does not take the rules."""


class LeaseLapsed(GimliError):
    """The lease had ended before it was renewed: this host is not MASTER any more."""


# ---- rules ---------------------------------------------------------------------------------------------


def apply(ruleset: str) -> None:
    """Make the kernel's table what the text says, all of it or nothing.

    Raises:
        GuardRefused: nothing has changed.
    """
    done = _nft("-f", "-", given=ruleset)
    if done.returncode:
        raise GuardRefused(
            "cannot set up the guard's rules",
            why=done.stderr.strip(),
            fix="see that the interfaces exist, and that the kernel has nf_tables with the netdev family",
        )


def read() -> dict[str, Any] | None:
    """The kernel's table, as ``nft -j`` tells it, completed by each chain's device; None when there is none.

    Raises:
        GuardRefused: it cannot be read.
    """
    done = _nft("-j", "list", "table", FAMILY, TABLE)
    if done.returncode:
        if "No such file or directory" in done.stderr:
            return None
        raise GuardRefused("cannot read the guard's rules", why=done.stderr.strip())
    listing: dict[str, Any] = json.loads(done.stdout)
    devices = chain_devices()
    for part in listing["nftables"]:
        if "chain" in part and part["chain"]["name"] in devices:
            part["chain"]["dev"] = devices[part["chain"]["name"]]
    return listing


def remove() -> None:
    """Delete the table: for who does not want to be guarded any more, never at the end of a daemon."""
    apply(f"add table {FAMILY} {TABLE}\ndelete table {FAMILY} {TABLE}\n")


def has_egress() -> bool:
    """Whether this kernel has the hook that a frame passes on its way out (Linux 5.16)."""
    # The kernel makes the hook and takes it back within one transaction: nobody ever sees the table.
    table = f"{FAMILY} {TABLE}_probe"
    hook = '{ type filter hook egress device "lo" priority 0; }'
    return not _nft(
        "-f", "-", given=f"add table {table}\nadd chain {table} out {hook}\ndelete table {table}\n"
    ).returncode


def _nft(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["nft", *arguments],
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=_NFT_TIMEOUT_S,
        )
    except FileNotFoundError as error:
        raise GuardRefused(
            "there is no nft", why="it sets up the guard's rules", fix="install it: apt-get install nftables"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise GuardRefused("nft hangs", why=f"it has not answered within {_NFT_TIMEOUT_S} s") from error


# ---- nf_tables by netlink; names and numbers from linux/netfilter/nf_tables.h ----------------------------

_NFTABLES = 10 << 8  # NFNL_SUBSYS_NFTABLES
_GETCHAIN = _NFTABLES | 4
_NEWSETELEM = _NFTABLES | 12
_DELSETELEM = _NFTABLES | 14
_FAMILY_NETDEV = 5
_IFNAME_BYTES = 16

_GENERIC = struct.Struct(">BBH")  # nfgenmsg: family, version, resource
_BATCH_BEGIN = Message(0x10, _GENERIC.pack(0, 0, _NFTABLES >> 8))
_BATCH_END = Message(0x11, _GENERIC.pack(0, 0, _NFTABLES >> 8))


class Leases:
    """The socket by which leases are taken, renewed and given up.

    Each call is one transaction: of several vhids' leases all change, or none.
    """

    def __init__(self) -> None:
        self._netlink = netlink.Netlink(netlink.NETFILTER)
        self.port = self._netlink.port
        """By which changes of our own are known."""

    def close(self) -> None:
        """Close the socket; leases that are held lapse in their time."""
        self._netlink.close()

    def acquire(self, leases: Iterable[Lease], length_s: float) -> None:
        """Hold leases from now on, for ``length_s``, whether they were held or not.

        Raises:
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
    listed = b"".join(
        nest(1, nest(1, attribute(1, name.encode().ljust(_IFNAME_BYTES, b"\0"))), *details)
        for name in lease.interfaces
    )
    return (
        _GENERIC.pack(_FAMILY_NETDEV, 0, 0)
        + text(1, TABLE)  # NFTA_SET_ELEM_LIST_TABLE
        + text(2, lease.set_name)
        + attribute(3, listed, nested=True)
    )


def _add(lease: Lease, length_s: float) -> Message:
    timeout = attribute(4, struct.pack(">Q", round(length_s * 1000)))  # NFTA_SET_ELEM_TIMEOUT, milliseconds
    return Message(_NEWSETELEM, _elements(lease, timeout), netlink.CREATE)


def _delete(lease: Lease) -> Message:
    return Message(_DELSETELEM, _elements(lease))


def chain_devices() -> dict[str, str]:
    """The device of each of our base chains, which the JSON of nft 1.0.6 leaves out."""
    asking = netlink.Netlink(netlink.NETFILTER)
    found: dict[str, str] = {}
    try:
        for _, body in asking.dump(Message(_GETCHAIN, _GENERIC.pack(_FAMILY_NETDEV, 0, 0))):
            chain = dict(netlink.attributes(body, 4))
            hook = dict(netlink.attributes(chain.get(4, b"")))  # NFTA_CHAIN_HOOK
            devices = [payload for _, payload in netlink.attributes(hook.get(4, b""))]  # NFTA_HOOK_DEVS
            devices = devices or [hook[3]] if 3 in hook else devices  # NFTA_HOOK_DEV
            if chain.get(1) == f"{TABLE}\0".encode() and devices:  # NFTA_CHAIN_TABLE
                name = chain[3].rstrip(b"\0").decode()  # NFTA_CHAIN_NAME
                found[name] = ",".join(device.rstrip(b"\0").decode() for device in devices)
    finally:
        asking.close()
    return found
