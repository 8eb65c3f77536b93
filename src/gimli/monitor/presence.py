r"""Is everything by which others find this monitor still in its place?

Somebody may remove the runtime directory under a living monitor: ``rm -r``, a cleaner of old files, the end
of a login session. The monitor and its programs hold their files open and go on; but no command reaches it,
no bell rings, no start can be recorded, and a second monitor would find the place free. inotify tells at
once, and costs nothing while nothing happens.

    something is gone --> in a moment: the lock is taken again --> all that is missing is made again
                            \--> another monitor has it: that one has adopted the services, and this one
                                 leaves them to it
"""

from __future__ import annotations

import ctypes
import errno
import os

from gimli.errors import AlreadyRunning, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from gimli.journal import Journal
    from gimli.lock import InstanceLock
    from gimli.loop import Deadline, Loop

    class Part(Protocol):
        """Something that has a name in the runtime directory."""

        def is_in_place(self) -> bool:
            """It is there."""

        def renew(self) -> None:
            """Make it again."""


_ATTRIBUTES, _DELETED, _MOVED = 0x4, 0x400, 0x800  # IN_ATTRIB (a name less), IN_DELETE_SELF, IN_MOVE_SELF
_EVENTS_BYTES = 4096
_SETTLE_S = 0.1
"""Whoever removes one thing removes others, and would stumble over what is made again meanwhile."""
_RETRY_S = 2.0


class Presence:
    """Looks after the names of one monitor.

    Args:
        loop: the event loop.
        journal: is told.
        lock: of the instance.
        parts: what else has a name there, by its path.
        make_directory: makes the directory, where it is not there.
        on_renewed: called when all is in place again, for what the services have there.
    """

    def __init__(
        self,
        loop: Loop,
        journal: Journal,
        lock: InstanceLock,
        parts: Mapping[str, Part],
        make_directory: Callable[[], None],
        on_renewed: Callable[[], None],
    ) -> None:
        self.is_superseded = False
        """Another monitor holds the instance."""
        self._loop = loop
        self._journal = journal
        self._lock = lock
        self._parts = parts
        self._make_directory = make_directory
        self._on_renewed = on_renewed
        self._directory = os.path.dirname(lock.path)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        self._next_look: Deadline | None = None
        self._renewed: list[str] = []
        """What has been made again, and not been told yet."""
        self._is_lost = False
        """Something could not be made again, and the journal says so."""
        self._is_unwatched = False
        """Likewise."""
        self._look_in(0.0)  # the image before this one may have left a gap

    def close(self) -> None:
        """Look after them no more."""
        if self._next_look:
            self._next_look.cancel()
        self._unwatch()

    def _noticed(self, _: int) -> None:
        os.read(self._fd, _EVENTS_BYTES)
        self._look_in(_SETTLE_S)

    def _look_in(self, delay_s: float) -> None:
        if self._next_look is None and not self.is_superseded:
            self._next_look = self._loop.after(delay_s, self._look)

    def _look(self) -> None:
        self._next_look = None
        if not self._renew_lock():
            self._look_in(_RETRY_S)
            return
        # Without the lock anybody may have put something else under the other names.
        missing = [path for path, part in self._parts.items() if self._renewed or not part.is_in_place()]
        try:
            for path in missing:
                self._parts[path].renew()
            self._renewed += map(os.path.basename, missing)
            if self._renewed:
                self._on_renewed()
        except OSError as error:
            self._tell_lost(error)
            self._look_in(_RETRY_S)
            return
        if self._renewed:
            self._tell_renewed()
        self._watch()

    def _renew_lock(self) -> bool:
        """Whether this monitor holds its instance, and the name of its lock."""
        if self._lock.is_in_place():
            return True
        try:
            self._make_directory()
            self._lock.renew()
        except AlreadyRunning as error:
            self.is_superseded = True
            why = "the runtime directory was removed, and the services are adopted by another monitor"
            self._journal.record("monitor-superseded", pid=os.getpid(), what=error.why, why=why)
        except (OSError, StoreError) as error:
            self._tell_lost(error)
        else:
            self._renewed.append(os.path.basename(self._lock.path))
            return True
        return False

    def _tell_lost(self, error: OSError | StoreError) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        why = f"somebody has removed it, and it cannot be made again: {error}"
        fix = "the services go on, and it is tried again; until then no command reaches the monitor"
        self._journal.record("directory-lost", path=self._directory, why=why, fix=fix)

    def _tell_renewed(self) -> None:
        names, self._renewed, self._is_lost = self._renewed, [], False
        why = "somebody had removed them"
        self._journal.record("directory-renewed", path=self._directory, names=names, why=why)

    # The calls of inotify(7).

    def _watch(self) -> None:
        """Watch what is there now."""
        self._unwatch()
        self._fd = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            self._cannot_watch(ctypes.get_errno())
            return
        self._loop.watch(self._fd, self._noticed)
        for path in (self._directory, self._lock.path, *self._parts):
            events = _DELETED | _MOVED | (0 if path == self._directory else _ATTRIBUTES)
            if self._libc.inotify_add_watch(self._fd, os.fsencode(path), events) < 0:
                self._cannot_watch(ctypes.get_errno())

    def _cannot_watch(self, number: int) -> None:
        if number == errno.ENOENT:
            self._look_in(_SETTLE_S)  # it was removed this instant
        elif not self._is_unwatched:
            self._is_unwatched = True
            why = f"that somebody removes it will not be noticed: {os.strerror(number)}"
            self._journal.record("directory-unwatched", path=self._directory, why=why)

    def _unwatch(self) -> None:
        if self._fd >= 0:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = -1
