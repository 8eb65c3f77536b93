"""How does a Python program tell its monitor that it is alive?

Standard library only, cheap to import, and free without a monitor: every call then writes to a scratch page
of the process's own, so a program need not care who started it. No call raises for a monitor's fault, and
none writes into a file that is not a heartbeat page (docs/reference, ``libgimli/heartbeat_layout.h``).

    from gimli import client

    client.beat()                                       # a loop of your own: once per round
    client.watch_loop()                                 # asyncio: a blocked loop is seen
    for job in client.beating(jobs, interval=30):       # a thread: each job may take 30 s
        work(job)

The page has one main beat, which says that the *program* lives, and 32 named pulses, each of which says
that one *thread or loop* lives: a stuck thread among healthy ones is seen by its pulse alone.

Threads may call everything here at the same time. Under free threading two beats at once may count as one;
neither is lost to the watchdog, which reads the time of the last. A forked child shares the page: its beats
count for the service, so a worker that must be seen by itself opens a pulse of its own. A program started
by ``subprocess`` is a stranger to the page unless ``pass_fds`` hands it the descriptor.
"""

from __future__ import annotations

import _thread  # `threading` without its import cost; programs that use threads pay it anyway
import mmap
import os
import struct
from itertools import count
from stat import S_ISREG
from time import monotonic_ns

from gimli import heartbeat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Literal, Self, TypeVar

    T = TypeVar("T")

# The page as 64-bit words. CPython stores format `l` faster than `q`: 133 ns a beat instead of 160.
_WORD: Literal["l", "q"] = "l" if struct.calcsize("l") == 8 else "q"
_WORD_BEAT = heartbeat.OFFSET_BEAT_NS // 8
_INT_STATE = heartbeat.OFFSET_STATE // 4
_INT_TICKS = heartbeat.OFFSET_TICKS // 4
_TICKS_MAX = 0x7FFFFFFF

_LOOP_BEAT_S_MAX = 1.0
"""A watched loop beats at least this often: the operator's ``--watchdog`` may be the shorter one."""

_memory: mmap.mmap | bytearray | None = None
"""The page, or the scratch page of a process without a monitor; None until the first use decides which."""
_ints: memoryview
_words: memoryview
"""The same memory as 32-bit and as 64-bit numbers, for the two stores that make a beat."""


def _advance() -> int:
    """The ticks that the next beat stores. The first call replaces this function by a counter."""
    return _advance_first()


_attach_lock = _thread.allocate_lock()
_claims: dict[tuple[int, int], object] = {}
"""Pulse slots of this process by (pid, slot): ``setdefault`` decides which of two threads gets one."""
_loop_watches: set[LoopWatch] = set()
"""asyncio keeps only weak references to its tasks."""


def attach() -> bool:
    """Find the monitor's page and say "starting", unless a state was said before.

    Calling it is optional, since the first use of anything here attaches. Called early, it starts the
    monitor's start interval and fills ``gimli ps`` before the first beat.

    Returns:
        Whether a monitor listens. Without one every other call is a cheap no-op.
    """
    if _memory is None:
        # Threads that come first together. A second is more than it takes; a child whose parent forked in
        # this very moment finds the lock held for ever and goes on without.
        is_locked = _attach_lock.acquire(timeout=1)
        try:
            is_news = _memory is None and _attach_now()
        finally:
            if is_locked:
                _attach_lock.release()
        if is_news:
            _ring()
    return isinstance(_memory, mmap.mmap)


def beat() -> None:
    """Say that the program lives: at most 150 ns, from any thread.

    The first beat also says "running", unless :func:`starting` or :func:`stopping` was said; after that a
    beat keeps the state it finds.
    """
    try:
        _ints[_INT_TICKS] = _advance()
        _words[_WORD_BEAT] = monotonic_ns()
    except ValueError:
        _count_ticks_from(0)  # They have run through their 31 bits, as they may after hours.
        beat()


def starting() -> None:
    """Say that the program is still loading, and beat: the monitor allows it its start interval."""
    _say(heartbeat.STARTING)


