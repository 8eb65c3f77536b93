"""What the next monitor makes of the last mark."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.monitor.folding import LINE_BYTES_MAX, Memory
from gimli.monitor.gap import WHY_BYTES_MAX, Gap
from gimli.monitor.mark import SLOT_BYTES, Mark, Phase, Verdict, judge_mark, pack_mark, unpack_mark

SEED = 4711
counts = st.integers(0, (1 << 32) - 1)
lines = st.none() | st.binary(max_size=LINE_BYTES_MAX)
memories = st.builds(Memory, lines, st.integers(0, 3), counts, lines, st.booleans())
texts = st.text("abc/ 019", max_size=WHY_BYTES_MAX)
gaps = st.builds(Gap, texts, counts, counts, st.booleans())
marks = st.builds(
    Mark, st.sampled_from([Phase.IDLE, Phase.WRITING]), memories, gaps, st.just(b""), st.integers(0, 1),
    counts, counts, counts, counts, counts,
)  # fmt: skip


@given(marks)
def test_a_mark_comes_back_as_it_was_and_fits_its_slot(mark):
    packed = pack_mark(mark, SEED)
    assert len(packed) <= SLOT_BYTES
    assert unpack_mark(packed.ljust(SLOT_BYTES, b"\xaa"), SEED) == mark
    assert unpack_mark(packed, SEED + 1) is None, "of another boot"


@given(st.binary(min_size=1, max_size=16))
def test_a_token_comes_back_as_long_as_it_was(token):
    mark = Mark(Phase.READING, token=token, size=len(token))
    assert unpack_mark(pack_mark(mark, SEED), SEED) == mark


@given(marks, st.integers(0, 300), st.integers(1, 255))
def test_a_damaged_mark_is_none(mark, at, change):
    packed = bytearray(pack_mark(mark, SEED))
    packed[at % len(packed)] ^= change
    assert unpack_mark(bytes(packed), SEED) is None


@given(st.binary(max_size=SLOT_BYTES))
def test_anything_is_a_mark_or_none(slot):
    assert unpack_mark(slot, SEED) is None


@given(st.binary(max_size=50), st.binary(min_size=1, max_size=50), st.integers(0, 50), st.binary(max_size=9))
def test_whatever_part_of_a_write_was_done_the_log_has_it_once_in_the_end(before, piece, cut, behind):
    """The file as a kill may leave it, and what the verdict makes of it."""
    log = before + piece[:cut]
    mark = Mark(Phase.WRITING, size=len(piece), offset=len(before), inode=7)
    verdict = judge_mark(mark, b"", len(log))
    if verdict is Verdict.AGAIN:
        log = log[: mark.offset]
    if verdict is not Verdict.CONTINUE:
        log += piece
    assert log + behind == before + piece + behind


@pytest.mark.parametrize("size", [None, 4])
def test_into_a_log_that_is_gone_or_was_cut_it_is_written_rather_than_lost(size):
    assert judge_mark(Mark(Phase.WRITING, size=3, offset=5, inode=7), b"", size) is Verdict.WRITE


def test_a_read_is_done_when_the_token_is_gone():
    mark = Mark(Phase.READING, token=b"token", size=9)
    assert judge_mark(mark, b"old!token", None) is Verdict.NOTHING
    assert judge_mark(mark, b"new lines", None) is Verdict.TAKE
    assert judge_mark(Mark(Phase.IDLE), b"", None) is Verdict.NOTHING
