"""Where in a TOML file is an error, and what was meant?

A file is validated as a whole: a reader collects every :class:`Problem` with its line, its key and what was
expected, and raises them together as one :class:`ConfigError`. The parsers of single values here serve every
file of this project; those of one file only live with its reader. Loaded by the command line only.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gimli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

_SIZE = re.compile(r"(\d+)\s*(|B|kB|KB|MB|GB)")
_UNIT_BYTES = {"": 1, "B": 1, "kB": 1000, "KB": 1000, "MB": 1000_000, "GB": 1000_000_000}


@dataclass(frozen=True, slots=True)
class Problem:
    """One error in a file."""

    line: int
    key: str
    expected: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.key}: {self.expected}"


class ConfigError(UsageError):
    """A file with errors; ``problems`` has them all, in the order of the file.

    Args:
        path: the file.
        problems: at least one.
        check: the command that looks at the file again.
    """

    def __init__(self, path: str, problems: list[Problem], check: str) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line)
        listed = "\n".join(map(str, self.problems))
        count = "1 error" if len(problems) == 1 else f"{len(problems)} errors"
        super().__init__(f"{path}: {count}, nothing was started", why=listed, fix=f"then: {check}")


def read(path: str, *, usage: str) -> str:
    """The text of a file.

    Args:
        path: the file.
        usage: how to name another one, for the error.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read().decode()
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no {path}", why="a configuration was expected there", fix=f"name one: {usage}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}", why=str(getattr(error, "strerror", None) or error)) from error


def parse(text: str, path: str, *, check: str) -> dict[str, Any]:
    """The tables of a file's text.

    Raises:
        ConfigError: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        problem = Problem(int(line[1]) if line else 1, "syntax", str(error))
        raise ConfigError(path, [problem], check) from error


def problem_at(lines: list[str], keys: tuple[str | int, ...], expected: str) -> Problem:
    """The problem with what is written at ``keys``; a number counts the tables of an array, from 0."""
    return Problem(_line_of(lines, keys), _dotted(keys), expected)


def in_one_line(error: UsageError) -> str:
    """An error of a single value, as a problem of its file says it."""
    return "; ".join(part for part in (error.what, error.why, error.fix) if part)


def _dotted(keys: tuple[str | int, ...]) -> str:
    return ".".join(str(key + 1) if isinstance(key, int) else key for key in keys)


def _line_of(lines: list[str], keys: tuple[str | int, ...]) -> int:
    """The line, from 1, where a key is written; that of what it would be in when it is missing.

    tomllib keeps no positions. Headers and the keys below them cover how such files are written; what is in
    an inline form has the line of the key it begins at.
    """
    places: dict[tuple[str | int, ...], int] = {}
    here: tuple[str | int, ...] = ()
    nearest, nearest_line = -1, 1
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if header := re.match(r"(\[\[?)([^\[\]]+)\]", text):
            here = _header(_names(header[2]), places, is_array=header[1] == "[[")
            found = here
        elif key := re.match(r"([\w.\"'-]+)\s*=", text):
            found = (*here, *_names(key[1]))
        else:
            continue
        agree = min(len(found), len(keys))  # what is in it will do, where it has no line of its own
        if agree > nearest and found[:agree] == keys[:agree]:
            nearest, nearest_line = agree, number
    return nearest_line


def _header(
    names: list[str], places: dict[tuple[str | int, ...], int], *, is_array: bool
) -> tuple[str | int, ...]:
    """The keys of a table; ``places`` has the number of the last table of each array, from 0."""
    here: tuple[str | int, ...] = ()
    for name in names[:-1]:
        here = (*here, name)
        if here in places:
            here = (*here, places[here])
    here = (*here, names[-1])
    if is_array:
        places[here] = places.get(here, -1) + 1
        here = (*here, places[here])
    return here


def _names(written: str) -> list[str]:
    """The keys of a dotted one."""
    return [name.strip(" \t\"'") for name in written.split(".")]


def meant(written: str, known: list[str]) -> str:
    """What to add to "unknown": the nearest of the known words, or all of them."""
    close = difflib.get_close_matches(written, known, n=1)
    return (
        f'; did you mean "{close[0]}"?' if close else f"; known: {', '.join(known)}" if len(known) > 1 else ""
    )


def one_of(written: Any, allowed: tuple[str, ...]) -> str:
    """One of a few words.

    Raises:
        UsageError: it is none of them.
    """
    if written not in allowed:
        listed = ", ".join(f'"{item}"' for item in allowed)
        raise UsageError(f"expected one of {listed}, got {written!r}")
    return str(written)


def parse_size(written: Any, where: str, least_bytes: int = 0) -> int:
    """Bytes of a size such as ``100MB``.

    Raises:
        UsageError: it is not one, or too small.
    """
    match = _SIZE.fullmatch(text_of(written).strip())
    if not match:
        raise UsageError(
            f'"{written}" is not a size ({where})', fix="a size is a number with a unit: 500kB, 100MB, 1GB"
        )
    size_bytes = int(match[1]) * _UNIT_BYTES[match[2]]
    if size_bytes < least_bytes:
        raise UsageError(f'"{written}" is too small ({where})', why=f"at least {least_bytes // 1000}kB")
    return size_bytes


def number(least: int, most: int) -> Callable[[Any, str], int]:
    """A parser of whole numbers in a range."""

    def parse_number(written: Any, where: str) -> int:
        if isinstance(written, bool) or not isinstance(written, int) or not least <= written <= most:
            raise UsageError(f"expected a number from {least} to {most} ({where}), got {shape(written)}")
        return written

    return parse_number


def text_of(written: Any) -> str:
    """A text.

    Raises:
        UsageError: it is of another type.
    """
    if not isinstance(written, str):
        raise UsageError(f"expected a text in quotes, got {shape(written)}")
    return written


def texts_of(written: Any) -> tuple[str, ...]:
    """A list of texts.

    Raises:
        UsageError: it is of another type, or a text has a NUL.
    """
    if not isinstance(written, list) or not all(isinstance(item, str) for item in written):
        raise UsageError(f"expected a list of texts, got {shape(written)}")
    if any("\0" in item for item in written):
        raise UsageError("a text with a NUL cannot be an argument")
    return tuple(written)


def switch(written: Any, _: str) -> bool:
    """True or false.

    Raises:
        UsageError: it is of another type.
    """
    if not isinstance(written, bool):
        raise UsageError(f"expected true or false, got {shape(written)}")
    return written


def shape(written: Any) -> str:
    """What was written, with its type in a reader's words."""
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "a table",
    }
    return f"{names.get(type(written), type(written).__name__)} ({written!r})"
