"""Where is the memory that a core leaves to its files?

A core does not hold what is unchanged in a file: the string literals of .rodata, the code. Those pages are
read from the files themselves, but only from files that drgn has found to be the same as at the time of
the core (their build-ids agree).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import drgn

if TYPE_CHECKING:
    from gimli.analysis.corefile import Core, FileMapping


def add_file_segments(program: drgn.Program, core: Core) -> None:
    """Let the program read the read-only file pages that the core lacks."""
    trusted = _trusted_files(program)
    for mapping in core.files:
        file = trusted.get(mapping.path)
        if file is None:
            continue
        for segment in core.segments:
            # A writable page that is missing was not copied: the file's content is not what it held.
            if "w" in segment.permissions:
                continue
            start = max(mapping.start, segment.start + segment.present)
            end = min(mapping.end, segment.end)
            if start < end:
                _add(program, start, end, file, mapping)


def _trusted_files(program: drgn.Program) -> dict[str, int]:
    """Open descriptors of the files whose build-id is the core's, by path; open as long as the helper."""
    files = {}
    for module in program.modules():
        path = module.loaded_file_path
        if module.build_id is None or path is None or module.loaded_file_status != drgn.ModuleFileStatus.HAVE:
            continue
        try:
            files[os.path.realpath(path)] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # It went away since: its literals read as not saved in the core.
    return files


def _add(program: drgn.Program, start: int, end: int, file: int, mapping: FileMapping) -> None:
    offset = mapping.offset + start - mapping.start

    def read(_address: int, count: int, at: int, _physical: bool) -> bytes:  # noqa: FBT001 - drgn's signature
        found = os.pread(file, count, offset + at)
        return found.ljust(count, b"\0")  # past the end of the file a mapping's last page is zero

    program.add_memory_segment(start, end - start, read, False)
