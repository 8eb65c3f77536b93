"""What does one rotation do to a monitor? Pure: the same setup and the same draws give the same outcome.

    logrotate: rotate log 1 -> HUP -> compress log 1 -> rotate log 2 -> HUP -> compress log 2
    monitor:                   |------- takeover -------|     a second HUP in here makes a second copy

The rules of the naive monitor are those of ``naive_monitor.py``, told here in events on virtual time; those
of the takeover in place are gimli's: one process, HUPs that wait are one wish.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

from gimli.lab.scenario import Moment
from gimli.lab.two_hups.model import Hup, Outcome, Script, Setup, Span, Takeover, Term, Timing

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

_P90 = 1.2816
"""Of the normal distribution, in standard deviations."""
_WATCHED_S = 10.0
_ENDLESS_AFTER = 100
"""Answered TERMs in a row, after which nothing can change any more: the exchange has no other end."""
_SHOWN_TERMS = 4
_IN_PLACE_BYTES = 900
"""What gimli's journal gains by one HUP."""
FIRST = 1
"""The number of the first monitor; its copies count on."""


def hup_times(setup: Setup, timing: Timing, chance: Random) -> tuple[float, ...]:
    """When logrotate's scripts send HUP, in seconds from the first."""
    now_s = 0.0
    times = []
    for size in setup.rotated_bytes:
        times.append(now_s)
        now_s += draw(timing.rotate, chance)
        if setup.compress:
            now_s += size / timing.gzip_bytes_per_s
    return tuple(times[:1] if setup.script is Script.ONCE else times)


def draw(span: Span, chance: Random) -> float:
    """A time, log-normal: never negative, and now and then long."""
    return chance.lognormvariate(math.log(span.median_s), math.log(span.p90_s / span.median_s) / _P90)


def simulate(setup: Setup, timing: Timing, chance: Random) -> tuple[Outcome, tuple[Moment, ...]]:
    """One rotation, and ten seconds after it.

    Args:
        setup: the stanza and the monitor.
        timing: what takes how long.
        chance: where times are drawn from.

    Returns:
        What came of it, and how.
    """
    if setup.takeover is Takeover.IN_PLACE:
        return _InPlace(setup, timing, chance).play()
    return _Naive(setup, timing, chance).play()


class _InPlace:
    """One process for ever. A signal that comes during execve stays pending: it is blocked, and survives."""

    def __init__(self, setup: Setup, timing: Timing, chance: Random) -> None:
        self._hups = hup_times(setup, timing, chance)
        self._timing = timing
        self._chance = chance

    def play(self) -> tuple[Outcome, tuple[Moment, ...]]:
        """Takeovers one after another, as many as there are wishes that came after the last one began."""
        story: list[Moment] = []
        waiting = list(self._hups)
        free_s = 0.0
        took: list[float] = []
        while waiting:
            begins_s = max(waiting[0], free_s)
            together = [at_s for at_s in waiting if at_s <= begins_s]
            waiting = waiting[len(together) :]
            took_s = draw(self._timing.takeover, self._chance)
            free_s = begins_s + took_s
            took.append(took_s * 1000)
            wish = "HUP" if len(together) == 1 else f"{len(together)} HUPs, one wish"
            story.append(Moment(begins_s * 1000, "gimli", f"{wish}: takeover in place begins"))
            story.append(Moment(free_s * 1000, "gimli", f"same pid, new image, after {took_s * 1000:.0f} ms"))
        outcome = Outcome(
            hups=_hups(self._hups),
            monitors_after=1,
            monitors_most=1,
            is_endless=False,
            log_bytes=_IN_PLACE_BYTES * len(self._hups),
            log_bytes_per_s=0.0,
            watched_s=_WATCHED_S,
            takeovers=len(took),
            takeover_ms=tuple(took),
            is_term_honoured=True,
            is_service_kept=True,
            is_service_watched=True,
        )
        return outcome, tuple(story)


