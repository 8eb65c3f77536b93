"""Who answers for an address, and for how long does nobody?

python -m tests.failover.observer TOLD

It asks from a client's namespace, every few milliseconds and twice each time: who has the address (ARP, to
everybody), and an echo by the client's own stack. At the ports of the switch it sees from which node an
answer comes, and which advertisements. So a second answer to one question is seen, and from where. All times
are the kernel's.
"""

from __future__ import annotations

import bisect
import ctypes
import itertools
import json
import os
import select
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.failover.namespace import receive_with_time, with_arrival_times, within
from tests.failover.program import Program, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gimli.lab.namespaces import Host

_ETH_P_ALL, _ETH_P_ARP = 0x0003, 0x0806
_SOL_PACKET, _IGNORE_OUTGOING = 263, 23
_SO_ATTACH_FILTER = 26
_ARP = struct.Struct(">HHBBH6s4s6s4s")
_ECHO = struct.Struct(">BBHHH")
_CARP = 112
_RCVBUF = 4 << 20
_AFTERWARDS_NS = 500_000_000
"""A neighbour that has learnt the wrong MAC is silent after the first answer."""

_ARP_OR_CARP = (
    (0x28, 0, 0, 12),  # ethertype
    (0x15, 3, 0, _ETH_P_ARP),
    (0x15, 0, 3, 0x0800),
    (0x30, 0, 0, 23),  # protocol
    (0x15, 0, 1, _CARP),
    (0x06, 0, 0, 0xFFFF),
    (0x06, 0, 0, 0),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to the question who has the address.

    Args:
        at_ns: when it passed the switch's port.
        node: whose port.
    """

    at_ns: int
    node: str


@dataclass(frozen=True, slots=True)
class Observation:
    """All that was seen.

    Args:
        echoes_ns: when echoes came, in order.
        answers: to the question by ARP, by time.
        asked_ns: when that was asked.
        adverts: when each node's advertisements came.
    """

    echoes_ns: tuple[int, ...]
    answers: tuple[Answer, ...]
    asked_ns: tuple[int, ...]
    adverts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def answerers(self) -> list[str]:
        """Whose answers followed whose: ``["a", "b"]`` is a failover."""
        return [node for node, _ in itertools.groupby(answer.node for answer in self.answers)]

    def answered_twice(self) -> int:
        """How many questions were answered by more than one node.

        The kernels answer at once, and what comes after the next question would be an answer to that. A new
        MASTER's announcement is a reply as well: two of one node are no contradiction.
        """
        nodes: dict[int, set[str]] = {}
        for answer in self.answers:
            nodes.setdefault(bisect.bisect(self.asked_ns, answer.at_ns), set()).add(answer.node)
        return sum(len(each) > 1 for each in nodes.values())

    def silence_s(self, from_ns: int, until_ns: int) -> float:
        """The longest time without an echo that has to do with what happened between these two."""
        pairs = itertools.pairwise(self.echoes_ns)
        return (
            max((b - a for a, b in pairs if b > from_ns and a < until_ns + _AFTERWARDS_NS), default=0) / 1e9
        )

    def first_answer_ns(self, node: str, after_ns: int = 0) -> int:
        """When a node answered first."""
        return next(each.at_ns for each in self.answers if each.node == node and each.at_ns > after_ns)

    def last_advert_ns(self, node: str, before_ns: int) -> int:
        """When a node advertised for the last time."""
        return max(at_ns for at_ns in self.adverts[node] if at_ns < before_ns)


class Observer(Program):
    """The program, from the test's side.

    Args:
        client: that asks.
        address: for whose.
        switch: that the answers pass.
        ports: of the switch, by the names of the nodes behind them.
        every_s: between two questions.
    """

    def __init__(
        self, client: Host, address: str, switch: Host, ports: Mapping[str, str], every_s: float = 0.005
    ) -> None:
        told = {"client": client.pid, "address": address, "switch": switch.pid, "ports": dict(ports)}
        super().__init__("observer", told | {"every_s": every_s})

    def wait_until_answers(self, node: str) -> int:
        """Wait until a node answers that did not answer last; when it did, in ns of CLOCK_REALTIME."""
        at_ns: int = self.wait_for("answers", node)["at_ns"]
        return at_ns

    def finish(self) -> Observation:
        """Stop, and have what was seen."""
        self.tell("finish")
        seen = self.wait_for("echoes")
        self.close()
        return Observation(
            tuple(seen["echoes"]),
            tuple(sorted((Answer(*each) for each in seen["answers"]), key=lambda answer: answer.at_ns)),
            tuple(seen["asked"]),
            {node: tuple(times) for node, times in seen["adverts"].items()},
        )


# ---- the program ---------------------------------------------------------------------------------------


class _Watching:
    """The sockets, and what came."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._address = told["address"]
        self._every_ns = round(told["every_s"] * 1e9)
        self._id = os.getpid() & 0xFFFF
        self._echo = within(told["client"], _echo_socket)
        self._arp = within(told["client"], lambda: _packet_socket("eth0", _ETH_P_ARP))
        self._asking = within(told["client"], lambda: _arp_request(self._address))
        self._ports = {
            within(told["switch"], lambda name=name: _port_socket(name)): node
            for node, name in told["ports"].items()
        }
        self._asked: list[int] = []
        self._echoes: list[int] = []
        self._answers: list[tuple[int, str]] = []
        self._adverts: dict[str, list[int]] = {node: [] for node in told["ports"]}
        self._last = ""

    def run(self) -> None:
        """Ask and listen until the first word."""
        poll = select.poll()
        callbacks = {self._echo.fileno(): self._read_echoes, self._arp.fileno(): self._forget_arp}
        for port in self._ports:
            callbacks[port.fileno()] = lambda port=port: self._read_port(port)
        for fd in (*callbacks, 0):
            poll.register(fd, select.POLLIN)
        due_ns = time.monotonic_ns()
        while True:
            wait_ms = max(0.0, (due_ns - time.monotonic_ns()) / 1e6)
            for fd, _ in poll.poll(wait_ms):
                if fd == 0:
                    say(echoes=self._echoes, answers=self._answers, asked=self._asked, adverts=self._adverts)
                    return
                callbacks[fd]()
            if time.monotonic_ns() >= due_ns:
                due_ns = max(due_ns + self._every_ns, time.monotonic_ns())
                self._ask()

    def _ask(self) -> None:
        self._asked.append(time.time_ns())
        for through, packet, to in (
            (self._arp, self._asking, None),
            (self._echo, _echo_request(self._id, len(self._asked) & 0xFFFF), (self._address, 0)),
        ):
            try:
                through.sendto(packet, to) if to else through.send(packet)
            except OSError:
                continue  # its link is down, or nobody has answered who has the address

    def _read_echoes(self) -> None:
        while True:
            try:
                packet, at_ns = receive_with_time(self._echo)
            except BlockingIOError:
                return
            header_bytes = (packet[0] & 15) * 4
            kind, _, _, identity, _ = _ECHO.unpack_from(packet, header_bytes)
            if (kind, identity) == (0, self._id) and socket.inet_ntoa(packet[12:16]) == self._address:
                self._echoes.append(at_ns)

    def _forget_arp(self) -> None:
        self._arp.recv(2048)

    def _read_port(self, port: socket.socket) -> None:
        node = self._ports[port]
        while True:
            try:
                frame, at_ns = receive_with_time(port)
            except BlockingIOError:
                return
            except OSError:
                return  # it went down
            if frame[12:14] != b"\x08\x06":
                self._adverts[node].append(at_ns)
                continue
            *_, operation, _, sender, _, target = _ARP.unpack_from(frame, 14)
            if operation == 2 and socket.inet_ntoa(sender) == self._address and sender != target:
                self._answers.append((at_ns, node))
                if node != self._last:
                    self._last = node
                    say(answers=node, at_ns=at_ns)


def _echo_socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP)
    return with_arrival_times(made)


