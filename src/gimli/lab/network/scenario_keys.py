"""Which tables and keys does a scenario file have? A row each; the reader and the schema follow them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gimli.lab.network import scenario_values as kind
from gimli.lab.network.scenario_values import Value
from gimli.lab.network.topology import Binding, Block, Kind, Merge, Model, Release
from gimli.pair.syncactions import Mode

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Table:
    """A table and its keys."""

    about: str
    keys: Mapping[str, Key]


@dataclass(frozen=True, slots=True)
class Each:
    """Tables one after another: ``[[switch]]``."""

    table: Table


@dataclass(frozen=True, slots=True)
class Named:
    """Tables by name: ``ext = { network = "outside" }``."""

    table: Table
    name: Value


Node = Value | Table | Each | Named


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Args:
        node: what is written there.
        about: what it means, in a line.
        is_required: a table without it is an error.
        becomes: the name of the field, where it is another one.
    """

    node: Node
    about: str
    is_required: bool = field(default=False, kw_only=True)
    becomes: str = field(default="", kw_only=True)


_VHID = Value(
    lambda text, _: kind.whole(1, 255, 1).read(int(text) if text.isdecimal() else text, "vhid"),
    str,
    {"type": "string", "pattern": "^[0-9]{1,3}$"},
    "1",
)
_NAME = Key(kind.NAME, "how it is named", is_required=True)
_LINK = Key(kind.NAME, "the [[link]] that its cable is like")
_NETWORK = Key(kind.NAME, "the switch, or a cable of two ends, that it is plugged into", is_required=True)
_GATEWAY = Key(kind.ADDRESS, "where packets go that are for no network of its own", is_required=True)
_PLUG: Mapping[str, Key] = {
    "name": _NAME,
    "network": _NETWORK,
    "address": Key(kind.WITH_PREFIX, "its own address", is_required=True),
    "interface": Key(kind.NAME, "how its interface is named"),
    "link": _LINK,
    "gateway": _GATEWAY,
}

