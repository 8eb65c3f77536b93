"""The journal: whole lines, capped, and honest about what a full disk has cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli import journal
from gimli.disk import Gauge
from gimli.journal import Journal


@pytest.fixture
def path(tmp_path) -> str:
    return os.path.join(tmp_path, "up.jsonl")


def test_an_event_is_one_line_with_its_time_and_its_details(path):
    entry = Journal(path).record("signal", "web", signal="SIGHUP")
    with open(path, encoding="utf-8") as file:
        assert json.loads(file.read()) == entry
    assert entry["event"] == "signal"
    assert entry["service"] == "web"
    assert entry["signal"] == "SIGHUP"
    assert entry["schema"] == 1
    assert entry["time"][:2] == "20"
    assert entry["monotonic_ns"] > 0
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_new_monitor_goes_on_in_the_same_file(path):
    Journal(path).record("first")
    Journal(path).record("second")
    assert [entry["event"] for entry in journal.read(path)] == ["first", "second"]


def test_recent_events_are_those_of_the_service_and_of_the_monitor(path):
    kept = Journal(path)
    for service in ("web", "db", None):
        kept.record("x", service)
    assert [entry["service"] for entry in kept.recent("web")] == ["web", None]
    for number in range(300):
        kept.record("y", "web", number=number)
    assert [entry["number"] for entry in kept.recent("web")] == list(range(100, 300))


def test_subscribers_are_told_in_order_also_when_one_leaves_meanwhile(path):
    """A client of the control socket is dropped by the very event that it does not read."""
    kept = Journal(path)
    told = []

    def leave(_: dict) -> None:
        told.append("first")
        kept.subscribers.remove(leave)

    kept.subscribers += [leave, lambda _: told.append("second")]
    kept.record("x")
    kept.record("x")
    assert told == ["first", "second", "second"]


@given(sizes=st.lists(st.integers(0, 400), max_size=60))
def test_the_file_and_its_predecessor_never_pass_the_cap(tmp_path_factory, sizes):
    path = os.path.join(tmp_path_factory.mktemp("journal"), "j")
    kept = Journal(path, cap_bytes=1000)
    for number, size in enumerate(sizes):
        kept.record("x", number=number, fill="." * size)
        assert os.stat(path).st_size <= 1000
    assert kept.lost == 0
    read = [entry["number"] for entry in journal.read(path)]
    # What is left is an unbroken end: rotation loses the oldest only.
    assert read == list(range(len(sizes) - len(read), len(sizes)))
    assert not sizes or read


def test_an_event_larger_than_the_cap_is_still_written(path):
    kept = Journal(path, cap_bytes=100)
    kept.record("x", fill="." * 200)
    kept.record("y", fill="." * 200)
    assert [entry["event"] for entry in journal.read(path)] == ["x", "y"]


def test_a_renamed_file_is_left_alone_after_reopen(path):
    kept = Journal(path)
    kept.record("before")
    os.rename(path, path + ".kept")
    kept.reopen()
    kept.record("after")
    assert [entry["event"] for entry in journal.read(path)] == ["after"]
    assert [entry["event"] for entry in journal.read(path + ".kept")] == ["before"]


def test_what_cannot_be_written_is_counted_and_told_by_the_next_line(tmp_path):
    """Its directory is missing, then it is there: no HUP is needed."""
    path = os.path.join(tmp_path, "journal", "up.jsonl")
    kept = Journal(path)
    told = []
    kept.subscribers.append(told.append)
    kept.record("lost")
    kept.record("lost too")
    assert kept.lost == 2
    assert [entry["event"] for entry in told] == ["lost", "lost too"]
    os.mkdir(os.path.dirname(path))
    kept.record("written")
    (entry,) = journal.read(path)
    assert entry["event"] == "written"
    assert entry["lost_before"] == 2
    assert kept.lost == 0
    kept.record("next")
    assert "lost_before" not in list(journal.read(path))[-1]


FULL_DISK = """
import os, resource, signal, sys
from gimli import journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
kept = journal.Journal(sys.argv[1])
kept.record("first")
full = os.stat(sys.argv[1]).st_size
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (full + 50, hard))
kept.record("torn")       # 50 bytes of it fit
assert kept.lost == 1, kept.lost
resource.setrlimit(resource.RLIMIT_FSIZE, (full, hard))
kept.record("refused")    # none does
assert kept.lost == 2, kept.lost
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
kept.record("last")
assert kept.lost == 0, kept.lost
"""


def test_a_full_disk_leaves_no_half_line_that_would_swallow_the_next(path):
    subprocess.run([sys.executable, "-c", FULL_DISK, path], check=True)
    with open(path, "rb") as file:
        lines = file.read().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["first", "last"]
    assert json.loads(lines[-1])["lost_before"] == 2


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    directory = os.path.join(tmp_path, "disk")
    os.mkdir(directory)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", directory], check=True)
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


@pytest.mark.real
def test_on_a_full_disk_the_reserve_lets_the_reason_be_written(small_disk):
    path = os.path.join(small_disk, "j")
    kept = Journal(path)
    kept.record("first")
    with open(os.path.join(small_disk, "fill"), "wb", buffering=0) as file:
        while os.statvfs(small_disk).f_bavail:
            file.write(b"x" * 4096)
    assert os.statvfs(small_disk).f_bavail == 0
    for number in range(100):
        kept.record("output-lost", number=number)
    written = [entry["number"] for entry in journal.read(path) if entry["event"] == "output-lost"]
    assert written == list(range(100))
    os.unlink(os.path.join(small_disk, "fill"))
    kept._gauge._look_at_ns = 0
    kept.record("room")
    assert os.stat(path + ".reserve").st_size > 0, "taken again"


@pytest.mark.real
def test_below_the_floor_a_journal_grows_by_little(path, monkeypatch):
    kept = Journal(path)
    monkeypatch.setattr(kept, "_gauge", Gauge(os.path.dirname(path), floor=1 << 60))
    for _ in range(4000):
        kept.record("x", fill="." * 200)
    assert 200_000 < os.stat(path).st_size < 300_000
    assert kept.lost > 1000


def test_lines_that_are_none_are_passed_over(path):
    """A crash of the machine can leave anything."""
    Journal(path).record("first")
    with open(path, "ab") as file:
        file.write(b'\n{"event": 5}\nnull\n[1]\n{"eve\n\xff\xfe\n' + b"[" * 100_000 + b"\n")
    Journal(path).record("last")
    assert [entry["event"] for entry in journal.read(path)] == ["first", "last"]


@given(st.binary(max_size=60))
def test_any_line_is_an_event_or_none(line):
    entry = journal.parse_line(line)
    assert entry is None or isinstance(entry["event"], str)


@given(st.text(st.characters(codec=None), max_size=20))
def test_any_text_can_be_told_also_a_name_that_is_no_utf_8(tmp_path_factory, text):
    path = os.path.join(tmp_path_factory.mktemp("journal"), "j")
    Journal(path).record("report", path=text)
    (entry,) = journal.read(path)
    assert entry["path"].encode("utf-16", "surrogatepass") == text.encode("utf-16", "surrogatepass")


def test_a_journal_that_is_not_there_has_no_events(path):
    assert list(journal.read(path)) == []


def test_what_somebody_holds_back_is_told_before_anything_else(path):
    """And does not ask for itself: a folded signal is an event as well."""
    told = Journal(path)
    told.before = lambda: told.record("held")
    told.record("first")
    told.record("second")
    assert [entry["event"] for entry in journal.read(path)] == ["held", "first", "held", "second"]


def test_one_who_fails_to_tell_is_asked_again(path):
    told = Journal(path)

    def fail() -> None:
        raise OSError("no room")

    told.before = fail
    for _ in range(2):
        with pytest.raises(OSError, match="no room"):
            told.record("first")
