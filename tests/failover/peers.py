"""Other people's daemons for the same purpose: ucarp, keepalived, conntrackd."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gimli.lab.namespaces import Host

PATIENCE_S = 20.0


class Peer:
    """A daemon of somebody else's.

    Args:
        host: where it runs.
        command: that stays in the foreground.
    """

    def __init__(self, host: Host, *command: str) -> None:
        self.host = host
        self.name = host.name
        self.said = ""
        self.process = host.start(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def wait_for(self, words: str, times: int = 1) -> None:
        """Wait until it has said that, so many times since its start.

        Raises:
            AssertionError: it has not.
        """
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        give_up_s = time.monotonic() + PATIENCE_S
        while self.said.count(words) < times:
            data = b""
            if select.select([fd], [], [], max(0.0, give_up_s - time.monotonic()))[0]:
                data = os.read(fd, 65_536)
            if not data:
                raise AssertionError(f"{self.name} has not said {words!r}:\n{self.said}")
            self.said += data.decode(errors="replace")

    def kill(self) -> int:
        """Kill it; when, in ns of CLOCK_REALTIME."""
        at_ns = time.time_ns()
        self.process.kill()
        self.process.wait()
        return at_ns

    def close(self) -> None:
        """End it, however it fares."""
        self.process.kill()
        self.process.communicate()


MASTER, BACKUP = "Switching to state: MASTER", "Switching to state: BACKUP"
"""What ucarp says."""

_SCRIPT = """#!/bin/sh
exec ip address {verb} {address}/24 dev "$1"
"""


def ucarp(
    host: Host,
    directory: str,
    source: str,
    *,
    vhid: int,
    address: str,
    password: str,
    advbase: int = 1,
    advskew: int = 0,
    preempt: bool = False,
    dead_ratio: int = 3,
) -> Peer:
    """Ucarp as its manual says: scripts add and remove the address; at its end as well."""
    scripts = {}
    for verb in ("add", "del"):
        scripts[verb] = os.path.join(directory, f"{host.name}-{vhid}-{verb}")
        with open(scripts[verb], "w", encoding="utf-8") as file:
            file.write(_SCRIPT.format(verb=verb, address=address))
        os.chmod(scripts[verb], 0o755)
    return Peer(
        host,
        *("ucarp", "-i", "lan0", "-s", source, "-v", str(vhid), "-a", address, "-p", password),
        *("-b", str(advbase), "-k", str(advskew), "-u", scripts["add"], "-d", scripts["del"], "-z", "-n"),
        *("-r", str(dead_ratio)),
        *(["-P"] if preempt else []),
    )


def is_here(program: str) -> bool:
    """Whether a program is installed."""
    return shutil.which(program) is not None
