"""When does a daemon run, stand still, and end? One process of a host, mortal at each of its calls.

Each call of the kernel may be the process's last, or the one before which it stands still. While it stands
still there, in the middle of whatever it does, the rest of the world goes on.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from gimli.loop import READ, Loop
from simulation.world import SECOND_NS, Violated

if TYPE_CHECKING:
    from collections.abc import Callable

    from pairsim.machine import Machine
    from pairsim.world import World

_ROUNDS_AT_ONCE_MAX = 200
CALLS_PER_S_MAX = 6000
"""Twice what two vhids in the fastest mode with full traffic were seen to need."""
_LATENCY_S = 0.00005
_SPARED = 2
"""Calls after it stood still in which it comes to no harm: in the next one it corrects a lease that the
kernel has counted from too late. To stand still within one call of 50 us and end in the next is not told."""


class Killed(BaseException):
    """The process has ended in the middle of a call. Not an Exception: nothing of it may survive that."""


class Readable(Protocol):
    """What can be watched."""

    @property
    def is_ready(self) -> bool:
        """Whether there is something to read."""


class Inbox:
    """A socket's buffer: what comes when it is full is lost.

    Args:
        wake: called when something has come.
        size: how much fits.
    """

    def __init__(self, wake: Callable[[], None], size: int = 500) -> None:
        self._wake = wake
        self._size = size
        self._queue: deque[Any] = deque()

    @property
    def is_ready(self) -> bool:
        """Whether there is something to read."""
        return bool(self._queue)

    def put(self, item: Any) -> None:
        """Something comes."""
        if len(self._queue) < self._size:
            self._queue.append(item)
            self._wake()

    def take(self, at_most: int = 64) -> list[Any]:
        """What has come."""
        return [self._queue.popleft() for _ in range(min(at_most, len(self._queue)))]


class Epoll:
    """Level-triggered, in an order that chance picks."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers = itertools.count(3)
        self._open: dict[int, Readable] = {}
        self._watched: set[int] = set()

    def open(self, readable: Readable) -> int:
        """A descriptor for it."""
        number = next(self._numbers)
        self._open[number] = readable
        return number

    def register(self, fd: int, _events: int) -> None:
        """EPOLL_CTL_ADD."""
        assert fd not in self._watched
        self._watched.add(fd)

    def unregister(self, fd: int) -> None:
        """EPOLL_CTL_DEL."""
        self._watched.remove(fd)

    def poll(self, _timeout_s: float | None = None) -> list[tuple[int, int]]:
        """What is ready now; who calls has slept already."""
        found = [(fd, READ) for fd in self._watched if self._open[fd].is_ready]
        if len(found) > 1:
            self._world.chance.shuffle(found)
        return found