def running() -> None:
    """Say that the program serves, and beat: from now on silence for the watchdog's interval is a hang."""
    _say(heartbeat.RUNNING)


def stopping() -> None:
    """Say that the program is on its way out, and beat: the monitor allows it its stop interval."""
    _say(heartbeat.STOPPING)


def note(text: str) -> None:
    """Say what the program is doing, in ``gimli ps`` and in a report: 255 bytes, the rest is cut."""
    start, size = heartbeat.OFFSET_NOTE, heartbeat.NOTE_SIZE
    _page()[start : start + size] = _terminated(text, size)


def pulse(name: str, interval: float) -> Pulse:
    """Open a named beat for one thread or loop, which must then beat at least every ``interval`` seconds.

        with client.pulse("writer-2", 30) as alive:
            while True:
                alive.beat()
                ...

    A pulse that is neither beaten nor closed is reported as a hang of its thread: leave by ``with``, or
    let :func:`beating` do it all. The page has 32; further ones work, and nobody watches them.

    Args:
        name: as it shall stand in ``gimli ps`` and in a report; 63 bytes, the rest is cut.
        interval: seconds of silence after which it counts as stuck.

    Raises:
        ValueError: the interval is not positive, with or without a monitor.
    """
    return Pulse(name, interval)


def beating(iterable: Iterable[T], name: str = "", interval: float = 30.0) -> Iterator[T]:
    """Yield the items, and watch that the loop's body is done with each within ``interval`` seconds.

    Waiting for the next item is not watched: an idle worker is no hang. The pulse opens with the loop and
    closes with it, by exhaustion, ``break`` or exception.

    Args:
        iterable: the jobs; ``iter(queue.get, None)`` makes one of a queue.
        name: name of the pulse; the thread's own by default.
        interval: seconds that one item may take.
    """
    with Pulse(name or _thread_name(), interval) as alive:
        alive.pause()
        for item in iterable:
            alive.resume()
            yield item
            alive.pause()


def watch_loop(interval: float = 30.0, name: str = "asyncio") -> LoopWatch:
    """Beat from the running asyncio loop, so that whatever blocks the loop is seen.

    One call at the start of ``main()`` is enough: the watch ends with the loop. ``async with`` ends it
    sooner. It beats both the main beat and a pulse of the loop's own.

    Args:
        interval: seconds for which the loop may be blocked.
        name: name of the pulse; several loops need several names.

    Raises:
        RuntimeError: no loop is running in this thread.
        ValueError: the interval is not positive.
    """
    return LoopWatch(name, interval)


class Pulse:
    """One named beat. Made by :func:`pulse`; a context manager that closes it."""

    __slots__ = ("_claim", "_interval_ns", "_memory", "_offset", "_paused_ns", "_word", "_words", "name")

    def __init__(self, name: str, interval: float) -> None:
        if not interval > 0:
            raise ValueError(f"the interval of pulse {name!r} is {interval}, expected seconds above 0")
        self.name = name
        self._interval_ns = int(interval * 1e9)
        self._paused_ns = 0
        self._memory = _page()
        self._words = _words
        self._claim = _claim_slot(self._memory)
        if self._claim is None:
            self._become_unwatched()
            return
        self._offset = heartbeat.OFFSET_PULSES + self._claim[1] * heartbeat.PULSE_SIZE
        self._word = (self._offset + 16) // 8  # 16 is the offset of gimli_pulse.beat_ns
        self._fill_in()
        _ring()

    def beat(self) -> None:
        """Say that this thread or loop lives: 100 ns."""
        self._words[self._word] = monotonic_ns()

    def pause(self) -> None:
        """Stop being watched, for a wait that may rightly last: the next job, a person, a lock of hours."""
        if self._claim:
            self._paused_ns = monotonic_ns()
            self._set_state(heartbeat.PULSE_PAUSED)

    def resume(self) -> None:
        """Beat, and be watched again, as a pulse of the calling thread."""
        self.beat()
        if self._claim:
            struct.pack_into("<i", self._memory, self._offset + 4, _thread.get_native_id())
            self._set_state(heartbeat.PULSE_ACTIVE)
            # The monitor may have looked during the pause and armed no timer. During a short one it hardly
            # has, and a bell per job would keep it awake.
            if monotonic_ns() - self._paused_ns > self._interval_ns // 100:
                _ring()

    def close(self) -> None:
        """Give the pulse back: silence is no hang any more. Closing twice is no mistake."""
        if self._claim:
            self._set_state(heartbeat.PULSE_FREE)
            _claims.pop(self._claim, None)
            self._become_unwatched()
            _ring()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fill_in(self) -> None:
        """Write the record while it is only claimed, then make it active: a reader never sees half of one."""
        name = _terminated(self.name or "pulse", heartbeat.PULSE_NAME_SIZE)
        tid = _thread.get_native_id()
        struct.pack_into("<iQQ", self._memory, self._offset + 4, tid, self._interval_ns, monotonic_ns())
        start = self._offset + 48  # the offset of gimli_pulse.name
        self._memory[start : start + len(name)] = name
        self._set_state(heartbeat.PULSE_ACTIVE)

    def _set_state(self, state: int) -> None:
        struct.pack_into("<I", self._memory, self._offset, state)

    def _become_unwatched(self) -> None:
        """Go on as a pulse that nobody sees: ``beat`` stays valid and writes to a word of its own."""
        self._claim = None
        self._words, self._word = memoryview(bytearray(8)).cast(_WORD), 0


