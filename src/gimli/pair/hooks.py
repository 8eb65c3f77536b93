"""Which commands are run when a role changes, and how do they end?

As ucarp's ``--upscript`` and ``--downscript``: with the interface and the first address behind the words of
the command. The daemon does not wait for them; of one vhid they run one after the other, in the order of the
changes, so that the last one to have run belongs to the role that the node has.
"""

from __future__ import annotations

import select
import time
from collections import deque
from typing import TYPE_CHECKING

from gimli.pair import commands
from gimli.pair.vhid import Role

if TYPE_CHECKING:
    from gimli.journal import Journal
    from gimli.loop import Loop
    from gimli.pair.commands import Command
    from gimli.pair.config import Carp

END_S_MAX = 5.0
"""So long the daemon's end may be put off by commands that have not ended: less than a monitor waits."""


class Hooks:
    """Runs them.

    Args:
        loop: that learns of their ends.
        journal: that is told.
    """

    def __init__(self, loop: Loop, journal: Journal) -> None:
        self._loop = loop
        self._journal = journal
        self._masters: set[int] = set()
        self._running: dict[int, tuple[str, Command]] = {}
        self._waiting: dict[int, deque[tuple[Carp, str]]] = {}

    def role_changed(self, carp: Carp, role: str) -> None:
        """Run what belongs to the change: ``up`` on the way to MASTER, ``down`` on the way from it."""
        was_master = carp.vhid in self._masters
        if role == Role.MASTER.value:
            self._masters.add(carp.vhid)
            self._run(carp, "up")
        elif was_master:
            self._masters.discard(carp.vhid)
            self._run(carp, "down")

    def finish(self) -> None:
        """At the daemon's end: let what was begun come to its own."""
        give_up_s = time.monotonic() + END_S_MAX
        while self._running and (left_s := give_up_s - time.monotonic()) > 0:
            vhids = {command.pidfd: vhid for vhid, (_, command) in self._running.items()}
            for fd in select.select(vhids, [], [], left_s)[0]:
                self._ended(vhids[fd])
        for vhid, (which, _) in self._running.items():
            why = f"it has not ended after {END_S_MAX:.0f} s, and goes on without the daemon"
            self._journal.record("hook-failed", vhid=vhid, hook=which, why=why)

    def _run(self, carp: Carp, which: str) -> None:
        if carp.up if which == "up" else carp.down:
            self._waiting.setdefault(carp.vhid, deque()).append((carp, which))
            self._next(carp.vhid)

    def _next(self, vhid: int) -> None:
        waiting = self._waiting[vhid]
        while waiting and vhid not in self._running:
            carp, which = waiting.popleft()
            words = (*(carp.up if which == "up" else carp.down), carp.interface, str(carp.addresses[0].ip))
            try:
                command = commands.start(words)
            except OSError as error:
                why = f"cannot run {words[0]}: {error.strerror}"
                self._journal.record("hook-failed", vhid=vhid, hook=which, why=why)
                continue
            self._running[vhid] = (which, command)
            self._loop.watch(command.pidfd, lambda _: self._ended(vhid))

    def _ended(self, vhid: int) -> None:
        which, command = self._running.pop(vhid)
        self._loop.forget(command.pidfd)
        if status := command.end():
            self._journal.record("hook-failed", vhid=vhid, hook=which, why=f"it ended with {status}")
        self._next(vhid)
