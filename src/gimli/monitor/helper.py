"""How does the monitor have work done by a process of its own, without waiting for it?

It hands over a request on standard input, reads one-line JSON messages, and learns how the process ended. One
that takes too long is killed. A helper survives a takeover: it is a child, and its descriptors are inherited.
"""

from __future__ import annotations

import json
import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gimli.loop import Loop

    OnMessage = Callable[[dict[str, Any]], None]
    OnEnd = Callable[[str], None]

_COMPLAINT_BYTES = 2000


class Helper:
    """One helper process: its messages, and its end.

    Args:
        loop: the event loop.
        on_message: called with each message.
        on_end: called once, with words for what went wrong, or an empty text.
    """

    def __init__(self, loop: Loop, on_message: OnMessage, on_end: OnEnd) -> None:
        self._loop = loop
        self._on_message = on_message
        self._on_end = on_end
        self._messages = Messages()
        self._timed_out = False
        self.pid = self._pidfd = self._out_fd = self._complaints_fd = -1

    def start(self, command: tuple[str, ...], request: bytes, timeout_s: float) -> Helper:
        """Start the process.

        Raises:
            OSError: it cannot be started.
        """
        request_fd = helper_fd = -1
        try:
            self._complaints_fd = os.memfd_create("gimli-helper-stderr", os.MFD_CLOEXEC)
            request_fd = os.memfd_create("gimli-request", os.MFD_CLOEXEC)
            self._out_fd, helper_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            _write_all(request_fd, request)
            os.lseek(request_fd, 0, os.SEEK_SET)
            os.set_blocking(helper_fd, True)
            wiring = [
                (os.POSIX_SPAWN_DUP2, request_fd, 0),
                (os.POSIX_SPAWN_DUP2, helper_fd, 1),
                (os.POSIX_SPAWN_DUP2, self._complaints_fd, 2),
            ]
            self.pid = os.posix_spawn(
                command[0], command, os.environ, file_actions=wiring, setsigmask=(), setsid=True
            )
            self._pidfd = _watchable(self.pid)
        except BaseException:
            _close_open(self._out_fd, self._complaints_fd)
            raise
        finally:
            _close_open(request_fd, helper_fd)
        self._watch(self._loop.now_ns() + round(timeout_s * 1e9))
        return self

    def pack(self) -> dict[str, Any]:
        """What the next image of the monitor must know; all ``_fd`` must be inherited."""
        return {
            "pid": self.pid,
            "pidfd": self._pidfd,
            "out_fd": self._out_fd,
            "complaints_fd": self._complaints_fd,
            "received": self._messages.begun.decode("latin-1"),
            "timed_out": self._timed_out,
            "deadline_ns": self._deadline.at_ns,
        }

    def descriptors(self) -> list[int]:
        """Those that the next image of the monitor must inherit."""
        return [self._pidfd, self._out_fd, self._complaints_fd]

    def restore(self, packed: dict[str, Any]) -> Helper:
        """Go on with a process that the image before has started."""
        self.pid, self._pidfd = packed["pid"], packed["pidfd"]
        self._out_fd, self._complaints_fd = packed["out_fd"], packed["complaints_fd"]
        self._messages = Messages(packed["received"].encode("latin-1"))
        self._timed_out = packed["timed_out"]
        self._watch(packed["deadline_ns"])
        return self

    def kill(self) -> None:
        """Nobody waits for it any more. Its end is told all the same."""
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _watch(self, deadline_ns: int) -> None:
        self._loop.children.add(self.pid)
        self._loop.watch(self._out_fd, self._readable)
        self._loop.watch(self._pidfd, self._ended)
        self._deadline = self._loop.at(deadline_ns, self._expire)

    def _readable(self, _: int) -> None:
        while True:
            try:
                data = os.read(self._out_fd, 65_536)
            except BlockingIOError:
                return
            if not data:
                self._loop.forget(self._out_fd)
                return
            for message in self._messages.take(data):
                self._on_message(message)

    def _expire(self) -> None:
        self._timed_out = True
        self.kill()

    def _ended(self, _: int) -> None:
        self._readable(0)
        self._loop.forget(self._out_fd)
        self._loop.forget(self._pidfd)
        self._deadline.cancel()
        ended = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        self._loop.children.discard(self.pid)
        complaint = os.pread(self._complaints_fd, _COMPLAINT_BYTES, self._complaint_start())
        for fd in self.descriptors():
            os.close(fd)
        self._on_end(self._describe_end(ended, complaint.decode(errors="replace").strip()))

    def _complaint_start(self) -> int:
        return max(0, os.fstat(self._complaints_fd).st_size - _COMPLAINT_BYTES)

    def _describe_end(self, ended: os.waitid_result | None, complaint: str) -> str:
        if self._timed_out:
            return "it took too long and was killed"
        if ended is None or ended.si_status == 0:
            return ""
        how = "exit" if ended.si_code == os.CLD_EXITED else "signal"
        return f"it ended by {how} {ended.si_status}" + (f": {complaint}" if complaint else "")


class Messages:
    """A stream of lines that comes in whatever pieces, as messages.

    Args:
        begun: of the stream so far, what has come of a line that is not complete.
    """

    def __init__(self, begun: bytes = b"") -> None:
        self.begun = begun

    def take(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that are complete with this piece."""
        *lines, self.begun = (self.begun + data).split(b"\n")
        return [message for line in lines if (message := parse_message(line)) is not None]


def parse_message(line: bytes) -> dict[str, Any] | None:
    """A helper's message, or None: a library in it may print something of its own."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _watchable(pid: int) -> int:
    """A pidfd. A helper that cannot be watched is ended: nobody would reap it.

    Raises:
        OSError: there are no descriptors left.
    """
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _close_open(*fds: int) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