class LoopWatch:
    """A task that beats from an asyncio loop. Made by :func:`watch_loop`."""

    def __init__(self, name: str, interval: float) -> None:
        import asyncio  # noqa: PLC0415 - its caller has it loaded; other programs must not pay for it

        loop = asyncio.get_running_loop()
        self.pulse = Pulse(name, interval)
        self._task: Task[None] = loop.create_task(
            _beat_by_turns(self.pulse, interval), name="gimli-watch-loop"
        )
        self._task.add_done_callback(self._ended)
        _loop_watches.add(self)

    def close(self) -> None:
        """End the watch: a loop that rests by intention is no hang."""
        self._task.cancel()
        self.pulse.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ended(self, _: Task[None]) -> None:
        """``asyncio.run`` cancels what is left, this task too: the end of a loop is no hang."""
        self.pulse.close()
        _loop_watches.discard(self)


async def _beat_by_turns(alive: Pulse, interval_s: float) -> None:
    from asyncio import sleep  # noqa: PLC0415 - as above

    while True:
        beat()
        alive.beat()
        await sleep(min(interval_s / 4, _LOOP_BEAT_S_MAX))


def _map_page(descriptor: str) -> mmap.mmap | None:
    """The monitor's page, or None for anything that is not one.

    The number comes from the environment and may be stale: a child closes descriptors and opens its own
    files under the same numbers. So everything is checked before the first byte is written.
    """
    try:
        fd = int(descriptor)
        info = os.fstat(fd)
        if not S_ISREG(info.st_mode) or info.st_size != heartbeat.PAGE_SIZE:
            return None
        page = mmap.mmap(fd, heartbeat.PAGE_SIZE)
    except (OSError, ValueError, OverflowError):
        return None
    seen = struct.unpack_from("<QII", page, heartbeat.OFFSET_MAGIC)
    if seen != (heartbeat.MAGIC, heartbeat.VERSION, heartbeat.PAGE_SIZE):
        page.close()
        return None
    return page


def _attach_now() -> bool:
    """Take the page, or a scratch page, as this process's own; whether that changed the page's state."""
    global _memory, _ints, _words  # noqa: PLW0603 - one page per process, and beat() must find it in 10 ns
    page = _map_page(os.environ.get(heartbeat.ENV_PAGE_FD, ""))
    memory = bytearray(heartbeat.PAGE_SIZE) if page is None else page
    _ints = memoryview(memory).cast("B").cast("i")
    _words = memoryview(memory).cast("B").cast(_WORD)
    is_news = _introduce(memory)
    _memory = memory  # Last: who finds it set takes all of the above for done.
    return is_news


