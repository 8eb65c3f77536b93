"""What does a file of environment variables say?

``NAME=VALUE`` per line, as /etc/default has them: blank lines and those that begin with ``#`` are skipped,
``export`` before the name is allowed, and one pair of quotes around the value is taken off. Nothing is
expanded: a ``$`` is a ``$``.
"""

from __future__ import annotations

import re

from gimli.errors import UsageError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_environment(path: str) -> tuple[tuple[str, str], ...]:
    """The variables of a file, in its order.

    Raises:
        UsageError: it cannot be read, or a line is not a variable.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read the environment file {path}", why=why) from error
    return parse_environment(text, path)


def parse_environment(text: str, path: str) -> tuple[tuple[str, str], ...]:
    """The variables of a file's text.

    Raises:
        UsageError: a line is not a variable; all such lines are named.
    """
    pairs, wrong = [], []
    for number, line in enumerate(text.split("\n"), 1):
        written = line.strip()
        if not written or written.startswith("#"):
            continue
        name, equals, value = written.removeprefix("export ").partition("=")
        if equals and _NAME.fullmatch(name.strip()) and "\0" not in value:
            pairs.append((name.strip(), _unquoted(value.strip())))
        else:
            wrong.append(f"{path}:{number}: expected NAME=VALUE, got {written!r}")
    if wrong:
        raise UsageError(f"{path} is not a file of variables", why="\n".join(wrong))
    return tuple(pairs)


def _unquoted(value: str) -> str:
    is_quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if is_quoted else value
