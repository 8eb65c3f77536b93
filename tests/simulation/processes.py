"""What is a process on the virtual computer? Its life from fork over exec to the end of its zombie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.process import ExitStatus, ProcessId
from simulation.files import HANGUP, READ
from simulation.world import Violated

if TYPE_CHECKING:
    from simulation.computer import Computer
    from simulation.files import PidFd

INIT = 1
KILL, STOP, CONT, TERM, ABRT, SEGV = 9, 19, 18, 15, 6, 11


class Process:
    """One process. Subclasses say what it does (``programs``, ``helpers``)."""

    def __init__(self, computer: Computer, parent: int, role: str) -> None:
        self.computer = computer
        self.world = computer.world
        self.pid = computer.new_pid()
        self.start_ticks = computer.ticks()
        self.parent = parent
        self.role = role
        self.status: ExitStatus | None = None
        self.is_zombie = False
        self.is_stopped = False
        self.stop_is_news = False
        self.ended_ns = 0
        self.session = self.group = 0
        self.cgroup: str | None = None
        self.is_marked = False
        """Its environment says which service it is of."""
        self.frozen_by: Process | None = None
        self.pidfds: list[PidFd] = []
        computer.processes[self.pid] = self
        computer.world.say("fork", role, self.pid)

    @property
    def identity(self) -> ProcessId:
        """Who it is, for ever."""
        return ProcessId(self.pid, self.start_ticks)

    @property
    def is_alive(self) -> bool:
        """It has not ended."""
        return self.status is None

    def signalled(self, signo: int) -> None:
        """A signal is delivered."""
        if not self.is_alive:
            return
        self.world.say("signal", signo, "to", self.role, self.pid)
        if signo == KILL:
            self.end(ExitStatus(signo=KILL))
        elif signo == STOP:
            self.stop()
        elif signo == CONT:
            self.is_stopped = False
        else:
            self.handle(signo)

    def stop(self) -> None:
        """It stops; the monitor hears of it by SIGCHLD when it is its child."""
        self.is_stopped = self.stop_is_news = True
        self.computer.child_changed(self)

    def handle(self, signo: int) -> None:
        """What it does about a signal that can be handled: die."""
        self.end(ExitStatus(signo=signo))

    def end(self, status: ExitStatus) -> None:
        """It ends, and waits to be reaped."""
        if self.status is not None:
            return
        self.world.say("end of", self.role, self.pid, status)
        self.status = status
        self.is_zombie = True
        self.ended_ns = self.world.now_ns
        self.ended()
        self.computer.leave_children(self)
        for pidfd in self.pidfds:
            pidfd.ready = READ
        self.computer.child_changed(self)
        if self.parent == INIT:
            self.orphaned()

    def ended(self) -> None:
        """What its end takes away with it."""

    def thaw(self) -> None:
        """The one that has stopped it, to capture it, lets go."""
        self.frozen_by = None

    def orphaned(self) -> None:
        """Init is its parent now: it reaps, sooner or later."""
        self.parent = INIT
        if self.is_zombie:
            delay_s = self.world.between(0, 3) if self.world.likely(0.1) else self.world.between(0, 0.01)
            self.world.after(delay_s, "reap", self.reaped)

    def reaped(self) -> None:
        """It is gone."""
        if not self.is_zombie:
            return
        self.is_zombie = False
        for pidfd in self.pidfds:
            pidfd.ready = READ | HANGUP
        self.computer.processes.pop(self.pid, None)
        self.computer.freed_pid = self.pid


class Stranger(Process):
    """Somebody else's process, which has got the pid of one that was a service's. It may be a daemon."""

    keeps_its_status_secret = True

    def __init__(self, computer: Computer, session: int = 0) -> None:
        super().__init__(computer, INIT, "a stranger")
        world = self.world
        self.session = self.group = session or (self.pid if world.likely(0.5) else 0)
        if self.session == self.pid and world.likely(0.5):
            Stranger(computer, self.pid)
            world.after(0, "stranger", lambda: self.end(ExitStatus(code=0)))
        else:
            world.after(world.between(0.1, 20), "stranger", lambda: self.end(ExitStatus(code=0)))

    def signalled(self, signo: int) -> None:
        """Nobody of us has any business with it."""
        raise Violated(f"signal {signo} is sent to a stranger, pid {self.pid}")


class Terminal(Stranger):
    """The shell that the first monitor was started from: the leader of their session."""

    def __init__(self, computer: Computer) -> None:
        Process.__init__(self, computer, INIT, "a shell")
        self.session = self.group = self.pid
