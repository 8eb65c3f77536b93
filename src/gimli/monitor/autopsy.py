"""What did an instance die of, and by whose hand?

One per service: it remembers which signals this monitor has sent itself, asks who sent the others
(``senders``), and says what the journal and the report say of a death.
"""

from __future__ import annotations

from gimli.monitor.deaths import UNKNOWN, Death, journal_details

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gimli.heartbeat import Crash
    from gimli.monitor.senders import Senders
    from gimli.process import ExitStatus


class Autopsy:
    """What is known of the death of one instance, from its start on.

    Args:
        senders: knows who sent a signal.
    """

    __slots__ = ("_ordered", "_senders", "_sent_crashes", "death")

    def __init__(self, senders: Senders) -> None:
        self._senders = senders
        self.forget()

    def forget(self) -> None:
        """A new instance starts."""
        self.death = UNKNOWN
        self._sent_crashes: tuple[tuple[int, Death], ...] = ()
        self._ordered: tuple[int, ...] = ()

    def ordered(self, signo: int) -> None:
        """This monitor sends the signal itself."""
        if signo not in self._ordered:
            self._ordered += (int(signo),)

    def is_ordered(self, signo: int | None) -> bool:
        """This monitor has sent that signal itself."""
        return signo in self._ordered

    def of_crash(self, pid: int, crash: Crash | None, started_ns: int) -> Death | None:
        """Who sent the signal of a crash; None for a program's own fault.

        It is asked now: who sent it may be gone when the program has died.
        """
        if crash is None or crash.code > 0:
            return None
        sent = self._senders.of_death(pid, crash.signo, started_ns=started_ns)
        self._sent_crashes += ((crash.signo, sent),)
        return sent

    def examine(self, pid: int, status: ExitStatus, started_ns: int) -> None:
        """The instance has ended."""
        if status.signo is not None:
            found = self._senders.of_death(pid, status.signo, started_ns=started_ns)
            # A crash handler dies by sending the signal to itself: who sent the first one is what counts.
            self.death = found if found.sender else dict(self._sent_crashes).get(status.signo, found)

    def journal_details(self, signo: int) -> dict[str, Any]:
        """What the ``exited`` event says of it."""
        return journal_details(self.death, ordered=self.is_ordered(signo))

    def pack(self) -> list[int]:
        """What the next image of the monitor must know: the signals that were sent."""
        return sorted(self._ordered)

    def restore(self, packed: list[int]) -> None:
        """Know what the image before has sent."""
        self._ordered = tuple(packed)
