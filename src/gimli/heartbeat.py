"""What does the heartbeat page say?

The Python side of ``libgimli/heartbeat_layout.h``, the one definition. Whatever stands in the page was
written by the watched program, or by whoever overwrote it: every field is hostile until parsed here, and
parsing never fails, it clamps.
"""

from __future__ import annotations

import os
import struct

from gimli.value import value

PAGE_SIZE = 4096
MAGIC = int.from_bytes(b"GIMLIMHB", "little")
VERSION = 1
FLAG_DIE_AT_ONCE = 1

NOT_SUPPORTED, STARTING, RUNNING, STOPPING = range(4)
STATE_NAMES = ("not supported", "starting", "running", "stopping")

LIBRARY_NONE, LIBRARY_C, LIBRARY_PYTHON = range(3)

OFFSET_STATE = 0
OFFSET_TICKS = 4
OFFSET_MAGIC = 8
OFFSET_BEAT_NS = 24
OFFSET_CRASH = 32
OFFSET_REQUEST = 56
OFFSET_RELEASE = 60
OFFSET_OWNER = 88
OFFSET_NOTE = 128
OFFSET_LIBRARY = 384
OFFSET_ATTACHED_PID = 388
OFFSET_WAIT_MS = 392
OFFSET_FLAGS = 396
OFFSET_PULSES = 512

NOTE_SIZE = 256
PULSES_MAX = 32
PULSE_SIZE = 112
PULSE_NAME_SIZE = 64
PULSE_FREE, PULSE_CLAIMED, PULSE_ACTIVE, PULSE_PAUSED = range(4)

ENV_PAGE_FD = "GIMLI_HB_FD"
ENV_MONITOR_PID = "GIMLI_MONITOR_PID"
ENV_BELL = "GIMLI_BELL"
ENV_SERVICE = "GIMLI_SERVICE"
ENV_SERVICE_PID = "GIMLI_SERVICE_PID"

_HEAD = struct.Struct("<iiQIIQ")
_CRASH = struct.Struct("<iiQiiIIQQQI")
_PULSE = struct.Struct(f"<IiQQ24x{PULSE_NAME_SIZE}s")
_CRASH_WAIT_MS = 10_000
_NO_PULSES = bytes(PULSES_MAX * PULSE_SIZE)


@value
class Pulse:
    """One named beat of one thread or loop."""

    name: str
    tid: int
    interval_ns: int
    beat_ns: int
    active: bool


@value
class Crash:
    """The record that a crash handler left while it waits to be captured."""

    signo: int
    code: int
    address: int
    pid: int
    tid: int
    time_ns: int
    ucontext: int
    siginfo: int


@value
class Page:
    """One reading of the page."""

    state: int
    ticks: int
    intact: bool
    beat_ns: int
    library: int
    note: str
    pulses: tuple[Pulse, ...]
    request: int
    release: int
    crash: Crash | None


def parse_page(raw: bytes) -> Page:
    """Read a page. Any bytes give a value: a field out of range reads as if it had not been set.

    Args:
        raw: the page; one that is too short is taken as followed by zeros.
    """
    raw = raw[:PAGE_SIZE].ljust(PAGE_SIZE, b"\0")
    state, ticks, magic, version, _, beat_ns = _HEAD.unpack_from(raw)
    signo, code, address, pid, tid, request, release, time_ns, ucontext, siginfo, _ = _CRASH.unpack_from(
        raw, OFFSET_CRASH
    )
    asked = request != release and 0 < signo <= 64 and pid > 0 and tid > 0  # 64 is _NSIG
    (library,) = struct.unpack_from("<I", raw, OFFSET_LIBRARY)
    return Page(
        state=state if NOT_SUPPORTED <= state <= STOPPING else NOT_SUPPORTED,
        ticks=ticks,
        intact=magic == MAGIC and version == VERSION,
        beat_ns=beat_ns,
        library=library if library <= LIBRARY_PYTHON else LIBRARY_NONE,
        note=_text(raw[OFFSET_NOTE : OFFSET_NOTE + NOTE_SIZE]),
        pulses=tuple(_pulses(raw)),
        request=request,
        release=release,
        crash=Crash(signo, code, address, pid, tid, time_ns, ucontext, siginfo) if asked else None,
    )


