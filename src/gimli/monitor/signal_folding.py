"""Which of many signals get a line of their own?

Pure. The first of a kind is told at once. Those that follow within a second are counted, and told in one line
when the second is over or something else happens: 10,000 HUPs are two lines a second, and no HUP is lost.

    HUP sh(4121)   HUP sh(4122)   HUP sh(4123)        1 s
    told           counted        counted             told: repeats 2, within 3 ms of the first
"""

from __future__ import annotations

from gimli.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Kind = tuple[object, ...]

WINDOW_NS = 1_000_000_000
_KINDS_MAX = 8


@value
class Line:
    """One line for the journal."""

    signal: str
    sender: dict[str, Any]
    repeats: int
    """How many signals this line stands for. Those of earlier lines are not among them."""
    first_ns: int
    """When the first of the row was told."""
    last_ns: int

    @property
    def is_first(self) -> bool:
        """It is the one told at once."""
        return self.last_ns == self.first_ns and self.repeats == 1


def kind_of(signal: str, sender: dict[str, Any]) -> Kind:
    """What repeats have in common. Not the pid: logrotate starts a new shell for each log."""
    parent = sender.get("parent") or {}
    return (signal, sender.get("uid"), sender.get("comm"), parent.get("pid"), parent.get("comm"))


class Folding:
    """The rows that are being counted. Nothing to keep over a takeover once it is flushed."""

    def __init__(self) -> None:
        self._rows: dict[Kind, Line] = {}

    def add(self, signal: str, sender: dict[str, Any], at_ns: int) -> list[Line]:
        """One signal.

        Returns:
            The lines to write now, in their order.
        """
        kind = kind_of(signal, sender)
        told = self.expire(at_ns)
        if row := self._rows.get(kind):
            self._rows[kind] = replace(row, sender=sender, repeats=row.repeats + 1, last_ns=at_ns)
            return told
        if len(self._rows) == _KINDS_MAX:
            told += _counted([self._rows.pop(next(iter(self._rows)))])
        self._rows[kind] = Line(signal, sender, 0, at_ns, at_ns)
        return [*told, Line(signal, sender, 1, at_ns, at_ns)]

    def expire(self, now_ns: int) -> list[Line]:
        """End the rows whose second is over; the lines to write."""
        over = [kind for kind, row in self._rows.items() if now_ns >= row.first_ns + WINDOW_NS]
        return _counted([self._rows.pop(kind) for kind in over])

    def flush(self) -> list[Line]:
        """Something else happens: end all rows; the lines to write."""
        rows = list(self._rows.values())
        self._rows.clear()
        return _counted(rows)

    @property
    def due_ns(self) -> int | None:
        """When the next line is due: None when nothing has been counted that is not told."""
        return min((row.first_ns + WINDOW_NS for row in self._rows.values() if row.repeats), default=None)


def _counted(rows: list[Line]) -> list[Line]:
    return [row for row in rows if row.repeats]
