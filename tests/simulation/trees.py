"""What do main processes leave behind? Descendants that hide, ignore, fork and outlive, by chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli import heartbeat
from gimli.process import ExitStatus
from simulation.processes import INIT, KILL, SEGV, TERM, Process

if TYPE_CHECKING:
    from simulation.programs import Program

_STUCK_S = 6.0
"""Longer than the monitor's patience with a process that KILL does not end."""
_DEEPEST = 4


def fork(main: Program, parent: Process, depth: int = 1) -> None:
    """Fork, where there is room."""
    if depth <= _DEEPEST and not main.computer.is_crowded and not main.computer.is_calm:
        Descendant(main, parent, depth)


class Descendant(Process):
    """A process of a service that is not its main one: forked by that, or by another of these.

    Where it is: in its parent's group, in a group or a session of its own, or forked twice, so that nobody
    but init, or a subreaper, is its parent. Its temper is drawn once.
    """

    keeps_its_status_secret = False

    def __init__(self, main: Program, parent: Process, depth: int) -> None:
        super().__init__(main.computer, parent.pid, f"a descendant of {main.service}")
        world = self.world
        self.main = main
        self.lineage: set[int] = {self.pid, *getattr(parent, "lineage", ())}
        self.is_marked = parent.is_marked
        self.session, self.group, self.cgroup = parent.session, parent.group, parent.cgroup
        self.is_in_session = parent is main or (isinstance(parent, Descendant) and parent.is_in_session)
        """The main process's; its number alone may be another's later."""
        self._depth = depth
        self._term = world.chance.choice(("die", "die", "late", "ignore", "fork", "fork and die"))
        self.is_restless = world.likely(0.15)
        """It forks and ends in the very moment in which somebody looks at it."""
        self.holds_files = world.likely(0.8)
        """Its page and its output, which it inherited."""
        self._is_stuck = world.likely(0.03)
        self._outlives = world.likely(0.7)
        self._hide()
        if world.likely(0.7):
            world.after(world.between(0.1, 20), "descendant", self._finish)
        if world.likely(0.2):
            world.after(world.between(0, 5), "descendant", self._fork)

    def _hide(self) -> None:
        world = self.world
        where = world.chance.choice(("here", "here", "group", "session", "twice"))
        if where == "group":
            self.group = self.pid
        elif where == "session":
            self.session = self.group = self.pid
        elif where == "twice":
            self.session = self.group = self.computer.new_pid()  # of the one between, which ends at once
            self.parent = self.computer.reaper_of(self)
        self.is_in_session = self.is_in_session and where not in {"session", "twice"}
        if world.likely(0.1):
            self.is_marked = False  # it has written its title over its environment

    def _fork(self) -> None:
        if self.is_alive and not self.is_stopped:
            fork(self.main, self, self._depth + 1)

    def _finish(self) -> None:
        if not self.is_alive:
            return
        main = self.main
        if main.is_alive and main.is_doing == "running" and self.world.likely(0.5):
            request = main.page.read().request + 1
            main.page.write(heartbeat.OFFSET_CRASH, "<iiQiiI", SEGV, 1, 0, self.pid, self.pid, request)
            self.computer.ring(main.service)
            self.world.after(self.world.between(1, 10), "descendant", lambda: self.signalled(KILL))
        else:
            self.end(ExitStatus(code=0))

    def looked_at(self) -> None:
        """Somebody is about to hold it by a pidfd."""
        if self.is_restless and self.is_alive and self.world.likely(0.5):
            self._fork()
            self.end(ExitStatus(code=0))

    def main_ended(self) -> None:
        """The other end of its pipe is closed."""
        if not self._outlives:
            delay_s = self.world.between(0, 0.01)
            self.world.after(delay_s, "descendant", lambda: self.end(ExitStatus(code=0)))

    def signalled(self, signo: int) -> None:
        """What hangs in the kernel hears KILL when it comes back."""
        if signo == KILL and self._is_stuck and self.is_alive:
            self._is_stuck = False
            delay_s = self.world.between(0, _STUCK_S)
            self.world.after(delay_s, "descendant", lambda: self.signalled(KILL))
            return
        super().signalled(signo)

    def handle(self, signo: int) -> None:
        """TERM as it likes; the others end it."""
        if signo != TERM:
            self.end(ExitStatus(signo=signo))
            return
        if self._term in {"fork", "fork and die"}:
            self._fork()
        if self._term in {"die", "fork and die"}:
            self.end(ExitStatus(signo=TERM))
        elif self._term == "late":
            delay_s = self.world.between(0, 3)
            self.world.after(delay_s, "descendant", lambda: self.end(ExitStatus(signo=TERM)))

    def ended(self) -> None:
        """A parent of its own reaps it at once, as a good one does."""
        monitor = self.computer.monitor
        if self.parent != INIT and not (monitor and self.parent == monitor.pid):
            self.world.after(0, "reap", self.reaped)
