"""What else may a design have, or be hit by? What nobody is to blame for, and what breaks. Pure.

Together with ``causes.CAUSES`` they are the space in which ``gimli lab search`` draws. Whatever the topology
has no place for does not arise in it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gimli.lab.network import causes_linux
from gimli.lab.network.causes import CAUSES, RARE, Kind, Setting, Switched
from gimli.lab.network.switching import (
    balancers,
    is_group,
    is_of,
    middle_s,
    pf,
    second_firewall,
    with_client_link,
    with_guard,
    with_inner_links,
    with_rate,
    with_redirect,
    with_shared_mac,
    with_stacks,
)
from gimli.lab.network.topology import Binding, Block, Client, Fault, Firewall, Merge, Model, Topology
from gimli.lab.network.topology import Kind as FaultKind

if TYPE_CHECKING:
    from collections.abc import Callable

_FAULT_LASTS_S = 3.0
_BIG_WINDOW = 1_048_560


def _circumstance(
    name: str,
    text: str,
    settings: tuple[Setting, ...],
    odds: float = 0.5,
    fits: Callable[[Topology], bool] = lambda _: True,
    kind: Kind = Kind.CIRCUMSTANCE,
) -> Switched:
    """One that may be set anew whatever is there: a setting that changes nothing is none."""

    def arises(topology: Topology) -> tuple[Setting, ...]:
        return settings if fits(topology) else ()

    return Switched(name, kind, text, lambda _: False, (), arises, odds)


def _has_pair(topology: Topology) -> bool:
    return len(topology.firewalls) > 1


def _has_pf(topology: Topology) -> bool:
    return is_of(Model.PF, topology)


def _may_share(topology: Topology) -> bool:
    """Balancers of one address, at a MAC that is no group's."""
    there = balancers(topology)
    return bool(there) and len({host.address for host in there}) == 1 and not is_group(there[0].mac)


def _may_redirect(topology: Topology) -> bool:
    """Clients' gateway is an address of the pair, and nothing is redirected yet."""
    shared = {carp.address for firewall in topology.firewalls for carp in firewall.carp}
    gateways = {host.gateway for host in topology.hosts if isinstance(host, Client)}
    has_one = any(firewall.redirect for firewall in topology.firewalls)
    return _has_pf(topology) and len(gateways) == 1 and gateways <= shared and not has_one


def _equal_skews(topology: Topology) -> Topology:
    first = {carp.vhid: carp.advskew for carp in topology.firewalls[0].carp}
    return second_firewall(
        topology,
        lambda host: replace(
            host,
            carp=tuple(replace(carp, advskew=first.get(carp.vhid, carp.advskew)) for carp in host.carp),
        ),
    )


def _preempting(topology: Topology) -> Topology:
    def change(host: Firewall) -> Firewall:
        return replace(host, carp=tuple(replace(carp, preempt=True) for carp in host.carp))

    hosts = (change(host) if isinstance(host, Firewall) else host for host in topology.hosts)
    return replace(topology, hosts=tuple(hosts))


def _slow_backup(topology: Topology) -> Topology:
    return second_firewall(topology, lambda host: replace(host, pf=replace(host.pf, cpu_s=0.001)))


def _thinking(least_s: float, most_s: float) -> Callable[[Topology], Topology]:
    return lambda topology: replace(topology, traffic=replace(topology.traffic, thinks_s=(least_s, most_s)))


