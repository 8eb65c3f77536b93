"""What are the bytes of a core file?

Pure: registers, mappings and runs of pages go in, headers and file offsets come out; nothing here touches a
process or a file. The layout, in the order of the file:

    ELF header | program headers | (section header 0, see PN_XNUM) | notes | memory, page aligned, sparse

Sources: elf(5); the kernel's fs/binfmt_elf.c (what a core holds, in which order) and
include/uapi/linux/elfcore.h (struct elf_prstatus, struct elf_prpsinfo).
"""

from __future__ import annotations

import struct

from gimli.capture.registers import NT_FPREGSET
from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gimli.capture.registers import Architecture, Registers

PAGE_BYTES = 4096

ET_CORE = 4
PT_LOAD = 1
PT_NOTE = 4
PN_XNUM = 0xFFFF
PF_X, PF_W, PF_R = 1, 2, 4

NT_PRSTATUS = 1
NT_PRPSINFO = 3
NT_AUXV = 6
NT_SIGINFO = 0x53494749
NT_FILE = 0x46494C45

SPARSE_BYTES_MAX = 4 << 30
"""The largest mapping that becomes one sparse segment. ASan reserves 16 TB in one mapping: no file system
takes a file of that size, however few blocks it has."""

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_NHDR = struct.Struct("<III")
_PRSTATUS_HEAD = struct.Struct("<iiihxxQQiiii64x")
_PRPSINFO = struct.Struct("<bcbbxxxxQIIiiii16s80s")


@value
class Mapping:
    """One line of /proc/PID/maps."""

    start: int
    end: int
    permissions: str
    offset: int
    inode: int
    name: str

    @property
    def flags(self) -> int:
        """PF_ flags of a program header."""
        return sum(
            flag for flag, letter in ((PF_R, "r"), (PF_W, "w"), (PF_X, "x")) if letter in self.permissions
        )


@value
class Kept:
    """What a core keeps of one mapping."""

    mapping: Mapping
    runs: tuple[tuple[int, int], ...] = ()
    """Ranges of addresses that were copied: within the mapping, in order, disjoint, page aligned."""
    whole: bool = False
    """Whatever the runs leave out is zero, not unknown."""


@value
class Segment:
    """One PT_LOAD: memory from ``start`` to ``end``; in the file, or only said to have existed."""

    start: int
    end: int
    flags: int
    in_file: bool


@value
class ProcessIds:
    """What the notes say of the process as such."""

    pid: int
    ppid: int = 0
    pgrp: int = 0
    session: int = 0
    uid: int = 0
    gid: int = 0
    comm: bytes = b""
    command: bytes = b""


@value
class Image:
    """A core file but for its memory."""

    header: bytes
    """Goes to offset 0."""
    extents: tuple[tuple[int, int, int], ...]
    """Where the memory goes: (offset in the file, address, bytes), one per run, in order."""
    size: int
    """Of the file, holes included."""


def build_image(
    architecture: Architecture,
    process: ProcessIds,
    threads: Sequence[Registers],
    kept: Sequence[Kept],
    auxv: bytes,
    signo: int = 0,
) -> Image:
    """Everything of a core file but its memory.

    Args:
        architecture: of the process.
        process: goes into NT_PRPSINFO.
        threads: the faulting one first: debuggers select the first one.
        kept: one per mapping, in order of address.
        auxv: /proc/PID/auxv.
        signo: the signal that it ended by, or 0.
    """
    segments = plan_segments(kept)
    notes = pack_notes(process, threads, [item.mapping for item in kept], auxv, signo)
    return place(architecture, segments, notes, [run for item in kept for run in item.runs])


def plan_segments(kept: Iterable[Kept]) -> list[Segment]:
    """The PT_LOADs: ordered, disjoint, and together exactly the mappings.

    A mapping that is known whole becomes one segment, with holes in the file where it was never touched:
    holes read as zeros, which is what is there. Of any other, what was not copied gets a segment without
    bytes in the file: a debugger then says "cannot access", where zeros would be a lie.
    """
    segments = []
    for item in kept:
        mapping = item.mapping
        if item.whole and mapping.end - mapping.start <= SPARSE_BYTES_MAX:
            segments.append(Segment(mapping.start, mapping.end, mapping.flags, in_file=True))
            continue
        position = mapping.start
        for start, end in item.runs:
            if position < start:
                segments.append(Segment(position, start, mapping.flags, in_file=False))
            segments.append(Segment(start, end, mapping.flags, in_file=True))
            position = end
        if position < mapping.end:
            segments.append(Segment(position, mapping.end, mapping.flags, in_file=False))
    return segments


def place(
    architecture: Architecture,
    segments: Sequence[Segment],
    notes: bytes,
    runs: Iterable[tuple[int, int]],
) -> Image:
    """Give every segment its place in the file, and every run its offset there.

    More than 65534 program headers do not fit e_phnum: it then says PN_XNUM, and the number is in sh_info of
    section header 0 (elf(5)).
    """
    count = len(segments) + 1
    many = count >= PN_XNUM
    headers_bytes = _EHDR.size + _PHDR.size * count
    notes_offset = headers_bytes + (_SHDR.size if many else 0)
    position = _page_up(notes_offset + len(notes))

    headers = [_PHDR.pack(PT_NOTE, 0, notes_offset, 0, 0, len(notes), 0, 4)]
    offsets = []
    for segment in segments:
        bytes_in_memory = segment.end - segment.start
        bytes_in_file = bytes_in_memory if segment.in_file else 0
        headers.append(
            _PHDR.pack(
                PT_LOAD, segment.flags, position, segment.start, 0, bytes_in_file, bytes_in_memory, PAGE_BYTES
            )
        )
        offsets.append(position)
        position += bytes_in_file

    section = _SHDR.pack(0, 0, 0, 0, 0, 0, 0, count, 0, 0) if many else b""
    return Image(
        header=b"".join((_elf_header(architecture, count, headers_bytes), *headers, section, notes)),
        extents=tuple(_extents(segments, offsets, runs)),
        size=position,
    )


