"""What do the commands of ``gimli lab`` have in common?"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

_TELL_AFTER_S = 1.0
"""Work that is done before needs no word of progress."""
_SEED_MAX = 2**63 - 1

SEED = click.option(
    "--seed", type=click.IntRange(0, _SEED_MAX), default=1, show_default=True, help="Of everything random."
)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document, schema 1.")


def progress() -> Callable[[str], None]:
    """Words on standard error, once somebody has waited."""
    began_s = time.monotonic()

    def tell(words: str) -> None:
        waited_s = time.monotonic() - began_s
        if waited_s >= _TELL_AFTER_S or sys.stderr.isatty():
            click.echo(f"{waited_s:5.1f} s  {words}", err=True)

    return tell
