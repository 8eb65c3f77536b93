"""Incident 2's network, with one thing or another changed; and runs of it."""

from __future__ import annotations

import random
from dataclasses import replace

from gimli.lab.catalogue import network
from gimli.lab.network.simulator.run import simulate
from gimli.lab.network.simulator.world import World
from gimli.lab.network.topology import Client, Fault, Firewall, Kind, Pf, Request

PFSYNC_MULTICAST = network("pfsync-multicast")
LINUX_PAIR = network("linux-pair")
LINUX_FAILOVER = network("linux-failover")
GROUP_MAC = "01:00:5e:00:02:64"
SERVICE = "192.0.2.100"
OUTSIDE = "203.0.113.1"
PAGES = (Request("page", 1.0, (300, 900), (2_000, 30_000)),)


def streams(seed):
    return lambda name: random.Random(f"{seed}/{name}")


def run(topology, seed=1, traced=frozenset()):
    return simulate(topology, streams(seed), traced)


def world(topology, seed=1, traced=frozenset()):
    return World(topology, streams(seed), traced)


def firewalls(topology=PFSYNC_MULTICAST, **changes):
    """Both firewalls changed alike."""
    return replace(
        topology,
        hosts=tuple(
            replace(host, **changes) if isinstance(host, Firewall) else host for host in topology.hosts
        ),
    )


def pf(topology=PFSYNC_MULTICAST, **changes):
    """Both packet filters changed alike."""
    return firewalls(topology, pf=replace(topology.firewalls[0].pf, **changes))


def linux(topology=LINUX_PAIR, **changes):
    """Both Linux kernels, and what their pair is told, changed alike."""
    return firewalls(topology, linux=replace(topology.firewalls[0].linux, **changes))


def dmz(topology=PFSYNC_MULTICAST, **changes):
    """The switch of the balancers changed."""
    return replace(
        topology,
        switches=tuple(
            replace(switch, **changes) if switch.name == "dmz" else switch for switch in topology.switches
        ),
    )


def traffic(topology=PFSYNC_MULTICAST, **changes):
    return replace(topology, traffic=replace(topology.traffic, **changes))


def small(topology=PFSYNC_MULTICAST, *, connections=4, lasts_s=20.0):
    """A few connections, of small pages only."""
    short = traffic(topology, connections=connections, over_s=2.0, mix=PAGES, requests=(2, 3))
    return replace(short, lasts_s=lasts_s)


def quick(topology=LINUX_PAIR):
    """A dozen connections that are busy when the master dies, and given up soon."""
    busy = traffic(
        topology,
        connections=12,
        over_s=2.0,
        mix=PAGES,
        requests=(12, 15),
        thinks_s=(0.3, 0.8),
        gives_up_s=4.0,
        patience_s=6.0,
    )
    return replace(busy, lasts_s=18.0, faults=(Fault(8.0, Kind.POWER, "fw1"),))


def near(topology=PFSYNC_MULTICAST):
    """Clients in the same city."""
    return replace(
        topology,
        hosts=tuple(
            replace(
                host,
                interface=replace(
                    host.interface,
                    link=replace(host.interface.link, latency_s=0.0007, jitter_s=0.000_07),
                ),
            )
            if isinstance(host, Client)
            else host
            for host in topology.hosts
        ),
    )


def redirected(topology=PFSYNC_MULTICAST, **changes):
    """Clients talk to the firewall's address, which stands for the balancers'."""
    return traffic(pf(topology, redirect=(OUTSIDE, SERVICE), **changes), target=OUTSIDE)


DEFAULT_PF = Pf()
