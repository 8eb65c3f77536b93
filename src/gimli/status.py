"""What does a monitor say of itself? The contract of ``gimli ps --json``, schema 1."""

from __future__ import annotations

from gimli.value import fields_of, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEMA = 1


@value
class ServiceStatus:
    """One service now."""

    name: str
    state: str
    pid: int | None
    restarts: int
    uptime_s: float | None
    beat_age_s: float | None
    """None: the program has no heartbeat."""
    last_report: dict[str, Any] | None
    """``id``, ``reason``, ``summary`` (None until it is analysed)."""
    because: str
    """Words for a state that needs them: why it backs off or has failed."""
    next_start_s: float | None
    note: str
    log: str | None
    debugger: dict[str, Any] | None = None
    """``pid``, ``comm``, ``uid``, ``user`` of whoever traces it: the watchdog waits."""
    starved: bool = False
    """A beat is late because the program gets no CPU."""
    late: str = ""
    """Why a late beat is borne for now, in words."""


@value
class MonitorStatus:
    """One monitor now."""

    pid: int
    instance: str
    started: str
    takeovers: int
    services: tuple[ServiceStatus, ...]


def to_json(status: MonitorStatus) -> dict[str, Any]:
    """The status as the JSON document of the contract."""
    monitor = fields_of(status)
    del monitor["services"]
    return {
        "schema": SCHEMA,
        "monitor": monitor,
        "services": [fields_of(service) for service in status.services],
    }


def describe_tracer(tracer: dict[str, Any]) -> str:
    """A debugger in words: ``gdb (pid 9001) of anna``."""
    if not tracer["pid"]:
        return "a debugger outside of this container"
    comm = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in tracer["comm"])
    owner = tracer["user"] or (f"uid {tracer['uid']}" if tracer["uid"] is not None else "")
    return f"{comm or 'a process'} (pid {tracer['pid']})" + (f" of {owner}" if owner else "")
