"""The machine told as stories: what happens above each rule, what it does about it below.

A story is a script with its output (tests/stories/monitor). ``pytest --rewrite`` writes the output anew.

    service restart=on-fault watchdog=60s stop=60s attempts=15     begins the script
    start | stop | restart | snapshot                              the operator
    executed 100 | not executed WHY                                what exec said
    beat starting | running | stopping                             the heartbeat
    late 60s/60s [PULSE]                                           silence, of what was allowed
    crash SEGV | crash | worker SEGV                               a handler waits; no name: the original's
    released                                                       the snapshot is done
    ended 3 | ended SEGV                                           how the process ended
    restart due | stop expired | healthy                           a deadline
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from gimli import process
from gimli.clock import parse_duration
from gimli.heartbeat import Crash
from gimli.monitor import actions, events, machine
from gimli.monitor.config import Backoff, Intervals, Policy, Restart
from gimli.monitor.machine import Child
from gimli.process import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = os.path.join(os.path.dirname(__file__), os.pardir, "stories", "monitor")
STORIES = sorted(os.listdir(DIRECTORY))
PLAIN: dict[str, type] = {
    "start": events.StartWanted,
    "stop": events.StopWanted,
    "restart": events.RestartWanted,
    "snapshot": events.SnapshotWanted,
    "beat starting": events.BeatStarting,
    "beat running": events.BeatRunning,
    "beat stopping": events.BeatStopping,
    "restart due": events.RestartDue,
    "stop expired": events.StopExpired,
    "healthy": events.HealthySpell,
}


class Teller:
    """Plays a script through the machine, as ``monitor.service`` does."""

    def __init__(self) -> None:
        self.child = Child(Policy())

    def play(self, line: str) -> list[str]:
        """One line of a script, and what comes of it."""
        verb, _, rest = line.partition(" ")
        if verb == "service":
            self.child = Child(_policy(dict(item.split("=") for item in rest.split())))
            return []
        before = self.child.state
        self.child, orders = machine.step(self.child, self._event(line, verb, rest))
        change = [f"{before.value} -> {self.child.state.value}"] if self.child.state is not before else []
        return change + [_describe(order) for order in orders]

    def _event(self, line: str, verb: str, rest: str) -> events.Event:
        if line in PLAIN:
            return PLAIN[line]()
        match verb:
            case "executed":
                return events.Executed(int(rest))
            case "not":
                return machine.judge_spawn_failure(self.child, rest.removeprefix("executed "))
            case "late":
                silent, allowed, pulse = re.fullmatch(r"(\S+)/(\S+) ?(.*)", rest).groups()
                silent_s, allowed_s = parse_duration(silent, "story"), parse_duration(allowed, "story")
                return events.HeartbeatLate(pulse or None, 7 if pulse else None, silent_s, allowed_s, 0.4)
            case "crash":
                return events.CrashReported(_crash(rest, self.child.pid) if rest else None)
            case "worker":
                return events.WorkerCrashed(_crash(rest, self.child.pid + 1))
            case "released":
                return machine.judge_release(self.child, starting=rest == "unready")
            case "ended" if rest.isdecimal():
                return machine.judge_end(self.child, ExitStatus(code=int(rest)))
            case "ended":
                return machine.judge_end(self.child, ExitStatus(signo=process.parse_signal(rest)))
            case _:
                raise AssertionError(f"no such line in a story: {line}")


def _policy(told: dict[str, str]) -> Policy:
    seconds = {name: parse_duration(told[name], name) for name in ("watchdog", "stop") if name in told}
    return Policy(
        Intervals(watchdog_s=seconds.get("watchdog", 60.0), stop_s=seconds.get("stop", 60.0)),
        Restart(told.get("restart", "on-fault")),
        Backoff(attempts=int(told.get("attempts", "15"))),
    )


def _crash(name: str, pid: int) -> Crash:
    signo = process.parse_signal(name)
    return Crash(signo, code=1, address=0, pid=pid, tid=pid, time_ns=0, ucontext=0, siginfo=0)


def _describe(order: actions.Action) -> str:
    match order:
        case actions.Spawn():
            return "spawn"
        case actions.Signal(signo=signo, because=because, group=group):
            whom = " to its group" if group else ""
            return f"send {process.signal_name(signo)}{whom}: {because}"
        case actions.Capture(reason=reason):
            return f"capture: {reason}"
        case actions.CaptureWorker(crash=crash):
            return f"capture worker {crash.pid}"
        case actions.RecordDeath(signo=signo):
            return f"record a death by {process.signal_name(signo)}"
        case actions.LetGo():
            return "let its crash handler go"
        case actions.Arm(timer=timer, delay_s=delay_s):
            return f"arm {timer.value} in {delay_s:g} s"
        case actions.Disarm(timer=timer):
            return f"disarm {timer.value}"
        case actions.Tell(event=event, details=details):
            return " ".join(
                ["tell", event, *(f"{name}={found}" for name, found in details if found is not None)]
            )


def _retell(text: str) -> str:
    """The same story with the machine's own output."""
    teller = Teller()
    return "\n".join(_told(text, teller))


def _told(text: str, teller: Teller) -> Iterator[str]:
    for block in text.strip().split("\n\n"):
        script = block.split("\n----")[0].splitlines()
        if all(line.startswith("#") for line in script):
            yield block + "\n"
            continue
        output = [out for line in script if not line.startswith("#") for out in teller.play(line)]
        yield "\n".join([*script, "----", *output]) + "\n"


@pytest.mark.parametrize("name", STORIES)
def test_the_story_goes_as_it_is_told(name, golden):
    with open(os.path.join(DIRECTORY, name), encoding="utf-8") as file:
        golden(f"monitor/{name}", _retell(file.read()))
