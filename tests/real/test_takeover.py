"""Takeover in place on the real kernel: HUP after HUP, broken files and versions, and clients that wait."""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

import gimli as package
from gimli import journal, process
from tests.chaos import witness
from tests.conftest import PATIENCE_S, Running

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

pytestmark = [pytest.mark.real, pytest.mark.slow]

PACKAGE = os.path.dirname(os.path.abspath(package.__file__))
DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
while True:
    signal.pause()
"""
TALKER = """
import signal
signal.signal(signal.SIGUSR1, lambda *_: print("called", flush=True))
print("up", flush=True)
while True:
    signal.pause()
"""


def table(name: str, command: list[str] | tuple[str, ...], *lines: str) -> str:
    """A service in a gimli.toml."""
    return "\n".join([f"[service.{name}]", f"command = {json.dumps(list(command))}", *lines, ""])


def entries(gimli) -> list[dict[str, Any]]:
    """The journal of `gimli up`."""
    return list(journal.read(os.path.join(gimli.state_dir, "journal", "up.jsonl")))


def until(look: Callable[[], object], what: str) -> None:
    """Wait for something that has no event."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < give_up_s, what
        time.sleep(0.005)


def upgrade(gimli, running) -> dict[str, Any]:
    """HUP, and the takeover that follows."""
    running.send(signal.SIGHUP)
    return running.wait_for("takeover")


def test_hups_in_a_storm_leave_one_monitor_one_service_and_all_of_its_output(gimli):
    """200 HUPs at random distances from 0 to 5 ms; `bench/run.py takeovers --full` sends 10,000."""
    place = witness.prepare(os.path.join(gimli.directory, "witness"))
    running = gimli.up(table("web", witness.command(place), 'watchdog_stop = "1s"'))
    pid = running.wait_for("started")["pid"]
    dice = random.Random(7)
    for _ in range(200):
        running.send(signal.SIGHUP)
        time.sleep(dice.uniform(0, 0.005))
    took = running.wait_for("takeover")
    assert took["pid"] == running.pid
    # HUPs that came meanwhile were one wish more, or none; this one is honoured after all of them.
    upgrade(gimli, running)
    assert gimli.service("web")["pid"] == pid
    running.send(signal.SIGTERM)
    running.wait_for("exited", pid=pid, code=0)
    running.wait_for_end()
    assert running.events("started") == [entry for entry in running.seen if entry.get("pid") == pid][:1]
    assert not running.events("takeover-failed")
    assert witness.alarms(place) == []
    log = os.path.join(gimli.state_dir, "logs", "web.log")
    assert witness.account_of(place, [log + ".1", log]) == []


def test_a_foreground_monitor_ends_with_the_programs_status_whatever_came_before(gimli):
    place = witness.prepare(os.path.join(gimli.directory, "witness"))
    running = gimli.run("--restart", "never", command=tuple(witness.command(place)))
    pid = running.wait_for("started")["pid"]
    for _ in range(3):
        upgrade(gimli, running)
    os.kill(pid, signal.SIGUSR1)
    assert running.wait() == witness.EXIT_AS_TOLD
    log = os.path.join(gimli.state_dir, "logs", "app.log")
    assert witness.account_of(place, [log + ".1", log]) == []


def test_term_right_after_hup_ends_the_monitor(gimli, python):
    """At distances that reach from before the helper's start to after the new image's."""
    for distance_s in (0.0, 0.02, 0.1, 0.2, 0.4):
        running = gimli.up(table("web", python("import signal; signal.pause()"), 'watchdog_stop = "1s"'))
        running.wait_for("started")
        running.send(signal.SIGHUP)
        time.sleep(distance_s)
        running.send(signal.SIGTERM)
        running.wait_for("exited")
        running.wait_for("monitor-ended")
        running.wait_for_end()