class _Naive:
    """Copies by fork and execve, a pidfile without a lock, and TERM for whoever holds it."""

    def __init__(self, setup: Setup, timing: Timing, chance: Random) -> None:
        self._setup = setup
        self._timing = timing
        self._chance = chance
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._now_s = 0.0
        self._alive = {FIRST}
        self._holder = FIRST
        self._made_by: dict[int, int] = {}
        self._most = 1
        self._took: list[float] = []
        self._terms = 0
        self._first_term_s = 0.0
        self._story: list[Moment] = []
        self._hups = hup_times(setup, timing, chance)

    def play(self) -> tuple[Outcome, tuple[Moment, ...]]:
        """Until nothing is left to happen, or the exchange of TERMs has shown that it has no end."""
        for at_s in self._hups:
            self._at(at_s, self._hup)
        while self._queue and self._terms < _ENDLESS_AFTER:
            self._now_s, _, happen = heapq.heappop(self._queue)
            happen()
        is_endless = self._terms >= _ENDLESS_AFTER
        spent_s = self._now_s - self._first_term_s
        rate = self._terms * self._timing.line_bytes / spent_s if is_endless else 0.0
        if is_endless:
            self._tell(f"and so on, {self._terms / spent_s:,.0f} times a second, until /var is full")
        is_one = len(self._alive) == 1
        outcome = Outcome(
            hups=_hups(self._hups),
            monitors_after=len(self._alive),
            monitors_most=self._most,
            is_endless=is_endless,
            log_bytes=int(rate * _WATCHED_S),
            log_bytes_per_s=rate,
            watched_s=_WATCHED_S,
            takeovers=len(self._took),
            takeover_ms=tuple(self._took),
            # The operator's TERM goes to the pidfile's pid: with two alive it ends one at best.
            is_term_honoured=is_one,
            is_service_kept=True,
            is_service_watched=not is_endless,
        )
        return outcome, tuple(self._story)

    def _at(self, at_s: float, happen: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (at_s, self._order, happen))

    def _tell(self, words: str) -> None:
        self._story.append(Moment(self._now_s * 1000, "naive", words))

    def _hup(self) -> None:
        """The script reads the pidfile and sends HUP to whom it names, who forks."""
        monitor = self._holder
        if monitor not in self._alive:
            self._tell(f"HUP to monitor {monitor}, which is gone")
            return
        copy = FIRST + len(self._made_by) + 1
        self._made_by[copy] = monitor
        took_s = draw(self._timing.takeover, self._chance)
        self._tell(f"HUP to monitor {monitor}: it starts copy {copy}")
        self._at(self._now_s + took_s, lambda: self._stands(copy, took_s))

    def _stands(self, copy: int, took_s: float) -> None:
        """The copy's image runs: it reads the pidfile, and a moment later it has written its own pid."""
        found = self._holder
        self._alive.add(copy)
        self._most = max(self._most, len(self._alive))
        self._at(self._now_s + self._timing.claim_s, lambda: self._claim(copy, found, took_s))

    def _claim(self, copy: int, found: int, took_s: float) -> None:
        self._holder = copy
        self._took.append(took_s * 1000)
        maker = self._made_by[copy]
        for other in sorted({found, maker} & self._alive - {copy}):
            who = "its predecessor" if other == maker else "an intruder to it"
            self._tell(f"copy {copy} stands, holds the pidfile, sends TERM to {other}, {who}")
            self._send_term(other, copy)

    def _send_term(self, to: int, sender: int) -> None:
        self._at(self._now_s + draw(self._timing.answer, self._chance), lambda: self._term(to, sender))

    def _term(self, monitor: int, sender: int) -> None:
        if monitor not in self._alive:
            return
        is_handed_over = self._made_by.get(sender) == monitor
        if is_handed_over or self._setup.term is Term.HONOURED:
            self._tell(f"monitor {monitor}: received TERM, terminating; it ends")
            self._alive.discard(monitor)
            return
        if not self._terms:
            self._first_term_s = self._now_s
        self._terms += 1
        other = self._holder if self._holder != monitor else sender
        if self._terms <= _SHOWN_TERMS:
            self._tell(f"monitor {monitor}: received TERM, terminating; it stays, and sends TERM to {other}")
        self._send_term(other, monitor)


def _hups(times: tuple[float, ...]) -> tuple[Hup, ...]:
    return tuple(Hup(at_s * 1000, "sh < logrotate") for at_s in times)
