"""How does a person read a connection? ``tcp 198.51.100.9:40122 -> 192.0.2.10:80 ESTABLISHED``."""

from __future__ import annotations

import ipaddress

from gimli.pair import ctmessage, netlink
from gimli.pair.ctfilter import PROTOCOLS
from gimli.pair.cttuple import Tuple

_NAMES = {number: name for name, number in PROTOCOLS.items()}

# enum tcp_conntrack, linux/netfilter/nf_conntrack_tcp.h; enum sctp_conntrack likewise.
_TCP = (
    *("NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT"),
    *("CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2"),
)
_SCTP = (
    *("NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED"),
    *("SHUTDOWN_SENT", "SHUTDOWN_RECD", "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT"),
)
_STATES = {1: _TCP, 3: _SCTP}  # by CTA_PROTOINFO_TCP and _SCTP


def describe(message: bytes) -> str:
    """One line about a connection.

    Args:
        message: the kernel's or the canonical form.

    Raises:
        PeerError: it is not well formed.
    """
    found = ctmessage.parts(message)
    if ctmessage.TUPLE_ORIG not in found:
        return "all connections"
    original = Tuple(found[ctmessage.TUPLE_ORIG])
    words = [
        _NAMES.get(original.protocol, f"protocol {original.protocol}"),
        _end(original.source, original.source_port or original.icmp_id),
        "->",
        _end(original.destination, original.destination_port),
    ]
    if ctmessage.PROTOINFO in found:
        words.append(_state(found[ctmessage.PROTOINFO]))
    if ctmessage.ZONE in found:
        words.append(f"zone {int.from_bytes(netlink.value(found[ctmessage.ZONE], 2), 'big')}")
    return " ".join(filter(None, words))


def _end(address: bytes, port: bytes) -> str:
    text = str(ipaddress.ip_address(address))
    if not port:
        return text
    number = int.from_bytes(port, "big")
    return f"{text}:{number}" if len(address) == 4 else f"[{text}]:{number}"


def _state(protoinfo: bytes) -> str:
    for kind, names in _STATES.items():
        if inner := netlink.nested(protoinfo).get(kind):
            states = netlink.nested(inner)
            number = netlink.value(states[1], 1)[0] if 1 in states else 0
            return names[number] if number < len(names) else f"state {number}"
    return ""
