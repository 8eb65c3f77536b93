"""What does the capture helper do, from its request to its last message?

    request -> take the snapshot -> release the crash handler -> "released" -> write the report -> "stored"

The service is down until "released"; everything that can wait comes after it. A capture that fails still
releases, and still stores a report of the facts alone.
"""

from __future__ import annotations

import os
import sys

from gimli.capture import snapshot as snapshots
from gimli.capture.release import release_crash
from gimli.capture.request import parse_request
from gimli.errors import CaptureRefused, GimliError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gimli.capture.request import Request
    from gimli.capture.snapshot import Snapshot, Stopwatch

_STDIN, _STDOUT = 0, 1


def main() -> int:
    """Serve one request from standard input; returns the exit status."""
    watch = snapshots.Stopwatch()
    try:
        request = parse_request(_read_request())
    except GimliError as error:
        _send_failure(error, stored=False)
        return 1
    watch.mark("start")
    snapshot = _take(request, watch)
    _send_text(f'{{"event": "released", "pause_ms": {snapshot.pause_ms}}}')
    watch.mark("released")
    return _store(request, snapshot, watch)


def _take(request: Request, watch: Stopwatch) -> Snapshot:
    """The snapshot, whatever happens: nobody restarts the service before this returns."""
    try:
        return snapshots.take(request, watch)
    except Exception as error:  # noqa: BLE001 - a bug of ours, or memory; the facts and the restart must not be lost to it
        return snapshots.failed(request, _bug(error))
    finally:
        if request.crash is not None and request.page is not None:
            _release(request.page)


def _release(page_path: str) -> None:
    try:
        release_crash(page_path)
    except OSError as error:
        print(f"cannot release the crash handler: {page_path}: {error.strerror}", file=sys.stderr)  # noqa: T201 - the monitor logs it


def _store(request: Request, snapshot: Snapshot, watch: Stopwatch) -> int:
    # Slow to import, and not needed before.
    from gimli.capture import evidence  # noqa: PLC0415

    stored: evidence.Stored | None = None
    failure = snapshot.failure
    try:
        with evidence.letting_late_threads_go(snapshot):
            stored = evidence.store(request, snapshot, watch)
    except GimliError as error:
        failure = error
    except Exception as error:  # noqa: BLE001 - as above
        failure = _bug(error)
    if stored is None:
        assert failure is not None
        _send_failure(failure, stored=False)
        return 1
    failure = failure or stored.failure
    if failure is not None:
        _send_failure(failure, stored=True, id=request.id, path=stored.path, notes=list(stored.notes))
    else:
        _send(
            event="stored",
            id=request.id,
            path=stored.path,
            core_bytes=stored.core_bytes,
            notes=list(stored.notes),
        )
    _prune(request)
    return 0


def _prune(request: Request) -> None:
    """Keep the store to its quota. Asked for by a monitor; what goes is told to its journal."""
    limits = request.document.get("limits")
    if not isinstance(limits, dict):
        return
    # Slow to import, and not needed before.
    import time  # noqa: PLC0415

    from gimli.store import pruning, quota  # noqa: PLC0415

    try:
        gone = pruning.prune(request.state_dir, quota.Limits(**limits), time.time())
    except (GimliError, OSError, TypeError) as error:
        print(f"cannot prune the reports: {error}", file=sys.stderr)  # noqa: T201 - as above
        return
    if gone:
        freed = sum(removal.size_bytes for removal in gone)
        _send(event="pruned", bytes=freed, reports=[f"{each.what} of {each.id}: {each.why}" for each in gone])


def _bug(error: Exception) -> CaptureRefused:
    """An error that nobody foresaw, with the line it came from."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else "unknown"
    return CaptureRefused(
        "the capture failed",
        why=f"{type(error).__name__}: {error} (at {place})",
        fix="this is a bug in gimli: please report it, with this message",
    )


def _read_request() -> str:
    parts = []
    try:
        while part := os.read(_STDIN, 1 << 20):
            parts.append(part)
        return b"".join(parts).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("malformed capture request", why=str(error), fix="send one JSON document") from error


def _send_failure(error: GimliError, *, stored: bool, **more: object) -> None:
    _send(event="failed", what=error.what, why=error.why, fix=error.fix, stored=stored, **more)


def _send(**message: object) -> None:
    import json  # noqa: PLC0415 - slow to import, and not needed before the process is let go

    _send_text(json.dumps(message))


def _send_text(line: str) -> None:
    """One message at once. A monitor that has died does not keep the report from being stored."""
    data = f"{line}\n".encode()
    try:
        while data:
            data = data[os.write(_STDOUT, data) :]
    except OSError:
        pass
