"""The other ways to say ready and alive, by programs that use them: sd_notify, a newline, probes, time."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket

import pytest

pytestmark = [pytest.mark.real, pytest.mark.slow]

SAY = """
import json, os, signal, socket, sys, time
def say(text, *fds):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
        way.connect(os.environ["NOTIFY_SOCKET"])
        socket.send_fds(way, [text.encode()], fds)
def fork(child):
    pid = os.fork()
    if pid == 0:
        child()
        os._exit(0)
    return pid
"""
PAUSE = "\nsignal.pause()"
RUN_ONCE = ("--restart", "never")
QUICKLY = ("--watchdog-stop", "0.2s", "--backoff", "60s")
"""Ended soon when it hangs, and started once more only."""


@pytest.fixture
def notifier(python):
    def make(source: str) -> tuple[str, ...]:
        return python(SAY + source)

    return make


def is_alive(pid: int) -> bool:
    """It is there, and not only waiting for a parent that collects it."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"
    return False


# Ready.


def test_start_waits_until_the_program_says_ready(gimli, notifier):
    source = "signal.sigwait({signal.SIGUSR1}); say('READY=1')" + PAUSE
    command = json.dumps(notifier("signal.pthread_sigmask(0, {signal.SIGUSR1})\n" + source))
    running = gimli.up(f'[service.app]\ncommand = {command}\nautostart = false\nready = "notify"')
    start = gimli.popen("start", "app")
    running.wait_for("heartbeat", state="starting")
    assert gimli.service()["state"] == "starting"
    assert start.poll() is None
    os.kill(running.pids()[0], signal.SIGUSR1)
    running.wait_for("ready", by="notify")
    assert start.wait(20) == 0
    assert gimli.service()["state"] == "running"


@pytest.mark.parametrize("way", ["notify", "fd", "delay:1h", "http://127.0.0.1:9/"])
def test_a_program_that_is_not_ready_in_time_is_captured_and_started_again(gimli, way):
    running = gimli.run("--ready", way, "--watchdog-start", "0.3s", *QUICKLY, command=("sleep", "1h"))
    hang = running.wait_for("hang")
    assert hang["allowed_s"] == 0.3
    assert running.wait_for("snapshot", reason="hang")
    assert running.wait_for("started", restarts=1)


def test_a_newline_on_a_descriptor_says_ready(gimli):
    """As programs for s6 do. Descriptor 3 may be anything of ours: it is moved out of the way."""
    script = "echo >&4; exec 4>&-; exec sleep 1h"
    running = gimli.run("--ready", "fd:4", command=("sh", "-c", script))
    assert running.wait_for("ready", by="fd")


def test_the_heartbeat_page_survives_beside_any_descriptor(gimli, python):
    """The monitor's own descriptors are low numbers, and so are those that programs ask for.

    The program would end without a beat if it could not write its newline; and beat in vain without its page.
    """
    source = (
        "import os, signal; from gimli import client; os.write({fd}, b'\\n'); client.beat(); signal.pause()"
    )
    for fd in range(3, 15):
        name = f"app{fd}"
        running = gimli.run("--ready", f"fd:{fd}", name=name, command=python(source.format(fd=fd)))
        running.wait_for("heartbeat", state="running")


def test_a_program_that_closes_the_descriptor_without_a_newline_is_said(gimli):
    running = gimli.run("--ready", "fd", command=("sh", "-c", "exec 3>&-; exec sleep 1h"))
    assert "without a newline" in running.wait_for("not-ready")["why"]
    assert "without a newline" in gimli.read("stderr")


def test_ready_after_a_delay(gimli):
    running = gimli.run("--ready", "delay:200ms", command=("sleep", "1h"))
    started = running.wait_for("started")
    ready = running.wait_for("ready", by="delay")
    assert 0.2 <= (ready["monotonic_ns"] - started["monotonic_ns"]) / 1e9 < 1.0


# Alive, by sd_notify.


