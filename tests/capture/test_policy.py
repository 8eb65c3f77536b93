"""What is kept of a process' memory, with pages that the test decides."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gimli.capture import policy
from gimli.capture.elfcore import PAGE_BYTES, Mapping, plan_segments

MB = 1 << 20


def mapping(
    start: int, length: int, permissions: str = "rw-p", inode: int = 0, name: str = "", offset: int = 0
):
    return Mapping(start, start + length, permissions, offset, inode, name)


def everything(start: int, end: int, pages_max: int) -> tuple[list[tuple[int, int]], bool]:
    """A process that has written every page."""
    stop = min(end, start + pages_max * PAGE_BYTES)
    return ([(start, stop)] if stop > start else []), stop >= end


def nothing(start: int, end: int, pages_max: int) -> tuple[list[tuple[int, int]], bool]:
    """A process that has written none."""
    return [], True


def copied(selection: policy.Selection, index: int) -> int:
    return sum(end - start for start, end in selection.kept[index].runs)


def test_a_heap_below_the_cap_is_whole_and_one_above_is_cut():
    maps = [mapping(0x10_0000, MB), mapping(0x1000_0000, 100 * MB)]
    selection = policy.select_capped(maps, everything, [], 8 * MB)
    assert selection.kept[0].whole
    assert not selection.kept[1].whole
    assert copied(selection, 1) == 8 * MB
    assert selection.truncated == 1


def test_of_a_stack_that_does_not_fit_the_innermost_and_the_outermost_frames_are_kept():
    stack = mapping(0x7000_0000, 64 * MB, name="[stack]")
    pointer = stack.start + 20 * MB + 24
    selection = policy.select_capped([stack], everything, [pointer], 4 * MB)
    kept = selection.kept[0].runs
    assert any(start <= pointer - 128 and pointer + MB <= end for start, end in kept)
    assert any(end == stack.end for _, end in kept) or copied(selection, 0) >= 4 * MB
    assert copied(selection, 0) <= 4 * MB


def test_a_pointer_in_the_guard_page_belongs_to_the_stack_above_it():
    """After an overflow the stack pointer is outside of the stack."""
    guard = mapping(0x7000_0000, PAGE_BYTES, "---p")
    stack = mapping(guard.end, 64 * MB)
    selection = policy.select_capped([guard, stack], everything, [guard.end - 64], MB)
    assert selection.kept[1].runs[0][0] == stack.start


def test_written_globals_are_kept_whole_untouched_pages_too():
    """With only its touched pages no Python frame is found."""
    data = mapping(0x40_0000, MB, inode=5, name="/usr/lib/libpython3.so")
    assert policy.select_capped([data], nothing, [], 8 * MB).kept[0].runs == ((data.start, data.end),)


def test_the_first_page_of_an_elf_file_is_kept_for_its_build_id():
    header = mapping(0x40_0000, MB, "r--p", inode=5, name="/usr/bin/web")
    text = mapping(header.end, MB, "r-xp", inode=5, name="/usr/bin/web", offset=MB)
    selection = policy.select_capped([header, text], nothing, [], 8 * MB)
    assert selection.kept[0].runs == ((header.start, header.start + PAGE_BYTES),)
    assert selection.kept[1].runs == ()


def test_the_text_of_a_file_that_was_replaced_is_kept():
    text = mapping(0x40_0000, MB, "r-xp", inode=5, name="/usr/bin/web (deleted)", offset=MB)
    assert copied(policy.select_capped([text], nothing, [], 8 * MB), 0) == MB


def test_shared_memory_devices_and_guards_are_left_alone():
    maps = [
        mapping(0x10_0000, MB, "rw-s", inode=9, name="/dev/shm/x"),
        mapping(0x30_0000, MB, "rw-p", inode=9, name="/dev/mem"),
        mapping(0x50_0000, MB, "---p"),
        mapping(0x70_0000, MB, "r--p", name="[vvar]"),
    ]
    assert policy.select_capped(maps, everything, [], 8 * MB).bytes == 0


def test_many_arenas_do_not_add_up_to_a_full_core_and_stacks_come_first():
    arenas = [mapping(0x10_0000_0000 + index * (64 * MB), 64 * MB) for index in range(50)]
    pointer = arenas[49].start + MB
    selection = policy.select_capped(arenas, everything, [pointer], 8 * MB)
    assert selection.bytes <= policy.CAPPED_TOTAL_BYTES_MAX
    assert any(start <= pointer < end for start, end in selection.kept[49].runs)


def test_a_full_selection_is_whole_or_refused():
    maps = [mapping(0x10_0000, MB), mapping(0x1000_0000, 100 * MB)]
    assert policy.select_full(maps, everything, 50 * MB) is None
    selection = policy.select_full(maps, everything, 200 * MB)
    assert selection.bytes == 101 * MB
    assert all(item.whole for item in selection.kept)


def test_python_is_known_by_its_name_its_library_or_its_section():
    library = mapping(0x10_0000, MB, inode=5, name="/usr/lib/libpython3.11.so.1.0")
    assert policy.is_python([], "/usr/bin/python3.11", b"")
    assert policy.is_python([library], "/usr/sbin/uwsgi", b"")
    assert policy.is_python([], "/opt/static", b"\0.text\0.PyRuntime\0")
    assert not policy.is_python([], "/usr/sbin/nginx", b"\0.text\0")


@st.composite
def processes(draw):
    """Mappings, the pages each has written, and stack pointers anywhere."""
    page = 16
    maps = []
    for _ in range(draw(st.integers(1, 6))):
        page += draw(st.integers(0, 2))
        length = draw(st.integers(1, 40))
        permissions = draw(st.sampled_from(["rw-p", "r--p", "---p", "r-xp", "rw-s"]))
        inode = draw(st.sampled_from([0, 0, 7]))
        name = (
            draw(st.sampled_from(["/bin/x", "/bin/x (deleted)"]))
            if inode
            else draw(st.sampled_from(["", "[vdso]", "[heap]"]))
        )
        maps.append(mapping(page * PAGE_BYTES, length * PAGE_BYTES, permissions, inode, name))
        page += length
    written = draw(st.sets(st.integers(16, page), max_size=60))
    pointers = draw(st.lists(st.integers(0, (page + 4) * PAGE_BYTES), max_size=4))
    return maps, written, pointers


@given(processes(), st.integers(0, 30))
def test_whatever_is_selected_makes_a_core(process, cap_pages):
    """Runs lie in their mapping, in order and disjoint, never beyond the cap; the planner accepts them."""
    maps, written, pointers = process

    def scan(start: int, end: int, pages_max: int) -> tuple[list[tuple[int, int]], bool]:
        runs: list[tuple[int, int]] = []
        for page in range(start, end, PAGE_BYTES):
            if page // PAGE_BYTES in written:
                if pages_max == 0:
                    return runs, False
                pages_max -= 1
                runs.append((page, page + PAGE_BYTES))
        return runs, True

    selection = policy.select_capped(maps, scan, pointers, cap_pages * PAGE_BYTES)
    assert [item.mapping for item in selection.kept] == maps
    for item in selection.kept:
        position = item.mapping.start
        for start, end in item.runs:
            assert position <= start < end <= item.mapping.end
            assert start % PAGE_BYTES == end % PAGE_BYTES == 0
            position = end
        if item.mapping.inode == 0 and item.mapping.name != "[vdso]":
            assert sum(end - start for start, end in item.runs) <= cap_pages * PAGE_BYTES
        if item.whole and item.mapping.inode == 0 and item.mapping.name != "[vdso]":
            inside = {page for page in written if item.mapping.start <= page * PAGE_BYTES < item.mapping.end}
            kept = {page // PAGE_BYTES for start, end in item.runs for page in range(start, end, PAGE_BYTES)}
            assert kept == inside
    plan_segments(selection.kept)
