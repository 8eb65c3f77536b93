"""What is wrong with this host: its guard, its interfaces, its kernel's settings?

Judged from facts that ``check.py`` has gathered. Nothing is looked at here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.pair.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from gimli.pair.config import Carp, Pair
    from gimli.pair.finding import Interface


def judge_guard(differences: Iterable[str], pair: Pair, *, runs: bool) -> Iterator[Finding]:
    """Whether the rules are in place.

    Args:
        differences: from what is wanted.
        pair: what was configured.
        runs: whether the pair's daemon runs on this host.
    """
    if not pair.guard.is_on:
        yield Finding(
            Severity.ERROR,
            "guard",
            "it is switched off in pair.toml",
            "frames of another node, flooded by the switch, are tracked here: that breaks connections",
            "switch it on; nothing but a laboratory is without",
        )
    for difference in differences:
        yield Finding(
            Severity.ERROR if runs else Severity.WARNING,
            "guard",
            difference,
            "without these rules a standby host looks at frames that are not its own, and a hung one answers",
            "find who changes them; the daemon sets them up again"
            if runs
            else "start the daemon: gimli pair run; the rules stay when it ends",
        )


L2_FORWARDING, TC_OFFLOAD = "l2-fwd-offload", "hw-tc-offload"
_BYPASSES = {
    L2_FORWARDING: "the card hands frames for the virtual MAC to carpVHID by itself, past the guard: a "
    "MASTER that hangs would go on answering",
    TC_OFFLOAD: "the card can forward connections by itself, past the guard: those of a MASTER that hangs "
    "would go on through it",
}


def judge_interface(interface: Interface, *, has_virtual_mac: bool) -> Iterator[Finding]:
    """Whether an interface is fit to be a vhid's, or guarded.

    Args:
        interface: what the kernel says of it.
        has_virtual_mac: whether a vhid with a virtual MAC is on it.
    """
    name = interface.name
    if interface.trouble:
        why = "its vhids take no part, and nothing comes in by it"
        yield Finding(Severity.ERROR, name, interface.trouble, why, f"see: ip link show {name}")
        return
    for feature in [feature for feature in _BYPASSES if feature in interface.features]:
        severity = Severity.ERROR if feature == L2_FORWARDING and has_virtual_mac else Severity.WARNING
        fix = f"ethtool -K {name} {feature} off"
        yield Finding(severity, name, f"{feature} is on", _BYPASSES[feature], fix)
    if interface.has_xdp:
        yield Finding(
            Severity.WARNING,
            name,
            "an XDP program sees its frames before the guard does",
            "what it passes on or answers by itself, it does in any role",
            f"see what it does: ip link show {name}",
        )
    if interface.is_port and has_virtual_mac:
        yield Finding(
            Severity.ERROR,
            name,
            f"it is a port of {interface.bridge}",
            "its frames go to the bridge, and none to a virtual MAC on the port",
            f'give interface = "{interface.bridge}"',
        )
    if interface.bridge and interface.snooping and not interface.querier:
        yield Finding(
            Severity.NOTE,
            interface.bridge,
            "this bridge snoops on IGMP and asks nobody",
            "while it hears no other querier it floods group frames to every port, as if it did not snoop",
            f"ip link set {interface.bridge} type bridge mcast_querier 1, unless a router asks",
        )


def judge_devices(settings: Mapping[str, str], pair: Pair, devices: Collection[str]) -> Iterator[Finding]:
    """Whether the settings of interfaces are as the daemon had made them.

    Args:
        settings: below ``net``; one that the kernel does not have is not there.
        pair: what was configured.
        devices: ``carpVHID`` that exist.
    """
    for carp in pair.carp:
        device = f"carp{carp.vhid}"
        if device in devices:
            yield from _judge_device(settings, carp, device)


def _judge_device(settings: Mapping[str, str], carp: Carp, device: str) -> Iterator[Finding]:
    def effective(setting: str, name: str) -> int:
        return max(int(settings.get(f"ipv4/conf/{each}/{setting}", "0")) for each in ("all", name))

    if effective("rp_filter", device) == 1:
        yield Finding(
            Severity.ERROR,
            device,
            "rp_filter is 1 (strict)",
            f"what is for the address comes in by {device} and answers leave by {carp.interface}: the "
            "kernel drops the one for the other",
            f"sysctl -w net.ipv4.conf.{device}.rp_filter=2",
        )
    for setting, least, why in (
        ("arp_ignore", 1, "it answers for an address of the other device, with the wrong MAC"),
        (
            "arp_announce",
            2,
            "it asks in the name of the other device's address, and neighbours learn a wrong MAC",
        ),
    ):
        for name in (carp.interface, device):
            if effective(setting, name) < least:
                yield Finding(
                    Severity.ERROR,
                    name,
                    f"{setting} is {effective(setting, name)}, expected at least {least}",
                    why,
                    f"find who has changed it; sysctl -w net.ipv4.conf.{name}.{setting}={least}",
                )


_TRACKING = "netfilter/nf_conntrack_"
_FULL_SHARE = 0.8


def judge_tracking(settings: Mapping[str, str]) -> Iterator[Finding]:
    """Whether connections can be replicated.

    ``tcp_be_liberal`` does not matter: each replicated connection has that flag of its own.

    Args:
        settings: below ``net``; one that the kernel does not have is not there.
    """
    subject = "connection tracking"
    if f"{_TRACKING}max" not in settings:
        yield Finding(
            Severity.ERROR,
            subject,
            "the kernel tracks no connections",
            "there is nothing to replicate, and replicated connections would have no effect",
            "modprobe nf_conntrack, and have a rule that uses it: ct state established,related accept",
        )
        return
    if settings.get(f"{_TRACKING}events") == "0":
        yield Finding(
            Severity.ERROR,
            subject,
            "nf_conntrack_events is 0",
            "the kernel tells nobody of connections that begin or change: none is replicated",
            "sysctl -w net.netfilter.nf_conntrack_events=1",
        )
    if settings.get(f"{_TRACKING}tcp_loose") == "1":
        yield Finding(
            Severity.WARNING,
            subject,
            "nf_conntrack_tcp_loose is 1",
            "a packet from the middle of an unknown connection makes a new one: a host that has lost its "
            "connections hides that, and NAT and rules about new connections go wrong",
            "sysctl -w net.netfilter.nf_conntrack_tcp_loose=0, at both nodes",
        )
    count, most = int(settings.get(f"{_TRACKING}count", "0")), int(settings[f"{_TRACKING}max"])
    if most and count > _FULL_SHARE * most:
        yield Finding(
            Severity.WARNING,
            subject,
            f"{count} of at most {most} connections are tracked",
            "without room new connections are dropped, and replicated ones cannot be inserted",
            f"sysctl -w net.netfilter.nf_conntrack_max={2 * most}, at both nodes",
        )
