"""Files whose names are gone, out of the hands of a process that still holds them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gimli.monitor import nameless

pytestmark = pytest.mark.real


@pytest.fixture
def holder(tmp_path):
    """A process with a FIFO on standard output and a file on standard error."""
    fifo, page = str(tmp_path / "web.out"), str(tmp_path / "web.page")
    os.mkfifo(fifo)
    program = "import sys; sys.stdin.read()"
    with open(os.open(fifo, os.O_RDWR), "wb") as out, open(page, "wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", program], stdin=subprocess.PIPE, stdout=out, stderr=err
        )
    yield process.pid, fifo, page
    process.communicate()


def test_what_has_its_name_is_left_alone(holder):
    pid, fifo, page = holder
    assert nameless.reopen(pid, fifo) is None
    assert nameless.reopen(pid, page) is None


def test_a_fifo_is_the_same_pipe(holder):
    pid, fifo, _ = holder
    os.unlink(fifo)
    os.mkfifo(fifo)  # another one, of a new monitor
    fd = nameless.reopen(pid, fifo)
    assert fd is not None
    assert nameless.is_nameless(fd)
    with open(f"/proc/{pid}/fd/1", "wb") as out:
        out.write(b"said")
    assert os.read(fd, 10) == b"said"
    with pytest.raises(BlockingIOError):
        os.read(fd, 10)
    os.close(fd)


def test_a_file_can_be_written(holder):
    pid, _, page = holder
    os.unlink(page)
    fd = nameless.reopen(pid, page)
    assert fd is not None
    assert os.write(fd, b"beat") == 4
    os.close(fd)


def test_another_file_of_the_process_is_not_taken_for_it(holder, tmp_path):
    pid, fifo, page = holder
    os.unlink(fifo)
    assert nameless.reopen(pid, str(tmp_path / "db.out")) is None
    forged = str(tmp_path / "db.page (deleted)")  # a name that looks like the kernel's words
    os.rename(page, forged)
    assert os.readlink(f"/proc/{pid}/fd/2") == forged
    assert nameless.reopen(pid, str(tmp_path / "db.page")) is None


def test_a_process_that_is_gone_holds_nothing(tmp_path):
    done = subprocess.Popen(["true"])
    done.wait()
    assert nameless.reopen(done.pid, str(tmp_path / "web.out")) is None
