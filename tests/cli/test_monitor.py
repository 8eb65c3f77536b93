"""``gimli monitor``, for real: the options of the original's monitor do here what they did there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from tests.conftest import Running, reachable_by_all

pytestmark = pytest.mark.real
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs programs as others")
NOBODY = 65534
SLEEP = "import signal; print('up', flush=True); signal.pause()"


@pytest.fixture(scope="module")
def original_client():
    """In a directory that any user may enter, which pytest's own is not."""
    source = os.path.join(os.path.dirname(__file__), os.pardir, "programs", "original_client.c")
    compiler = shutil.which("gcc") or pytest.skip("needs gcc")
    with tempfile.TemporaryDirectory(prefix="gimli-original-") as directory:
        os.chmod(directory, 0o711)
        path = os.path.join(directory, "client")
        subprocess.run([compiler, "-g", "-o", path, source], check=True)
        yield path


@pytest.fixture
def open_gimli(gimli):
    """A gimli whose directories, and whose library, programs of other users may reach."""
    return reachable_by_all(gimli)


def monitor(gimli, *arguments: str, name: str = "app"):
    """One in the foreground."""
    return gimli.follow(f"run.{name}", gimli.popen("monitor", "--detach=0", f"--name={name}", *arguments))


def detached(gimli, *arguments: str, **options):
    """One in the background, followed by the pid in its pidfile."""
    since_ns = time.monotonic_ns()
    done = gimli.call("monitor", "--pidfile=app.pid", "--quiet=1", "--name=app", *arguments, **options)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    running = Running(gimli, "run.app", None, int(gimli.read("app.pid")))
    running._since_ns = since_ns
    return gimli._keep(running)


def test_in_the_foreground_the_exit_status_is_the_programs(gimli):
    assert gimli.call("monitor", "--detach=0", "sh", "-c", "exit 3").returncode == 3
    assert gimli.call("monitor", "-detach=0", "--run-once=1", "sh", "-c", "kill -SEGV $$").returncode == 139


def test_output_goes_where_the_monitors_goes(gimli):
    done = gimli.call("monitor", "--detach=0", "sh", "-c", "echo out; cat", input="in\n")
    assert done.stdout == "out\nin\n"


def test_help_names_every_option(gimli):
    done = gimli.call("monitor", "--help")
    assert done.returncode == 0
    for name in ("--watchdog-interval", "--pidfile", "--immortal", "--trace-interval", "default: 200"):
        assert name in done.stdout


def test_a_wrong_call_is_status_2_and_names_every_error(gimli):
    done = gimli.call("monitor", "--detach=0", "--imortal=1", "--uid=www", "true")
    assert done.returncode == 2
    assert "did you mean immortal?" in done.stderr
    assert "'www'" in done.stderr


def test_file_environment_and_command_line_reach_the_program(gimli):
    gimli.write("monitor.conf", "# the sample\ndetach = 0\narg0 = from-the-file\n")
    # Not python3 by PATH: where that is a script, the interpreter gets another name.
    script = (sys.executable, "-c", "import os; print(open('/proc/self/cmdline').read().split(chr(0))[0])")
    gimli.environment["GIMLI_CONFIG_FILE"] = "monitor.conf"
    assert gimli.call("monitor", *script).stdout == "from-the-file\n"
    gimli.environment["GIMLI_ARG0"] = "from-the-environment"
    assert gimli.call("monitor", *script).stdout == "from-the-environment\n"
    assert gimli.call("monitor", "--arg0", "from-the-line", *script).stdout == "from-the-line\n"


def test_a_configuration_file_that_is_not_there_is_told(gimli):
    done = gimli.call("monitor", "--config-file=none.conf", "true")
    assert done.returncode == 2
    assert "cannot read the configuration file 'none.conf'" in done.stderr


def test_what_has_no_effect_is_said(gimli):
    done = gimli.call("monitor", "--detach=0", "--trace-dir=/tmp", "--debug=1", "true")
    assert "no effect here: debug, trace-dir" in done.stderr


# In the background.


def test_detached_it_leads_a_session_in_the_root_directory_and_its_pidfile_names_it(gimli, python):
    running = detached(gimli, *python(SLEEP))
    running.wait_for("started")
    pid = running.pids()[0]
    assert os.getsid(running.pid) == running.pid
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == os.readlink(f"/proc/{running.pid}/cwd") == "/"
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    running.send(signal.SIGTERM)
    running.wait_for_end()
    assert not os.path.exists(os.path.join(gimli.directory, "app.pid"))


def test_detached_a_relative_program_and_its_files_are_found(gimli):
    path = gimli.write("program", "#!/bin/sh\necho $0\nexec sleep 1h\n")
    os.chmod(path, 0o755)
    running = detached(gimli, "--log-file=app.log", "./program")
    running.wait_for("started")
    reader = gimli.popen("logs", "app", "-f", stdout=subprocess.PIPE)
    assert gimli.read_line(reader) == f"{path}\n"
    running.send(signal.SIGTERM)
    running.wait_for_end()
    assert gimli.read("app.log") == f"{path}\n"


