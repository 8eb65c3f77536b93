"""The lines of ``gimli run`` on its terminal."""

from __future__ import annotations

import os

import pytest

from gimli import journal
from gimli.heartbeat import Crash
from gimli.monitor import actions, events, machine
from gimli.monitor.child import Child, State, Wish
from gimli.monitor.config import Policy
from gimli.monitor.narrator import Narrator, describe
from gimli.process import ExitStatus

CRASH = Crash(signo=11, code=1, address=0, pid=100, tid=100, time_ns=5, ucontext=6, siginfo=7)
LATE = events.HeartbeatLate(pulse="writer-2", tid=7, silent_s=60.0004, allowed_s=60.0, late_ms=0.4)
NOTICED = "noticed 0.4 ms after the deadline"
TELLING = [
    events.Executed(100),
    events.BecameReady("notify"),
    events.SpawnFailed("exec ./orders: No such file or directory"),
    events.SpawnsExhausted("exec ./orders: No such file or directory"),
    events.BeatStarting(),
    events.BeatRunning(),
    events.BeatStopping(),
    LATE,
    events.CrashReported(CRASH),
    events.CrashReported(None),
    events.WorkerCrashed(CRASH),
    events.EndedForGood(ExitStatus(code=0)),
    events.EndedForGood(ExitStatus(code=3)),
    events.EndedToRestart(ExitStatus(signo=11), 0.0),
    events.EndedToRestart(ExitStatus(signo=11), 60.0),
    events.RestartsExhausted(ExitStatus(signo=35)),
    events.StopWanted(),
]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", TELLING, ids=lambda event: type(event).__name__)
def test_whatever_the_machine_tells_has_a_line_or_none_and_never_an_exception(tmp_path, state, event):
    """An exception in a subscriber of the journal would end the monitor."""
    child = Child(Policy(), state=state, wish=Wish.UP, pid=100, failures=2, restarts=1)
    told = journal.Journal(os.path.join(tmp_path, "journal"))
    for order in machine.step(child, event)[1]:
        if isinstance(order, actions.Tell):
            line = describe(told.record(order.event, "orders", **dict(order.details)))
            assert "None" not in line
            assert line.isprintable()


