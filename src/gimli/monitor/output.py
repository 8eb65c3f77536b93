r"""How does a service's output reach its file?

Through a FIFO that the service itself holds open, read and write: it outlives a monitor that is gone, and
the program never sees SIGPIPE. What the monitor repeats on its own output is best effort: a terminal that
nobody reads must not stop it.

    FIFO --> spool --> fold repeats --> rate --> room on the disk --> file, predecessors
                                          \--> followers, terminal

Each step is marked before it is done (``mark``), so that a monitor that is killed loses nothing and writes
nothing twice: the next one looks at the mark and goes on from there.
"""

from __future__ import annotations

import os
import select
import sys
import time

from gimli.disk import Gauge
from gimli.logs import TAIL_BYTES, OutputFile
from gimli.monitor import gap as gaps
from gimli.monitor.folding import Memory, fold, release
from gimli.monitor.gap import Gap
from gimli.monitor.mark import Mark, Phase, Verdict, judge_mark
from gimli.monitor.spool import PIECE_BYTES, MarkPage, Spool, available_bytes, enlarge
from gimli.paths import unlink_if_there
from gimli.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gimli.loop import Deadline
    from gimli.monitor.config import Log

_BYTES_AT_ONCE = 1_048_576
"""Then the other services have their turn."""
_HOLD_S = 1.0
_QUIET_S = 5.0
"""So long nothing is dropped before a flood, or a full disk, counts as over."""
_NOTHING, _NO_GAP = Memory(), Gap()
_NO_ROOM = "less is free on the disk than is to stay free"


