"""What may the failure need, what may cure it, and what does each cure cost? Switches of a topology. Pure.

A cause is something that can be taken away, in one way or several; it is needed when the failure is gone
without it, whichever way. A condition is the same about the traffic or the links: not a mistake, but without
it the causes show nothing. A remedy is what an operator can do. How a cause comes about in a network without
it is said here as well: the explanation takes away what the search puts there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from gimli.lab.network.switching import (
    DOWNLOAD,
    SMALL_BYTES,
    UPLOAD,
    balancers,
    could_have_sync,
    floods,
    inner_rate,
    is_group,
    is_of,
    pf,
    sync_networks,
    sync_rate,
    with_block,
    with_fast_sync,
    with_flooding,
    with_guard,
    with_lone_snooping,
    with_rate,
    with_requests,
    with_small_requests,
    with_snooping,
    with_static_entries,
    with_sync,
    with_sync_rate,
    without_blocks,
    without_sync,
)
from gimli.lab.network.topology import Binding, Fault, Firewall, Merge, Model, Release, Topology
from gimli.lab.network.topology import Kind as FaultKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.lab.network.switching import Change


class Kind(Enum):
    """Of a cause; the value is its name in JSON."""

    CAUSE = "cause"
    CONDITION = "condition"
    CIRCUMSTANCE = "circumstance"
    """Part of a design, and known to be neither: the search draws it, no explanation takes it away."""
    HARM = "harm"
    """Something that breaks."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to take a cause away."""

    remedy: str
    change: Change


@dataclass(frozen=True, slots=True)
class Setting:
    """One way in which a cause comes about: what is so then."""

    text: str
    change: Change


