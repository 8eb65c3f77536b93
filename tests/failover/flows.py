"""What does a failover do to connections in use? Many, of different speeds, both ends in one loop.

python -m tests.failover.flows TOLD

Each connection has a pace: so many bytes every so many milliseconds, down from the server, up to it, or there
and back. Every byte that arrives is compared with what was sent. A connection is lost when it breaks, or when
nothing arrives on it any more; how long nothing arrived is its gap.
"""

from __future__ import annotations

import heapq
import json
import os
import select
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.failover.namespace import within
from tests.failover.program import PATIENCE_S, Program, say

if TYPE_CHECKING:
    from gimli.lab.namespaces import Host

PORT = 7000
_PATTERN = bytes(range(256)) * 1024
_PERIOD = 256
_READ_BYTES = 65_536
_BUFFER_BYTES = 256 << 10
_STEP_S_MIN, _STEP_S_MAX = 0.01, 0.4
_WAYS = ("down", "up", "both")


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one connection.

    Args:
        lost: why it counts as lost; empty when it lives.
        gap_s: the longest time since the mark in which nothing arrived.
        step_s: its pace: so long nothing arrives while all is well.
        bytes: that arrived.
    """

    lost: str
    gap_s: float
    step_s: float
    bytes: int


class Flows(Program):
    """The program, from the test's side.

    Args:
        client: that connects.
        server: that it connects to.
        address: the server's, as the client knows it.
        count: of connections.
    """

    def __init__(self, client: Host, server: Host, address: str, count: int) -> None:
        super().__init__(
            "flows", {"client": client.pid, "server": server.pid, "address": address, "count": count}
        )
        self.wait_for("flowing")

    def mark(self) -> None:
        """Gaps count from now on."""
        self.tell("mark")
        self.wait_for("marked")

    def wait_until_moved(self, patience_s: float = PATIENCE_S) -> int:
        """Wait until something new has arrived on every connection; on how many nothing has, in the end."""
        self.tell(f"move {patience_s}")
        left: int = self.wait_for("unmoved", patience_s=2 * patience_s)["unmoved"]
        return left

    def finish(self, patience_s: float = PATIENCE_S) -> list[Fate]:
        """What has become of them, after every one had that much time to go on."""
        self.wait_until_moved(patience_s)
        self.tell("finish")
        fates = [Fate(*each) for each in self.wait_for("fates")["fates"]]
        self.close()
        return fates


# ---- the program ---------------------------------------------------------------------------------------


class _Half:
    """One direction of one connection: who sends has a pace, who receives compares."""

    __slots__ = ("arrived", "gap_s", "last_s", "receiver", "sender", "sent", "size", "step_s", "why")

    def __init__(self, sender: socket.socket, receiver: socket.socket, size: int, step_s: float) -> None:
        self.sender = sender
        self.receiver = receiver
        self.size = size
        self.step_s = step_s
        self.sent = 0
        self.arrived = 0
        self.last_s = time.monotonic()
        self.gap_s = 0.0
        self.why = ""

    def send(self) -> None:
        """A step's worth, as far as it is taken."""
        start = self.sent % _PERIOD
        try:
            self.sent += self.sender.send(_PATTERN[start : start + self.size])
        except BlockingIOError:
            return  # as much is on its way as the kernel keeps
        except OSError as error:
            self.why = self.why or f"sending: {error.strerror}"

    def receive(self, now_s: float) -> None:
        """What has arrived."""
        try:
            data = self.receiver.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.why = self.why or f"receiving: {error.strerror}"
            return
        if not data:
            self.why = self.why or "closed"
            return
        start = self.arrived % _PERIOD
        if data != _PATTERN[start : start + len(data)]:
            self.why = self.why or f"other bytes than were sent, after {self.arrived}"
        self.arrived += len(data)
        self.gap_s = max(self.gap_s, now_s - self.last_s)
        self.last_s = now_s


