"""What happens between the end of a main process and the end of its service?

What the main process has left behind (``leftovers``) is signalled and waited for, each by a pidfd; whoever
has forked meanwhile is found by looking again. The service has ended when nothing is left. After KILL that is
waited for a little while, then said: what hangs in the kernel must not keep a service down.
"""

from __future__ import annotations

from gimli.monitor import packing
from gimli.monitor.leftovers import find_leftovers
from gimli.process import Signals, signal_name
from gimli.value import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gimli.loop import Deadline
    from gimli.monitor.config import Service
    from gimli.monitor.leftovers import Survey
    from gimli.monitor.site import Site
    from gimli.monitor.spawned import Spawned
    from gimli.process import ExitStatus, ProcessId

_KILL_PATIENCE_S = 2.0
_AGAIN_S = 0.05
"""They could not be seen, or not be held: one that ended this instant may have forked."""
_AGAIN_BESIDE_S = 0.5
"""One of several has ended, or they are being killed: it may have forked, and the others may take a while."""
_DOUBTFUL = "they are in its session, which may be a stranger's by now, and nothing else says whose they are"


class Aftermath:
    """The leftovers of one service.

    Args:
        config: the service.
        site: what the services of a monitor share.
        on_gone: called when nothing is left, or all patience used up, with what :meth:`begin` was given.
    """

    __slots__ = (
        "_ended", "_has_killed", "_held", "_is_left", "_next_look", "_on_gone", "_patience", "_service",
        "_signo", "_site", "_status",
    )  # fmt: skip

    def __init__(self, config: Service, site: Site, on_gone: Callable[[ExitStatus | None], None]) -> None:
        self._service = config.name
        self._is_left = config.leave_leftovers
        self._site = site
        self._on_gone = on_gone
        self._ended: Spawned | None = None
        """The main process; None when there is no aftermath."""
        self._status: ExitStatus | None = None
        self._held: dict[int, int] = {}
        """The pidfds of what is left, by pid."""
        self._signo = int(Signals.SIGKILL)
        self._has_killed = False
        """The control group as a whole: nobody else may be born into it."""
        self._patience: Deadline | None = None
        self._next_look: Deadline | None = None

    @property
    def is_under_way(self) -> bool:
        """Something is left, or may be."""
        return self._ended is not None

    @property
    def is_unexplained(self) -> bool:
        """The same, of an instance whose end nobody saw: a dead monitor's."""
        return self._ended is not None and self._status is None

    def begin(self, ended: Spawned, status: ExitStatus | None, *, is_orderly: bool) -> None:
        """A main process has ended: have what it has left follow it, unless the service is to leave it.

        Args:
            ended: the main process.
            status: how it has ended; None when nobody saw that.
            is_orderly: it was stopped in order, and so are they: TERM, else KILL.
        """
        if self._is_left:
            self._on_gone(status)
            return
        self._ended, self._status = ended, status
        self._signo = int(Signals.SIGTERM if is_orderly else Signals.SIGKILL)
        self._go_on()

    def begin_unseen(self, dead: Spawned, survey: Survey | None) -> None:
        """A dead monitor's instance has ended, nobody knows when: what it has left must not meet the next.

        Args:
            dead: the main process; of pid 0 where none is known, and most likely there was none.
            survey: of all processes, where one was made.
        """
        is_marked = survey is not None and self._service in survey.services
        if dead.pid or is_marked or self._site.kernel.group_members(self._service):
            self.begin(dead, None, is_orderly=False)
        else:  # without a look of its own: a thousand services may start for the first time
            self._site.kernel.remove_group(self._service)  # the dead monitor may have killed it
            self._on_gone(None)

    def signal(self, signo: int) -> None:
        """Signal what is left, and who is found from now on: KILL is never followed by less."""
        if signo == Signals.SIGKILL:
            self._signo = int(signo)
        if self._ended:
            self._send(signo, list(self._held))
            self._limit_patience()
            self._look_in(0.0)  # they may have forked since; not now, in the middle of an event

    def pack(self) -> dict[str, Any]:
        """What the next image of the monitor must know. It finds the leftovers themselves again."""
        return {
            "ended": plain(self._ended),
            "status": plain(self._status),
            "signo": self._signo,
            "has_killed": self._has_killed,
        }

    def restore(self, packed: dict[str, Any]) -> None:
        """Know what the image before knew; :meth:`resume` goes on."""
        self._ended, self._signo = packing.unpack_spawned(packed["ended"]), packed["signo"]
        self._status = packing.unpack_status(packed["status"])
        self._has_killed = packed["has_killed"]

    def resume(self) -> None:
        """Go on after a takeover."""
        if self._ended:
            self._go_on()

    def _go_on(self) -> None:
        """Whoever is left is signalled and waited for; it is over when that is nobody."""
        self._look_in(None)
        try:
            left, doubtful = self._look()
        except OSError:
            self._look_in(_AGAIN_S)  # no descriptor, no memory: that says nothing of them
        else:
            if not left and not self._held:
                self._gone(doubtful)
                return
            if not self._held.keys() >= left:
                self._look_in(_AGAIN_S)
            elif self._signo == Signals.SIGKILL:
                self._look_in(_AGAIN_BESIDE_S)
        self._limit_patience()

    def _look(self) -> tuple[set[int], list[int]]:
        """Hold and signal those that are left.

        Returns:
            Their pids; and pids that may be somebody else's.

        Raises:
            OSError: they cannot be seen now.
        """
        assert self._ended is not None
        kernel = self._site.kernel
        certain, doubtful = find_leftovers(self._site, self._service, self._ended)
        left = kernel.living(certain)
        others = [each.pid for each in kernel.living(doubtful)] if doubtful else []
        fresh = [each.pid for each in left if each.pid not in self._held and self._hold(each)]
        if fresh:
            name = signal_name(self._signo)
            self._site.journal.record("leftovers", self._service, pids=fresh, signal=name)
            self._send(self._signo, fresh)
        # It has ended: who lives under its number, and leads a session, is a stranger.
        return {each.pid for each in left}, [] if self._ended.pid in others else others

    def _hold(self, left: ProcessId) -> bool:
        try:
            pidfd = self._site.kernel.pidfd_of(left)
        except OSError:
            return False
        if pidfd is None:
            return False  # it has ended this instant
        self._held[left.pid] = pidfd
        self._site.loop.watch(pidfd, lambda _: self._left_ended(left.pid))
        return True

    def _send(self, signo: int, pids: list[int]) -> None:
        kernel = self._site.kernel
        if signo == Signals.SIGKILL:
            kernel.kill_group(self._service)
            self._has_killed = True
        for pid in pids:
            try:
                kernel.send_signal(self._held[pid], signo)
            except (ProcessLookupError, PermissionError):
                continue

    def _left_ended(self, pid: int) -> None:
        self._drop(pid)
        if not self._held:
            self._go_on()  # it may have forked
        elif self._next_look is None:
            self._look_in(_AGAIN_BESIDE_S)

    def _drop(self, pid: int) -> None:
        pidfd = self._held.pop(pid)
        self._site.loop.forget(pidfd)
        self._site.kernel.close(pidfd)

    def _look_in(self, delay_s: float | None) -> None:
        """Look again so much later; None: not before somebody has ended."""
        if self._next_look:
            self._next_look.cancel()
        self._next_look = None if delay_s is None else self._site.loop.after(delay_s, self._go_on)

    def _limit_patience(self) -> None:
        if self._signo == Signals.SIGKILL and self._patience is None:
            self._patience = self._site.loop.after(_KILL_PATIENCE_S, self._give_up)

    def _give_up(self) -> None:
        """Not even KILL ends what hangs in the kernel; the next instance need not wait for it."""
        try:
            left, doubtful = self._look()
        except OSError as error:
            self._tell_remaining(list(self._held), f"they cannot be seen: {error.strerror}")
            self._gone([])
            return
        if remaining := sorted(left | self._held.keys()):
            self._tell_remaining(remaining, "KILL does not end them")
        self._gone(doubtful)

    def _tell_remaining(self, pids: list[int], why: str) -> None:
        self._site.journal.record("leftovers-remain", self._service, pids=pids, why=why)

    def _gone(self, doubtful: list[int]) -> None:
        if doubtful:
            self._tell_remaining(doubtful, _DOUBTFUL)
        for pid in tuple(self._held):
            self._drop(pid)
        self._look_in(None)
        if self._patience:
            self._patience.cancel()
            self._patience = None
        if self._has_killed:
            self._has_killed = False
            self._site.kernel.remove_group(self._service)
        status, self._ended, self._status = self._status, None, None
        self._on_gone(status)
