"""Any bytes are a core or are refused by name."""

from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gimli.analysis.corefile import FileMapping, NotACore, Segment, read_core


def core_bytes(*, segments, notes=b""):
    """A core with these (address, memory size, content, flags) segments."""
    count = len(segments) + 1
    at = 64 + 56 * count
    headers = struct.pack("<IIQQQQQQ", 4, 0, at, 0, 0, len(notes), 0, 4)
    body = notes
    for address, size, content, flags in segments:
        offset = at + len(body)
        headers += struct.pack("<IIQQQQQQ", 1, flags, offset, address, 0, len(content), size, 4096)
        body += content
    identity = b"\x7fELF\x02\x01\x01" + b"\0" * 9
    header = identity + struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, count, 64, 0, 0)
    return header + headers + body


def nt_file(path, start, end, offset):
    desc = struct.pack("<QQQQQ", 1, 4096, start, end, offset) + path.encode() + b"\0"
    desc += b"\0" * (-len(desc) % 4)
    return struct.pack("<III", 5, len(desc), 0x46494C45) + b"CORE\0\0\0\0" + desc


def test_segments_and_files_are_read(tmp_path):
    path = tmp_path / "core"
    notes = nt_file("/bin/true", 0x1000, 0x3000, 2)
    path.write_bytes(core_bytes(segments=[(0x1000, 0x2000, b"x" * 100, 5)], notes=notes))
    core = read_core(str(path))
    assert core.files == (FileMapping(0x1000, 0x3000, 8192, "/bin/true"),)
    (segment,) = core.segments
    assert (segment.start, segment.end, segment.present, segment.permissions) == (0x1000, 0x3000, 100, "r-x")
    assert core.segment_at(0x2FFF) == segment
    assert core.segment_at(0x3000) is None
    assert core.file_at(0x1000) == "/bin/true"
    assert not core.truncated


def test_a_file_shorter_than_its_headers_say_is_truncated(tmp_path):
    path = tmp_path / "core"
    path.write_bytes(core_bytes(segments=[(0x1000, 0x2000, b"x" * 100, 6)])[:-1])
    assert read_core(str(path)).truncated


def test_an_object_file_is_refused_by_its_type(tmp_path):
    path = tmp_path / "core"
    path.write_bytes(b"\x7fELF\x02\x01\x01" + b"\0" * 9 + struct.pack("<HH", 2, 62) + b"\0" * 44)
    with pytest.raises(NotACore, match="type 2, expected 4"):
        read_core(str(path))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=300)
    | st.builds(
        lambda tail, notes, flags: core_bytes(segments=[(1 << 63, 1 << 63, tail, flags)], notes=notes),
        st.binary(max_size=50),
        st.binary(max_size=200)
        | st.binary(max_size=60).map(lambda raw: struct.pack("<III", 4, 60, 0x46494C45) + raw),
        st.integers(0, 2**32 - 1),
    )
)
def test_any_bytes_are_a_core_or_refused(tmp_path, content):
    path = tmp_path / "core"
    path.write_bytes(content)
    try:
        core = read_core(str(path))
    except NotACore:
        return
    assert all(isinstance(each, Segment) for each in core.segments)
