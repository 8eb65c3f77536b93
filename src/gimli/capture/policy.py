"""What of a process' memory is worth keeping?

Capped, for native programs: what a debugger needs for stacks and variables, at most ``cap_bytes`` of each
mapping, so that the pause does not grow with the program. Full, for Python programs: their frames are found
by walking lists that may lie anywhere in their memory (a cap of 64 MB left none of a 330 MB program).

    any ELF mapping         its first page: the build-id
    file, private, written  all of it: globals, and CPython's state
    file, private           pages the program has written itself (relocated tables)
    file, deleted           its text and tables too: no debugger finds them on disk any more
    anonymous, [heap]       own pages, all or up to the cap
    a stack                 the same, but from the stack pointer up first
    [vdso]                  all: it is in no file
    shared, devices         nothing

Pure but for the scan of pages, which comes in as a function.
"""

from __future__ import annotations

from gimli.capture.elfcore import PAGE_BYTES, PF_R, PF_W, Kept
from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gimli.capture.elfcore import Mapping

    Runs = list[tuple[int, int]]
    Scan = Callable[[int, int, int], tuple[Runs, bool]]

FULL_BYTES_MAX = 512 << 20
"""Present memory of a Python program up to which all of it is kept."""
CAPPED_TOTAL_BYTES_MAX = 96 << 20
"""Of all mappings together in a capped core: a thousand arenas at 8 MB each are a full core again."""

_RED_ZONE_BYTES = 128
"""Below the stack pointer, and still in use by leaf functions (System V ABI for x86-64)."""
_FILE_BYTES_MAX = 64 << 20
"""Of one written file mapping; globals of that size are data."""
_OUTER_STACK_BYTES = 256 << 10
"""Of the outer end of a stack that does not fit: main's frames, arguments and environment."""
_NEVER = frozenset({"[vvar]", "[vvar_vclock]", "[vsyscall]", "[uprobes]"})


@value
class Selection:
    """What is copied."""

    kept: tuple[Kept, ...]
    """One per mapping, in order."""
    policy: str
    """``full`` or ``capped``."""
    truncated: int
    """Mappings of the program's own memory of which only a part is kept."""

    @property
    def bytes(self) -> int:
        """Bytes of memory to copy."""
        return sum(end - start for item in self.kept for start, end in item.runs)


def is_python(mappings: Sequence[Mapping], exe: str, section_names: bytes) -> bool:
    """The program is a Python interpreter, or holds one: as a library, or linked in (``.PyRuntime``)."""
    return (
        _base(exe).startswith("python")
        or b".PyRuntime\0" in section_names
        or any(_base(mapping.name).startswith("libpython") for mapping in mappings if mapping.inode)
    )


def select_full(mappings: Sequence[Mapping], scan: Scan, bytes_max: int = FULL_BYTES_MAX) -> Selection | None:
    """Everything of a program's own; None when that is more than ``bytes_max``."""
    left = bytes_max
    kept = []
    for mapping in mappings:
        item = _kept_full(mapping, scan, left)
        if item is None:
            return None
        left -= sum(end - start for start, end in item.runs)
        if left < 0:
            return None
        kept.append(item)
    return Selection(tuple(kept), "full", 0)


def select_capped(
    mappings: Sequence[Mapping],
    scan: Scan,
    stack_pointers: Sequence[int],
    cap_bytes: int,
    total_bytes_max: int = CAPPED_TOTAL_BYTES_MAX,
) -> Selection:
    """Stacks, globals, and of everything else at most ``cap_bytes`` per mapping.

    Args:
        mappings: in order of address.
        scan: (start, end, pages_max) -> the runs of own pages, and whether these are all.
        stack_pointers: of all threads, as they are and as they were when a fault came.
        cap_bytes: most bytes kept of one mapping.
        total_bytes_max: most bytes kept together; mappings with a stack come before those without.
    """
    chosen: dict[int, Kept] = {}
    left = total_bytes_max
    by_mapping = _stacks_by_mapping(mappings, stack_pointers)
    for mapping in sorted(mappings, key=lambda mapping: _rank(mapping, by_mapping)):
        cap = _pages(min(cap_bytes, left)) * PAGE_BYTES
        item = _kept_capped(mapping, scan, by_mapping.get(mapping.start, ()), cap)
        left -= sum(end - start for start, end in item.runs)
        left = max(left, 0)
        chosen[mapping.start] = item
    kept = tuple(chosen[mapping.start] for mapping in mappings)
    truncated = sum(_is_own_memory(item.mapping) and not item.whole for item in kept)
    return Selection(kept, "capped", truncated)


def _rank(mapping: Mapping, by_mapping: dict[int, tuple[int, ...]]) -> int:
    """Files first (their pages are few and say the most), then stacks, then the heap, then the rest."""
    if mapping.inode or mapping.name == "[vdso]":
        return 0
    if mapping.start in by_mapping:
        return 1
    return 2 if mapping.name == "[heap]" else 3


