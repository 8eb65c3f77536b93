"""Which networks are shipped? The topology of incident 2, in values."""

from __future__ import annotations

from gimli.lab.network.topology import (
    Balancer,
    Carp,
    Client,
    Expect,
    Expectation,
    Firewall,
    Interface,
    Link,
    Pf,
    Request,
    Server,
    Switch,
    Tcp,
    Topology,
    Traffic,
)

_GROUP_MAC = "01:00:5e:00:02:64"
_SERVICE = "192.0.2.100"
_WAN = Link(rate_mbit=1000.0, latency_s=0.008, jitter_s=0.0004)
_LAN = Link(rate_mbit=1000.0)
_SYNC = Link(rate_mbit=100.0)


def _firewall(number: int) -> Firewall:
    own = number + 1
    skew = 100 * (number - 1)
    return Firewall(
        name=f"fw{number}",
        interfaces=(
            Interface("ext", "outside", f"203.0.113.{own}/24", _LAN),
            Interface("dmz", "dmz", f"192.0.2.{own}/24", _LAN),
            Interface("app", "inside", f"10.2.0.{own}/24", _LAN),
            Interface("sync", "crossover", f"10.8.0.{number}/24", _SYNC),
        ),
        carp=(
            Carp("ext", 1, "203.0.113.1", advskew=skew),
            Carp("dmz", 2, "192.0.2.1", advskew=skew),
            Carp("app", 3, "10.2.0.1", advskew=skew),
        ),
        gateway="203.0.113.254",
        pf=Pf(),
        sync="sync",
        neighbours=((_SERVICE, _GROUP_MAC),),
    )


def _balancer(number: int) -> Balancer:
    return Balancer(
        name=f"lb{number}",
        interface=Interface("dmz", "dmz", f"192.0.2.{10 + number}/24", _LAN),
        gateway="192.0.2.1",
        address=_SERVICE,
        mac=_GROUP_MAC,
        share=number - 1,
        shares=2,
        servers=("10.2.0.11", "10.2.0.12"),
    )


def _server(number: int) -> Server:
    return Server(f"app{number}", Interface("app", "inside", f"10.2.0.{10 + number}/24", _LAN), "10.2.0.1")


PFSYNC_MULTICAST = Topology(
    name="pfsync-multicast",
    about="flooded frames move a backup's states, pfsync sends them back, and good connections freeze",
    lasts_s=75.0,
    switches=(Switch("outside"), Switch("dmz"), Switch("inside")),
    hosts=(
        Client("internet", Interface("wan", "outside", "203.0.113.254/24", _WAN), "203.0.113.1"),
        _firewall(1),
        _firewall(2),
        _balancer(1),
        _balancer(2),
        _server(1),
        _server(2),
    ),
    traffic=Traffic(
        target=_SERVICE,
        connections=60,
        over_s=20.0,
        requests=(2, 5),
        thinks_s=(0.5, 6.0),
        mix=(
            Request("page", 10.0, (300, 900), (2_000, 30_000)),
            Request("download", 3.0, (300, 900), (90_000, 170_000)),
            Request("upload", 1.0, (80_000, 160_000), (300, 900)),
        ),
    ),
    client_tcp=Tcp(window=65_535, wscale=0),
    server_tcp=Tcp(window=262_140, wscale=3),
    expects=(
        Expectation(Expect.FREEZE, 1.0),
        Expectation(Expect.BAD_STATE),
        Expectation(Expect.RESETS),
        Expectation(Expect.BACKUP_FORWARDS),
    ),
)
