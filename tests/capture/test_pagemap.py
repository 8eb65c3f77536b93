"""Runs of a process' own pages, as the ioctl and as the file tell them."""

from __future__ import annotations

import itertools
import mmap
import os
import struct
from ctypes import addressof, c_char

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.capture.elfcore import PAGE_BYTES
from gimli.capture.pagemap import Pagemap, runs_of

PRESENT, SWAPPED, FILE = 1 << 63, 1 << 62, 1 << 61


@given(st.lists(st.sampled_from([0, PRESENT, SWAPPED, FILE | PRESENT, PRESENT | 12345]), max_size=40))
def test_runs_are_the_pages_that_are_present_or_swapped_and_of_no_file(entries):
    start = 0x7000_0000
    runs = runs_of(b"".join(struct.pack("<Q", entry) for entry in entries), start)
    own = [
        start + index * PAGE_BYTES
        for index, entry in enumerate(entries)
        if entry & (PRESENT | SWAPPED) and not entry & FILE
    ]
    assert [page for low, high in runs for page in range(low, high, PAGE_BYTES)] == own
    assert all(one[1] < other[0] for one, other in itertools.pairwise(runs))


@given(st.binary(max_size=100))
def test_any_bytes_give_runs(raw):
    runs_of(raw, 0)


@pytest.fixture
def touched():
    """64 pages of which 3..4 and 10 were written."""
    memory = mmap.mmap(-1, 64 * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    anchor = c_char.from_buffer(memory)
    for page in (3, 4, 10):
        memory[page * PAGE_BYTES] = 1
    yield addressof(anchor)
    del anchor
    memory.close()


@pytest.fixture(params=["ioctl", "file"])
def pagemap(request):
    """By PAGEMAP_SCAN, and as on a kernel before 6.7."""
    found = Pagemap(os.getpid())
    if request.param == "file":
        found._has_scan = False
    yield found
    found.close()


@pytest.mark.real
def test_pages_that_were_written_are_found(touched, pagemap):
    runs, complete = pagemap.scan(touched, touched + 64 * PAGE_BYTES)
    pages = [((low - touched) // PAGE_BYTES, (high - touched) // PAGE_BYTES) for low, high in runs]
    assert pages == [(3, 5), (10, 11)]
    assert complete


@pytest.mark.real
def test_a_bounded_scan_stops_early_and_says_that_it_did(touched, pagemap):
    runs, complete = pagemap.scan(touched, touched + 64 * PAGE_BYTES, 2)
    assert runs == [(touched + 3 * PAGE_BYTES, touched + 5 * PAGE_BYTES)]
    assert not complete
