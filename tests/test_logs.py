"""A service's output: whole lines in capped files, whatever the chunks, and whatever the disk does."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli import logs
from gimli.logs import TAIL_BYTES, OutputFile, last_lines

CAP = 1000
LINE_MAX = logs._LINE_BYTES_MAX


@pytest.fixture
def path(tmp_path) -> str:
    return os.path.join(tmp_path, "app.log")


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


# Chunks as a pipe gives them: lines in pieces, many lines at once, and now and then one that never ends.
chunks = st.lists(
    st.one_of(
        st.binary(max_size=300),
        st.lists(st.sampled_from([b"a", b"bc" * 50, b"\n", b"\n\n"]), max_size=12).map(b"".join),
        st.just(b"x" * 700),
    ),
    max_size=40,
)


@given(chunks)
def test_a_line_is_never_cut_at_a_rotation_and_nothing_but_the_oldest_is_lost(tmp_path_factory, written):
    path = os.path.join(tmp_path_factory.mktemp("logs"), "app.log")
    file = OutputFile(path, CAP)
    for data in written:
        file.write(data)
    everything, kept = b"".join(written), read(path + ".1") + read(path)
    assert everything.endswith(kept)
    assert file.dropped_bytes == 0
    if os.path.exists(path + ".1"):
        assert read(path + ".1").endswith(b"\n")  # no line here is as long as LINE_MAX
        assert len(kept) > CAP
    assert (
        file.tail()
        == everything[-TAIL_BYTES:]
        .decode(errors="replace")
        .splitlines()[int(len(everything) >= TAIL_BYTES) :]
    )


@given(st.lists(st.integers(1, 60_000), max_size=30), st.booleans())
def test_the_files_are_bounded_also_for_a_program_that_writes_no_newline(tmp_path_factory, sizes, ends):
    """The cap, one line of the longest kind, and one read from the pipe: that is the bound."""
    path = os.path.join(tmp_path_factory.mktemp("logs"), "app.log")
    file = OutputFile(path, 100_000)
    for size in sizes:
        file.write(b"x" * (size - 1) + (b"\n" if ends else b"x"))
        for name in (path, path + ".1"):
            assert not os.path.exists(name) or os.stat(name).st_size <= 100_000 + LINE_MAX + 60_000


def test_a_line_longer_than_the_bound_is_cut(path):
    file = OutputFile(path, CAP)
    for _ in range(4):
        file.write(b"x" * LINE_MAX)
    assert not read(path + ".1").endswith(b"\n")


def test_a_log_goes_on_where_it_was(path):
    OutputFile(path, CAP).write(b"first\n")
    OutputFile(path, CAP).write(b"second\n")
    assert read(path) == b"first\nsecond\n"
    file = OutputFile(path, CAP)
    file.write(b"x" * CAP + b"\n")
    file.write(b"next\n")  # the size that was there counts
    assert read(path) == b"next\n" or read(path + ".1").startswith(b"first")


def test_reopen_leaves_a_renamed_file_alone(path):
    file = OutputFile(path, CAP)
    file.write(b"before\n")
    os.rename(path, path + ".kept")
    file.write(b"between\n")
    file.reopen()
    file.write(b"after\n")
    assert (read(path + ".kept"), read(path)) == (b"before\nbetween\n", b"after\n")


def test_a_closed_log_keeps_the_tail_only(path):
    file = OutputFile(path, CAP)
    file.write(b"before\n")
    file.close()
    file.write(b"after\n")
    assert read(path) == b"before\n"
    assert file.tail() == ["before", "after"]


def test_without_a_file_there_is_a_tail():
    file = OutputFile(None, CAP)
    file.write(b"a\nb")
    assert file.tail() == ["a", "b"]
    file.reopen()


def test_the_tail_holds_whole_lines_and_the_last_bytes():
    file = OutputFile(None, CAP)
    for number in range(5000):
        file.write(b"line %d\n" % number)
    tail = file.tail()
    assert tail[-1] == "line 4999"
    assert all(line.startswith("line ") for line in tail)
    assert 1000 < len(tail) < 5000


def test_a_tail_of_one_endless_line_is_its_end():
    """The last words before a crash may be one line of JSON; half of it is better than none."""
    file = OutputFile(None, CAP)
    file.write(b"{" + b"x" * 2 * TAIL_BYTES + b"}\n")
    (line,) = file.tail()
    assert line.endswith("}")


# Disks and paths that do not behave. Writing never raises.


def test_a_directory_that_comes_later_is_found_without_a_hup(tmp_path):
    path = os.path.join(tmp_path, "later", "app.log")
    file = OutputFile(path, CAP)
    file.write(b"lost\n")
    assert file.dropped_bytes == 5
    os.mkdir(os.path.dirname(path))
    file.write(b"kept\n")
    assert read(path) == b"kept\n"


def test_when_it_cannot_be_renamed_the_file_starts_over(path):
    """A directory of that name is in the way; the cap still holds."""
    os.mkdir(path + ".1")
    file = OutputFile(path, CAP)
    for _ in range(30):
        file.write(b"x" * 99 + b"\n")
    assert 0 < os.stat(path).st_size <= CAP + 100


def test_a_file_system_that_has_become_read_only_costs_output_and_no_exception(path, monkeypatch):
    """ext4 does that to itself after an error. The calls of os stand for the kernel here."""
    file = OutputFile(path, CAP)
    file.write(b"x" * (CAP - 10))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    for name in ("replace", "truncate", "write", "open"):
        monkeypatch.setattr(os, name, refuse)
    for _ in range(3):
        file.write(b"y" * 50 + b"\n")
    monkeypatch.undo()
    assert file.dropped_bytes == 153
    assert file.tail()[-1] == "y" * 50
    file.write(b"again\n")
    assert read(path).endswith(b"again\n")


FULL_DISK = """
import resource, signal, sys
from gimli.logs import OutputFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = OutputFile(sys.argv[1], 10_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, -1))
for number in range(100):
    file.write(b"%098d\\n" % number)
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
file.write(b"last\\n")
print(file.dropped_bytes)
"""


def test_a_full_disk_costs_output_and_counts_it(path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 90 * 99
    lines = read(path).splitlines()
    assert lines == [b"%098d" % number for number in range(10)] + [b"last"], "whole lines only"


@pytest.mark.parametrize("name", ["/dev/null", "/dev/stdout"])
def test_a_device_is_never_renamed(name):
    """`--log /dev/null` by root, and 10 MB later every program of the machine would write into a file."""
    target = os.path.realpath(name)
    script = "import sys; from gimli.logs import OutputFile; f = OutputFile(sys.argv[1], 100)\n"
    script += "for _ in range(50): f.write(b'x' * 9 + b'\\n')"
    before = os.stat(name)
    done = subprocess.run([sys.executable, "-c", script, name], stdout=subprocess.PIPE, check=True)
    assert os.path.samestat(before, os.stat(name)) or target.startswith("/proc")
    assert not os.path.lexists(name + ".1")
    assert name != "/dev/stdout" or len(done.stdout) == 500


def test_a_link_is_not_renamed(path, tmp_path):
    target = os.path.join(tmp_path, "elsewhere")
    os.symlink(target, path)
    file = OutputFile(path, CAP)
    for _ in range(30):
        file.write(b"x" * 99 + b"\n")
    assert os.path.islink(path)
    assert not os.path.exists(path + ".1")


def test_a_fifo_that_nobody_reads_does_not_stop_the_monitor(path):
    os.mkfifo(path)
    script = (
        "import sys; from gimli.logs import OutputFile; f = OutputFile(sys.argv[1], 100); f.write(b'lost')"
    )
    subprocess.run([sys.executable, "-c", script, path], check=True, timeout=20)


# Reading the end.


@given(
    st.lists(st.sampled_from([b"a\n", b"b" * 30 + b"\n", b"\r\n", b"\x0b\n", b"\xff\n", b"\n"]), max_size=50),
    st.binary(max_size=5).filter(lambda rest: b"\n" not in rest),
    st.integers(0, 60),
    st.integers(0, 50),
)  # fmt: skip
def test_the_last_lines_are_the_last_lines_across_the_rotation(tmp_path_factory, lines, rest, count, cut):
    path = os.path.join(tmp_path_factory.mktemp("logs"), "app.log")
    with open(path + ".1", "wb") as old, open(path, "wb") as new:
        old.write(b"".join(lines[:cut]))
        new.write(b"".join(lines[cut:]) + rest)
    everything = lines + ([rest] if rest else [])
    assert last_lines(path, count) == (everything[-count:] if count else [])


def test_the_end_of_a_large_log_is_found_from_behind(path):
    with open(path, "wb") as file:
        file.writelines(b"line %d\n" % number for number in range(100_000))
    assert last_lines(path, 2) == [b"line 99998\n", b"line 99999\n"]
    assert len(last_lines(path, 50_000, bytes_max=2_000_000)) == 50_000


def test_what_is_read_of_a_log_is_bounded_and_unbroken(path):
    """The monitor holds and sends it: it must not fall over `gimli logs -n 1000000`."""
    everything = [b"line %d\n" % number for number in range(100_000)]
    for name, part in ((path + ".1", everything[:30_000]), (path, everything[30_000:])):
        with open(name, "wb") as file:
            file.write(b"".join(part))
    for bytes_max in (1, 100_000, 500_000, 900_000, 10_000_000):
        lines = last_lines(path, 10**9, bytes_max=bytes_max)
        assert lines == everything[-len(lines) :]
        assert min(bytes_max, 1_088_890) - 70_000 < len(b"".join(lines)) < bytes_max + 70_000


def test_the_end_of_one_endless_line_is_better_than_nothing(path):
    with open(path, "wb") as file:
        file.write(b"x" * 1_000_000)
    assert 0 < len(b"".join(last_lines(path, 5, bytes_max=1000))) < 70_000


def test_a_log_that_is_not_there_has_no_lines(path):
    assert last_lines(path, 5) == []
