"""Is anything lost when the monitor is replaced in place thousands of times, or killed hundreds of times?

HUPs at random distances from 0 to 5 ms; kill -9 of the monitor at random moments, each time another one is
started. The service holds a socket that only one copy can have, numbers its lines, and counts them in a file.
A wrong outcome is a figure of its own with a budget of zero.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from figures import Figure
from workbench import GIMLI, HERE, PATIENCE_S, Effort, Unmeasurable, Workbench, wait_for

from gimli import journal, process

sys.path.append(os.path.dirname(HERE))
from tests.chaos import witness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Self

HUPS = {Effort.QUICK: 300, Effort.USUAL: 1000, Effort.FULL: 10_000}
KILLS = {Effort.QUICK: 10, Effort.USUAL: 25, Effort.FULL: 300}
_HUP_DISTANCE_S = 0.005
_KILL_WITHIN_S = 0.3
_SEED = 1
TERM_BUDGET_MS = 2000
TOOK_BUDGET_MS = 100


class Subject:
    """A monitor in the background with one witness.

    Args:
        place: an empty directory with a short path.
        more: lines of the service's table.
    """

    def __init__(self, place: str, more: str = "") -> None:
        self.place = place
        self.state_dir = os.path.join(place, "state")
        self.journal_path = os.path.join(self.state_dir, "journal", "up.jsonl")
        self.log_path = os.path.join(self.state_dir, "logs", "witness.log")
        self.environment = os.environ | {
            "GIMLI_STATE_DIR": self.state_dir,
            "GIMLI_RUNTIME_DIR": os.path.join(place, "run"),
        }
        witness.prepare(place)
        command = json.dumps(witness.command(place))
        log = f'log = {{ file = "{self.log_path}", rotate = "100MB" }}'
        with open(os.path.join(place, "gimli.toml"), "w", encoding="utf-8") as file:
            file.write(f'[service.witness]\ncommand = {command}\nwatchdog_stop = "1s"\n{log}\n{more}\n')
        self.monitor = self.up()
        self.witness_pid = int(self.wait_for_event("started")["pid"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if process.identify(self.monitor.pid) == self.monitor:
            subprocess.run([GIMLI, "down"], env=self.environment, capture_output=True, check=False)

    def up(self) -> process.ProcessId:
        """Start a monitor in the background."""
        command = [GIMLI, "up", "--detach", "-f", os.path.join(self.place, "gimli.toml")]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        if done.returncode:
            raise Unmeasurable(f"gimli up: {done.stderr}")
        started = process.identify(int(done.stdout.split(" pid ")[1].split()[0]))
        if started is None:
            raise Unmeasurable("the monitor ended at once")
        return started

    def events(self, *names: str) -> list[dict[str, Any]]:
        """The journal's events of these names, up to now."""
        return [entry for entry in journal.read(self.journal_path) if entry["event"] in names]

    def wait_for_event(self, name: str, after: int = 0) -> dict[str, Any]:
        """The event of this name that comes after so many of them."""
        return wait_for(lambda: self.events(name)[after : after + 1], name)[0]

    def end_by_term(self) -> float:
        """Milliseconds from TERM to the monitor's end."""
        pidfd = os.pidfd_open(self.monitor.pid)
        began_ns = time.monotonic_ns()
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        os.close(pidfd)
        wait_for(lambda: process.state_of(self.monitor.pid) in {"", "Z"}, "the monitor's end")
        return (time.monotonic_ns() - began_ns) / 1e6

    def faults(self) -> list[str]:
        """What went wrong with the service's output, or that it was doubled."""
        logs = (f"{self.log_path}.1", self.log_path)
        return witness.alarms(self.place) + [
            f"{fault.instance}: {fault.what}" for fault in witness.account_of(self.place, logs)
        ]


def measure(bench: Workbench, effort: Effort) -> Iterator[Figure]:
    """First the takeovers, then the kills."""
    yield from _takeovers(bench, HUPS[effort])
    yield from _kills(bench, KILLS[effort])


