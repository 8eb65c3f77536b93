"""How is a topology wired up, and played once?

    run = simulate(topology, streams)

``streams`` gives a random generator for a name, always the same one for the same seed and name: so what one
part draws does not change what another one does, and a cause that is switched off changes nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.lab.network.simulator.applications import Book, Relay, Visitor, Worker
from gimli.lab.network.simulator.balancer import Balancer
from gimli.lab.network.simulator.cable import Lane
from gimli.lab.network.simulator.carp import Seat
from gimli.lab.network.simulator.engine import Engine
from gimli.lab.network.simulator.firewall import Firewall
from gimli.lab.network.simulator.flows import Flows
from gimli.lab.network.simulator.host import Host, Nic
from gimli.lab.network.simulator.pf_firewall import PfFirewall
from gimli.lab.network.simulator.record import Run
from gimli.lab.network.simulator.recorder import Recorder
from gimli.lab.network.simulator.switch import Switch
from gimli.lab.network.topology import Kind, Model

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet
    from random import Random

    from gimli.lab.network import topology as model
    from gimli.pair.vhid import Role

_MAC = 0x020000000000
_PORTS = range(1024, 65_000)
_CLIENTS = range(1, 255)


class World:
    """One topology, wired up.

    Args:
        topology: what there is.
        streams: a random generator by name.
        traced: numbers of connections of which everything is recorded.
    """

    def __init__(
        self,
        topology: model.Topology,
        streams: Callable[[str], Random],
        traced: AbstractSet[int] = frozenset(),
    ) -> None:
        self.topology = topology
        self.engine = Engine()
        self.recorder = Recorder(self.engine, traced)
        self.switches: dict[str, Switch] = {}
        self.hosts: dict[str, Host] = {}
        self.lanes: dict[tuple[str, str], tuple[Lane, Lane]] = {}
        """By host and interface: out of it, and into it."""
        self.visitors: dict[int, Visitor] = {}
        """Those whose connection is not over, by its number."""
        self._streams = streams
        self._cables: dict[str, list[tuple[Host, Nic, model.Link]]] = {}
        self._macs = 0
        self._flows = Flows()
        for switch in topology.switches:
            self.switches[switch.name] = self._switch(switch)
        for config in topology.hosts:
            self._host(config)
        self._join_cables()
        for switch in topology.switches:
            self._settle_switch(switch)
        self._book = Book()
        self._start_applications()
        for firewall in self.firewalls:
            firewall.start()
        for fault in topology.faults:
            self.engine.at(fault.at_s, self._break, fault)
            if fault.until_s is not None:
                self.engine.at(fault.until_s, self._mend, fault)

    @property
    def firewalls(self) -> list[Firewall]:
        """The pair."""
        return [host for host in self.hosts.values() if isinstance(host, Firewall)]

    def play(self, until_s: float) -> None:
        """Let time pass."""
        self.engine.run(until_s)

    def result(self) -> Run:
        """What has become of everything, now."""
        for visitor in self.visitors.values():
            visitor.settle()
        recorder = self.recorder
        return Run(
            topology=self.topology,
            log=tuple(recorder.log),
            fates=tuple(sorted(recorder.fates.values(), key=lambda fate: fate.number)),
            fine=recorder.fine,
            answered=recorder.answered,
            counts=recorder.counts,
            back_most=recorder.back_most,
            open_at_fault=recorder.open_at_fault or 0,
            double_s=recorder.double_s,
            roles=tuple(recorder.roles),
            events=self.engine.events,
        )

    # Wiring.

    def _switch(self, config: model.Switch) -> Switch:
        return Switch(self.engine, snooping=config.snooping, querier=config.querier)

    def _settle_switch(self, config: model.Switch) -> None:
        switch = self.switches[config.name]
        switch.routers = set(config.router_ports)
        for mac, hosts in config.static:
            switch.static[parse_mac(mac)] = frozenset(hosts)
        for host in config.blocked:
            switch.block(host)

    def _host(self, config: model.Host) -> None:
        from gimli.lab.network import topology as model  # noqa: PLC0415 - at run time, for the match

        engine, recorder = self.engine, self.recorder
        chance = self._streams(f"host {config.name}")
        server_tcp = self.topology.server_tcp
        host: Host
        match config:
            case model.Client():
                host = Outside(engine, config, self.topology.client_tcp, chance, recorder)
                self._plug(host, config.interface)
            case model.Firewall():
                host = self._firewall(config, chance)
                for interface in config.interfaces:
                    self._plug(host, interface)
                self._settle_firewall(host, config)
            case model.Balancer():
                host = Balancer(engine, config, server_tcp, chance, recorder)
                nic = self._plug(host, config.interface)
                nic.accepts.add(parse_mac(config.mac))
            case model.Server():
                host = Host(engine, config.name, server_tcp, chance, recorder)
                self._plug(host, config.interface)
        host.gateway = config.gateway
        self.hosts[config.name] = host

    def _firewall(self, config: model.Firewall, chance: Random) -> Firewall:
        engine, tcp, recorder = self.engine, self.topology.server_tcp, self.recorder
        if config.model is Model.PF:
            return PfFirewall(engine, config, tcp, len(self.firewalls), chance, recorder)
        # Here, so that a scenario without it does not load the pair.
        from gimli.lab.network.simulator.linux import LinuxFirewall  # noqa: PLC0415

        peer = self.topology.sync_peer_of(config)
        return LinuxFirewall(engine, config, tcp, chance, recorder, self._flows, peer)

    def _settle_firewall(self, firewall: Firewall, config: model.Firewall) -> None:
        for address, mac in config.neighbours:
            for nic in firewall.nics.values():
                if address.startswith(nic.prefix):
                    nic.neighbours[address] = parse_mac(mac)
                    nic.fixed.add(address)
        if config.sync:
            firewall.sync_nic = firewall.nics[config.sync]
        if not isinstance(firewall, PfFirewall):
            return
        for carp in config.carp:
            nic = firewall.nics[carp.interface]
            firewall.add_seat(Seat(self.engine, carp, nic, self._teller(firewall, carp)))

    def _teller(self, firewall: Firewall, carp: model.Carp) -> Callable[[Role, str], None]:
        def tell(role: Role, why: str) -> None:
            self.recorder.tell(firewall.name, "role", f"vhid {carp.vhid} {role.value}: {why}")
            self.recorder.role_changed(carp.vhid, firewall.name, is_master=role.value == "MASTER")

        return tell

    def _plug(self, host: Host, interface: model.Interface) -> Nic:
        self._macs += 1
        nic = Nic(interface.name, _MAC + self._macs, interface.address)
        host.add_nic(nic)
        switch = self.switches.get(interface.network)
        if switch is None:
            self._cables.setdefault(interface.network, []).append((host, nic, interface.link))
            return nic
        out = self._lane(host, nic, interface.link, switch.port(host.name), "out")
        into = self._lane(host, nic, interface.link, host.port(nic.name), "in")
        self._filter(into, host, nic)
        nic.lane = out
        switch.plug(host.name, into)
        self.lanes[host.name, nic.name] = (out, into)
        return nic

    def _join_cables(self) -> None:
        for ends in self._cables.values():
            (left, left_nic, link), (right, right_nic, _) = ends
            forth = self._lane(left, left_nic, link, right.port(right_nic.name), "out")
            back = self._lane(right, right_nic, link, left.port(left_nic.name), "out")
            self._filter(forth, right, right_nic)
            self._filter(back, left, left_nic)
            left_nic.lane, right_nic.lane = forth, back
            self.lanes[left.name, left_nic.name] = (forth, back)
            self.lanes[right.name, right_nic.name] = (back, forth)

    def _lane(
        self, host: Host, nic: Nic, link: model.Link, deliver: Callable[..., None], direction: str
    ) -> Lane:
        chance = self._streams(f"lane {host.name}.{nic.name} {direction}")
        return Lane(self.engine, link, chance, deliver)

    @staticmethod
    def _filter(lane: Lane, host: Host, nic: Nic) -> None:
        lane.accepts = nic.accepts
        # OpenBSD's CARP puts its parent in promiscuous mode; of Linux's NICs, see there.
        lane.accepts_groups = isinstance(host, Firewall)

    # Applications.

    def _start_applications(self) -> None:
        traffic, book = self.topology.traffic, self._book
        for host in self.hosts.values():
            if isinstance(host, Balancer):
                host.listen(traffic.port, Relay(host, traffic, book))
            elif type(host) is Host:
                host.listen(traffic.backend_port, Worker(host, traffic, book))
        self._outside = [host for host in self.hosts.values() if isinstance(host, Outside)]
        self._traffic_chance = self._streams("traffic")
        self._expect_visit(0)

    def _expect_visit(self, number: int) -> None:
        """Each visit expects the next one: whoever has not come yet takes no room."""
        traffic, chance = self.topology.traffic, self._traffic_chance
        if number == traffic.connections:
            return
        client = self._outside[number % len(self._outside)]
        source = (f"{client.prefix}{chance.choice(_CLIENTS)}", chance.choice(_PORTS))
        begins_s = traffic.begins_s + traffic.over_s * (number + chance.random()) / traffic.connections
        self.engine.at(begins_s, self._begin_visit, (number, client, source))

    def _begin_visit(self, visit: tuple[int, Outside, tuple[str, int]]) -> None:
        number, client, source = visit
        self._expect_visit(number + 1)
        chance = self._streams(f"visitor {number}")
        visitor = Visitor(client, source, self.topology.traffic, self._book, chance, self._leave)
        self.visitors[visitor.number] = visitor
        visitor.begin()

    def _leave(self, visitor: Visitor) -> None:
        del self.visitors[visitor.number]

    # Faults.

    def _break(self, fault: model.Fault) -> None:
        self.recorder.fault_comes()
        self.recorder.tell(fault.what, "fault", f"{fault.kind.value} {fault.what}")
        self._apply(fault, is_broken=True)

    def _mend(self, fault: model.Fault) -> None:
        self.recorder.tell(fault.what, "mended", f"{fault.kind.value} {fault.what} is over")
        self._apply(fault, is_broken=False)

    def _apply(self, fault: model.Fault, *, is_broken: bool) -> None:
        name, _, interface = fault.what.partition(".")
        host = self.hosts[name]
        if fault.kind is Kind.HANG:
            assert isinstance(host, Firewall)
            host.hang(is_hung=is_broken)
            return
        mark = f"{fault.kind.value} {fault.at_s}"
        nics = [nic for nic in host.nics.values() if interface in {"", nic.name}]
        for nic in nics:
            out, into = self.lanes[name, nic.name]
            lanes = {Kind.CUT_TO: [into], Kind.CUT_FROM: [out]}.get(fault.kind, [out, into])
            for lane in lanes:
                if is_broken:
                    lane.cut(mark)
                else:
                    lane.mend(mark)
            if fault.kind is Kind.CUT and isinstance(host, Firewall):
                host.link_changed(nic, is_up=not is_broken)
            if fault.kind in {Kind.CUT, Kind.POWER} and is_broken:
                for switch in self.switches.values():
                    switch.unlearn(name)
        if fault.kind is Kind.POWER:
            if isinstance(host, Firewall):
                host.power(is_on=not is_broken)
            else:
                host.is_on = not is_broken


class Outside(Host):
    """The internet: it has every address behind it."""

    def __init__(
        self,
        engine: Engine,
        config: model.Client,
        tcp: model.Tcp,
        chance: Random,
        recorder: Recorder,
    ) -> None:
        super().__init__(engine, config.name, tcp, chance, recorder)
        self.prefix = config.prefix


def parse_mac(text: str) -> int:
    """Of ``01:00:5e:01:00:64``."""
    return int(text.replace(":", ""), 16)