SWITCH = Table(
    "a switch, or one VLAN of one",
    {
        "name": _NAME,
        "snooping": Key(kind.SWITCH, "it looks at IGMP"),
        "querier": Key(kind.SWITCH, "somebody asks who the members of groups are"),
        "router_ports": Key(kind.NAMES, "hosts that are sent every group, as multicast routers are"),
        "static": Key(kind.STATIC, "the only hosts that a group MAC is sent to"),
        "blocked": Key(kind.NAMES, "hosts that no group MAC is sent to"),
    },
)
LINK = Table(
    "a cable, each direction alike",
    {
        "name": _NAME,
        "rate": Key(kind.RATE, "bits per second", becomes="rate_mbit"),
        "latency": Key(kind.SPAN, "from one end to the other", becomes="latency_s"),
        "jitter": Key(kind.SPAN, "up to this is added per frame; order is kept", becomes="jitter_s"),
        "loss": Key(kind.SHARE, "share of frames lost"),
        "duplicate": Key(kind.SHARE, "share of frames that arrive twice"),
        "reorder": Key(kind.SHARE, "share of frames that are held back"),
        "held": Key(kind.SPAN, "for up to this long they are", becomes="reorder_s"),
        "queue": Key(kind.SIZE, "what may wait to be sent; more is dropped", becomes="queue_bytes"),
    },
)
CLIENT = Table(
    "whoever comes from the internet: one interface, many addresses behind it",
    {**_PLUG, "prefix": Key(kind.PREFIX, "what the addresses behind it begin with")},
)
INTERFACE = Table(
    "an interface of a firewall",
    {"network": _NETWORK, "address": _PLUG["address"], "link": _LINK},
)
CARP = Table(
    "a virtual address of the pair",
    {
        "interface": Key(kind.NAME, "the interface it is on", is_required=True),
        "address": Key(kind.ADDRESS, "the address, the same at both", is_required=True),
        "advbase": Key(kind.whole(0, 254, 1), "seconds between advertisements; 0 is the pair's fast mode"),
        "advskew": Key(kind.whole(0, 254, 100), "1/256 s more: the higher one is backup"),
        "preempt": Key(kind.SWITCH, "take over from one that advertises more rarely"),
    },
)
PF = Table(
    "the packet filter, as OpenBSD's",
    {
        "release": Key(kind.word(Release, "4.7-7.3"), "of OpenBSD; sets merge and forwards_groups"),
        "merge": Key(kind.word(Merge, "per-peer"), "how updates of known states are merged"),
        "forwards_groups": Key(kind.SWITCH, "a frame to a group MAC is forwarded like any other"),
        "binding": Key(kind.word(Binding, "if-bound"), "which packets may match a state"),
        "block": Key(kind.word(Block, "return"), "what a packet gets that no rule passes"),
        "redirect": Key(kind.REDIRECT, "an address outside, and the one inside that it stands for (rdr)"),
        "cpu": Key(kind.SPAN, "what one packet costs", becomes="cpu_s"),
        "tick": Key(kind.DURATION, "the clock's tick: timers run out on it", becomes="tick_s"),
    },
)
LINUX = Table(
    "connection tracking, as Linux's, and gimli pair",
    {
        "mode": Key(kind.word(Mode, "kernel"), "where a backup keeps the connections of the master"),
        "liberal": Key(kind.SWITCH, "replicated connections do not mind windows"),
        "loose": Key(kind.SWITCH, "a packet from the middle of a connection begins one"),
        "drops_invalid": Key(kind.SWITCH, "what does not fit its connection is dropped"),
        "redirect": Key(kind.REDIRECT, "an address outside, and the one inside that it stands for (dnat)"),
        "cpu": Key(kind.SPAN, "what one packet costs", becomes="cpu_s"),
    },
)
FIREWALL = Table(
    "one of the pair",
    {
        "name": _NAME,
        "gateway": _GATEWAY,
        "interfaces": Key(Named(INTERFACE, kind.NAME), "its interfaces, by name", is_required=True),
        "carp": Key(Named(CARP, _VHID), "the virtual addresses, by vhid", is_required=True),
        "model": Key(kind.word(Model, "linux"), "whose packet filter and whose pair it is"),
        "sync": Key(kind.NAME, "the interface by which states are replicated; without it they are not"),
        "neighbours": Key(kind.NEIGHBOURS, "MACs set by hand: what a group MAC needs"),
        "guard": Key(
            kind.SWITCH, "while backup, frames to group MACs that hold no group's packet are dropped"
        ),
        "pf": Key(PF, "what is different at this one"),
        "linux": Key(LINUX, "what is different at this one"),
    },
)
BALANCER = Table(
    "one of several that share an address and a MAC, and take turns by a hash",
    {
        **_PLUG,
        "shared": Key(kind.ADDRESS, "the address that they share", is_required=True),
        "mac": Key(kind.MAC, "the MAC that they share, a group's as a rule", is_required=True),
        "servers": Key(kind.NAMES, "the servers that do the work", is_required=True),
    },
)
SERVER = Table("an application server", _PLUG)
TCP = Table(
    "a TCP stack",
    {
        "window": Key(kind.SIZE, "what it is ready to receive"),
        "wscale": Key(kind.whole(0, 14, 3), "the scale of the window in its headers"),
        "sack": Key(kind.SWITCH, "selective acknowledgements"),
        "rto_min": Key(kind.DURATION, "the shortest time-out of a retransmission", becomes="rto_min_s"),
    },
)
STACKS = Table(
    "both stacks",
    {
        "client": Key(TCP, "of clients"),
        "server": Key(TCP, "of balancers and servers"),
    },
)
TRAFFIC = Table(
    "what clients do",
    {
        "target": Key(kind.ADDRESS, "the address that they connect to", is_required=True),
        "connections": Key(kind.whole(1, 100_000, 60), "how many, in all", is_required=True),
        "over": Key(kind.DURATION, "they begin within this time, evenly", is_required=True, becomes="over_s"),
        "begins": Key(
            kind.SPAN, "the first; a pair needs three seconds for its election", becomes="begins_s"
        ),
        "requests": Key(kind.COUNTS, "least and most per connection", is_required=True),
        "thinks": Key(kind.SPANS, "least and most pause between two", is_required=True, becomes="thinks_s"),
        "gives_up": Key(kind.DURATION, "time-out of the applications behind the pair", becomes="gives_up_s"),
        "patience": Key(kind.DURATION, "time-out of a client for one answer", becomes="patience_s"),
        "port": Key(kind.whole(1, 19_999, 80), "of the service"),
        "backend_port": Key(kind.whole(1, 19_999, 8080), "of the servers"),
    },
)
REQUEST = Table(
    "one kind of request",
    {
        "name": _NAME,
        "weight": Key(kind.figure(0.001, 1_000_000, "10"), "how often, against the others", is_required=True),
        "sends": Key(kind.SIZES, "least and most of the request", is_required=True),
        "gets": Key(kind.SIZES, "least and most of the answer", is_required=True),
        "works": Key(kind.SPANS, "least and most time that a server works for it", becomes="works_s"),
    },
)
FAULT = Table(
    "what goes wrong, and when",
    {
        "at": Key(kind.SPAN, "when it begins", is_required=True, becomes="at_s"),
        "kind": Key(kind.word(Kind, "cut"), "what happens", is_required=True),
        "of": Key(kind.TEXT, "to which host, or host.interface", is_required=True, becomes="what"),
        "lasts": Key(kind.DURATION, "for how long; without it, to the end", becomes="lasts_s"),
    },
)
SCENARIO = Table(
    "A scenario of gimli lab",
    {
        "about": Key(kind.TEXT, "what it shows, in a line", is_required=True),
        "lasts": Key(kind.DURATION, "how long it is played", is_required=True, becomes="lasts_s"),
        "expects": Key(kind.EXPECTATIONS, "what should come true, in sentences"),
        "switch": Key(Each(SWITCH), SWITCH.about),
        "link": Key(Each(LINK), LINK.about),
        "client": Key(Each(CLIENT), CLIENT.about, is_required=True),
        "firewall": Key(Each(FIREWALL), FIREWALL.about),
        "pf": Key(PF, "the packet filter of every firewall of this model"),
        "linux": Key(LINUX, "connection tracking and the pair of every firewall of this model"),
        "balancer": Key(Each(BALANCER), BALANCER.about),
        "server": Key(Each(SERVER), SERVER.about, is_required=True),
        "tcp": Key(STACKS, STACKS.about),
        "traffic": Key(TRAFFIC, TRAFFIC.about, is_required=True),
        "request": Key(Each(REQUEST), REQUEST.about, is_required=True),
        "fault": Key(Each(FAULT), FAULT.about),
    },
)
