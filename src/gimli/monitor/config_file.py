r"""What does a gimli.toml say?

The file is validated as a whole: every error is found in one go, each with its line, its key, and what was
expected. Loaded by the command line only; the monitor is handed what comes out.

    text --tomllib--> tables --one parser per key--> config.Service
                                  \\--> Problem(line, key, what was expected)
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gimli.clock import parse_duration
from gimli.errors import UsageError
from gimli.monitor import config
from gimli.store.quota import Limits
from gimli.value import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SIZE = re.compile(r"(\d+)\s*(|B|kB|KB|MB|GB)")
_UNIT_BYTES = {"": 1, "B": 1, "kB": 1000, "KB": 1000, "MB": 1000_000, "GB": 1000_000_000}
_LOG_CAP_BYTES_MIN = 100_000
_RATE_BYTES_MIN = 1000
_REPORTS_BYTES_MIN = 1_000_000
_JOURNAL_BYTES_MIN = 100_000


@dataclass(frozen=True, slots=True)
class Problem:
    """One error in a file."""

    line: int
    key: str
    expected: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.key}: {self.expected}"


class ConfigError(UsageError):
    """A gimli.toml with errors; ``problems`` has them all, in the order of the file."""

    def __init__(self, path: str, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line)
        listed = "\n".join(map(str, self.problems))
        count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
        super().__init__(
            f"{path}: {count}, nothing was started", why=listed, fix=f"then: gimli check -f {path}"
        )


def load(path: str, state_dir: str) -> tuple[config.Service, ...]:
    """The services of a file, as :func:`load_whole`."""
    return load_whole(path, state_dir)[0]


def load_whole(path: str, state_dir: str) -> tuple[tuple[config.Service, ...], dict[str, Any]]:
    """The services of a file, and what it says of the monitor itself, by the names of config.Monitor.

    Args:
        path: the file.
        state_dir: where the logs of services that name none go.

    Raises:
        UsageError: the file cannot be read.
        ConfigError: it is not what it should be.
    """
    try:
        with open(path, "rb") as file:
            text = file.read().decode()
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no {path}", why="a configuration was expected there", fix="name one: gimli up -f FILE"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}", why=str(getattr(error, "strerror", None) or error)) from error
    return parse_whole(text, path, state_dir)


def parse(text: str, path: str, state_dir: str) -> tuple[config.Service, ...]:
    """The services of a file's text, as :func:`parse_whole`."""
    return parse_whole(text, path, state_dir)[0]


