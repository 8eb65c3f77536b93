"""Through which ports does a switch send a frame?

    destination                        sent through
    a MAC it has learnt                that port
    a MAC it has not learnt            all ports
    broadcast, 224.0.0.0/24            all ports (the latter not through blocked ones)
    a group MAC with a static entry    the ports of the entry
    a group MAC, snooping in force     ports to multicast routers; for IP groups those of members as well
    any other group MAC                all ports that are not blocked

never back through the port it came from. Snooping is in force only while somebody asks who the members are (a
querier): a switch that is not told floods, as it would without snooping. A network is taken to have settled
before a run begins.

Source: Linux bridge, each row measured with counted frames (facts on guard and switch).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from gimli.lab.network.simulator.frames import BROADCAST, CARP_GROUP_MAC, GROUP_BIT, IP_GROUP_MAC, Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gimli.lab.network.simulator.cable import Lane
    from gimli.lab.network.simulator.engine import Engine
    from gimli.lab.network.simulator.frames import Frame

AGING_S = 300.0
"""A MAC that sends nothing for this long is forgotten, at the latest after twice that."""
_LOCAL_GROUPS = range(IP_GROUP_MAC, IP_GROUP_MAC + 256)
"""Of 224.0.0.0/24: always flooded. 224.128.0.0/24 and others share these MACs, and are as well."""


class Switch:
    """One switch, or one VLAN of one.

    Args:
        engine: whose time it lives in.
        snooping: whether it looks at IGMP.
        querier: whether somebody in its network asks for members.

    Attributes:
        lanes: by port, out of it.
        static: by group MAC, the only ports it is sent through.
        members: by group MAC, ports from which a report came.
        routers: ports to multicast routers.
        blocked: ports through which no group MAC is sent.
        flooded: frames to group MACs that went through every port.
    """

    __slots__ = (
        "_engine",
        "_floods",
        "_old",
        "_rotates_s",
        "_young",
        "blocked",
        "flooded",
        "lanes",
        "members",
        "querier",
        "routers",
        "snooping",
        "static",
    )

    def __init__(self, engine: Engine, *, snooping: bool = False, querier: bool = False) -> None:
        self._engine = engine
        self._young: dict[int, str] = {}
        self._old: Mapping[int, str] = {}
        self._rotates_s = AGING_S
        self._floods: dict[tuple[str, bool], tuple[Lane, ...]] = {}
        self.snooping = snooping
        self.querier = querier
        self.lanes: dict[str, Lane] = {}
        self.static: dict[int, frozenset[str]] = {}
        self.members: dict[int, set[str]] = {}
        self.routers: set[str] = set()
        self.blocked: set[str] = set()
        self.flooded = 0

    def port(self, name: str) -> Callable[[Frame], None]:
        """What takes frames that come in through a port."""
        return partial(self.receive, name)

    def plug(self, name: str, lane: Lane) -> None:
        """Connect a port; ``lane`` leads out of it."""
        self.lanes[name] = lane
        self._floods.clear()

    def block(self, name: str) -> None:
        """Send no group MAC through a port from now on."""
        self.blocked.add(name)
        self._floods.clear()

    def receive(self, port: str, frame: Frame) -> None:
        """A frame came in through a port."""
        if self._engine.now_s >= self._rotates_s:
            self._forget()
        self._young[frame.src] = port
        dst = frame.dst
        if dst & GROUP_BIT:
            for lane in self._group_lanes(port, frame):
                lane.send(frame)
            return
        learnt = self._young.get(dst) or self._old.get(dst)
        if learnt is None:
            for lane in self._flood(port, blocked=False):
                lane.send(frame)
        elif learnt != port:
            self.lanes[learnt].send(frame)

    def learnt(self, mac: int) -> str | None:
        """The port that a MAC was last seen at."""
        return self._young.get(mac) or self._old.get(mac)

    def unlearn(self, name: str) -> None:
        """A port has lost its link: what was behind it may be elsewhere."""
        self._young = {mac: port for mac, port in self._young.items() if port != name}
        self._old = {mac: port for mac, port in self._old.items() if port != name}

    @property
    def is_snooping(self) -> bool:
        """Whether snooping is in force."""
        return self.snooping and self.querier

    def _group_lanes(self, port: str, frame: Frame) -> tuple[Lane, ...]:
        dst = frame.dst
        if dst == BROADCAST:
            return self._flood(port, blocked=False)
        ports = self.static.get(dst)
        if ports is None and dst not in _LOCAL_GROUPS and self.is_snooping:
            ports = frozenset(self.routers)
            if not isinstance(frame.packet, Segment):  # its address is a group's, too
                ports |= self.members.get(dst, set())
        if ports is not None:
            return tuple(self.lanes[name] for name in sorted(ports) if name != port)
        if dst != CARP_GROUP_MAC:
            self.flooded += 1
        return self._flood(port, blocked=True)

    def _flood(self, port: str, *, blocked: bool) -> tuple[Lane, ...]:
        """Every lane but the one back; without blocked ones where they count."""
        key = (port, blocked)
        lanes = self._floods.get(key)
        if lanes is None:
            lanes = self._floods[key] = tuple(
                lane
                for name, lane in self.lanes.items()
                if name != port and not (blocked and name in self.blocked)
            )
        return lanes

    def _forget(self) -> None:
        self._old, self._young = self._young, {}
        while self._rotates_s <= self._engine.now_s:
            self._rotates_s += AGING_S