def _elf_header(architecture: Architecture, count: int, headers_bytes: int) -> bytes:
    many = count >= PN_XNUM
    ident = b"\x7fELF\x02\x01\x01"  # 64 bits, little endian, version 1, System V
    return _EHDR.pack(
        ident,
        ET_CORE,
        architecture.machine,
        1,
        0,
        _EHDR.size,
        headers_bytes if many else 0,
        0,
        _EHDR.size,
        _PHDR.size,
        min(count, PN_XNUM),
        _SHDR.size if many else 0,
        int(many),
        0,
    )


def _extents(
    segments: Sequence[Segment], offsets: Sequence[int], runs: Iterable[tuple[int, int]]
) -> Iterable[tuple[int, int, int]]:
    index = 0
    for start, end in runs:
        while not (segments[index].in_file and start < segments[index].end):
            index += 1
        assert segments[index].start <= start
        assert end <= segments[index].end
        yield offsets[index] + start - segments[index].start, start, end - start


def pack_notes(
    process: ProcessIds,
    threads: Sequence[Registers],
    mappings: Iterable[Mapping],
    auxv: bytes,
    signo: int = 0,
) -> bytes:
    """The PT_NOTE segment: the first thread's notes, with the process' own among them, then the others'."""
    notes = []
    for index, thread in enumerate(threads):
        notes.append(pack_note(b"CORE", NT_PRSTATUS, _pack_prstatus(process, thread, signo)))
        if index == 0:
            notes.append(pack_note(b"CORE", NT_PRPSINFO, _pack_prpsinfo(process)))
        notes.append(pack_note(b"CORE", NT_SIGINFO, thread.siginfo))
        if index == 0:
            notes.append(pack_note(b"CORE", NT_AUXV, auxv))
            notes.append(pack_note(b"CORE", NT_FILE, _pack_files(mappings)))
        for kind, content in thread.sets.items():
            notes.append(pack_note(b"CORE" if kind == NT_FPREGSET else b"LINUX", kind, content))
    return b"".join(notes)


def pack_note(name: bytes, kind: int, content: bytes) -> bytes:
    """One note: name and content each padded to 4 bytes, as every Linux core has them."""
    name += b"\0"
    return b"".join(
        (
            _NHDR.pack(len(name), len(content), kind),
            name,
            bytes(-len(name) % 4),
            content,
            bytes(-len(content) % 4),
        )
    )


def unpack_notes(notes: bytes) -> list[tuple[bytes, int, bytes]]:
    """The (name, kind, content) of each note.

    Raises:
        ValueError: the bytes end in the middle of a note.
    """
    found = []
    position = 0
    while position < len(notes):
        if len(notes) - position < _NHDR.size:
            raise ValueError(f"{len(notes) - position} bytes left, a note's header has {_NHDR.size}")
        name_bytes, content_bytes, kind = _NHDR.unpack_from(notes, position)
        name_at = position + _NHDR.size
        content_at = name_at + name_bytes + -name_bytes % 4
        position = content_at + content_bytes + -content_bytes % 4
        if position > len(notes):
            raise ValueError(f"a note ends at byte {position} of {len(notes)}")
        name = notes[name_at : name_at + name_bytes].rstrip(b"\0")
        found.append((name, kind, notes[content_at : content_at + content_bytes]))
    return found


def _pack_prstatus(process: ProcessIds, thread: Registers, signo: int) -> bytes:
    head = _PRSTATUS_HEAD.pack(
        signo,
        0,
        0,
        # pr_cursig: the signal that ended the process, in every thread as the kernel has it; gdb on x86-64
        # prints the last one it meets.
        signo,
        0,
        0,
        thread.tid,
        process.ppid,
        process.pgrp,
        process.session,
    )
    return head + thread.general + struct.pack("<ixxxx", int(NT_FPREGSET in thread.sets))


def _pack_prpsinfo(process: ProcessIds) -> bytes:
    return _PRPSINFO.pack(
        0,
        b"R",
        0,
        0,
        0,
        process.uid,
        process.gid,
        process.pid,
        process.ppid,
        process.pgrp,
        process.session,
        process.comm[:15],
        process.command.replace(b"\0", b" ")[:79],
    )


def _pack_files(mappings: Iterable[Mapping]) -> bytes:
    files = [mapping for mapping in mappings if mapping.inode]
    places = b"".join(
        struct.pack("<QQQ", mapping.start, mapping.end, mapping.offset // PAGE_BYTES) for mapping in files
    )
    # A name never holds a NUL, and surrogates stand for bytes that are not UTF-8.
    names = b"".join(mapping.name.encode(errors="surrogateescape") + b"\0" for mapping in files)
    return struct.pack("<QQ", len(files), PAGE_BYTES) + places + names


def _page_up(position: int) -> int:
    return (position + PAGE_BYTES - 1) & -PAGE_BYTES
