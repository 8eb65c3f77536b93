"""Two firewalls that share the addresses of both their sides, and what is known of the packets they pass.

The rules are those that lose every connection at a failover without its state: what is not in the table and
no beginning is invalid, and dropped; a connection in mid-stream is not picked up.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING

from tests.failover.site import LAN_ADDRESS, WAN_ADDRESS, Site, carp_table, sync_table

if TYPE_CHECKING:
    from tests.failover.node import Node


class Nat(Enum):
    """Which source do packets to the server have?"""

    NONE = ""
    """The client's own."""
    SNAT = f"oifname wan0 snat to {WAN_ADDRESS}"
    """The pair's."""


_RULES = """
table ip firewall {{
    counter forwarded {{ }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
        counter name forwarded
        ct state established,related accept
        ct state invalid drop
        iifname {{ lan0, carp1, vrrp1 }} ct state new tcp flags & (syn|ack) == syn accept
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        {nat}
    }}
}}
"""


def prepare(site: Site, nat: Nat = Nat.NONE) -> None:
    """Make both nodes firewalls."""
    for node in site.nodes:
        node.host.sysctl(ipv4__ip_forward=1)
        node.host.run("nft", "-f", "-", text=_RULES.format(nat=nat.value))
        node.host.sysctl(netfilter__nf_conntrack_tcp_loose=0)


def configuration(node: Node, *, sync: bool = True, **carp: object) -> str:
    """The pair.toml of a firewall: a vhid on each side, and the cables are looked at."""
    tables = [
        carp_table(1, "lan0", f"{LAN_ADDRESS}/24", **carp),
        carp_table(2, "wan0", f"{WAN_ADDRESS}/24", **carp),
    ]
    return "".join([*tables, *([sync_table(node)] if sync else [])])


def forwarded(node: Node) -> int:
    """How many packets a node has looked at to pass them on."""
    said = node.host.run("nft", "-j", "list", "counter", "ip", "firewall", "forwarded")
    counters = [item["counter"] for item in json.loads(said)["nftables"] if "counter" in item]
    packets: int = counters[0]["packets"]
    return packets
