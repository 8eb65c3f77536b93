"""What is dropped is dropped in whole lines, and counted."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.monitor.gap import BURST_BYTES_MIN, Gap, cut, format_size, full_bucket, refill, room_bytes, tell
from gimli.value import replace


@given(st.lists(st.tuples(st.binary(max_size=30), st.integers(0, 40)), max_size=30))
def test_every_byte_is_written_or_counted_and_no_line_is_cut(pieces):
    gap, out, is_begun = Gap(), b"", False
    told_bytes = 0
    for data, room in pieces:
        before = gap
        note, kept, gap = cut(data, room, gap, "rate", is_line_begun=is_begun)
        if note:
            told_bytes += before.bytes + (data.find(b"\n") + 1 if before.is_inside else 0)
        assert not note or out == b"" or note.startswith(b"\n") == is_begun
        out += kept
        if kept:
            is_begun = not kept.endswith(b"\n")
    everything = b"".join(data for data, _ in pieces)
    assert len(out) + told_bytes + gap.bytes == len(everything)
    whole = set(everything.split(b"\n"))
    assert all(line in whole for line in out.split(b"\n")[:-1])


def test_a_line_that_is_begun_is_brought_to_its_end():
    note, kept, gap = cut(b"end\nnext\n", 0, Gap(), "rate", is_line_begun=True)
    assert (note, kept) == (b"", b"end\n")
    assert (gap.bytes, gap.lines) == (5, 1)


def test_the_line_about_it_stands_before_what_follows():
    note, kept, gap = cut(b"next\n", 100, Gap("rate 1 MB/s", 12_300_000, 4031), "", is_line_begun=False)
    assert note == b"gimli: 12.3 MB in 4031 lines dropped: rate 1 MB/s\n"
    assert (kept, gap) == (b"next\n", Gap())
    assert tell(Gap("x", 5, 1), is_line_begun=True)[0] == b"\ngimli: 5 bytes in 1 line dropped: x\n"


def test_a_bucket_gives_its_rate_over_any_time():
    bucket, taken = full_bucket(1_000_000, 0.0), 0
    for tenth in range(1, 101):
        bucket = refill(bucket, tenth / 10)
        room = room_bytes(bucket, Gap())
        bucket = replace(bucket, tokens=bucket.tokens - room)
        taken += room
    assert taken == pytest.approx(1_000_000 * (10 + 1), rel=0.1)


def test_a_slow_rate_still_takes_one_read_and_a_clock_that_goes_back_takes_nothing():
    bucket = full_bucket(1000, 100.0)
    assert room_bytes(bucket, Gap()) == BURST_BYTES_MIN
    assert refill(bucket, 50.0).tokens == bucket.tokens


def test_once_something_was_dropped_the_bucket_fills_to_half_before_more_is_written():
    bucket = replace(full_bucket(1_000_000, 0.0), tokens=400_000)
    assert room_bytes(bucket, Gap()) == 400_000
    assert room_bytes(bucket, Gap("rate", 5, 1)) == 0


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (12_345_678, "12.3 MB"), (5 * 10**12, "5000 GB")],
)
def test_a_size_for_people(size, text):
    assert format_size(size) == text
    assert re.fullmatch(r"[\d.]+ \w+", text)
