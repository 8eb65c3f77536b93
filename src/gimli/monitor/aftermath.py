"""What happens between the end of a main process and the end of its service?

What the main process has left behind (``leftovers``) is signalled and waited for, each by a pidfd; whoever
has forked meanwhile is found by looking again. The service has ended when nothing is left.
"""

from __future__ import annotations

from gimli.monitor import packing
from gimli.process import Signals, signal_name
from gimli.value import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gimli.loop import Deadline
    from gimli.monitor.config import Service
    from gimli.monitor.site import Site
    from gimli.monitor.spawned import Spawned
    from gimli.process import ExitStatus, ProcessId

_KILL_PATIENCE_S = 2.0


class Aftermath:
    """The leftovers of one service.

    Args:
        config: the service.
        site: what the services of a monitor share.
        on_gone: called when nothing is left, or all patience used up, with what :meth:`begin` was given.
    """

    __slots__ = (
        "_ended",
        "_held",
        "_is_left",
        "_on_gone",
        "_patience",
        "_service",
        "_signo",
        "_site",
        "_status",
    )

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
        self._patience: Deadline | None = None

    @property
    def is_unexplained(self) -> bool:
        """Something is left, or may be, of an instance whose end nobody saw: a dead monitor's."""
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
        self._clear()

    def signal(self, signo: int) -> None:
        """Signal what is left, and who is found from now on: KILL is never followed by less."""
        if signo == Signals.SIGKILL:
            self._signo = int(signo)
        for pidfd in self._held.values():
            try:
                self._site.kernel.send_signal(pidfd, signo)
            except (ProcessLookupError, PermissionError):
                continue
        if signo == Signals.SIGKILL and self._held and self._patience is None:
            self._patience = self._site.loop.after(_KILL_PATIENCE_S, self._give_up)

    def pack(self) -> dict[str, Any]:
        """What the next image of the monitor must know. It finds the leftovers themselves again."""
        return {"ended": plain(self._ended), "status": plain(self._status), "signo": self._signo}

    def restore(self, packed: dict[str, Any]) -> None:
        """Know what the image before knew; :meth:`resume` goes on."""
        self._ended, self._signo = packing.unpack_spawned(packed["ended"]), packed["signo"]
        self._status = packing.unpack_status(packed["status"])

    def resume(self) -> None:
        """Go on after a takeover."""
        if self._ended:
            self._clear()

    def _clear(self) -> None:
        assert self._ended is not None
        kernel, site = self._site.kernel, self._site
        found = kernel.leftovers(self._service, self._ended, site.bell_path, site.loop.children)
        told = [left.pid for left in found if left.pid not in self._held and self._hold(left)]
        if told:
            site.journal.record("leftovers", self._service, pids=told, signal=signal_name(self._signo))
            self.signal(self._signo)
        if not self._held:
            self._gone()

    def _hold(self, left: ProcessId) -> bool:
        pidfd = self._site.kernel.pidfd_of(left)
        if pidfd is None:
            return False  # it has ended this instant
        self._held[left.pid] = pidfd
        self._site.loop.watch(pidfd, lambda _: self._left_ended(left.pid))
        return True

    def _left_ended(self, pid: int) -> None:
        self._drop(pid)
        if not self._held:
            self._clear()  # it may have forked

    def _drop(self, pid: int) -> None:
        pidfd = self._held.pop(pid)
        self._site.loop.forget(pidfd)
        self._site.kernel.close(pidfd)

    def _give_up(self) -> None:
        """Not even KILL ends what hangs in the kernel; the next instance need not wait for it."""
        why = "KILL does not end them"
        self._site.journal.record("leftovers-remain", self._service, pids=list(self._held), why=why)
        self._gone()

    def _gone(self) -> None:
        for pid in tuple(self._held):
            self._drop(pid)
        if self._patience:
            self._patience.cancel()
            self._patience = None
        status, self._ended, self._status = self._status, None, None
        self._on_gone(status)
