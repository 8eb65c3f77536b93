"""Which report was meant by somebody who named none?

Ids are for reading out over the telephone, and people type what they have: a service, a pid, the first
half. Each answer ends with the command that was meant.
"""

from __future__ import annotations

import os

from gimli.errors import UnknownReport
from gimli.store.incoming import REPORTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from gimli.store.index import Entry

_GUESSES_MAX = 5


def as_id(text: str) -> str:
    """Crockford's reading: case does not matter, I and L are 1, O is 0."""
    return text.upper().translate(str.maketrans("ILO", "110"))


def no_reports(state_dir: str, service: str | None) -> UnknownReport:
    """Nothing to choose from."""
    of_whom = f" of {service}" if service else ""
    return UnknownReport(
        f"there is no report{of_whom} yet",
        why=f"{os.path.join(state_dir, REPORTS)} has none{of_whom}",
        fix="they are made when a service crashes or hangs; to make one now: gimli snapshot SERVICE",
    )


def ambiguous(text: str, found: list[str]) -> UnknownReport:
    """Several ids begin with it."""
    shown = ", ".join(found[-_GUESSES_MAX:])
    return UnknownReport(
        f"{text!r} begins {len(found)} ids",
        why=f"{'the latest are ' if len(found) > _GUESSES_MAX else ''}{shown}",
        fix=f"say more of it, as in: gimli show {found[-1]}",
    )


def unknown(text: str, entries: Sequence[Entry], state_dir: str) -> UnknownReport:
    """Guess the slip: a service or a pid where an id belongs."""
    if not entries:
        return no_reports(state_dir, None)
    if text in {entry.service for entry in entries}:
        return UnknownReport(
            f"no report has the id {text!r}", why="it is a service", fix=f"run: gimli show latest {text}"
        )
    of_pid = [entry for entry in entries if str(entry.pid) == text]
    if of_pid:
        return UnknownReport(
            f"no report has the id {text!r}",
            why=f"it is the pid of which report {of_pid[-1].id} tells",
            fix=f"run: gimli show {of_pid[-1].id}",
        )
    if text.isdecimal():
        return UnknownReport(
            f"no report has the id {text!r}",
            why="it looks like a pid, and there is no report of it",
            fix=f"to take a snapshot of a process: gimli snapshot --pid {text}",
        )
    return UnknownReport(
        f"no report has the id {text!r}",
        why=f"there are {len(entries)}, the latest is {entries[-1].id}",
        fix="run: gimli reports, or: gimli show latest",
    )
