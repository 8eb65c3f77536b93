"""What an instance has left behind when no monitor ran, or when its monitor died over it: the next one's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from gimli import process
from tests.conftest import COMMAND, PATIENCE_S, WITHOUT_CGROUPS

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace and a control group need root"),
]

TREE = """
import ctypes, os, signal, socket, sys, time
def forget():
    # As programs do that write a title over their environment.
    words = open("/proc/self/stat").read().rpartition(")")[2].split()
    ctypes.memset(int(words[47]), 0, int(words[48]) - int(words[47]))
def let_go():
    os.closerange(0, 64)
def fork(*steps):
    told, done = os.pipe()
    done = os.dup2(done, 100)  # beyond what is let go of
    if (pid := os.fork()) == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for step in steps: step()
        os.write(done, b"x")
        while True: signal.pause()
    os.read(told, 1)
    return pid
def say(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
        way.connect(os.environ["NOTIFY_SOCKET"])
        way.send(text.encode())
"""
SLEEP = ("sleep", "1h")


@pytest.fixture(params=["cgroups", "sessions"])
def kind(request):
    return request.param


class Trees:
    """Monitors of one service, one after the other, with control groups or without."""

    def __init__(self, gimli, kind: str) -> None:
        self.gimli = gimli
        self.prefix = WITHOUT_CGROUPS if kind == "sessions" else ()

    def run(self, *command: str, options: tuple[str, ...] = ()):
        """The next monitor."""
        arguments = (*self.prefix, *COMMAND, "run", "--name", "app", "--log", "app.log", *options, "--")
        process_ = subprocess.Popen(
            [*arguments, *command],
            cwd=self.gimli.directory, env=self.gimli.environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self.gimli._processes.append(process_)
        return self.gimli.follow("run.app", process_)

    def grow(self, source: str, *options: str) -> tuple[object, list[int]]:
        """A service that forks; what it prints when it has: the pids."""
        running = self.run(sys.executable, "-c", TREE + source, options=options)
        running.wait_for("started")
        reader = self.gimli.popen("logs", "app", "-f", stdout=subprocess.PIPE)
        return running, [int(word) for word in self.gimli.read_line(reader).split()]

    def lose(self, running, *pids: int) -> None:
        """The monitor is killed, then these."""
        running.send(signal.SIGKILL)
        running.process.wait(PATIENCE_S)
        for pid in pids:
            pidfd = os.pidfd_open(pid)
            os.kill(pid, signal.SIGKILL)
            until(lambda pid=pid: not is_living(pid))
            os.close(pidfd)


@pytest.fixture
def trees(gimli, kind):
    return Trees(gimli, kind)


def is_living(pid: int) -> bool:
    return process.state_of(pid) not in {"", "Z", "X"}


def until(look) -> None:
    """Wait for an end that has no event for us."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < give_up_s
        time.sleep(0.002)


@pytest.mark.parametrize("damage", [os.unlink, lambda path: os.truncate(path, 5)], ids=["missing", "damaged"])
def test_a_worker_is_not_taken_for_the_main_process(trees, damage):
    """It leads a session, as that does, and is the only one that has the service's environment."""
    running, (worker,) = trees.grow("print(fork(os.setsid), flush=True); signal.pause()")
    trees.lose(running, running.pids()[0])
    path = os.path.join(trees.gimli.runtime_dir, "run.app", "app.run")
    damage(path)
    again = trees.run(*SLEEP)
    if os.path.exists(path):
        assert "damaged" in again.wait_for("adoption-refused")["why"]
        assert is_living(worker), "whose it is, is not known"
    else:
        assert again.wait_for("leftovers")["pids"] == [worker]
        again.wait_for("started")
        assert not is_living(worker)
    assert again.events("adopted") == []


def test_the_group_is_known_when_the_monitor_is_killed_over_the_leftovers(gimli):
    """They have shed environment, session and files: only the control group knows them."""
    trees = Trees(gimli, "cgroups")
    source = "print(fork(os.setsid, forget, let_go), flush=True)\n"
    source += "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3)); signal.pause()"
    running, (worker,) = trees.grow(source, "--watchdog-stop", "60s")
    running.send(signal.SIGTERM)
    running.wait_for("leftovers", pids=[worker], signal="SIGTERM")
    trees.lose(running)
    again = trees.run(*SLEEP)
    assert again.wait_for("leftovers", signal="SIGKILL")["pids"] == [worker]
    again.wait_for("started")
    assert not is_living(worker)


NAMES_ANOTHER = """
main = fork()
worker = fork(forget)
say(f"MAINPID={main}\\nREADY=1")
print(main, worker, flush=True)
os._exit(0)
"""


def test_the_session_of_a_former_main_process_is_known_to_the_next_monitor(trees):
    """The one that began it is gone, and the one that it has named leads no session."""
    running, (main, worker) = trees.grow(NAMES_ANOTHER, "--ready", "notify")
    running.wait_for("main-process", pid=main)
    trees.lose(running, main)
    again = trees.run(*SLEEP)
    assert again.wait_for("ended-unseen")["pid"] == main
    assert again.wait_for("leftovers")["pids"] == [worker]
    again.wait_for("started")
    assert not is_living(worker)


def test_what_only_the_number_of_its_session_speaks_for_is_left_alone_and_named(gimli):
    """While no monitor ran, the number may have become a stranger's. Nothing else is left to tell by."""
    trees = Trees(gimli, "sessions")
    running, (worker,) = trees.grow("print(fork(forget, let_go), flush=True); signal.pause()")
    trees.lose(running, running.pids()[0])
    again = trees.run(*SLEEP)
    remaining = again.wait_for("leftovers-remain")
    assert remaining["pids"] == [worker]
    assert "stranger" in remaining["why"]
    again.wait_for("started")
    assert is_living(worker)
    os.kill(worker, signal.SIGKILL)


def test_one_that_speaks_for_its_session_speaks_for_all(gimli):
    """It holds the service's page: the number of their session has not been given away."""
    trees = Trees(gimli, "sessions")
    source = "print(fork(forget, let_go), fork(forget), flush=True); signal.pause()"
    running, workers = trees.grow(source)
    trees.lose(running, running.pids()[0])
    again = trees.run(*SLEEP)
    assert sorted(again.wait_for("leftovers")["pids"]) == sorted(workers)
    again.wait_for("started")
    assert not any(map(is_living, workers))
    assert again.events("leftovers-remain") == []
