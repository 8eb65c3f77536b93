"""A pidfile: one monitor holds it, a dead one does not, a new image of the same monitor still does."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys

import pytest

from gimli.errors import AlreadyRunning, StoreError
from gimli.monitor.pidfile import Pidfile

FIRST_IMAGE = """
import os, sys
from gimli.monitor.pidfile import Pidfile
held = Pidfile(sys.argv[1])
os.set_inheritable(held.fd, True)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], held.path, str(held.fd)])
"""
SECOND_IMAGE = """
import sys
from gimli.monitor.pidfile import Pidfile
held = Pidfile(sys.argv[1], int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.read()
held.close()
"""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "orders.pid")


def content(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def test_it_holds_our_pid_and_is_gone_afterwards(path):
    held = Pidfile(path)
    assert content(path) == str(os.getpid())
    assert not os.get_inheritable(held.fd)
    held.close()
    assert not os.path.exists(path)


def test_a_second_monitor_is_refused_with_the_pid_of_the_first(path):
    held = Pidfile(path)
    with pytest.raises(AlreadyRunning, match=rf"held by process {os.getpid()}") as caught:
        Pidfile(path)
    assert path in caught.value.what
    assert content(path) == str(os.getpid())
    held.close()
    Pidfile(path).close()


def test_a_stale_one_is_taken_over_whole(path):
    with open(path, "w", encoding="ascii") as file:
        file.write("99999999 and something longer than a pid\n")
    held = Pidfile(path)
    assert content(path) == str(os.getpid())
    held.close()


def test_the_originals_monitor_cannot_take_it(path):
    """It tries a POSIX lock on the whole file."""
    held = Pidfile(path)
    attempt = (
        "import fcntl, sys\n"
        "try: fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except OSError: sys.exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", attempt, path], check=False).returncode == 7
    held.close()


def test_one_that_the_originals_monitor_holds_is_refused(path):
    holder = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX); file.write('4711'); file.flush()\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        with pytest.raises(AlreadyRunning, match="held by process 4711"):
            Pidfile(path)
        process.stdin.close()


def test_closing_another_descriptor_of_the_file_does_not_lose_it(path):
    """As it would lose a POSIX lock: whoever in the monitor reads the file would let go of it."""
    held = Pidfile(path)
    content(path)
    attempt = os.open(path, os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.fcntl(attempt, fcntl.F_OFD_SETLK, b"\1\0" + bytes(30))  # F_WRLCK of all of it
    os.close(attempt)
    held.close()


def test_it_is_held_through_an_execve_of_the_monitor(path):
    """Takeover in place: the descriptor is inherited by number, and with it the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", FIRST_IMAGE, path, SECOND_IMAGE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        with pytest.raises(AlreadyRunning, match=f"held by process {process.pid}"):
            Pidfile(path)
        process.stdin.close()
        assert process.wait() == 0
    assert not os.path.exists(path)


def test_a_file_that_somebody_else_has_put_there_since_is_left_alone(path):
    held = Pidfile(path)
    os.unlink(path)
    other = Pidfile(path)
    held.close()
    assert content(path) == str(os.getpid())
    other.close()


@pytest.mark.parametrize(("made", "why"), [("missing/orders.pid", "No such file"), ("link", "symbolic")])
def test_one_that_cannot_be_made_is_told(tmp_path, made, why):
    """A link in a directory of others would have root write wherever it leads."""
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(StoreError, match="cannot open the pidfile") as caught:
        Pidfile(str(tmp_path / made))
    assert why in caught.value.why