def test_a_program_that_stops_saying_watchdog_hangs(gimli, notifier):
    beats = "say('READY=1')\nfor _ in range(4): say('WATCHDOG=1'); time.sleep(0.1)"
    running = gimli.run("--ready", "notify", "--watchdog", "0.3s", *QUICKLY, command=notifier(beats + PAUSE))
    running.wait_for("ready")
    running.wait_for("heartbeat", state="running")
    hang = running.wait_for("hang")
    assert hang["allowed_s"] == 0.3
    assert running.wait_for("started", restarts=1)


def test_a_program_that_is_ready_and_never_beats_is_not_late(gimli, notifier):
    """Most programs say READY=1 alone."""
    source = "say('READY=1'); time.sleep(0.6)"
    running = gimli.run("--ready", "notify", "--watchdog", "0.1s", command=notifier(source))
    assert running.wait() == 0
    assert running.events("ready")
    assert not running.events("hang")


def test_beats_before_ready_do_not_prolong_the_start(gimli, notifier):
    source = "while True: say('WATCHDOG=1'); time.sleep(0.05)"
    running = gimli.run("--ready", "notify", "--watchdog-start", "0.3s", *QUICKLY, command=notifier(source))
    assert running.wait_for("hang")["allowed_s"] == 0.3


def test_a_program_can_prolong_its_start(gimli, notifier):
    source = "say('EXTEND_TIMEOUT_USEC=5000000'); time.sleep(0.6); say('READY=1')" + PAUSE
    running = gimli.run("--ready", "notify", "--watchdog-start", "0.4s", *QUICKLY, command=notifier(source))
    running.wait_for("ready")
    assert not running.events("hang")


def test_a_program_can_ask_to_be_taken_for_hung(gimli, notifier):
    source = "say('READY=1'); say('WATCHDOG=1'); say('WATCHDOG=trigger')"
    running = gimli.run("--ready", "notify", *QUICKLY, command=notifier(source + PAUSE))
    running.wait_for("watchdog-triggered")
    assert running.wait_for("hang")
    assert running.wait_for("started", restarts=1)
    assert "app says that it hangs" in gimli.read("stderr")


def test_a_program_can_change_its_interval(gimli, notifier):
    source = "say('READY=1\\nWATCHDOG_USEC=200000'); say('WATCHDOG=1')" + PAUSE
    running = gimli.run("--ready", "notify", *QUICKLY, command=notifier(source))
    assert running.wait_for("hang")["allowed_s"] == 0.2


def test_a_program_can_switch_its_watchdog_off(gimli, notifier):
    source = "say('READY=1'); say('WATCHDOG=1'); say('WATCHDOG_USEC=0'); say('WATCHDOG=1'); time.sleep(0.6)"
    running = gimli.run("--ready", "notify", "--watchdog", "0.2s", command=notifier(source))
    assert running.wait() == 0
    assert not running.events("hang")


def test_a_reload_is_a_start_until_it_says_ready_again(gimli, notifier):
    source = """say('READY=1'); say('WATCHDOG=1')
say('RELOADING=1\\nMONOTONIC_USEC=%d' % (time.monotonic_ns() // 1000))
time.sleep(0.4); say('READY=1')"""
    running = gimli.run("--ready", "notify", "--watchdog", "0.3s", *QUICKLY, command=notifier(source + PAUSE))
    running.wait_for("ready")
    running.wait_for("reloading")
    running.wait_for("ready")
    running.wait_for("heartbeat", state="running")
    assert running.wait_for("hang")["allowed_s"] == 0.3, "it beat before: its watchdog goes on"


def test_what_a_program_says_of_itself_is_shown(gimli, notifier):
    source = "say('STATUS=Serving 3 of 7'); say('READY=1')" + PAUSE
    running = gimli.run("--ready", "notify", command=notifier(source))
    running.wait_for("ready")
    assert gimli.service()["note"] == "Serving 3 of 7"


