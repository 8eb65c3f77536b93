"""How does a service stand at this moment, for ``gimli ps``?"""

from __future__ import annotations

from gimli.monitor.actions import Timer
from gimli.monitor.child import State
from gimli.status import ServiceStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gimli.monitor.child import Child
    from gimli.monitor.config import Service
    from gimli.monitor.instance import Instance
    from gimli.monitor.timers import Timers
    from gimli.monitor.vigil import Vigil


def describe(
    config: Service,
    child: Child,
    instance: Instance,
    vigil: Vigil,
    timers: Timers,
    last_report: dict[str, Any] | None,
    now_ns: int,
) -> ServiceStatus:
    """A service as its parts know it."""
    pid = instance.pid
    sight = vigil.sight(pid, config.policy.intervals) if pid else None
    due_ns = timers.due_ns(Timer.RESTART) if child.state is State.BACKOFF else None
    return ServiceStatus(
        name=config.name,
        state=child.state.value,
        pid=pid,
        restarts=child.restarts,
        uptime_s=(now_ns - instance.started_ns) / 1e9 if pid else None,
        beat_age_s=(now_ns - sight.beat_ns) / 1e9 if sight and sight.beat_ns else None,
        last_report=last_report,
        because=child.because,
        next_start_s=None if due_ns is None else max(0.0, (due_ns - now_ns) / 1e9),
        note=sight.note if sight else "",
        log=config.log.file,
        debugger=sight.debugger if sight else None,
        starved=sight.starved if sight else False,
        late=sight.late if sight else "",
    )