CIRCUMSTANCES = (
    _circumstance(
        "shared-mac",
        "balancers share an address and a group MAC",
        (Setting("two balancers share an address and a group MAC", with_shared_mac),),
        fits=_may_share,
    ),
    _circumstance(
        "redirect",
        "the service is behind an address translation",
        (Setting("an address outside stands for the service (rdr)", with_redirect),),
        RARE,
        _may_redirect,
    ),
    _circumstance(
        "binding",
        "states are bound to interfaces",
        (Setting("states are bound to interfaces", lambda topology: pf(topology, binding=Binding.IF_BOUND)),),
        RARE,
        _has_pf,
    ),
    _circumstance(
        "block-return",
        "what no rule passes is answered by RST",
        (Setting("block return", lambda topology: pf(topology, block=Block.RETURN)),),
        fits=_has_pf,
    ),
    _circumstance(
        "old-merge",
        "updates are merged as before OpenBSD 4.6",
        (
            Setting("updates are merged as in OpenBSD 4.4", lambda topology: pf(topology, merge=Merge.WHOLE)),
            Setting(
                "updates are merged as in OpenBSD 4.5",
                lambda topology: pf(topology, merge=Merge.WHOLE_BUT_SRC),
            ),
        ),
        RARE,
        _has_pf,
    ),
    _circumstance(
        "guard",
        "the guard is on a backup",
        (Setting("the guard drops flooded frames at the backup's NIC", with_guard),),
        RARE,
        _has_pf,
    ),
    _circumstance(
        "slow-backup",
        "the backup needs long for a packet",
        (Setting("the backup needs 1 ms for a packet", _slow_backup),),
        RARE,
        _has_pf,
    ),
    _circumstance(
        "equal-skews",
        "both firewalls advertise as often",
        (Setting("both firewalls have the same advskew", _equal_skews),),
        RARE,
        _has_pair,
    ),
    _circumstance(
        "preempt",
        "the better firewall takes over again",
        (Setting("preempt", _preempting),),
        fits=_has_pair,
    ),
    _circumstance(
        "distance",
        "how far clients are",
        (
            Setting("clients 0.7 ms away", lambda topology: with_client_link(topology, latency_s=0.0007)),
            Setting("clients 40 ms away", lambda topology: with_client_link(topology, latency_s=0.040)),
        ),
        kind=Kind.CONDITION,
    ),
    _circumstance(
        "jitter",
        "the clients' latency varies",
        (
            Setting("up to 0.4 ms of jitter", lambda topology: with_client_link(topology, jitter_s=0.0004)),
            Setting("up to 5 ms of jitter", lambda topology: with_client_link(topology, jitter_s=0.005)),
        ),
        kind=Kind.CONDITION,
    ),
    _circumstance(
        "rate",
        "how fast the network is",
        (Setting("a network of 100 Mb/s", with_rate(100.0)),),
        kind=Kind.CONDITION,
    ),
    _circumstance(
        "pauses",
        "how long clients think",
        (
            Setting("clients that hardly pause", _thinking(0.05, 0.3)),
            Setting("clients that pause for 2 to 5 s", _thinking(2.0, 5.0)),
        ),
        kind=Kind.CONDITION,
    ),
    _circumstance(
        "windows",
        "how large TCP's windows are",
        (Setting("windows of 1 MB", lambda topology: with_stacks(topology, window=_BIG_WINDOW, wscale=4)),),
        kind=Kind.CONDITION,
    ),
    _circumstance(
        "no-sack",
        "TCP without selective acknowledgements",
        (Setting("no SACK", lambda topology: with_stacks(topology, sack=False)),),
        RARE,
        kind=Kind.CONDITION,
    ),
)


def _faults_of(topology: Topology) -> tuple[Setting, ...]:
    """One thing that breaks in the middle of a run, for good or for a while."""
    at_s = middle_s(topology)
    victims = [(FaultKind.POWER, firewall.name) for firewall in topology.firewalls]
    victims += [(FaultKind.HANG, host.name) for host in topology.firewalls if host.model is Model.LINUX]
    victims += [
        (kind, f"{firewall.name}.{plug.name}")
        for firewall in topology.firewalls
        for plug in firewall.interfaces
        for kind in (FaultKind.CUT, FaultKind.CUT_TO, FaultKind.CUT_FROM)
    ]
    return tuple(
        _breaking(Fault(at_s, kind, what, until_s))
        for kind, what in victims
        for until_s in (None, at_s + _FAULT_LASTS_S)
    )


def _breaking(fault: Fault) -> Setting:
    lasts = "" if fault.until_s is None else f" for {_FAULT_LASTS_S:g} s"
    host, _, interface = fault.what.partition(".")

    def change(topology: Topology) -> Topology:
        has_it = any(
            firewall.name == host and interface in {"", *(plug.name for plug in firewall.interfaces)}
            for firewall in topology.firewalls
        )
        return replace(topology, faults=(*topology.faults, fault)) if has_it else topology

    return Setting(f"{fault.kind.value} {fault.what} at {fault.at_s:g} s{lasts}", change)


HARMS = (
    Switched("fault", Kind.HARM, "something breaks", lambda t: bool(t.faults), (), _faults_of),
    _circumstance(
        "loss",
        "frames are lost",
        (
            Setting("1 % loss at the clients", lambda topology: with_client_link(topology, loss=0.01)),
            Setting("1 % loss inside", lambda topology: with_inner_links(topology, loss=0.01)),
        ),
        RARE,
        kind=Kind.HARM,
    ),
    _circumstance(
        "reorder",
        "frames overtake each other",
        (
            Setting(
                "1 % overtaken at the clients", lambda topology: with_client_link(topology, reorder=0.01)
            ),
            Setting("1 % overtaken inside", lambda topology: with_inner_links(topology, reorder=0.01)),
        ),
        RARE,
        kind=Kind.HARM,
    ),
    _circumstance(
        "duplicate",
        "frames come twice",
        (
            Setting("1 % twice at the clients", lambda topology: with_client_link(topology, duplicate=0.01)),
            Setting("1 % twice inside", lambda topology: with_inner_links(topology, duplicate=0.01)),
        ),
        RARE,
        kind=Kind.HARM,
    ),
)

SPACE = (*CIRCUMSTANCES, *CAUSES, *causes_linux.CAUSES)
"""Everything that a random design may have while nothing is broken, in the order in which it is set."""
