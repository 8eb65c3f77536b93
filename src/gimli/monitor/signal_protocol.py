"""Has a program asked for its snapshot by signals, as the original's library does?

It sends USR2 to the monitor, then STOP to itself; the monitor may see the two in either order. A program of
another user may not send us its USR2: there the handler that it is in tells (``original_library``).
"""

from __future__ import annotations

from gimli.monitor.original_library import is_in_fault_handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.monitor.kernel import Kernel
    from gimli.monitor.spawned import Spawned


class SignalProtocol:
    """What the present instance of a service has said by signals.

    Args:
        kernel: tells whether it has stopped.
        is_foreign: it runs as another user.
    """

    __slots__ = ("_is_foreign", "_kernel", "is_asked")

    def __init__(self, kernel: Kernel, *, is_foreign: bool) -> None:
        self._kernel = kernel
        self._is_foreign = is_foreign
        self.is_asked = False
        """USR2 has come, and its STOP has not been seen."""

    @property
    def is_awaited(self) -> bool:
        """It may be about to stop for its snapshot."""
        return self.is_asked or self._is_foreign

    def is_complete(self, spawned: Spawned | None) -> bool:
        """Whether it stands still now and waits for its snapshot; once for each stop."""
        if not self.is_awaited or not spawned or spawned.exec_fd >= 0:
            return (
                False  # a monitor that was late hears of its signal first: once more when its exec is known
            )
        if not self._kernel.is_stopped_child(spawned.pidfd):
            return False
        if not (self.is_asked or is_in_fault_handler(spawned.pid)):
            return False
        self.is_asked = False
        return True
