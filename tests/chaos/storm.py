"""What is done to the monitor, in which order: chosen from a seed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.chaos.stage import EXTRA, SERVICES, Failed, Stage
from tests.chaos.watch import service_states

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.chaos.watch import Watch

END_S_MAX = 20.0
"""TERM to the end: the stop interval of 1 s, and a capture that is under way, on a busy machine."""
_COMMAND_S_MAX = 90.0
_FAILURES_EXPECTED_S = 25.0
"""For so long after a broken file was mended: a takeover's helper has 20 s to read it."""
_RENEWED_S_MAX = 20.0
_PAUSE_S = 0.15


class Storm:
    """One thing after the other.

    Args:
        stage: where.
        watch: is told what explains what it sees.
        seed: decides what comes when.
    """

    def __init__(self, stage: Stage, watch: Watch, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.end_s: list[float] = []
        """How long the monitor took to end, each time it was asked to."""
        self._stage = stage
        self._watch = watch
        self._dice = random.Random(seed)
        self._commands: list[tuple[subprocess.Popen[bytes], float, tuple[str, ...]]] = []
        self._failures_until_s = 0.0
        self._deeds: dict[Callable[[], None], int] = {
            self._hup: 20,
            self._kill_monitor: 8,
            self._start_a_second: 2,
            self._break_file: 4,
            self._change_file: 4,
            self._stop_monitor: 3,
            self._stop_service: 5,
            self._kill_service: 10,
            self._operate: 10,
            self._remove_directory: 3,
            self._down: 2,
            self._terminate: 2,
        }
        if stage.disk_is_ours:
            self._deeds[self._fill_disk] = 4

    def step(self) -> None:
        """The next deed."""
        deed = self._dice.choices(list(self._deeds), list(self._deeds.values()))[0]
        deed()
        self._look_after()
        time.sleep(min(1.0, self._dice.expovariate(1 / _PAUSE_S)))

    def calm(self) -> None:
        """Mend everything, have every service run, and wait until that is so."""
        stage = self._stage
        stage.be_still(still=True)
        if stage.has_extra:
            stage.has_extra = False
        stage.write_file()
        self._send(signal.SIGHUP)
        wait_for(lambda: not self._running_commands(), _COMMAND_S_MAX, "the commands do not end")
        wait_for(self._all_run, 60.0, f"not all services run: {service_states(stage)}")

    def take_over(self, times: int) -> None:
        """Takeovers one after the other, in peace."""
        for _ in range(times):
            before = self._watch.timeline.counts["takeover"]
            self._send(signal.SIGHUP)
            self._wait_for_takeover(before)

    def _wait_for_takeover(self, before: int) -> None:
        counts = self._watch.timeline.counts
        wait_for(lambda: counts["takeover"] > before, 30.0, "a HUP led to no takeover")

    def end(self) -> None:
        """The last end."""
        self._end_by(lambda: self._send(signal.SIGTERM))

    def _all_run(self) -> bool:
        states = service_states(self._stage)
        for name, state in states.items():
            if state in {"failed", "down"} and name != EXTRA:
                self._stage.call("start", name)
        return set(states) == set(SERVICES) and set(states.values()) == {"running"}

    def _hup(self) -> None:
        for _ in range(self._dice.choice((1, 1, 2, 2, 3, 10, 50))):
            self._send(signal.SIGHUP)
            time.sleep(self._dice.uniform(0, 0.005))

    def _send(self, signo: int) -> None:
        self._count(signal.Signals(signo).name + " to the monitor")
        self._stage.signal_monitor(signo)

    def _kill_monitor(self) -> None:
        if self._dice.random() < 0.5:
            self._send(signal.SIGHUP)
            time.sleep(self._dice.uniform(0, 0.4))
        self._without_monitor(self._kill)
        if self._dice.random() < 0.3:
            self._kill_service()
        time.sleep(self._dice.uniform(0, 0.3))
        self._up()

    def _kill(self) -> None:
        self._watch.killed_ms.append(time.monotonic_ns() // 1_000_000)
        self._send(signal.SIGKILL)

    def _without_monitor(self, end: Callable[[], None]) -> float:
        """End it, in one way or another; its place is empty when this returns."""
        self._watch.monitor_may_end.set()
        end()
        return self._stage.wait_for_monitors_end()

    def _up(self) -> None:
        self._stage.up()
        self._count("starts of a monitor")
        self._watch.monitor_may_end.clear()

    def _start_a_second(self) -> None:
        self._count("second monitors that were refused")
        done = self._stage.call("up", "--detach", "-f", self._stage.file)
        if done.returncode != 1 or "runs already" not in done.stderr:
            self._watch.breach(f"a second monitor: exit {done.returncode}, {done.stdout}{done.stderr}")

    def _break_file(self) -> None:
        self._count("broken files")
        self._watch.timeline.failure_is_expected = True
        self._stage.break_file()
        self._hup()
        time.sleep(self._dice.uniform(0, 0.6))
        self._stage.write_file()
        self._failures_until_s = time.monotonic() + _FAILURES_EXPECTED_S
        self._hup()

    def _change_file(self) -> None:
        self._count("changed files")
        self._stage.has_extra = not self._stage.has_extra
        self._stage.write_file()
        self._hup()

    def _stop_monitor(self) -> None:
        self._watch.monitor_is_stopped.set()
        self._send(signal.SIGSTOP)
        time.sleep(self._dice.uniform(0, 0.7))
        if self._dice.random() < 0.5:
            self._kill_service()
            self._hup()
        self._send(signal.SIGCONT)
        self._watch.monitor_is_stopped.clear()

    def _stop_service(self) -> None:
        if pid := self._any_service():
            self._count("SIGSTOP of a service")
            _kill(pid, signal.SIGSTOP)
            time.sleep(self._dice.uniform(0, 0.8))
            _kill(pid, signal.SIGCONT)

    def _kill_service(self) -> None:
        signo = self._dice.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1, signal.SIGABRT))
        if pid := self._any_service():
            self._count(f"{signo.name} to a service")
            _kill(pid, signo)

    def _any_service(self) -> int | None:
        """A main process that lives; None where none does."""
        pids = sorted(each.pid for copies in self._stage.services().values() for each in copies)
        return self._dice.choice(pids) if pids else None

    def _operate(self) -> None:
        """Commands of an operator, several at a time, and none waited for."""
        for _ in range(self._dice.choice((1, 1, 3))):
            name = self._dice.choice(list(SERVICES))
            what = self._dice.choice(("start", "stop", "restart", "restart", "snapshot"))
            self._count(f"gimli {what}")
            command = (what, name)
            self._commands.append((self._stage.begin(*command), time.monotonic(), command))

    def _remove_directory(self) -> None:
        """A cleaner of old files, or an operator who errs; then often a kill -9 before it is made again."""
        self._count("removed runtime directories")
        shutil.rmtree(self._stage.runtime_dir, ignore_errors=True)
        time.sleep(self._dice.choice((0, 0.05, 0.2)))
        if self._dice.random() < 0.3:
            self._kill_monitor()
        wait_for(lambda: service_states(self._stage), _RENEWED_S_MAX, "the directory is not made again")

    def _down(self) -> None:
        if self._dice.random() < 0.5:
            self._hup()
        self._count("gimli down")

        def down() -> None:
            done = self._stage.call("down")
            if done.returncode:
                self._watch.breach(f"gimli down: exit {done.returncode}: {done.stderr}")
                self._kill()

        self._end_by(down)
        self._up()

    def _terminate(self) -> None:
        if self._dice.random() < 0.5:
            self._send(signal.SIGHUP)
            time.sleep(self._dice.uniform(0, 0.3))
        signo = self._dice.choice((signal.SIGTERM, signal.SIGINT, signal.SIGQUIT))
        self._end_by(lambda: self._send(signo))
        self._up()

    def _end_by(self, end: Callable[[], None]) -> None:
        began_s = time.monotonic()
        self._without_monitor(end)
        took_s = time.monotonic() - began_s
        self.end_s.append(took_s)
        if took_s > END_S_MAX:
            self._watch.breach(f"it took {took_s:.1f} s to end")
        for pid, what in self._stage.leftovers().items():
            if what.startswith("main process"):
                self._watch.breach(f"left over after the end: {pid}, {what}")
            elif what.startswith("descendant"):
                self._watch.breach(f"left over after the end: {pid}, {what}", "descendants-left")
            else:
                self._count("helpers that outlived their monitor")

    def _fill_disk(self) -> None:
        self._count("full disks")
        began_ms = time.monotonic_ns() // 1_000_000
        # Open until it has been emptied: what is lost meanwhile is explained.
        self._watch.full_ms.append((began_ms, began_ms + 3_600_000))
        self._stage.fill_disk()
        for _ in range(self._dice.randrange(4)):
            self._dice.choice((self._hup, self._kill_service, self._kill_service))()
            time.sleep(self._dice.uniform(0, 0.5))
        self._stage.empty_disk()
        self._watch.full_ms[-1] = (began_ms, time.monotonic_ns() // 1_000_000)

    def _look_after(self) -> None:
        """What an operator does between disasters."""
        self._stage.prune_reports()
        if time.monotonic() > self._failures_until_s:
            self._watch.timeline.failure_is_expected = False
        self._running_commands()
        if self._dice.random() < 0.2:
            for name, state in service_states(self._stage).items():
                if state in {"failed", "down"}:
                    self._commands.append(
                        (self._stage.begin("start", name), time.monotonic(), ("start", name))
                    )

    def _running_commands(self) -> int:
        """How many commands have not ended; one that takes too long was forgotten by the monitor."""
        still = []
        for process, began_s, command in self._commands:
            if process.poll() is not None:
                continue
            if time.monotonic() > began_s + _COMMAND_S_MAX:
                self._watch.breach(f"gimli {' '.join(command)} has not ended for {_COMMAND_S_MAX:.0f} s")
                process.kill()
                process.wait()
                continue
            still.append((process, began_s, command))
        self._commands = still
        return len(still)

    def _count(self, what: str) -> None:
        self.counts[what] += 1


def wait_for(look: Callable[[], object], patience_s: float, otherwise: str) -> None:
    """Wait until it is so.

    Raises:
        Failed: it does not become so.
    """
    give_up_s = time.monotonic() + patience_s
    while not look():
        if time.monotonic() > give_up_s:
            raise Failed(otherwise)
        time.sleep(0.05)


def _kill(pid: int, signo: int) -> None:
    try:
        os.kill(pid, signo)
    except ProcessLookupError:
        return  # it was faster
