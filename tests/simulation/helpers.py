"""What do helpers do? Capture, analyse, verify and reread; or fail at any of it, die, or never end."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING, Any

from gimli import heartbeat
from gimli.monitor import verify
from gimli.monitor.helper import Messages
from gimli.process import ExitStatus
from simulation.files import PidFd, Pipe
from simulation.processes import KILL, Process

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulation.computer import Computer
    from simulation.loop import VirtualLoop


class HelperProcess(Process):
    """One helper at work."""

    keeps_its_status_secret = False

    def __init__(self, computer: Computer, parent: int, command: tuple[str, ...], request: bytes) -> None:
        super().__init__(computer, parent, "helper: " + " ".join(command[:2]))
        self.out = Pipe(computer.hot)
        self.complaint = ""
        self._unsaid = b""
        self._target: Any = None
        self._request = request
        work: dict[str, Callable[[], None]] = {
            "capture": self._capture,
            "analysis": self._analyse,
            "monitor": self._verify,
            "reread": self._reread,
        }
        self._take(0.0, 0.02, work[command[0]])

    def _take(self, low_s: float, high_s: float, then: Callable[[], None]) -> None:
        """Work for a while; some helpers fail or hang in the middle."""
        calm = self.computer.is_calm
        fate = 1.0 if calm else self.world.chance.random()
        if fate < 0.02:
            return  # it hangs, until it is killed
        if fate < 0.05:
            then = self._fall
        self.world.after(self.world.between(low_s, high_s), "helper", lambda: self.is_alive and then())

    def _fall(self) -> None:
        self.signalled(KILL)

    def _say(self, **message: Any) -> None:
        """In two pieces, now and then, of which the second comes later, or never."""
        line = json.dumps(message).encode() + b"\n"
        if self._unsaid:
            self._unsaid += line
            return
        cut = self.world.chance.randrange(len(line)) if self.world.likely(0.2) else len(line)
        self.out.put(line[:cut])
        self._unsaid = line[cut:]
        if self._unsaid:
            self.world.after(self.world.between(0, 0.01), "helper", self._say_the_rest)

    def _say_the_rest(self) -> None:
        if self.is_alive and self._unsaid:
            self.out.put(self._unsaid)
            self._unsaid = b""

    def _exit(self, code: int = 0) -> None:
        self._say_the_rest()
        self.end(ExitStatus(code=code))

    def ended(self) -> None:
        """The kernel lets its target go; nobody else writes to its pipe."""
        if self._target is not None:
            self._target.thaw()
            self._target = None
        self.out.end()

    def _capture(self) -> None:
        request = json.loads(self._request)
        if not request["pid"]:
            self._take(0, self.world.chance.choice((0.05, 0.05, 3)), self._store)
            return
        target = self.computer.processes.get(request["pid"])
        if (
            not target
            or not target.is_alive
            or target.start_ticks != request["start_ticks"]
            or target.frozen_by
        ):
            self._say(event="failed", what="no such process", why="it has ended")
            self._exit(1)
            return
        target.frozen_by = self
        self._target = target
        self._page = self.computer.pages.get(request["page"] or "")
        self._take(0.001, 1.0, self._release)

    def _release(self) -> None:
        if self._target is not None:
            self._target.thaw()
            self._target = None
        if self._page:
            self._page.write(heartbeat.OFFSET_RELEASE, "<I", self._page.read().request)
        self._say(event="released", stopped_ms=1.0)
        self._take(0, 5, self._store)

    def _store(self) -> None:
        if self.computer.is_disk_full:
            self._say(event="failed", what="cannot write", why="No space left on device")
            self._exit(1)
            return
        self._say(event="stored", path="/reports/x")
        self._exit()

    def _analyse(self) -> None:
        self._say(summary="it crashed")
        self._exit()

    def _verify(self) -> None:
        try:
            verify.check_state(json.loads(self._request))
        except (ValueError, KeyError, TypeError) as error:
            self.complaint = f"{type(error).__name__}: {error}"
            self._exit(1)
            raise
        self._say(verified=True)
        self._exit()

    def _reread(self) -> None:
        self._say(config=self.computer.configuration())
        self._exit()


class VirtualHelper:
    """The monitor's side: the same interface as ``gimli.monitor.helper.Helper``."""

    def __init__(
        self, loop: VirtualLoop, on_message: Callable[[dict[str, Any]], None], on_end: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._me = loop.me
        self._on_message = on_message
        self._on_end = on_end
        self._timed_out = False
        self._messages = Messages()
        self.pid = self._pidfd = self._out_fd = -1

    def start(self, command: tuple[str, ...], request: bytes, timeout_s: float) -> VirtualHelper:
        """Start the process."""
        self._me.may_fail(errno.EMFILE, errno.EAGAIN, errno.ENOMEM)
        process = HelperProcess(self._me.computer, self._me.pid, command, request)
        self.pid = process.pid
        self._out_fd = self._me.open(process.out)
        self._pidfd = self._me.open(PidFd(self._me.computer.hot, process))
        self._me.call()
        self._watch(self._loop.now_ns() + round(timeout_s * 1e9))
        return self

    def pack(self) -> dict[str, Any]:
        """For the next image."""
        return {
            "pid": self.pid,
            "pidfd": self._pidfd,
            "out_fd": self._out_fd,
            "received": self._messages.begun.decode("latin-1"),
            "timed_out": self._timed_out,
            "deadline_ns": self._deadline.at_ns,
        }

    def descriptors(self) -> list[int]:
        """To be inherited."""
        return [self._pidfd, self._out_fd]

    def restore(self, packed: dict[str, Any]) -> VirtualHelper:
        """Go on."""
        self.pid, self._pidfd, self._out_fd = packed["pid"], packed["pidfd"], packed["out_fd"]
        self._timed_out = packed["timed_out"]
        self._messages = Messages(packed["received"].encode("latin-1"))
        self._watch(packed["deadline_ns"])
        return self

    def kill(self) -> None:
        """Nobody waits for it any more."""
        self._me.call()
        self._me.file(self._pidfd).process.signalled(KILL)

    def _watch(self, deadline_ns: int) -> None:
        self._loop.watch(self._out_fd, self._readable)
        self._loop.watch(self._pidfd, self._ended)
        self._deadline = self._loop.at(deadline_ns, self._expire)

    def _readable(self, _: int) -> None:
        pipe = self._me.file(self._out_fd)
        while (piece := pipe.take()) is not None:
            self._me.call()
            assert isinstance(piece, bytes)
            for message in self._messages.take(piece):
                self._on_message(message)
        if pipe.is_ended:
            self._loop.forget(self._out_fd)

    def _expire(self) -> None:
        self._timed_out = True
        self.kill()

    def _ended(self, _: int) -> None:
        self._readable(0)
        self._loop.forget(self._out_fd)
        self._loop.forget(self._pidfd)
        self._deadline.cancel()
        self._me.call()
        process = self._me.file(self._pidfd).process
        if process.parent != self._me.pid:
            raise ChildProcessError(errno.ECHILD, "No child processes")
        process.reaped()
        for fd in self.descriptors():
            self._me.close(fd)
        if self._timed_out:
            self._on_end("it took too long and was killed")
        else:
            self._on_end(
                "" if process.status.code == 0 else f"it ended by {process.status}: {process.complaint}"
            )
