"""How does a signal reach the processes of a service?

The main process gets it, and its group where the whole service is meant; when there is none any more, what it
has left behind. The journal says which signals were sent, and why.
"""

from __future__ import annotations

from gimli.process import Signals, signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.monitor.aftermath import Aftermath
    from gimli.monitor.autopsy import Autopsy
    from gimli.monitor.instance import Instance
    from gimli.monitor.kernel import Kernel


class Signaller:
    """Sends signals to one service.

    Args:
        kernel: knows who is stopped.
        tell: writes an event of this service to the journal.
        instance: its main process.
        aftermath: what that has left behind.
        autopsy: is to know which signals were this monitor's own.
    """

    __slots__ = ("_aftermath", "_autopsy", "_instance", "_kernel", "_tell")

    def __init__(
        self,
        kernel: Kernel,
        tell: Callable[..., None],
        instance: Instance,
        aftermath: Aftermath,
        autopsy: Autopsy,
    ) -> None:
        self._kernel = kernel
        self._tell = tell
        self._instance = instance
        self._aftermath = aftermath
        self._autopsy = autopsy

    def send(self, signo: int, because: str, *, group: bool = False) -> None:
        """Send it, and say so."""
        self._tell("sent", signal=signal_name(signo), pid=self._instance.pid, because=because)
        self.send_silently(signo, group=group)

    def send_silently(self, signo: int, *, group: bool = False) -> None:
        """Send it."""
        if self._instance.pid is None:
            self._aftermath.signal(signo)
            return
        self._autopsy.ordered(signo)
        try:
            self._instance.signal(signo, group=group)
        except PermissionError:
            why = "it runs as another user"
            self._tell("not-sent", signal=signal_name(signo), pid=self._instance.pid, why=why)

    def wake(self, *, was_stopped: bool) -> None:
        """A program that SIGSTOP holds could not act on a signal that asks it to end.

        Args:
            was_stopped: it was when last looked at; after a snapshot it may not have got back into that yet.
        """
        pid = self._instance.pid
        if pid is not None and (was_stopped or self._kernel.state_of(pid) == "T"):
            self.send(Signals.SIGCONT, "it was stopped, and has to act")
