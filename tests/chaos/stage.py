"""Where the chaos happens: directories, a disk that can be filled, the configuration, and the commands."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from gimli import process
from gimli.paths import unlink_if_there
from tests.chaos import witness

if TYPE_CHECKING:
    from gimli.process import ProcessId

GIMLI = (sys.executable, "-c", "from gimli.cli import main; main()")
STOP_S = 1.0
_DISK_BYTES = 100_000_000
_ROOM_BYTES = 1_000_000
_CLONE_NEWNS = 0x20000
_MS_REC_PRIVATE = 0x4000 | 1 << 18
_PATIENCE_S = 60.0
_IMAGE = os.path.join("gimli", "monitor", "__main__.py")
LOG_CAP_BYTES = 1_000_000
SERVICES: dict[str, dict[str, float]] = {
    "steady": {"interval_s": 0.002},
    "flood": {"interval_s": 0.005, "width": 150},
    "crash": {"interval_s": 0.01, "trouble_s": 3},
    "exit": {"interval_s": 0.005, "trouble_s": 1},
    "hang": {"interval_s": 0.01, "trouble_s": 4},
    "fork": {"interval_s": 0.01},
    "deaf": {"interval_s": 0.01},
}
EXTRA = "extra"
"""A service that comes and goes with the configuration."""


class Failed(Exception):
    """A command did what it must not."""


class Stage:
    """One run's place.

    Args:
        seed: of the witnesses.
    """

    def __init__(self, seed: int) -> None:
        self.directory = tempfile.mkdtemp(prefix="gimli-chaos-")
        self.state_dir = os.path.join(self.directory, "state")
        self.runtime_dir = os.path.join(self.directory, "run")
        self.instance_dir = os.path.join(self.runtime_dir, "up")
        self.socket_path = os.path.join(self.instance_dir, "control.sock")
        self.journal_path = os.path.join(self.state_dir, "journal", "up.jsonl")
        self.file = os.path.join(self.directory, "gimli.toml")
        self.environment = os.environ | {
            "GIMLI_STATE_DIR": self.state_dir,
            "GIMLI_RUNTIME_DIR": self.runtime_dir,
        }
        self.monitor: ProcessId | None = None
        self.has_extra = False
        self.disk_is_ours = False
        self._seed = seed
        os.mkdir(self.state_dir, 0o700)
        for name in (*SERVICES, EXTRA):
            witness.prepare(self.place(name))
        self._mount_disk()
        self.write_file()

    def place(self, service: str) -> str:
        """The directory of a service's witness."""
        return os.path.join(self.directory, "witnesses", service)

    def log_path(self, service: str) -> str:
        """Where its output goes."""
        return os.path.join(self.state_dir, "logs", f"{service}.log")

    def names(self) -> list[str]:
        """The services that the configuration names now."""
        return [*SERVICES, *([EXTRA] if self.has_extra else [])]

    def be_still(self, *, still: bool) -> None:
        """All witnesses rest, or go on."""
        for name in (*SERVICES, EXTRA):
            witness.be_still(self.place(name), still=still)

    # The configuration.

    def write_file(self) -> None:
        """A gimli.toml as it should be."""
        tables = []
        for name in self.names():
            told = SERVICES.get(name, {"interval_s": 0.01})
            behaviour = name if name in witness.BEHAVIOURS else "steady"
            command = witness.command(self.place(name), behaviour, seed=self._seed, **told)
            log = f'log = {{ file = "{self.log_path(name)}", rotate = "{LOG_CAP_BYTES // 1000}kB" }}'
            tables.append(
                f"[service.{name}]\ncommand = {json.dumps(command)}\n"
                f'watchdog = "400ms"\nwatchdog_stop = "{STOP_S}s"\nbackoff = "50ms..400ms"\n{log}\n'
            )
        self._replace_file("\n".join(tables))

    def break_file(self) -> None:
        """A gimli.toml with an error."""
        self._replace_file("[service.steady]\ncommand = 1\n")

    def _replace_file(self, text: str) -> None:
        with open(self.file + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(self.file + ".new", self.file)

    # The monitor.

    def up(self) -> None:
        """Start a monitor in the background."""
        done = self.call("up", "--detach", "-f", self.file)
        if done.returncode:
            raise Failed(f"gimli up: {done.stderr}")
        self.monitor = process.identify(int(done.stdout.split(" pid ")[1].split()[0]))
        if self.monitor is None:
            raise Failed("the monitor has ended at once")

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command, to its end."""
        return subprocess.run(
            [*GIMLI, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A command, in the background."""
        return subprocess.Popen(
            [*GIMLI, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def signal_monitor(self, signo: int) -> None:
        """A signal to the monitor."""
        assert self.monitor is not None
        os.kill(self.monitor.pid, signo)

    def wait_for_monitors_end(self) -> float:
        """How long it takes to end, in seconds."""
        assert self.monitor is not None
        began_s = time.monotonic()
        while is_alive(self.monitor):
            if time.monotonic() > began_s + _PATIENCE_S:
                raise Failed(f"the monitor {self.monitor} does not end")
            time.sleep(0.002)
        self.monitor = None
        return time.monotonic() - began_s

    # The processes.

    def services(self) -> dict[str, list[ProcessId]]:
        """The main processes of services that live now."""
        found: dict[str, list[ProcessId]] = {}
        for pid, marks in self._ours():
            service = marks.get("GIMLI_SERVICE")
            if service and process.session_of(pid) == pid:
                living = process.identify(pid)
                if living and is_alive(living):
                    found.setdefault(service, []).append(living)
        return found

    def monitors(self) -> list[ProcessId]:
        """Processes of the monitor's image; a child of it between fork and exec looks like one."""
        found = []
        for pid, _ in self._ours():
            command = process.command_line(pid)
            if any(part.endswith(_IMAGE) for part in command) and "--verify-state" not in command:
                living = process.identify(pid)
                if living and is_alive(living):
                    found.append(living)
        return found

    def leftovers(self) -> dict[int, str]:
        """Whatever lives of services and helpers, with words for each."""
        found = {}
        for pid, marks in self._ours():
            living = process.identify(pid)
            if living and is_alive(living):
                role = "main process of " if process.session_of(pid) == pid else "descendant of "
                command = " ".join(process.command_line(pid))
                service = marks.get("GIMLI_SERVICE")
                found[pid] = role + service if service else command
        return found

    def _ours(self) -> list[tuple[int, dict[str, str]]]:
        """Processes whose environment names our runtime directory, without the commands that we run."""
        mine = os.getpid()
        pairs = ((pid, process.environment(pid)) for pid in process.all_pids() if pid != mine)
        return [
            (pid, marks)
            for pid, marks in pairs
            if marks.get("GIMLI_RUNTIME_DIR") == self.runtime_dir
            and process.command_line(pid)[1:2] != [GIMLI[1]]
        ]

    # The disk.

    def fill_disk(self) -> None:
        """No byte is left."""
        block = bytes(1 << 20)
        while block:
            try:
                with open(os.path.join(self.state_dir, "ballast"), "ab", buffering=0) as file:
                    while file.write(block):
                        pass
            except OSError:
                block = block[: len(block) // 2]

    def empty_disk(self) -> None:
        """There is room again."""
        unlink_if_there(os.path.join(self.state_dir, "ballast"))

    def is_disk_full(self) -> bool:
        """No room for a line of output."""
        return self.disk_is_ours and shutil.disk_usage(self.state_dir).free < _ROOM_BYTES

    def prune_reports(self) -> None:
        """What an operator's cron job would do: cores are larger than our disk."""
        reports = os.path.join(self.state_dir, "reports")
        if not self.disk_is_ours or shutil.disk_usage(self.state_dir).used < _DISK_BYTES // 3:
            return
        for name in os.listdir(reports):
            shutil.rmtree(os.path.join(reports, name), ignore_errors=True)

    def _mount_disk(self) -> None:
        """A small one of our own, that nobody else sees."""
        if os.geteuid() != 0:
            return
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None):
            return
        options = f"size={_DISK_BYTES},mode=0700".encode()
        self.disk_is_ours = not libc.mount(b"tmpfs", self.state_dir.encode(), b"tmpfs", 0, options)

    def close(self) -> None:
        """End all that is left, and remove everything."""
        while living := self.leftovers():
            for pid in living:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.01)
        if self.disk_is_ours:
            ctypes.CDLL(None).umount2(self.state_dir.encode(), 2)
        shutil.rmtree(self.directory, ignore_errors=True)


def is_alive(who: ProcessId) -> bool:
    """It has not ended; a zombie has."""
    return process.identify(who.pid) == who and process.state_of(who.pid) not in {"Z", "X", ""}


def zombies_of(parent: int) -> list[int]:
    """Children that have ended and were not reaped."""
    try:
        with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as file:
            children = [int(pid) for pid in file.read().split()]
    except OSError:
        return []
    return [pid for pid in children if process.state_of(pid) == "Z"]
