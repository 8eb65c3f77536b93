"""One side of state sync, without CARP: kernel, state sync and a UDP socket in one loop.

python bench/sync_node.py owner|replica OWN-ADDRESS PEER-ADDRESS MODE

Runs until its standard input is closed, and then prints its counters as one line of JSON.
"""

from __future__ import annotations

import json
import os
import resource
import secrets
import socket
import sys
import time

from gimli.loop import Loop
from gimli.pair import conntrack
from gimli.pair.ctfilter import Filter
from gimli.pair.ctintake import Intake
from gimli.pair.statesync import StateSync
from gimli.pair.syncactions import Apply, Dump, Listen, Mode, Send

PORT = 3780
_PASSWORD = b"bench"
_DATAGRAMS_AT_ONCE = 64


class Node:
    """A state sync with its sockets."""

    def __init__(self, role: str, own: str, peer: str, mode: Mode) -> None:
        self._loop = Loop()
        self._peer = (peer, PORT)
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        for option in (32, 33):  # SO_SNDBUFFORCE, SO_RCVBUFFORCE
            self._udp.setsockopt(socket.SOL_SOCKET, option, 16 << 20)
        self._udp.bind((own, PORT))
        self._loop.watch(self._udp.fileno(), self._hear)
        self._loop.watch(0, self._finish)
        conntrack.enable_events()
        self._writer = conntrack.Writer()
        self._intake = Intake(Filter({socket.inet_aton(own), socket.inet_aton(peer)}))
        self._sync = StateSync(secrets.randbits(64) | 1, _PASSWORD, mode)
        self._events: conntrack.Events | None = None
        self._dump: conntrack.Dump | None = None
        self._unsent: list[bytes] = []
        self.finished = False
        now_s = time.monotonic()
        if role == "owner":
            self._carry_out(self._sync.own(now_s))
        else:
            self._carry_out(self._sync.follow(now_s))
        print("ready", flush=True)

    def run(self) -> None:
        """Until standard input ends."""
        while not self.finished:
            wait_s = self._sync.next_due_s() - time.monotonic()
            timer = self._loop.after(max(0.0, wait_s), lambda: None)
            self._loop.run_once()
            timer.cancel()
            now_s = time.monotonic()
            if self._dump and self._sync.wants_dump:
                self._read_dump(now_s)
            if self._sync.next_due_s() <= now_s:
                self._carry_out(self._sync.due(now_s))

    def _changed(self, _events: int) -> None:
        batch = self._events.drain()
        now_s = time.monotonic()
        if batch.lost:
            self._carry_out(self._sync.events_lost(now_s))
        self._sync.put(self._intake.take(batch.messages), now_s)

    def _hear(self, _events: int) -> None:
        for _ in range(_DATAGRAMS_AT_ONCE):
            try:
                data = self._udp.recv(65536)
            except BlockingIOError:
                return
            self._carry_out(self._sync.received(data, time.monotonic()))

    def _read_dump(self, now_s: float) -> None:
        assert self._dump
        self._sync.put_dumped(self._intake.take(self._dump.drain()), now_s)
        if self._dump.done:
            self._dump.close()
            self._dump = None
            self._carry_out(self._sync.dump_done(now_s))

    def _carry_out(self, actions: list) -> None:
        for action in actions:
            match action:
                case Send(datagram):
                    try:
                        self._udp.sendto(datagram, self._peer)
                    except OSError:
                        continue  # it is sent again
                case Apply(messages):
                    self._writer.write(messages)
                case Listen(wanted):
                    if self._events:
                        self._loop.forget(self._events.fileno())
                        self._events.close()
                        self._events = None
                    if wanted:
                        self._events = conntrack.Events()
                        self._loop.watch(self._events.fileno(), self._changed)
                case Dump():
                    if self._dump:
                        self._dump.close()
                    self._dump = conntrack.Dump()

    def _finish(self, _events: int) -> None:
        self.finished = True
        used = resource.getrusage(resource.RUSAGE_SELF)
        sync = self._sync
        print(
            json.dumps(
                {
                    "user_s": used.ru_utime,
                    "system_s": used.ru_stime,
                    "local": sync.local,
                    "replicated": sync.replicated,
                    "lost": sync.lost,
                    "held": sync.held,
                    "lag_s": sync.lag_s(time.monotonic()),
                    "refused": dict(sync.refused),
                    "written": self._writer.written,
                    "tried_again": self._writer.tried_again,
                    "failed": self._writer.failed,
                    "filtered": self._intake.filtered,
                    "intake_refused": self._intake.refused,
                    "synchronised": sync.is_synchronised,
                }
            ),
            flush=True,
        )


def main() -> None:
    """The command line."""
    role, own, peer, mode = sys.argv[1:]
    node = Node(role, own, peer, Mode(mode))
    if path := os.environ.get("SYNC_PROFILE"):
        import cProfile

        profile = cProfile.Profile()
        profile.runcall(node.run)
        profile.dump_stats(f"{path}.{role}")
    else:
        node.run()


if __name__ == "__main__":
    main()
