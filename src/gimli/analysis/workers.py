"""How does reading hostile memory with native code lose nothing?

drgn and pystack are C++ that walks the memory of a broken program: they may crash, loop or eat memory.
Each runs in a forked child under limits and sends every value as soon as it has it. What came before a
crash is kept, the other reader does not notice, and both run at the same time.

    parent --fork--> child "drgn"     --values--> pipe --+
           --fork--> child "pystack"  --values--> pipe --+--> outcome per step
"""

from __future__ import annotations

import math
import os
import pickle
import resource
import select
import signal
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gimli.process import signal_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LENGTH = struct.Struct("<Q")
_READ_BYTES = 1 << 20
_STACK_BYTES = 100 << 20  # below 128 MB, the room that the kernel leaves under every stack
_FRAME_BYTES_MAX = 256 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step sent before it ended."""

    values: tuple[Any, ...]
    failure: str | None
    """Why it ended early; None when it ran to its end."""


@dataclass(slots=True)
class _Worker:
    pid: int
    pipe: int
    received: bytearray
    timed_out: bool = False


def run_steps(steps: dict[str, Callable[[], Iterable[Any]]], *, limit_s: float) -> dict[str, Outcome]:
    """Run every step in a process of its own, all at once.

    Args:
        steps: by name; each yields picklable values.
        limit_s: wall time after which a step is killed.

    Returns:
        An outcome for every step.
    """
    deadline_s = time.monotonic() + limit_s
    workers = {name: _start(step, limit_s) for name, step in steps.items()}
    _collect(list(workers.values()), deadline_s)
    return {name: _finish(worker, limit_s) for name, worker in workers.items()}


def limit_self(*, address_space_bytes: int, cpu_s: int) -> None:
    """Low priority, bounded memory and processor time, room for deep stacks: here and in the children."""
    os.nice(10)
    for kind, wanted in ((resource.RLIMIT_AS, address_space_bytes), (resource.RLIMIT_CPU, cpu_s)):
        _, hard = resource.getrlimit(kind)
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (most, hard))
    # pystack recurses once per Python call: with 8 MB it ends by SIGSEGV at some 16,000 calls.
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if soft != resource.RLIM_INFINITY:
        most = _STACK_BYTES if hard == resource.RLIM_INFINITY else min(_STACK_BYTES, hard)
        resource.setrlimit(resource.RLIMIT_STACK, (max(soft, most), hard))
    # A crash of the analyser is a note in the report, not one more core on the disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _start(step: Callable[[], Iterable[Any]], limit_s: float) -> _Worker:
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        # Should the parent be killed, nobody would end a reader that loops; SIGALRM does.
        signal.alarm(math.ceil(limit_s) + 1)
        os._exit(_run(step, theirs))
    os.close(theirs)
    return _Worker(pid, ours, bytearray())


def _run(step: Callable[[], Iterable[Any]], pipe: int) -> int:
    """The child: nothing of it may return into the parent's code."""
    try:
        for value in step():
            _send(pipe, value)
    except BaseException as error:  # noqa: BLE001 - whatever the libraries raise becomes a note in the report
        _send(pipe, _Failure(f"{type(error).__name__}: {error}"))
        return 1
    return 0


@dataclass(frozen=True, slots=True)
class _Failure:
    why: str


def _send(pipe: int, value: object) -> None:
    data = pickle.dumps(value)
    view = memoryview(_LENGTH.pack(len(data)) + data)
    while view:
        view = view[os.write(pipe, view) :]


def _collect(workers: list[_Worker], deadline_s: float) -> None:
    """Read all pipes until each is closed or the time is up; then kill what still runs."""
    open_pipes = {worker.pipe: worker for worker in workers}
    while open_pipes and (left_s := deadline_s - time.monotonic()) > 0:
        ready, _, _ = select.select(list(open_pipes), [], [], left_s)
        for pipe in ready:
            data = os.read(pipe, _READ_BYTES)
            open_pipes[pipe].received += data
            if not data:
                del open_pipes[pipe]
    for worker in open_pipes.values():
        worker.timed_out = True
        os.kill(worker.pid, signal.SIGKILL)


def _finish(worker: _Worker, limit_s: float) -> Outcome:
    os.close(worker.pipe)
    _, status = os.waitpid(worker.pid, 0)
    values = _unpack(worker.received)
    failure = None
    if values and isinstance(values[-1], _Failure):
        failure = values.pop().why
    elif worker.timed_out:
        failure = f"it took longer than {limit_s:.0f} s"
    elif os.WIFSIGNALED(status):
        failure = f"it was ended by {signal_name(os.WTERMSIG(status))}"
    return Outcome(tuple(values), failure)


def _unpack(received: bytearray) -> list[Any]:
    """The whole values; one that was cut off by a crash is left out."""
    values = []
    at = 0
    while at + _LENGTH.size <= len(received):
        (length,) = _LENGTH.unpack_from(received, at)
        at += _LENGTH.size
        if length > _FRAME_BYTES_MAX or at + length > len(received):
            break
        # Our own forked child wrote it: the same program with the same rights.
        values.append(pickle.loads(received[at : at + length]))  # noqa: S301
        at += length
    return values
