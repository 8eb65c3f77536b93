r"""What does a gimli.toml say?

The file is validated as a whole: every error is found in one go, each with its line, its key, and what was
expected. Loaded by the command line only; the monitor is handed what comes out.

    text --tomllib--> tables --one parser per key--> config.Service
                                  \\--> Problem(line, key, what was expected)
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

from gimli import process, toml_file
from gimli.clock import parse_duration
from gimli.errors import UsageError
from gimli.monitor import config, signs_file
from gimli.monitor.environment_file import read_environment
from gimli.monitor.identity import identify
from gimli.monitor.limits import parse_limit
from gimli.store.quota import Limits
from gimli.toml_file import (
    ConfigError,
    Problem,
    in_one_line,
    meant,
    number,
    one_of,
    parse_size,
    problem_at,
    shape,
    switch,
    text_of,
    texts_of,
)
from gimli.value import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LOG_CAP_BYTES_MIN = 100_000
_RATE_BYTES_MIN = 1000
_REPORTS_BYTES_MIN = 1_000_000
_JOURNAL_BYTES_MIN = 100_000


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
    text = toml_file.read(path, usage="gimli up -f FILE")
    return parse_whole(text, path, state_dir)


def parse(text: str, path: str, state_dir: str) -> tuple[config.Service, ...]:
    """The services of a file's text, as :func:`parse_whole`."""
    return parse_whole(text, path, state_dir)[0]


def parse_whole(text: str, path: str, state_dir: str) -> tuple[tuple[config.Service, ...], dict[str, Any]]:
    """The services of a file's text, and its limits. Relative paths in it are relative to the file.

    Raises:
        ConfigError: with every error of the text.
    """
    check = f"gimli check -f {path}"
    document = toml_file.parse(text, path, check=check)
    reading = _Reading(text.splitlines(), os.path.dirname(os.path.abspath(path)), state_dir)
    services = reading.document(document)
    limits = reading.limits(document)
    if reading.problems:
        raise ConfigError(path, reading.problems, check)
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
                    (name,), f"unknown table; services are written [service.NAME]{meant(name, known)}"
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
                self._problem((table,), f"expected a table, got {shape(written)}")
                continue
            for key, item in written.items():
                if key not in parsers:
                    self._problem((table, key), f"unknown key{meant(key, list(parsers))}")
                    continue
                name, parser = parsers[key]
                try:
                    found[name] = parser(item)
                except UsageError as error:
                    self._problem((table, key), in_one_line(error))
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
                self._problem((*here, key), f"unknown key{meant(key, list(_PARSERS))}")
                continue
            try:
                found[key] = parser(written, self._base)
            except UsageError as error:
                self._problem((*here, key), in_one_line(error))
        if "command" not in table:
            self._problem(
                (*here, "command"),
                'missing; expected a list of texts: command = ["./orders", "--port", "80"]',
            )
        if "kill_after" in found and "watchdog_stop" in found:
            self._problem((*here, "kill_after"), "it is another name of watchdog_stop: write one of them")
        identity = self._identity(here, found)
        if self.problems:
            return None
        made = self._build(name, found)
        return None if made is None else replace(made, identity=identity)

    def _identity(self, here: tuple[str, ...], found: dict[str, Any]) -> config.Identity | None:
        """Two keys make one value, so it cannot come from one parser."""
        try:
            return identify(found.get("user"), found.get("group"))
        except UsageError as error:
            key = "group" if error.what.startswith("group") else "user"
            self._problem((*here, key), in_one_line(error))
            return None

    def _build(self, name: str, found: dict[str, Any]) -> config.Service | None:
        usual = config.Intervals()
        default_log = config.Log(os.path.join(self._state_dir, "logs", f"{name}.log"))
        intervals = config.Intervals(
            found.get("watchdog", usual.watchdog_s),
            found.get("watchdog_start", usual.start_s),
            found.get("watchdog_stop", found.get("kill_after", usual.stop_s)),
        )
        try:
            signs = signs_file.build(found, intervals)
        except UsageError as error:
            self._problem(("service", name), in_one_line(error))
            return None
        return config.Service(
            name=name,
            command=found["command"],
            log=found.get("log", default_log),
            policy=config.Policy(
                intervals,
                found.get("restart", config.Restart.ALWAYS),
                found.get("backoff", config.Backoff()),
                found.get("stop_signal", config.Policy().stop_signal),
            ),
            cwd=found.get("cwd"),
            environment=(*found.get("environment_files", ()), *found.get("environment", ())),
            umask=found.get("umask"),
            limits=found.get("limits", ()),
            forward_hup=found.get("forward_hup", False),
            preload=found.get("preload", True),
            autostart=found.get("autostart", True),
            leave_leftovers=found.get("kill") == "main",
            signs=signs,
        )

    def _problem(self, keys: tuple[str, ...], expected: str) -> None:
        self.problems.append(problem_at(self._lines, keys, expected))


