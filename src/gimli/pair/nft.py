"""How do the guard's rules get into the kernel, and who notices when they are changed?

By the ``nft`` program, in one transaction, when a daemon starts; they do not change with the role (that is a
lease, ``lease.py``). A change by anybody else, such as the ``flush ruleset`` of a firewall that is reloaded,
is an event on a file descriptor within a millisecond.

**What stays when the daemon ends.** The table stays, and without a lease it guards: a host whose daemon was
stopped, killed or never started again is silent about the virtual address, and its backup's blindness to
group MACs goes on. ``gimli pair run`` replaces the table when it starts. To be rid of it:
``nft delete table netdev gimli``.
"""

from __future__ import annotations

import json
import struct
import subprocess
from typing import Any

from gimli.errors import GimliError
from gimli.pair import bpf, netlink, netlink_socket
from gimli.pair.guard import FAMILY, TABLE
from gimli.pair.netlink_socket import Message, Netlink, Subscription

_NFT_TIMEOUT_S = 10.0


class GuardRefused(GimliError):
    """The kernel, or the nft program, does not take the rules."""


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
    devices = _chain_devices()
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

_NFTABLES = 10  # NFNL_SUBSYS_NFTABLES
_GETCHAIN, _NEWGEN, _GETOBJ = 4, 15, 19
_COUNTER = 1  # NFT_OBJECT_COUNTER
_FAMILY_NETDEV = 5
_EVENTS = 7  # NFNLGRP_NFTABLES
_GENERIC_BYTES = 4  # nfgenmsg: family, version, resource


class GuardWatch:
    """Hears of every change to the guard's table but those of leases by one socket.

    Args:
        lease_port: of the socket whose renewals are no news.
    """

    def __init__(self, lease_port: int) -> None:
        self._subscription = Subscription(netlink_socket.NETFILTER, [_EVENTS])
        # nlmsg_pid, which the kernel writes in its own byte order and BPF reads as big-endian. The messages
        # of one transaction come together and have one author.
        port = int.from_bytes(struct.pack("=I", lease_port), "big")
        self._subscription.filter(
            (
                (bpf.LOAD_WORD, 0, 0, 12),
                (bpf.JUMP_EQUAL, 0, 1, port),
                (bpf.RETURN, 0, 0, 0),
                (bpf.RETURN, 0, 0, bpf.WHOLE),
            )
        )

    def fileno(self) -> int:
        """To be watched for reading."""
        return self._subscription.fileno()

    def has_changed(self) -> bool:
        """Whether somebody has touched the table since the last call: then :func:`read` and verify."""
        heard, lost = self._subscription.read()
        return lost or any(_concerns_us(kind, body) for kind, _, body in heard)

    def close(self) -> None:
        """Close the socket."""
        self._subscription.close()


def _concerns_us(kind: int, body: bytes) -> bool:
    if kind >> 8 != _NFTABLES or kind & 0xFF == _NEWGEN:
        return False
    # The first attribute of every such message is the name of the table.
    return dict(netlink.contents(body, _GENERIC_BYTES)).get(1) == f"{TABLE}\0".encode()


def counts(asking: Netlink) -> dict[str, int] | None:
    """How many frames each counter of the table has seen; None when there are none.

    Args:
        asking: a socket that stays open. This is no run of a program, and the loop may ask.

    Raises:
        GuardRefused: they cannot be read.
    """
    wanted = struct.pack(">BBH", _FAMILY_NETDEV, 0, 0) + netlink.text(1, TABLE)  # NFTA_OBJ_TABLE
    found: dict[str, int] = {}
    try:
        for _, body in asking.dump(Message(_NFTABLES << 8 | _GETOBJ, wanted)):
            parts = dict(netlink.contents(body, _GENERIC_BYTES))
            if int.from_bytes(parts[3], "big") == _COUNTER:  # NFTA_OBJ_TYPE
                data = dict(netlink.contents(parts[4]))  # NFTA_OBJ_DATA
                name = parts[2].rstrip(b"\0").decode()  # NFTA_OBJ_NAME
                found[name] = int.from_bytes(data[2], "big")  # NFTA_COUNTER_PACKETS
    except OSError as error:
        raise GuardRefused("cannot read the guard's counters", why=str(error)) from error
    return found or None


def _chain_devices() -> dict[str, str]:
    """The device of each of our base chains, which the JSON of nft 1.0.6 leaves out."""
    asking = netlink_socket.Netlink(netlink_socket.NETFILTER)
    request = Message(_NFTABLES << 8 | _GETCHAIN, struct.pack(">BBH", _FAMILY_NETDEV, 0, 0))
    found: dict[str, str] = {}
    try:
        for _, body in asking.dump(request):
            chain = dict(netlink.contents(body, _GENERIC_BYTES))
            hook = dict(netlink.contents(chain.get(4, b"")))  # NFTA_CHAIN_HOOK
            devices = [payload for _, payload in netlink.contents(hook.get(4, b""))]  # NFTA_HOOK_DEVS
            devices = devices or [hook[3]] if 3 in hook else devices  # NFTA_HOOK_DEV
            if chain.get(1) == f"{TABLE}\0".encode() and devices:  # NFTA_CHAIN_TABLE
                name = chain[3].rstrip(b"\0").decode()  # NFTA_CHAIN_NAME
                found[name] = ",".join(device.rstrip(b"\0").decode() for device in devices)
    finally:
        asking.close()
    return found
