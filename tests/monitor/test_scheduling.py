"""What the kernel says of a thread, and who traces it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.monitor import scheduling, tracer

ME = os.getpid()
NOBODY = 1 << 22
"""No pid: the kernel's are lower."""


def test_time_on_a_cpu_is_counted():
    before = scheduling.read_figures(ME, ME, throttled_ns=0)
    for _ in range(3_000_000):
        pass
    after = scheduling.read_figures(ME, ME, throttled_ns=0)
    assert before is not None
    assert after is not None
    assert after.at_ns > before.at_ns
    assert after.ran_ns > before.ran_ns
    assert (after.waited_ns, after.turns) >= (before.waited_ns, before.turns)


def test_of_a_thread_that_is_no_thread_of_the_process_nothing_is_read():
    """A program may write any tid into its page: another process is none of its business."""
    assert scheduling.read_figures(ME, os.getppid(), throttled_ns=0) is None
    assert scheduling.read_figures(NOBODY, NOBODY, throttled_ns=0) is None
    assert scheduling.read_state(ME, os.getppid()) == ""


def test_the_states_of_a_process():
    assert scheduling.read_state(ME, ME) == "R"
    # A group of its own below ours is never orphaned: SIGTSTP stops none that is, and CI's may be.
    with subprocess.Popen(["sleep", "1h"], process_group=0) as process:
        pidfd = os.pidfd_open(process.pid)
        try:
            assert scheduling.stop_signal(pidfd) == ""
            process.send_signal(signal.SIGTSTP)
            os.waitid(os.P_PIDFD, pidfd, os.WSTOPPED | os.WNOWAIT)
            assert scheduling.read_state(process.pid, process.pid) == "T"
            assert [scheduling.stop_signal(pidfd) for _ in range(2)] == ["SIGTSTP"] * 2
            assert not scheduling.is_frozen(process.pid)
        finally:
            process.kill()
            os.close(pidfd)


def test_a_process_that_is_not_our_child_tells_no_stop_signal():
    pidfd = os.pidfd_open(os.getppid())
    assert scheduling.stop_signal(pidfd) == ""
    os.close(pidfd)


@pytest.mark.parametrize(
    ("text", "throttled_ns"),
    [
        (b"usage_usec 5\nnr_periods 3\nnr_throttled 2\nthrottled_usec 1234\n", 1_234_000),
        (b"nr_periods 3\nnr_throttled 2\nthrottled_time 2360498683\n", 2_360_498_683),
        (b"usage_usec 5\n", 0),
        (b"throttled_usec -1\n", 0),
        (b"throttled_usec\n", 0),
        (b"", 0),
    ],
)
def test_both_versions_of_control_groups_tell_how_long_they_were_throttled(text, throttled_ns):
    assert scheduling.parse_throttled_ns(text) == throttled_ns


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"0::/system.slice/app.service\n", [(b"", b"/system.slice/app.service")]),
        (b"4:cpu,cpuacct:/a:b\n1:name=x:/\n", [(b"cpu,cpuacct", b"/a:b"), (b"name=x", b"/")]),
        (b"0::/../outside\n", []),
        (b"0::\nnonsense\n:\n", []),
    ],
)
def test_the_control_groups_of_a_process(text, found):
    assert scheduling.parse_cgroups(text) == found


@given(st.binary(max_size=200))
def test_any_bytes_are_read(raw):
    assert scheduling.parse_throttled_ns(raw) >= 0
    assert isinstance(scheduling.parse_cgroups(raw), list)
    assert tracer.parse_tracer(raw) >= -1
    assert isinstance(tracer.user_name(0, raw), str)


# Tracers.


@pytest.mark.parametrize(
    ("status", "pid"),
    [
        (b"Name:\tapp\nState:\tS (sleeping)\nTracerPid:\t0\n", 0),
        (b"Name:\tapp\nState:\tt (tracing stop)\nTracerPid:\t9001\n", 9001),
        (b"Name:\tapp\nState:\tS (sleeping)\nTracerPid:\t9001\n", 9001),
        (b"Name:\tapp\nState:\tt (tracing stop)\nTracerPid:\t0\n", -1),
        (b"Name:\tTracerPid:\nState:\tT (stopped)\n", 0),
        (b"", 0),
    ],
)
def test_the_tracer_of_a_thread(status, pid):
    """One from outside of our PID namespace has no number here, but the thread stands all the same."""
    assert tracer.parse_tracer(status) == pid


def test_nobody_traces_this_test():
    assert tracer.find_tracer(ME) is None
    assert tracer.find_tracer(NOBODY) is None


@pytest.mark.parametrize(("uid", "name"), [(0, "root"), (1000, "anna"), (100, ""), (1, "daemon")])
def test_users_by_their_file(uid, name):
    passwd = b"root:x:0:0::/root:/bin/sh\n\nbroken\n+::\ndaemon:x:1:1:\nanna:x:1000:1000:Anna\n"
    assert tracer.user_name(uid, passwd) == name


@pytest.mark.parametrize(
    ("command", "is_helper"),
    [
        ([sys.executable, "-I", "-S", "/usr/lib/python3/dist-packages/gimli/capture/__main__.py"], True),
        (["gdb", "-p", "1"], False),
        (["gdb", "-p", "1", "-x", "/gimli/capture/__main__.py"], False),
        (["vi", "/gimli/capture/__main__.py", "notes"], False),
        (["/gimli/capture/__main__.py"], False),
        ([], False),
    ],
)
def test_a_capture_helper_is_no_debugger(command, is_helper):
    assert tracer.is_helper_command(command) is is_helper
