"""How do N copies of a program run below one supervisor, and what does that take?

A fleet is a supervisor with its programs: gimli, the floor (floor.py), or a peer. The program stamps its
first instruction, so a restart is the time from kill -9 to main, and a start the time from the supervisor's
own to the last main.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import time
from typing import TYPE_CHECKING

import peers
from workbench import HERE, Unmeasurable, Up, Workbench, descendants, end, service_table, start, wait_for

if TYPE_CHECKING:
    import subprocess

_ENTRY = struct.Struct("<QQ")  # programs/idle.c
_PATIENCE_S = 120.0
_REPORT_ENDS = frozenset({"analysed", "analysis-failed", "snapshot-failed"})
_S6_ROOM_MIN = 500
"""s6-svscan's own default for the number of services."""


class Fleet:
    """N programs below one supervisor.

    Args:
        bench: where.
        count: how many.
    """

    name = ""
    """For the table."""
    package = ""
    """What it comes in, of ``peers.PACKAGES``; nothing for what is ours."""
    stop_signo = signal.SIGTERM

    def __init__(self, bench: Workbench, count: int) -> None:
        self.count = count
        self.place = bench.place(self.name.replace(" ", "-"))
        self._record = os.path.join(self.place, "record")
        with open(self._record, "wb"):
            pass
        self.program = [bench.compiled("idle"), self._record]
        self.prepare()
        started_ns = time.monotonic_ns()
        self.process = self.launch()
        entries = self._wait_for_entries(count)
        self.start_ms = (max(main_ns for _, main_ns in entries) - started_ns) / 1e6
        self._victims = [pid for pid, _ in entries]
        self.kills = 0

    def prepare(self) -> None:
        """What an operator has done before."""

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the supervisor."""
        raise NotImplementedError

    def rest(self) -> None:
        """Wait until everything is over that the last kill has set off beside the restart."""

    def end(self) -> None:
        """End it, and its programs."""
        end(self.process, self.stop_signo)

    def kill_one(self) -> float:
        """Milliseconds from kill -9 of a program to the first instruction of its successor."""
        victim = self._victims.pop()
        killed_ns = time.monotonic_ns()
        os.kill(victim, signal.SIGKILL)
        self.kills += 1
        return (self._wait_for_entries(self.count + self.kills)[-1][1] - killed_ns) / 1e6

    def supervisors(self) -> list[int]:
        """The processes that are not the programs."""
        programs = {pid for pid, _ in self._wait_for_entries(self.count)}
        return [self.process.pid, *(pid for pid in descendants(self.process.pid) if pid not in programs)]

    def _wait_for_entries(self, count: int) -> list[tuple[int, int]]:
        """(pid, time of main) of every program started so far, as soon as there are enough."""
        size = count * _ENTRY.size

        def look() -> list[tuple[int, int]] | None:
            if self.process.poll() is not None:
                raise Unmeasurable(f"{self.name} has ended with {self.process.returncode}: {self.place}/out")
            if os.stat(self._record).st_size < size:
                return None
            with open(self._record, "rb") as file:
                return list(_ENTRY.iter_unpack(file.read()))

        return wait_for(look, f"{count} starts below {self.name}", _PATIENCE_S)


class Gimli(Fleet):
    """``gimli up``, as it comes: each program with its log, its page, and libgimli preloaded."""

    name = "gimli"
    settings = ""

    def launch(self) -> subprocess.Popen[bytes]:
        """See Fleet."""
        table = service_table(self.program, self.settings)
        self.up = Up(self.place, {f"idle-{number}": table for number in range(self.count)})
        return self.up.process

    def rest(self) -> None:
        """Of some kills a report is made, by helpers that run beside the next instance."""
        wait_for(self._is_alone, f"the reports of {self.name}")

    def _is_alone(self) -> bool:
        events = list(self.up.events())
        begun = {entry["report"] for entry in events if entry["event"] == "snapshot"}
        ended = {entry["report"] for entry in events if entry["event"] in _REPORT_ENDS}
        return begun <= ended and self.supervisors() == [self.process.pid]

    def end(self) -> None:
        """See Fleet."""
        self.up.end()

    def own_start_ms(self) -> float:
        """Milliseconds from the command to the monitor's first line: the command line, and imports."""
        first = next(entry for entry in self.up.events() if entry["event"] == "monitor-started")
        return (int(first["monotonic_ns"]) - self.up.started_ns) / 1e6


class BareGimli(Gimli):
    """``gimli up`` with what the floor does not have switched off where that is possible."""

    name = "bare gimli"
    settings = "preload = false\nlog = 'inherit'"


class Floor(Fleet):
    """floor.py."""

    name = "floor"

    def launch(self) -> subprocess.Popen[bytes]:
        """See Fleet."""
        script = os.path.join(HERE, "floor.py")
        python = os.path.realpath(sys.executable)
        return start([python, "-I", "-S", script, str(self.count), *self.program], self.place)


class Scanned(Fleet):
    """A process that looks for directories of services, and another one below it for each."""

    def prepare(self) -> None:
        """The directories."""
        self.directory = os.path.join(self.place, "services")
        for number in range(self.count):
            self.make_service(os.path.join(self.directory, f"idle-{number}"))

    def make_service(self, directory: str) -> None:
        """One of them."""
        peers.make_service_directory(directory, self.program)

    def launch(self) -> subprocess.Popen[bytes]:
        """See Fleet."""
        return start(self.scanner(), self.place)

    def scanner(self) -> list[str]:
        """The command of the first process."""
        raise NotImplementedError


class Runit(Scanned):
    """runsvdir, and a runsv per program."""

    name = package = "runit"
    stop_signo = signal.SIGHUP  # it would leave every runsv running on TERM

    def scanner(self) -> list[str]:
        """See Scanned."""
        return [peers.find("runsvdir"), self.directory]


class S6(Scanned):
    """s6-svscan, and an s6-supervise per program."""

    name = package = "s6"

    def scanner(self) -> list[str]:
        """See Scanned."""
        return [peers.find("s6-svscan"), "-c", str(max(_S6_ROOM_MIN, self.count)), self.directory]


class ReadyS6(S6):
    """s6 with programs that have said that they are ready; before others it waits for a second."""

    name = "ready s6"

    def make_service(self, directory: str) -> None:
        """With s6's readiness protocol, spoken by the shell."""
        peers.make_service_directory(directory, self.program, before="echo >&3; exec 3>&-")
        with open(os.path.join(directory, "notification-fd"), "w", encoding="ascii") as file:
            file.write("3\n")


class Supervisor(Fleet):
    """supervisord, as it comes: with two logs per program."""

    name = package = "supervisor"

    def launch(self) -> subprocess.Popen[bytes]:
        """See Fleet."""
        programs = {f"idle-{number}": self.program for number in range(self.count)}
        return start(peers.supervisor_command(self.place, programs), self.place)


KINDS: tuple[type[Fleet], ...] = (Gimli, BareGimli, Floor, Runit, S6, ReadyS6, Supervisor)
