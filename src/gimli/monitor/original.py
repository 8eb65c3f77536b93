"""What does a call of the original's monitor ask for?

Its own syntax: any number of dashes, a value after ``=`` or as the next word, a switch without a value flips
what the places before have set. Three places, each overriding the one before: the file that config-file
names, the environment, the command line. Facts and what differs here: docs/reference/original.md.

    arguments, environment, text of the file  -->  Asked, or every error of the three places

Pure: the caller reads the file that :func:`config_path` names.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from gimli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Kind(Enum):
    """What an option's value is."""

    SWITCH = "0|1"
    """A number, of which 0 is off; written without a value it is flipped."""
    SECONDS = "SECONDS"
    NUMBER = "N"
    TEXT = "TEXT"


@dataclass(frozen=True, slots=True)
class Option:
    """One option, under its two names."""

    name: str
    """On the command line and in the file."""
    variable: str
    kind: Kind
    default: int | str | None
    help: str
    least: int = 0
    has_effect: bool = True


_SILENCE = "Seconds of silence allowed to a program that"

OPTIONS = (
    Option("watchdog-interval", "GIMLI_WATCHDOG_INTERVAL", Kind.SECONDS, 60, f"{_SILENCE} runs.", 1),
    Option(
        "watchdog-start-interval",
        "GIMLI_WATCHDOG_START_INTERVAL",
        Kind.SECONDS,
        200,
        f"{_SILENCE} starts.",
        1,
    ),
    Option(
        "watchdog-stop-interval",
        "GIMLI_WATCHDOG_STOP_INTERVAL",
        Kind.SECONDS,
        60,
        "Seconds that it may take to stop, before KILL.",
        1,
    ),
    Option("debug", "GIMLI_DEBUG", Kind.SWITCH, 0, "No effect: see gimli events.", has_effect=False),
    Option("quiet", "GIMLI_QUIET", Kind.SWITCH, 0, "When detached: write nothing to the terminal."),
    Option("detach", "GIMLI_DETACH", Kind.SWITCH, 1, "Go to the background once the monitor stands."),
    Option("setsid", "GIMLI_SETSID", Kind.SWITCH, 1, "Monitor and program lead sessions of their own."),
    Option("glider", "GIMLI_GLIDER_PATH", Kind.TEXT, None, "No effect: gimli captures.", has_effect=False),
    Option(
        "trace-dir",
        "GIMLI_TRACE_DIR",
        Kind.TEXT,
        None,
        "No effect: reports are kept, see gimli show.",
        has_effect=False,
    ),
    Option("pidfile", "GIMLI_PID_FILE", Kind.TEXT, None, "Holds the monitor's pid, locked while it runs."),
    Option(
        "respawn-frequency",
        "GIMLI_RESPAWN_FREQUENCY",
        Kind.SECONDS,
        15,
        "Wait between starts, from the second failure in a row on.",
    ),
    Option("config-file", "GIMLI_CONFIG_FILE", Kind.TEXT, None, "File of NAME = VALUE lines."),
    Option("uid", "GIMLI_UID", Kind.NUMBER, -1, "Run the program as this user; -1: as the monitor.", -1),
    Option("gid", "GIMLI_GID", Kind.NUMBER, -1, "The same for its group.", -1),
    Option("arg0", "GIMLI_ARG0", Kind.TEXT, None, "What the program sees as its own name."),
    Option("run-once", "GIMLI_RUN_ONCE", Kind.SWITCH, 0, "Capture its fault, but never start it again."),
    Option("immortal", "GIMLI_IMMORTAL", Kind.SWITCH, 0, "Start it again after every end."),
    Option("log-file", "GIMLI_LOG_FILE", Kind.TEXT, None, "File for the program's output."),
    Option(
        "trace-interval",
        "GIMLI_TRACER_INTERVAL",
        Kind.SECONDS,
        60,
        "No effect: captures are bounded.",
        has_effect=False,
    ),
    # Ours: the original could run a program twice without telling the two apart.
    Option("name", "GIMLI_NAME", Kind.TEXT, None, "Name of the service; the program's own by default."),
)
_BY_NAME = {option.name: option for option in OPTIONS}
_CONFIG_FILE = _BY_NAME["config-file"]
_INT_MAX = 2**31 - 1
_ID_MAX = 2**32 - 2
_C_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]{1,16}|0[0-7]{0,22}|[1-9][0-9]{0,19})")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the three places together ask for; each option by its name in :data:`OPTIONS`."""

    command: tuple[str, ...] = ()
    settings: Mapping[str, int | str | None] = field(default_factory=dict)
    wants_help: bool = False

    def number(self, name: str) -> int:
        """A switch or a number."""
        found = self.settings[name]
        assert isinstance(found, int), name
        return found

    def text(self, name: str) -> str | None:
        """A text, or None where nobody set it."""
        found = self.settings[name]
        assert not isinstance(found, int), name
        return found

    def without_effect(self) -> tuple[str, ...]:
        """Options that somebody has set and that mean nothing here."""
        return tuple(
            option.name
            for option in OPTIONS
            if not option.has_effect and self.settings[option.name] != option.default
        )


