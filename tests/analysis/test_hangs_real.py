"""Cores of real programs that hang: whom the report points at, and for what."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .conftest import HERE, PACKAGE, analyse

pytestmark = [pytest.mark.real, pytest.mark.slow]

EXAMPLE = os.path.join(HERE, "..", "..", "examples", "deadlock.py")


def test_a_deadlock_of_two_mutexes_names_both_threads_both_locks_and_both_lines(faults, start, capture):
    made = analyse(capture(start(faults, "deadlock").pid))
    assert made.summary == "deadlock index_lock/ledger"
    first = made.findings[0]
    assert first.text == (
        'Deadlock: "writer" waits for `index_lock` (faults.c:141), held by "reader", '
        'which waits for `ledger` (faults.c:151), held by "writer".'
    )
    assert first.confidence > 0.9
    assert [(thread.name, thread.culprit) for thread in made.threads] == [
        ("writer", True),
        ("reader", True),
        ("faults", False),
    ]
    assert made.threads[0].doing == "waiting for a lock"
    assert made.threads[2].doing == "waiting for a thread to end"


def test_a_deadlock_is_found_without_any_symbols(start, capture, faults, tmp_path):
    """The owner of a mutex is at a fixed place of it: a stripped program is not the less stuck."""
    program = str(tmp_path / "stripped")
    subprocess.run(["strip", "-o", program, faults], check=True)
    made = analyse(capture(start(program, "deadlock").pid))
    assert made.findings[0].kind == "deadlock"
    assert "stripped+0x" in made.findings[0].text


def test_a_read_that_never_returns_names_the_pipe_and_the_line(faults, start, capture):
    made = analyse(capture(start(faults, "pipe").pid))
    assert made.threads[0].doing.startswith("reading from pipe:[")
    assert made.summary.startswith("heartbeat silent: reading from pipe:[")
    assert made.summary.endswith("(fd 3) in hang_pipe() at faults.c:173")
    assert "silent for 30.0 s (allowed 30.0 s)" in made.findings[0].text


def test_a_busy_loop_is_running_and_that_is_all_that_is_claimed(faults, start, capture):
    made = analyse(capture(start(faults, "loop").pid))
    assert made.threads[0].doing == "running"
    assert made.summary == "heartbeat silent: running in hang_loop() at faults.c:178"
    assert made.findings[0].confidence < 0.9


def test_the_example_deadlocks_and_is_explained(start, capture, tmp_path):
    """Attributes of one object, one of them in a cell: `self` is used by a generator expression."""
    script = tmp_path / "run.py"
    script.write_text(EXAMPLE_RUNNER.format(example=EXAMPLE))
    process = start(sys.executable, str(script), env=os.environ | {"PYTHONPATH": os.path.dirname(PACKAGE)})
    made = analyse(
        capture(
            process.pid, heartbeat={"pulses": [{"name": "writer", "tid": 1, "interval_s": 1, "silent_s": 2}]}
        )
    )
    assert made.summary == "deadlock index/ledger"
    text = made.findings[0].text
    assert text.startswith('Deadlock: "writer" waits for `self.index` (deadlock.py:')
    assert 'held by "reader", which waits for `self.ledger` (deadlock.py:' in text
    writer = made.threads[0]
    assert (writer.name, writer.doing, writer.culprit) == ("writer", "waiting for a lock", True)
    python = [frame for frame in writer.frames if frame.language == "python"]
    assert [frame.function for frame in python[:2]] == ["commit", "write_orders"]
    assert {each.name for each in python[0].variables} == {"self", "order", "last"}
    assert writer.frames[0].interpreter, "a reader begins at the line that waits"


EXAMPLE_RUNNER = """
import runpy, threading, time

def tell_when_stuck():
    while True:  # both stand at their second lock: the stacks tell
        time.sleep(0.05)
        tops = [f.f_lineno for t, f in __import__("sys")._current_frames().items()]
        names = [f.f_code.co_name for f in __import__("sys")._current_frames().values()]
        if "commit" in names and "total" in names:
            time.sleep(0.2)
            print("ready", flush=True)
            return

threading.Thread(target=tell_when_stuck, daemon=True).start()
runpy.run_path({example!r}, run_name="__main__")
"""

LOCKS = """
import threading
first, second = threading.Lock(), threading.RLock()
met = threading.Barrier(3)

def one():
    mine = first
    with mine:
        met.wait()
        {take_second}

def other():
    second.acquire()
    met.wait()
    with first:
        pass

for work in (one, other):
    threading.Thread(target=work, name=work.__name__, daemon=True).start()
met.wait()
import time
time.sleep(0.3)
print("ready", flush=True)
threading.Event().wait()
"""


def test_explicit_acquire_is_told_with_less_confidence(start, capture, tmp_path):
    script = tmp_path / "locks.py"
    script.write_text(
        LOCKS.format(take_second="second.acquire()").replace("mine = first", "pass").replace("mine", "first")
    )
    made = analyse(capture(start(sys.executable, str(script)).pid))
    assert made.findings[0].kind == "deadlock"
    assert "`second` (locks.py:" in made.findings[0].text
    assert "`first` (locks.py:" in made.findings[0].text
    assert 0.5 < made.findings[0].confidence < 0.9


def test_a_thread_without_python_stays_native(start, capture, tmp_path):
    script = tmp_path / "wait.py"
    script.write_text("import threading\nprint('ready', flush=True)\nthreading.Event().wait()\n")
    made = analyse(capture(start(sys.executable, str(script)).pid))
    assert made.threads[0].doing == "waiting for a condition"
    assert made.summary.startswith("heartbeat silent: waiting for a condition in <module> at wait.py:3")