class Output:
    """One service's FIFO, file and followers.

    Args:
        fifo_path: where the program writes.
        log: where it goes.
        tell: writes an event to the journal: that output begins to be dropped, and that this is over.
        after: calls back once, so many seconds later.
        spool: shared with the other services of the monitor.
        owner: uid of the program, which may open its own output again (/dev/stdout); -1: unchanged.
        packed: what ``pack`` gave to the monitor before us in this process.
    """

    __slots__ = (
        "_after", "_area", "_bucket", "_deadlines", "_dropped_at_s", "_end", "_gap", "_gauge", "_log",
        "_lost", "_memory", "_note_bytes", "_noted", "_owner", "_page", "_spool", "_tell", "fd",
        "fifo_path", "file", "followers",
    )  # fmt: skip

    def __init__(
        self,
        fifo_path: str,
        log: Log,
        tell: Callable[..., None],
        after: Callable[[float, Callable[[], None]], Deadline],
        spool: Spool,
        *,
        owner: int = -1,
        packed: dict[str, Any] | None = None,
    ) -> None:
        self.fifo_path = fifo_path
        self.file = OutputFile(log.file, log.cap_bytes, keep=log.keep, about_to=self._about_to)
        self.followers: list[Callable[[bytes], None]] = []
        self._owner = owner
        self._log = log
        self._tell = tell
        self._after = after
        self._spool = spool
        self._page = MarkPage(f"{fifo_path.removesuffix('.out')}.mark", spool.seed)
        self._memory = _NOTHING
        self._gap = _NO_GAP
        self._bucket = gaps.full_bucket(log.rate_bytes, time.monotonic()) if log.rate_bytes else None
        self._gauge = Gauge(sys.intern(os.path.dirname(log.file)), log.floor_bytes) if log.file else None
        self._area = self._end = 0
        self._note_bytes = 0
        self._noted = _NO_GAP
        self._lost = _NO_GAP
        """Since it was told that output is dropped; without ``why``, nothing is."""
        self._dropped_at_s = 0.0
        self._deadlines: dict[Callable[[], None], Deadline] = {}
        self.fd = packed["fd"] if packed else _open_fifo(fifo_path, owner)
        if packed:
            self._lost = Gap(*packed["lost"])
        self._settle()

    def pack(self) -> dict[str, Any]:
        """What the next image of this process must be told; its FIFO's descriptor must be inherited."""
        if self._page.is_mapped:  # else there was no output, and the page would be made for saying so
            self._mark(Phase.IDLE)
        lost = self._lost
        return {"fd": self.fd, "lost": [lost.why, lost.bytes, lost.lines]}

    def drain(self, least: int = 1) -> int:
        """Take what is there, piece by piece.

        Args:
            least: how many bytes there must be for another piece; the first is taken however small it is.

        Returns:
            How many bytes were taken.
        """
        taken = 0
        while taken < _BYTES_AT_ONCE and (size := available_bytes(self.fd)) >= (least if taken else 1):
            size = min(size, PIECE_BYTES)
            token = self._spool.prepare(self.fd, size)
            self._mark(Phase.READING, token, 0, 0, size)
            self._take(self._spool.read(self.fd, size))
            taken += size
        if taken:
            self._rest()
        return taken

    def flush(self) -> None:
        """Take what is there, and write what is held back: somebody is about to read the end of it."""
        self.drain()
        if self._memory.is_holding:
            self._release()

    def switch_to(self, fd: int | None) -> None:
        """Read another FIFO from now on: an open one, or the one that has the path.

        Raises:
            OSError: it cannot be made; all is as before.
        """
        opened = _open_fifo(self.fifo_path, self._owner) if fd is None else fd
        self.drain()
        os.close(self.fd)
        self.fd = opened

    def renew_mark(self) -> None:
        """The spool has been made anew: a mark that fits it, where the next monitor looks for it."""
        self._page = MarkPage(self._page.path, self._spool.seed)
        self._mark(Phase.IDLE)

    def close(self) -> None:
        """Write what is held, close the file and the FIFO, and remove it."""
        self.drain()
        self._write_held()
        for deadline in self._deadlines.values():
            deadline.cancel()
        self.file.close()
        os.close(self.fd)
        unlink_if_there(self.fifo_path)
        self._page.close()

    # From the FIFO to the file.

    def _take(self, data: bytes) -> None:
        out = data
        if self._log.fold:
            self._memory, out = fold(self._memory, data)
        self._put(out, spooled=data)

    def _put(self, data: bytes, spooled: bytes | None = None) -> None:
        """Write as much as rate and disk allow; ``spooled`` is in the spool already."""
        self._note_bytes = 0
        if self._bucket:
            self._bucket = gaps.refill(self._bucket, time.monotonic())
            room = gaps.room_bytes(self._bucket, self._gap)
            data = self._cut(data, room, f"rate {gaps.format_size(self._log.rate_bytes)}/s")
            self._bucket = replace(self._bucket, tokens=self._bucket.tokens - len(data))
        shown = data
        if self._gauge:
            room = len(data) if self._gauge.has_room(len(data)) else 0
            data = self._cut(data, room, _NO_ROOM)
        self._forget_dropped_line()
        self._write(data, 0 if data is spooled else 1)
        self._show(shown)

    def _cut(self, data: bytes, room: int, why: str) -> bytes:
        before = self._gap
        if not before.bytes and not before.is_inside and len(data) <= room:
            return data  # nearly always
        note, kept, self._gap = gaps.cut(data, room, before, why, is_line_begun=self.file.is_line_begun)
        self._count(len(data) - len(kept), data.count(b"\n") - kept.count(b"\n"))
        if note:
            self._note_bytes, self._noted = len(note), before
        return note + kept

    def _write(self, data: bytes, area: int, start: int = 0) -> None:
        """Write to the file; what the disk does not take is dropped."""
        if area:
            self._spool.put(area, data)
        self._area, self._end = area, len(data)
        taken = self.file.write(data, start) if data else 0
        if taken == len(data):
            if self._note_bytes:
                self._call_after(_QUIET_S, self._end_loss)
            return
        if taken < self._note_bytes:
            self._gap, taken = self._noted, self._note_bytes  # it was not told after all
        self._gap = gaps.widen(self._gap, data[taken:], self.file.failure)
        self._count(len(data) - taken, data.count(b"\n", taken))
        self._forget_dropped_line()

    def _forget_dropped_line(self) -> None:
        """Its repeats must not be told as those of a line that stands in the log."""
        memory = self._memory
        if not self._gap.bytes or memory.line is None:
            return
        if memory.held:
            repeats = memory.held * (len(memory.line) + 1)
            self._gap = replace(
                self._gap, bytes=self._gap.bytes + repeats, lines=self._gap.lines + memory.held
            )
            self._count(repeats, memory.held)
        if memory.is_rest_held and memory.rest:
            self._gap = gaps.widen(self._gap, memory.rest, self._gap.why)
            self._count(len(memory.rest), 0)
        self._memory = Memory(rest=memory.rest)

    def _show(self, data: bytes) -> None:
        if self._log.echo:
            write_if_ready(1, data)
        for follower in tuple(self.followers):
            follower(data)

    def _rest(self) -> None:
        """Nothing is under way any more. Whatever is held back is looked after in a second."""
        self._mark(Phase.IDLE)
        if self._memory.is_holding or (self._gap.bytes and self._bucket):
            self._call_after(_HOLD_S, self._release)

    def _release(self) -> None:
        self._write_held()
        self._rest()

    def _write_held(self) -> None:
        """Repeats that are counted, and what a rate has dropped, when nothing follows that would tell it."""
        self._memory, out = release(self._memory)
        if out:
            self._put(out)
        if self._bucket and self._gap.bytes:
            self._bucket = gaps.refill(self._bucket, time.monotonic())
            if gaps.room_bytes(self._bucket, self._gap):
                self._noted = self._gap
                note, self._gap = gaps.tell(self._gap, is_line_begun=self.file.is_line_begun)
                self._note_bytes = len(note)
                self._write(note, 1)
                self._show(note)

    # Marks.

    def _mark(self, phase: Phase, token: bytes = b"", *step: int) -> None:
        self._page.write(Mark(phase, self._memory, self._gap, token, *step))

    def _about_to(self, start: int, size: int, inode: int, offset: int) -> None:
        """The file is about to write so much of what was given to it."""
        self._mark(Phase.WRITING, b"", self._area, start, size, self._end, inode, offset)

    def _settle(self) -> None:
        """Go on where the monitor before us was ended."""
        mark = self._page.read()
        if mark is None:
            return
        self._memory, self._gap = mark.memory, mark.gap
        if self.file.path:
            self.file.remember(_end_of(self.file.path))
        if mark.phase is Phase.READING:
            spooled = self._spool.get(0, 0, mark.size)
            if judge_mark(mark, spooled, None) is Verdict.TAKE:
                self._take(spooled)
        elif mark.phase is Phase.WRITING:
            self._settle_write(mark)
        self._rest()

    def _settle_write(self, mark: Mark) -> None:
        data = self._spool.get(mark.area, 0, mark.end)
        done = mark.start + mark.size
        verdict = judge_mark(mark, b"", _size_of(self.file.path, mark.inode))
        if verdict is Verdict.AGAIN:
            self.file.cut_back(mark.inode, mark.offset)
        self._write(data, mark.area, done if verdict is Verdict.CONTINUE else mark.start)

    # Telling that something is dropped: once, and once more when it is over.

    def _count(self, dropped_bytes: int, dropped_lines: int) -> None:
        if dropped_bytes <= 0:
            return
        self._dropped_at_s = time.monotonic()
        if not self._lost.why:
            self._tell(
                "output-lost",
                what=f"output is dropped, and not written to {self.file.path}",
                why=self._gap.why,
                fix="the program goes on; the log says how much is missing where",
            )
        self._lost = Gap(self._gap.why, self._lost.bytes + dropped_bytes, self._lost.lines + dropped_lines)

    def _end_loss(self) -> None:
        if not self._lost.why or self._gap.bytes:
            return
        if time.monotonic() - self._dropped_at_s < _QUIET_S:
            self._call_after(_QUIET_S, self._end_loss)
            return
        self._tell("output-resumed", why=self._lost.why, bytes=self._lost.bytes, lines=self._lost.lines)
        self._lost = Gap()

    def _call_after(self, delay_s: float, callback: Callable[[], None]) -> None:
        if callback not in self._deadlines:

            def due() -> None:
                del self._deadlines[callback]
                callback()

            self._deadlines[callback] = self._after(delay_s, due)


