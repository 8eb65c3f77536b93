"""What is an explanation before it is a finding?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gimli.report import Finding


@dataclass(frozen=True, slots=True)
class Cause:
    """A finding, whom it points at, and how it is told and grouped when it comes first."""

    finding: Finding
    tids: tuple[int, ...] = ()
    """The threads at fault."""
    summary: str = ""
    """For tables: ``deadlock ledger/index``."""
    key: tuple[str, ...] = ()
    """What reports of this cause have in common: functions and names, no lines, addresses or values."""
