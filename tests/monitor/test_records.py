"""Run records: whatever stands in one, it is read as what it says or as damage."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.monitor import records
from gimli.monitor.records import Record, format_record, parse_record
from gimli.process import ProcessId

BOOT = "5f1a0b1c-9f0e-4d5a-8b9c-0123456789ab"


def running(pid: int, start_ticks: int) -> bytes:
    """What libgimli/spawn.c writes."""
    return format_record(f"running {pid} {start_ticks} {BOOT}")


@given(st.integers(1, 2**22), st.integers(1, 2**64 - 1))
def test_a_child_writes_who_it_is(pid, start_ticks):
    assert parse_record(running(pid, start_ticks)) == Record("running", ProcessId(pid, start_ticks), BOOT)


@given(st.integers(1, 2**22), st.integers(1, 2**64 - 1), st.integers(0, 2**22))
def test_who_became_the_main_process_later_has_a_leader(pid, start_ticks, leader):
    who = ProcessId(pid, start_ticks)
    raw = records.format_running(who, BOOT, leader)
    assert parse_record(raw) == Record("running", who, BOOT, leader)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_damage(raw):
    assert parse_record(raw).kind in {"running", "starting", "down", "damaged"}


@given(st.integers(0, records.RECORD_BYTES - 1))
def test_a_record_cut_short_is_damaged(length):
    """A full disk, or a machine that lost power: nothing is guessed from what is left."""
    assert parse_record(running(17, 23)[:length]) == Record("damaged")


@given(st.integers(0, records.RECORD_BYTES - 1), st.integers(0, 255))
def test_a_byte_that_changed_never_makes_another_kind(position, byte):
    raw = bytearray(running(17, 23))
    raw[position] = byte
    assert parse_record(bytes(raw)).kind in {"running", "damaged"}


@pytest.mark.parametrize(
    "raw",
    [b"", b"\0" * 128, running(0, 5), running(2**22 + 1, 5), running(7, 0), running(7, 5) + b"x"],
)
def test_nobody_is_never_running(raw):
    """No pid is 0, none is above the kernel's limit, and start 0 is a child that could not read it."""
    assert parse_record(raw) == Record("damaged")


def test_no_file_is_missing(tmp_path):
    assert records.read_record(os.path.join(tmp_path, "a.run")) == Record("missing")


def test_a_start_is_seen_until_the_child_has_written(tmp_path):
    path = os.path.join(tmp_path, "a.run")
    os.close(records.begin_start(path))
    assert records.read_record(path) == Record("starting")
    records.write_down(path)
    assert records.read_record(path) == Record("down")


def test_a_reader_waits_for_the_child_that_is_about_to_write(tmp_path):
    """The fork shares the lock: who gets it knows that whatever was started has said who it is."""
    path = os.path.join(tmp_path, "a.run")
    fd = records.begin_start(path)
    told, child_told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(told, 1)
        os.pwrite(fd, running(os.getpid(), 9), 0)
        os._exit(0)
    os.close(fd)  # the monitor's; the child holds the lock alone now
    other = os.open(path, os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(child_told, b"x")
    assert records.read_record(path) == Record("running", ProcessId(pid, 9), BOOT)
    os.waitpid(pid, 0)
    for each in (other, told, child_told):
        os.close(each)


def test_a_child_that_never_writes_counts_as_damage(tmp_path, monkeypatch):
    """Somebody has stopped it between fork and exec: the monitor must come up all the same."""
    monkeypatch.setattr(records, "_LOCK_TRIES", 3)
    path = os.path.join(tmp_path, "a.run")
    fd = records.begin_start(path)
    assert records.read_record(path) == Record("damaged")
    os.close(fd)


def test_writing_down_where_nothing_is_does_nothing(tmp_path):
    records.write_down(os.path.join(tmp_path, "gone", "a.run"))
    assert os.listdir(tmp_path) == []


def test_a_start_that_cannot_be_written_leaves_the_record_as_it_was(tmp_path):
    """A full disk. Half a record would have the next monitor refuse to start anything."""
    path = os.path.join(tmp_path, "a.run")
    os.close(records.begin_start(path))
    records.write_running(path, ProcessId(17, 23), BOOT)
    with no_room(), pytest.raises(OSError, match="File too large"):
        records.begin_start(path)
    assert records.read_record(path) == Record("running", ProcessId(17, 23), BOOT)
    assert os.listdir(tmp_path) == ["a.run"]


def test_what_a_killed_monitor_had_begun_does_not_hinder_the_next(tmp_path):
    path = os.path.join(tmp_path, "a.run")
    with open(path + ".new", "w") as file:
        file.write("half a li")
    os.close(records.begin_start(path))
    assert records.read_record(path) == Record("starting")


def test_a_record_is_made_for_who_was_found_without_one(tmp_path):
    path = os.path.join(tmp_path, "a.run")
    records.write_running(path, ProcessId(17, 23), BOOT)
    assert records.read_record(path) == Record("running", ProcessId(17, 23), BOOT)


@contextlib.contextmanager
def no_room():
    """As a full disk, for this process: no file may grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
