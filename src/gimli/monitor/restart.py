"""Is a program that ended started again, and when? Pure."""

from __future__ import annotations

from gimli.monitor.config import Backoff, Restart
from gimli.process import CRASH_SIGNALS, Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.process import ExitStatus

FAULT_SIGNALS = CRASH_SIGNALS | {Signals.SIGKILL}
"""Deaths that restart under ``on-fault``: the original's list, and SIGSYS."""


def is_wanted_again(policy: Restart, status: ExitStatus, *, hung: bool) -> bool:
    """Whether this end of a program leads to a new start.

    Args:
        policy: the service's restart policy.
        status: how the program ended.
        hung: it was ended by the watchdog: a fault, however it died.

    Source: the original's monitor, which respawns after SEGV, ABRT, BUS, ILL, FPE and KILL
    (facts of its behaviour: docs/decisions/0003-restart-policies.md).
    """
    match policy:
        case Restart.ALWAYS:
            return True
        case Restart.ON_FAULT:
            # An end that nobody saw may have been a fault; one start too many is the smaller harm.
            return hung or status.signo in FAULT_SIGNALS or not status.is_known
        case Restart.NEVER:
            return False


def delay_before(backoff: Backoff, failures: int) -> float:
    """Seconds to wait before the next start.

    Args:
        backoff: the service's limits.
        failures: ends in a row without a healthy spell, this one included; at least 1.

    Returns:
        0 after the first, then ``first_s`` doubled each time, at most ``limit_s``.
    """
    if failures <= 1:
        return 0.0
    # The exponent is bounded first: 2.0 ** 5000 is an OverflowError.
    return float(min(backoff.limit_s, backoff.first_s * 2.0 ** min(failures - 2, 64)))


def is_exhausted(backoff: Backoff, failures: int) -> bool:
    """Whether ``failures`` in a row are more than the service may have."""
    return backoff.attempts > 0 and failures >= backoff.attempts
