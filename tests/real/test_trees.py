"""Process trees: what a service forks ends with it, wherever it hides; and the monitor as pid 1."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from gimli import process
from tests.conftest import COMMAND, PATIENCE_S, WITHOUT_CGROUPS

pytestmark = [pytest.mark.real, pytest.mark.slow]

FORKS = """
import os, signal, sys, time
def leave(how):
    pid = os.fork()
    if pid == 0:
        how()
        signal.signal(signal.SIGTERM, {on_term})
        open(sys.argv[1], "a").write("%d\\n" % os.getpid())
        while True: signal.pause()
leave(lambda: None)
leave(os.setsid)
def twice():
    os.setsid()
    if os.fork(): os._exit(0)
leave(twice)
while len(open(sys.argv[1]).readlines()) < 3: time.sleep(0.001)
print("forked", flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
while True: signal.pause()
"""


def start(gimli, kind: str, on_term: str, *options: str):
    """A service of four processes, one of them in a session of its own, one forked twice; their pids."""
    gimli.write("pids", "")
    pids_path = os.path.join(gimli.directory, "pids")
    program = (sys.executable, "-c", FORKS.format(on_term=on_term), pids_path)
    prefix = WITHOUT_CGROUPS if kind == "sessions" else ()
    arguments = [*COMMAND, "run", "--name", "app", "--log", "app.log", *options, "--", *program]
    process_ = subprocess.Popen(
        [*prefix, *arguments], cwd=gimli.directory, env=gimli.environment, stdin=subprocess.DEVNULL
    )
    gimli._processes.append(process_)
    running = gimli.follow("run.app", process_)
    running.wait_for("started")
    reader = gimli.popen("logs", "app", "-f", stdout=subprocess.PIPE)
    assert gimli.read_line(reader) == "forked\n"
    return running, [int(line) for line in gimli.read("pids").split()]


def is_living(pid: int) -> bool:
    return process.state_of(pid) not in {"", "Z", "X"}


@pytest.fixture(params=["cgroups", "sessions"])
def kind(request):
    if os.geteuid() != 0:
        pytest.skip("a mount namespace and a control group need root")
    return request.param


def test_a_stop_leaves_nobody(gimli, kind):
    running, workers = start(gimli, kind, "signal.SIG_DFL")
    running.send(signal.SIGTERM)
    assert running.wait() == 3
    assert not any(map(is_living, workers))
    assert len(running.events("leftovers")[0]["pids"]) == 3


def test_workers_that_ignore_term_are_killed_after_the_stop_interval(gimli, kind):
    running, workers = start(gimli, kind, "signal.SIG_IGN", "--watchdog-stop", "0.2s")
    running.send(signal.SIGTERM)
    assert running.wait() == 3
    assert not any(map(is_living, workers))
    assert [entry["signal"] for entry in running.events("sent")] == ["SIGTERM", "SIGKILL"]


def test_a_new_instance_never_meets_the_workers_of_the_old(gimli, kind):
    """They hold its port, and its lock."""
    running, workers = start(gimli, kind, "signal.SIG_IGN")
    os.kill(running.pids()[0], signal.SIGKILL)
    running.wait_for("leftovers", signal="SIGKILL")
    started = running.wait_for("started", restarts=1)
    assert not any(map(is_living, workers))
    # Nor does it die of their KILL: Linux 6.18 ends whoever is born into a control group that was killed.
    reader = gimli.popen("logs", "app", "-f", "-n", "1", stdout=subprocess.PIPE)
    assert gimli.read_line(reader) == "forked\n"
    assert is_living(started["pid"])


def test_what_a_dead_monitors_instance_left_is_killed_before_the_next_starts(gimli, kind):
    """The monitor is killed, then the main process: nobody saw the end."""
    running, workers = start(gimli, kind, "signal.SIG_IGN")
    running.send(signal.SIGKILL)
    running.process.wait(PATIENCE_S)
    os.kill(running.pids()[0], signal.SIGKILL)
    again = gimli.run("--log", "app.log", command=("sleep", "1000"))
    again.wait_for("leftovers")
    again.wait_for("started")
    assert not any(map(is_living, workers))


def test_a_shells_program_has_its_time_to_stop(gimli):
    """TERM ends the shell at once; what it has started gets TERM too, and the stop interval."""
    script = "trap 'sleep 0.3; echo stopped in order; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    shell = ("sh", "-c", f'sh -c "{script}"; true')
    running = gimli.run("--log", "app.log", command=shell)
    running.wait_for("started")
    reader = gimli.popen("logs", "app", "-f", stdout=subprocess.PIPE)
    assert gimli.read_line(reader) == "up\n"
    running.send(signal.SIGTERM)
    running.wait()
    assert "stopped in order" in gimli.read("app.log")


def test_orphans_that_end_are_reaped(gimli):
    """The monitor is their parent now: it must not collect zombies."""
    script = "i=0; while [ $i -lt 20 ]; do (true &) ; i=$((i+1)); done; echo done; exec sleep 1000"
    running = gimli.run("--log", "app.log", command=("sh", "-c", script))
    running.wait_for("started")
    reader = gimli.popen("logs", "app", "-f", stdout=subprocess.PIPE)
    assert gimli.read_line(reader) == "done\n"
    running.send(signal.SIGHUP)  # a takeover between: the next image is their parent too
    running.wait_for("takeover")
    others = set(process.children_of(running.pid)) - set(running.pids())
    assert not [pid for pid in others if process.command_name(pid) in {"sh", "true"}]


@pytest.mark.skipif(os.geteuid() != 0, reason="a pid namespace needs root")
def test_as_pid_1_it_reaps_strangers_forwards_signals_and_exits_with_the_programs_status(gimli):
    script = (
        "trap 'echo got usr1' USR1; trap 'exit 7' TERM; (sleep 0.05 &) ; echo up;"
        " while :; do sleep 0.01; done"
    )
    command = [*COMMAND, "run", "--name", "app", "--", "sh", "-c", script]
    namespace = ["unshare", "--propagation", "unchanged", "--pid", "--fork", "--mount-proc", "--kill-child"]
    inside = subprocess.Popen(
        [*namespace, *command],
        cwd=gimli.directory, env=gimli.environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    gimli._processes.append(inside)
    assert gimli.read_line(inside) == "up\n"
    (monitor,) = process.children_of(inside.pid)
    os.kill(monitor, signal.SIGUSR1)
    assert gimli.read_line(inside) == "got usr1\n"
    os.kill(monitor, signal.SIGHUP)
    os.kill(monitor, signal.SIGUSR1)
    assert gimli.read_line(inside) == "got usr1\n"
    os.kill(monitor, signal.SIGTERM)
    assert inside.wait(PATIENCE_S) == 7


FORKS_LATE = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pids = open(sys.argv[1], "a")
main = os.getpid()
watched = os.pidfd_open(main)
if os.fork() == 0:
    import select
    select.select([watched], [], [])  # until the main process has ended
    signal.sigtimedwait([signal.SIGUSR1], 0.1)  # and has been followed by TERM
    os.fork()
    pids.write("%d\\n" % os.getpid())
    pids.flush()
    while True: signal.pause()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
print("forked", flush=True)
while True: signal.pause()
"""


def test_what_is_forked_during_the_stop_interval_is_killed_as_well(gimli, kind):
    """It is found when its parent has been killed: no TERM, which it ignores, must be all that it gets."""
    pids_path = gimli.write("pids", "")
    program = (sys.executable, "-c", FORKS_LATE, pids_path)
    prefix = WITHOUT_CGROUPS if kind == "sessions" else ()
    options = ("--name", "app", "--log", "app.log", "--watchdog-stop", "0.5s")
    process_ = subprocess.Popen(
        [*prefix, *COMMAND, "run", *options, "--", *program],
        cwd=gimli.directory, env=gimli.environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    gimli._processes.append(process_)
    running = gimli.follow("run.app", process_)
    running.wait_for("started")
    reader = gimli.popen("logs", "app", "-f", stdout=subprocess.PIPE)
    assert gimli.read_line(reader) == "forked\n"
    running.send(signal.SIGTERM)
    assert running.wait() == 3
    pids = [int(line) for line in gimli.read("pids").split()]
    assert len(pids) == 2
    assert not any(map(is_living, pids))
    assert running.events("leftovers-remain") == []
