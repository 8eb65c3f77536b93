"""Who runs? A service's run record, written so that one copy stays one copy whoever is killed when.

    monitor: lock, "starting" --fork--> child: "running PID START BOOT", unlock, exec
    monitor: the program has named another main process: "running PID START BOOT LEADER"
    monitor: the child has ended: "down"

The child writes its own line, because a monitor that is killed right after its fork has no time to; and the
lock is shared with the child by the fork, so that a new monitor which gets it knows that whatever could have
been started has written. Anything else that stands in a record is damage, and is treated as "perhaps it
runs". Parsing is pure; the file is handled here too, since its order of steps is the point.
"""

from __future__ import annotations

import fcntl
import os
import re
import time

from gimli.paths import unlink_if_there
from gimli.process import ProcessId
from gimli.value import value

RECORD_BYTES = 128
"""As in libgimli/spawn.c: one write replaces the whole of it."""
_PID_MAX = 2**22  # PID_MAX_LIMIT of linux/threads.h
_LOCK_TRIES = 200
_LOCK_TRY_S = 0.01
_RUNNING = re.compile(rb"running (\d{1,10}) (\d{1,20}) ([0-9a-f-]{1,40})(?: (\d{1,10}))? *\n")


@value
class Record:
    """What a record says: ``down``, ``starting``, ``running`` or ``damaged``; absent is ``missing``."""

    kind: str
    process: ProcessId | None = None
    """Of one that is running: who."""
    boot_id: str = ""
    leader: int = 0
    """Of one that runs in the session of a process that was the main one before: that. 0: of none such."""


def parse_record(raw: bytes | None) -> Record:
    """Read a record. Any bytes give a value.

    Args:
        raw: the file's content; None: there is no file.
    """
    if raw is None:
        return Record("missing")
    for kind in ("down", "starting"):
        if raw == format_record(kind):
            return Record(kind)
    match = _RUNNING.fullmatch(raw)
    if len(raw) != RECORD_BYTES or not match:
        return Record("damaged")
    pid, start_ticks, leader = int(match[1]), int(match[2]), int(match[4] or 0)
    # Start 0 is a child that could not read /proc.
    if not 0 < pid <= _PID_MAX or not start_ticks or leader > _PID_MAX:
        return Record("damaged")
    return Record("running", ProcessId(pid, start_ticks), match[3].decode(), leader)


def format_record(text: str) -> bytes:
    """A record that says ``text``, at its full length."""
    assert len(text) < RECORD_BYTES
    return text.encode().ljust(RECORD_BYTES - 1) + b"\n"


def read_record(path: str) -> Record:
    """The record at ``path``, after waiting for a child that is about to write it.

    A child that does not get there (somebody has stopped it just then) counts as damage.

    Raises:
        OSError: there is a file, and it cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return Record("missing")
    try:
        return parse_record(os.pread(fd, RECORD_BYTES + 1, 0)) if _lock(fd) else Record("damaged")
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    for _try in range(_LOCK_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_TRY_S)
        else:
            return True
    return False


def begin_start(path: str) -> int:
    """Write ``starting``, and hold the lock.

    By a new file that takes the place of the old one: killed at any point, a monitor leaves a whole one.

    Returns:
        The descriptor to fork with. Closing it in the monitor leaves the lock with the child.

    Raises:
        OSError: the record cannot be written; then nothing must be started.
    """
    made = path + ".new"
    fd = os.open(made, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.pwrite(fd, format_record("starting"), 0)  # so few bytes are written whole, or not at all
        os.replace(made, path)
    except BaseException:
        os.close(fd)
        unlink_if_there(made)
        raise
    return fd


def format_running(found: ProcessId, boot_id: str, leader: int = 0) -> bytes:
    """A record of one that runs."""
    return format_record(
        f"running {found.pid} {found.start_ticks} {boot_id}" + (f" {leader}" if leader else "")
    )


def write_running(path: str, found: ProcessId, boot_id: str, leader: int = 0) -> None:
    """Its record does not say who it is: the next monitor must find it there. Best effort."""
    _write(path, format_running(found, boot_id, leader), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)


def write_down(path: str) -> None:
    """The child has ended. Not being able to say so is harmless: its pid and start time name nobody."""
    _write(path, format_record("down"), os.O_WRONLY)


def write_doubt(path: str) -> None:
    """A record that holds every monitor off until somebody has looked: an empty one is damaged."""
    _write(path, b"", os.O_WRONLY | os.O_CREAT)


def _write(path: str, record: bytes, flags: int) -> None:
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return
    try:
        os.pwrite(fd, record, 0)
    except OSError:
        return
    finally:
        os.close(fd)
