"""What does the monitor ask of the capture helper? The request of docs/reference/capture.md."""

from __future__ import annotations

import os
import time

from gimli import clock, heartbeat, process
from gimli.store import new_id
from gimli.value import fields_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gimli.monitor.child import Child
    from gimli.monitor.config import Service
    from gimli.monitor.deaths import Death
    from gimli.monitor.events import HeartbeatLate

_CAP_BYTES = 8 * 1024 * 1024
"""Copied of each mapping of a native program: its stacks and the beginning of its heaps."""
_STOP_TIMEOUT_S = 2.0
_EVENTS_MAX = 40


def capture_request(  # noqa: PLR0913 - keywords: a request has that many parts
    config: Service,
    child: Child,
    *,
    state_dir: str,
    reason: str,
    pid: int,
    page: heartbeat.Page,
    page_path: str,
    output: list[str],
    journal: list[dict[str, Any]],
    crash: heartbeat.Crash | None = None,
    hang: HeartbeatLate | None = None,
    signo: int | None = None,
    ended_pid: int = 0,
    death: Death | None = None,
) -> dict[str, Any]:
    """A request with an id of its own.

    Args:
        config: the service.
        child: the service as the machine sees it.
        state_dir: where the report goes.
        reason: crash, hang or request.
        pid: the process, which may be a worker of the service; 0 when it has ended.
        page: the heartbeat page as it stands.
        page_path: where the helper finds it, to release the crash handler that waits there.
        output: the last lines of the service's output.
        journal: the last events of the service.
        crash: the crash handler's record; none under the original's protocol.
        hang: what was silent.
        signo: the signal it died by, when there is no record.
        ended_pid: the process, when it has ended.
        death: what is known of the signal beside its number.
    """
    identity = process.identify(pid) if pid else None
    now_s, now_ns = time.time(), clock.monotonic_ns()
    return {
        "id": new_id(now_s, os.urandom(2)),
        "state_dir": state_dir,
        "service": config.name,
        "reason": reason,
        "command": list(config.command),
        "time": clock.rfc3339(now_s),
        "monotonic_ns": now_ns,
        "pid": pid,
        "service_pid": ended_pid or child.pid,
        "start_ticks": identity.start_ticks if identity else None,
        "crash": fields_of(crash) if crash else None,
        "signal": crash.signo if crash else signo,
        "signal_code": death.code if death else None,
        "sender": death.sender if death else None,
        "hang": fields_of(hang) | {"scheduling": dict(hang.scheduling) or None} if hang else None,
        "heartbeat": _heartbeat(page, now_ns),
        "page": page_path if crash else None,
        "output": output,
        "journal": journal[-_EVENTS_MAX:],
        "facts": {"restarts": child.restarts, "failures": child.failures, **_oom(death)},
        "cap_bytes": _CAP_BYTES,
        "stop_timeout_s": _STOP_TIMEOUT_S,
    }


def _oom(death: Death | None) -> dict[str, Any]:
    return {"oom": {"anon_rss_bytes": death.anon_rss_bytes}} if death and death.oom else {}


def _heartbeat(page: heartbeat.Page, now_ns: int) -> dict[str, Any] | None:
    """The page for a report; None for a program that does not beat, or has overwritten it."""
    if not page.intact or (page.state == heartbeat.NOT_SUPPORTED and not page.pulses):
        return None
    return {
        "state": heartbeat.STATE_NAMES[page.state],
        "note": page.note,
        "beat_age_s": max(0, now_ns - page.beat_ns) / 1e9 if page.beat_ns else None,
        "pulses": [
            {
                "name": pulse.name,
                "tid": pulse.tid,
                "interval_s": pulse.interval_ns / 1e9,
                "silent_s": max(0, now_ns - pulse.beat_ns) / 1e9,
            }
            for pulse in page.pulses
        ],
    }
