"""What of a Linux pair may the failure need, and what keeps it away? Switches of a topology. Pure.

What is the same for every pair (flooding, ports, faults) is of ``causes``. A protection is the opposite of a
cause: it is there, and what becomes of the network without it is tried.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gimli.lab.network import causes, switching
from gimli.lab.network.causes import Kind, Remedy, Setting, Switched, Way
from gimli.lab.network.topology import Firewall, Model, Topology
from gimli.pair.syncactions import Mode

if TYPE_CHECKING:
    from collections.abc import Callable

_OF_EVERY_PAIR = frozenset({"flooding", "blocked-port"})
_REMEDIES_OF_EVERY_PAIR = frozenset({"static MAC entries", "IGMP snooping + querier", "pull the sync cable"})


def is_linux(topology: Topology) -> bool:
    """Whether its pair is one."""
    return any(firewall.model is Model.LINUX for firewall in topology.firewalls)


def present(topology: Topology) -> tuple[Switched, ...]:
    """The causes and conditions that a topology has, its faults among them."""
    pf_only = {cause.name for cause in causes.CAUSES} - _OF_EVERY_PAIR
    shared = (cause for cause in causes.present(topology) if cause.name not in pf_only)
    return (*shared, *(cause for cause in CAUSES if cause.is_there(topology)))


def remedies(topology: Topology) -> tuple[Remedy, ...]:
    """What can be done to it that changes anything."""
    shared = (remedy for remedy in causes.REMEDIES if remedy.name in _REMEDIES_OF_EVERY_PAIR)
    return tuple(each for each in (*shared, *REMEDIES) if each.change(topology) != topology)


def protections(topology: Topology) -> tuple[Remedy, ...]:
    """What can be taken away from it."""
    found = (*AGAINST_FLOODING, *AT_A_FAILOVER) if switching.floods(topology) else AT_A_FAILOVER
    return tuple(each for each in found if each.change(topology) != topology)


def _any(topology: Topology, has: Callable[[Firewall], bool]) -> bool:
    return any(has(firewall) for firewall in topology.firewalls)


def unguarded(topology: Topology) -> Topology:
    """It is switched off."""
    return switching.firewalls(topology, lambda host: replace(host, guard=False))


def pair(topology: Topology, **changes: Any) -> Topology:
    """Every kernel, and what its pair is told, changed."""
    return switching.firewalls(topology, lambda host: replace(host, linux=replace(host.linux, **changes)))


def slow(topology: Topology) -> Topology:
    """No pair is in the fast mode."""
    return switching.firewalls(
        topology,
        lambda host: replace(
            host, carp=tuple(replace(carp, advbase=max(carp.advbase, 1)) for carp in host.carp)
        ),
    )


def _unguarded(**changes: Any) -> Callable[[Topology], Topology]:
    return lambda topology: unguarded(pair(topology, **changes))


def _of_linux(topology: Topology, setting: Setting) -> tuple[Setting, ...]:
    return (setting,) if is_linux(topology) else ()


CAUSES = (
    Switched(
        "no-guard",
        Kind.CAUSE,
        "the backup tracks frames that are another node's              (guard = false)",
        lambda topology: _any(topology, lambda host: not host.is_guarded),
        (Way("the guard", switching.with_guard),),
        lambda topology: _of_linux(topology, Setting("the guard is off", unguarded)),
    ),
    Switched(
        "minded-windows",
        Kind.CAUSE,
        "replicas mind windows that nobody has told them               (liberal = false)",
        lambda topology: _any(topology, lambda host: bool(host.sync) and not host.linux.liberal),
        (
            Way("liberal replicas", lambda topology: pair(topology, liberal=True)),
            Way("invalid packets pass", lambda topology: pair(topology, drops_invalid=False)),
        ),
        lambda topology: _of_linux(
            topology, Setting("replicas mind windows", lambda topology: pair(topology, liberal=False))
        ),
    ),
    Switched(
        "kernel-replicas",
        Kind.CONDITION,
        'replicas are in the backup\'s kernel                           (mode = "kernel")',
        lambda topology: _any(topology, lambda host: bool(host.sync) and host.linux.mode is Mode.KERNEL),
        (Way("replicas in memory", lambda topology: pair(topology, mode=Mode.CACHE)),),
        lambda topology: _of_linux(
            topology,
            Setting("replicas are in the backup's kernel", lambda topology: pair(topology, mode=Mode.KERNEL)),
        ),
    ),
)

REMEDIES = (
    Remedy("the guard", switching.with_guard, "none"),
    Remedy("liberal replicas", lambda topology: pair(topology, liberal=True), "none"),
    Remedy(
        'mode = "cache"',
        lambda topology: pair(topology, mode=Mode.CACHE),
        "a takeover writes them first",
    ),
)

AGAINST_FLOODING = (
    Remedy("guard off", unguarded, "copies tracked"),
    Remedy("liberal off", lambda topology: pair(topology, liberal=False), "-"),
    Remedy("guard and liberal off, cache", _unguarded(liberal=False, mode=Mode.CACHE), "nothing to move"),
    Remedy("guard and liberal off, kernel", _unguarded(liberal=False, mode=Mode.KERNEL), "half-seen states"),
)
AT_A_FAILOVER = (
    Remedy("state sync off", switching.without_sync, "nothing goes on"),
    Remedy("advbase 1", slow, "3 s to take over"),
)
