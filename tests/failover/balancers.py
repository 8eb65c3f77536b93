"""Incident 2 around a pair: two balancers share an address and a group MAC, the application is behind them.

                +-- a --+                       +-- lb1 --+
client -- lan --|       |-- wan, which floods --|         |-- back -- server
                +-- b --+     group MACs        +-- lb2 --+

A group MAC is learnt from nobody, so both nodes have it by hand, and the switch sends a frame for it to every
port: the other node's as well. What comes as far as that node's NIC, and what comes further, is counted.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.failover.flows import PORT
from tests.failover.site import WAN_ADDRESS

if TYPE_CHECKING:
    from tests.failover.node import Node
    from tests.failover.site import Site

SHARED = "203.0.113.100"
"""The address that the balancers share, ..."""
GROUP_MAC = "01:00:5e:00:71:64"
"""... and their MAC."""
_APPLICATION = "10.3.0.10"
_BALANCERS = 2

_BALANCE = f"""
table ip balance {{
    chain share {{
        type filter hook prerouting priority -300
        ether daddr {GROUP_MAC} jhash ip saddr . tcp sport mod {_BALANCERS} seed 0x1 != {{share}} drop
        ether daddr {GROUP_MAC} meta pkttype set host
    }}
    chain in {{
        type nat hook prerouting priority dstnat
        ip daddr {SHARED} tcp dport {PORT} dnat to {_APPLICATION}
    }}
    chain out {{
        type nat hook postrouting priority srcnat
        oifname back0 masquerade
    }}
}}
"""

# The guard's hook has priority -500, connection tracking -200.
_COUNT = f"""
table netdev watch {{
    counter arrived {{ }}
    chain nic {{
        type filter hook ingress device "wan0" priority -600
        ether daddr {GROUP_MAC} counter name arrived
    }}
}}
table ip watch {{
    counter passed {{ }}
    chain before_tracking {{
        type filter hook prerouting priority -201
        ether daddr {GROUP_MAC} counter name passed
    }}
}}
"""


def put_up(site: Site) -> None:
    """Put the balancers between the nodes and the server, and count on both nodes."""
    network = site.network
    back = network.switch("back")
    network.plug(site.server, "back0", back, f"{_APPLICATION}/24")
    for share in range(_BALANCERS):
        balancer = network.host(f"lb{share + 1}")
        network.plug(balancer, "wan0", site.wan, f"203.0.113.{share + 11}/24")
        network.plug(balancer, "back0", back, f"10.3.0.{share + 11}/24")
        balancer.sysctl(ipv4__ip_forward=1)
        balancer.run("ip", "route", "add", "default", "via", WAN_ADDRESS)
        balancer.run("nft", "-f", "-", text=_BALANCE.replace("{share}", str(share)))
    for node in site.nodes:
        entry = ("ip", "neigh", "add", SHARED, "lladdr", GROUP_MAC, "dev", "wan0", "nud", "permanent")
        node.host.run(*entry)
        node.host.run("nft", "-f", "-", text=_COUNT)


def arrived(node: Node) -> int:
    """Frames for the group MAC that came to the node's NIC."""
    return _counted(node, "netdev", "arrived")


def passed(node: Node) -> int:
    """Those of them that came as far as the hook before connection tracking."""
    return _counted(node, "ip", "passed")


def invalid(node: Node) -> int:
    """Packets that the node's connection tracking has looked at, and knew no connection for."""
    said = node.host.run("conntrack", "-S").split()
    return sum(int(word.removeprefix("invalid=")) for word in said if word.startswith("invalid="))


def _counted(node: Node, family: str, name: str) -> int:
    said = json.loads(node.host.run("nft", "-j", "list", "counter", family, "watch", name))
    return next(int(item["counter"]["packets"]) for item in said["nftables"] if "counter" in item)
