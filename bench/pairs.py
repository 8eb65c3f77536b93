"""What holds an address between two hosts, and how is each of them started, cut off and brought back?

Ours, ucarp and keepalived, each at a site of its own, with the same timers. A host that dies is one whose
cable is pulled at the switch while its processes are killed: what it left in its kernel reaches nobody.
(With the cable in place a dead ucarp or keepalived goes on answering for the address.)
"""

from __future__ import annotations

import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from workbench import HERE, descendants, wait_for

from gimli.paths import unlink_if_there

sys.path.append(os.path.dirname(HERE))
from tests.failover import firewall, peers
from tests.failover.peers import Peer
from tests.failover.site import LAN_ADDRESS, PASSWORD, WAN_ADDRESS, Site, carp_table

if TYPE_CHECKING:
    from tests.failover.node import Node

DEAD_S = 3.0
"""Of the default timers: an advertisement every second, and three of them are missed."""
_VHID = 1
_PID_FILES = ("pid", "vrrp.pid", "checkers.pid")


class Restless(Exception):
    """It did not stand still before anything was done: this machine is too busy for the timers."""


class Pair(ABC):
    """Two hosts and what they run.

    Args:
        site: where.
        fast: as fast as it goes, instead of the default timers.
    """

    name = ""
    program = ""
    """That must be installed."""

    def __init__(self, site: Site, *, fast: bool = False) -> None:
        self.site = site
        self.fast = fast

    @abstractmethod
    def start(self, node: Node) -> None:
        """Start what a host runs."""

    @abstractmethod
    def wait_until_backup(self, node: Node) -> None:
        """Wait until it is ready to take over."""

    @abstractmethod
    def kill(self, node: Node) -> int:
        """Kill all that a host runs; when, in ns of CLOCK_REALTIME."""

    def clean(self, node: Node) -> None:  # noqa: B027 - ours cleans up itself
        """Remove what a killed one has left, as a boot does."""

    def cut_off(self, node: Node) -> int:
        """The host dies; when. It cannot see that its cable goes, and say so by another one."""
        at_ns = self.kill(node)
        self.site.cut_off(node)
        return at_ns

    def bring_back(self, node: Node) -> None:
        """The host boots."""
        self.clean(node)
        self.site.connect(node)
        self.start(node)
        self.wait_until_backup(node)

    def wait_until_replicated(self, count: int) -> None:  # noqa: B027 - for those that replicate
        """Wait until the backup has so many connections."""

    def close(self) -> None:  # noqa: B027 - the site ends ours
        """End what still runs."""


class Gimli(Pair):
    """``gimli pair run``, without state sync."""

    name = "gimli"

    def __init__(self, site: Site, *, fast: bool = False) -> None:
        super().__init__(site, fast=fast)
        for node in site.nodes:
            node.configure(self.configuration(node))

    def configuration(self, node: Node) -> str:  # noqa: ARG002 - who inherits it needs to know
        """The pair.toml of a node."""
        return carp_table(**self.timers())

    def timers(self) -> dict[str, int]:
        """An advertisement every second, or every 23 ms."""
        return {"advbase": 0, "advskew": 6} if self.fast else {"advbase": 1, "advskew": 0}

    def start(self, node: Node) -> None:
        """Start what a host runs."""
        node.start()

    def wait_until_backup(self, node: Node) -> None:
        """Wait until it is ready to take over."""
        node.wait_for_role("BACKUP")

    def kill(self, node: Node) -> int:
        """Kill all that a host runs; when."""
        return node.kill()


