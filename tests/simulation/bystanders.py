"""Parts of the monitor that the simulation does not exercise: each does the least that its user relies on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gimli.monitor import events
from gimli.monitor.deaths import Death
from simulation.files import File

if TYPE_CHECKING:
    from gimli.monitor.watchdog import Late
    from gimli.signals import Received
    from simulation.computer import MonitorProcess
    from simulation.journal import VirtualJournal


class NoPatience:
    """Every silence is a hang: no debugger, no starvation."""

    debugger = None
    look_by_ns = None
    was_stopped = False

    def __init__(self) -> None:
        self.graces: dict[str, Any] = {}

    def look(self, *_: Any, **__: Any) -> bool:
        """Nobody has let go of anything."""
        return False

    def judge(self, late: Late, *_: Any, **__: Any) -> events.HeartbeatLate:
        """A hang."""
        return events.HeartbeatLate(
            late.pulse, late.tid, late.silent_ns / 1e9, late.allowed_ns / 1e9, late.late_ns / 1e6
        )

    def defers_kill(self, _: int) -> float:
        """Never."""
        return 0.0

    def debugger_now(self, _: int) -> None:
        """None."""

    def because(self, _: Any) -> str:
        """Nothing."""
        return ""

    def is_starved(self, _: Any) -> bool:
        """Never."""
        return False

    def forget(self) -> None:
        """Nothing to forget."""

    def pack(self) -> dict[str, Any]:
        """Nothing to hand on."""
        return {}


class NoSenders:
    """Nobody knows who sent a signal."""

    def start(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Nothing to close."""

    def of_death(self, *_: Any, **__: Any) -> Death:
        """Unknown."""
        return Death()

    def pack(self) -> dict[str, Any]:
        """Nothing to hand on."""
        return {}

    def resume(self, _: dict[str, Any]) -> None:
        """Nothing to go on with."""


class SignalLog:
    """Signals are told one by one."""

    def __init__(self, journal: VirtualJournal) -> None:
        self._journal = journal

    def tell(self, received: Received) -> None:
        """One."""
        self._journal.record("signal", signal=received.signo, sender={"pid": received.pid})

    def flush(self) -> None:
        """Nothing is held back."""


class NoNotify:
    """The socket of sd_notify, which nobody writes to."""

    path = "notify"

    def __init__(self, me: MonitorProcess, fd: int | None) -> None:
        self._fd = me.open(File(me.computer.hot)) if fd is None else fd

    def fileno(self) -> int:
        """Its descriptor."""
        return self._fd

    def drain(self) -> None:
        """Nothing is there."""