def _stacks_by_mapping(
    mappings: Sequence[Mapping], stack_pointers: Sequence[int]
) -> dict[int, tuple[int, ...]]:
    """Stack pointers by the start of the mapping they point into, or would if the stack had grown further.

    After an overflow the pointer is in the guard, just below the stack's own mapping.
    """
    found: dict[int, list[int]] = {}
    pointers = sorted(set(stack_pointers))
    index = 0
    for mapping in mappings:
        below = index
        while index < len(pointers) and pointers[index] < mapping.end:
            index += 1
        inside = [pointer for pointer in pointers[below:index] if pointer >= mapping.start]
        if below < index and not inside and mapping.flags & PF_W:
            inside = [mapping.start]
        if below < index and not inside:
            index = below  # a guard of PROT_NONE: the pointer belongs to the mapping above it
        elif inside:
            found[mapping.start] = inside
    return {start: tuple(inside) for start, inside in found.items()}


def _kept_full(mapping: Mapping, scan: Scan, left_bytes: int) -> Kept | None:
    if not _is_own_memory(mapping):
        return _kept_of_file(mapping, scan, FULL_BYTES_MAX)
    runs, complete = scan(mapping.start, mapping.end, _pages(left_bytes) + 1)
    return Kept(mapping, tuple(runs), whole=True) if complete else None


def _kept_capped(mapping: Mapping, scan: Scan, stack_pointers: tuple[int, ...], cap_bytes: int) -> Kept:
    if not _is_own_memory(mapping):
        return _kept_of_file(mapping, scan, cap_bytes)
    runs, complete = scan(mapping.start, mapping.end, _pages(cap_bytes) + 1)
    if complete and _total(runs) <= cap_bytes:
        return Kept(mapping, tuple(runs), whole=True)
    first = [_window(mapping, pointer, scan, cap_bytes // len(stack_pointers)) for pointer in stack_pointers]
    if stack_pointers:
        outer = max(mapping.start, mapping.end - min(_OUTER_STACK_BYTES, cap_bytes))
        first.append(scan(outer, mapping.end, _pages(_OUTER_STACK_BYTES))[0])
    return Kept(mapping, tuple(_merge(first, runs, cap_bytes)))


def _window(mapping: Mapping, pointer: int, scan: Scan, bytes_max: int) -> Runs:
    """The own pages from a stack pointer up: the innermost frames."""
    start = max(mapping.start, _page_down(pointer - _RED_ZONE_BYTES))
    return scan(start, mapping.end, max(1, _pages(bytes_max)))[0] if start < mapping.end else []


def _kept_of_file(mapping: Mapping, scan: Scan, cap_bytes: int) -> Kept:
    if mapping.name == "[vdso]":
        return Kept(mapping, ((mapping.start, mapping.end),), whole=True)
    if not _is_private_file(mapping):
        return Kept(mapping)
    length = mapping.end - mapping.start
    if mapping.flags & PF_W and length <= _FILE_BYTES_MAX:
        return Kept(mapping, ((mapping.start, mapping.end),), whole=True)
    if mapping.name.endswith(" (deleted)"):
        end = min(mapping.end, mapping.start + _page_down(min(cap_bytes, _FILE_BYTES_MAX)))
        return Kept(mapping, ((mapping.start, end),)) if end > mapping.start else Kept(mapping)
    runs, _ = scan(mapping.start, mapping.end, _pages(cap_bytes))
    if mapping.offset == 0:
        runs = _merge([[(mapping.start, mapping.start + PAGE_BYTES)]], runs, cap_bytes + PAGE_BYTES)
    return Kept(mapping, tuple(runs))


def _is_own_memory(mapping: Mapping) -> bool:
    """Anonymous, private and readable: heap, arenas, stacks."""
    return (
        not mapping.inode
        and mapping.permissions[3:4] == "p"
        and bool(mapping.flags & PF_R)
        and mapping.name not in _NEVER
        and mapping.name != "[vdso]"
    )


def _is_private_file(mapping: Mapping) -> bool:
    return bool(
        mapping.inode
        and mapping.permissions[3:4] == "p"
        and mapping.flags & PF_R
        and not mapping.name.startswith("/dev/")
    )


def _merge(first: Sequence[Runs], then: Runs, bytes_max: int) -> Runs:
    """The union of runs, in order and disjoint; when it is too much, those of ``first`` win."""
    merged: Runs = []
    for runs in (*first, then):
        left = bytes_max - _total(merged)
        for start, end in _without(runs, merged):
            if left <= 0:
                break
            kept_end = min(end, start + _page_down(left))
            merged.append((start, kept_end))
            left -= kept_end - start
        merged = _joined(merged)
    return merged


def _without(runs: Runs, taken: Runs) -> Runs:
    """The parts of runs that are in none of ``taken``; both in order and disjoint."""
    parts: Runs = []
    for start, end in runs:
        position = start
        for low, high in taken:
            if high <= position or low >= end:
                continue
            if low > position:
                parts.append((position, low))
            position = max(position, high)
        if position < end:
            parts.append((position, end))
    return parts


def _joined(runs: Runs) -> Runs:
    joined: Runs = []
    for start, end in sorted(run for run in runs if run[0] < run[1]):
        if joined and joined[-1][1] >= start:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _total(runs: Runs) -> int:
    return sum(end - start for start, end in runs)


def _pages(length_bytes: int) -> int:
    return length_bytes // PAGE_BYTES


def _page_down(position: int) -> int:
    return position & -PAGE_BYTES
