"""What was the monitor told to do?

The values that the command line (or gimli.toml, ``config_file``) has validated, and their way as JSON
through a memfd into the monitor's image. Pure; what is unpacked here was packed here.
"""

from __future__ import annotations

import json
from enum import Enum

from gimli.store.quota import Limits
from gimli.value import fields_of, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Restart(Enum):
    """Which ends of a program start it again."""

    ALWAYS = "always"
    ON_FAULT = "on-fault"
    NEVER = "never"


@value
class Intervals:
    """Silence allowed in each phase of the heartbeat, in seconds. Defaults are the original's."""

    watchdog_s: float = 60.0
    start_s: float = 200.0
    stop_s: float = 60.0


@value
class Backoff:
    """How long to wait before a restart.

    The first failure after a healthy spell restarts at once; then ``first_s``, doubled each time up to
    ``limit_s``. A run of at least ``healthy_s`` forgets the failures. After ``attempts`` failures in a row
    the service is FAILED (0: never).
    """

    first_s: float = 0.1
    limit_s: float = 60.0
    healthy_s: float = 10.0
    attempts: int = 15


@value
class Policy:
    """What the machine needs to know of a service."""

    intervals: Intervals = Intervals()
    restart: Restart = Restart.ON_FAULT
    backoff: Backoff = Backoff()


@value
class Log:
    """Where a service's output goes.

    ``file`` None: it is inherited, and no report can show its last lines. ``echo``: the monitor repeats
    it on its own standard output. The file and its ``keep`` rotated predecessors take at most
    ``cap_bytes`` each.
    """

    file: str | None
    echo: bool = False
    cap_bytes: int = 10_000_000
    keep: int = 5
    fold: bool = True
    """Lines that repeat are counted instead of written."""
    rate_bytes: int = 0
    """Per second; what comes faster is dropped. 0: as fast as it comes, then a program waits for its log."""
    floor_bytes: int | None = None
    """What must stay free on its disk; None for the usual (``disk``)."""


@value
class Service:
    """One program to keep up."""

    name: str
    command: tuple[str, ...]
    log: Log
    policy: Policy = Policy()
    cwd: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    """Added to what the monitor itself was started with."""
    preload: bool = True
    inherit_stdin: bool = False
    autostart: bool = True


JOURNAL_BYTES = 16_000_000


@value
class Monitor:
    """One monitor: its services and its places."""

    services: tuple[Service, ...]
    state_dir: str
    instance_dir: str
    """Sockets, pages and the lock of this one monitor, below the runtime directory."""
    instance: str
    library: str | None
    """Path of libgimli.so for LD_PRELOAD; None when this machine has none."""
    foreground: bool
    """``gimli run``: ends with its service, and tells on standard error what happens."""
    capture_command: tuple[str, ...]
    analysis_command: tuple[str, ...]
    """Empty when no library for analysis is installed: reports stay raw."""
    quota: Limits = Limits()
    """Of the reports."""
    journal_bytes: int = JOURNAL_BYTES
    """The journal and its predecessor together."""


def pack(config: Monitor) -> bytes:
    """The configuration as one JSON document."""
    return json.dumps(_plain(config)).encode()


def unpack(document: bytes) -> Monitor:
    """The inverse of :func:`pack`."""
    top = json.loads(document)
    services = tuple(_service(item) for item in top.pop("services"))
    for name in ("capture_command", "analysis_command"):
        top[name] = tuple(top[name])
    top["quota"] = Limits(**top["quota"])
    return Monitor(services=services, **top)


def _plain(item: Any) -> Any:
    if isinstance(item, Enum):
        return item.value
    if isinstance(item, tuple):
        return [_plain(part) for part in item]
    if hasattr(type(item), "__match_args__"):
        return {name: _plain(part) for name, part in fields_of(item).items()}
    return item


def _service(item: dict[str, Any]) -> Service:
    policy = item.pop("policy")
    return Service(
        command=tuple(item.pop("command")),
        log=Log(**item.pop("log")),
        policy=Policy(
            Intervals(**policy["intervals"]), Restart(policy["restart"]), Backoff(**policy["backoff"])
        ),
        environment=tuple((name, text) for name, text in item.pop("environment")),
        **item,
    )