def _packet_socket(interface: str, protocol: int) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    made.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RCVBUF)
    if protocol == _ETH_P_ALL:
        code = b"".join(struct.pack("=HBBI", *instruction) for instruction in _ARP_OR_CARP)
        buffer = ctypes.create_string_buffer(code, len(code))
        program = struct.pack("@HP", len(_ARP_OR_CARP), ctypes.addressof(buffer))
        made.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    made.bind((interface, protocol))
    return made


def _port_socket(name: str) -> socket.socket:
    return with_arrival_times(_packet_socket(name, _ETH_P_ALL))


def _arp_request(address: str) -> bytes:
    """Who has the address? To everybody, from the client's own address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((address, 9))
        own = socket.inet_aton(asking.getsockname()[0])
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as asking:
        asking.bind(("eth0", 0))
        mac = asking.getsockname()[4]
    body = _ARP.pack(1, 0x0800, 6, 4, 1, mac, own, bytes(6), socket.inet_aton(address))
    return b"\xff" * 6 + mac + b"\x08\x06" + body


def _echo_request(identity: int, number: int) -> bytes:
    head = _ECHO.pack(8, 0, 0, identity, number)
    total = sum(struct.unpack(">4H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return _ECHO.pack(8, 0, ~total & 0xFFFF, identity, number)


if __name__ == "__main__":
    _Watching(json.loads(sys.argv[1])).run()
