"""What is known of a death by signal, and is it worth a report?

Pure. The journal tells every death with its sender; a report is made of those that nobody here ordered.
"""

from __future__ import annotations

from gimli.process import Signals
from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_APART_NS = 10_000_000_000
_AT_ONCE_MAX = 4
_OWED_NS = 60_000_000_000
"""Older ones were not wanted (``Records``): a report waits for those before it, and not longer than that."""


@value
class Death:
    """What is known of a death by signal, beside the signal."""

    sender: dict[str, Any] | None = None
    """None: not known, or a fault of the program's own."""
    code: int | None = None
    """The signal's si_code."""
    oom: bool = False
    """The kernel's OOM killer chose it."""
    anon_rss_bytes: int | None = None
    """What it held then."""


UNKNOWN = Death()


def journal_details(death: Death, *, ordered: bool) -> dict[str, Any]:
    """What the ``exited`` event says of it; ``ordered`` when the signal was this monitor's own."""
    details: dict[str, Any] = {"sender": death.sender}
    if ordered:
        details["ordered"] = True
    if death.oom:
        details |= {"oom": True, "anon_rss_bytes": death.anon_rss_bytes}
    return details


def parse_details(entry: Mapping[str, Any]) -> Death:
    """The inverse, of an ``exited`` event as it stands in the journal."""
    sender, size = entry.get("sender"), entry.get("anon_rss_bytes")
    return Death(
        sender=sender if isinstance(sender, dict) else None,
        oom=bool(entry.get("oom")),
        anon_rss_bytes=size if isinstance(size, int) else None,
    )


def find_unreported(entries: Sequence[Mapping[str, Any]], now_ns: int) -> list[Mapping[str, Any]]:
    """The ``exited`` events whose report was never begun, since the monitor was killed before.

    Args:
        entries: the end of its journal.
        now_ns: entries that are later than that are of another boot.
    """
    owed: list[Mapping[str, Any]] = []
    for entry in entries:
        at_ns, service = entry.get("monotonic_ns"), entry.get("service")
        if not isinstance(at_ns, int) or not isinstance(service, str) or at_ns > now_ns:
            continue
        names_a_death = isinstance(entry.get("signo"), int) and isinstance(entry.get("pid"), int)
        if entry["event"] == "exited" and entry.get("unreported") and names_a_death:
            owed.append(entry)
        elif entry["event"] == "snapshot" and entry.get("pid") == 0:
            begun = next((each for each in owed if each["service"] == service), None)
            owed = [each for each in owed if each is not begun]
    latest_ns = max((each["monotonic_ns"] for each in owed), default=0)
    return [each for each in owed if latest_ns - each["monotonic_ns"] < _OWED_NS]


class Records:
    """Which deaths of a monitor's services get a report?

    Every fault. Of the KILLs from outside one per service in ten seconds, and four of all: who kills a
    thousand services at once must not start two thousand helpers. The journal has them all.
    """

    def __init__(self) -> None:
        self._last_ns: dict[str, int] = {}

    def wants(self, service: str, signo: int, now_ns: int) -> bool:
        """Whether this death gets one; it counts as made."""
        if signo != Signals.SIGKILL:
            return True
        self._last_ns = {name: at for name, at in self._last_ns.items() if now_ns - at < _APART_NS}
        if service in self._last_ns or len(self._last_ns) == _AT_ONCE_MAX:
            return False
        self._last_ns[service] = now_ns
        return True