def _introduce(memory: mmap.mmap | bytearray) -> bool:
    """Say who beats here. A worker that attaches later leaves the first one's name in place."""
    library, pid = struct.unpack_from("<Ii", memory, heartbeat.OFFSET_LIBRARY)
    if library != heartbeat.LIBRARY_PYTHON:
        struct.pack_into("<Ii", memory, heartbeat.OFFSET_LIBRARY, heartbeat.LIBRARY_PYTHON, os.getpid())
    elif pid == os.getpid():
        # The same process with a new image: nobody beats what the old one has opened.
        for slot in range(heartbeat.PULSES_MAX):
            offset = heartbeat.OFFSET_PULSES + slot * heartbeat.PULSE_SIZE
            struct.pack_into("<I", memory, offset, heartbeat.PULSE_FREE)
    if _ints[_INT_STATE] != heartbeat.NOT_SUPPORTED:
        return False
    _words[_WORD_BEAT] = monotonic_ns()
    _ints[_INT_STATE] = heartbeat.STARTING
    return True


def _page() -> mmap.mmap | bytearray:
    attach()
    assert _memory is not None, "attach() always finds memory, if only a scratch page"
    return _memory


def _advance_first() -> int:
    """The first beat of a process: attach if nobody has; and where nothing was said, who beats, runs."""
    attach()
    if _ints[_INT_STATE] in {heartbeat.NOT_SUPPORTED, heartbeat.STARTING}:
        running()
    else:
        _count_ticks_from(_ints[_INT_TICKS] + 1)
    return _advance()


def _say(state: int) -> None:
    """Beat, change the state, and wake the monitor if that is news."""
    attach()
    _count_ticks_from(_ints[_INT_TICKS] + 1)
    # The beat first: a monitor that saw RUNNING with the time of an old beat would take it for a silence.
    beat()
    before, _ints[_INT_STATE] = _ints[_INT_STATE], state
    if before != state:
        _ring()


def _count_ticks_from(ticks: int) -> None:
    """Count in this process, not in the page: reading the page back would cost a beat half as much again."""
    global _advance  # noqa: PLW0603 - as in attach()
    _advance = count(ticks & _TICKS_MAX).__next__


def _claim_slot(memory: mmap.mmap | bytearray) -> tuple[int, int] | None:
    """Take a free pulse of the page for this process, as (pid, slot); None when all are taken.

    Python has no compare-and-swap on shared memory: threads of one process are told apart by ``_claims``,
    processes that share a page by beginning their search at different slots.
    """
    token, pid, first = object(), os.getpid(), _thread.get_native_id()
    for slot in ((first + step) % heartbeat.PULSES_MAX for step in range(heartbeat.PULSES_MAX)):
        offset = heartbeat.OFFSET_PULSES + slot * heartbeat.PULSE_SIZE
        if struct.unpack_from("<I", memory, offset)[0] != heartbeat.PULSE_FREE:
            continue
        if _claims.setdefault((pid, slot), token) is token:
            struct.pack_into("<I", memory, offset, heartbeat.PULSE_CLAIMED)
            return pid, slot
    return None


def _ring() -> None:
    """Wake the monitor to look at the page: one datagram with the service's name, and never a wait."""
    bell = os.environ.get(heartbeat.ENV_BELL)
    if not bell or not isinstance(_memory, mmap.mmap):
        return
    import socket  # noqa: PLC0415 - only a program under a monitor needs it

    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(os.fsencode(os.environ.get(heartbeat.ENV_SERVICE, "")), bell)
    except OSError:
        pass  # a monitor that is gone or busy finds the change at its next look


def _terminated(text: str, size: int) -> bytes:
    """UTF-8 with its NUL, cut between characters, padded to ``size`` bytes."""
    whole = text.encode(errors="replace")[: size - 1].decode(errors="ignore").encode()
    return whole.ljust(size, b"\0")


def _thread_name() -> str:
    import threading  # noqa: PLC0415 - see the import of _thread

    return threading.current_thread().name
