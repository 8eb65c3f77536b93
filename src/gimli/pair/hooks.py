"""Which commands are run when a role changes, and how do they end?

As ucarp's ``--upscript`` and ``--downscript``: with the interface and the first address behind the words of
the command. Nobody waits for them; the journal has their ends.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from gimli.pair.vhid import Role

if TYPE_CHECKING:
    from gimli.journal import Journal
    from gimli.loop import Loop
    from gimli.pair.config import Carp


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

    def role_changed(self, carp: Carp, role: str) -> None:
        """Run what belongs to the change: ``up`` on the way to MASTER, ``down`` on the way from it."""
        was_master = carp.vhid in self._masters
        if role == Role.MASTER.value:
            self._masters.add(carp.vhid)
            self._run(carp, "up", carp.up)
        elif was_master:
            self._masters.discard(carp.vhid)
            self._run(carp, "down", carp.down)

    def _run(self, carp: Carp, which: str, command: tuple[str, ...]) -> None:
        if not command:
            return
        words = [*command, carp.interface, str(carp.addresses[0].ip)]
        try:
            started = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            pidfd = os.pidfd_open(started.pid)
        except OSError as error:
            self._journal.record("hook-failed", vhid=carp.vhid, hook=which, why=str(error.strerror))
            return
        self._loop.watch(pidfd, lambda _: self._ended(carp, which, started, pidfd))

    def _ended(self, carp: Carp, which: str, started: subprocess.Popen[bytes], pidfd: int) -> None:
        self._loop.forget(pidfd)
        os.close(pidfd)
        if status := started.wait():
            self._journal.record("hook-failed", vhid=carp.vhid, hook=which, why=f"it ended with {status}")
