"""Does the program answer when it is asked, and when is it asked next?

One probe at a time: the next one is due a while after the last has ended, so that they cannot pile up, and
one that takes too long is given up (a command: killed with its process group).
"""

from __future__ import annotations

import os
import signal

from gimli.monitor.exchange import Exchange
from gimli.monitor.spawn import exec_failure
from gimli.process import ExitStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from gimli.loop import Deadline, Loop
    from gimli.monitor.config import Target
    from gimli.monitor.spawned import Spawned

    class Question(Protocol):
        """A probe under way."""

        def cancel(self) -> None:
            """Give up without a word."""

    Start = Callable[[tuple[str, ...]], Spawned]

_FIRST_DELAY_S = 0.02
"""After the start of a program. Each silence doubles the delay, up to ..."""
_SEARCHING_S_MAX = 1.0
"""... this long: somebody waits for a program that starts."""


class Prober:
    """Asks one target again and again.

    Args:
        loop: the event loop.
        target: whom to ask.
        interval_s: from one answer to the next question.
        timeout_s: how long an answer may take.
        start: starts a command in the place of the service.
        on_end: called after each question with what was wrong; an empty text is an answer.
    """

    def __init__(
        self,
        loop: Loop,
        target: Target,
        *,
        interval_s: float,
        timeout_s: float,
        start: Start,
        on_end: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._target = target
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._start = start
        self._on_end = on_end
        self._question: Question | None = None
        self._next: Deadline | None = None
        self._patience: Deadline | None = None
        self._delay_s = min(_FIRST_DELAY_S, interval_s)
        self._next = loop.after(self._delay_s, self._ask)

    def cancel(self) -> None:
        """Ask no more."""
        for deadline in filter(None, (self._next, self._patience)):
            deadline.cancel()
        if self._question:
            self._question.cancel()

    def interrupt(self) -> None:
        """Put the question that is under way again later."""
        if self._question:
            self._question.cancel()
            self._question = None
            if self._patience:
                self._patience.cancel()
            self._next = self._loop.after(self._delay_s, self._ask)

    def _ask(self) -> None:
        try:
            self._question = self._begin()
        except OSError as error:
            why = f"cannot ask: {error.strerror}"
            self._next = self._loop.after(0.0, lambda: self._ended(why))
            return
        self._patience = self._loop.after(self._timeout_s, self._expired)

    def _begin(self) -> Question:
        if self._target.kind == "command":
            return Command(self._loop, self._start(self._target.command), self._ended)
        return Exchange(self._loop, self._target, self._ended)

    def _expired(self) -> None:
        assert self._question is not None
        self._question.cancel()
        self._ended(f"no answer within {self._timeout_s:g} s")

    def _ended(self, why: str) -> None:
        if self._patience:
            self._patience.cancel()
        self._question = None
        # An answer ends the search; a silence after one is asked about in the usual rhythm.
        searching = bool(why) and self._delay_s < self._interval_s
        self._delay_s = (
            min(2 * self._delay_s, _SEARCHING_S_MAX, self._interval_s) if searching else self._interval_s
        )
        self._next = self._loop.after(self._delay_s, self._ask)
        self._on_end(why)  # last: it may cancel


class Command:
    """One run of a command. Its exit status is the answer.

    Args:
        loop: the event loop.
        spawned: the process.
        on_end: called once with what was wrong.
    """

    def __init__(self, loop: Loop, spawned: Spawned, on_end: Callable[[str], None]) -> None:
        self._loop = loop
        self._spawned = spawned
        self._on_end = on_end
        self._is_cancelled = False
        loop.children.add(spawned.pid)
        loop.watch(spawned.pidfd, self._ended)

    def cancel(self) -> None:
        """Kill it with its process group; it is still collected."""
        self._is_cancelled = True
        try:
            signal.pidfd_send_signal(self._spawned.pidfd, signal.SIGKILL)
            os.killpg(self._spawned.pid, signal.SIGKILL)  # its pid cannot be another's until it is collected
        except (ProcessLookupError, PermissionError):
            return  # it was before its setsid, and had nobody to leave behind; or it is another user's

    def _ended(self, _: int) -> None:
        ended = os.waitid(os.P_PIDFD, self._spawned.pidfd, os.WEXITED)
        assert ended is not None
        self._loop.children.discard(self._spawned.pid)
        self._loop.forget(self._spawned.pidfd)
        why = exec_failure(self._spawned.exec_fd)
        os.close(self._spawned.exec_fd)
        os.close(self._spawned.pidfd)
        if not self._is_cancelled:
            status = ExitStatus.from_waitid(ended.si_code, ended.si_status)
            self._on_end(why or ("" if status.shell_status == 0 else f"it ended with {status}"))