def parse_whole(text: str, path: str, state_dir: str) -> tuple[tuple[config.Service, ...], dict[str, Any]]:
    """The services of a file's text, and its limits. Relative paths in it are relative to the file.

    Raises:
        ConfigError: with every error of the text.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise ConfigError(path, [Problem(int(line[1]) if line else 1, "syntax", str(error))]) from error
    reading = _Reading(text.splitlines(), os.path.dirname(os.path.abspath(path)), state_dir)
    services = reading.document(document)
    limits = reading.limits(document)
    if reading.problems:
        raise ConfigError(path, reading.problems)
    return services, limits


class _Reading:
    """One pass over a document that collects problems instead of stopping at the first."""

    def __init__(self, lines: list[str], base: str, state_dir: str) -> None:
        self.problems: list[Problem] = []
        self._lines = lines
        self._base = base
        self._state_dir = state_dir

    def document(self, document: dict[str, Any]) -> tuple[config.Service, ...]:
        for name in document:
            if name != "service" and name not in _LIMITS:
                known = ["service", *_LIMITS]
                self._problem(
                    (name,), f"unknown table; services are written [service.NAME]{_meant(name, known)}"
                )
        tables = document.get("service", {})
        if not isinstance(tables, dict) or not tables:
            self._problem(("service",), "no service: write a table [service.NAME] with a command")
            return ()
        services = (self._service(name, table) for name, table in tables.items())
        return tuple(service for service in services if service is not None)

    def limits(self, document: dict[str, Any]) -> dict[str, Any]:
        """What [reports] and [journal] say, by the names of config.Monitor."""
        found: dict[str, Any] = {}
        for table, parsers in _LIMITS.items():
            written = document.get(table, {})
            if not isinstance(written, dict):
                self._problem((table,), f"expected a table, got {_shape(written)}")
                continue
            for key, item in written.items():
                if key not in parsers:
                    self._problem((table, key), f"unknown key{_meant(key, list(parsers))}")
                    continue
                name, parser = parsers[key]
                try:
                    found[name] = parser(item)
                except UsageError as error:
                    self._problem((table, key), "; ".join(filter(None, (error.what, error.why, error.fix))))
        journal = {"journal_bytes": found.pop("journal_bytes")} if "journal_bytes" in found else {}
        return {**({"quota": Limits(**found)} if found else {}), **journal}

    def _service(self, name: str, table: Any) -> config.Service | None:
        here = ("service", name)
        if not NAME.fullmatch(name):
            self._problem(here, "a name has letters, digits, dots, dashes and underscores, 64 at most")
        if not isinstance(table, dict):
            self._problem(here, "expected a table with a command")
            return None
        found: dict[str, Any] = {}
        for key, written in table.items():
            parser = _PARSERS.get(key)
            if parser is None:
                self._problem((*here, key), f"unknown key{_meant(key, list(_PARSERS))}")
                continue
            try:
                found[key] = parser(written, self._base)
            except UsageError as error:
                self._problem(
                    (*here, key), "; ".join(part for part in (error.what, error.why, error.fix) if part)
                )
        if "command" not in table:
            self._problem(
                (*here, "command"),
                'missing; expected a list of texts: command = ["./orders", "--port", "80"]',
            )
        if self.problems:
            return None
        return self._build(name, found)

    def _build(self, name: str, found: dict[str, Any]) -> config.Service:
        usual = config.Intervals()
        default_log = config.Log(os.path.join(self._state_dir, "logs", f"{name}.log"))
        return config.Service(
            name=name,
            command=found["command"],
            log=found.get("log", default_log),
            policy=config.Policy(
                config.Intervals(
                    found.get("watchdog", usual.watchdog_s),
                    found.get("watchdog_start", usual.start_s),
                    found.get("watchdog_stop", usual.stop_s),
                ),
                found.get("restart", config.Restart.ALWAYS),
                found.get("backoff", config.Backoff()),
            ),
            cwd=found.get("cwd"),
            environment=found.get("environment", ()),
            preload=found.get("preload", True),
            autostart=found.get("autostart", True),
        )

    def _problem(self, keys: tuple[str, ...], expected: str) -> None:
        self.problems.append(Problem(_line_of(self._lines, keys), ".".join(keys), expected))


def _line_of(lines: list[str], keys: tuple[str, ...]) -> int:
    """The line, from 1, where a key is written; the nearest table above it when it is missing.

    tomllib keeps no positions. Finding the header and then the key covers how such files are written; a
    dotted or inline form falls back to its table's line.
    """
    *table, key = keys
    header_line = 0
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text.startswith("["):
            name = re.sub(r"[\s\"']", "", text.split("]")[0].strip("[ "))
            if name == ".".join(keys):
                return number
            if name == ".".join(table):
                header_line = number
            elif header_line and not name.startswith(".".join(table) + "."):
                break
        elif (header_line or not table) and re.match(rf"[\"']?{re.escape(key)}[\"']?\s*=", text):
            return number
    return header_line or 1


def _meant(written: str, known: list[str]) -> str:
    close = difflib.get_close_matches(written, known, n=1)
    return (
        f'; did you mean "{close[0]}"?' if close else f"; known: {', '.join(known)}" if len(known) > 1 else ""
    )


def _command(written: Any, base: str) -> tuple[str, ...]:
    if isinstance(written, str):
        as_list = json.dumps(written.split())
        raise UsageError(
            "expected a list of texts, got one text",
            fix=f'write {as_list}; for a shell\'s features: ["sh", "-c", "..."]',
        )
    words = _texts(written)
    if not words or not words[0]:
        raise UsageError("expected at least the program's name")
    program = words[0]
    return (os.path.join(base, program) if os.sep in program else program, *words[1:])


def _texts(written: Any) -> tuple[str, ...]:
    if not isinstance(written, list) or not all(isinstance(item, str) for item in written):
        raise UsageError(f"expected a list of texts, got {_shape(written)}")
    if any("\0" in item for item in written):
        raise UsageError("a text with a NUL cannot be an argument")
    return tuple(written)


def _environment(written: Any, _: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(written, dict):
        raise UsageError(f'expected a table of texts, such as {{ PORT = "80" }}, got {_shape(written)}')
    for name, text in written.items():
        if not isinstance(text, str):
            raise UsageError(f"{name}: expected a text, got {_shape(text)}", fix=f'write {name} = "{text}"')
        if not name or "=" in name or "\0" in name + text:
            raise UsageError(f"{name!r} cannot be the name of a variable")
    return tuple(written.items())


def _directory(written: Any, base: str) -> str:
    return os.path.join(base, os.path.expanduser(_text(written)))


def _duration(key: str) -> Callable[[Any, str], float]:
    return lambda written, _: parse_duration(_text(written), key)


def _restart(written: Any, _: str) -> config.Restart:
    try:
        return config.Restart(written)
    except ValueError:
        allowed = ", ".join(f'"{item.value}"' for item in config.Restart)
        raise UsageError(f"expected one of {allowed}, got {written!r}") from None


def parse_backoff(written: Any, where: str) -> config.Backoff:
    """The backoff written as ``FIRST..LIMIT``, or one duration for both.

    Raises:
        UsageError: it is not one.
    """
    first_text, dots, limit_text = _text(written).partition("..")
    first_s = parse_duration(first_text, where)
    limit_s = parse_duration(limit_text, where) if dots else first_s
    if limit_s < first_s:
        raise UsageError(
            f"the backoff shrinks: {written} ({where})", fix="write the shorter first: 0.1s..60s"
        )
    return config.Backoff(first_s, limit_s)


def _log(written: Any, base: str) -> config.Log:
    if isinstance(written, str):
        return config.Log(None if written == "inherit" else os.path.join(base, written))
    if not isinstance(written, dict):
        raise UsageError(
            f'expected a file\'s name, "inherit" or {{ file = ..., rotate = ... }}, got {_shape(written)}'
        )
    if unknown := [key for key in written if key not in {"file", *_LOG_KEYS}]:
        raise UsageError(f"unknown key {unknown[0]}{_meant(unknown[0], ['file', *_LOG_KEYS])}")
    if "file" not in written:
        raise UsageError('file is missing: { file = "/var/log/web.log" }')
    log = config.Log(os.path.join(base, _text(written["file"])))
    found = {_LOG_KEYS[key][0]: _LOG_KEYS[key][1](written[key], key) for key in _LOG_KEYS if key in written}
    return replace(log, **found)


def parse_size(written: Any, where: str, least_bytes: int = 0) -> int:
    """Bytes of a size such as ``100MB``.

    Raises:
        UsageError: it is not one, or too small.
    """
    match = _SIZE.fullmatch(_text(written).strip())
    if not match:
        raise UsageError(
            f'"{written}" is not a size ({where})', fix="a size is a number with a unit: 500kB, 100MB, 1GB"
        )
    size_bytes = int(match[1]) * _UNIT_BYTES[match[2]]
    if size_bytes < least_bytes:
        raise UsageError(f'"{written}" is too small ({where})', why=f"at least {least_bytes // 1000}kB")
    return size_bytes


def _size(least_bytes: int) -> Callable[[Any, str], int]:
    return lambda written, where: parse_size(written, where, least_bytes)


def _rate(written: Any, where: str) -> int:
    text = _text(written).strip()
    if not text.endswith("/s"):
        raise UsageError(f'"{written}" is not a rate ({where})', fix='a rate is a size per second: "1MB/s"')
    return parse_size(text.removesuffix("/s"), where, _RATE_BYTES_MIN)


def _count(most: int) -> Callable[[Any, str], int]:
    def parse(written: Any, where: str) -> int:
        if isinstance(written, bool) or not isinstance(written, int) or not 0 <= written <= most:
            raise UsageError(f"expected a number from 0 to {most} ({where}), got {_shape(written)}")
        return written

    return parse


def _text(written: Any) -> str:
    if not isinstance(written, str):
        raise UsageError(f"expected a text in quotes, got {_shape(written)}")
    return written


def _switch(written: Any, _: str) -> bool:
    if not isinstance(written, bool):
        raise UsageError(f"expected true or false, got {_shape(written)}")
    return written


def _shape(written: Any) -> str:
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "a table",
    }
    return f"{names.get(type(written), type(written).__name__)} ({written!r})"


_PARSERS: Mapping[str, Callable[[Any, str], Any]] = {
    "command": _command,
    "environment": _environment,
    "cwd": _directory,
    "watchdog": _duration("watchdog"),
    "watchdog_start": _duration("watchdog_start"),
    "watchdog_stop": _duration("watchdog_stop"),
    "restart": _restart,
    "backoff": lambda written, _: parse_backoff(written, "backoff"),
    "log": _log,
    "preload": _switch,
    "autostart": _switch,
}
_LOG_KEYS: Mapping[str, tuple[str, Callable[[Any, str], Any]]] = {
    "rotate": ("cap_bytes", _size(_LOG_CAP_BYTES_MIN)),
    "keep": ("keep", _count(999)),
    "rate": ("rate_bytes", _rate),
    "fold": ("fold", _switch),
    "floor": ("floor_bytes", _size(0)),
}
_LIMITS: Mapping[str, Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "reports": {
        "max_size": ("max_bytes", lambda written: parse_size(written, "max_size", _REPORTS_BYTES_MIN)),
        "max_count": ("max_count", lambda written: _count(1_000_000)(written, "max_count")),
        "max_age": ("max_age_s", lambda written: parse_duration(_text(written), "max_age")),
    },
    "journal": {
        "max_size": ("journal_bytes", lambda written: parse_size(written, "max_size", _JOURNAL_BYTES_MIN)),
    },
}
