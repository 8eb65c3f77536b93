"""What runs on clients, balancers and servers? Real sockets, the topology's requests.

A request says what it is in its first bytes. A client asks and waits; a balancer passes on, over connections
that it keeps; a server reads, works and answers. Whoever sees nothing move for the application's time-out
gives up: in the middle of a request it resets the connection, between two it closes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import sys
from ipaddress import ip_interface
from typing import TYPE_CHECKING, TypeVar

from gimli.lab.network import topology as model
from gimli.lab.network.real import endpoint, station, wire
from gimli.lab.network.real.endpoint import REQUEST, Watch, Watched
from gimli.lab.network.simulator.balancer import FIRST_PORT, PORTS
from gimli.lab.network.simulator.record import Fate, Told

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

_H = TypeVar("_H", bound=model.Host)
_CLIENTS = 254
_CHUNK_BYTES = 65_536
_STUCK_S = 5.0
"""Of standing still when the run is over; a run is a short one."""
_OVER = (OSError, asyncio.IncompleteReadError)
"""What a connection that is over raises."""


class Program:
    """What they have in common.

    Args:
        part: what is to be played.
        began_s: when the run began, on the monotonic clock.
    """

    def __init__(self, part: station.Part, began_s: float) -> None:
        self.part = part
        self.traffic = part.topology.traffic
        self.began_s = began_s
        self.findings = station.Findings()
        self.watch = Watch(self.gives_up_s, self.give_up)
        self._writers: dict[Watched, asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def gives_up_s(self) -> float:
        """The application's time-out."""
        return self.traffic.gives_up_s

    async def play(self) -> None:
        """Begin."""
        raise NotImplementedError

    async def run(self) -> station.Findings:
        """Play until our input ends."""
        over = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), over.set)
        self.spawn(self.watch.run())
        self.spawn(self.play())
        await over.wait()
        self.watch.settle()
        self.settle()
        return self.findings

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside the rest; what goes wrong in it is ours, and ends the program."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def settle(self) -> None:
        """The run is over."""

    def hold(self, writer: asyncio.StreamWriter) -> Watched:
        """Watch a connection."""
        end = Watched(writer.get_extra_info("socket"), self.began_s)
        self._writers[end] = writer
        self.watch.add(end)
        return end

    def drop(self, end: Watched, *, resets: bool = False) -> None:
        """Be done with it."""
        self.watch.remove(end)
        writer = self._writers.pop(end, None)
        if writer is None:
            return
        if resets and number_of(end.sock, self.traffic):
            self.tell(end, "reset", "RST")
            self.findings.counts["resets"] = self.findings.counts.get("resets", 0) + 1
            end.reset()
            writer.transport.abort()
        else:
            writer.close()

    def give_up(self, end: Watched) -> None:
        """Nothing moved for too long."""
        is_busy = end.is_busy or end.is_sending
        what = "in the middle of a request" if is_busy else "idle"
        words = f"nothing moved for {self.gives_up_s:g} s, {what}: gives up"
        self.tell(end, "gives-up", words)
        self.drop(end, resets=is_busy)

    def tell(self, end: Watched, what: str, words: str) -> None:
        """Something rare."""
        number = number_of(end.sock, self.traffic)
        self.findings.log.append(Told(end.now_s, self.part.host, number, what, words))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


class Clients(Program):
    """Everybody on the internet."""

    def __init__(self, part: station.Part, began_s: float) -> None:
        super().__init__(part, began_s)
        self._fates: dict[Watched, Fate] = {}

    @property
    def gives_up_s(self) -> float:
        """A person's patience."""
        return self.traffic.patience_s

    async def play(self) -> None:
        """Let all of them come, one after another."""
        traffic = self.traffic
        chance = random.Random(f"{self.part.seed}/traffic")  # noqa: S311 - repeatable, not secret
        clients = [host.name for host in self.part.topology.hosts if isinstance(host, model.Client)]
        for number in range(traffic.connections):
            comes_s = traffic.begins_s + traffic.over_s * (number + chance.random()) / traffic.connections
            if clients[number % len(clients)] != self.part.host:
                continue
            await asyncio.sleep(max(comes_s + self.began_s - asyncio.get_running_loop().time(), 0.0))
            self.spawn(self._visit(number + 1))

    def settle(self) -> None:
        """Say what became of every connection."""
        for end, fate in self._fates.items():
            fate.froze_s, fate.frozen_at_s = end.froze_s, end.frozen_at_s
            fate.is_stuck = not fate.ended and end.still_s > _STUCK_S
        self.findings.fates = list(self._fates.values())

    async def _visit(self, number: int) -> None:
        traffic, tcp = self.traffic, self.part.topology.client_tcp
        client = _config(self.part, model.Client)
        source = (f"{client.prefix}{1 + number % _CLIENTS}", wire.FIRST_PORT + number)
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        endpoint.shape(sock, tcp)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(source)
        end = Watched(sock, self.began_s)
        end.owed_since_s = end.now_s
        flow = f"{source[0]}:{source[1]} -> {traffic.target}:{traffic.port}"
        chance = random.Random(f"{self.part.seed}/visitor {number}")  # noqa: S311 - likewise
        wants = chance.randint(*traffic.requests)
        fate = Fate(number, flow, is_backend=False, opened_s=end.now_s, unanswered=wants)
        self._fates[end] = fate
        self.watch.add(end)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (traffic.target, traffic.port))
            reader, writer = await asyncio.open_connection(sock=sock)
            self._writers[end] = writer
            await self._ask_all(reader, writer, end, fate, chance)
            fate.ended = "closed"
        except _OVER as error:
            end.note()
            fate.ended, fate.ended_by = _end_of(error), client.name
        fate.ended_s = end.now_s
        end.owed_since_s = None
        self.drop(end)

    async def _ask_all(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        end: Watched,
        fate: Fate,
        chance: random.Random,
    ) -> None:
        traffic = self.traffic
        while True:
            kind = chance.choices(traffic.mix, [one.weight for one in traffic.mix])[0]
            sends, gets = chance.randint(*kind.sends), chance.randint(*kind.gets)
            works_us = round(chance.uniform(*kind.works_s) * 1e6)
            end.owed_since_s = end.now_s
            writer.write(REQUEST.pack(sends, gets, works_us) + bytes(sends - REQUEST.size))
            while gets:
                data = await reader.read(min(gets, _CHUNK_BYTES))
                if not data:
                    raise ConnectionError("closed in the middle of an answer")
                gets -= len(data)
            end.look()
            end.note()
            end.owed_since_s = None
            fate.answered += 1
            self.findings.answered += 1
            fate.unanswered -= 1
            if not fate.unanswered:
                return
            if await _is_closed_within(reader, chance.uniform(*traffic.thinks_s)):
                return