def _command(written: Any, base: str) -> tuple[str, ...]:
    if isinstance(written, str):
        as_list = json.dumps(written.split())
        raise UsageError(
            "expected a list of texts, got one text",
            fix=f'write {as_list}; for a shell\'s features: ["sh", "-c", "..."]',
        )
    words = texts_of(written)
    if not words or not words[0]:
        raise UsageError("expected at least the program's name")
    program = words[0]
    return (os.path.join(base, program) if os.sep in program else program, *words[1:])


def _environment(written: Any, _: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(written, dict):
        raise UsageError(f'expected a table of texts, such as {{ PORT = "80" }}, got {shape(written)}')
    for name, text in written.items():
        if not isinstance(text, str):
            raise UsageError(f"{name}: expected a text, got {shape(text)}", fix=f'write {name} = "{text}"')
        if not name or "=" in name or "\0" in name + text:
            raise UsageError(f"{name!r} cannot be the name of a variable")
    return tuple(written.items())


def _environment_files(written: Any, base: str) -> tuple[tuple[str, str], ...]:
    """The variables of all of them; of one that two files have, the later file's counts."""
    paths = [os.path.join(base, path) for path in texts_of(written)]
    return tuple(pair for path in paths for pair in read_environment(path))


def _account(written: Any, _: str) -> str | int:
    if isinstance(written, bool) or not isinstance(written, (str, int)) or written == "":
        raise UsageError(f"expected a name or a number, got {shape(written)}")
    return written


def parse_umask(written: Any, where: str = "umask") -> int:
    """A umask written as its octal digits.

    Raises:
        UsageError: it is not one.
    """
    if not isinstance(written, str) or not re.fullmatch(r"0?[0-7]{1,3}", written):
        raise UsageError(
            f"{written!r} is not a umask ({where})", fix='write its octal digits as a text: "027"'
        )
    return int(written, 8)


def _limits(written: Any, _: str) -> tuple[config.Limit, ...]:
    if not isinstance(written, dict):
        raise UsageError(
            f'expected a table, such as {{ nofile = 1000, core = "unlimited" }}, got {shape(written)}'
        )
    limits = tuple(parse_limit(name, limit) for name, limit in written.items())
    if len({limit.name for limit in limits}) < len(limits):
        raise UsageError("memory and as are the same limit, nofile and ofile too: write one of them")
    return limits


def parse_stop_signal(written: Any, where: str = "stop_signal") -> int:
    """The number of a signal that a program can act on.

    Raises:
        UsageError: there is none of that name, or it is one that no program can take.
    """
    try:
        signo = process.parse_signal(text_of(written))
    except ValueError:
        raise UsageError(
            f"{written!r} is not a signal ({where})", fix='write its name: "TERM", "INT", "QUIT"'
        ) from None
    if signo in {process.Signals.SIGKILL, process.Signals.SIGSTOP}:
        raise UsageError(
            f"{written} cannot be the way to stop a program ({where})",
            why="it cannot act on it",
            fix="KILL comes by itself, when the stop interval has passed",
        )
    return signo


def _directory(written: Any, base: str) -> str:
    return os.path.join(base, os.path.expanduser(text_of(written)))


def _duration(key: str) -> Callable[[Any, str], float]:
    return lambda written, _: parse_duration(text_of(written), key)


def _restart(written: Any, _: str) -> config.Restart:
    return config.Restart(one_of(written, tuple(item.value for item in config.Restart)))


def parse_backoff(written: Any, where: str) -> config.Backoff:
    """The backoff written as ``FIRST..LIMIT``, or one duration for both.

    Raises:
        UsageError: it is not one.
    """
    first_text, dots, limit_text = text_of(written).partition("..")
    first_s = parse_duration(first_text, where)
    limit_s = parse_duration(limit_text, where) if dots else first_s
    if limit_s < first_s:
        raise UsageError(
            f"the backoff shrinks: {written} ({where})", fix="write the shorter first: 0.1s..60s"
        )
    return config.Backoff(first_s, limit_s)


def _probe(written: Any, base: str) -> config.Target:
    if isinstance(written, list):
        return config.Target("command", command=_command(written, base))
    return signs_file.parse_target(text_of(written), "probe")


def _access(written: Any, _: str) -> config.Access:
    try:
        return config.Access(written)
    except ValueError:
        allowed = ", ".join(f'"{item.value}"' for item in config.Access)
        raise UsageError(f"expected one of {allowed}, got {written!r}") from None


def _log(written: Any, base: str) -> config.Log:
    if isinstance(written, str):
        return config.Log(None if written == "inherit" else os.path.join(base, written))
    if not isinstance(written, dict):
        raise UsageError(
            f'expected a file\'s name, "inherit" or {{ file = ..., rotate = ... }}, got {shape(written)}'
        )
    if unknown := [key for key in written if key not in {"file", *_LOG_KEYS}]:
        raise UsageError(f"unknown key {unknown[0]}{meant(unknown[0], ['file', *_LOG_KEYS])}")
    if "file" not in written:
        raise UsageError('file is missing: { file = "/var/log/web.log" }')
    log = config.Log(os.path.join(base, text_of(written["file"])))
    found = {_LOG_KEYS[key][0]: _LOG_KEYS[key][1](written[key], key) for key in _LOG_KEYS if key in written}
    return replace(log, **found)


def _size(least_bytes: int) -> Callable[[Any, str], int]:
    return lambda written, where: parse_size(written, where, least_bytes)


def _rate(written: Any, where: str) -> int:
    text = text_of(written).strip()
    if not text.endswith("/s"):
        raise UsageError(f'"{written}" is not a rate ({where})', fix='a rate is a size per second: "1MB/s"')
    return parse_size(text.removesuffix("/s"), where, _RATE_BYTES_MIN)


_PARSERS: Mapping[str, Callable[[Any, str], Any]] = {
    "command": _command,
    "environment": _environment,
    "environment_files": _environment_files,
    "cwd": _directory,
    "user": _account,
    "group": _account,
    "umask": lambda written, _: parse_umask(written),
    "limits": _limits,
    "watchdog": _duration("watchdog"),
    "watchdog_start": _duration("watchdog_start"),
    "watchdog_stop": _duration("watchdog_stop"),
    "kill_after": _duration("kill_after"),
    "stop_signal": lambda written, _: parse_stop_signal(written),
    "forward_hup": switch,
    "restart": _restart,
    "backoff": lambda written, _: parse_backoff(written, "backoff"),
    "log": _log,
    "preload": switch,
    "autostart": switch,
    "kill": lambda written, _: one_of(written, ("tree", "main")),
    "ready": lambda written, _: signs_file.parse_ready(text_of(written), "ready"),
    "notify_access": _access,
    "probe": _probe,
    "probe_interval": _duration("probe_interval"),
    "probe_timeout": _duration("probe_timeout"),
}
_LOG_KEYS: Mapping[str, tuple[str, Callable[[Any, str], Any]]] = {
    "rotate": ("cap_bytes", _size(_LOG_CAP_BYTES_MIN)),
    "keep": ("keep", number(0, 999)),
    "rate": ("rate_bytes", _rate),
    "fold": ("fold", switch),
    "floor": ("floor_bytes", _size(0)),
}
_LIMITS: Mapping[str, Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "reports": {
        "max_size": ("max_bytes", lambda written: parse_size(written, "max_size", _REPORTS_BYTES_MIN)),
        "max_count": ("max_count", lambda written: number(0, 1_000_000)(written, "max_count")),
        "max_age": ("max_age_s", lambda written: parse_duration(text_of(written), "max_age")),
    },
    "journal": {
        "max_size": ("journal_bytes", lambda written: parse_size(written, "max_size", _JOURNAL_BYTES_MIN)),
    },
}
