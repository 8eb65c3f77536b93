"""The bytes of a core, taken apart again."""

from __future__ import annotations

import contextlib
import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.capture import elfcore
from gimli.capture.elfcore import (
    NT_AUXV,
    NT_FILE,
    NT_PRPSINFO,
    NT_PRSTATUS,
    NT_SIGINFO,
    PAGE_BYTES,
    PT_LOAD,
    PT_NOTE,
    Kept,
    Mapping,
    ProcessIds,
    Segment,
    build_image,
    pack_note,
    pack_notes,
    place,
    plan_segments,
    unpack_notes,
)
from gimli.capture.registers import ARCHITECTURES, NT_FPREGSET, Registers

X86 = ARCHITECTURES["x86_64"]
PROCESS = ProcessIds(pid=7, ppid=1, pgrp=7, session=7, uid=1000, gid=100, comm=b"web", command=b"web\0-v\0")
PERMISSIONS = st.sampled_from(["r--p", "rw-p", "r-xp", "---p", "rw-s"])


@st.composite
def kept_mappings(draw) -> list[Kept]:
    """Mappings in order with gaps between them, each with some of its pages kept."""
    page = draw(st.integers(1, 1000))
    kept = []
    for _ in range(draw(st.integers(0, 6))):
        page += draw(st.integers(0, 3))
        bits = draw(st.lists(st.booleans(), min_size=1, max_size=12))
        mapping = Mapping(page * PAGE_BYTES, (page + len(bits)) * PAGE_BYTES, draw(PERMISSIONS), 0, 0, "")
        runs: list[tuple[int, int]] = []
        for index, bit in enumerate(bits):
            start = mapping.start + index * PAGE_BYTES
            if bit and runs and runs[-1][1] == start:
                runs[-1] = (runs[-1][0], start + PAGE_BYTES)
            elif bit:
                runs.append((start, start + PAGE_BYTES))
        kept.append(Kept(mapping, tuple(runs), draw(st.booleans())))
        page += len(bits)
    return kept


def parse_headers(image: elfcore.Image) -> list[tuple[int, int, int, int, int, int]]:
    """(type, flags, offset, address, bytes in file, bytes in memory) of each program header."""
    fields = struct.unpack_from("<16sHHIQQQIHHHHHH", image.header)
    assert fields[0][:7] == b"\x7fELF\x02\x01\x01"
    assert (fields[1], fields[2]) == (elfcore.ET_CORE, X86.machine)
    count = fields[10]
    if count == elfcore.PN_XNUM:
        section = struct.unpack_from("<IIQQQQIIQQ", image.header, fields[6])
        count = section[7]
    headers = (
        struct.unpack_from("<IIQQQQQQ", image.header, fields[5] + 56 * index) for index in range(count)
    )
    return [
        (kind, flags, offset, address, in_file, size)
        for kind, flags, offset, address, _, in_file, size, _ in headers
    ]


@given(kept_mappings())
def test_segments_are_ordered_disjoint_and_cover_exactly_the_mappings(kept):
    segments = plan_segments(kept)
    for one, other in itertools.pairwise(segments):
        assert one.end <= other.start
    covered = [page for segment in segments for page in range(segment.start, segment.end, PAGE_BYTES)]
    mapped = [page for item in kept for page in range(item.mapping.start, item.mapping.end, PAGE_BYTES)]
    assert covered == mapped


@given(kept_mappings())
def test_a_byte_is_in_the_file_if_it_was_copied_or_is_known_to_be_zero(kept):
    segments = plan_segments(kept)
    for item in kept:
        for page in range(item.mapping.start, item.mapping.end, PAGE_BYTES):
            (segment,) = (each for each in segments if each.start <= page < each.end)
            copied = any(start <= page < end for start, end in item.runs)
            assert segment.in_file == (copied or item.whole)


