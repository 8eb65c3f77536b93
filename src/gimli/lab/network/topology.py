"""What is a scenario made of? Values only: hosts, switches, links, applications, faults, expectations.

A scenario file becomes one :class:`Topology`; the simulator and the real mode both play it. Whatever may be a
cause is one field here, so that ``gimli.lab.network.causes`` can switch it alone.

An interface names the network that it is plugged into: a switch, or a cable that has exactly two ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gimli.pair.syncactions import Mode


@dataclass(frozen=True, slots=True)
class Link:
    """The cable of one interface, each direction alike.

    Args:
        rate_mbit: Mb/s.
        latency_s: from one end to the other.
        jitter_s: up to this is added per frame; order is kept.
        loss: share of frames lost.
        duplicate: share of frames that arrive twice.
        reorder: share of frames that are held back.
        reorder_s: for up to this long.
        queue_bytes: waiting to be sent; what comes beyond is dropped.
    """

    rate_mbit: float = 1000.0
    latency_s: float = 0.000_005
    jitter_s: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_s: float = 0.005
    queue_bytes: int = 256_000


@dataclass(frozen=True, slots=True)
class Interface:
    """One NIC.

    Args:
        name: on its host.
        network: the switch or the cable that it is plugged into.
        address: with its prefix length, like 192.0.2.2/24.
    """

    name: str
    network: str
    address: str
    link: Link = Link()


@dataclass(frozen=True, slots=True)
class Switch:
    """One switch, or one VLAN of one.

    Args:
        snooping: it looks at IGMP.
        querier: somebody in its network asks who the members are.
        router_ports: hosts that are sent every group, as multicast routers are.
        static: entries of a group MAC and the hosts that it is sent to.
        blocked: hosts to which no group MAC is sent.
    """

    name: str
    snooping: bool = False
    querier: bool = False
    router_ports: tuple[str, ...] = ()
    static: tuple[tuple[str, tuple[str, ...]], ...] = ()
    blocked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Carp:
    """One virtual address of a pair, on one interface of a firewall."""

    interface: str
    vhid: int
    address: str
    advbase: int = 1
    advskew: int = 0
    preempt: bool = False


class Release(Enum):
    """Of OpenBSD, as far as they differ in what is modelled."""

    V4_4 = "4.4"
    V4_5 = "4.5"
    V4_6 = "4.6"
    V4_7 = "4.7-7.3"
    V7_4 = "7.4+"


class Merge(Enum):
    """What becomes of an update of a state that is known; by the release that introduced it."""

    WHOLE = "whole"
    """Rejected whole when a state or a seqlo is behind, else accepted whole: 4.4."""
    WHOLE_BUT_SRC = "whole-but-src"
    """The same; when only dst.state is behind, src is taken: 4.5."""
    FORCED = "forced"
    """Per peer; when src passes, a dst that was rejected is copied all the same: 4.6 to 7.3."""
    PER_PEER = "per-peer"
    """Per peer: from 7.4 on."""


MERGES = {
    Release.V4_4: Merge.WHOLE,
    Release.V4_5: Merge.WHOLE_BUT_SRC,
    Release.V4_6: Merge.FORCED,
    Release.V4_7: Merge.FORCED,
    Release.V7_4: Merge.PER_PEER,
}
FORWARDS_GROUPS = frozenset({Release.V4_4, Release.V4_5, Release.V4_6})


class Binding(Enum):
    """Which packets may match a state."""

    FLOATING = "floating"
    IF_BOUND = "if-bound"


class Block(Enum):
    """What a packet gets that no rule passes."""

    DROP = "drop"
    RETURN = "return"


@dataclass(frozen=True, slots=True)
class Pf:
    """A packet filter as OpenBSD's.

    Args:
        release: sets ``merge`` and ``forwards_groups`` where they are None.
        merge: how updates are merged.
        forwards_groups: whether a frame to a group MAC is forwarded like any other.
        binding: floating or if-bound states.
        block: drop or return.
        redirect: an address outside, and the one inside that it stands for (rdr): a packet inside is then not
            the one that the state outside was made by.
        cpu_s: what one packet costs.
        tick_s: the clock's tick: timers run out on it.
    """

    release: Release = Release.V4_7
    merge: Merge | None = None
    forwards_groups: bool | None = None
    binding: Binding = Binding.FLOATING
    block: Block = Block.DROP
    redirect: tuple[str, str] | None = None
    cpu_s: float = 0.000_005
    tick_s: float = 0.010

    @property
    def merging(self) -> Merge:
        """The rule in force."""
        return self.merge or MERGES[self.release]

    @property
    def is_forwarding_groups(self) -> bool:
        """Whether frames to group MACs are forwarded."""
        return self.release in FORWARDS_GROUPS if self.forwards_groups is None else self.forwards_groups


class Model(Enum):
    """What a firewall is like."""

    PF = "pf"
    """OpenBSD with pf, pfsync and CARP."""
    LINUX = "linux"
    """Linux with connection tracking and ``gimli pair``."""


@dataclass(frozen=True, slots=True)
class Linux:
    """Connection tracking as Linux's, and what ``gimli pair`` is told.

    Args:
        mode: where a backup keeps the connections of the owner.
        liberal: replicated connections do not mind windows (BE_LIBERAL), which the kernel does not tell of.
        loose: a packet from the middle of a connection that is not known begins one (nf_conntrack_tcp_loose).
        drops_invalid: the rules drop what does not fit its connection.
        redirect: an address outside, and the one inside that it stands for (dnat).
        cpu_s: what one packet costs.
    """

    mode: Mode = Mode.CACHE
    liberal: bool = True
    loose: bool = False
    drops_invalid: bool = True
    redirect: tuple[str, str] | None = None
    cpu_s: float = 0.000_005


@dataclass(frozen=True, slots=True)
class Client:
    """Whoever comes from the internet: one NIC, many addresses behind it.

    Args:
        prefix: what the addresses begin with, like ``198.51.100.``.
    """

    name: str
    interface: Interface
    gateway: str
    prefix: str = "198.51.100."


@dataclass(frozen=True, slots=True)
class Firewall:
    """One of a pair.

    Args:
        sync: the interface by which states are replicated; empty when they are not.
        gateway: to the internet.
        neighbours: addresses whose MAC is set by hand: what a balancer's group MAC needs.
        guard: frames to group MACs that hold no group's packet are dropped at the NIC while it is BACKUP;
            None where nobody has said.
        model: decides which of ``pf`` and ``linux`` counts.
    """

    name: str
    interfaces: tuple[Interface, ...]
    carp: tuple[Carp, ...]
    gateway: str
    pf: Pf = Pf()
    sync: str = ""
    neighbours: tuple[tuple[str, str], ...] = ()
    guard: bool | None = None
    model: Model = Model.PF
    linux: Linux = Linux()

    @property
    def is_guarded(self) -> bool:
        """Whether the guard is in place: it is a part of ``gimli pair``, and OpenBSD has none."""
        return self.model is Model.LINUX if self.guard is None else self.guard

    @property
    def redirect(self) -> tuple[str, str] | None:
        """Of its model."""
        return self.linux.redirect if self.model is Model.LINUX else self.pf.redirect


@dataclass(frozen=True, slots=True)
class Balancer:
    """One of several hosts that share an address and a group MAC, and take turns by a hash.

    Args:
        address: the shared one.
        mac: the shared group MAC.
        share: its number among them, from 0.
        shares: how many they are.
        servers: addresses of the application servers.
    """

    name: str
    interface: Interface
    gateway: str
    address: str
    mac: str
    share: int
    shares: int
    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Server:
    """An application server."""

    name: str
    interface: Interface
    gateway: str


Host = Client | Firewall | Balancer | Server


@dataclass(frozen=True, slots=True)
class Tcp:
    """A TCP stack.

    Args:
        window: bytes that it is ready to receive.
        wscale: of the window in its headers.
        sack: selective acknowledgements.
        rto_min_s: shortest time-out of a retransmission.
    """

    window: int = 65_535
    wscale: int = 0
    sack: bool = True
    rto_min_s: float = 0.2


@dataclass(frozen=True, slots=True)
class Request:
    """One kind of request.

    Args:
        weight: how often it is made, against the weights of the others.
        sends: least and most bytes of the request.
        gets: least and most bytes of the answer.
        works_s: least and most seconds that the server works for it.
    """

    name: str
    weight: float
    sends: tuple[int, int]
    gets: tuple[int, int]
    works_s: tuple[float, float] = (0.005, 0.05)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What clients do.

    Args:
        target: the address that they connect to.
        connections: how many, in all.
        over_s: they begin within this time, evenly.
        begins_s: the first one; the firewalls take three seconds to elect a MASTER.
        requests: least and most per connection.
        thinks_s: least and most seconds between an answer and the next request.
        mix: kinds of requests.
        gives_up_s: the application's time-out: a connection on which nothing moves for this long is closed.
        patience_s: a client's time-out for one answer.
        port: of the service.
        backend_port: of the application servers.
    """

    target: str
    connections: int
    over_s: float
    requests: tuple[int, int]
    thinks_s: tuple[float, float]
    mix: tuple[Request, ...]
    gives_up_s: float = 30.0
    patience_s: float = 120.0
    begins_s: float = 4.0
    port: int = 80
    backend_port: int = 8080


