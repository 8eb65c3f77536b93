"""Processes: their names, ends and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli import process
from gimli.process import ExitStatus, parse_signal, parse_stat, signal_name

STAT = b"100 (%s) S 1 100 100 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 10 0"


@pytest.mark.parametrize("name", [b"sh", b"a b", b"a) S 7 (b", b"", b"(((", b")))", b"\xff\n"])
def test_a_name_may_hold_spaces_and_brackets(name):
    """A program chooses its name: one that looks like the rest of the line must not be taken for it."""
    fields = parse_stat(STAT % name)
    assert fields[0] == b"S"
    assert fields[1] == b"1"
    assert fields[19] == b"987654"


@given(st.binary(max_size=15).filter(lambda name: b"\0" not in name))
def test_any_name_is_passed_over(name):
    assert parse_stat(STAT % name) == parse_stat(STAT % b"sh")


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_a_value_error(raw):
    try:
        parse_stat(raw)
    except ValueError:
        assert b")" not in raw


def test_this_process():
    me = process.identify(os.getpid())
    assert me is not None
    assert me.pid == os.getpid()
    assert me == process.identify(os.getpid())
    assert process.parent_of(os.getpid()) == os.getppid()
    assert process.command_line(os.getpid())[0] == process.command_line(os.getpid())[0] != ""
    assert process.command_name(os.getpid())


def test_a_process_that_is_gone_has_nothing_and_raises_nothing():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert process.identify(child.pid) is None
    assert process.parent_of(child.pid) is None
    assert process.command_line(child.pid) == []
    assert process.command_name(child.pid) == ""


def test_a_descendant_belongs_and_a_stranger_does_not():
    script = "import subprocess, sys; c = subprocess.Popen(['cat']); print(c.pid, flush=True); c.wait()"
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    grandchild = int(child.stdout.readline())
    assert process.belongs_to(grandchild, child.pid)
    assert process.belongs_to(grandchild, os.getpid())
    assert process.belongs_to(child.pid, os.getpid())
    assert not process.belongs_to(child.pid, grandchild)
    assert not process.belongs_to(os.getpid(), child.pid)
    assert not process.belongs_to(1, child.pid)
    child.stdin.close()
    child.stdout.close()
    child.wait()
    assert not process.belongs_to(child.pid, os.getpid())


def test_a_process_that_has_lost_its_parents_belongs_to_its_session():
    """A daemonized worker of a service: its parent is init by now, its session is still the service's."""
    script = (
        "import os\nif os.fork() == 0:\n  read, write = os.pipe()\n"
        "  if os.fork() == 0:\n"
        "    os.close(write); os.read(read, 1); print(os.getpid(), flush=True); os.read(0, 1)\n"
        "  os._exit(0)\nos.wait(); os.read(0, 1)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    orphan = int(child.stdout.readline())
    assert process.parent_of(orphan) != child.pid
    assert process.belongs_to(orphan, child.pid)
    child.stdin.close()
    child.stdout.close()
    child.wait()


@pytest.mark.parametrize(
    ("code", "status", "text", "shell", "is_fault"),
    [
        (os.CLD_EXITED, 0, "exit 0", 0, False),
        (os.CLD_EXITED, 3, "exit 3", 3, False),
        (os.CLD_KILLED, signal.SIGTERM, "SIGTERM", 143, False),
        (os.CLD_KILLED, signal.SIGSEGV, "SIGSEGV", 139, True),
        (os.CLD_DUMPED, signal.SIGABRT, "SIGABRT", 134, True),
        (os.CLD_KILLED, signal.SIGKILL, "SIGKILL", 137, False),
        (os.CLD_KILLED, 40, "SIGRTMIN+6", 168, False),
    ],
)
def test_ends(code, status, text, shell, is_fault):
    end = ExitStatus.from_waitid(code, status)
    assert (str(end), end.shell_status, end.is_fault) == (text, shell, is_fault)
    assert end.core_dumped == (code == os.CLD_DUMPED)


@pytest.mark.parametrize(
    ("text", "signo"),
    [
        ("HUP", 1),
        ("hup", 1),
        ("SIGHUP", 1),
        ("SigHup", 1),
        (" 1 ", 1),
        ("15", 15),
        ("RTMIN", 34),
        ("CLD", 17),
    ],
)
def test_signals(text, signo):
    assert parse_signal(text) == signo


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "65", "SIG", "SIG_DFL", "SIGSIGHUP", "HUP HUP", "1.0", "9" * 5000]
)
def test_what_is_no_signal_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        parse_signal(text)


@given(st.text(max_size=12))
def test_any_text_is_a_signal_or_a_value_error(text):
    try:
        assert parse_signal(text) in range(1, 65)
    except ValueError:
        return


def test_every_signal_of_the_kernel_has_a_name_that_is_understood_again():
    for signo in signal.valid_signals():
        assert signal_name(signo).startswith("SIG")
        if "+" not in signal_name(signo):
            assert parse_signal(signal_name(signo)) == signo
    assert signal_name(99) == "signal 99"
    assert signal_name(0) == "signal 0"


def test_a_command_is_quoted_as_a_shell_needs_it():
    assert process.describe_command(["sh", "-c", "echo $HOME"]) == "sh -c 'echo $HOME'"