@pytest.mark.parametrize(
    ("event", "fields", "line"),
    [
        ("crash", {"pid": 7, "signo": 11, "address": 0}, "orders (pid 7) crashed: SIGSEGV at 0x0"),
        ("crash", {"pid": 7}, "orders (pid 7) crashed: a fault"),
        ("crash", {"pid": 8, "signo": 6, "worker": True}, "a worker of orders (pid 8) crashed: SIGABRT"),
        (
            "hang",
            {"pulse": None, "silent_s": 60.0, "allowed_s": 60.0, "late_ms": 0.44},
            "orders hangs: its heartbeat has been silent for 1 min, allowed are 1 min; " + NOTICED,
        ),
        (
            "hang",
            {"pulse": "a\x1b[2Jb", "silent_s": 2.0, "allowed_s": 2.0, "late_ms": 0.4},
            "orders hangs: pulse 'a\\x1b[2Jb' has been silent for 2.0 s, allowed are 2.0 s; " + NOTICED,
        ),
        (
            "hang",
            {"pulse": None, "silent_s": 2.0, "allowed_s": 1.0, "late_ms": 0.44, "because": "frozen"},
            f"orders hangs: its heartbeat has been silent for 2.0 s, allowed are 1.0 s; {NOTICED}; frozen",
        ),
        (
            "starved",
            {"pulse": None, "silent_s": 2.0, "grace_s": 2.0, "because": "starved: no CPU"},
            ("the heartbeat of orders has been silent for 2.0 s, but it is not taken for a hang yet: "
            "starved: no CPU; it has another 2.0 s"),
        ),
        (
            "beat-late",
            {"pulse": "writer", "silent_s": 2.0, "grace_s": 2.0, "because": "stopped by SIGSTOP"},
            ("pulse 'writer' of orders has been silent for 2.0 s, but it is not taken for a hang yet: "
            "stopped by SIGSTOP; it has another 2.0 s"),
        ),
        ("beats-again", {"pulse": None, "cause": "starved"}, "orders beats again"),
        (
            "debugger-attached",
            {"debugger": {"pid": 9001, "comm": "gdb", "uid": 1000, "user": "anna"}},
            "the watchdog of orders waits: gdb (pid 9001) of anna attached",
        ),
        (
            "debugger-detached",
            {"debugger": {"pid": 9001, "comm": "g\x1bb", "uid": 1000, "user": ""}, "for_s": 7.0},
            ("g\N{REPLACEMENT CHARACTER}b (pid 9001) of uid 1000 has let go of orders after 7.0 s; "
            "its deadlines start anew"),
        ),
        (
            "debugger-attached",
            {"debugger": {"pid": 0, "comm": "", "uid": None, "user": ""}},
            "the watchdog of orders waits: a debugger outside of this container attached",
        ),
        ("released", {"report": "R1", "pause_ms": 1.44}, "snapshot R1 of orders taken in 1.4 ms"),
        ("snapshot-failed", {"what": "W", "why": "Y", "fix": ""}, "no snapshot of orders: W: Y"),
        ("exited", {"pid": 7, "status": "exit 3", "code": 3, "signo": None}, "orders (pid 7) ended: exit 3"),
        ("exited", {"pid": 7, "status": "exit 0", "code": 0, "signo": None}, ""),
        ("started", {"pid": 7, "restarts": 0}, ""),
        ("started", {"pid": 7, "restarts": 1}, "orders restarted as pid 7"),
        (
            "started",
            {"pid": 7, "restarts": 1, "after_ms": 2.34},
            "orders restarted as pid 7, 2.3 ms after the end of the last",
        ),
        (
            "backoff",
            {"delay_s": 0.4, "failures": 4},
            "orders has ended 4 times in a row; next start in 0.4 s",
        ),
        ("exec-failed", {"why": "no such file"}, "orders: no such file"),
        ("failed", {"because": "ended 4 times in a row"}, "orders: ended 4 times in a row"),
        (
            "leftovers",
            {"pids": [7, 8], "signal": "SIGTERM"},
            "orders has left processes behind (7, 8): sent SIGTERM",
        ),
        ("leftovers-remain", {"pids": [7], "why": "W"}, "orders has left processes behind (7): W"),
        ("directory-lost", {"path": "/run/g", "why": "W", "fix": "F"}, "/run/g: W; F"),
        (
            "directory-renewed",
            {"path": "/run/g", "names": ["lock", "bell"], "why": "W"},
            "made again in /run/g: lock, bell; W",
        ),
        ("directory-unwatched", {"path": "/run/g", "why": "W"}, "/run/g: W"),
        (
            "monitor-superseded",
            {"pid": 7, "what": "pid 8 holds it", "why": "W"},
            "this monitor ends, and leaves its services alone: pid 8 holds it; W",
        ),
        ("watchdog-triggered", {}, "orders says that it hangs"),
        ("not-ready", {"why": "W"}, "orders is not ready: W"),
        ("probe-failed", {"probe": "tcp:80", "why": "W"}, "orders does not answer tcp:80: W"),
        ("notify-refused", {"pid": 7, "why": "W"}, "a notification of pid 7 is not heeded: W"),
        ("notify-refused", {"pid": 7, "why": "W", "fix": "F"}, "a notification of pid 7 is not heeded: W; F"),
        ("analysed", {"report": "R1", "summary": "a deadlock"}, "report R1: a deadlock   (gimli show R1)"),
        ("analysis-failed", {"report": "R1", "why": "too slow"}, "report R1 stays raw: too slow"),
        ("signal", {"signal": "SIGHUP"}, ""),
        ("an event of the future", {}, ""),
    ],
)  # fmt: skip
def test_the_words(event, fields, line):
    assert describe({"event": event, "service": "orders", **fields}) == line


def test_a_storm_of_events_is_a_hundred_lines_and_how_many_more(capfd):
    now_ns = [0]
    narrator = Narrator(lambda: now_ns[0])
    event = {"service": "app", "event": "failed", "why": "no luck"}
    for _ in range(5000):
        narrator.tell(event)
    now_ns[0] = 11_000_000_000
    narrator.tell(event)
    lines = capfd.readouterr().err.splitlines()
    assert lines.count("gimli: app: no luck") == 101
    assert lines[-2:] == ["gimli: 4900 more events; see: gimli events", "gimli: app: no luck"]
