"""Which of the machine's timers run for a service, and until when?

The machine arms and disarms them by name (``actions``). One of a name runs at a time.
"""

from __future__ import annotations

from gimli.clock import NANOSECONDS
from gimli.monitor.actions import Timer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.loop import Deadline, Loop


class Timers:
    """The timers of one service.

    Args:
        loop: where they run.
        on_expired: told which one has come.
    """

    # A dictionary of them would be 300 bytes in each of a thousand services.
    __slots__ = ("_loop", "_on_expired", *(timer.value for timer in Timer))

    def __init__(self, loop: Loop, on_expired: Callable[[Timer], None]) -> None:
        self._loop = loop
        self._on_expired = on_expired
        for timer in Timer:
            self._set(timer, None)

    def arm(self, timer: Timer, delay_s: float) -> None:
        """Let it come in ``delay_s``, whether it runs already or not."""
        self._arm_at(timer, self._loop.now_ns() + round(delay_s * NANOSECONDS))

    def extend(self, timer: Timer, delay_s: float) -> None:
        """Let it come in ``delay_s`` at the earliest, if it runs."""
        at_ns = self._loop.now_ns() + round(delay_s * NANOSECONDS)
        due_ns = self.due_ns(timer)
        if due_ns is not None and due_ns < at_ns:
            self._arm_at(timer, at_ns)

    def disarm(self, timer: Timer) -> None:
        """Let it not come."""
        if deadline := self._deadline(timer):
            deadline.cancel()
            self._set(timer, None)

    def due_ns(self, timer: Timer) -> int | None:
        """When it comes; None when it does not run."""
        deadline = self._deadline(timer)
        return deadline.at_ns if deadline else None

    def cancel(self) -> None:
        """Let none come any more."""
        for timer in Timer:
            self.disarm(timer)

    def pack(self) -> dict[str, int]:
        """What the next image of the monitor must know: when each comes."""
        return {timer.value: deadline.at_ns for timer in Timer if (deadline := self._deadline(timer))}

    def restore(self, packed: dict[str, int]) -> None:
        """Go on with those of the image before."""
        for name, at_ns in packed.items():
            self._arm_at(Timer(name), at_ns)

    def _arm_at(self, timer: Timer, at_ns: int) -> None:
        self.disarm(timer)
        self._set(timer, self._loop.at(at_ns, lambda: self._expired(timer)))

    def _expired(self, timer: Timer) -> None:
        self._set(timer, None)
        self._on_expired(timer)

    def _deadline(self, timer: Timer) -> Deadline | None:
        deadline: Deadline | None = getattr(self, timer.value)
        return deadline

    def _set(self, timer: Timer, deadline: Deadline | None) -> None:
        setattr(self, timer.value, deadline)
