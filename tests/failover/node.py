"""``gimli pair run`` on a host of a test: start it, follow its journal, ask it, end it in every way."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from gimli import journal
from gimli.control import client
from gimli.errors import MonitorUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.lab.namespaces import Host

COMMAND = (sys.executable, "-c", "from gimli.cli import main; main()")
PATIENCE_S = 20.0
_LOOK_EVERY_S = 0.02


class Node:
    """One node of a pair.

    Its journal holds what has happened; a line on its standard error says that there is more. So nothing is
    missed, and nothing is polled. ``wait_for`` goes through the events in their order and never back.

    Args:
        host: where it runs.
        directory: of its own, empty, with a short path.
    """

    def __init__(self, host: Host, directory: str) -> None:
        self.host = host
        self.name = host.name
        self.directory = directory
        self.state_dir = os.path.join(directory, "state")
        self.runtime_dir = os.path.join(directory, "run")
        self.file = os.path.join(directory, "pair.toml")
        self.journal_path = os.path.join(self.state_dir, "journal", "pair.jsonl")
        self.environment = {"GIMLI_STATE_DIR": self.state_dir, "GIMLI_RUNTIME_DIR": self.runtime_dir}
        self.process: subprocess.Popen[bytes] | None = None
        self.said = b""
        self.since_ns = self._started_ns = 0
        os.makedirs(directory, exist_ok=True)

    def configure(self, text: str) -> None:
        """Write its pair.toml."""
        with open(self.file, "w", encoding="utf-8") as file:
            file.write(text)

    def start(self) -> None:
        """Start the daemon."""
        self.since_ns = self._started_ns = time.monotonic_ns()
        self.said = b""
        self.process = self.host.start(
            *COMMAND,
            *("pair", "run", "-f", self.file),
            stderr=subprocess.PIPE,
            environment=self.environment,
        )

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command of gimli on the host."""
        return subprocess.run(
            self.host.inside(*COMMAND, *arguments),
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    @property
    def pid(self) -> int:
        """The daemon's."""
        assert self.process is not None
        return self.process.pid

    def events(self, *names: str) -> list[dict[str, Any]]:
        """What was recorded since what was waited for last, all or of these names."""
        return [entry for entry in self.history(*names) if entry["monotonic_ns"] > self.since_ns]

    def history(self, *names: str) -> list[dict[str, Any]]:
        """What the daemon that was started last has recorded, all or of these names."""
        return [
            entry
            for entry in journal.read(self.journal_path)
            if entry["monotonic_ns"] > self._started_ns and (not names or entry["event"] in names)
        ]

    def wait_for(self, event: str, **fields: Any) -> dict[str, Any]:
        """The next event of that name with those fields since the last one that was waited for.

        A string that is awaited may be a part of what is there.
        """
        give_up_s = time.monotonic() + PATIENCE_S
        while True:
            for entry in self.events():
                if entry["event"] == event and all(_fits(entry.get(key), fields[key]) for key in fields):
                    self.since_ns = entry["monotonic_ns"]
                    return entry
            if not self._hear(give_up_s):
                told = "\n".join(map(str, journal.read(self.journal_path)))
                raise AssertionError(
                    f"{self.name}: no event {event} {fields} after\n{told}\n{self.said.decode()}"
                )

    def wait_for_role(self, role: str, vhid: int = 1) -> dict[str, Any]:
        """The next change of a vhid to a role."""
        return self.wait_for("role", role=role, vhid=vhid)

    def status(self) -> dict[str, Any]:
        """What ``gimli pair status --json`` says."""
        return client.call(os.path.join(self.runtime_dir, "pair", "status.sock"), "pair")

    def wait_until(self, is_so: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The first status that is so."""
        give_up_s = time.monotonic() + PATIENCE_S
        status: dict[str, Any] = {}
        while time.monotonic() < give_up_s:
            # One that is not up yet, or not again, does not answer.
            with contextlib.suppress(MonitorUnreachable):
                status = self.status()
                if is_so(status):
                    return status
            time.sleep(_LOOK_EVERY_S)
        raise AssertionError(f"{self.name}: waited {PATIENCE_S:.0f} s for {what}: {json.dumps(status)}")

    def send(self, signo: int) -> int:
        """A signal to the daemon; when it was sent, in ns of CLOCK_REALTIME."""
        assert self.process is not None
        at_ns = time.time_ns()
        self.process.send_signal(signo)
        return at_ns

    def kill(self) -> int:
        """Kill the daemon; when."""
        at_ns = self.send(signal.SIGKILL)
        self.wait()
        return at_ns

    def wait(self) -> int:
        """Wait for the daemon's end; its exit status."""
        assert self.process is not None
        give_up_s = time.monotonic() + PATIENCE_S
        while self._hear(give_up_s):
            pass
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """End the daemon, however it fares."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stderr is not None
            self.said += self.process.stderr.read()
            self.process.stderr.close()

    def _hear(self, give_up_s: float) -> bool:
        """Wait for words on standard error. False when there will be none."""
        assert self.process is not None
        assert self.process.stderr is not None
        fd = self.process.stderr.fileno()
        if not select.select([fd], [], [], max(0.0, give_up_s - time.monotonic()))[0]:
            return False
        words = os.read(fd, 65_536)
        self.said += words
        return bool(words)


def _fits(found: Any, awaited: Any) -> bool:
    if isinstance(awaited, str) and isinstance(found, str):
        return awaited in found
    return bool(found == awaited)
