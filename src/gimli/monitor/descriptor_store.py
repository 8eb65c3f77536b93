"""Which descriptors does a service leave with the monitor, for its next instance?

The FDSTORE of sd_notify: a program hands over a listening socket or a memfd, dies, and the next one finds
it as descriptor 3 and following, named in LISTEN_FDNAMES. Bounded, and emptied when the service is down for
good.
"""

from __future__ import annotations

import fcntl
import os
import select

from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gimli.loop import Loop

STORED_MAX = 64
"""Descriptors that one service may leave."""
_HANG_UP = 0
"""Watch for nothing: epoll tells of EPOLLHUP and EPOLLERR all the same."""


@value
class Stored:
    """One descriptor."""

    name: str
    fd: int
    polled: bool


class DescriptorStore:
    """The descriptors of one service, in the order they came."""

    __slots__ = ("_loop", "_stored")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._stored: list[Stored] = []

    def held(self) -> tuple[Stored, ...]:
        """What is there now, without what has hung up since the loop last went round."""
        poll = select.poll()
        for stored in self._stored:
            if stored.polled:
                poll.register(stored.fd, 0)
        gone = {fd for fd, _ in poll.poll(0)}
        for stored in tuple(self._stored):
            if stored.fd in gone:
                self._drop(stored)
        return tuple(self._stored)

    def keep(self, fds: list[int], name: str, *, polled: bool) -> int:
        """Take descriptors out of ``fds``, as many as there is room for.

        One that is there already under this name is closed and not kept twice, as in systemd: a program sends
        the same socket again whenever it starts.

        Returns:
            How many were left in ``fds`` for want of room.
        """
        while fds:
            if self._has(name, fds[0]):
                os.close(fds.pop(0))
            elif len(self._stored) < STORED_MAX:
                self._add(Stored(name, fds.pop(0), polled))
            else:
                break
        return len(fds)

    def remove(self, name: str) -> None:
        """Close those of that name."""
        for stored in tuple(self._stored):
            if stored.name == name:
                self._drop(stored)

    def clear(self) -> None:
        """Close all."""
        for stored in tuple(self._stored):
            self._drop(stored)

    def pack(self) -> list[list[Any]]:
        """The store as plain data; its descriptors must be inherited under their numbers."""
        return [[stored.name, stored.fd, stored.polled] for stored in self._stored]

    def restore(self, packed: list[list[Any]]) -> None:
        """The inverse of :meth:`pack`, in a process that has inherited them."""
        for name, fd, polled in packed:
            os.set_inheritable(fd, False)
            self._add(Stored(name, fd, polled))

    def _has(self, name: str, fd: int) -> bool:
        return any(stored.name == name and _is_same(fd, stored.fd) for stored in self._stored)

    def _add(self, stored: Stored) -> None:
        self._stored.append(stored)
        if stored.polled:
            try:
                self._loop.watch(stored.fd, lambda _: self._drop(stored), _HANG_UP)
            except PermissionError:
                return  # a plain file or a memfd: its other end cannot go away

    def _drop(self, stored: Stored) -> None:
        self._loop.forget(stored.fd)
        self._stored.remove(stored)
        os.close(stored.fd)


def _is_same(fd: int, other: int) -> bool:
    """Whether two descriptors are one open file. The two ends of a pipe share all but their direction."""
    if not os.path.samestat(os.fstat(fd), os.fstat(other)):
        return False
    return fcntl.fcntl(fd, fcntl.F_GETFL) == fcntl.fcntl(other, fcntl.F_GETFL)
