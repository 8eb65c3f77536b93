"""For how long may this host answer for a vhid?

Never for longer than ``length_s`` after its last advertisement that went out: its peer, which waits for
longer than that, takes over then. So the lease in the kernel is proved before a frame is sent, for no longer
than was left of it, and prolonged behind it. A daemon that stands still between any two of these calls holds
nothing that its peer could have taken meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gimli.pair.guard import JIFFY_S_MAX
from gimli.pair.lease import LeaseLapsed

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.pair.guard import Lease
    from gimli.pair.lease import Leases


class Tenure:
    """The lease of one vhid on this host.

    Args:
        lease: its part of the fence.
        length_s: how long the fence stays open after an advertisement.
        leases: by which the fence is moved.
        now_s: the time.
    """

    def __init__(self, lease: Lease, length_s: float, leases: Leases, now_s: Callable[[], float]) -> None:
        self._lease = lease
        self._length_s = length_s
        self._leases = leases
        self._now_s = now_s
        self._sent_s = 0.0

    @property
    def silent_s(self) -> float:
        """How long ago the last advertisement went out."""
        return self._now_s() - self._sent_s

    def begin(self) -> None:
        """Lift the fence; an advertisement is to follow.

        Raises:
            GuardRefused: the guard is not in place.
        """
        self._sent_s = self._now_s()
        self._leases.acquire((self._lease,), self._length_s)

    def prove(self) -> None:
        """Make sure that the fence is open, and leave it so for as long as it was.

        Raises:
            LeaseLapsed: it had come down.
            GuardRefused: the kernel does not answer.
        """
        self._renew()

    def prolong(self) -> None:
        """An advertisement has gone out: hold the fence open from now on.

        Raises:
            LeaseLapsed: it had come down.
            GuardRefused: the kernel does not answer.
        """
        self._sent_s = self._now_s()
        self._renew()

    def end(self) -> None:
        """Let the fence down.

        Raises:
            GuardRefused: the guard is not in place; then there is no fence to let down.
        """
        self._leases.release((self._lease,))

    def _renew(self) -> None:
        left_s = self._sent_s + self._length_s - self._now_s()
        if left_s < JIFFY_S_MAX:  # some kernels take less than a jiffy for ever
            raise LeaseLapsed("the lease has lapsed")
        self._leases.renew((self._lease,), left_s)
