"""Has the program written its newline? The ``notification-fd`` of s6.

The program finds the write end of a pipe under a number of its choice, writes a newline when it is ready, and
closes it.

Source: https://skarnet.org/software/s6/notifywhenup.html
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.loop import Loop

_READ_BYTES = 4096


class ReadyPipe:
    """The monitor's end of the pipe.

    Args:
        loop: the event loop.
        fd: the read end, non-blocking.
        on_ready: called once, when there is a newline.
        on_silence: called once instead, when the program has closed its end without one.
    """

    def __init__(
        self, loop: Loop, fd: int, on_ready: Callable[[], None], on_silence: Callable[[], None]
    ) -> None:
        self.fd = fd
        self._loop = loop
        self._on_ready = on_ready
        self._on_silence = on_silence
        loop.watch(fd, self._readable)

    def cancel(self) -> None:
        """Close it."""
        if self.fd >= 0:
            self._loop.forget(self.fd)
            os.close(self.fd)
            self.fd = -1

    def _readable(self, _: int) -> None:
        try:
            data = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return
        if data and b"\n" not in data:
            return
        self.cancel()
        (self._on_ready if data else self._on_silence)()
