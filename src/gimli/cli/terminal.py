"""How wide is the reader's terminal, and does it want colour?"""

from __future__ import annotations

import shutil
import sys

from rich.console import Console

WIDTH = 100
"""Of a pipe or a file; the sketches of every screen fit it."""


def console() -> Console:
    """A console on standard output: colour only on a terminal, and never with NO_COLOR."""
    width = shutil.get_terminal_size((WIDTH, 40)).columns if sys.stdout.isatty() else WIDTH
    return Console(width=width, highlight=False, soft_wrap=False)
