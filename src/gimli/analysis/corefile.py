"""Which memory does a core describe, and which of it is only in files?

Reads the program headers and NT_FILE of an ELF64 core; pure but for the one open file it is given.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

_PT_LOAD, _PT_NOTE = 1, 4
_PF_X, _PF_W, _PF_R = 1, 2, 4
_NT_FILE = 0x46494C45
_PN_XNUM = 0xFFFF
_NOTES_BYTES_MAX = 64 << 20
_HEADERS_MAX = 1 << 18


class NotACore(ValueError):
    """The file is not an ELF64 little-endian core, or is cut off within its headers."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A mapping of the process; ``start + present`` on is not in the core."""

    start: int
    end: int
    present: int
    offset: int
    permissions: str


@dataclass(frozen=True, slots=True)
class FileMapping:
    """A part of a file in the process's memory."""

    start: int
    end: int
    offset: int
    path: str


@dataclass(frozen=True, slots=True)
class Core:
    """The layout of a core."""

    segments: tuple[Segment, ...]
    files: tuple[FileMapping, ...]
    truncated: bool
    """The file ends before the memory that its headers promise."""

    def segment_at(self, address: int) -> Segment | None:
        """The mapping that holds an address."""
        return next((each for each in self.segments if each.start <= address < each.end), None)

    def file_at(self, address: int) -> str | None:
        """The path of the file mapped at an address."""
        return next((each.path for each in self.files if each.start <= address < each.end), None)

    @property
    def paths(self) -> frozenset[str]:
        """Every file that is mapped."""
        return frozenset(each.path for each in self.files)


def read_core(path: str) -> Core:
    """The layout of the core at ``path``.

    Raises:
        NotACore: it is something else, or damaged.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            return _read(file, size)
        except NotACore:
            raise
        except (struct.error, ValueError, OverflowError, OSError) as error:
            # OSError: a header may name a place in the file that no file can have.
            raise NotACore(f"damaged within its headers ({error})") from error


def _read(file: BinaryIO, size: int) -> Core:
    header = file.read(64)
    if header[:6] != b"\x7fELF\x02\x01":
        raise NotACore(f"not a 64-bit little-endian ELF file (starts with {header[:6]!r})")
    kind = struct.unpack_from("<H", header, 16)[0]
    if kind != 4:  # ET_CORE
        raise NotACore(f"an ELF file of type {kind}, expected 4 (core)")
    table, sections = struct.unpack_from("<QQ", header, 32)
    count = struct.unpack_from("<H", header, 56)[0]
    if count == _PN_XNUM:
        # elf(5): with more headers than 16 bits count, the number is in the first section header.
        file.seek(sections)
        count = struct.unpack_from("<I", file.read(64), 44)[0]
    if count > _HEADERS_MAX:
        raise NotACore(f"{count} program headers, expected at most {_HEADERS_MAX}")
    file.seek(table)
    headers = [struct.unpack("<IIQQQQQQ", file.read(56)) for _ in range(count)]
    segments = tuple(
        Segment(address, address + memory, min(in_file, memory), offset, _permissions(flags))
        for kind, flags, offset, address, _, in_file, memory, _ in headers
        if kind == _PT_LOAD
    )
    files: list[FileMapping] = []
    for kind, _, offset, _, _, in_file, _, _ in headers:
        if kind == _PT_NOTE:
            file.seek(offset)
            files += _file_mappings(file.read(min(in_file, _NOTES_BYTES_MAX)))
    truncated = any(each.offset + each.present > size for each in segments)
    return Core(segments, tuple(files), truncated)


def _permissions(flags: int) -> str:
    return "".join(
        letter if flags & bit else "-" for letter, bit in (("r", _PF_R), ("w", _PF_W), ("x", _PF_X))
    )


def _file_mappings(notes: bytes) -> list[FileMapping]:
    """The content of NT_FILE, wherever it stands among the notes."""
    at = 0
    while at + 12 <= len(notes):
        name_bytes, desc_bytes, kind = struct.unpack_from("<III", notes, at)
        start = at + 12 + _padded(name_bytes)
        if kind == _NT_FILE:
            return _parse_nt_file(notes[start : start + desc_bytes])
        at = start + _padded(desc_bytes)
    return []


def _padded(length: int) -> int:
    return (length + 3) & ~3


def _parse_nt_file(desc: bytes) -> list[FileMapping]:
    """A count, the page size, then the table and the names.

    Source: Linux fs/binfmt_elf.c, fill_files_note(); core(5) does not say.
    """
    count, page_size = struct.unpack_from("<QQ", desc)
    names = desc[16 + 24 * count :].split(b"\0")
    return [
        FileMapping(start, end, offset * page_size, name.decode(errors="replace"))
        for (start, end, offset), name in zip(
            struct.iter_unpack("<QQQ", desc[16 : 16 + 24 * count]), names, strict=False
        )
    ]