def _open_fifo(path: str, owner: int) -> int:
    """Read and write, so that it never reads end of file when no program holds it."""
    if not os.path.exists(path):
        os.mkfifo(path, 0o600)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    os.fchown(fd, owner, -1)
    enlarge(fd)
    return fd


def _end_of(path: str) -> bytes:
    """The last bytes of a log: the report of a crash shows them, whoever wrote them."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return file.read(TAIL_BYTES)
    except OSError:
        return b""


def _size_of(path: str | None, inode: int) -> int | None:
    """The size of the log that has this inode, by its name or renamed beside it."""
    if not path or not inode:
        return None
    try:
        with os.scandir(os.path.dirname(path) or ".") as entries:
            return next((entry.stat().st_size for entry in entries if entry.inode() == inode), None)
    except OSError:
        return None


def write_if_ready(fd: int, data: bytes) -> None:
    """Write as much as can be taken without waiting; the rest is lost here (the file has it).

    A pipe or terminal that polls writable takes PIPE_BUF bytes without blocking, so it is asked per piece:
    making it non-blocking instead would make it so for every process that shares it.
    """
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    view = memoryview(data)
    try:
        while view and poll.poll(0):
            view = view[os.write(fd, view[: select.PIPE_BUF]) :]
    except OSError:
        return
