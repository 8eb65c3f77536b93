"""The journal in memory: the same interface as ``gimli.journal.Journal``. It outlives the monitor."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulation.computer import Computer, MonitorProcess


_REMEMBERED = 300


class VirtualJournal:
    """One list for all monitors of a story."""

    path = "journal"

    def __init__(self, computer: Computer, me: MonitorProcess) -> None:
        self.lost = 0
        self.subscribers: list[Callable[[dict[str, Any]], None]] = []
        self._computer = computer
        self._me = me
        self._recent: deque[dict[str, Any]] = deque(maxlen=5)

    def record(self, event: str, service: str | None = None, **details: Any) -> dict[str, Any]:
        """Write one event; a full disk loses it, and the next that can be written says so."""
        self._me.call()
        computer = self._computer
        entry = {"monotonic_ns": computer.world.now_ns, "service": service, "event": event, **details}
        computer.awake_ns.append(computer.world.now_ns - computer.world.jumped_ns)
        computer.world.say("journal:", service or "", event, details)
        computer.journal.append(entry)
        self._recent.append(entry)
        if computer.is_disk_full:
            self.lost += 1
            entry["is_lost"] = True
        elif self.lost:
            entry["lost_before"], self.lost = self.lost, 0
        for tell in tuple(self.subscribers):
            tell(entry)
        return entry

    def remember(self) -> list[dict[str, Any]]:
        """What has reached the disk."""
        self._me.call()
        return [entry for entry in self._computer.journal[-_REMEMBERED:] if not entry.get("is_lost")]

    def recent(self, _: str) -> list[dict[str, Any]]:
        """The last events."""
        return list(self._recent)

    def pack(self) -> dict[str, Any]:
        """For the next image."""
        return {"lost": self.lost}

    def restore(self, packed: dict[str, Any]) -> None:
        """Go on."""
        self.lost += packed["lost"]

    def reopen(self) -> None:
        """Somebody has renamed it."""
        self._me.call()