def test_a_broken_file_leaves_the_old_one_in_force(gimli, python):
    running = gimli.up(table("web", python("import signal; signal.pause()")))
    pid = running.wait_for("started")["pid"]
    gimli.write("gimli.toml", "[service.web]\ncommnad = 1\n")
    running.send(signal.SIGHUP)
    why = running.wait_for("takeover-failed")["why"]
    assert "line 2: service.web.commnad" in why
    assert 'did you mean "command"' in why
    status = gimli.service("web")
    assert (status["pid"], status["state"]) == (pid, "running")
    # And it has not been deafened by that: the mended file is taken.
    gimli.write("gimli.toml", table("web", python("import signal; signal.pause()")))
    upgrade(gimli, running)
    assert gimli.service("web")["pid"] == pid


def test_a_client_that_asks_for_an_upgrade_is_told_why_it_failed(gimli, python):
    running = gimli.up(table("web", python("import signal; signal.pause()")))
    running.wait_for("started")
    gimli.write("gimli.toml", "[service.")
    answer = _call(running.socket_path, "upgrade")
    assert answer["ok"] is False
    assert "line 1" in json.dumps(answer)
    gimli.write("gimli.toml", table("web", python("import signal; signal.pause()")))
    answer = _call(running.socket_path, "upgrade")
    assert (answer["ok"], answer["pid"], answer["takeovers"]) == (True, running.pid, 1)


def _call(socket_path: str, name: str) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(PATIENCE_S)
        peer.connect(socket_path)
        peer.sendall(json.dumps({"schema": 1, "call": name}).encode() + b"\n")
        return dict(json.loads(peer.makefile("rb").readline()))


class Copy:
    """A copy of the package that can be broken, and a monitor of it."""

    def __init__(self, gimli, directory: str, text: str) -> None:
        self._directory = os.path.join(directory, "gimli")
        shutil.copytree(PACKAGE, self._directory, ignore=shutil.ignore_patterns("__pycache__"))
        main = f"import sys; sys.path.insert(0, {directory!r}); from gimli.cli import main; main()"
        gimli.write("gimli.toml", text)
        since_ns = time.monotonic_ns()
        command = [sys.executable, "-P", "-c", main, "up", "--detach"]
        done = subprocess.run(
            command, cwd=gimli.directory, env=gimli.environment, capture_output=True, text=True, check=True
        )
        pid = int(done.stdout.split(" pid ")[1].split()[0])
        self.running = gimli._keep(Running(gimli, "up", None, pid))
        self.running._since_ns = since_ns
        assert self._directory in " ".join(process.command_line(pid))

    def rewrite(self, file: str, change: Callable[[str], str | None]) -> str:
        """Change a file of it, or remove it; what it was."""
        path = os.path.join(self._directory, file)
        with open(path, encoding="utf-8") as source:
            before = source.read()
        after = change(before)
        os.unlink(path)
        if after is not None:
            with open(path, "w", encoding="utf-8") as source:
                source.write(after)
        return before

    def write(self, file: str, text: str) -> None:
        """A file of it."""
        with open(os.path.join(self._directory, file), "w", encoding="utf-8") as source:
            source.write(text)


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("monitor/main.py", "def main(:\n", "SyntaxError"),
        ("monitor/main.py", None, "No module named"),
        ("monitor/verify.py", "raise RuntimeError('half written')\n", "half written"),
        ("monitor/config_file.py", "raise RuntimeError('half copied')\n", "half copied"),
        ("monitor/packing.py", "import os\nos._exit(3)\n", "exit 3"),
    ],
)
def test_a_broken_new_version_leaves_the_old_one_running(gimli, python, tmp_path, file, text, complaint):
    copy = Copy(gimli, str(tmp_path), table("web", python("import signal; signal.pause()")))
    running = copy.running
    pid = running.wait_for("started")["pid"]
    whole = copy.rewrite(file, lambda _: text)
    running.send(signal.SIGHUP)
    assert complaint in running.wait_for("takeover-failed")["why"]
    copy.write(file, whole)
    upgrade(gimli, running)
    gimli.call("down")
    running.wait_for("exited", pid=pid)
    running.wait_for_end()


