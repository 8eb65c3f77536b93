"""Repeated lines become a count, and the count becomes the lines again."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from gimli.monitor.folding import FOLD_AFTER, LINE_BYTES_MAX, Memory, _seems_to_repeat, fold, release


def folded(*chunks: bytes, is_released: bool = True) -> bytes:
    memory, out = Memory(), b""
    for chunk in chunks:
        memory, more = fold(memory, chunk)
        out += more
    return out + release(memory)[1] if is_released else out


def unfolded(text: bytes) -> bytes:
    """What a reader knows of the output from the log."""
    lines: list[bytes] = []
    for line in text.splitlines(keepends=True):
        told = re.fullmatch(rb"gimli: last line repeated (\d+) times\n", line)
        lines += [lines[-1]] * int(told[1]) if told else [line]
    return b"".join(lines)


long = b"x" * LINE_BYTES_MAX
retry = b"retrying the connection\n"
parts = [b"a\n", retry, retry * 4, retry[:8], retry[8:-1], retry[8:], b"\n", b"\n" * 9, long, long + b"x\n"]
pieces = st.lists(st.sampled_from([*parts, b"\xff", b""]), max_size=40)


@given(pieces, st.lists(st.integers(0, 39)))
@example([b"retrying the connection\n" * 9, b"retrying"], [])
def test_the_log_says_exactly_what_came_whatever_the_pieces_and_pauses(chunks, pauses):
    memory, out = Memory(), b""
    for number, chunk in enumerate(chunks):
        memory, more = fold(memory, chunk)
        out += more
        if number in pauses:
            memory, more = release(memory)
            out += more
        assert memory.line is None or len(memory.line) <= LINE_BYTES_MAX
        assert memory.rest is None or len(memory.rest) <= LINE_BYTES_MAX
    assert unfolded(out + release(memory)[1]) == b"".join(chunks)


@given(pieces)
def test_the_pieces_in_which_lines_come_make_no_difference(chunks):
    whole = b"".join(chunks)
    assert unfolded(folded(*chunks)) == unfolded(folded(whole))


def test_a_line_is_written_three_times_and_then_counted():
    assert folded(b"retrying the connection\n" * 4711, b"done\n") == (
        b"retrying the connection\n" * FOLD_AFTER + b"gimli: last line repeated 4708 times\ndone\n"
    )


def test_what_repeats_is_held_until_a_second_has_passed():
    line = b"retrying the connection\n"
    memory, out = fold(Memory(), line * 100)
    assert out == line * FOLD_AFTER
    memory, out = release(memory)
    assert out == b"gimli: last line repeated 97 times\n"
    assert fold(memory, line * 5)[1] == b"", "and goes on being held"


def test_a_few_repeats_are_written_as_they_came():
    """Blank lines, rows of a table: the words would be longer."""
    assert folded(b"\n" * 20, b"+---+\n" * 5) == b"\n" * 20 + b"+---+\n" * 5


def test_lines_that_do_not_repeat_pass_untouched():
    data = b"".join(b"line %d\n" % number for number in range(100)) + b"and a prompt> "
    assert fold(Memory(), data)[1] is data


def test_an_unfinished_line_is_written_at_once_unless_it_may_be_one_more_repeat():
    assert folded(b"done\n", b"password: ", is_released=False) == b"done\npassword: "
    line = b"retrying the connection\n"
    assert folded(line * 9, b"retry", is_released=False) == line * FOLD_AFTER
    assert folded(line * 9, b"retry", b"!", is_released=False).endswith(b"repeated 6 times\nretry!")


def test_a_flood_of_any_size_is_not_split_where_nothing_repeats():
    """The last place looked at may not be so near the end that no line follows it."""
    flood = b"".join(b"line %04d\n" % number for number in range(9000))
    assert not [cut for cut in range(200) if _seems_to_repeat(flood[: len(flood) - cut])]


def test_a_flood_is_folded_too_where_it_repeats():
    """A large piece is only looked at in places, for its speed; what repeats there is seen."""
    flood = b"".join(b"line %d\n" % number for number in range(9000))
    assert fold(Memory(), flood)[1] is flood
    out = folded(flood, b"trying again\n" * 9000, b"done\n")
    assert out == flood + b"trying again\n" * 3 + b"gimli: last line repeated 8997 times\ndone\n"
    assert unfolded(folded(flood + b"trying again\n" * 9000 + flood)) == (
        flood + b"trying again\n" * 9000 + flood
    )
