"""The page: any bytes give a value, and no program can hurt its monitor by what it does to it."""

from __future__ import annotations

import mmap
import os
import resource
import stat
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli import heartbeat
from gimli.heartbeat import PAGE_SIZE, PageFile, parse_page


@given(st.binary(max_size=2 * PAGE_SIZE))
def test_any_bytes_are_a_page(raw):
    page = parse_page(raw)
    assert page.state in range(4)
    assert page.library in range(3)
    assert len(page.note) <= heartbeat.NOTE_SIZE
    assert page.note.isprintable()
    assert len(page.pulses) <= heartbeat.PULSES_MAX
    assert all(pulse.name.isprintable() and pulse.name and pulse.interval_ns > 0 for pulse in page.pulses)
    if page.crash is not None:
        assert 0 < page.crash.signo <= 64
        assert page.crash.pid > 0
        assert page.crash.tid > 0


@given(st.integers(0, PAGE_SIZE - 8), st.binary(min_size=8, max_size=8))
def test_eight_stray_bytes_anywhere_are_a_page(offset, stray):
    """What a stray pointer does, on a page that was in use."""
    raw = bytearray(_page_in_use())
    raw[offset : offset + 8] = stray
    page = parse_page(bytes(raw))
    assert page.intact or offset < heartbeat.OFFSET_BEAT_NS
    assert len(page.pulses) + (offset > heartbeat.OFFSET_PULSES - 8) >= 1


def _page_in_use() -> bytes:
    raw = bytearray(PAGE_SIZE)
    struct.pack_into("<iiQII", raw, 0, 2, 7, heartbeat.MAGIC, 1, PAGE_SIZE)
    struct.pack_into("<IiQQ", raw, heartbeat.OFFSET_PULSES, heartbeat.PULSE_ACTIVE, 7, 5, 6)
    return bytes(raw)


def test_a_text_ends_at_its_nul_and_cannot_forge_a_line():
    raw = bytearray(PAGE_SIZE)
    note = b"a\nb\x1b[2J\xff\0old"
    raw[heartbeat.OFFSET_NOTE : heartbeat.OFFSET_NOTE + len(note)] = note
    assert (
        parse_page(bytes(raw)).note
        == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}"
    )


@pytest.mark.parametrize(
    ("signo", "pid", "tid", "asked_for", "answered", "asked"),
    [
        (11, 5, 6, 1, 0, True),
        (11, 5, 6, 1, 1, False),  # answered
        (0, 5, 6, 1, 0, False),
        (65, 5, 6, 1, 0, False),
        (-11, 5, 6, 1, 0, False),
        (11, 0, 6, 1, 0, False),  # pid 0 and below mean groups to kill(2)
        (11, -1, 6, 1, 0, False),
        (11, 5, 0, 1, 0, False),
    ],
)
def test_only_a_crash_that_can_be_one_is_one(signo, pid, tid, asked_for, answered, asked):
    raw = bytearray(PAGE_SIZE)
    struct.pack_into("<iiQiiII", raw, heartbeat.OFFSET_CRASH, signo, 1, 2, pid, tid, asked_for, answered)
    assert (parse_page(bytes(raw)).crash is not None) == asked


@pytest.fixture
def page(tmp_path):
    made = PageFile(os.path.join(tmp_path, "app.page"))
    made.reset()
    yield made
    made.close()


def test_a_fresh_page_is_intact_and_says_nothing(page):
    read = page.read()
    assert read.intact
    assert (read.state, read.ticks, read.beat_ns, read.crash, read.pulses) == (0, 0, 0, None, ())
    assert stat.S_IMODE(os.stat(page.path).st_mode) == 0o600
    assert os.stat(page.path).st_size == PAGE_SIZE
    assert not os.get_inheritable(page.fd)


def test_what_a_program_writes_into_its_mapping_is_read(page):
    with mmap.mmap(page.fd, PAGE_SIZE) as mapped:
        struct.pack_into("<ii", mapped, 0, heartbeat.RUNNING, 7)
        assert (page.read().state, page.read().ticks) == (heartbeat.RUNNING, 7)
        page.set_running(8, 1234)
        assert struct.unpack_from("<ii", mapped) == (heartbeat.RUNNING, 8)
        assert page.read().beat_ns == 1234


def test_a_release_answers_the_request_that_stands_there(page):
    with mmap.mmap(page.fd, PAGE_SIZE) as mapped:
        struct.pack_into("<iiQiiII", mapped, heartbeat.OFFSET_CRASH, 11, 1, 2, 5, 6, 41, 0)
        assert page.read().crash.signo == 11
        page.release()
        assert struct.unpack_from("<I", mapped, heartbeat.OFFSET_RELEASE) == (41,)
        assert page.read().crash is None


def test_die_at_once_releases_and_stays(page):
    with mmap.mmap(page.fd, PAGE_SIZE) as mapped:
        struct.pack_into("<iiQiiII", mapped, heartbeat.OFFSET_CRASH, 11, 1, 2, 5, 6, 41, 0)
        page.die_at_once()
        assert struct.unpack_from("<I", mapped, heartbeat.OFFSET_FLAGS) == (heartbeat.FLAG_DIE_AT_ONCE,)
        assert page.read().crash is None


def test_a_page_that_its_program_has_truncated_is_damaged_and_harms_nobody(page):
    """The program has the descriptor. A mapping of ours would end the monitor by SIGBUS here."""
    os.ftruncate(page.fd, 0)
    assert not page.read().intact
    page.release()
    page.set_running(1, 1)
    page.die_at_once()
    assert not page.read().intact
    page.reset()
    assert page.read().intact
    assert os.stat(page.path).st_size == PAGE_SIZE


def test_a_page_is_found_again_by_its_path(page):
    page.set_running(5, 99)
    again = PageFile(page.path)
    assert again.read() == page.read()
    again.close()


def test_a_link_in_the_place_of_the_page_is_refused(tmp_path):
    """Whoever may write into the runtime directory must not have us overwrite what he points to."""
    target = tmp_path / "precious"
    target.write_text("precious")
    os.symlink(target, tmp_path / "app.page")
    with pytest.raises(OSError, match="symbolic links"):
        PageFile(os.path.join(tmp_path, "app.page"))
    assert target.read_text() == "precious"


def test_ticks_stay_in_their_31_bits(page):
    page.set_running(2**31, 1)
    assert page.read().ticks == 0


def test_a_full_disk_and_a_page_cut_off_do_not_keep_the_monitor_from_its_work(page):
    """What a program loses by that is its own: the order to end it must still be carried out."""
    os.ftruncate(page.fd, 0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        page.die_at_once()
        page.set_running(1, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not page.read().intact