class _Traffic:
    """All connections."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._poll = select.epoll()
        self._halves: list[list[_Half]] = []
        self._by_fd: dict[int, _Half] = {}
        self._due: list[tuple[float, int, _Half]] = []
        self._asked_s = self._until_s = 0.0
        self._before: list[list[int]] = []
        self._words = b""
        listener = within(told["server"], lambda: socket.create_server(("0.0.0.0", PORT), backlog=1024))
        for place in range(told["count"]):
            self._add(place, told, listener)
        self._poll.register(0, select.EPOLLIN)

    def run(self) -> None:
        """Until the last word."""
        self._begin_moving(PATIENCE_S)
        is_flowing = False
        while True:
            wait_s = self._due[0][0] - time.monotonic()
            for fd, _ in self._poll.poll(max(0.0, wait_s)):
                if fd == 0:
                    if self._listen():
                        return
                    continue
                half = self._by_fd[fd]
                half.receive(time.monotonic())
                if half.why:
                    self._poll.unregister(fd)
            self._send(time.monotonic())
            if self._until_s and (not (left := self._unmoved()) or time.monotonic() > self._until_s):
                self._until_s = 0.0
                say(**({"unmoved": left} if is_flowing else {"flowing": not left}))
                is_flowing = True

    def _add(self, place: int, told: dict[str, Any], listener: socket.socket) -> None:
        client = within(told["client"], lambda: socket.create_connection((told["address"], PORT), PATIENCE_S))
        server, _ = listener.accept()
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        step_s = _STEP_S_MIN * (_STEP_S_MAX / _STEP_S_MIN) ** (place / max(1, told["count"] - 1))
        size = 100 << place % 6  # up to 3,200 bytes: more than one segment
        way = _WAYS[place % 3]
        halves = []
        if way != "up":
            halves.append(_Half(server, client, size, step_s))
        if way != "down":
            halves.append(_Half(client, server, size, step_s))
        for half in halves:
            self._by_fd[half.receiver.fileno()] = half
            self._poll.register(half.receiver.fileno(), select.EPOLLIN)
            heapq.heappush(self._due, (time.monotonic(), half.receiver.fileno(), half))
        self._halves.append(halves)

    def _send(self, now_s: float) -> None:
        while self._due[0][0] <= now_s:
            at_s, fd, half = heapq.heappop(self._due)
            half.send()
            heapq.heappush(self._due, (max(at_s + half.step_s, now_s), fd, half))

    def _begin_moving(self, patience_s: float) -> None:
        self._asked_s = time.monotonic()
        self._before = [[half.arrived for half in halves] for halves in self._halves]
        self._until_s = self._asked_s + patience_s

    def _unmoved(self) -> int:
        pairs = zip(self._halves, self._before, strict=True)
        return sum(
            any(half.why or half.arrived == was for half, was in zip(halves, before, strict=True))
            for halves, before in pairs
        )

    def _listen(self) -> bool:
        heard = os.read(0, 4096)
        if not heard:
            return True
        self._words += heard
        *words, self._words = self._words.split(b"\n")
        for word in words:
            match word.decode().split():
                case ["mark"]:
                    for half in self._by_fd.values():
                        half.gap_s = 0.0
                    say(marked=True)
                case ["move", patience_s]:
                    self._begin_moving(float(patience_s))
                case ["finish"]:
                    say(fates=[self._fate(halves) for halves in self._halves])
                    return True
        return False

    def _fate(self, halves: list[_Half]) -> tuple[str, float, float, int]:
        now_s = time.monotonic()
        lost = next((half.why for half in halves if half.why), "")
        if not lost and any(half.last_s < self._asked_s for half in halves):
            lost = "nothing arrives any more"
        gap_s = max(max(half.gap_s, now_s - half.last_s) for half in halves)
        return lost, gap_s, halves[0].step_s, sum(half.arrived for half in halves)


if __name__ == "__main__":
    _Traffic(json.loads(sys.argv[1])).run()