def test_the_last_words_of_a_program_are_heard(gimli, notifier):
    """It is gone when they are read."""
    source = "say('STOPPING=1\\nERRNO=98\\nEXIT_STATUS=3'); os._exit(3)"
    for turn in range(5):
        running = gimli.run("--ready", "notify", *RUN_ONCE, name=f"app{turn}", command=notifier(source))
        assert running.wait_for("said-error")["errno"] == 98
        assert running.wait() == 3


def test_a_stop_can_be_prolonged_within_bounds(gimli, notifier):
    """Ten stop intervals, whatever it asks for: a stop ends."""
    source = """
def stall(*_):
    while True: say('EXTEND_TIMEOUT_USEC=900000000'); time.sleep(0.05)
signal.signal(signal.SIGTERM, stall)
say('READY=1')"""
    running = gimli.run(
        "--ready", "notify", "--watchdog-stop", "0.1s", *RUN_ONCE, command=notifier(source + PAUSE)
    )
    running.wait_for("ready")
    running.send(signal.SIGTERM)
    asked = running.wait_for("sent", signal="SIGTERM")
    killed = running.wait_for("sent", signal="SIGKILL")
    assert 0.9 < (killed["monotonic_ns"] - asked["monotonic_ns"]) / 1e9 < 3.0


# Whose messages.


def test_a_child_is_heeded_only_where_all_are(gimli, notifier):
    source = "fork(lambda: say('READY=1'))" + PAUSE
    running = gimli.run("--ready", "notify", command=notifier(source))
    assert 'notify_access = "all"' in running.wait_for("notify-refused")["fix"]
    running = gimli.run("--ready", "notify", "--notify-access", "all", name="all", command=notifier(source))
    assert running.wait_for("ready")


def test_a_stranger_is_not_heeded_and_does_not_fill_the_journal(gimli, notifier):
    running = gimli.run("--ready", "notify", command=notifier(PAUSE))
    running.wait_for("heartbeat", state="starting")
    path = os.path.join(gimli.runtime_dir, "run.app", "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as way:
        for _ in range(50):
            way.sendto(b"READY=1", path)
    running.wait_for("notify-refused", pid=os.getpid(), uid=os.getuid())
    assert gimli.service()["state"] == "starting"
    assert len(running.events("notify-refused")) == 1


def test_nonsense_is_said_a_few_times_and_survived(gimli, notifier):
    source = "for n in range(500): say('MAINPID=1'); say('\\0' * n)\nsay('READY=1')" + PAUSE
    running = gimli.run("--ready", "notify", command=notifier(source))
    running.wait_for("ready")
    assert 1 < len(running.events("notify-refused")) <= 20


def test_a_barrier_is_answered_whoever_asks(gimli, notifier):
    """It says that what was sent before has been handled; a client blocks on it."""
    source = """say('READY=1')
here, there = os.pipe(); say('BARRIER=1', there); os.close(there)
assert os.read(here, 1) == b''; say('STOPPING=1')"""
    running = gimli.run("--ready", "notify", command=notifier(source))
    running.wait_for("heartbeat", state="stopping")


def test_a_monitor_under_systemd_keeps_its_own_socket_to_itself(gimli):
    """Else its programs would report to systemd, or be taken for the monitor by it."""
    theirs = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "LISTEN_FDS": "1"}
    done = gimli.call("run", "--", "env", env=gimli.environment | theirs)
    assert not set(theirs) & {line.partition("=")[0] for line in done.stdout.splitlines()}


# Which process.


def test_the_program_is_told_its_own_pid(gimli, notifier):
    source = "print(os.getpid(), os.environ['WATCHDOG_PID'], os.environ['WATCHDOG_USEC'], flush=True)"
    done = gimli.call("run", "--notify-access", "main", "--watchdog", "2s", "--", *notifier(source))
    own, told, interval_us = done.stdout.split()
    assert own == told
    assert interval_us == "2000000"


