"""Somebody removes the runtime directory under a living monitor."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from gimli import process
from tests.chaos import witness
from tests.conftest import python

pytestmark = [pytest.mark.real, pytest.mark.slow]

TABLE = """
[service.web]
command = {command}
watchdog_stop = "1s"
"""
BEATS_ON_ORDER = """
import os, signal, sys
from gimli import client
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
client.beat()
signal.sigwait({signal.SIGUSR1})
client.stopping()
signal.pause()
"""


@pytest.fixture
def held(gimli):
    """A witness that writes all the time, and its monitor; the pid of the witness, and where it is."""
    place = witness.prepare(os.path.join(gimli.directory, "witness"))
    running = gimli.up(TABLE.format(command=json.dumps(witness.command(place))))
    return running, running.wait_for("started")["pid"], place


def remove_directory(gimli, running) -> None:
    """All of it, before the monitor looks: else what it makes again would be in the way."""
    running.send(signal.SIGSTOP)
    shutil.rmtree(gimli.runtime_dir)
    running.send(signal.SIGCONT)


def names_of(gimli) -> set[str]:
    return set(os.listdir(os.path.join(gimli.runtime_dir, "up")))


def test_it_is_made_again_and_everything_goes_on(gimli, held):
    """Commands reach the monitor, a second one is refused, and the next one finds what runs."""
    running, pid, place = held
    before = names_of(gimli)
    remove_directory(gimli, running)
    renewed = running.wait_for("directory-renewed")
    assert {"lock", "control.sock", "bell", "notify", "spool"} <= set(renewed["names"])
    # Page and FIFO are the program's, which holds them without a name.
    assert before - names_of(gimli) <= {"web.page", "web.out"}
    assert gimli.service("web")["pid"] == pid
    refused = gimli.call("up")
    assert refused.returncode == 1
    assert f"pid {running.pid}" in refused.stderr
    running.send(signal.SIGKILL)
    running.wait_for_end()
    again = gimli.up(gimli.read("gimli.toml"))
    assert again.wait_for("adopted")["pid"] == pid
    assert gimli.call("restart", "web").returncode == 0
    assert again.wait_for("exited", pid=pid)["code"] == 0
    again.send(signal.SIGTERM)
    again.wait_for_end()
    assert witness.alarms(place) == []
    log = os.path.join(gimli.state_dir, "logs", "web.log")
    assert witness.account_of(place, [log + ".1", log]) == []
    assert not os.path.exists(os.path.join(gimli.runtime_dir, "up"))


def test_again_and_again(gimli, held):
    """Also where a takeover has come between, and also a directory that was moved away."""
    running, pid, place = held
    for turn in range(3):
        if turn == 1:
            os.rename(os.path.join(gimli.runtime_dir, "up"), os.path.join(gimli.runtime_dir, "away"))
        else:
            remove_directory(gimli, running)
        running.wait_for("directory-renewed")
        assert gimli.service("web")["pid"] == pid
        running.send(signal.SIGHUP)
        running.wait_for("takeover")
    assert len(running.events("directory-renewed")) == 3
    assert witness.alarms(place) == []


def test_the_bell_rings_in_its_new_place(gimli):
    command = json.dumps([sys.executable, "-c", BEATS_ON_ORDER])
    running = gimli.up(TABLE.format(command=command) + 'watchdog = "60s"\n')
    running.wait_for("heartbeat", state="running")
    remove_directory(gimli, running)
    running.wait_for("directory-renewed")
    os.kill(running.pids()[0], signal.SIGUSR1)
    running.wait_for("heartbeat", state="stopping")


@pytest.mark.parametrize("name", ["control.sock", "lock", "bell"])
def test_one_file_is_missed_as_well(gimli, held, name):
    running, pid, _ = held
    path = os.path.join(gimli.runtime_dir, "up", name)
    os.unlink(path)
    assert name in running.wait_for("directory-renewed")["names"]
    assert os.path.lexists(path)
    assert gimli.service("web")["pid"] == pid


def test_what_cannot_be_made_again_is_said_once_and_tried_until_it_can(gimli, held):
    running, pid, _ = held
    running.send(signal.SIGSTOP)
    shutil.rmtree(gimli.runtime_dir)
    gimli.write("run", "a file where the directory was\n")
    running.send(signal.SIGCONT)
    lost = running.wait_for("directory-lost")
    assert "is a file" in lost["why"]
    os.unlink(gimli.runtime_dir)
    running.wait_for("directory-renewed")
    assert len(running.events("directory-lost")) == 1
    assert gimli.service("web")["pid"] == pid


def test_a_monitor_that_was_started_meanwhile_has_the_services_for_itself(gimli, held):
    """The first one was not let run. It must neither end them nor start a second copy, ever."""
    first, pid, place = held
    first.send(signal.SIGSTOP)
    shutil.rmtree(gimli.runtime_dir)
    second = gimli.up(gimli.read("gimli.toml"))
    assert second.wait_for("adopted")["pid"] == pid
    first.send(signal.SIGCONT)
    superseded = first.wait_for("monitor-superseded", pid=first.pid)
    assert str(second.pid) in superseded["what"]
    first.wait_for_end()
    assert gimli.service("web")["pid"] == pid
    assert process.state_of(pid) not in {"", "Z"}
    os.kill(pid, signal.SIGUSR1)
    ended = second.wait_for("exited", pid=pid)
    assert ended["code"] == witness.EXIT_AS_TOLD
    second.wait_for("started")
    assert witness.alarms(place) == []


UNWATCHED = """
import sys
from gimli.lock import InstanceLock
from gimli.loop import Loop
from gimli.monitor.presence import Presence
class Journal:
    def record(self, event, **details): print(event, details["why"])
loop = Loop()
lock = InstanceLock(sys.argv[1], "a monitor", "")
presence = Presence(loop, Journal(), lock, {}, lambda: None, lambda: None)
loop.run_once()
presence._look()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can map itself into a user namespace everywhere")
def test_where_nothing_can_be_watched_that_is_said_once(gimli):
    """This user may have no watch at all: the monitor goes on without."""
    script = 'echo 0 > /proc/sys/user/max_inotify_instances; exec "$@"'
    lock_path = os.path.join(gimli.directory, "lock")
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", *python(UNWATCHED), lock_path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    why = "that somebody removes it will not be noticed: Too many open files"
    assert (done.stdout, done.stderr) == (f"directory-unwatched {why}\n", "")