class Process:
    """A daemon as the kernel sees it.

    Args:
        machine: whose.
        world: that goes on when this does not.
    """

    def __init__(self, machine: Machine, world: World) -> None:
        self.machine = machine
        self.world = world
        self.epoll = Epoll(world)
        self.loop = Loop(self.epoll, machine.now_ns)  # type: ignore[arg-type]  # what it calls is there
        self.link_events = Inbox(self.wake)
        self.fence_events = Inbox(self.wake)
        self.inboxes: dict[str, Inbox] = {}
        """By link: what has come from the other host."""
        self.is_dead = False
        self.calls = 0
        self.kill_before: int | str = 0
        """Which call does not happen: the number of one, or what it is for; 0: none."""
        self.freeze_before: int | str = 0
        """Before which call it stands still; likewise."""
        self.freeze_s = 0.0
        self.late_s = 0.0
        """By how much its timers come late at most."""
        self.ended: Callable[[Process], None] = lambda _: None
        self.settled: Callable[[Process], None] = lambda _: None
        """Called when it sleeps."""
        self._frozen_until_ns = 0
        self._spared = 0
        self._is_inside = False
        self._wakes_ns = 0
        self._rounds_ns = 0
        self._rounds = 0
        self._second = 0
        self._calls_before = 0

    @property
    def is_frozen(self) -> bool:
        """Whether it is not let run."""
        return self.world.now_ns < self._frozen_until_ns

    @property
    def is_behind(self) -> bool:
        """Whether something was due while it was not let run."""
        return self.loop._timeout_s() == 0.0

    def call(self, what: str) -> None:
        """The kernel is called; or would have been."""
        if self.is_dead:
            raise Killed
        self.calls += 1
        if self.calls <= self._spared:
            return
        if self.freeze_before in {self.calls, what}:
            self.world.say(self.machine.name, "stands still before", what, f"for {self.freeze_s:.4f} s")
            self._stand_still()
        if self.kill_before in {self.calls, what}:
            self.world.say(self.machine.name, "is killed before", what)
            self.die()
            raise Killed
        self._count()

    def freeze(self, for_s: float) -> None:
        """SIGSTOP, while it sleeps, and SIGCONT."""
        self._frozen_until_ns = self.world.now_ns + int(for_s * SECOND_NS)
        self.world.after(for_s, "thaw", self.wake)

    def thaw(self) -> None:
        """SIGCONT, early."""
        self._frozen_until_ns = self.freeze_before = self.kill_before = 0
        self.late_s = 0.0
        self.wake()

    def die(self) -> None:
        """Kill -9, or the end."""
        if not self.is_dead:
            self.is_dead = True
            self.machine.process = None
            self.machine.conntrack.listeners.clear()
            self.ended(self)

    def run(self, do: Callable[[], None]) -> None:
        """Let it do something, and sleep."""
        self._is_inside = True
        try:
            do()
        except Killed:
            return
        finally:
            self._is_inside = False
        if not self.is_dead:
            self.settled(self)
            self._sleep()

    def wake(self) -> None:
        """Something has come, for which it is to wake."""
        if not self._is_inside:
            self._wake_in(_LATENCY_S)

    def _sleep(self) -> None:
        if any(self.epoll._open[fd].is_ready for fd in self.epoll._watched):
            self._wake_in(_LATENCY_S)
        if self.loop._timeout_s() is not None:
            due_ns = self.machine.world_ns(self.loop._deadlines[0].at_ns)
            late_s = self.world.between(0, self.late_s) if self.late_s else 0.0
            self._wake_in(max(due_ns - self.world.now_ns, 0) / SECOND_NS + late_s)

    def _wake_in(self, delay_s: float) -> None:
        at_ns = self.world.now_ns + int(delay_s * SECOND_NS)
        if self._wakes_ns <= self.world.now_ns or at_ns < self._wakes_ns:
            self._wakes_ns = at_ns
            self.world.after(delay_s, "round", lambda: self._round(at_ns))

    def _round(self, at_ns: int) -> None:
        if self.is_dead or self._is_inside or self.is_frozen or at_ns != self._wakes_ns:
            return
        self._wakes_ns = 0
        if self.world.now_ns != self._rounds_ns:
            self._rounds_ns, self._rounds = self.world.now_ns, 0
        self._rounds += 1
        if self._rounds > _ROUNDS_AT_ONCE_MAX:
            raise Violated(f"{self.machine.name}: a busy loop: round and round, and no time passes")
        self.run(self.loop.run_once)

    def _stand_still(self) -> None:
        world = self.world
        self.freeze_before = 0
        self._frozen_until_ns = until_ns = world.now_ns + int(self.freeze_s * SECOND_NS)
        world.after(self.freeze_s, "thaw", lambda: None)
        while world.now_ns < until_ns and not self.is_dead and not world.is_calm:
            world.advance()
        self._frozen_until_ns = 0
        self._spared = self.calls + _SPARED
        if self.is_dead:
            raise Killed

    def _count(self) -> None:
        second = self.world.now_ns // SECOND_NS
        if second != self._second:
            self._second, self._calls_before = second, self.calls
        elif self.calls - self._calls_before > CALLS_PER_S_MAX:
            raise Violated(f"{self.machine.name}: more than {CALLS_PER_S_MAX} calls in a second")