def test_the_main_process_can_be_another_one(gimli, notifier):
    """A program that forks into the background: the service lives as long as what it names."""
    source = """
def serve(): time.sleep(1000)
say('MAINPID=%d\\nREADY=1' % fork(serve)); os._exit(0)"""
    running = gimli.run("--ready", "notify", "--restart", "always", command=notifier(source))
    first = running.wait_for("main-process")["pid"]
    assert gimli.service()["pid"] == first
    assert running.pids()[0] != first
    os.kill(first, signal.SIGKILL)
    assert running.wait_for("exited", pid=first)
    second = running.wait_for("main-process")["pid"]
    running.send(signal.SIGTERM)
    running.wait()
    assert not is_alive(second)


def test_the_first_process_does_not_live_beside_the_next_instance(gimli, notifier):
    """The one that was named ends, the one that was started lives on: it would be a second copy."""
    source = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
say('MAINPID=%d\\nREADY=1' % fork(lambda: time.sleep(1000)))
while True: time.sleep(1000)"""
    running = gimli.run("--ready", "notify", "--restart", "always", command=notifier(source))
    named = running.wait_for("main-process")["pid"]
    leader = running.pids()[0]
    pidfd = os.pidfd_open(leader)
    os.kill(named, signal.SIGKILL)
    running.wait_for("started", restarts=1)
    assert select.select([pidfd], [], [], 20)[0]
    os.close(pidfd)


def test_a_stranger_cannot_be_made_the_main_process(gimli, notifier):
    running = gimli.run("--ready", "notify", command=notifier(f"say('MAINPID={os.getpid()}')" + PAUSE))
    assert "MAINPID" in running.wait_for("notify-refused")["why"]


# Descriptors.


def test_descriptors_come_back_to_the_next_instance(gimli, notifier):
    """A socket with its backlog, a memfd with its content; the number of each as sd_listen_fds says."""
    source = """
count = int(os.environ.get('LISTEN_FDS', 0))
if not count:
    listener = socket.create_server(('127.0.0.1', 0))
    memory = os.memfd_create('state'); os.write(memory, b'remembered')
    say('FDSTORE=1\\nFDNAME=web', listener.fileno()); say('FDSTORE=1\\nFDNAME=state', memory)
    say('FDSTORE=1\\nFDNAME=web', listener.fileno())
    say('FDSTORE=1', 0); say('FDSTOREREMOVE=1\\nFDNAME=stored')
    os._exit(1)
assert os.environ['LISTEN_PID'] == str(os.getpid())
names = os.environ['LISTEN_FDNAMES'].split(':')
listener = socket.socket(fileno=3)
print(names, listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), os.pread(4, 100, 0), flush=True)
os.fstat(int(os.environ['GIMLI_HB_FD']))"""
    command = ("run", "--notify-access", "main", "--restart", "always", "--", *notifier(source + PAUSE))
    process = gimli.popen(*command, stdout=-1)
    assert gimli.read_line(process) == "['web', 'state'] 1 b'remembered'\n"


def test_a_descriptor_whose_other_end_is_gone_is_dropped(gimli, notifier):
    source = """
if 'LISTEN_FDS' not in os.environ:
    mine, theirs = socket.socketpair()
    say('FDSTORE=1\\nFDNAME=gone', mine.fileno()); say('FDSTORE=1\\nFDNAME=kept\\nFDPOLL=0', mine.fileno())
    mine.close(); theirs.close()
    os._exit(1)
print(os.environ['LISTEN_FDNAMES'], flush=True)"""
    process = gimli.popen(
        "run", "--notify-access", "main", "--restart", "always", "--", *notifier(source + PAUSE), stdout=-1
    )
    assert gimli.read_line(process) == "kept\n"


def test_a_monitor_keeps_no_descriptor_it_should_not(gimli, notifier):
    """More than there is room for, of messages that are refused, and of a service that is down."""
    source = """
