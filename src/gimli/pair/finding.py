"""What is a finding of ``gimli pair check``?"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Severity(enum.Enum):
    """How bad it is; the worst first."""

    ERROR = "error"
    """The pair does not work, or harms."""
    WARNING = "warning"
    """It will not work, or harm, when something else happens."""
    NOTE = "note"
    """Worth knowing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something an operator should know.

    Args:
        severity: how bad it is.
        subject: the interface, or what else it is about.
        what: was seen.
        why: it matters.
        fix: what to do.
    """

    severity: Severity
    subject: str
    what: str
    why: str
    fix: str


@dataclass(frozen=True, slots=True)
class Interface:
    """What the kernel says of an interface.

    Args:
        name: of the interface.
        trouble: why it cannot be used; empty when it can.
        bridge: the bridge that it is, or is a port of.
        is_port: whether it is a port.
        snooping: whether that bridge looks at who listens to which group.
        querier: whether that bridge asks who does.
        features: of its card that are on, as ``ethtool -k`` names them.
        has_xdp: whether an XDP program sees frames first.
        groups: IPv4 groups that this host has joined on it, other than 224.0.0.0/24.
    """

    name: str
    trouble: str = ""
    bridge: str = ""
    is_port: bool = False
    snooping: bool = False
    querier: bool = False
    features: frozenset[str] = frozenset()
    has_xdp: bool = False
    groups: tuple[str, ...] = ()
