"""Helpers: whatever one prints, and however it ends, the monitor hears of it once and goes on."""

from __future__ import annotations

import gc
import os
import resource
import sys
from typing import Any

import pytest

from gimli.journal import Journal
from gimli.loop import Loop
from gimli.monitor import evidence
from gimli.monitor.evidence import Evidence
from gimli.monitor.helper import Helper

REQUEST = {"id": "R1", "service": "web", "reason": "crash", "pid": 7}


class Captured:
    """A loop with one capture by a helper of a few lines of Python."""

    def __init__(self, tmp_path, helper: str, analysis: str | None = None) -> None:
        self.loop = Loop()
        self.journal = Journal(os.path.join(tmp_path, "journal"))
        self.told: list[tuple[str, Any]] = []
        commands = [(sys.executable, "-c", script) if script else () for script in (helper, analysis)]
        self.evidence = Evidence(self.loop, self.journal, *commands)
        self.evidence.capture(REQUEST, self)

    def released(self, pid: int) -> None:
        """A listener's part."""
        assert pid == REQUEST["pid"]
        self.told.append(("released", None))

    def report_known(self, report: dict[str, Any]) -> None:
        """A listener's part."""
        self.told.append(("report", report))

    def failed(self, why: str) -> None:
        """A listener's part."""
        self.told.append(("failed", why))

    def run(self) -> list[str]:
        """Until all is done; the names of what was told."""
        while not self.evidence.is_idle:
            self.loop.run_once()
        return [name for name, _ in self.told]

    def events(self) -> list[str]:
        """What the journal holds of it."""
        return [entry["event"] for entry in self.journal.recent("web")]


STORED = """
import json
print(json.dumps({"event": "released", "pause_ms": 1.5}), flush=True)
print(json.dumps({"event": "stored", "id": "R1", "path": "/r/R1", "core_bytes": 1, "notes": []}), flush=True)
"""


def test_a_capture_releases_then_stores_then_is_analysed(tmp_path):
    analysis = 'print(\'{"event": "analysed", "id": "R1", "signature": "s", "summary": "a deadlock"}\')'
    captured = Captured(tmp_path, STORED, analysis)
    assert captured.run() == ["released", "report", "report"]
    assert captured.told[-1][1] == {"id": "R1", "reason": "crash", "summary": "a deadlock"}
    assert captured.events() == ["snapshot", "released", "report", "analysed"]


def test_the_helper_reads_its_request_to_the_end(tmp_path):
    script = "import sys, json; r = json.load(sys.stdin); assert r['id'] == 'R1'" + STORED
    assert Captured(tmp_path, script).run() == ["released", "report"]


def test_a_library_that_prints_does_not_disturb(tmp_path):
    """What is no message is passed over: a line of its own, half a line, an endless one."""
    noise = 'print("hello"); print("[1]"); print("null"); print("[" * 100000, flush=True)\n'
    noise += 'import os; os.write(1, b"\\xff\\n")\n'
    assert Captured(tmp_path, noise + STORED + 'print("{", end="")').run() == ["released", "report"]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("raise SystemExit('no memory')", "it ended by exit 1: no memory"),
        ("import os; os.kill(os.getpid(), 11)", "it ended by signal 11"),
        (
            "import os; os.write(2, b'x' * 5000 + b' the end'); os._exit(3)",
            "it ended by exit 3: " + "x" * 1992 + " the end",
        ),
    ],
)  # fmt: skip
def test_a_helper_that_dies_releases_and_says_why(tmp_path, script, why):
    """Nobody restarts the service before it is released."""
    captured = Captured(tmp_path, script)
    assert captured.run() == ["failed", "released"]
    assert captured.told[0][1] == f"the capture helper: {why}"
    assert captured.events() == ["snapshot", "snapshot-failed"]


def test_a_failure_is_said_once(tmp_path):
    """By its own message, which knows more than its exit status."""
    script = """
print('{"event": "released", "pause_ms": 1}')
print('{"event": "failed", "what": "cannot write", "why": "disk full", "stored": false}')
raise SystemExit(1)
"""
    captured = Captured(tmp_path, script)
    assert captured.run() == ["released", "failed"]
    assert captured.told[1][1] == "cannot write: disk full"
    assert captured.events().count("snapshot-failed") == 1


def test_a_helper_that_dies_after_its_release_releases_once(tmp_path):
    script = 'print(\'{"event": "released", "pause_ms": 1}\', flush=True); raise SystemExit("disk full")'
    assert Captured(tmp_path, script).run() == ["released", "failed"]


def test_a_helper_that_cannot_be_started_releases(tmp_path):
    captured = Captured(tmp_path, STORED)
    captured.run()
    captured.evidence._capture_command = ("/nonexistent",)
    captured.evidence.capture(REQUEST, captured)
    assert captured.run()[-1] == "released"


def test_a_helper_that_hangs_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "CAPTURE_TIMEOUT_S", 0.2)
    captured = Captured(tmp_path, "import signal; signal.pause()")
    assert captured.run() == ["failed", "released"]
    assert captured.told[0][1] == "the capture helper: it took too long and was killed"


def test_an_analysis_that_dies_leaves_the_report(tmp_path):
    captured = Captured(tmp_path, STORED, "import os; os.abort()")
    assert captured.run() == ["released", "report"]
    assert captured.events()[-1] == "analysis-failed"


def test_analyses_wait_for_each_other(tmp_path):
    """A crash loop must not start a hundred of them at once."""
    captured = Captured(tmp_path, STORED, "input()")
    seen = 0
    for _ in range(5):
        captured.evidence.capture(REQUEST, captured)
    while not captured.evidence.is_idle:
        seen = max(seen, len(captured.evidence.analyses))
        captured.loop.run_once()
    assert seen == evidence._ANALYSES_AT_ONCE
    assert captured.events().count("analysis-failed") == 6


def test_a_helper_leaves_no_descriptor_and_no_zombie(tmp_path):
    before = os.listdir("/proc/self/fd")
    captured = Captured(tmp_path, STORED)
    captured.run()
    captured.loop._epoll.close()
    os.close(captured.journal._fd)
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_helper_is_started_with_no_signal_blocked():
    """The monitor blocks most, and a mask is inherited."""
    messages: list[dict[str, Any]] = []
    ends: list[str] = []
    script = "import signal; print('{\"blocked\": %d}' % len(signal.pthread_sigmask(signal.SIG_BLOCK, ())))"
    loop = Loop()
    Helper(loop, messages.append, ends.append).start((sys.executable, "-c", script), b"", 20.0)
    while not ends:
        loop.run_once()
    assert (messages, ends) == ([{"blocked": 0}], [""])


@pytest.mark.parametrize("left", range(5))
def test_a_helper_that_cannot_be_started_for_want_of_descriptors_leaves_nothing(left):
    """At whichever of its descriptors they ran out: none stays open, and no child is left."""
    gc.collect()  # what earlier tests have left open closes now, and not in between
    before = set(os.listdir("/proc/self/fd"))
    loop = Loop()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + left, limit[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            Helper(loop, lambda _: None, lambda _: None).start(("/bin/true",), b"", 10)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    loop._epoll.close()
    assert set(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
