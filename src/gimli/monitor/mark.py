"""How far had a monitor come with a piece of output, when it was killed? Pure.

Output goes from the FIFO into the spool, a file in memory that outlives the monitor, and from there into
the log. A mark says before each step what is about to be done, so that the next monitor can tell whether
it was:

    READING   so many bytes of the FIFO into the spool; the last of them was a token, and is one no more
              when the kernel has done it
    WRITING   a part of the spool to this file at this offset; done when the file has it
    IDLE      nothing is under way

A read of a FIFO is whole or nothing. A write is not: a kill may end it at any page, so it is cut back and
done again. What cannot be told apart, and then happens twice rather than not at all: a write to something
that is not a file, or to one that was cut (copytruncate) or extended by somebody else between the kill and
the adoption. All of it rests on the memory of this boot; after another one there is no FIFO either.
"""

from __future__ import annotations

import struct
from enum import Enum

from gimli.monitor.folding import LINE_BYTES_MAX, Memory
from gimli.monitor.gap import WHY_BYTES_MAX, Gap
from gimli.value import value

TOKEN_BYTES = 16
SLOT_BYTES = 2040
_VERSION = 1
_HEAD = struct.Struct("<HBBIIIQQ16s")
_COVER = struct.Struct("<QH")
_PRIME = (1 << 61) - 1
_STATE = struct.Struct("<BQBQQBhhh")
_NONE = -1


class Phase(Enum):
    """What is under way."""

    IDLE = 0
    READING = 1
    WRITING = 2


@value
class Mark:
    """One step, and what is known of the output after it; while READING, before it."""

    phase: Phase
    memory: Memory = Memory()
    gap: Gap = Gap()
    token: bytes = b""
    area: int = 0
    """Of the spool: 0 holds what was read, 1 what is made of it where that differs."""
    start: int = 0
    size: int = 0
    """READING: bytes of the FIFO. WRITING: bytes of this write, from ``start`` in the area."""
    end: int = 0
    """WRITING: where the area's data end; the rest is written after this write."""
    inode: int = 0
    """Of the log; 0 when it is none, or no regular file."""
    offset: int = 0


class Verdict(Enum):
    """What is left to do."""

    NOTHING = "nothing"
    TAKE = "take"
    """It was read, and nothing is written of it."""
    AGAIN = "again"
    """Cut the log at the mark's offset, and write."""
    WRITE = "write"
    """Write where the log ends now."""
    CONTINUE = "continue"
    """This write is done; what follows it in the area is not."""


def judge_mark(mark: Mark, spooled: bytes, log_size: int | None) -> Verdict:
    """What the next monitor has to do.

    Args:
        mark: the last one.
        spooled: READING: the bytes of the spool that it is about.
        log_size: WRITING: of the file with the mark's inode; None when there is none.
    """
    if mark.phase is Phase.IDLE:
        return Verdict.NOTHING
    if mark.phase is Phase.READING:
        return Verdict.NOTHING if spooled[-len(mark.token) :] == mark.token else Verdict.TAKE
    if log_size is None or log_size < mark.offset:
        return Verdict.WRITE
    # By size, not by content: the token of the next read may stand in the spool already.
    return Verdict.CONTINUE if log_size >= mark.offset + mark.size else Verdict.AGAIN


def pack_mark(mark: Mark, seed: int) -> bytes:
    """The mark as one slot: its checksum, how much that covers, and the rest.

    Args:
        mark: what to pack.
        seed: stands for this boot and this spool; a mark that was made for another will not unpack.
    """
    memory, gap = mark.memory, mark.gap
    why = gap.why.encode(errors="replace")[:WHY_BYTES_MAX]
    texts = (memory.line, memory.rest, why)
    numbers = (mark.area, mark.start, mark.size, mark.end, mark.inode, mark.offset)
    counted = (gap.bytes, gap.lines, gap.is_inside)
    lengths = (_NONE if text is None else len(text) for text in texts)
    body = b"".join(
        [
            _HEAD.pack(_VERSION, mark.phase.value, *numbers, mark.token),
            _STATE.pack(memory.written, memory.held, memory.is_rest_held, *counted, *lengths),
            *filter(None, texts),
        ]
    )
    return _COVER.pack(_checksum(body, seed), len(body)) + body


def unpack_mark(slot: bytes, seed: int) -> Mark | None:
    """The mark in a slot; None for anything else: an empty page, one of another boot or version, garbage."""
    if len(slot) < _COVER.size + _HEAD.size + _STATE.size:
        return None
    checksum, size = _COVER.unpack_from(slot)
    body = slot[_COVER.size : _COVER.size + size]
    if size != len(body) or _checksum(body, seed) != checksum:
        return None
    try:
        return _unpack_body(body)
    except (struct.error, ValueError):
        return None


def _checksum(body: bytes, seed: int) -> int:
    """The rest by a prime: it changes with every byte. zlib would be 0.1 MB of the monitor for its crc32."""
    return (int.from_bytes(body, "little") + seed) % _PRIME


def _unpack_body(body: bytes) -> Mark | None:
    version, phase, *numbers, token = _HEAD.unpack_from(body)
    written, held, is_rest_held, dropped, lines, is_inside, *lengths = _STATE.unpack_from(body, _HEAD.size)
    if version != _VERSION or any(length > LINE_BYTES_MAX for length in lengths):
        return None
    texts: list[bytes | None] = []
    at = _HEAD.size + _STATE.size
    for length in lengths:
        texts.append(None if length == _NONE else body[at : at + length])
        at += max(0, length)
    line, rest, why = texts
    return Mark(
        Phase(phase),
        Memory(line, written, held, rest, bool(is_rest_held)),
        Gap((why or b"").decode(errors="replace"), dropped, lines, bool(is_inside)),
        token[: min(numbers[2], TOKEN_BYTES)] if phase == Phase.READING.value else b"",
        *numbers,
    )
