"""User, umask, limits, signals and files of variables, as a program finds them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile

import pytest

from gimli.cli.reach import shut_out_at
from gimli.monitor.config import Identity
from tests.conftest import reachable_by_all

pytestmark = pytest.mark.real
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs programs as others")
# Programs of the system: root's own Python may be where others may not go.
REPORT = """
echo uid $(id -u) gid $(id -g) groups $(id -G | tr ' ' '\\n' | sort -n)
echo umask $(umask) home $HOME A $A B $B
echo nofile $(ulimit -Sn) $(ulimit -Hn) core $(ulimit -c) as $(ulimit -v)
"""
STOPPED_BY_INT = """
import signal, sys
signal.signal(signal.SIGINT, lambda *_: sys.exit(5))
print("up", flush=True)
signal.pause()
"""
CRASH = ("sh", "-c", "id -u; kill -SEGV $$")


@pytest.fixture
def open_gimli(gimli):
    """A gimli whose directories, and whose library, programs of other users may reach."""
    return reachable_by_all(gimli)


@as_root
def test_a_program_gets_what_the_options_say(open_gimli):
    open_gimli.write("web.env", "A=file\nB=file\n")
    options = ("--user=nobody", "--group=12", "--umask=027", "--limit=nofile=100:200", "--limit=memory=1GB")
    more = ("--limit=core=unlimited", "--env-file=web.env", "--env=B=option")
    done = open_gimli.call("run", *options, *more, "--", "sh", "-c", REPORT)
    assert done.stdout.split("\n")[:3] == [
        "uid 65534 gid 12 groups 12",
        "umask 0027 home /nonexistent A file B option",
        "nofile 100 200 core unlimited as 976562",  # in units of 1024 bytes
    ]


def test_without_options_nothing_is_changed(gimli):
    direct = subprocess.run(["sh", "-c", REPORT], capture_output=True, text=True, check=True)
    assert gimli.call("run", "--", "sh", "-c", REPORT).stdout == direct.stdout


@as_root
def test_a_crash_of_another_users_program_is_captured(open_gimli):
    running = open_gimli.run("--restart", "never", "--user", "nobody", command=CRASH)
    running.wait_for("crash")
    assert running.wait_for("released")["pause_ms"] < 1000
    assert running.wait() == 139
    report = json.loads(open_gimli.call("show", "latest", "--json").stdout)
    assert report["signal"]["name"] == "SIGSEGV"
    assert report["output"][0] == "65534"


@as_root
def test_a_program_that_its_user_may_not_execute_is_named(open_gimli):
    open_gimli.write("program", "#!/bin/sh\n")
    os.chmod(os.path.join(open_gimli.directory, "program"), 0o700)
    done = open_gimli.call("run", "--restart", "never", "--user", "nobody", "--", "./program")
    assert done.returncode == 127
    assert "./program: Permission denied" in done.stderr


def test_a_limit_that_the_kernel_refuses_is_named(gimli):
    """Beyond fs.nr_open, which binds root too."""
    done = gimli.call("run", "--restart=never", "--limit=nofile=4000000000", "--", "true")
    expected = "limit nofile: Operation not permitted" if os.geteuid() == 0 else "only root may raise"
    assert expected in done.stderr


@pytest.mark.parametrize(
    "option",
    ["--user=no-such-user", "--umask=9", "--limit=nofile", "--stop-signal=KILL", "--env-file=/none"],
)
def test_a_wrong_attribute_is_status_2(gimli, option):
    done = gimli.call("run", option, "--", "true")
    assert done.returncode == 2
    assert not os.path.exists(gimli.runtime_dir)


def test_a_program_is_stopped_by_the_signal_it_wants(gimli, python):
    options = ("--name", "app", "--stop-signal", "INT", "--kill-after", "1h")
    process = gimli.popen("run", *options, "--", *python(STOPPED_BY_INT), stdout=subprocess.PIPE)
    running = gimli.follow("run.app", process)
    assert gimli.read_line(process) == "up\n"
    running.send(signal.SIGTERM)
    assert running.wait_for("sent")["signal"] == "SIGINT"
    assert running.wait() == 5


@as_root
def test_a_service_of_a_file_runs_as_its_user(open_gimli):
    words = json.dumps(CRASH)
    running = open_gimli.up(f'[service.web]\ncommand = {words}\nuser = "nobody"\nrestart = "never"\n')
    running.wait_for("crash", service="web")
    running.wait_for("exited", service="web", status="SIGSEGV")
    running.wait_for("report", service="web")


@as_root
def test_a_user_that_cannot_reach_the_bell_is_told_so(gimli):
    done = gimli.call("run", "--user=nobody", "--", "true")
    assert done.returncode == 0
    assert f"user nobody may not enter {gimli.directory}" in done.stderr


def test_who_may_pass_a_directory():
    """By the bits that count for the user: the owner's, else the group's, else the others'."""
    mine = os.getuid() or 12345
    owner = Identity("owner", mine, 99, (99,))
    group = Identity("group", 54321, 99, (99, 1, os.getgid()))
    other = Identity("other", 54321, 99, (99,))
    with tempfile.TemporaryDirectory() as directory:
        if os.getuid() == 0:
            os.chown(directory, mine, os.getgid())
        path = os.path.join(directory, "not-there-yet")
        for mode, shut_out in (
            (0o700, {"group", "other"}),
            (0o710, {"other"}),
            (0o701, {"group"}),
            (0o111, set()),
            (0o011, {"owner"}),
        ):
            os.chmod(directory, mode)
            found = {who.user for who in (owner, group, other) if shut_out_at(path, who) == directory}
            assert found == shut_out, oct(mode)
        os.chmod(directory, 0o700)
