"""What the kernel's trace says, and what a hostile name in it cannot make it say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gimli.monitor.trace_lines import (
    Birth,
    Generated,
    Victim,
    count_lost,
    find_birth,
    parse_signals,
    parse_victims,
)

SEEN = (
    b"              sh-18421   [001] d..1. 12283.188489: signal_generate: "
    b"sig=9 errno=0 code=0 comm=sleep pid=18420 grp=1 res=0\n"
)
KILLED = Generated(12283188489000, 18421, "sh", 9, 0, 18420, 0)
# A name has 15 bytes at most (TASK_COMM_LEN), which anybody sets to anything but NUL.
NAMES = st.binary(max_size=15).filter(lambda name: b"\0" not in name)
PIDS = st.integers(1, 1 << 22)


def told(sender: bytes, sender_pid: int, name: bytes, pid: int, *, signo: int = 9, code: int = 0) -> bytes:
    """As kernel/trace/trace_output.c prints it: the name in 16 columns."""
    event = b"sig=%d errno=0 code=%d comm=%s pid=%d grp=1 res=0" % (signo, code, name, pid)
    return b"%16s-%-7d [003] d..1. %5d.000001: signal_generate: %s\n" % (sender, sender_pid, 77, event)


def born(parent: bytes, parent_pid: int, child: bytes, pid: int) -> bytes:
    event = b"comm=%s pid=%d child_comm=%s child_pid=%d" % (parent, parent_pid, child, pid)
    return b"%16s-%-7d [000] ..... 12290.067640: sched_process_fork: %s\n" % (parent, parent_pid, event)


def executed(path: bytes, pid: int) -> bytes:
    event = b"filename=%s pid=%d old_pid=%d" % (path, pid, pid)
    return b"%16s-%-7d [000] ..... 12290.067641: sched_process_exec: %s\n" % (path[-15:], pid, event)


def test_a_line_of_a_real_kernel():
    assert parse_signals(SEEN) == [KILLED]


def test_a_sender_that_the_kernel_has_forgotten_has_no_name():
    (sent,) = parse_signals(SEEN.replace(b"              sh", b"           <...>"))
    assert sent.sender_comm == ""
    assert sent.sender_pid == 18421


def test_the_thread_group_that_some_hosts_have_switched_on_is_passed_over():
    """options/record-tgid of the host is inherited by a new instance."""
    assert parse_signals(SEEN.replace(b"18421   [001]", b"18421   (  18421) [001]")) == [KILLED]


def test_a_signal_that_was_pending_already_is_merged_and_a_fault_is_the_kernels():
    (merged,) = parse_signals(SEEN.replace(b"res=0", b"res=2"))
    (fault,) = parse_signals(SEEN.replace(b"code=0", b"code=1"))
    assert merged.is_merged
    assert not merged.by_kernel
    assert fault.by_kernel


@given(NAMES, PIDS, NAMES, PIDS, st.integers(1, 64), st.integers(-60, 128))
def test_whatever_the_names_are_the_pids_are_the_kernels(sender, sender_pid, name, pid, signo, code):
    """A name may hold line ends, brackets and words of ours: it is one that an attacker chooses."""
    text = SEEN + told(sender, sender_pid, name, pid, signo=signo, code=code) + SEEN
    first, found, last = parse_signals(text)
    assert (first, last) == (KILLED, KILLED)
    assert (found.sender_pid, found.pid, found.signo, found.code) == (sender_pid, pid, signo, code)


@given(st.binary())
def test_any_bytes_are_signals_or_none(text):
    parse_signals(text)
    parse_victims(text)
    count_lost(text)
    find_birth(text, 1)


@given(st.binary(max_size=40), st.integers(0, len(SEEN)))
def test_half_a_line_costs_at_most_itself(garbage, cut):
    """The kernel overwrites the oldest records while they are read."""
    assert parse_signals(SEEN[cut:] + b"\n" + garbage + b"\n" + SEEN)[-1] == KILLED


def test_what_was_lost_is_counted():
    assert count_lost(b"CPU:0 [LOST 1716 EVENTS]\n" + SEEN + b"CPU:12 [LOST 4 EVENTS]\n") == 1720


def test_a_victim_of_the_oom_killer_on_new_kernels_and_on_old_ones():
    head = b"          stress-77      [001] ..... 9.000001: mark_victim: "
    new = head + b"pid=77 comm=a b total-vm=9kB anon-rss=8kB file-rss:0kB shmem-rss:0kB uid=0\n"
    old = head + b"pid=78\n"
    assert parse_victims(new + old) == [Victim(77, 8192), Victim(78, None)]


@given(NAMES, NAMES)
def test_a_birth_is_found_whatever_the_names_are(parent, child):
    text = born(b"cron", 633, b"cron", 4119) + born(parent, 4119, child, 4121) + born(b"x", 1, b"y", 41210)
    found = find_birth(text, 4121)
    assert found is not None
    assert found.parent_pid == 4119
    assert find_birth(text, 412) is None


def test_of_two_births_of_one_pid_the_last_counts():
    text = born(b"cron", 633, b"cron", 7) + born(b"init", 1, b"sshd", 7)
    assert find_birth(text, 7) == Birth(1, "init", "sshd", "")


def test_a_program_is_named_as_the_kernel_names_it():
    text = (
        born(b"cron", 633, b"cron", 7)
        + executed(b"/usr/sbin/logrotate", 7)
        + executed(b"/bin/with spaces", 7)
    )
    assert find_birth(text, 7).program == "with spaces"
    assert find_birth(born(b"cron", 633, b"cron", 7), 7).program == ""
    assert find_birth(executed(b"/bin/old", 7) + born(b"cron", 633, b"cron", 7), 7).program == "", "another's"


@given(st.binary(max_size=300).filter(lambda path: not {0, 10} & set(path)))
def test_a_path_cannot_name_the_program_of_another(path):
    """Nor begin its life: the filter keeps line ends out, and without one nothing can end like a record."""
    forged = (
        b"/tmp/x child_pid=7 pid=7 old_pid=7: sched_process_exec: filename=/bin/su pid=7 old_pid=7" + path
    )
    text = born(b"cron", 633, b"cron", 7) + executed(b"/bin/sh", 7) + executed(forged, 8) + executed(path, 9)
    assert find_birth(text, 7) == Birth(633, "cron", "cron", "sh")