def _never(_: Topology) -> tuple[Setting, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Switched:
    """Something that can be switched alone.

    Args:
        name: for JSON and the search.
        text: what it is.
        is_there: whether a topology has it.
        ways: each takes it away.
        arises: the ways in which it may come about in a topology that does not have it.
        odds: how likely a random design has it: one half, unless few networks have it, or most.
    """

    name: str
    kind: Kind
    text: str
    is_there: Callable[[Topology], bool]
    ways: tuple[Way, ...] = ()
    arises: Callable[[Topology], tuple[Setting, ...]] = _never
    odds: float = 0.5


@dataclass(frozen=True, slots=True)
class Remedy:
    """What an operator can do, and what it costs beside what a failover then costs, which is measured."""

    name: str
    change: Change
    price: str


def _any_pf(topology: Topology, has: Callable[[Firewall], bool]) -> bool:
    return any(has(firewall) for firewall in topology.firewalls)


def _largest(topology: Topology) -> int:
    return max(max(request.sends[1], request.gets[1]) for request in topology.traffic.mix)


_FAULTS = {
    FaultKind.CUT: "the cable of {} is cut",
    FaultKind.CUT_TO: "nothing reaches {} any more, and nobody is told",
    FaultKind.CUT_FROM: "nothing leaves {} any more, and nobody is told",
    FaultKind.POWER: "{} is switched off",
    FaultKind.HANG: "the daemon of {} stands still",
}

RARE, USUAL = 0.15, 0.75
"""Odds of what few networks have, and of what most have."""


def _with_forced_copy(topology: Topology) -> Topology:
    """By the release, where it is the newest one; older ones differ in more than the merging."""
    if {host.pf.release for host in topology.firewalls} == {Release.V7_4}:
        return pf(topology, release=Release.V4_7, merge=None)
    return pf(topology, merge=Merge.FORCED)


_MERGES = (Setting("updates are merged as in OpenBSD 4.6 to 7.3", _with_forced_copy),)
_FORWARDS = (
    Setting(
        "a frame to a group MAC is forwarded, as up to OpenBSD 4.6",
        lambda topology: pf(topology, forwards_groups=True),
    ),
)
_BURSTS = (
    Setting("downloads of 90 to 170 kB", lambda topology: with_requests(topology, DOWNLOAD)),
    Setting("uploads of 80 to 160 kB", lambda topology: with_requests(topology, UPLOAD)),
    Setting(
        "downloads and uploads of up to 170 kB", lambda topology: with_requests(topology, DOWNLOAD, UPLOAD)
    ),
)
_SLOW_SYNCS = tuple(
    Setting(
        f"a sync cable of {rate_mbit:g} Mb/s",
        lambda topology, rate_mbit=rate_mbit: with_sync_rate(topology, rate_mbit),  # type: ignore[misc]  # bound now
    )
    for rate_mbit in (10.0, 100.0)
)


def _of_pf(topology: Topology, settings: tuple[Setting, ...]) -> tuple[Setting, ...]:
    return settings if is_of(Model.PF, topology) else ()


def _flooding_arises(topology: Topology) -> tuple[Setting, ...]:
    if len(topology.firewalls) < 2 or not any(is_group(host.mac) for host in balancers(topology)):
        return ()
    return (
        Setting("the switch floods the balancers' group MAC to every port", with_flooding),
        Setting("the switch snoops IGMP and nobody asks, so it floods group MACs", with_lone_snooping),
    )


def _blocks_arise(topology: Topology) -> tuple[Setting, ...]:
    if len(topology.firewalls) < 2:
        return ()
    backup = topology.firewalls[1]
    advertising = {carp.interface for carp in backup.carp}
    networks = {plug.network for plug in backup.interfaces if plug.name in advertising}
    return tuple(
        Setting(
            f"the switch {switch.name} sends no group MAC to {backup.name}",
            lambda topology, name=switch.name: with_block(topology, name),  # type: ignore[misc]  # bound now
        )
        for switch in topology.switches
        if switch.name in networks
    )


CAUSES = (
    Switched(
        "flooding",
        Kind.CAUSE,
        "the switch floods the balancers' group MAC to the backup       (no IGMP snooping)",
        floods,
        (Way("static MAC entries", with_static_entries),),
        _flooding_arises,
    ),
    Switched(
        "replicas",
        Kind.CAUSE,
        "the backup's pf tracks the copies with replicated states       (pfsync up, floating states)",
        lambda topology: _any_pf(
            topology, lambda host: bool(host.sync) and host.pf.binding is Binding.FLOATING
        ),
        (
            Way("pfsync off", without_sync),
            Way("if-bound states", lambda topology: pf(topology, binding=Binding.IF_BOUND)),
        ),
        lambda topology: (
            (Setting("pfsync tells the backup of every state", with_sync),)
            if is_of(Model.PF, topology) and could_have_sync(topology)
            else ()
        ),
        USUAL,
    ),
    Switched(
        "forced-copy",
        Kind.CAUSE,
        "merging copies a peer already judged stale                     (OpenBSD 4.6 to 7.3)",
        lambda topology: _any_pf(topology, lambda host: host.pf.merging is Merge.FORCED),
        (Way("merging per peer", lambda topology: pf(topology, merge=Merge.PER_PEER)),),
        lambda topology: _of_pf(topology, _MERGES),
    ),
    Switched(
        "forwarding",
        Kind.CAUSE,
        "a frame to a group MAC is forwarded like any other             (OpenBSD up to 4.6)",
        lambda topology: _any_pf(topology, lambda host: host.pf.is_forwarding_groups),
        (Way("not forwarded", lambda topology: pf(topology, forwards_groups=False)),),
        lambda topology: _of_pf(topology, _FORWARDS),
        RARE,
    ),
    Switched(
        "blocked-port",
        Kind.CAUSE,
        "no group MAC is sent to a firewall's port, so no advertisement",
        lambda topology: any(switch.blocked for switch in topology.switches),
        (Way("ports not blocked", without_blocks),),
        _blocks_arise,
        RARE,
    ),
    Switched(
        "bursts",
        Kind.CONDITION,
        "more than 67 kB are moved at once, after a pause",
        lambda topology: _largest(topology) > SMALL_BYTES,
        (Way(f"nothing above {SMALL_BYTES // 1000} kB", with_small_requests),),
        lambda _: _BURSTS,
        USUAL,
    ),
    Switched(
        "slow-sync",
        Kind.CONDITION,
        "the sync cable is slower than the network",
        lambda topology: bool(sync_networks(topology)) and sync_rate(topology) < inner_rate(topology),
        (Way("a sync cable as fast as the network", with_fast_sync),),
        lambda topology: _SLOW_SYNCS if sync_networks(topology) else (),
    ),
)

REMEDIES = (
    Remedy("guard on the backup", with_guard, "none"),
    Remedy(
        "IGMP snooping + querier",
        with_snooping,
        "needs a querier; 224.0.0.18 still floods",
    ),
    Remedy("static MAC entries", with_static_entries, "by hand at every port"),
    Remedy("pull the sync cable", without_sync, "without states, a failover ends them"),
    Remedy(
        "OpenBSD 7.4+",
        lambda topology: pf(topology, release=Release.V7_4),
        "upgrade; seqhi can still move back",
    ),
    Remedy(
        "if-bound states",
        lambda topology: pf(topology, binding=Binding.IF_BOUND),
        "both firewalls must name interfaces alike",
    ),
    Remedy("sync cable as fast", with_fast_sync, "windows still move back"),
    Remedy("network at 100 Mb/s", with_rate(100.0), "a tenth of the speed"),
    Remedy("network at 500 Mb/s", with_rate(500.0), "-"),
)


def present(topology: Topology) -> tuple[Switched, ...]:
    """The causes and conditions that a topology has, its faults among them."""
    known = tuple(cause for cause in CAUSES if cause.is_there(topology))
    return (*(_of_fault(fault) for fault in topology.faults), *known)


def _of_fault(fault: Fault) -> Switched:
    def without(topology: Topology) -> Topology:
        return replace(topology, faults=tuple(other for other in topology.faults if other != fault))

    return Switched(
        f"{fault.kind.value} {fault.what}",
        Kind.CAUSE,
        f"at {fault.at_s:g} s {_FAULTS[fault.kind].format(fault.what)}",
        lambda topology: fault in topology.faults,
        (Way("without this fault", without),),
    )


def without(topology: Topology, causes: tuple[Switched, ...]) -> Topology:
    """A topology with these taken away, each in its first way."""
    for cause in causes:
        topology = cause.ways[0].change(topology)
    return topology
