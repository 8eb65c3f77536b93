"""One host's state sync without CARP: kernel, state sync and link in one loop.

python bench/sync_node.py owner|replica OWN-ADDRESS PEER-ADDRESS cache|kernel

Says ``ready`` when it is. For every line on its standard input it prints its counters as JSON; at the end of
the input it ends.
"""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import sys
import time

from gimli.loop import Loop
from gimli.pair.conntable import ConnectionTable
from gimli.pair.ctfilter import Filter
from gimli.pair.ctintake import Intake
from gimli.pair.statesync import StateSync
from gimli.pair.syncactions import Action, Apply, Dump, Listen, Mode, Send
from gimli.pair.synclink import Link


class Node:
    """A state sync with its sockets; what the kernel's table tells comes in here."""

    def __init__(self, own: str, peer: str, mode: Mode) -> None:
        self._loop = Loop()
        self._link = Link(own, peer)
        self._intake = Intake(Filter({ipaddress.ip_address(own).packed}))
        self._table = ConnectionTable(self._loop, self._intake, self)
        self._sync = StateSync(secrets.randbits(64) | 1, b"bench", mode)
        self._loop.watch(self._link.fileno(), self._hear)
        self._loop.watch(sys.stdin.fileno(), self._answer)
        self._finished = False

    def run(self, role: str) -> None:
        """Until standard input ends."""
        begin = self._sync.own if role == "owner" else self._sync.follow
        self._carry_out(begin(time.monotonic()))
        print("ready", flush=True)
        while not self._finished:
            timer = self._loop.at(round(self._sync.next_due_s() * 1e9), lambda: None)
            self._loop.run_once()
            timer.cancel()
            now_s = time.monotonic()
            if self._sync.next_due_s() <= now_s:
                self._carry_out(self._sync.due(now_s))

    def changed(self, changes: list[tuple[bytes, bytes]]) -> None:
        """Events."""
        self._sync.put(changes, time.monotonic())

    def events_lost(self) -> None:
        """They were too many."""
        self._carry_out(self._sync.events_lost(time.monotonic()))

    def wants_dump(self) -> bool:
        """Whether there is room."""
        return self._sync.wants_dump

    def dumped(self, entries: list[tuple[bytes, bytes]]) -> None:
        """A part of the table."""
        self._sync.put_dumped(entries, time.monotonic())

    def dump_done(self) -> None:
        """All of it."""
        self._carry_out(self._sync.dump_done(time.monotonic()))

    def _hear(self, _: int) -> None:
        for datagram in self._link.drain():
            self._carry_out(self._sync.received(datagram, time.monotonic()))

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send(datagram):
                    self._link.send(datagram)
                case Apply(messages):
                    self._table.apply(messages)
                case Listen(wanted):
                    self._table.listen(wanted=wanted)
                case Dump():
                    self._table.dump()

    def _answer(self, _: int) -> None:
        if not os.read(sys.stdin.fileno(), 100):
            self._finished = True
            return
        sync, writer, intake = self._sync, self._table.writer, self._intake
        counters = {
            "local": sync.local,
            "replicated": sync.replicated,
            "lost": sync.lost,
            "held": sync.held,
            "synchronised": sync.is_synchronised,
            "refused": dict(sync.refused),
            "written": writer.written,
            "tried_again": writer.tried_again,
            "failed": writer.failed,
            "filtered": intake.filtered,
            "not_understood": intake.refused,
            "unsent": self._link.unsent,
        }
        print(json.dumps(counters), flush=True)


def main() -> None:
    """The command line."""
    role, own, peer, mode = sys.argv[1:]
    # As conntrackd does by itself (SCHED_RR, 99).
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    Node(own, peer, Mode(mode)).run(role)


if __name__ == "__main__":
    main()