def test_a_new_version_that_verifies_and_then_falls_adopts_what_it_cannot_take_over(gimli, tmp_path):
    """The last line of defence: after execve there is no way back, and the services are worth more."""
    place = witness.prepare(os.path.join(gimli.directory, "witness"))
    copy = Copy(gimli, str(tmp_path), table("web", witness.command(place), 'restart = "never"'))
    running = copy.running
    pid = running.wait_for("started")["pid"]
    line = "def _restore(self, packed: dict[str, Any]) -> None:\n"
    copy.rewrite("monitor/supervision.py", lambda text: text.replace(line, f"{line}        1 / 0\n"))
    running.send(signal.SIGHUP)
    assert running.wait_for("adopted")["pid"] == pid
    assert gimli.service("web")["state"] == "running"
    # What the fallen one held has not been closed a second time under the feet of its successor.
    gimli.call("signal", "web", "USR1")
    assert running.wait_for("exited", pid=pid)["code"] == witness.EXIT_AS_TOLD
    running.send(signal.SIGTERM)
    running.wait_for_end()
    told = [entry for entry in entries(gimli) if entry["event"] == "internal-error"]
    assert ["ZeroDivisionError" in entry["traceback"] for entry in told] == [True]
    assert witness.alarms(place) == []
    log = os.path.join(gimli.state_dir, "logs", "web.log")
    assert witness.account_of(place, [log + ".1", log]) == []
    os.unlink(os.path.join(gimli.state_dir, "journal", "up.jsonl"))  # the fixture takes it for a bug


def test_what_has_changed_in_the_file_takes_effect_and_the_rest_is_not_touched(gimli, python):
    sleeper = python("import signal; signal.pause()")
    running = gimli.up(table("stays", sleeper) + table("goes", sleeper) + table("changes", sleeper))
    pids = {running.wait_for("started")["service"]: 0 for _ in range(3)}
    pids = {name: gimli.service(name)["pid"] for name in pids}
    other = python("import signal; signal.pause() # another command")
    gimli.write("gimli.toml", table("stays", sleeper) + table("changes", other) + table("comes", sleeper))
    running.send(signal.SIGHUP)
    running.wait_for("takeover")
    running.wait_for("exited", service="goes", pid=pids["goes"])
    running.wait_for("started", service="comes") if not any(
        entry["service"] == "comes" and entry["event"] == "started" for entry in running.seen
    ) else None
    status = {item["name"]: item for item in json.loads(gimli.call("ps", "--json").stdout)["services"]}
    assert set(status) == {"stays", "changes", "comes"}
    assert status["stays"]["pid"] == pids["stays"]
    # A running instance keeps what it was started with: a restart brings the new command.
    assert status["changes"]["pid"] == pids["changes"]
    gimli.call("restart", "changes")
    assert process.command_line(gimli.service("changes")["pid"]) == list(other)
    assert not os.path.exists(os.path.join(gimli.runtime_dir, "up", "goes.run"))


def test_a_service_in_backoff_keeps_its_deadline_and_its_count(gimli, python):
    running = gimli.up(table("web", python("raise SystemExit(3)"), 'backoff = "2s"'))
    before = running.wait_for("backoff", failures=2)
    upgrade(gimli, running)
    assert gimli.service("web")["state"] == "backoff"
    started = running.wait_for("started")
    waited_s = (started["monotonic_ns"] - before["monotonic_ns"]) / 1e9
    assert 1.9 < waited_s < 6
    assert started["restarts"] == 2
    assert running.wait_for("backoff")["failures"] == 3


def test_a_service_that_ignores_term_is_killed_on_time_by_the_next_image(gimli, python):
    running = gimli.up(table("web", python(DEAF), 'watchdog_stop = "2s"'))
    pid = running.wait_for("started")["pid"]
    until(lambda: "up" in gimli.call("logs", "web").stdout, "it does not get up")
    waiting = gimli.popen("stop", "web", stdout=subprocess.PIPE)
    sent = running.wait_for("sent", signal="SIGTERM")
    upgrade(gimli, running)
    assert gimli.service("web")["state"] == "stopping"
    ended = running.wait_for("exited", pid=pid, status="SIGKILL")
    assert 1.9 < (ended["monotonic_ns"] - sent["monotonic_ns"]) / 1e9 < 6
    assert waiting.communicate(timeout=PATIENCE_S)[0] == "web is down\n"
    assert waiting.returncode == 0


