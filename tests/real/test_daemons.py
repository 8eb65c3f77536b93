"""Daemons as Debian ships them: ready, stopped cleanly; hung, noticed, captured and started again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket

import pytest

pytestmark = [pytest.mark.real, pytest.mark.slow]

HUNG_SOON = ("--watchdog", "2s", "--watchdog-stop", "0.3s", "--backoff", "60s")


def program(name: str) -> str:
    """The path of a daemon; the test is left out where it is not installed."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed (see PACKAGES in the Makefile)")
    return path


@pytest.fixture
def port() -> int:
    """A free port of the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def living(session: int) -> set[int]:
    """The processes of a session, without those that only wait to be collected."""
    found = set()
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.add(int(name))
    return found


def ends_cleanly(running) -> None:
    """TERM to the monitor: no process of the last instance is left, and nobody had to be killed."""
    session = running.pids()[-1]
    assert living(session)
    running.send(signal.SIGTERM)
    running.wait()
    assert not living(session)
    assert [sent["signal"] for sent in running.events("sent")][-1] == "SIGTERM"


def is_restarted_after_a_hang(running) -> None:
    """Snapshot first, then a new instance."""
    hang = running.wait_for("hang")
    report = running.wait_for("snapshot", reason="hang")["report"]
    running.wait_for("released", report=report)
    running.wait_for("started", restarts=1)
    running.wait_for("ready")
    assert hang["allowed_s"] == 2.0


def tor(gimli) -> tuple[str, ...]:
    data = os.path.join(gimli.directory, "tor")
    return (
        program("tor"), "-f", os.path.join(gimli.directory, "torrc"), "--ignore-missing-torrc", "--quiet",
        "--RunAsDaemon", "0", "--DisableNetwork", "1", "--SocksPort", "0", "--DataDirectory", data,
    )  # fmt: skip


def test_tor_beats_by_sd_notify_and_is_missed_when_it_is_stopped(gimli):
    """It beats once a second when it is told to by WATCHDOG_USEC and by its own pid in WATCHDOG_PID."""
    running = gimli.run("--ready", "notify", *HUNG_SOON, command=tor(gimli))
    running.wait_for("ready", by="notify")
    running.wait_for("heartbeat", state="running")
    os.kill(running.pids()[0], signal.SIGSTOP)
    is_restarted_after_a_hang(running)
    ends_cleanly(running)


def test_redis_says_ready_and_what_it_does(gimli, port):
    """It never beats, and is not missed for that."""
    command = (
        program("redis-server"), "--supervised", "systemd", "--daemonize", "no", "--port", str(port),
        "--bind", "127.0.0.1", "--save", "", "--dir", gimli.directory,
    )  # fmt: skip
    running = gimli.run("--ready", "notify", "--watchdog", "0.1s", command=command)
    running.wait_for("ready", by="notify")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.sendall(b"PING\r\n")
        assert peer.recv(100) == b"+PONG\r\n"
    assert "Ready to accept connections" in gimli.service()["note"]
    ends_cleanly(running)
    assert not running.events("hang")


def test_redis_that_is_frozen_is_missed_by_a_command(gimli, port):
    """Its own client asks it, as an operator would."""
    client = program("redis-cli")
    running = gimli.up(
        f"""
        [service.app]
        command = ["{program("redis-server")}", "--port", "{port}", "--bind", "127.0.0.1", "--save", ""]
        cwd = "{gimli.directory}"
        ready = "tcp:{port}"
        probe = ["{client}", "-p", "{port}", "ping"]
        probe_interval = "0.3s"
        probe_timeout = "0.5s"
        watchdog = "2s"
        watchdog_stop = "300ms"
        backoff = "60s"
        """
    )
    running.wait_for("ready", by="probe")
    running.wait_for("heartbeat", state="running")
    os.kill(running.pids()[0], signal.SIGSTOP)
    assert "no answer within" in running.wait_for("probe-failed")["why"]
    is_restarted_after_a_hang(running)


def test_haproxy_reloads_in_place(gimli, port):
    """Its master executes itself anew: RELOADING, then READY and MAINPID, from the same pid."""
    configuration = gimli.write(
        "haproxy.cfg",
        f"""
defaults
    mode http
    timeout client 1s
    timeout server 1s
    timeout connect 1s
frontend all
    bind 127.0.0.1:{port}
    http-request return status 200
""",
    )
    options = ("--ready", "notify", "--probe", f"http://127.0.0.1:{port}/", "--watchdog", "2s")
    running = gimli.run(*options, command=(program("haproxy"), "-Ws", "-f", configuration))
    running.wait_for("ready", by="notify")
    running.wait_for("heartbeat", state="running")
    pid = running.pids()[0]
    os.kill(pid, signal.SIGUSR2)
    running.wait_for("reloading")
    running.wait_for("ready", by="notify")
    assert gimli.service()["pid"] == pid
    running.wait_for("heartbeat", state="running")
    ends_cleanly(running)
    assert not running.events("notify-refused")


def test_nginx_is_asked_for_a_page_and_missed_when_it_is_frozen(gimli, port):
    """It knows of no supervisor. Its master and its workers stand still: the port is open, nobody answers."""
    configuration = gimli.write(
        "nginx.conf",
        f"""
pid {gimli.directory}/nginx.pid;
error_log stderr;
worker_processes 2;
events {{}}
http {{ access_log off; server {{ listen 127.0.0.1:{port}; location / {{ return 204; }} }} }}
""",
    )
    command = (program("nginx"), "-c", configuration, "-p", gimli.directory, "-g", "daemon off;")
    probe = ("--probe", f"http://127.0.0.1:{port}/", "--probe-interval", "0.3s", "--probe-timeout", "0.5s")
    running = gimli.run(*probe, *HUNG_SOON, command=command)
    running.wait_for("ready", by="probe")
    running.wait_for("heartbeat", state="running")
    os.killpg(running.pids()[0], signal.SIGSTOP)
    is_restarted_after_a_hang(running)
    ends_cleanly(running)