say('FDSTORE=1', *[os.memfd_create(str(n)) for n in range(100)])
for n in range(30): say('READY=\\0', 0, 1, 2); fork(lambda: say('FDSTORE=1', 0))
time.sleep(0.1); say('READY=1')"""
    command = json.dumps(notifier(source + PAUSE))
    running = gimli.up(f'[service.app]\ncommand = {command}\nready = "notify"')
    running.wait_for("ready")
    table = f"/proc/{running.pid}/fd"
    assert sum("memfd" in os.readlink(os.path.join(table, fd)) for fd in os.listdir(table)) == 64
    assert gimli.call("stop", "app").returncode == 0
    links = [os.readlink(os.path.join(table, fd)) for fd in os.listdir(table)]
    assert not [link for link in links if "memfd" in link]
    assert len(links) < 25 + 25, "with those that a start needs for a moment (libgimli/berths.c)"


# Probes.


def test_a_program_is_asked_whether_it_lives(gimli, python):
    """Ready when it first answers, hung when it has not answered for the watchdog's time."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    source = f"""from http.server import HTTPServer, SimpleHTTPRequestHandler
HTTPServer(('127.0.0.1', {port}), SimpleHTTPRequestHandler).serve_forever()"""
    url = f"http://127.0.0.1:{port}/"
    running = gimli.run("--probe", url, "--watchdog", "0.9s", *QUICKLY, command=python(source))
    running.wait_for("ready", by="probe")
    running.wait_for("heartbeat", state="running")
    os.kill(running.pids()[0], signal.SIGSTOP)
    assert "no answer" in running.wait_for("probe-failed")["why"]
    assert running.wait_for("hang")["allowed_s"] == 0.9
    assert running.wait_for("started", restarts=1)
    running.wait_for("ready", by="probe")


def test_a_command_is_a_probe_and_cannot_pile_up(gimli):
    """It runs where the service does; one that hangs is killed with its children."""
    gimli.write("probe.sh", "echo x >>asked; test -e bad || exit 0; sleep 1000 & echo $! >>pids; wait\n")
    running = gimli.up(
        """
        [service.app]
        command = ["sleep", "1h"]
        cwd = "."
        probe = ["sh", "./probe.sh"]
        probe_interval = "50ms"
        probe_timeout = "200ms"
        watchdog = "1s"
        watchdog_stop = "200ms"
        backoff = "60s"
        """
    )
    running.wait_for("ready", by="probe")
    gimli.write("bad", "")
    assert "no answer within 0.2 s" in running.wait_for("probe-failed")["why"]
    assert running.wait_for("hang")
    os.unlink(os.path.join(gimli.directory, "bad"))
    running.wait_for("ready", by="probe")
    pids = [int(line) for line in gimli.read("pids").split()]
    assert pids
    assert not [pid for pid in pids if is_alive(pid)]


def test_a_probe_that_fails_is_said_once_per_reason(gimli, python):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = gimli.run(
        "--ready", "delay:10ms", "--probe", f"tcp:{port}", "--probe-interval", "20ms", "--watchdog", "0.6s",
        "--probe-timeout", "100ms", *QUICKLY, command=("sleep", "1h"),
    )  # fmt: skip
    assert running.wait_for("probe-failed")["why"] == "Connection refused"
    running.wait_for("hang")
    assert len(running.events("probe-failed")) == 1


def test_a_snapshot_does_not_make_a_program_ready(gimli, notifier):
    source = "signal.sigwait({signal.SIGUSR1}); say('READY=1')" + PAUSE
    command = notifier("signal.pthread_sigmask(0, {signal.SIGUSR1})\n" + source)
    running = gimli.run("--ready", "notify", command=command)
    running.wait_for("heartbeat", state="starting")
    assert gimli.call("snapshot", "app").returncode == 0
    assert gimli.service()["state"] == "starting"
    os.kill(running.pids()[0], signal.SIGUSR1)
    running.wait_for("ready")
    assert gimli.call("snapshot", "app").returncode == 0
    assert gimli.service()["state"] == "running"
