"""How does a test talk with a program of ours that runs beside it? One JSON object per line, both ways."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATIENCE_S = 20.0


class Program:
    """A module of this package that runs as a program.

    Args:
        module: its name.
        told: its argument.
    """

    def __init__(self, module: str, told: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.failover.{module}", json.dumps(told)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._rest = b""
        self.heard: list[dict[str, Any]] = []

    def tell(self, word: str) -> None:
        """Say a word to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())
        self._process.stdin.flush()

    def wait_for(self, key: str, *values: object, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        """The next line that has the key, with one of the values if any are given; others are passed over.

        Raises:
            AssertionError: it did not come.
        """
        give_up_s = time.monotonic() + patience_s
        while True:
            line = self._line(give_up_s)
            if line is None:
                raise AssertionError(f"waited {patience_s:.0f} s for {key} {values or ''}: {self.heard[-5:]}")
            self.heard.append(line)
            if key in line and (not values or line[key] in values):
                return line

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _line(self, give_up_s: float) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            if not select.select([fd], [], [], max(0.0, give_up_s - time.monotonic()))[0]:
                return None
            data = os.read(fd, 1 << 20)
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found


def say(**fields: object) -> None:
    """The program's side: one line."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()
