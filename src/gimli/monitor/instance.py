r"""Where does the main process of a service stand, from its fork to its end?

    fork --exec decided--> runs --pidfd readable--> ended
      \--no exec: why--> never was

A child of ours is waited for. An adopted process is somebody else's child, and its status is read where it
can be; so is that of another process which the program has named as the main one.
"""

from __future__ import annotations

from gimli.monitor import packing
from gimli.process import ExitStatus
from gimli.value import plain, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gimli.monitor.site import Site
    from gimli.monitor.spawned import Spawned

_HANGUP = 0x10  # EPOLLHUP
_REAPER_PATIENCE_S = 1.0
_BEGIN_S, _BEGIN_S_MAX = 0.001, 1.0


class Instance:
    """The main process of one service; none between two of them.

    Args:
        site: what the services of a monitor share.
        on_exec: called when exec is decided: with the reason why there was none, empty when there was.
        on_end: called with the process, and how it has ended.
    """

    __slots__ = ("_on_end", "_on_exec", "_site", "spawned", "started_ns")

    def __init__(
        self,
        site: Site,
        on_exec: Callable[[str], None],
        on_end: Callable[[Spawned, ExitStatus], None],
    ) -> None:
        self.spawned: Spawned | None = None
        self.started_ns = 0
        """When the present one was started, or the last."""
        self._site = site
        self._on_exec = on_exec
        self._on_end = on_end

    @property
    def pid(self) -> int | None:
        """The main process, from fork to its end."""
        return self.spawned.pid if self.spawned else None

    @property
    def is_executed(self) -> bool:
        """It is the program, and not a copy of the monitor any more."""
        return self.spawned is not None and self.spawned.exec_fd < 0

    def begin(self, spawned: Spawned, started_ns: int) -> None:
        """There is one now."""
        assert self.spawned is None, "a second instance"
        self.spawned, self.started_ns = spawned, started_ns
        self._watch(spawned)
        if spawned.exec_fd >= 0:
            self._site.loop.after(0.0, self._let_go)

    def settle(self) -> None:
        """The program has spoken, so it is one. The news of its exec comes first, if it is yet to come."""
        if self.spawned is not None and self.spawned.exec_fd >= 0:
            self._decide("")

    def signal(self, signo: int, *, group: bool = False) -> None:
        """Signal it, and its whole process group where that is wanted.

        Raises:
            PermissionError: it runs as another user.
        """
        assert self.spawned is not None
        kernel = self._site.kernel
        if group:
            kernel.signal_group(self.spawned, signo)
        try:
            kernel.send_signal(self.spawned.pidfd, signo)
        except ProcessLookupError:
            return  # it has ended by itself; its exit is on its way

    def change_main(self, pid: int, pidfd: int) -> int:
        """The program has named another of its processes as the main one: its end is the service's.

        Returns:
            The pidfd of the former one, which is the caller's from now on.
        """
        assert self.spawned is not None
        former, loop = self.spawned, self._site.loop
        loop.forget(former.pidfd)
        loop.watch(pidfd, self._exited)
        # It may be our child by now, an orphan, or another's: its status is asked for as a stranger's.
        loop.children.add(pid)
        leader = former.leader or former.pid
        self.spawned = replace(former, pid=pid, pidfd=pidfd, adopted=True, leader=leader)
        return former.pidfd

    def pack(self) -> dict[str, Any]:
        """What the next image of the monitor must know; its descriptors by number."""
        return {"spawned": plain(self.spawned), "started_ns": self.started_ns}

    def restore(self, packed: dict[str, Any]) -> None:
        """Go on with that of the image before."""
        self.spawned, self.started_ns = packing.unpack_spawned(packed["spawned"]), packed["started_ns"]
        if self.spawned:
            self._watch(self.spawned)

    def descriptors(self) -> list[int]:
        """Those that the next image of the monitor must inherit."""
        held = (self.spawned.pidfd, self.spawned.exec_fd) if self.spawned else ()
        return [fd for fd in held if fd >= 0]

    def _watch(self, spawned: Spawned) -> None:
        loop = self._site.loop
        if not spawned.adopted:
            loop.children.add(spawned.pid)
        if spawned.exec_fd >= 0:
            loop.watch(spawned.exec_fd, self._exec_decided)
        loop.watch(spawned.pidfd, self._exited)

    def _let_go(self, delay_s: float = _BEGIN_S) -> None:
        """Of what the child needed to begin, as soon as it has: the news of its exec waits for that."""
        if not self._site.kernel.let_go():
            again_s = min(2 * delay_s, _BEGIN_S_MAX)
            self._site.loop.after(delay_s, lambda: self._let_go(again_s))

    def _exec_decided(self, _: int = 0) -> None:
        assert self.spawned is not None
        self._decide(self._site.kernel.exec_failure(self.spawned.exec_fd))

    def _decide(self, why: str) -> None:
        assert self.spawned is not None
        spawned, kernel = self.spawned, self._site.kernel
        self._site.loop.forget(spawned.exec_fd)
        kernel.close(spawned.exec_fd)
        self.spawned = replace(spawned, exec_fd=-1)
        if why:
            kernel.collect(spawned)
            self._forget()
        self._on_exec(why)

    def _exited(self, what: int = 0) -> None:
        assert self.spawned is not None
        pid = self.pid
        self._site.notify.drain()  # its last words may name another main process
        if self.spawned is None or self.pid != pid:
            return
        if self.spawned.exec_fd >= 0:
            self._exec_decided()
            if self.spawned is None:
                return
        if self.spawned.adopted:
            self._stranger_exited(self.spawned, is_reaped=bool(what & _HANGUP))
        else:
            self._ended(self._site.kernel.collect(self.spawned))

    def _stranger_exited(self, spawned: Spawned, *, is_reaped: bool) -> None:
        """An adopted process is another's child: its status is read, not waited for."""
        status = self._site.kernel.status_of_stranger(spawned.pid, spawned.pidfd)
        if status or is_reaped:
            self._ended(status or ExitStatus())
            return
        # A zombie whose status is not ours to read. Its pidfd hangs up when it is reaped (since Linux 6.9).
        self._site.loop.change(spawned.pidfd, 0)
        self._site.loop.after(_REAPER_PATIENCE_S, lambda: self._give_up_on(spawned))

    def _give_up_on(self, spawned: Spawned) -> None:
        if self.spawned is spawned:
            self._ended(ExitStatus())

    def _ended(self, status: ExitStatus) -> None:
        assert self.spawned is not None
        ended = self.spawned
        self._forget()
        self._on_end(ended, status)

    def _forget(self) -> None:
        """Let go of the process that has ended."""
        assert self.spawned is not None
        self._site.loop.forget(self.spawned.pidfd)
        self._site.kernel.close(self.spawned.pidfd)
        self._site.loop.children.discard(self.spawned.pid)
        self.spawned = None
