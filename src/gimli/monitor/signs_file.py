"""What was written about a program's signs of life? The texts of ``ready``, ``probe`` and ``notify_access``.

For gimli.toml and for the options of ``gimli run`` alike. Loaded by the command line only.
"""

from __future__ import annotations

import ipaddress
import urllib.parse

from gimli.clock import format_duration, parse_duration
from gimli.errors import UsageError
from gimli.monitor.config import Access, Intervals, ReadyBy, Signs, Target
from gimli.monitor.descriptor_store import STORED_MAX
from gimli.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_PORT_MAX = 65_535
_READY_FD_DEFAULT = 3
_READY_FD_MAX = 1023
_READY_FORMS = '"notify", "fd", "fd:N", "tcp:PORT", "http://ADDRESS:PORT/PATH" or "delay:DURATION"'
_PROBES_PER_WATCHDOG = 3
"""Without a word about it, a probe is asked so often that one lost answer is no hang."""


def parse_ready(text: str, where: str) -> Signs:
    """How a program says that it is ready, and nothing else.

    Args:
        text: as it was written.
        where: the option or key it stands at, for the error.

    Raises:
        UsageError: it is none of the forms.
    """
    kind, colon, rest = text.partition(":")
    if text == "notify":
        return Signs(ReadyBy.NOTIFY, access=Access.MAIN)
    if kind == "fd":
        return Signs(ReadyBy.FD, ready_fd=_descriptor(rest, where) if colon else _READY_FD_DEFAULT)
    if kind == "delay" and colon:
        return Signs(ReadyBy.DELAY, ready_delay_s=parse_duration(rest, where))
    if kind in {"tcp", "http", "https"} and colon:
        return Signs(ReadyBy.PROBE, ready_probe=parse_target(text, where))
    raise UsageError(f'"{text}" is no way to be ready ({where})', fix=f"expected {_READY_FORMS}")


def parse_target(text: str, where: str) -> Target:
    """What a probe asks, written ``tcp:PORT``, ``tcp:ADDRESS:PORT`` or as the URL of a page.

    Raises:
        UsageError: it is neither, or names a host that would have to be looked up.
    """
    if text.startswith("tcp:"):
        host, _, number = text.removeprefix("tcp:").rpartition(":")
        return Target("tcp", _address(host.strip("[]") or "127.0.0.1", where), _port(number, where))
    if text.startswith("https:"):
        raise UsageError(
            f'"{text}" cannot be asked ({where})',
            why="the monitor speaks no TLS",
            fix=f'use a command: probe = ["curl", "-fsS", "{text}"]',
        )
    if not text.startswith("http://"):
        raise UsageError(
            f'"{text}" is no probe ({where})',
            fix='expected "tcp:PORT", "tcp:ADDRESS:PORT", "http://ADDRESS:PORT/PATH" or a command',
        )
    try:
        url = urllib.parse.urlsplit(text)
        port = 80 if url.port is None else url.port
    except ValueError as error:
        raise UsageError(f'"{text}" is no URL ({where})', why=str(error)) from error
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    if not path.isascii() or not path.isprintable() or " " in path:
        raise UsageError(f'"{text}" is no URL ({where})', why="its path has characters that must be escaped")
    return Target("http", _address(url.hostname or "", where), _port(str(port), where), path)


def build(found: Mapping[str, Any], intervals: Intervals) -> Signs:
    """The signs of life of one service, from what was written about them.

    Args:
        found: any of ``ready`` (from :func:`parse_ready`), ``probe``, ``probe_interval``, ``probe_timeout``
            (seconds), ``notify_access``.
        intervals: the service's.

    Raises:
        UsageError: they do not go together.
    """
    probe: Target | None = found.get("probe")
    signs: Signs = found.get("ready") or Signs()
    if probe and "ready" not in found:
        signs = replace(signs, ready=ReadyBy.PROBE, ready_probe=probe)
    if "notify_access" in found:
        signs = replace(signs, access=found["notify_access"])
    if signs.ready is ReadyBy.NOTIFY and signs.access is Access.NONE:
        raise UsageError('ready = "notify" with notify_access = "none"', why="nobody could say it")
    if (
        signs.ready is ReadyBy.FD
        and signs.access is not Access.NONE
        and signs.ready_fd < _READY_FD_DEFAULT + STORED_MAX
    ):
        lowest = _READY_FD_DEFAULT + STORED_MAX
        raise UsageError(
            f"ready = fd:{signs.ready_fd} cannot go with notify_access",
            why=f"descriptors 3 to {lowest - 1} are for those that the program stores by sd_notify",
            fix=f"a number from {lowest} on: fd:{lowest}",
        )
    longest_s = intervals.watchdog_s / _PROBES_PER_WATCHDOG
    interval_s = found.get("probe_interval", min(Signs().probe_interval_s, longest_s))
    timeout_s = found.get("probe_timeout", min(Signs().probe_timeout_s, longest_s))
    if probe and interval_s + timeout_s > intervals.watchdog_s:
        raise UsageError(
            "the probe is too rare for the watchdog",
            why=f"probe_interval and probe_timeout are {format_duration(interval_s + timeout_s)} together, "
            f"silence is allowed for {format_duration(intervals.watchdog_s)}",
            fix="make them shorter, or the watchdog longer",
        )
    return replace(signs, probe=probe, probe_interval_s=interval_s, probe_timeout_s=timeout_s)


def _descriptor(text: str, where: str) -> int:
    if not text.isascii() or not text.isdecimal() or not _READY_FD_DEFAULT <= int(text[:9]) <= _READY_FD_MAX:
        raise UsageError(
            f'"{text}" is no descriptor for this ({where})',
            why=f"it is a number from {_READY_FD_DEFAULT} to {_READY_FD_MAX}",
        )
    return int(text)


def _port(text: str, where: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text[:9]) <= _PORT_MAX:
        raise UsageError(f'"{text}" is no port ({where})', why=f"it is a number from 1 to {_PORT_MAX}")
    return int(text)


def _address(text: str, where: str) -> str:
    """An address: a name would have to be looked up, and the monitor waits for no name server."""
    if text == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise UsageError(
            f'"{text}" is no address ({where})',
            why="the monitor looks up no names",
            fix="write an address: 127.0.0.1, ::1; or use a command as the probe",
        ) from error