def test_without_quiet_a_detached_program_still_writes_to_the_terminal(gimli):
    process = gimli.popen(
        "monitor", "--setsid=0", "sh", "-c", "echo $GIMLI_MONITOR_PID; exit 3", stdout=subprocess.PIPE
    )
    assert int(gimli.read_line(process)) != process.pid
    assert process.wait(20) == 0


def test_without_setsid_the_program_stays_in_the_session(gimli, python):
    running = monitor(gimli, "--setsid=0", *python(SLEEP))
    running.wait_for("started")
    assert os.getsid(running.pids()[0]) == os.getsid(0)
    running.send(signal.SIGTERM)
    assert running.wait() == 143


# The pidfile.


def test_a_second_monitor_for_a_pidfile_is_refused_and_the_first_goes_on(gimli, python):
    first = detached(gimli, *python(SLEEP))
    for detach in ("0", "1"):
        done = gimli.call("monitor", f"--detach={detach}", "--pidfile=app.pid", "--name=b", *python(SLEEP))
        assert done.returncode == 1
        assert f"the pidfile {gimli.directory}/app.pid is held by process {first.pid}" in done.stderr
    assert gimli.read("app.pid") == str(first.pid)
    assert gimli.service()["state"] == "running"


def test_a_pidfile_whose_monitor_was_killed_is_free_again(gimli, python):
    first = detached(gimli, *python(SLEEP))
    first.wait_for("started")
    first.send(signal.SIGKILL)
    first.wait_for_end()
    assert gimli.read("app.pid") == str(first.pid)
    second = gimli.call("monitor", "--detach=0", "--pidfile=app.pid", "--name=b", "cat", "app.pid")
    assert second.returncode == 0
    assert int(second.stdout) != first.pid


# Which ends start it again.


def test_an_immortal_program_is_started_after_every_end(gimli):
    running = monitor(gimli, "--immortal=1", "--respawn-frequency=0", "sh", "-c", "exit 0")
    running.wait_for("exited", status="exit 0")
    running.wait_for("started", restarts=1)
    running.wait_for("backoff")
    running.wait_for("started", restarts=2)


def test_respawn_frequency_brakes_from_the_second_failure_on(gimli):
    running = monitor(gimli, "--respawn-frequency=7", "sh", "-c", "kill -KILL $$")
    running.wait_for("started", restarts=1)
    assert running.wait_for("backoff")["delay_s"] == 7.0


# Its user.


@as_root
def test_the_program_gets_the_user_and_the_monitor_stays_root(open_gimli):
    script = "id -u; id -g; id -G; echo $HOME; stat -c %u /proc/$PPID; echo again >/dev/stdout"
    done = open_gimli.call("monitor", "--detach=0", f"--uid={NOBODY}", "--gid=12", "sh", "-c", script)
    assert done.stdout.split("\n")[:6] == [f"{NOBODY}", "12", "12", "/nonexistent", "0", "again"]


@as_root
@pytest.mark.parametrize("command", ["monitor", "run"])
def test_a_crash_of_the_original_library_as_another_user_is_captured(open_gimli, original_client, command):
    """Under run its USR2 is refused by the kernel; that it has stopped in its handler says enough."""
    if command == "monitor":
        running = monitor(open_gimli, "--run-once=1", f"--uid={NOBODY}", original_client, "crash")
    else:
        options = ("--restart", "never", "--user", "nobody")
        running = open_gimli.run(*options, command=(original_client, "crash"))
    running.wait_for("released")
    running.wait_for("exited", status="SIGSEGV")
    assert running.wait() == 139
    assert running.events("report")


@as_root
def test_beats_by_usr1_of_another_user_arrive(open_gimli, original_client):
    intervals = ("--watchdog-interval=1", "--watchdog-stop-interval=1")
    running = monitor(open_gimli, f"--uid={NOBODY}", *intervals, original_client, "signal")
    running.wait_for("heartbeat", state="running")
    os.kill(running.pids()[0], signal.SIGSTOP)
    running.wait_for("hang")


@as_root
def test_a_program_of_another_user_that_is_stopped_by_hand_is_left_alone(open_gimli, original_client):
    """Only a stop within the handler of a fault asks for a snapshot."""
    options = ("--user=nobody", "--watchdog=500ms", "--watchdog-stop=100ms", "--restart=never")
    running = open_gimli.run(*options, command=(original_client, "run"))
    running.wait_for("heartbeat", state="running")
    os.kill(running.pids()[0], signal.SIGSTOP)
    running.wait_for("hang")
    running.wait()
    assert not running.events("crash")


def test_a_script_beats_from_a_shell_of_its_own(gimli):
    script = "while kill -USR1 $GIMLI_MONITOR_PID; do sleep 0.05; done & wait"
    running = monitor(gimli, "sh", "-c", script)
    running.wait_for("heartbeat", state="running")


def test_a_program_of_the_original_library_that_hangs(gimli, original_client):
    running = monitor(gimli, "--watchdog-interval=1", "--run-once", "--immortal=0", original_client, "hang")
    running.wait_for("hang")
    running.wait_for("sent", signal="SIGABRT")
    assert running.wait() == 134
