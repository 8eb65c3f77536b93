"""Who does what would keep the loop waiting? A thread, that is told when, and hands over what it has found.

loop: tell() --> thread: work() --> what it found, one byte into the pipe --> loop: take()
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from gimli.pair import punctuality

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_END_S = 1.0


class Aside(Generic[T]):
    """A thread for one kind of work.

    Args:
        name: for who looks at the process.
        work: done each time it is told; None is nothing to hand over.
    """

    def __init__(self, name: str, work: Callable[[], T | None]) -> None:
        self._work = work
        self._found: deque[T] = deque()
        self._told = threading.Event()
        self._is_ending = False
        self._failed: BaseException | None = None
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Readable when there is something to take."""
        return self._read_fd

    def tell(self) -> None:
        """Do it soon; told twice before it has begun, it does it once."""
        self._told.set()

    def take(self) -> list[T]:
        """What was found since the last call, in order.

        Raises:
            BaseException: what the work has raised; there is no more of it.
        """
        if self._failed:
            raise self._failed
        with contextlib.suppress(BlockingIOError):
            os.read(self._read_fd, 4096)
        found = []
        while self._found:
            found.append(self._found.popleft())
        return found

    def close(self) -> None:
        """End the thread; one that is stuck ends with the process."""
        self._is_ending = True
        self._told.set()
        self._thread.join(_END_S)
        if not self._thread.is_alive():
            os.close(self._read_fd)
            os.close(self._write_fd)

    def _serve(self) -> None:
        punctuality.run_first()
        while self._told.wait() and not self._is_ending:
            self._told.clear()
            try:
                found = self._work()
            except BaseException as error:  # noqa: BLE001 - the loop raises it
                self._failed = error
                self._ring()
                return
            if found is not None:
                self._found.append(found)
                self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # the loop has not read the earlier ones
            os.write(self._write_fd, b".")
