"""What was on the cables? One pcapng file per host, with all of its interfaces, by dumpcap."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

from gimli.errors import GimliError
from gimli.lab.network.topology import interfaces_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gimli.lab.network.real.ground import Ground
    from gimli.lab.network.topology import Topology

_PATIENCE_S = 20.0
_BYTES = 160
"""Of each packet: its headers."""


@contextlib.contextmanager
def taps(topology: Topology, ground: Ground, directory: str) -> Iterator[None]:
    """Capture until the context ends; in no directory, nothing.

    Raises:
        GimliError: dumpcap is missing, or cannot write there.
    """
    if not directory:
        yield
        return
    if shutil.which("dumpcap") is None:
        raise GimliError("there is no dumpcap", why="it writes pcapng", fix="apt-get install tshark")
    os.makedirs(directory, exist_ok=True)
    running: list[subprocess.Popen[bytes]] = []
    try:
        for config in topology.hosts:
            devices = [word for each in interfaces_of(config) for word in ("-i", each.name)]
            path = os.path.join(directory, f"{config.name}.pcapng")
            running.append(
                ground.hosts[config.name].start(
                    *("dumpcap", "-q", "-s", str(_BYTES), *devices, "-w", path), stderr=subprocess.PIPE
                )
            )
        for tap in running:
            _wait_until_it_captures(tap)
        yield
    finally:
        for tap in running:
            tap.send_signal(signal.SIGINT)
        for tap in running:
            tap.communicate()


def _wait_until_it_captures(tap: subprocess.Popen[bytes]) -> None:
    """It names its file when it does."""
    assert tap.stderr is not None
    said = b""
    while b"File: " not in said:
        if not select.select([tap.stderr], [], [], _PATIENCE_S)[0]:
            raise GimliError(f"dumpcap says nothing for {_PATIENCE_S:g} s")
        part = os.read(tap.stderr.fileno(), 4096)
        if not part:
            raise GimliError("dumpcap does not capture", why=said.decode(errors="replace").strip()[-500:])
        said += part
