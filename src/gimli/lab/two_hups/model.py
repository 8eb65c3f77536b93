"""What can be switched in incident 1, what takes how long, and what came of it?

The figures of ``Timing`` were measured, not guessed: ``gimli lab run two-hups --real --json`` measures them
anew on the machine it runs on and shows them under ``metrics.measured``. How fast gzip is follows from the
gap with a full error log, in ``gimli lab explain two-hups --real``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import pairwise


class Takeover(Enum):
    """How a monitor makes a fresh copy of itself."""

    NEW_PROCESS = "by a new process"
    IN_PLACE = "in place"


class Term(Enum):
    """What a monitor does with a TERM from another monitor."""

    ANSWERED = "answered with TERM"
    HONOURED = "honoured"


class Empty(Enum):
    """What logrotate does with an empty log: ``ifempty`` is its default."""

    ROTATED = "ifempty"
    PASSED_OVER = "notifempty"


class Script(Enum):
    """How often the postrotate script of a stanza runs."""

    ONCE_PER_LOG = "nosharedscripts"
    ONCE = "sharedscripts"


@dataclass(frozen=True, slots=True)
class Setup:
    """One stanza and one monitor.

    Args:
        log_bytes: sizes of the stanza's logs, in the order in which logrotate takes them.
    """

    takeover: Takeover = Takeover.NEW_PROCESS
    script: Script = Script.ONCE_PER_LOG
    empty: Empty = Empty.ROTATED
    compress: bool = True
    term: Term = Term.ANSWERED
    log_bytes: tuple[int, ...] = (0, 1_000_000)

    @property
    def rotated_bytes(self) -> tuple[int, ...]:
        """The logs that are rotated at all."""
        if self.empty is Empty.ROTATED:
            return self.log_bytes
        return tuple(size for size in self.log_bytes if size)


FULL_LOG_BYTES = 30_000_000
"""An error log with content, as it was before the errors had been fixed."""


@dataclass(frozen=True, slots=True)
class Span:
    """A time that varies: half of the measured ones are below ``median_s``, nine of ten below ``p90_s``."""

    median_s: float
    p90_s: float


@dataclass(frozen=True, slots=True)
class Timing:
    """What takes how long: of 21 rotations on two cores of a virtual Xeon (docs/lab/two-hups.md).

    Args:
        rotate: from one HUP to the next when there is nothing to compress: rename, gzip's start, a shell.
        takeover: from HUP until the new image holds the pidfile: fork, execve, the interpreter's start.
        answer: from a TERM sent to the TERM sent back.
        claim_s: between reading the pidfile and having written it.
        gzip_bytes_per_s: of log lines.
        line_bytes: what one answered TERM adds to the log.
    """

    rotate: Span = Span(0.0078, 0.0149)
    takeover: Span = Span(0.030, 0.0396)
    answer: Span = Span(0.00007, 0.00012)
    claim_s: float = 0.0001
    gzip_bytes_per_s: float = 30e6
    line_bytes: int = 59


@dataclass(frozen=True, slots=True)
class Hup:
    """One HUP: when, and from whom. A simulated one has no pids."""

    t_ms: float
    sender: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one rotation.

    Args:
        hups: as the monitor received them.
        monitors_after: alive when all takeovers had ended; one is right.
        is_endless: they send each other TERM without end.
        log_bytes: what the monitors wrote while they were watched.
        log_bytes_per_s: how fast their log grows at the end.
        watched_s: how long they were watched.
        takeovers: how many were completed.
        takeover_ms: how long each took.
        is_term_honoured: the operator's TERM, sent afterwards, ended all monitors.
        is_service_kept: the service had the same pid afterwards.
        is_service_watched: killed, it was started again.
    """

    hups: tuple[Hup, ...]
    monitors_after: int
    monitors_most: int
    is_endless: bool
    log_bytes: int
    log_bytes_per_s: float
    watched_s: float
    takeovers: int
    takeover_ms: tuple[float, ...]
    is_term_honoured: bool
    is_service_kept: bool
    is_service_watched: bool

    @property
    def is_right(self) -> bool:
        """One monitor, which ends when told to and watches its service."""
        return self.monitors_after == 1 and self.is_term_honoured and self.is_service_watched

    @property
    def gaps_ms(self) -> tuple[float, ...]:
        """Between each HUP and the next."""
        return tuple(later.t_ms - earlier.t_ms for earlier, later in pairwise(self.hups))
