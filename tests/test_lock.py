"""One monitor per instance: a living one holds others off, a dead one's child only for a moment."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading

import pytest

from gimli import lock
from gimli.errors import AlreadyRunning
from gimli.lock import hold_instance


@pytest.fixture
def path(tmp_path):
    return os.path.join(tmp_path, "lock")


def test_it_is_held_and_names_the_holder(path):
    fd, before = hold_instance(path, "a monitor for 'up'", "see: gimli ps")
    assert before is None
    with pytest.raises(AlreadyRunning, match=r"a monitor for 'up' runs already") as caught:
        hold_instance(path, "a monitor for 'up'", "see: gimli ps")
    assert str(os.getpid()) in caught.value.why
    os.close(fd)


def test_a_monitor_that_was_killed_is_named(path):
    os.close(hold_instance(path, "a monitor for 'up'", "see: gimli ps")[0])
    fd, before = hold_instance(path, "a monitor for 'up'", "see: gimli ps")
    assert before == os.getpid()
    os.close(fd)


def test_a_lock_on_a_file_that_was_taken_away_holds_nobody_off(path):
    first, _ = hold_instance(path, "a monitor for 'up'", "see: gimli ps")
    os.unlink(path)
    second, _ = hold_instance(path, "a monitor for 'up'", "see: gimli ps")
    for fd in (first, second):
        os.close(fd)


def dead_pid() -> int:
    done = subprocess.Popen(["true"])
    done.wait()
    return done.pid


def test_a_child_of_a_dead_monitor_is_waited_for(path):
    """Killed between fork and exec, a monitor leaves its lock with the child for a moment."""
    with open(path, "w", encoding="ascii") as file:
        file.write(str(dead_pid()))
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        threading.Timer(0.05, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        fd, _ = hold_instance(path, "a monitor for 'up'", "see: gimli ps")
    os.close(fd)


def test_one_that_keeps_the_lock_is_not_waited_for_without_end(path, monkeypatch):
    monkeypatch.setattr(lock, "_TRIES", 3)
    with open(path, "w", encoding="ascii") as file:
        file.write(str(dead_pid()))
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(AlreadyRunning):
            hold_instance(path, "a monitor for 'up'", "see: gimli ps")