@dataclass(frozen=True, slots=True)
class Written:
    """One setting as it stands in one of the three places."""

    where: str
    name: str
    text: str
    """Empty when it has no value."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command line taken apart."""

    written: tuple[Written, ...]
    command: tuple[str, ...]
    wants_help: bool


def split(arguments: Sequence[str]) -> CommandLine:
    """Options and command of a command line.

    A word that does not begin with a dash and follows an option without ``=`` is its value, unless it is the
    last word: that is the program.
    """
    written: list[Written] = []
    at = 0
    while at < len(arguments) and arguments[at].startswith("-"):
        argument = arguments[at]
        at += 1
        if argument == "--":
            break
        name, equals, text = argument.lstrip("-").partition("=")
        if name in {"h", "help"}:
            return CommandLine((), (), wants_help=True)
        if not equals and at < len(arguments) - 1 and not arguments[at].startswith("-"):
            text = arguments[at]
            at += 1
        written.append(Written(f"option {argument}", name, text))
    return CommandLine(tuple(written), tuple(arguments[at:]), wants_help=False)


def config_path(arguments: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """The configuration file that is to be read: of the command line, else of the environment."""
    named = [item.text for item in split(arguments).written if item.name == _CONFIG_FILE.name]
    return named[-1] if named else environ.get(_CONFIG_FILE.variable)


def read(arguments: Sequence[str], environ: Mapping[str, str], file_text: str = "", path: str = "") -> Asked:
    """What is asked for.

    Args:
        arguments: the command line, without the command's own name.
        environ: the environment.
        file_text: the text of the file that :func:`config_path` has named; empty without one.
        path: its name, for errors.

    Raises:
        UsageError: with every error of the three places.
    """
    line = split(arguments)
    if line.wants_help:
        return Asked(wants_help=True)
    problems: list[str] = []
    settings: dict[str, int | str | None] = {option.name: option.default for option in OPTIONS}
    variables = (
        Written(option.variable, option.name, environ[option.variable])
        for option in OPTIONS
        if option.variable in environ
    )
    for written in (*_file_settings(file_text, path, problems), *variables, *line.written):
        if option := _BY_NAME.get(written.name):
            _apply(option, written, settings, problems)
        else:
            problems.append(f"{written.where}: there is no option {written.name!r}{_meant(written.name)}")
    if not line.command:
        problems.append("the program to run is missing: gimli monitor [OPTIONS] PROGRAM [ARGUMENT...]")
    if problems:
        count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
        raise UsageError(
            f"{count}, nothing was started", why="\n".join(problems), fix="more: gimli monitor --help"
        )
    return Asked(line.command, settings)


def _file_settings(text: str, path: str, problems: list[str]) -> Iterator[Written]:
    """The lines ``NAME = VALUE`` of a file; a name alone is a switch to flip."""
    for number, line in enumerate(text.split("\n"), 1):
        written = line.strip(" \t\v\f\r")
        if not written or written.startswith("#"):
            continue
        match = re.fullmatch(r"([^\s=]+)\s*(?:=\s*(.*))?", written, re.DOTALL)
        if match:
            yield Written(f"{path}:{number}", match[1], match[2] or "")
        else:
            problems.append(f"{path}:{number}: expected NAME = VALUE, got {written!r}")


def _apply(
    option: Option, written: Written, settings: dict[str, int | str | None], problems: list[str]
) -> None:
    """Let one setting take effect, or say what is wrong with it."""
    if option.kind is Kind.TEXT:
        if not written.text or "\0" in written.text:
            problems.append(f"{written.where}: {option.name} needs a value: {option.name} = TEXT")
        settings[option.name] = written.text
        return
    if not written.text and option.kind is Kind.SWITCH:
        settings[option.name] = int(not settings[option.name])
        return
    number = parse_number(written.text)
    most = _ID_MAX if option.kind is Kind.NUMBER else _INT_MAX
    least = -_INT_MAX if option.kind is Kind.SWITCH else option.least
    if number is None or not least <= number <= most:
        problems.append(f"{written.where}: {_expected(option, written.text)}")
    else:
        settings[option.name] = number


def parse_number(text: str) -> int | None:
    """An integer as C writes one (``10``, ``0x1f``, ``017``, ``-1``); None for anything else."""
    match = _C_NUMBER.fullmatch(text)
    if not match:
        return None
    sign, digits = match.groups()
    base = 16 if digits[:2] in {"0x", "0X"} else 8 if digits.startswith("0") else 10
    return int(digits, base) * (-1 if sign == "-" else 1)


def _expected(option: Option, text: str) -> str:
    if option.kind is Kind.SWITCH:
        # `monitor --debug ./program argument`: the program was taken for the value.
        return f"{option.name} is a switch, {text!r} is no number; write {option.name}=1 or {option.name}=0"
    number = "a whole number" if option.kind is Kind.NUMBER else "whole seconds"
    return f"{option.name} needs {number} from {option.least} on, got {text!r}"


def _meant(name: str) -> str:
    close = difflib.get_close_matches(name, _BY_NAME, n=1)
    return f"; did you mean {close[0]}?" if close else ""