@given(kept_mappings(), st.binary(max_size=5000))
def test_every_run_goes_where_its_program_header_says(kept, notes):
    runs = [run for item in kept for run in item.runs]
    image = place(X86, plan_segments(kept), notes, runs)
    note, *loads = parse_headers(image)
    assert note[0] == PT_NOTE
    assert image.header[note[2] : note[2] + note[4]] == notes
    assert [(address, address + length) for _, address, length in image.extents] == runs
    for offset, address, length in image.extents:
        assert any(
            kind == PT_LOAD
            and at <= address
            and address + length <= at + in_file
            and offset == place_in_file + address - at
            for kind, _, place_in_file, at, in_file, _ in loads
        )
    end = max((offset + in_file for _, _, offset, _, in_file, _ in loads), default=image.size)
    assert end <= image.size
    assert all(offset % PAGE_BYTES == 0 and offset >= len(image.header) for _, _, offset, _, _, _ in loads)


def test_more_segments_than_a_header_can_count_are_counted_in_section_zero():
    """The kernel allows 65,530 mappings, databases ask for more (vm.max_map_count), and holes count twice."""
    segments = [Segment(page * 8192, page * 8192 + 4096, 4, in_file=False) for page in range(1, 70_001)]
    assert len(parse_headers(place(X86, segments, b"", []))) == 70_001


def test_a_mapping_too_large_for_a_sparse_file_is_split():
    huge = Mapping(0x10000, 0x10000 + (16 << 40), "rw-p", 0, 0, "")
    run = (0x20000, 0x21000)
    segments = plan_segments([Kept(huge, (run,), whole=True)])
    assert [segment.in_file for segment in segments] == [False, True, False]


@given(
    st.lists(
        st.tuples(
            st.binary(max_size=9).filter(lambda name: b"\0" not in name),
            st.integers(0, 2**32 - 1),
            st.binary(max_size=40),
        )
    )
)
def test_notes_survive_packing(notes):
    packed = b"".join(pack_note(name, kind, content) for name, kind, content in notes)
    assert len(packed) % 4 == 0
    assert unpack_notes(packed) == notes


@given(st.binary(max_size=200))
def test_any_bytes_are_notes_or_a_value_error(raw):
    with contextlib.suppress(ValueError):
        unpack_notes(raw)


def test_the_first_thread_comes_first_and_brings_the_notes_of_the_process():
    threads = [Registers(tid, bytes(X86.gregs_bytes), {NT_FPREGSET: bytes(512)}) for tid in (9, 7)]
    files = [Mapping(0x1000, 0x3000, "r-xp", 0x2000, 5, "/bin/we\udcffb")]
    notes = unpack_notes(pack_notes(PROCESS, threads, files, b"auxv", signo=11))
    assert [kind for _, kind, _ in notes] == [
        NT_PRSTATUS, NT_PRPSINFO, NT_SIGINFO, NT_AUXV, NT_FILE, NT_FPREGSET,
        NT_PRSTATUS, NT_SIGINFO, NT_FPREGSET,
    ]  # fmt: skip
    statuses = [content for _, kind, content in notes if kind == NT_PRSTATUS]
    assert [len(status) for status in statuses] == [336, 336]  # sizeof(struct elf_prstatus)
    assert [struct.unpack_from("<i", status, 32)[0] for status in statuses] == [9, 7]
    assert {struct.unpack_from("<h", status, 12)[0] for status in statuses} == {11}
    (mapped,) = (content for _, kind, content in notes if kind == NT_FILE)
    assert mapped == struct.pack("<QQQQQ", 1, 4096, 0x1000, 0x3000, 2) + b"/bin/we\xffb\0"
    (info,) = (content for _, kind, content in notes if kind == NT_PRPSINFO)
    assert len(info) == 136  # sizeof(struct elf_prpsinfo)


@pytest.mark.parametrize("comm", [b"", b"a" * 40, b"\xff\0\n"])
def test_a_name_of_any_bytes_fits_its_field(comm):
    process = ProcessIds(pid=1, comm=comm, command=comm * 100)
    image = build_image(X86, process, [Registers(1, bytes(X86.gregs_bytes), {})], [], b"")
    assert image.header.startswith(b"\x7fELF")