def _pulses(raw: bytes) -> list[Pulse]:
    pulses: list[Pulse] = []
    if raw.endswith(_NO_PULSES):
        return pulses  # as most pages; the loop would cost 20 us
    for index in range(PULSES_MAX):
        state, tid, interval_ns, beat_ns, name = _PULSE.unpack_from(raw, OFFSET_PULSES + index * PULSE_SIZE)
        if state in {PULSE_ACTIVE, PULSE_PAUSED} and interval_ns:
            active = state == PULSE_ACTIVE
            pulses.append(Pulse(_text(name) or f"pulse {index}", tid, interval_ns, beat_ns, active))
    return pulses


def _text(raw: bytes) -> str:
    """The text before the first NUL, printable: a control character could forge a line of the log."""
    text = raw.partition(b"\0")[0].decode(errors="replace")
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _make_fresh_page() -> bytes:
    page = bytearray(PAGE_SIZE)
    struct.pack_into("<QII", page, OFFSET_MAGIC, MAGIC, VERSION, PAGE_SIZE)
    struct.pack_into("<I", page, OFFSET_WAIT_MS, _CRASH_WAIT_MS)
    return bytes(page)


_FRESH_PAGE = _make_fresh_page()


class PageFile:
    """The monitor's side of one service's page: a file that a new monitor can open again.

    It is read and written by system call, not mapped: the program holds the same file and may truncate it,
    and a mapping that is gone would kill the monitor by SIGBUS.

    Args:
        path: where it is, or is made.
        fd: the open file, of a monitor that was here before.

    Raises:
        OSError: the file cannot be made.
    """

    __slots__ = ("fd", "path")

    def __init__(self, path: str, fd: int | None = None) -> None:
        self.path = path
        self.fd = _open(path) if fd is None else fd

    def switch_to(self, fd: int | None) -> None:
        """Be another file from now on: an open one, or the one that has the path.

        Raises:
            OSError: it cannot be made; all is as before.
        """
        before, self.fd = self.fd, _open(self.path) if fd is None else fd
        os.close(before)

    def reset(self) -> None:
        """Make it the page of a program that has not started: nothing attached, nothing asked.

        Raises:
            OSError: the disk is full. All its bytes are written here, so that a beat never finds it so.
        """
        os.ftruncate(self.fd, PAGE_SIZE)
        os.pwrite(self.fd, _FRESH_PAGE, 0)

    def read(self) -> Page:
        """The page now."""
        return parse_page(os.pread(self.fd, PAGE_SIZE, 0))

    def release(self) -> None:
        """Let every crash handler that waits go on. Without a futex call it looks every 100 ms."""
        self._write(OFFSET_RELEASE, "<I", self.read().request)

    def die_at_once(self) -> None:
        """From now on a crash handler must not wait: nobody wants a snapshot of this run."""
        self._write(OFFSET_FLAGS, "<I", FLAG_DIE_AT_ONCE)
        self.release()

    def set_running(self, ticks: int, beat_ns: int) -> None:
        """Record a beat that came another way than by the page (a signal, a notification)."""
        self._write(OFFSET_STATE, "<ii", RUNNING, ticks & 0x7FFFFFFF)
        self._write(OFFSET_BEAT_NS, "<Q", beat_ns)

    def set_state(self, state: int, beat_ns: int) -> None:
        """Record that the program is in another phase, which it said another way than by the page."""
        self._write(OFFSET_BEAT_NS, "<Q", beat_ns)
        self._write(OFFSET_STATE, "<i", state)

    def set_note(self, text: str) -> None:
        """Record what the program says it is doing, cut to what the page can hold."""
        whole = text.encode()[: NOTE_SIZE - 1].decode(errors="ignore")  # no half character at its end
        os.pwrite(self.fd, whole.encode().ljust(NOTE_SIZE, b"\0"), OFFSET_NOTE)

    def close(self) -> None:
        """Close; the file stays for whoever reads it next."""
        os.close(self.fd)

    def _write(self, offset: int, layout: str, *fields: int) -> None:
        """Best effort: a program may cut its page off, and the disk be full; the loss is the program's."""
        try:
            self._put(struct.pack(layout, *fields), offset)
        except OSError:
            return

    def _put(self, data: bytes, offset: int) -> None:
        os.pwrite(self.fd, data, offset)


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
