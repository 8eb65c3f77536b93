"""Are the guard's rules still there, and who mends them while the loop goes on?

A look is a run of the ``nft`` program, and so is a repair: each takes longer than a lease in the fast mode
when the host is busy. So they are a thread's work, which hands its findings over by a pipe.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gimli.pair import guard, nft, punctuality, readback
from gimli.pair.nft import GuardRefused

if TYPE_CHECKING:
    from gimli.pair.guard import Guard


@dataclass(frozen=True, slots=True)
class Look:
    """What was found at one look.

    Args:
        altered: in which respects the rules were not those that were set up.
        wrong: in which they still are not.
    """

    altered: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


class Warden:
    """A thread that looks at the rules when it is told to.

    Args:
        wanted: what the rules are to be.
    """

    def __init__(self, wanted: Guard) -> None:
        self._wanted = wanted
        self._looks: deque[Look] = deque()
        self._told = threading.Event()
        self._is_ending = False
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._serve, name="warden", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Readable when there is something to take."""
        return self._read_fd

    def look(self) -> None:
        """Look soon; told twice before it has begun, it looks once."""
        self._told.set()

    def take(self) -> Look:
        """What was found, of all looks since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read_fd, 4096)
        altered: dict[str, None] = {}
        wrong: tuple[str, ...] = ()
        while self._looks:
            found = self._looks.popleft()
            altered |= dict.fromkeys(found.altered)
            wrong = found.wrong
        return Look(tuple(altered), wrong)

    def close(self) -> None:
        """End the thread; one that is stuck ends with the process."""
        self._is_ending = True
        self._told.set()
        self._thread.join(1.0)
        if not self._thread.is_alive():
            os.close(self._read_fd)
            os.close(self._write_fd)

    def _serve(self) -> None:
        punctuality.run_first()
        while self._told.wait() and not self._is_ending:
            self._told.clear()
            self._looks.append(_look_and_mend(self._wanted))
            with contextlib.suppress(BlockingIOError):  # the loop has not read the earlier ones
                os.write(self._write_fd, b".")


def _look_and_mend(wanted: Guard) -> Look:
    try:
        altered = readback.verify(nft.read(), wanted)
        if not altered:
            return Look()
        nft.apply(guard.ruleset(wanted, fresh=False))
        return Look(altered, readback.verify(nft.read(), wanted))
    except GuardRefused as refused:
        return Look((), (str(refused),))
