"""Can a topology be played on this kernel? What is missing is named before anything is played."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gimli.errors import GimliError
from gimli.lab.namespaces import NetworkRefused
from gimli.lab.network import topology as model

if TYPE_CHECKING:
    from gimli.lab.namespaces import Host


class CannotPlay(GimliError):
    """The real mode has no such part."""


@dataclass(frozen=True, slots=True)
class Need:
    """A part of the kernel: a command that fails without it, and what to do then."""

    what: str
    command: tuple[str, ...]
    fix: str
    text: str = ""


_PROGRAMS = (
    ("nft", "nftables"),
    ("iptables-legacy", "iptables"),
    ("ethtool", "ethtool"),
)
NEEDS = (
    Need("veth", ("ip", "link", "add", "name", "v", "type", "veth", "peer", "name", "w"), "modprobe veth"),
    Need("a bridge", ("ip", "link", "add", "name", "b", "type", "bridge"), "modprobe bridge"),
    Need(
        "macvlan",
        ("ip", "link", "add", "name", "m", "link", "v", "type", "macvlan", "mode", "private"),
        "modprobe macvlan",
    ),
    Need(
        "NFQUEUE",
        ("iptables-legacy", "-t", "mangle", "-A", "PREROUTING", "-p", "tcp", "-j", "NFQUEUE"),
        "modprobe -a iptable_mangle xt_NFQUEUE nfnetlink_queue",
    ),
    Need(
        "nft's netdev family",
        ("nft", "-f", "-"),
        "modprobe nf_tables; it takes CONFIG_NF_TABLES_NETDEV",
        'table netdev n {\n chain c {\n  type filter hook ingress device "v" priority 0\n }\n}\n',
    ),
    Need(
        "nft's jhash",
        ("nft", "-f", "-"),
        "modprobe nft_hash",
        "table ip n {\n chain c {\n  tcp dport 1 jhash ip saddr mod 2 seed 0x1 1 drop\n }\n}\n",
    ),
)


def probe(trial: Host) -> None:
    """Try everything in a namespace of its own.

    Raises:
        NetworkRefused: a program or a part of the kernel is missing.
    """
    for program, package in _PROGRAMS:
        if shutil.which(program) is None:
            raise NetworkRefused(
                f"there is no {program}", why="it makes the network", fix=f"apt-get install {package}"
            )
    for need in NEEDS:
        try:
            trial.run(*need.command, text=need.text or None)
        except NetworkRefused as error:
            raise NetworkRefused(
                f"the kernel has no {need.what.removeprefix('a ')} for us", why=error.why, fix=need.fix
            ) from error


def refuse_unplayable(topology: model.Topology) -> None:
    """What only the simulation has is refused, not left out in silence.

    Raises:
        CannotPlay: with the part's name.
    """
    if len(topology.firewalls) != 2:
        raise _only_simulated(f"a network with {len(topology.firewalls)} firewalls")
    for config in topology.firewalls:
        if config.model is model.Model.PF and config.pf.block is model.Block.RETURN:
            raise _only_simulated(f"{config.name}: pf's block return")
        if config.model is model.Model.LINUX and not config.linux.liberal:
            raise _only_simulated(f"{config.name}: a pair that inserts connections which mind windows")
    for host in topology.hosts:
        for each in model.interfaces_of(host):
            link = each.link
            if link.loss or link.duplicate or link.reorder:
                raise _only_simulated(f"{host.name}.{each.name}: loss, duplication or reordering of a link")
    switches = {switch.name for switch in topology.switches}
    for fault in topology.faults:
        if fault.kind in {model.Kind.CUT_TO, model.Kind.CUT_FROM}:
            name, _, interface = fault.what.partition(".")
            host = next(host for host in topology.hosts if host.name == name)
            if any(
                interface in {"", each.name} and each.network not in switches and _has_carp(host, each.name)
                for each in model.interfaces_of(host)
            ):
                # CARP is heard before anything here can drop it.
                raise _only_simulated(f"the fault {fault.kind.value} of {fault.what}, which has no switch,")


def _has_carp(host: model.Host, interface: str) -> bool:
    return isinstance(host, model.Firewall) and any(carp.interface == interface for carp in host.carp)


def _only_simulated(what: str) -> CannotPlay:
    return CannotPlay(f"{what} is simulated only", fix="play it without --real")