def test_a_takeover_during_a_capture_keeps_the_capture(gimli, python):
    """Snapshot after snapshot while HUPs come: each report is made, and the program goes on after each."""
    running = gimli.up(table("web", python("import signal; signal.pause()")))
    pid = running.wait_for("started")["pid"]
    for n in range(4):
        asked = gimli.popen("snapshot", "web", stdout=subprocess.PIPE)
        running.wait_for("snapshot")
        time.sleep(0.02 * n)
        running.send(signal.SIGHUP)
        told, _ = asked.communicate(timeout=PATIENCE_S)
        assert asked.returncode == 0, told
        if n == 0:
            running.wait_for("takeover")
    upgrade(gimli, running)
    status = gimli.service("web")
    assert (status["pid"], status["state"]) == (pid, "running")
    told = [entry["event"] for entry in entries(gimli)]
    assert told.count("report") == 4
    assert "snapshot-failed" not in told


class Lines:
    """Lines of a command, without a buffer that select does not see."""

    def __init__(self, command: subprocess.Popen[str]) -> None:
        assert command.stdout is not None
        self._fd = command.stdout.fileno()
        self._rest = b""

    def wait_for(self, is_it: Callable[[str], bool]) -> str:
        """The next line that is it; others are passed over."""
        while True:
            line, newline, rest = self._rest.partition(b"\n")
            if not newline:
                assert select.select([self._fd], [], [], PATIENCE_S)[0], "it says nothing"
                data = os.read(self._fd, 65_536)
                assert data, "it has ended"
                self._rest += data
                continue
            self._rest = rest
            if is_it(line.decode()):
                return line.decode()


def test_followers_hear_what_comes_after_the_takeover(gimli, python):
    running = gimli.up(table("web", python(TALKER)))
    running.wait_for("started")
    logs = gimli.popen("logs", "web", "-f", stdout=subprocess.PIPE)
    until(lambda: "up" in gimli.call("logs", "web").stdout, "it does not get up")
    output = Lines(logs)
    output.wait_for(lambda line: line == "up")
    told = gimli.popen("events", "-f", "--json", stdout=subprocess.PIPE)
    events = Lines(told)
    events.wait_for(lambda line: json.loads(line)["event"] == "started")
    upgrade(gimli, running)
    gimli.call("signal", "web", "USR1")
    output.wait_for(lambda line: line == "called")
    sent = events.wait_for(lambda line: json.loads(line)["event"] == "sent")
    assert json.loads(sent)["signal"] == "SIGUSR1"
    gimli.call("down")
    assert logs.wait(PATIENCE_S) == 0
    assert told.wait(PATIENCE_S) == 0


def test_descriptors_do_not_grow_from_takeover_to_takeover(gimli, python):
    running = gimli.up(table("web", python("import signal; signal.pause()")))
    running.wait_for("started")

    def descriptors() -> list[str]:
        return sorted(os.readlink(f"/proc/{running.pid}/fd/{fd}") for fd in _fds(running.pid))

    upgrade(gimli, running)
    until(lambda: "anon_inode:inotify" in descriptors(), "it never begins to watch over its directory")
    first = len(descriptors())
    for _ in range(3):
        upgrade(gimli, running)
    until(lambda: len(descriptors()) == first, f"{first} descriptors became {descriptors()}")
    with open(f"/proc/{running.pid}/task/{running.pid}/children", encoding="ascii") as file:
        assert file.read().split() == [str(gimli.service("web")["pid"])]


def _fds(pid: int) -> list[str]:
    return os.listdir(f"/proc/{pid}/fd")