def _takeovers(bench: Workbench, hups: int) -> Iterator[Figure]:
    dice = random.Random(_SEED)
    with Subject(bench.place("hups")) as subject:
        monitors = set()
        for _ in range(hups):
            os.kill(subject.monitor.pid, signal.SIGHUP)
            time.sleep(dice.uniform(0, _HUP_DISTANCE_S))
        # The last wish is fulfilled when a takeover has happened that was wished after it.
        _let_takeovers_end(subject)
        monitors = {process.identify(pid) for pid in _monitors(subject.place)}
        term_ms = subject.end_by_term()
        told = subject.events("takeover", "takeover-failed", "started", "exited", "internal-error")
        took_ms = [entry["took_ms"] for entry in told if entry["event"] == "takeover"]
        pids = {entry["pid"] for entry in told if entry["event"] == "started"}
        wrong = subject.faults()
        wrong += [str(entry) for entry in told if entry["event"] in {"takeover-failed", "internal-error"}]
        if monitors != {subject.monitor}:
            wrong.append(f"monitors: {monitors}, expected {subject.monitor}")
        if pids != {subject.witness_pid}:
            wrong.append(f"instances: {pids}")
    what = f"{hups} HUPs"
    yield Figure(f"{what}: takeover", "ms", took_ms, TOOK_BUDGET_MS, note=f"{len(took_ms)} takeovers")
    yield Figure(f"{what}: TERM afterwards to the end", "ms", (term_ms,), TERM_BUDGET_MS)
    yield _faults(f"{what}: lines lost or doubled, copies, other harm", wrong)


def _let_takeovers_end(subject: Subject) -> None:
    def is_quiet() -> bool:
        before = len(subject.events("takeover"))
        time.sleep(1)
        return len(subject.events("takeover")) == before

    wait_for(is_quiet, "the end of the takeovers")


def _kills(bench: Workbench, kills: int) -> Iterator[Figure]:
    dice = random.Random(_SEED)
    with Subject(bench.place("kills"), 'restart = "never"') as subject:
        up_ms = []
        for n in range(kills):
            time.sleep(dice.uniform(0, _KILL_WITHIN_S))
            if dice.random() < 0.3:  # some of them in the middle of a takeover
                os.kill(subject.monitor.pid, signal.SIGHUP)
                time.sleep(dice.uniform(0, _KILL_WITHIN_S))
            os.kill(subject.monitor.pid, signal.SIGKILL)
            time.sleep(dice.uniform(0, 0.05))
            began_ns = time.monotonic_ns()
            subject.monitor = subject.up()
            subject.wait_for_event("adopted", after=n)
            up_ms.append((time.monotonic_ns() - began_ns) / 1e6)
        os.kill(subject.witness_pid, signal.SIGUSR1)
        ended = subject.wait_for_event("exited")
        term_ms = subject.end_by_term()
        wrong = subject.faults()
        copies = {entry["pid"] for entry in subject.events("started", "adopted")}
        if copies != {subject.witness_pid}:
            wrong.append(f"instances: {copies}")
        if ended.get("code") != witness.EXIT_AS_TOLD:
            wrong.append(f"exit status: {ended}")
        wrong += [str(entry) for entry in subject.events("internal-error")]
    what = f"{kills} kills of the monitor"
    yield Figure(f"{what}: start to adopted", "ms", up_ms, note="with the command line's own start")
    yield Figure(f"{what}: TERM afterwards to the end", "ms", (term_ms,), TERM_BUDGET_MS)
    yield _faults(f"{what}: lines lost or doubled, copies, other harm", wrong)


def _faults(what: str, wrong: list[str]) -> Figure:
    note = "; ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
    return Figure(what, "", (float(len(wrong)),), 0, note=note)


def _monitors(place: str) -> list[int]:
    """Processes of the monitor's image that work in this place."""
    runtime_dir = os.path.join(place, "run")
    image = os.path.join("gimli", "monitor", "__main__.py")
    return [
        pid
        for pid in process.all_pids()
        if any(part.endswith(image) for part in process.command_line(pid))
        and process.environment(pid).get("GIMLI_RUNTIME_DIR") == runtime_dir
        and process.state_of(pid) != "Z"
    ]
