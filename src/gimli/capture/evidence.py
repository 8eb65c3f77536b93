"""What does a capture leave on disk?

``core``, ``maps`` and ``facts.json`` in a directory that appears in the store whole or not at all. Runs when
the process has been let go. A core that cannot be written (a full disk) leaves the facts, which are small.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal

from gimli.capture import facts
from gimli.capture.elfcore import ProcessIds, build_image
from gimli.capture.procfs import fields, number
from gimli.disk import free_above_floor
from gimli.store import discard, incoming_dir, publish, store_error
from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from gimli.capture.elfcore import Image
    from gimli.capture.memory import Copy
    from gimli.capture.request import Request
    from gimli.capture.snapshot import Snapshot, Stopwatch
    from gimli.errors import StoreError

CORE = "core"
MAPS = "maps"
FACTS = "facts.json"


@value
class Stored:
    """A report on disk."""

    path: str
    core_bytes: int
    """Size of the core file without its holes; 0 without one."""
    notes: tuple[str, ...]
    failure: StoreError | None
    """Why there is no core, when only its writing failed."""


def store(request: Request, snapshot: Snapshot, watch: Stopwatch) -> Stored:
    """Write the report and publish it.

    Raises:
        StoreError: nothing could be stored; nothing is left behind.
    """
    directory = incoming_dir(request.state_dir, request.id)
    try:
        return _store_in(directory, request, snapshot, watch)
    except OSError as error:
        discard(request.state_dir, request.id)
        raise store_error(f"cannot write report {request.id}", error, request.state_dir) from error
    except BaseException:
        discard(request.state_dir, request.id)
        raise


def _store_in(directory: str, request: Request, snapshot: Snapshot, watch: Stopwatch) -> Stored:
    core: dict[str, object] | None = None
    failure = None
    core_bytes = 0
    if snapshot.has_core:
        try:
            _check_room(request.state_dir, snapshot)
            core, core_bytes = _write_core(os.path.join(directory, CORE), snapshot)
        except OSError as error:
            failure = store_error(f"cannot write the core of report {request.id}", error, request.state_dir)
            snapshot.notes.append(f"The core could not be written: {error.strerror or failure.why}.")
            _remove(os.path.join(directory, CORE))
    has_maps = _write_maps(os.path.join(directory, MAPS), snapshot)
    watch.mark("written")
    document = facts.build(request, snapshot, watch, core=core, maps=MAPS if has_maps else None)
    # A lone surrogate, which JSON can spell and UTF-8 cannot, becomes a question mark.
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    _write_file(os.path.join(directory, FACTS), text.encode(errors="replace"))
    path = publish(request.state_dir, request.id)
    return Stored(path, core_bytes, tuple(document["notes"]), failure)


def _check_room(state_dir: str, snapshot: Snapshot) -> None:
    """A core must not take what the rest of the machine needs (``disk``).

    Raises:
        OSError: there is no room for it.
    """
    assert snapshot.copy is not None
    free = free_above_floor(state_dir)
    if free is not None and snapshot.copy.bytes > free:
        wanted, left = snapshot.copy.bytes // 1_000_000, max(0, free) // 1_000_000
        raise OSError(errno.ENOSPC, f"it has {wanted} MB, and {left} MB may be used on its disk")


def _write_core(path: str, snapshot: Snapshot) -> tuple[dict[str, object], int]:
    """The core file; returns what facts.json says of it, and the bytes it takes on disk."""
    assert snapshot.architecture is not None
    assert snapshot.process is not None
    assert snapshot.selection is not None
    assert snapshot.copy is not None
    image = build_image(
        snapshot.architecture,
        _process_ids(snapshot),
        snapshot.registers,
        snapshot.selection.kept,
        snapshot.process.auxv,
        snapshot.signo,
    )
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _write_image(fd, image, snapshot.copy)
        on_disk = os.fstat(fd).st_blocks * 512
    finally:
        os.close(fd)
    about: dict[str, object] = {
        "file": CORE,
        "bytes": snapshot.copy.bytes,
        "size": image.size,
        "policy": snapshot.selection.policy,
        "threads": len(snapshot.registers),
    }
    return about, on_disk


def _write_image(fd: int, image: Image, copy: Copy) -> None:
    """Header and memory; what is not written is a hole, and reads as zeros."""
    os.ftruncate(fd, image.size)
    memory = copy.view()
    position = 0
    for offset, _, length in image.extents:
        _write_at(fd, memory[position : position + length], offset)
        position += length
    _write_at(fd, memoryview(image.header), 0)


def _write_at(fd: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data = data[written:]
        offset += written


def _process_ids(snapshot: Snapshot) -> ProcessIds:
    process = snapshot.process
    assert process is not None
    ppid, pgrp, session = fields(process.stat, 1, 2, 3)
    return ProcessIds(
        pid=number(process.status.get("Tgid", "0")),
        ppid=ppid,
        pgrp=pgrp,
        session=session,
        uid=facts.effective(process.status, "Uid"),
        gid=facts.effective(process.status, "Gid"),
        comm=process.comm,
        command=process.cmdline,
    )


def _write_maps(path: str, snapshot: Snapshot) -> bool:
    if not snapshot.maps:
        return False
    _write_file(path, snapshot.maps.encode(errors="surrogateescape"))
    return True


def _write_file(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _write_at(fd, memoryview(data), 0)
    finally:
        os.close(fd)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


@contextlib.contextmanager
def letting_late_threads_go(snapshot: Snapshot) -> Iterator[None]:
    """Let a thread go on that stops only now, asked while it was in an uninterruptible sleep.

    The kernel tells us by SIGCHLD; without this the thread would stand for as long as writing takes.
    """
    held = snapshot.held
    if held is None or not held.is_owed:
        yield
        return
    previous = signal.signal(signal.SIGCHLD, lambda *_: held.let_go_late())
    # A monitor blocks its signals, and a child inherits that.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    try:
        held.let_go_late()
        yield
    finally:
        signal.signal(signal.SIGCHLD, previous)
