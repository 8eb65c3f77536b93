"""What does a host do with a frame, and where does it send a packet?

NICs with their addresses and ARP, routes, and TCP ends by their flow. Firewalls and balancers are hosts that
do more with what comes in.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from gimli.lab.network.simulator.frames import ACK, BROADCAST, FIN, RST, SYN, TTL, Arp, Frame, Segment
from gimli.lab.network.simulator.sender import State
from gimli.lab.network.simulator.tcp import End

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from gimli.lab.network.simulator.cable import Lane
    from gimli.lab.network.simulator.engine import Engine
    from gimli.lab.network.simulator.frames import Flow, Packet
    from gimli.lab.network.simulator.recorder import Recorder
    from gimli.lab.network.simulator.tcp import Application
    from gimli.lab.network.topology import Tcp

KEEPS_S = 10.0
"""For how long a closed connection answers a FIN that is sent again."""
_ARP_RETRY_S = 1.0
_ARP_TRIES = 5


class Nic:
    """One interface.

    Attributes:
        accepts: MACs that it takes.
        lane: out of it.
        neighbours: MACs by address; what was learnt, and what was set by hand.
    """

    __slots__ = ("accepts", "address", "fixed", "lane", "mac", "name", "neighbours", "prefix")

    def __init__(self, name: str, mac: int, address: str) -> None:
        self.name = name
        self.mac = mac
        self.address, _, length = address.partition("/")
        self.prefix = network_of(self.address, int(length))
        self.accepts = {mac, BROADCAST}
        self.neighbours: dict[str, int] = {}
        self.fixed: set[str] = set()
        self.lane: Lane


def network_of(address: str, length: int) -> str:
    """The text that every address of a network begins with; for whole bytes only."""
    whole, rest = divmod(length, 8)
    if rest:
        raise ValueError(f"/{length}: prefixes of 8, 16, 24 and 32 bits are modelled")
    parts = address.split(".")[:whole]
    return ".".join(parts) + ("." if whole < 4 else "")


class Host:
    """One host with one TCP stack.

    Args:
        engine: whose time it lives in.
        name: in records.
        tcp: its stack.
        chance: for its sequence numbers.
        recorder: is told of resets.

    Attributes:
        addresses: those it answers to.
        gateway: where packets go that are on no link of it.
    """

    def __init__(self, engine: Engine, name: str, tcp: Tcp, chance: Random, recorder: Recorder) -> None:
        self.engine = engine
        self.name = name
        self.nics: dict[str, Nic] = {}
        self.addresses: set[str] = set()
        self.gateway = ""
        self.routes: list[tuple[str, str, str]] = []
        """Prefix, interface, next hop; an empty next hop is on link."""
        self.recorder = recorder
        self.is_on = True
        self._tcp = tcp
        self._chance = chance
        self._ends: dict[Flow, End] = {}
        self._listeners: dict[int, Application] = {}
        self._known_routes: dict[str, tuple[Nic, str]] = {}
        self._paths: dict[str, tuple[Nic, int]] = {}
        self._waiting: dict[str, list[tuple[Nic, Packet, int]]] = {}

    # Wiring.

    def add_nic(self, nic: Nic) -> None:
        """Give it an interface."""
        self.nics[nic.name] = nic
        self.addresses.add(nic.address)
        self.routes.append((nic.prefix, nic.name, ""))

    def port(self, name: str) -> Callable[[Frame], None]:
        """What takes frames that come in by an interface."""
        return partial(self.receive, self.nics[name])

    # Frames.

    def receive(self, nic: Nic, frame: Frame) -> None:
        """A frame came in by an interface whose filter has passed it."""
        if not self.is_on:
            return
        packet = frame.packet
        if type(packet) is Segment:
            self.deliver(packet)
        elif type(packet) is Arp:
            self.hear_arp(nic, packet)

    def hear_arp(self, nic: Nic, arp: Arp) -> None:
        """Learn, and answer what is asked of us."""
        if arp.sender not in nic.fixed:
            known = nic.neighbours.get(arp.sender)
            is_asked_for = arp.target in self.addresses and arp.is_request
            if known != arp.sender_mac and (known is not None or is_asked_for or arp.sender in self._waiting):
                nic.neighbours[arp.sender] = arp.sender_mac
                self._paths.clear()
                self._release(nic, arp.sender)
        if arp.is_request:
            mac = self.mac_of(nic, arp.target)
            if mac is not None and arp.sender != arp.target:
                answer = Arp(arp.target, mac, arp.sender, is_request=False)
                nic.lane.send(Frame(arp.sender_mac, nic.mac, answer))

    def mac_of(self, nic: Nic, address: str) -> int | None:
        """The MAC that this host says an address is at."""
        return nic.mac if address == nic.address else None

    def send(self, segment: Segment) -> None:
        """Put a segment of this host's own on its way."""
        path = self._paths.get(segment.flow.dst)
        if path is not None:
            nic, mac = path
            nic.lane.send(Frame(mac, nic.mac, segment))
        else:
            self.send_packet(segment.flow.dst, segment)

    def route(self, dst: str) -> tuple[Nic, str]:
        """By which interface, and to which next hop.

        Raises:
            LookupError: there is no route.
        """
        found = self._known_routes.get(dst)
        if found is None:
            found = self._known_routes[dst] = self._look_up(dst)
        return found

    def _look_up(self, dst: str) -> tuple[Nic, str]:
        for prefix, interface, via in self.routes:
            if dst.startswith(prefix):
                return self.nics[interface], via or dst
        if not self.gateway:
            raise LookupError(f"{self.name} has no route to {dst}")
        for prefix, interface, _ in self.routes:
            if self.gateway.startswith(prefix):
                return self.nics[interface], self.gateway
        raise LookupError(f"{self.name}: its gateway {self.gateway} is on no link of it")

    def path(self, dst: str) -> tuple[Nic, int] | None:
        """The interface and the next hop's MAC, when it is known."""
        path = self._paths.get(dst)
        if path is None:
            nic, hop = self.route(dst)
            mac = nic.neighbours.get(hop)
            if mac is None:
                return None
            path = self._paths[dst] = (nic, mac)
        return path

    def send_packet(self, dst: str, packet: Packet, ttl: int = TTL, after_s: float = 0.0) -> None:
        """Put a packet on its way; it waits for ARP where it must."""
        path = self.path(dst)
        if path is not None:
            path[0].lane.send(Frame(path[1], path[0].mac, packet, ttl), after_s)
            return
        nic, hop = self.route(dst)
        queue = self._waiting.get(hop)
        if queue is None:
            queue = self._waiting[hop] = []
            self._ask((nic, hop, _ARP_TRIES))
        queue.append((nic, packet, ttl))

    def _ask(self, asked: tuple[Nic, str, int]) -> None:
        nic, hop, tries = asked
        if hop not in self._waiting:
            return
        if not tries:
            del self._waiting[hop]  # nobody there: what waits is lost, and the next packet asks again
            return
        nic.lane.send(Frame(BROADCAST, nic.mac, Arp(nic.address, nic.mac, hop, is_request=True)))
        self.engine.at(self.engine.now_s + _ARP_RETRY_S, self._ask, (nic, hop, tries - 1))

    def _release(self, nic: Nic, hop: str) -> None:
        for out, packet, ttl in self._waiting.pop(hop, ()):
            out.lane.send(Frame(nic.neighbours[hop], out.mac, packet, ttl))

    # TCP.

    def listen(self, port: int, application: Application) -> None:
        """Take connections to a port."""
        self._listeners[port] = application

    def connect(self, out: Flow, application: Application) -> End:
        """Begin a connection."""
        end = self._end(out, application)
        end.connect()
        return end

    def deliver(self, segment: Segment) -> None:
        """A segment for this host came."""
        flow = segment.flow
        end = self._ends.get(flow)
        if end is not None:
            end.receive(segment)
        elif flow.dst in self.addresses:
            self._deliver_unknown(segment)

    def forget(self, end: End) -> None:
        """It has ended. One that closed in order answers for a while."""
        if end.state is State.TIME_WAIT:
            self.engine.at(self.engine.now_s + KEEPS_S, self._remove, end)
        else:
            self._remove(end)

    @property
    def ends(self) -> int:
        """How many connections it holds."""
        return len(self._ends)

    def _remove(self, end: End) -> None:
        self._ends.pop(end.out.reverse, None)

    def _deliver_unknown(self, segment: Segment) -> None:
        flow = segment.flow
        listener = self._listeners.get(flow.dport)
        if segment.flags & (SYN | ACK | RST) == SYN and listener is not None:
            self._end(flow.reverse, listener).accept(segment)
        elif not segment.flags & RST:
            self.recorder.refused(self.name, flow.reverse)
            if segment.flags & ACK:
                self.send(Segment(flow.reverse, RST, segment.ack, 0, 0, 0))
            else:
                ack = segment.seq + segment.length + bool(segment.flags & (SYN | FIN))
                self.send(Segment(flow.reverse, RST | ACK, 0, ack, 0, 0))

    def _end(self, out: Flow, application: Application) -> End:
        isn = self._chance.randrange(1, 1 << 30)
        end = End(self.engine, out, self._tcp, isn, self.send, application)
        self._ends[out.reverse] = end
        return end
