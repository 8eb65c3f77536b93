"""What was the monitor told to do?

The values that the command line (or gimli.toml, ``config_file``) has validated, and their way as JSON
through a memfd into the monitor's image. Pure; what is unpacked here was packed here.
"""

from __future__ import annotations

import json
from enum import Enum

from gimli.process import Signals
from gimli.store.quota import Limits
from gimli.value import plain, value

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


class ReadyBy(Enum):
    """How a program says that it is ready."""

    EXEC = "exec"
    """It does not: it is once its exec has succeeded, or when its heartbeat says so."""
    NOTIFY = "notify"
    FD = "fd"
    PROBE = "probe"
    DELAY = "delay"


class Access(Enum):
    """Whose sd_notify messages count."""

    NONE = "none"
    """Nobody's: the program is not even told of a socket."""
    MAIN = "main"
    """The main process's."""
    ALL = "all"
    """Its descendants' too."""


@value
class Target:
    """What a probe asks: a port, a page, or a command."""

    kind: str
    """tcp, http or command."""
    host: str = ""
    """An address, not a name: nothing is looked up."""
    port: int = 0
    path: str = ""
    command: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As it was written."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return {
            "tcp": f"tcp:{host}:{self.port}",
            "http": f"http://{host}:{self.port}{self.path}",
        }.get(self.kind, " ".join(self.command))


@value
class Signs:
    """Signs of life besides the heartbeat page: how a program says that it is ready, and that it lives."""

    ready: ReadyBy = ReadyBy.EXEC
    ready_fd: int = 3
    """Where a newline says so."""
    ready_delay_s: float = 0.0
    ready_probe: Target | None = None
    probe: Target | None = None
    """Asked again and again: each answer is a beat."""
    probe_interval_s: float = 10.0
    probe_timeout_s: float = 5.0
    access: Access = Access.NONE


@value
class Policy:
    """What the machine needs to know of a service."""

    intervals: Intervals = Intervals()
    restart: Restart = Restart.ON_FAULT
    backoff: Backoff = Backoff()
    stop_signal: int = int(Signals.SIGTERM)
    """How the program is asked to stop."""


@value
class Identity:
    """Whom a program runs as: looked up when the configuration was read (``identity``)."""

    user: str
    """As it was written, for errors."""
    uid: int
    gid: int
    groups: tuple[int, ...]
    environment: tuple[tuple[str, str], ...] = ()
    """HOME, USER, LOGNAME and SHELL, of a user that the system knows."""


@value
class Limit:
    """A resource limit: a name of setrlimit(2) in small letters, without RLIMIT_; -1 is unlimited."""

    name: str
    soft: int
    hard: int


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
    leave_leftovers: bool = False
    """Leave alone what its main process leaves behind when it ends."""
    arg0: str | None = None
    """What the program sees as its name; None: the command's first word."""
    has_session: bool = True
    """It leads a session, and so a process group, of its own."""
    identity: Identity | None = None
    """None: the monitor's own."""
    umask: int | None = None
    limits: tuple[Limit, ...] = ()
    forward_hup: bool = False
    """A HUP to the monitor is handed on to the program."""
    signs: Signs = Signs()


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
    monitor_command: tuple[str, ...]
    """Starts the image that takes over; the others start helpers."""
    capture_command: tuple[str, ...]
    analysis_command: tuple[str, ...]
    """Empty when no library for analysis is installed: reports stay raw."""
    reread_command: tuple[str, ...] = ()
    """Reads gimli.toml anew, for a takeover. Empty: there is no file (``gimli run``)."""
    pidfile: str | None = None
    """Holds the monitor's pid, and its lock, while it runs."""
    signalled_by: int | None = None
    """A user besides root who may send the monitor signals, for beats by USR1."""
    quota: Limits = Limits()
    """Of the reports."""
    journal_bytes: int = JOURNAL_BYTES
    """The journal and its predecessor together."""


def pack(config: Monitor) -> bytes:
    """The configuration as one JSON document."""
    return json.dumps(plain(config)).encode()


def unpack(document: bytes) -> Monitor:
    """The inverse of :func:`pack`."""
    return unpack_monitor(json.loads(document))


def unpack_monitor(top: dict[str, Any]) -> Monitor:
    """A configuration from its JSON object. What is alike in its services is one object for all."""
    top = dict(top)
    alike: dict[Any, Any] = {}
    services = tuple(unpack_service(item, alike) for item in top.pop("services"))
    for name in ("monitor_command", "capture_command", "analysis_command", "reread_command"):
        top[name] = tuple(top[name])
    top["quota"] = Limits(**top["quota"])
    return Monitor(services=services, **top)


def unpack_service(item: dict[str, Any], alike: dict[Any, Any] | None = None) -> Service:
    """One service of a packed configuration.

    Args:
        item: its JSON object.
        alike: parts of other services, each by itself: an equal one is used again.
    """
    item = dict(item)
    share = ({} if alike is None else alike).setdefault
    policy = _policy(item.pop("policy"))
    signs = _signs(item.pop("signs"))
    command = tuple(share(word, word) for word in item.pop("command"))
    return Service(
        command=share(command, command),
        log=Log(**item.pop("log")),
        policy=share(policy, policy),
        environment=_pairs(item.pop("environment")),
        identity=_identity(item.pop("identity")),
        limits=tuple(Limit(**limit) for limit in item.pop("limits")),
        signs=share(signs, signs),
        **item,
    )


def _policy(item: dict[str, Any]) -> Policy:
    return Policy(
        Intervals(**item["intervals"]),
        Restart(item["restart"]),
        Backoff(**item["backoff"]),
        item["stop_signal"],
    )


def _identity(item: dict[str, Any] | None) -> Identity | None:
    if item is None:
        return None
    lists = {"groups": tuple(item["groups"]), "environment": _pairs(item["environment"])}
    return Identity(**item | lists)


def _pairs(items: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, text) for name, text in items)


def _signs(item: dict[str, Any]) -> Signs:
    parsed = {
        "ready": ReadyBy(item["ready"]),
        "ready_probe": _target(item["ready_probe"]),
        "probe": _target(item["probe"]),
        "access": Access(item["access"]),
    }
    return Signs(**item | parsed)


def _target(item: dict[str, Any] | None) -> Target | None:
    return Target(**item | {"command": tuple(item["command"])}) if item else None
