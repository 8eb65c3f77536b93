"""What time is it, in the units this project uses?

Deadlines are on CLOCK_MONOTONIC in nanoseconds, as in the heartbeat page; people read RFC 3339.
"""

from __future__ import annotations

import re
import time

from gimli.errors import UsageError

NANOSECONDS = 1_000_000_000

monotonic_ns = time.monotonic_ns


def rfc3339(wall_s: float) -> str:
    """Local time with microseconds and offset, as ``2026-11-22T04:00:07.412345+01:00``."""
    # Whole microseconds first: rounding the fraction alone may carry into the next second.
    seconds, microseconds = divmod(round(wall_s * 1_000_000), 1_000_000)
    broken = time.localtime(seconds)
    sign = "-" if broken.tm_gmtoff < 0 else "+"
    hours, rest = divmod(abs(broken.tm_gmtoff), 3600)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", broken)
    return f"{stamp}.{microseconds:06d}{sign}{hours:02d}:{rest // 60:02d}"


def now_rfc3339() -> str:
    """The wall clock now, as :func:`rfc3339`."""
    return rfc3339(time.time())


_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_MAX_S = 10 * 365 * 86400.0


def parse_duration(text: str, where: str) -> float:
    """Seconds of a duration such as ``250ms``, ``30s``, ``1h`` or ``1m30s``; always more than 0.

    Args:
        text: what somebody wrote.
        where: the option or key it stands at, for the error.

    Raises:
        UsageError: it is not a duration, or not more than 0.
    """
    parts = _DURATION_PART.findall(text.strip())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        raise UsageError(
            f'"{text}" is not a duration ({where})',
            fix="a duration is a number with a unit: 250ms, 30s, 2m, 1h, or several: 1m30s",
        )
    seconds: float = sum(float(number) * _UNIT_S[unit] for number, unit in parts)
    if not 0 < seconds <= _DURATION_MAX_S:
        raise UsageError(
            f'"{text}" is not a possible duration here ({where})',
            why="it must be more than 0 and at most 10 years",
            fix="to run without a watchdog, use a program that does not beat, or allow it long: 1h",
        )
    return seconds


def format_duration(seconds: float) -> str:
    """A duration for people, two units at most: ``41 ms``, ``0.4 s``, ``3 h 12 min``, ``5 days``."""
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if seconds < 0.1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s} s" if rest_s else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} days"
