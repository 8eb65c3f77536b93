"""What /proc says, parsed as the text of a hostile author."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.capture import procfs
from gimli.capture.elfcore import Mapping

MAPS = """\
5597446440 00-559744645000 r--p 00000000 fe:00 1
559744644000-559744645000 r-xp 00001000 fe:00 1183   /tmp/a b\\012c
7fc08c000000-7fc08c021000 rw-p 00000000 00:00 0
7ffcb17de000-7ffcb17ff000 rw-p 00000000 00:00 0      [stack]
"""


def test_maps_are_parsed_with_names_that_hold_blanks_and_newlines():
    mappings = procfs.parse_maps(MAPS)
    assert mappings[0] == Mapping(0x559744644000, 0x559744645000, "r-xp", 0x1000, 1183, "/tmp/a b\nc")
    assert mappings[1].name == ""
    assert mappings[2].name == "[stack]"
    assert len(mappings) == 3


@given(st.text())
def test_any_text_gives_mappings_in_order_and_disjoint(text):
    mappings = procfs.parse_maps(text)
    assert all(mapping.start < mapping.end for mapping in mappings)
    assert all(one.end <= other.start for one, other in itertools.pairwise(mappings))


@given(st.text())
def test_any_text_gives_a_status_limits_and_an_environment(text):
    procfs.parse_status(text)
    procfs.parse_limits(text)
    procfs.parse_environment(text.encode(errors="replace"))


@given(st.binary())
def test_any_bytes_give_a_stat_line(raw):
    procfs.parse_stat(raw)


def test_a_name_with_brackets_does_not_shift_the_fields_of_a_stat_line():
    assert procfs.parse_stat(b"12 (a) R 9 (b)) S 1 2\n") == ("a) R 9 (b)", ("S", "1", "2"))


def test_limits_have_numbers_or_unlimited():
    text = (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max open files            1024                 524288               files     \n"
        "Max cpu time              unlimited            unlimited            seconds   \n"
    )
    assert procfs.parse_limits(text) == {
        "Max open files": [1024, 524288],
        "Max cpu time": ["unlimited", "unlimited"],
    }


@pytest.mark.parametrize(
    ("name", "content", "secret"),
    [
        ("db_password", "x", True),
        ("AWS_SECRET_ACCESS_KEY", "x", True),
        ("GithubToken", "x", True),
        ("SENTRY_DSN", "x", True),
        ("DATABASE_URL", "postgres://me:pw@host/db", True),
        ("DATABASE_URL", "a postgres://me:p@w@host/db", True),
        ("DATABASE_URL", "postgres://me@host/db", False),
        ("ENDPOINT", "http://host:80/a@b", False),
        ("HOME", "/srv", False),
    ],
)
def test_secrets_are_masked_by_name_or_by_a_url_with_a_password(name, content, secret):
    masked = procfs.parse_environment(f"{name}={content}\0".encode())
    assert masked == {name: "***" if secret else content}


def test_a_process_that_is_gone_reads_as_empty():
    gone = 2**22 - 1
    assert procfs.thread_ids(gone) == []
    assert procfs.thread_state(gone, gone) == ""
    assert procfs.start_ticks(gone) is None
    assert procfs.section_names(gone) == b""
    process = procfs.read_process(gone)
    assert process.fds == ()
    assert any("the process has ended" in note for note in process.notes)


def test_the_own_process_reads_as_it_is():
    process = procfs.read_process(os.getpid())
    assert process.status["Pid"] == str(os.getpid())
    assert process.exe == os.path.realpath("/proc/self/exe")
    assert b".text\0" in process.sections
    assert process.notes == ()
    assert os.getpid() in [thread.tid for thread in procfs.read_threads(os.getpid())]
