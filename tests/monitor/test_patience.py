"""What is remembered of late beats and debuggers: with a real process, and a loop that nobody runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from gimli import clock, process
from gimli.loop import Loop
from gimli.monitor.patience import Patience
from gimli.monitor.watchdog import Beat, Grace, Late

pytestmark = pytest.mark.real

S = 1_000_000_000


class Told:
    """A sleeping process that beats when the test says so, and the patience that is had with it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["sleep", "1h"])
        self.pidfd = os.pidfd_open(self.process.pid)
        while process.state_of(self.process.pid) != "S":  # it is still starting
            os.sched_yield()
        self.events: list[tuple[str, dict]] = []
        self.now_ns = clock.monotonic_ns()
        self.patience = Patience(Loop(), self.tell, self.look_now)

    def tell(self, event: str, **details) -> None:
        """The journal."""
        json.dumps(details)  # the journal will
        self.events.append((event, details))

    def look_now(self) -> None:
        """A debugger has ended."""
        raise AssertionError("nobody asked for it")

    def look(self, since_ns: int, *, pulse: str | None = None, resumed_ns: int = 0) -> bool:
        """A look at its page, whose beat is of then."""
        beats = [Beat(pulse, None, since_ns, S)]
        return self.patience.look(self.process.pid, beats, resumed_ns=resumed_ns, now_ns=self.now_ns)

    def judge(self, since_ns: int, *, pulse: str | None = None, due_ns: int | None = None):
        """A deadline without a beat since then."""
        silent_ns = self.now_ns - since_ns
        late = Late(pulse, None, silent_ns, S, silent_ns - S)
        due_ns = self.now_ns if due_ns is None else due_ns
        return self.patience.judge(late, self.process.pid, self.pidfd, due_ns=due_ns, now_ns=self.now_ns)

    def stop(self) -> None:
        """SIGSTOP, and wait until it stands."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PIDFD, self.pidfd, os.WSTOPPED | os.WNOWAIT)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        os.close(self.pidfd)


@pytest.fixture
def told():
    made = Told()
    yield made
    made.close()


def test_a_sleeping_program_hangs_and_its_figures_say_that_it_slept(told):
    since_ns = told.now_ns
    assert not told.look(since_ns)
    told.now_ns += S
    hang = told.judge(since_ns)
    assert (hang.silent_s, hang.allowed_s, hang.late_ms) == (1.0, 1.0, 0.0)
    seen = dict(hang.scheduling)
    assert (seen["cause"], seen["because"], seen["state"]) == (None, "", "S")
    assert told.events == []


def test_one_silence_has_one_grace_and_the_next_another(told):
    since_ns = told.now_ns
    told.look(since_ns)
    told.stop()
    told.now_ns += S
    assert told.judge(since_ns) is None
    assert told.patience.graces == {"": Grace(since_ns, told.now_ns + S)}
    assert told.patience.because([Beat(None, None, since_ns, S)]) == "stopped by SIGSTOP"
    assert not told.patience.is_starved([Beat(None, None, since_ns, S)])
    told.now_ns += S
    assert dict(told.judge(since_ns).scheduling)["because"] == "stopped by SIGSTOP"
    told.look(since_ns + 1)
    assert [event for event, _ in told.events] == ["beat-late", "beats-again"]
    assert told.patience.graces == {}
    assert told.judge(since_ns + 1) is None


def test_the_grace_of_one_pulse_is_not_anothers(told):
    since_ns = told.now_ns
    told.stop()
    told.now_ns += S
    assert told.judge(since_ns, pulse="reader") is None
    assert set(told.patience.graces) == {"0 reader"}
    assert told.patience.because([Beat("writer", None, since_ns, S)]) == ""


def test_a_silence_that_a_snapshot_ended_is_no_beat(told):
    since_ns = told.now_ns
    told.stop()
    told.now_ns += S
    told.judge(since_ns)
    told.look(told.now_ns, resumed_ns=told.now_ns)
    assert [event for event, _ in told.events] == ["beat-late"]
    assert told.patience.graces == {}


def test_a_pulse_that_is_gone_leaves_nothing(told):
    since_ns = told.now_ns
    told.stop()
    told.now_ns += S
    told.judge(since_ns, pulse="reader")
    told.look(since_ns, pulse="writer")
    assert told.patience.graces == {}
    assert set(told.patience.pack()["baselines"]) == {"0 writer"}


def test_a_monitor_that_looked_late_gives_time(told):
    since_ns = told.now_ns
    told.now_ns += 4 * S
    assert told.judge(since_ns, due_ns=since_ns + S) is None
    assert told.events[0][1]["cause"] == "monitor late"
    assert told.events[0][1]["monitor_late_s"] == 3.0


def test_the_next_monitor_knows_what_this_one_did(told):
    since_ns = told.now_ns
    told.look(since_ns)
    told.stop()
    told.now_ns += S
    told.judge(since_ns)
    packed = json.loads(json.dumps(told.patience.pack()))
    other = Patience.unpack(packed, Loop(), told.tell, told.look_now)
    assert other.pack() == told.patience.pack()
    assert other.graces == told.patience.graces
    told.patience = other
    told.now_ns += S
    assert told.judge(since_ns) is not None


def test_the_next_monitor_looks_at_once_whether_the_debugger_is_still_there(told):
    packed = told.patience.pack() | {
        "debugger": {"pid": told.process.pid, "comm": "gdb", "uid": 0, "user": "root", "is_helper": False},
        "debugged_since_ns": told.now_ns,
    }
    told.patience = Patience.unpack(json.loads(json.dumps(packed)), Loop(), told.tell, told.look_now)
    assert told.patience.debugger
    assert told.look(told.now_ns)
    assert [event for event, _ in told.events] == ["debugger-detached"]
    assert told.patience.debugger is None


def test_a_new_instance_starts_from_nothing(told):
    since_ns = told.now_ns
    told.look(since_ns)
    told.stop()
    told.now_ns += S
    told.judge(since_ns)
    told.patience.forget()
    assert told.patience.pack() == Patience(Loop(), told.tell, told.look_now).pack()


def test_a_process_that_is_gone_is_judged_without_figures(told):
    told.process.kill()
    told.process.wait()
    told.now_ns += S
    hang = told.judge(told.now_ns - S)
    assert dict(hang.scheduling)["window_s"] == 0
