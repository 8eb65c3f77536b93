"""Does a port, or a page behind it, answer?

One connection, non-blocking, in the monitor's own loop: it waits for nothing, reads a few bytes of the answer
and parses one line of it. A helper process for each would cost far more (docs/decisions/0006-probes.md).

A port answers when the kernel has taken the connection, and it does so for a program that hangs, until its
queue is full. A page answers with a status below 400, and for that the program itself must be alive.
"""

from __future__ import annotations

import _socket as socket
import errno
import os
import re

from gimli.loop import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.loop import Loop
    from gimli.monitor.config import Target

_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] ([1-9][0-9][0-9])(?:[ \r]|$)")
_STATUS_LINE_BYTES_MAX = 1024
_STATUS_FAILED = 400


class Exchange:
    """One question to a port.

    Args:
        loop: the event loop.
        target: whom to ask.
        on_end: called once, later, with what was wrong; an empty text is an answer.
    """

    def __init__(self, loop: Loop, target: Target, on_end: Callable[[str], None]) -> None:
        self._loop = loop
        self._target = target
        self._on_end = on_end
        self._received = b""
        family = socket.AF_INET6 if ":" in target.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        begun = self._socket.connect_ex((target.host, target.port))
        if begun not in {0, errno.EINPROGRESS}:
            # Told in the next round: whoever asks has not even got this object yet.
            loop.after(0.0, lambda: self._end(os.strerror(begun)))
            return
        loop.watch(self._socket.fileno(), self._connected, WRITE)

    def cancel(self) -> None:
        """Give up without a word."""
        if self._socket.fileno() >= 0:
            self._loop.forget(self._socket.fileno())
            self._socket.close()

    def _connected(self, _: int) -> None:
        failed = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            self._end(os.strerror(failed))
        elif self._socket.getsockname() == self._socket.getpeername():
            # A port of the ephemeral range on which nobody listens: TCP let the socket connect to itself.
            self._end(os.strerror(errno.ECONNREFUSED))
        elif self._target.kind == "tcp":
            self._end("")
        else:
            self._ask()

    def _ask(self) -> None:
        try:
            self._socket.send(http_request(self._target))  # far less than a fresh socket's buffer
        except OSError as error:
            self._end(error.strerror or str(error))
            return
        self._loop.forget(self._socket.fileno())
        self._loop.watch(self._socket.fileno(), self._answered, READ)

    def _answered(self, _: int) -> None:
        try:
            data = self._socket.recv(_STATUS_LINE_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error.strerror or str(error))
            return
        self._received += data
        why = judge_answer(self._received, is_all=not data)
        if why is not None:
            self._end(why)

    def _end(self, why: str) -> None:
        if self._socket.fileno() >= 0:
            self.cancel()
            self._on_end(why)


def http_request(target: Target) -> bytes:
    """The request for a page."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    lines = (
        f"GET {target.path} HTTP/1.0",
        f"Host: {host}:{target.port}",
        "User-Agent: gimli",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode("ascii")


def judge_answer(received: bytes, *, is_all: bool) -> str | None:
    """What is wrong with the beginning of an HTTP answer: empty for nothing, None for not known yet."""
    line, newline, _ = received.partition(b"\n")
    if not newline and not is_all and len(line) <= _STATUS_LINE_BYTES_MAX:
        return None
    if not received:
        return "it closed the connection without an answer"
    found = _STATUS_LINE.match(line)
    if not found:
        return "its answer is not HTTP"
    status = int(found[1])
    return f"its answer has status {status}" if status >= _STATUS_FAILED else ""
