"""What do Python's objects hold that pystack does not show?

Follows a few pointers of CPython's object layout in the core: what is in a cell (a variable that an inner
function shares is one, and ``<cell at ..>`` says nothing), and the name of a ``threading.Thread``. All
memory is hostile: an address that leads nowhere gives None.

Source: CPython Include/object.h, Include/cpython/cellobject.h, Include/cpython/unicodeobject.h,
Include/internal/pycore_dict.h. The layouts are those of 3.11 to 3.13 with a GIL; other ones give None.
"""

from __future__ import annotations

import os
import re
import struct
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gimli.analysis.corefile import Core

_CELL = re.compile(r"^<cell at (0x[0-9a-f]+)>$")
_TYPE_OFFSET = 8
_CELL_REFERENCE_OFFSET = 16
_TYPE_NAME_OFFSET = 24
_NAME_BYTES_MAX = 100
_ATTRIBUTES_MAX = 12


class CoreMemory:
    """The memory that a core itself holds."""

    def __init__(self, file: BinaryIO, core: Core) -> None:
        self._file = file.fileno()
        self._segments = sorted((each for each in core.segments if each.present), key=lambda each: each.start)

    def read(self, address: int, count: int) -> bytes | None:
        """Exactly ``count`` bytes, or None when they are not all there."""
        for segment in self._segments:
            if segment.start <= address and address + count <= segment.start + segment.present:
                data = os.pread(self._file, count, segment.offset + address - segment.start)
                return data if len(data) == count else None
        return None

    def read_pointer(self, address: int) -> int | None:
        """The 64-bit word at an address."""
        data = self.read(address, 8)
        return None if data is None else int(struct.unpack("<Q", data)[0])


def open_cell(memory: CoreMemory, value: str) -> str:
    """What is in a cell, as ``<Shop at 0x7f..>``; any other value as it is."""
    match = _CELL.match(value)
    if not match:
        return value
    content = memory.read_pointer(int(match[1], 16) + _CELL_REFERENCE_OFFSET)
    if not content:
        return value
    text = _read_text(memory, content)
    return f'"{text}"' if text is not None else f"<{_type_name(memory, content)} at {content:#x}>"


def thread_name(memory: CoreMemory, address: int) -> str | None:
    """The name of the ``threading.Thread`` at an address: the first text among its attributes.

    ``Thread.__init__`` sets ``_target`` first and ``_name`` second; what a subclass sets comes after them.
    """
    for attributes in _attribute_tables(memory, address):
        for at in range(_ATTRIBUTES_MAX):
            value = memory.read_pointer(attributes + 8 * at)
            if value and (text := _read_text(memory, value)):
                return text
    return None


def _attribute_tables(memory: CoreMemory, address: int) -> Iterator[int]:
    """Where the attributes of a plain object may stand: it depends on the version of Python."""
    if pointer := memory.read_pointer(address - 32):  # 3.11: four words before the object
        yield pointer
    if pointer := memory.read_pointer(address - 24):  # 3.12: three words before it, marked by its lowest bit
        yield pointer + 1
    yield address + 24  # 3.13: in the object itself, after its header and four bytes of sizes


def _type_name(memory: CoreMemory, address: int) -> str:
    kind = memory.read_pointer(address + _TYPE_OFFSET)
    name = memory.read_pointer(kind + _TYPE_NAME_OFFSET) if kind else None
    # Types written in C have their names in read-only pages, which a core leaves out.
    raw = memory.read(name, _NAME_BYTES_MAX) if name else None
    text = raw.split(b"\0", 1)[0].decode(errors="replace") if raw else ""
    return text.rpartition(".")[2] if text.replace(".", "_").isidentifier() else "object"


def _read_text(memory: CoreMemory, address: int) -> str | None:
    """A short ``str`` of ASCII: its length, its state (compact and ASCII), then its characters."""
    header = memory.read(address + 16, 24)
    if header is None:
        return None
    length, _hash, state = struct.unpack("<QqI", header[:20])
    is_compact_ascii = state >> 5 & 0b11 == 0b11 and state >> 2 & 0b111 == 1
    if not is_compact_ascii or not 0 < length <= _NAME_BYTES_MAX:
        return None
    for start in (40, 48):  # since 3.12; before, a pointer stood in between
        raw = memory.read(address + start, length + 1)
        if raw and raw.endswith(b"\0") and raw[:-1].isascii() and (text := raw[:-1].decode()).isprintable():
            return text
    return None
