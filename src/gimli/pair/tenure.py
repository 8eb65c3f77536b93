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

_LATE_SHARE = 1 / 16
"""Of its length; a peer waits for a quarter of it longer than the lease holds."""
_TRIES = 3


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

    @property
    def has_time(self) -> bool:
        """Whether the peer waits yet, by what it has heard of us."""
        return self._sent_s + self._length_s > self._now_s()

    def begin(self, since_s: float) -> None:
        """Lift the fence; an advertisement is to follow.

        Args:
            since_s: when that was decided. What another node has heard and done since is not known: the lease
                counts from then.

        Raises:
            LeaseLapsed: that is too long ago.
            GuardRefused: the guard is not in place.
        """
        self._sent_s = since_s
        self._leases.acquire((self._lease,), self._left_s())

    def keep(self) -> None:
        """Hold the fence open until the time that the last advertisement allows, and no longer.

        Raises:
            LeaseLapsed: it is MASTER no more.
            GuardRefused: the guard is not in place.
        """
        for _ in range(_TRIES):
            left_s = self._left_s()
            self._set(left_s)
            try:
                late_s = left_s - self._left_s()
            except LeaseLapsed:
                self.end()
                raise
            if late_s <= self._length_s * _LATE_SHARE:
                return
            # We stood still, and the kernel has counted from later than we have.
        raise LeaseLapsed("the lease cannot be held: the kernel takes too long")

    def advertise(self, send: Callable[[], list[OSError | None]]) -> list[OSError | None]:
        """Advertise under the lease, and prolong it when that went out by one path at least.

        Returns:
            For each path why it did not.

        Raises:
            LeaseLapsed: it is MASTER no more.
            GuardRefused: the guard is not in place.
        """
        self.keep()
        before_s = self._now_s()
        errors = send()
        if not all(errors):
            self._sent_s = before_s
            self.keep()
        return errors

    def end(self) -> None:
        """Let the fence down.

        Raises:
            GuardRefused: the guard is not in place; then there is no fence to let down.
        """
        self._leases.release((self._lease,))

    def _set(self, left_s: float) -> None:
        try:
            self._leases.renew((self._lease,), left_s)
        except LeaseLapsed:
            # If not by our own clock, somebody has emptied the set, as a firewall does that is reloaded.
            self._leases.acquire((self._lease,), self._left_s())

    def _left_s(self) -> float:
        left_s = self._sent_s + self._length_s - self._now_s()
        if left_s < JIFFY_S_MAX:  # some kernels take less than a jiffy for ever
            raise LeaseLapsed("the lease has lapsed")
        return left_s
