"""Where is libgimli, and what does a compiler need to know of it?"""

from __future__ import annotations

import os
import shlex

import gimli
from gimli.errors import GimliError, UsageError

_DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(gimli.__file__)), "_lib")


def library_path() -> str:
    """The shared library.

    Raises:
        GimliError: this installation has none.
    """
    path = os.path.join(_DIRECTORY, "libgimli.so")
    if not os.path.exists(path):
        raise GimliError(
            "libgimli.so is not installed",
            why=f"there is no {path}",
            fix="install the wheel (pip install gimli-monitor), or in a checkout: make",
        )
    return path


def preload_path() -> str:
    """The shared library, at a path that the loader's LD_PRELOAD can carry.

    Raises:
        GimliError: there is none, or its path holds one of the two characters that separate paths there.
    """
    path = library_path()
    if any(separator in path for separator in ": "):
        raise UsageError(
            f"cannot preload {path}",
            why="LD_PRELOAD splits paths at spaces and colons",
            fix="install gimli at a path without them, or run with --no-preload",
        )
    return path


def compiler_flags(kind: str) -> str:
    """What ``--cflags`` or ``--libs`` prints."""
    library_path()
    directory = shlex.quote(_DIRECTORY)
    if kind == "cflags":
        return f"-I{directory}/include"
    return f"-L{directory} -Wl,-rpath,{directory} -lgimli"
