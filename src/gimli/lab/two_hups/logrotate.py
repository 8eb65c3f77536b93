"""How does logrotate rotate two logs of one stanza, and who sent the HUPs?

The real program, with a configuration and a state file of its own: no root, nothing of the system's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gimli.errors import GimliError
from gimli.lab.two_hups.model import Script

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gimli.lab.two_hups.model import Setup

LOGS = ("app-error.log", "app.log")
"""In the order of a pattern such as /var/log/app*.log: '-' sorts before '.'."""
_SEARCHED = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
_PATIENCE_S = 60.0
_LINE = (
    "2026-11-22 04:00:{:02d},{:03d} ERROR orders[{}]: "
    "order {} of customer {}: price is {} cents, {} expected\n"
)


@dataclass(frozen=True, slots=True)
class Rotation:
    """One run of logrotate.

    Args:
        pid: logrotate's own.
        shells: the pids of the postrotate shells, in order: each said its own and its parent's.
        took_s: all of it.
    """

    pid: int
    shells: tuple[int, ...]
    took_s: float

    def sender(self, pid: int, comm: str) -> str:
        """Who sent a signal, when the kernel names this pid: also a shell that is gone, by its own word."""
        if pid in self.shells:
            return f"sh({pid}) < logrotate({self.pid})"
        return f"{comm or 'a process that is gone'}({pid})"


def find() -> str:
    """The path of logrotate.

    Raises:
        GimliError: it is not installed.
    """
    path = shutil.which("logrotate", path=_SEARCHED)
    if path is None:
        raise GimliError(
            "logrotate is not installed, so the two HUPs cannot be sent for real",
            why=f"no logrotate in {_SEARCHED}",
            fix="apt install logrotate, or leave out --real",
        )
    return path


def stanza(setup: Setup, directory: str) -> str:
    """The stanza, as an operator would have written it; the first line of the script is the laboratory's."""
    logs = " ".join(os.path.join(directory, name) for name in LOGS)
    options = [setup.empty.value, *(["compress"] if setup.compress else [])]
    options += ["sharedscripts"] if setup.script is Script.ONCE else []
    return "\n".join(
        [
            f"{logs} {{",
            "    daily",
            "    rotate 7",
            *(f"    {option}" for option in options),
            "    postrotate",
            f"        echo $$ $PPID >>{directory}/shells",
            f"        kill -HUP $(cat {directory}/monitor.pid)",
            "    endscript",
            "}",
            "",
        ]
    )


def write_logs(setup: Setup, directory: str) -> None:
    """The logs of the stanza, with lines as programs write them."""
    for name, size in zip(LOGS, setup.log_bytes, strict=True):
        with open(os.path.join(directory, name), "w", encoding="ascii") as file:
            file.writelines(_lines(size))


def rotate(setup: Setup, directory: str, environment: Mapping[str, str]) -> Rotation:
    """Run logrotate once, as cron would at 04:00.

    Raises:
        GimliError: it is not there, or complains.
    """
    program = find()
    config = os.path.join(directory, "logrotate.conf")
    with open(config, "w", encoding="utf-8") as file:
        file.write(stanza(setup, directory))
    os.chmod(config, 0o600)
    began_s = time.monotonic()
    with subprocess.Popen(
        [program, "--force", "--state", os.path.join(directory, "logrotate.state"), config],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment),
        text=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise GimliError("logrotate does not end", why=f"it was given {_PATIENCE_S:.0f} s") from error
    if process.returncode:
        raise GimliError("logrotate failed", why=said.strip() or f"exit {process.returncode}")
    return Rotation(process.pid, _shells(directory, process.pid), time.monotonic() - began_s)


def _shells(directory: str, parent: int) -> tuple[int, ...]:
    try:
        with open(os.path.join(directory, "shells"), encoding="ascii") as file:
            pairs = [line.split() for line in file]
    except FileNotFoundError:
        return ()
    return tuple(int(shell) for shell, its_parent in pairs if int(its_parent) == parent)


def _lines(size: int) -> list[str]:
    """Lines of an error log, ``size`` bytes of them, that compress as such lines do."""
    lines = []
    length = 0
    number = 1
    while length < size:
        number = number * 48271 % 2147483647  # MINSTD: the same log each time
        line = _LINE.format(
            number % 60, number % 1000, number % 32768, number, number % 99991, number % 8191, number % 8101
        )
        lines.append(line)
        length += len(line)
    return lines
