"""Which resource limits does a program get, and how are they written?

A name of setrlimit(2) in small letters (``memory`` is ``as``), and one value for both limits or a list of
the soft and the hard one: ``1000``, ``"unlimited"``, ``"1GB"`` where bytes are counted.
"""

from __future__ import annotations

import os
import re
import resource

from gimli.errors import UsageError
from gimli.monitor.config import Limit

NAMES = tuple(
    sorted(name.removeprefix("RLIMIT_").lower() for name in dir(resource) if name.startswith("RLIMIT_"))
)
_ALIASES = {"memory": "as", "ofile": "nofile"}
_IN_BYTES = frozenset({"as", "core", "data", "fsize", "memlock", "msgqueue", "rss", "stack"})
_UNIT_BYTES = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_VALUE = re.compile(r"(\d{1,18})\s*(|B|kB|KB|MB|GB|TB)")
_UNLIMITED = -1
_LARGEST = 2**63 - 1


def parse_limit(name: str, written: object) -> Limit:
    """One limit.

    Args:
        name: as it was written, such as ``nofile`` or ``memory``.
        written: a number, a text, or a list of two of them.

    Raises:
        UsageError: there is no such limit, it is not one, or it cannot be had here.
    """
    known = _ALIASES.get(name, name)
    if known not in NAMES:
        raise UsageError(f"{name} is no limit", fix=f"known: memory, {', '.join(NAMES)}")
    pair = written if isinstance(written, list) else [written, written]
    if len(pair) != 2:
        raise UsageError(f"{name}: expected one value, or two: [soft, hard]")
    soft, hard = (_value(known, item) for item in pair)
    if _rank(soft) > _rank(hard):
        raise UsageError(f"{name}: the soft limit is above the hard one", fix="write the smaller first")
    _check_allowed(known, hard)
    return Limit(known, soft, hard)


def parse_assignment(text: str) -> Limit:
    """One limit as an option has it: ``nofile=1000`` or ``nofile=1000:2000``.

    Raises:
        UsageError: it is not one.
    """
    name, equals, written = text.partition("=")
    if not equals:
        raise UsageError(f"{text!r} is not a limit (--limit)", fix="write nofile=1000 or core=unlimited")
    return parse_limit(name.strip(), written.split(":") if ":" in written else written)


def _value(name: str, written: object) -> int:
    if isinstance(written, int) and not isinstance(written, bool) and 0 <= written <= _LARGEST:
        return written
    text = written.strip() if isinstance(written, str) else ""
    if text in {"unlimited", "infinity"}:
        return _UNLIMITED
    match = _VALUE.fullmatch(text)
    if match and (not match[2] or name in _IN_BYTES):
        return min(int(match[1]) * _UNIT_BYTES[match[2]], _LARGEST)
    example = '"1GB"' if name in _IN_BYTES else "1000"
    raise UsageError(f'{name}: expected a number or "unlimited", such as {example}, got {written!r}')


def _rank(limit: int) -> float:
    return float("inf") if limit == _UNLIMITED else limit


def _check_allowed(name: str, hard: int) -> None:
    """A limit that the kernel will refuse is refused before anything is started."""
    _, present = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))
    if os.geteuid() != 0 and _rank(hard) > _rank(present):
        raise UsageError(
            f"{name}: only root may raise the hard limit",
            why=f"it is {present}, and {'unlimited' if hard == _UNLIMITED else hard} was asked for",
        )
