r"""What does a datagram of the sd_notify protocol say? Pure.

    bytes --parse--> Notice(ready, watchdog, main_pid, ...)
              \\--> PeerError: not a message at all

A message is lines of ``KEY=VALUE``. Whoever may reach the socket may send anything: a key that is not known
is passed over (the protocol's own rule, so that it can grow), a value that cannot be is named in ``wrong``
and has no effect, and the first of a key's lines counts.

Source: sd_notify(3); systemd src/core/service.c, service_notify_message(), and src/core/manager.c,
manager_dispatch_notify_fd(), for the limits.
"""

from __future__ import annotations

from gimli.errors import PeerError
from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

ENV_SOCKET = "NOTIFY_SOCKET"
ENV_WATCHDOG_USEC = "WATCHDOG_USEC"
ENV_WATCHDOG_PID = "WATCHDOG_PID"

DATAGRAM_BYTES_MAX = 4096
"""PIPE_BUF, as systemd's."""
STORED_NAME = "stored"
"""The name of a descriptor that was handed over without one."""
_USEC_MAX = 10 * 365 * 86_400 * 1_000_000
_PID_MAX = 2**22
_ERRNO_MAX = 4095
_TEXT_CHARS_MAX = 255
_DIGITS_MAX = 20


@value
class Notice:
    """What one message says. What it does not mention is False or None."""

    ready: bool = False
    stopping: bool = False
    reloading: bool = False
    barrier: bool = False
    """Its descriptor is to be closed, once everything sent before has been handled."""
    beat: bool = False
    trigger: bool = False
    """It asks to be taken for hung, now."""
    watchdog_us: int | None = None
    """From now on this long a silence is allowed; 0: any."""
    extend_us: int | None = None
    main_pid: int | None = None
    status: str | None = None
    errno: int | None = None
    bus_error: str | None = None
    exit_status: int | None = None
    monotonic_us: int | None = None
    store: bool = False
    store_remove: bool = False
    store_name: str | None = None
    store_polled: bool = True
    """A stored descriptor whose other end is gone may be dropped."""
    wrong: tuple[str, ...] = ()
    """Keys whose value cannot be."""


def parse(datagram: bytes) -> Notice:
    """Read one message.

    Raises:
        PeerError: it is longer than a message may be, or holds a NUL.
    """
    if len(datagram) > DATAGRAM_BYTES_MAX:
        raise PeerError(
            "a notification that is too long", why=f"{len(datagram)} bytes, at most {DATAGRAM_BYTES_MAX}"
        )
    text = datagram.removesuffix(b"\0")  # some clients send the end of their string too
    if b"\0" in text:
        raise PeerError("a notification with a NUL in it", why="a message is text")
    found: dict[str, Any] = {}
    wrong = []
    seen = set()
    for line in text.split(b"\n"):
        key, _, said = line.partition(b"=")
        reading = _KEYS.get(key)
        if reading is None or key in seen:
            continue
        seen.add(key)
        try:
            found |= reading(said)
        except ValueError:
            wrong.append(key.decode())
    return Notice(**found, wrong=tuple(wrong))


def _flag(field: str) -> Callable[[bytes], dict[str, Any]]:
    """``1`` sets it. Anything else does not, as in systemd: only FDPOLL knows a 0."""
    return lambda said: {field: True} if said == b"1" else _refuse(said)


def _number(field: str, least: int, most: int) -> Callable[[bytes], dict[str, Any]]:
    def read(said: bytes) -> dict[str, Any]:
        # int() would take signs, spaces, underscores and other alphabets, and minutes for a million digits.
        if not said.isdigit() or len(said) > _DIGITS_MAX or not least <= int(said) <= most:
            _refuse(said)
        return {field: int(said)}

    return read


def _text(field: str) -> Callable[[bytes], dict[str, Any]]:
    """Printable: a control character could forge a line of the log."""
    return lambda said: {field: _printable(said.decode(errors="replace"))[:_TEXT_CHARS_MAX]}


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _watchdog(said: bytes) -> dict[str, Any]:
    if said == b"1":
        return {"beat": True}
    return {"trigger": True} if said == b"trigger" else _refuse(said)


def _store_name(said: bytes) -> dict[str, Any]:
    """It becomes a part of LISTEN_FDNAMES, whose separator is the colon."""
    name = said.decode("ascii")  # a UnicodeDecodeError is a ValueError
    if not name or len(name) > _TEXT_CHARS_MAX or not name.isprintable() or ":" in name:
        _refuse(said)
    return {"store_name": name}


def _poll(said: bytes) -> dict[str, Any]:
    return {"store_polled": False} if said == b"0" else {} if said == b"1" else _refuse(said)


def _refuse(said: bytes) -> dict[str, Any]:
    raise ValueError(said)


_KEYS: dict[bytes, Callable[[bytes], dict[str, Any]]] = {
    b"READY": _flag("ready"),
    b"STOPPING": _flag("stopping"),
    b"RELOADING": _flag("reloading"),
    b"BARRIER": _flag("barrier"),
    b"WATCHDOG": _watchdog,
    b"WATCHDOG_USEC": _number("watchdog_us", 0, _USEC_MAX),
    b"EXTEND_TIMEOUT_USEC": _number("extend_us", 1, _USEC_MAX),
    b"MAINPID": _number("main_pid", 2, _PID_MAX),
    b"STATUS": _text("status"),
    b"ERRNO": _number("errno", 1, _ERRNO_MAX),
    b"BUSERROR": _text("bus_error"),
    b"EXIT_STATUS": _number("exit_status", 0, 255),
    b"MONOTONIC_USEC": _number("monotonic_us", 0, 2**63 - 1),
    b"FDSTORE": _flag("store"),
    b"FDSTOREREMOVE": _flag("store_remove"),
    b"FDNAME": _store_name,
    b"FDPOLL": _poll,
}