class Kind(Enum):
    """Of a fault."""

    CUT = "cut"
    """A cable: nothing gets through, and both ends see that the link is down."""
    CUT_TO = "cut-to"
    """One direction of a cable: nothing reaches the host, and nobody is told."""
    CUT_FROM = "cut-from"
    """One direction of a cable: nothing leaves the host, and nobody is told."""
    POWER = "power"
    """A host is off."""
    HANG = "hang"
    """The pair's daemon of a Linux firewall stands still, and its kernel goes on."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and when.

    Args:
        what: host, or host and interface: ``fw1.sync``.
        until_s: when it is over; None when it stays.
    """

    at_s: float
    kind: Kind
    what: str
    until_s: float | None = None


class Expect(Enum):
    """What is expected of a run."""

    FREEZE = "no connection freezes longer than"
    BACKUP_FORWARDS = "no packet forwarded by a backup"
    UNTRACKED = "no frame of another node is tracked"
    FAILOVER = "failover under"
    BAD_STATE = "no packet dropped as BAD state"
    RESETS = "no connection reset by an application"
    ONE_MASTER = "never two masters for longer than"


@dataclass(frozen=True, slots=True)
class Expectation:
    """One of them; ``limit_s`` where it needs a time."""

    expect: Expect
    limit_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Topology:
    """A scenario.

    Args:
        name: of the scenario.
        about: in one line.
        lasts_s: seconds of one run.
        client_tcp: of the clients.
        server_tcp: of balancers and servers.
    """

    name: str
    about: str
    lasts_s: float
    switches: tuple[Switch, ...]
    hosts: tuple[Host, ...]
    traffic: Traffic
    client_tcp: Tcp = Tcp()
    server_tcp: Tcp = Tcp()
    faults: tuple[Fault, ...] = ()
    expects: tuple[Expectation, ...] = ()

    @property
    def firewalls(self) -> tuple[Firewall, ...]:
        """The pair."""
        return tuple(host for host in self.hosts if isinstance(host, Firewall))

    def sync_peer_of(self, firewall: Firewall) -> str:
        """The other firewall's address on the sync link of this one; empty where there is none."""
        networks = {each.network for each in firewall.interfaces if each.name == firewall.sync}
        found = (
            each.address.partition("/")[0]
            for other in self.firewalls
            if other is not firewall
            for each in other.interfaces
            if each.network in networks
        )
        return next(found, "")


def interfaces_of(host: Host) -> tuple[Interface, ...]:
    """Every NIC of a host."""
    return host.interfaces if isinstance(host, Firewall) else (host.interface,)
