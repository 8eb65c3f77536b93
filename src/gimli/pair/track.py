"""Is this host fit to be MASTER? What ``[track]`` names is looked at once per interval.

A look may block: a monitor that hangs, a command that waits. It is therefore a thread's work, which hands its
findings over by a pipe; a look that does not come back in time is a finding itself.

    thread: look, look, look --> latest findings, one byte into the pipe --> loop: take()
"""

from __future__ import annotations

import contextlib
import os
import select
import tempfile
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gimli import clock
from gimli.control import client
from gimli.errors import GimliError
from gimli.pair import commands, punctuality

if TYPE_CHECKING:
    from gimli.pair.config import Track

_FIT_STATES = frozenset({"running", "debugged", "capturing"})
"""A service that is captured runs on, or is back within milliseconds: no reason to move an address."""
_LOOK_S_MAX = 5.0
_WORDS_BYTES = 4096
_ROUTE_DEFAULT = "00000000"
_RTF_UP = 0x1


@dataclass(frozen=True, slots=True)
class Tracked:
    """One thing that was looked at.

    Args:
        subject: what, as the journal says it: ``service web``.
        wrong: why this host is less fit for it; empty when all is well.
    """

    subject: str
    wrong: str = ""

    def __str__(self) -> str:
        return f"{self.subject} {self.wrong}"


class Tracker:
    """A thread that looks, and where its findings are taken.

    Args:
        track: at what, and how often.
    """

    def __init__(self, track: Track) -> None:
        self._track = track
        self._latest: tuple[Tracked, ...] = ()
        self._looked_ns = clock.monotonic_ns()
        self._stop = threading.Event()
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._look_for_ever, name="track", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Readable when there is something to take."""
        return self._read_fd

    def take(self) -> tuple[Tracked, ...]:
        """The latest findings."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read_fd, 4096)
        return self._latest

    def late(self) -> Tracked:
        """Whether the looks themselves come back: one that does not must not look like health."""
        silent_s = (clock.monotonic_ns() - self._looked_ns) / clock.NANOSECONDS
        allowed_s = 2 * (self._track.interval_s + _LOOK_S_MAX)
        return Tracked("tracking", f"has not come back for {silent_s:.0f} s" if silent_s > allowed_s else "")

    def close(self) -> None:
        """End the thread; one that is stuck ends with the process."""
        self._stop.set()
        self._thread.join(self._track.interval_s)
        if not self._thread.is_alive():
            os.close(self._write_fd)
            os.close(self._read_fd)

    def _look_for_ever(self) -> None:
        punctuality.run_first()
        while True:
            self._latest = tuple(look(self._track))
            self._looked_ns = clock.monotonic_ns()
            with contextlib.suppress(
                BlockingIOError
            ):  # the loop has not read the earlier ones: one is enough
                os.write(self._write_fd, b".")
            if self._stop.wait(self._track.interval_s):
                return


def look(track: Track) -> list[Tracked]:
    """Look at everything once. Takes as long as a command that is tracked."""
    findings = _services(track.services) if track.services else []
    if track.default_route:
        findings.append(Tracked("default route", "" if _has_default_route() else "is not there"))
    if track.command:
        findings.append(_command(track.command))
    return findings


def _services(names: tuple[str, ...]) -> list[Tracked]:
    try:
        states = {
            str(service["name"]): str(service["state"])
            for _, status in client.all_status()
            for service in status["services"]
        }
    except GimliError as error:  # a monitor that answers, and not with a status
        return [Tracked(f"service {name}", f"cannot be asked for: {error}") for name in names]
    return [Tracked(f"service {name}", _unfit(states.get(name))) for name in names]


def _unfit(state: str | None) -> str:
    if state is None:
        return "is held by no monitor"
    return "" if state in _FIT_STATES else f"is {state.upper()}"


def _has_default_route() -> bool:
    with open("/proc/self/net/route", encoding="ascii") as file:
        rows = [line.split() for line in file][1:]
    if any(row[1] == row[7] == _ROUTE_DEFAULT and int(row[3], 16) & _RTF_UP for row in rows):
        return True
    try:
        with open("/proc/self/net/ipv6_route", encoding="ascii") as file:
            rows = [line.split() for line in file]
    except FileNotFoundError:
        return False  # a kernel without IPv6
    return any(row[1] == "00" and row[9] != "lo" and int(row[8], 16) & _RTF_UP for row in rows)


def _command(command: tuple[str, ...]) -> Tracked:
    name = f"command {os.path.basename(command[0])}"
    # Not a pipe: what the command leaves running would hold it open, and a full one would stop the command.
    with tempfile.TemporaryFile() as output:
        try:
            started = commands.start(command, output.fileno())
        except OSError as error:
            return Tracked(name, f"cannot be run: {error.strerror}")
        if not select.select([started.pidfd], [], [], _LOOK_S_MAX)[0]:
            started.kill()
            started.end()
            return Tracked(name, f"has not ended after {_LOOK_S_MAX:.0f} s")
        status = started.end()
        if not status:
            return Tracked(name)
        output.seek(max(0, output.seek(0, os.SEEK_END) - _WORDS_BYTES))
        said = output.read().decode(errors="replace").strip().splitlines()
    words = f": {said[-1][:200]}" if said else ""
    return Tracked(name, f"failed with {status}{words}")
