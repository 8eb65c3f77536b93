"""Where does a pair of a test stand? Two nodes and a client at one switch; behind firewalls, a server.

                 +-- lan0 a wan0 --+
client --- lan --|     | sync0     |-- wan --- server
                 +-- lan0 b wan0 --+
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import TYPE_CHECKING

from gimli.lab.namespaces import Network
from tests.failover.node import Node
from tests.failover.observer import Observer

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

LAN_ADDRESS, LAN_ADDRESS6 = "192.0.2.1", "2001:db8::1"
WAN_ADDRESS = "203.0.113.1"
CLIENT, SERVER = "192.0.2.10", "203.0.113.10"
PASSWORD = "mellon-mellon"
_NAMES = ("a", "b")


class Site:
    """The network and the two nodes, which are not started.

    Args:
        wan: there is a server behind the nodes.
        hub: the switches flood every frame to every port, which is the worst that they can do.
    """

    def __init__(self, *, wan: bool = False, hub: bool = False) -> None:
        # Not tmp_path: a unix socket's path has 107 bytes at most.
        self.directory = tempfile.mkdtemp(prefix="gimli-")
        self.network = Network()
        self.client = self.network.host("client")
        self.lan = self.network.switch("lan")
        self.network.plug(self.client, "eth0", self.lan, f"{CLIENT}/24", "2001:db8::10/64")
        hosts = [self.network.host(name) for name in _NAMES]
        self.lan_ports: dict[str, str] = {}
        self.wan_ports: dict[str, str] = {}
        for place, host in enumerate(hosts):
            addresses = (f"192.0.2.{place + 2}/24", f"2001:db8::{place + 2}/64")
            self.lan_ports[host.name] = self.network.plug(host, "lan0", self.lan, *addresses)
        self.network.cable(hosts[0], "sync0", hosts[1], "sync0")
        for place, host in enumerate(hosts):
            host.address("sync0", f"198.51.100.{place + 1}/30")
        if wan:
            self.wan = self.network.switch("wan")
            self.server = self.network.host("server")
            self.network.plug(self.server, "eth0", self.wan, f"{SERVER}/24")
            for place, host in enumerate(hosts):
                self.wan_ports[host.name] = self.network.plug(
                    host, "wan0", self.wan, f"203.0.113.{place + 2}/24"
                )
            self.client.run("ip", "route", "add", "default", "via", LAN_ADDRESS)
            self.server.run("ip", "route", "add", "default", "via", WAN_ADDRESS)
        if hub:
            for switch in (self.lan, *([self.wan] if wan else [])):
                switch.run("ip", "link", "set", "br0", "type", "bridge", "ageing_time", "0")
        self.nodes = tuple(Node(host, os.path.join(self.directory, host.name)) for host in hosts)
        self.a, self.b = self.nodes
        self._observers: list[Observer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for observer in self._observers:
            observer.close()
        for node in self.nodes:
            node.close()
            if error is not None:
                error.add_note(f"{node.name} said:\n{node.said.decode(errors='replace')}")
        self.network.close()
        shutil.rmtree(self.directory, ignore_errors=True)
        if error is None:
            said = "\n".join(node.said.decode(errors="replace") for node in self.nodes)
            assert "Traceback" not in said, said

    def observe(self, address: str = LAN_ADDRESS, every_s: float = 0.005) -> Observer:
        """Ask for an address in the LAN from now on."""
        made = Observer(self.client, address, self.lan, self.lan_ports, every_s)
        self._observers.append(made)
        return made

    def pull(self, node: Node, side: str = "lan") -> None:
        """Pull a node's cable: its carrier is gone."""
        self._set_port(node, side, "down")

    def plug_in(self, node: Node, side: str = "lan") -> None:
        """Put it back."""
        self._set_port(node, side, "up")

    def cut_off(self, node: Node) -> None:
        """Pull all of a node's cables."""
        self._set_all(node, "down")

    def connect(self, node: Node) -> None:
        """Put them back."""
        self._set_all(node, "up")

    def _set_all(self, node: Node, state: str) -> None:
        self._set_port(node, "lan", state)
        if self.wan_ports:
            self._set_port(node, "wan", state)
        node.host.run("ip", "link", "set", "dev", "sync0", state)

    def _set_port(self, node: Node, side: str, state: str) -> None:
        switch, ports = (self.lan, self.lan_ports) if side == "lan" else (self.wan, self.wan_ports)
        switch.run("ip", "link", "set", "dev", ports[node.name], state)


def carp_table(
    vhid: int = 1, interface: str = "lan0", addresses: str = f"{LAN_ADDRESS}/24", **more: object
) -> str:
    """One ``[[carp]]``; further keys as TOML writes them."""
    listed = ", ".join(f'"{address}"' for address in addresses.split())
    lines = [
        "[[carp]]",
        f"vhid = {vhid}",
        f'interface = "{interface}"',
        f"addresses = [{listed}]",
        f'password = "{PASSWORD}"',
        *(f"{key} = {value}" for key, value in more.items()),
    ]
    return "\n".join(lines) + "\n"


def sync_table(node: Node, **more: object) -> str:
    """``[sync]`` of a node."""
    peer = {"a": "198.51.100.2", "b": "198.51.100.1"}[node.name]
    extra = "".join(f"{key} = {value}\n" for key, value in more.items())
    return f'[sync]\ninterface = "sync0"\npeer = "{peer}"\n{extra}'