class Ucarp(Pair):
    """ucarp as its manual says."""

    name = "ucarp"
    program = "ucarp"

    def __init__(self, site: Site, *, fast: bool = False) -> None:
        super().__init__(site, fast=fast)
        self._running: dict[str, Peer] = {}

    def start(self, node: Node) -> None:
        """Start what a host runs."""
        source = {"a": "192.0.2.2", "b": "192.0.2.3"}[node.name]
        self._running[node.name] = peers.ucarp(
            node.host,
            self.site.directory,
            source,
            vhid=_VHID,
            address=LAN_ADDRESS,
            password=PASSWORD,
        )

    def wait_until_backup(self, node: Node) -> None:
        """Wait until it is ready to take over; a MASTER says this on its way, too."""
        self._running[node.name].wait_for(peers.BACKUP)

    def kill(self, node: Node) -> int:
        """Kill all that a host runs; when."""
        return self._running[node.name].kill()

    def clean(self, node: Node) -> None:
        """Remove what a killed one has left."""
        self._running.pop(node.name).close()
        node.host.run("ip", "address", "del", f"{LAN_ADDRESS}/24", "dev", "lan0", check=False)

    def close(self) -> None:
        """End what still runs."""
        for running in self._running.values():
            running.close()


class Keepalived(Pair):
    """keepalived with VRRP; priority 254 on both, so that its dead time is the one of CARP."""

    name = "keepalived"
    program = "keepalived"
    options = ""

    def __init__(self, site: Site, *, fast: bool = False) -> None:
        super().__init__(site, fast=fast)
        self._running: dict[str, Peer] = {}

    def configuration(self, node: Node) -> str:  # noqa: ARG002 - who inherits it needs to know
        """The keepalived.conf of a node. Fractions of a second are VRRP 3."""
        return (
            f"global_defs {{\n script_user root\n vrrp_version {3 if self.fast else 2}\n}}\n"
            f"{self.instance('lan', 'lan0', LAN_ADDRESS, _VHID)}"
        )

    def instance(self, name: str, interface: str, address: str, vrid: int) -> str:
        """One address."""
        return (
            f"vrrp_instance {name} {{\n state BACKUP\n nopreempt\n interface {interface}\n"
            f" virtual_router_id {vrid}\n priority 254\n advert_int {0.02 if self.fast else 1}\n"
            f" {self.options.format(vrid=vrid)}\n virtual_ipaddress {{\n  {address}/24\n }}\n}}\n"
        )

    def start(self, node: Node) -> None:
        """Start what a host runs."""
        path = os.path.join(node.directory, "keepalived.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.configuration(node))
        pids = [os.path.join(node.directory, name) for name in _PID_FILES]
        self._running[node.name] = Peer(
            node.host,
            *("keepalived", "--dont-fork", "--log-console", "--vrrp", "--use-file", path),
            *("--pid", pids[0], "--vrrp_pid", pids[1], "--checkers_pid", pids[2]),
        )

    def wait_until_backup(self, node: Node) -> None:
        """Wait until it is ready to take over."""
        self._running[node.name].wait_for("Entering BACKUP STATE")

    def kill(self, node: Node) -> int:
        """Kill all that a host runs; when. Its child first: it is the one that speaks."""
        running = self._running[node.name]
        at_ns = time.time_ns()
        for pid in descendants(running.process.pid):
            os.kill(pid, signal.SIGKILL)
        running.kill()
        return at_ns

    def clean(self, node: Node) -> None:
        """Remove what a killed one has left."""
        self._running.pop(node.name).close()
        for name in _PID_FILES:
            unlink_if_there(os.path.join(node.directory, name))
        node.host.run("ip", "address", "del", f"{LAN_ADDRESS}/24", "dev", "lan0", check=False)
        node.host.run("ip", "link", "del", f"vrrp{_VHID}", check=False)

    def close(self) -> None:
        """End what still runs."""
        for running in self._running.values():
            for pid in descendants(running.process.pid):
                os.kill(pid, signal.SIGKILL)
            running.close()


class KeepalivedVmac(Keepalived):
    """The same on a MAC of its own."""

    name = "keepalived use_vmac"
    options = "use_vmac vrrp{vrid}"


ALL = (Gimli, Ucarp, Keepalived, KeepalivedVmac)


# ---- as firewalls --------------------------------------------------------------------------------------


class GimliFirewalls(Gimli):
    """Ours on both sides of a firewall, with state sync."""

    name = "gimli"
    has_sync = True

    def configuration(self, node: Node) -> str:
        """The pair.toml of a node."""
        return firewall.configuration(node, sync=self.has_sync, **self.timers())

    def wait_until_backup(self, node: Node) -> None:
        """Wait until it is ready to take over."""
        for vhid in (1, 2):
            node.wait_for_role("BACKUP", vhid)
        if self.has_sync:
            node.wait_until(lambda status: status["states"]["synchronised"], "the connections")

    def wait_until_replicated(self, count: int) -> None:
        """Wait until the backup has so many connections."""

        def is_so(status: dict[str, Any]) -> bool:
            return status["role"] == "MASTER" or not self.has_sync or status["states"]["held"] >= count

        if self.site.b.wait_until(is_so, "the connections")["role"] == "MASTER":
            raise Restless("the backup has taken over before anything was done")


class GimliFirewallsWithoutSync(GimliFirewalls):
    """Addresses only."""

    has_sync = False


_CONNTRACKD = """
Sync {{
    Mode FTFW {{
        DisableExternalCache On
    }}
    UDP {{
        IPv4_address {own}
        IPv4_Destination_Address {peer}
        Port 3780
        Interface sync0
        SndSocketBuffer 1249280
        RcvSocketBuffer 1249280
        Checksum on
    }}
}}
General {{
    HashSize 32768
    HashLimit 131072
    LogFile off
    LockFile {directory}/conntrackd.lock
    UNIX {{
        Path {directory}/conntrackd.ctl
    }}
    NetlinkBufferSize 2097152
    NetlinkBufferSizeMaxGrowth 8388608
    Filter From Userspace {{
        Protocol Accept {{
            TCP
        }}
        Address Ignore {{
            IPv4_address 127.0.0.1
            IPv4_address {own}
        }}
    }}
}}
"""
_TAKE_OVER = """#!/bin/sh
conntrackd -C {path} -c
conntrackd -C {path} -f
conntrackd -C {path} -R
conntrackd -C {path} -B
"""
"""As doc/sync/primary-backup.sh of conntrack-tools does on the way to MASTER."""


class KeepalivedFirewalls(KeepalivedVmac):
    """keepalived on both sides, and conntrackd, whose script it runs when it becomes MASTER."""

    name = "keepalived, conntrackd"

    def __init__(self, site: Site, *, fast: bool = False) -> None:
        super().__init__(site, fast=fast)
        self._trackers: dict[str, Peer] = {}

    def configuration(self, node: Node) -> str:
        """The keepalived.conf of a node."""
        script = os.path.join(node.directory, "take-over")
        with open(script, "w", encoding="utf-8") as file:
            file.write(_TAKE_OVER.format(path=self._tracker_file(node)))
        os.chmod(script, 0o755)
        group = f"vrrp_sync_group pair {{\n group {{\n  lan\n  wan\n }}\n notify_master {script}\n}}\n"
        return super().configuration(node) + self.instance("wan", "wan0", WAN_ADDRESS, 2) + group

    def start(self, node: Node) -> None:
        """Start what a host runs."""
        own, peer = ("198.51.100.1", "198.51.100.2")[:: 1 if node.name == "a" else -1]
        with open(self._tracker_file(node), "w", encoding="utf-8") as file:
            file.write(_CONNTRACKD.format(own=own, peer=peer, directory=node.directory))
        self._trackers[node.name] = Peer(node.host, "conntrackd", "-C", self._tracker_file(node))
        super().start(node)

    def kill(self, node: Node) -> int:
        """Kill all that a host runs; when."""
        self._trackers[node.name].kill()
        return super().kill(node)

    def wait_until_replicated(self, count: int) -> None:
        """Wait until the backup's kernel has so many connections."""
        counted = lambda: int(self.site.b.host.run("conntrack", "-C")) >= count  # noqa: E731
        wait_for(counted, f"{count} connections at the backup")

    def close(self) -> None:
        """End what still runs."""
        super().close()
        for tracker in self._trackers.values():
            tracker.close()

    def _tracker_file(self, node: Node) -> str:
        return os.path.join(node.directory, "conntrackd.conf")