class _Back:
    """A connection to a server, kept for later."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, end: Watched) -> None:
        self.reader = reader
        self.writer = writer
        self.end = end


class Relay(Program):
    """A balancer's program."""

    def __init__(self, part: station.Part, began_s: float) -> None:
        super().__init__(part, began_s)
        self._config = _config(part, model.Balancer)
        self._idle: list[_Back] = []
        self._turn = self._config.share
        self._port = 0

    async def play(self) -> None:
        """Listen on the shared address."""
        address, port = self._config.address, self.traffic.port
        await _serve(self._serve_client, address, port, self.part.topology.server_tcp)

    async def _serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        front = self.hold(writer)
        back: _Back | None = None
        try:
            while True:
                head = await reader.readexactly(REQUEST.size)
                front.is_busy = True
                back = await self._backend()
                back.end.is_busy = True
                sends, gets, _ = REQUEST.unpack(head)
                back.writer.write(head)
                await _pass_on(reader, back.writer, sends - REQUEST.size)
                await _pass_on(back.reader, writer, gets)
                front.is_busy = back.end.is_busy = False
                self._idle.append(back)
                back = None
        except _OVER as error:
            if front.is_busy:
                self.tell(front, "over", f"one side is over, so is the other one: {error}")
        if back is not None:
            self.drop(back.end, resets=True)
        self.drop(front)

    async def _backend(self) -> _Back:
        while self._idle:
            back = self._idle.pop()
            if not back.reader.at_eof() and not back.writer.is_closing() and not back.end.is_sending:
                return back
            self.drop(back.end)
        servers = self._config.servers
        self._turn += 1
        self._port = (self._port + 1) % PORTS
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        endpoint.shape(sock, self.part.topology.server_tcp)
        sock.bind((self._config.address, FIRST_PORT + PORTS * self._config.share + self._port))
        server = (servers[self._turn % len(servers)], self.traffic.backend_port)
        try:
            await asyncio.get_running_loop().sock_connect(sock, server)
        except OSError:
            sock.close()
            raise
        reader, writer = await asyncio.open_connection(sock=sock)
        return _Back(reader, writer, self.hold(writer))


class Worker(Program):
    """A server's program."""

    async def play(self) -> None:
        """Listen."""
        address = str(ip_interface(_config(self.part, model.Server).interface.address).ip)
        await _serve(self._serve_balancer, address, self.traffic.backend_port, self.part.topology.server_tcp)

    async def _serve_balancer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = self.hold(writer)
        with contextlib.suppress(*_OVER):
            while True:
                sends, gets, works_us = REQUEST.unpack(await reader.readexactly(REQUEST.size))
                end.is_busy = True
                await reader.readexactly(sends - REQUEST.size)
                await asyncio.sleep(works_us / 1e6)
                writer.write(bytes(gets))
                await writer.drain()
                end.is_busy = False
                self.findings.events += 1
        self.drop(end)


PROGRAMS: dict[type[model.Host], type[Program]] = {
    model.Client: Clients,
    model.Balancer: Relay,
    model.Server: Worker,
}


def main(part: station.Part, config: model.Host) -> None:
    """Play what is no firewall."""

    async def play() -> station.Findings:
        return await PROGRAMS[type(config)](part, station.wait_for_begin()).run()

    station.give(asyncio.run(play()))


def number_of(sock: socket.socket, traffic: model.Traffic) -> int:
    """By which a connection is told, as the firewalls number it; 0 when its other end is gone."""
    try:
        ports: tuple[int, int] = sock.getsockname()[1], sock.getpeername()[1]
    except OSError:
        return 0
    return max(ports) - wire.FIRST_PORT if traffic.port in ports else wire.FIRST_BACKEND + max(ports)


def _config(part: station.Part, kind: type[_H]) -> _H:
    return next(host for host in part.topology.hosts if host.name == part.host and isinstance(host, kind))


async def _serve(serve: Any, address: str, port: int, tcp: model.Tcp) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    endpoint.shape(sock, tcp)
    sock.bind((address, port))
    await asyncio.start_server(serve, sock=sock, backlog=256)


async def _is_closed_within(reader: asyncio.StreamReader, pause_s: float) -> bool:
    """Whether the other side is done while we think; it says nothing unasked."""
    try:
        return not await asyncio.wait_for(reader.read(1), pause_s)
    except TimeoutError:
        return False


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int) -> None:
    while length:
        data = await reader.read(min(length, _CHUNK_BYTES))
        if not data:
            raise ConnectionError("closed in the middle")
        length -= len(data)
        writer.write(data)
        await writer.drain()


def _end_of(error: BaseException) -> str:
    return "reset" if isinstance(error, ConnectionResetError) else "closed early"
