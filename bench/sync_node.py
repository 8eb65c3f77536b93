"""One host's state sync without CARP: the machine and the kernel's side of it in a loop.

python bench/sync_node.py owner|replica PEER-ADDRESS cache|kernel

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
from gimli.pair import punctuality, syncactions
from gimli.pair.config import Sync
from gimli.pair.replication import Replication
from gimli.pair.statesync import StateSync
from gimli.pair.syncactions import Action, Mode

_PASSWORD = b"bench"
_INTERFACE = "sync"


class Node:
    """A state sync and its replication, as the pair's daemon has them."""

    def __init__(self, peer: str, mode: Mode) -> None:
        self._loop = Loop()
        self._sync = StateSync(secrets.randbits(64) | 1, _PASSWORD, mode)
        self._replication = Replication(
            Sync(_INTERFACE, ipaddress.ip_address(peer), _PASSWORD, mode=mode),
            self._sync,
            self._loop,
            self._received,
            self._due,
            self._carry_out,
            frozenset(),
        )
        self._loop.watch(sys.stdin.fileno(), self._answer)
        self._finished = False

    def run(self, role: str) -> None:
        """Until standard input ends."""
        begin = self._sync.own if role == "owner" else self._sync.follow
        self._carry_out(begin(time.monotonic()))
        print("ready", flush=True)
        while not self._finished:
            self._loop.run_once()

    def _received(self, datagram: bytes) -> None:
        self._carry_out(self._sync.received(datagram, time.monotonic()))

    def _due(self) -> None:
        now_s = time.monotonic()
        self._carry_out(self._sync.due(now_s) if self._sync.next_due_s() <= now_s else [])

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case syncactions.Send() | syncactions.Apply() | syncactions.Listen() | syncactions.Dump():
                    self._replication.carry_out(action)
        self._replication.settle()

    def _answer(self, _: int) -> None:
        if not os.read(sys.stdin.fileno(), 100):
            self._finished = True
            return
        sync, writer = self._sync, self._replication.writer
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
            "unsent": self._replication.unsent,
        }
        print(json.dumps(counters), flush=True)


def main() -> None:
    """The command line."""
    role, peer, mode = sys.argv[1:]
    punctuality.run_first()  # as the daemon, and as conntrackd
    Node(peer, Mode(mode)).run(role)


if __name__ == "__main__":
    main()
