"""A service's output on its way to the log: nothing lost, nothing twice, whatever happens to the monitor."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from gimli.loop import Loop
from gimli.monitor import output
from gimli.monitor.config import Log
from gimli.monitor.output import Output
from gimli.monitor.spool import Spool

pytestmark = pytest.mark.real
KILLS = 150


@pytest.fixture
def memory():
    """A directory in memory, as the runtime directory of a real system is."""
    directory = tempfile.mkdtemp(prefix="gimli-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """A flood is over sooner than for an operator."""
    monkeypatch.setattr(output, "_QUIET_S", 0.3)


class Held:
    """An output with a loop, and a program's side of its FIFO."""

    def __init__(self, directory: str, log: Log) -> None:
        self.loop = Loop()
        self.told: list[dict] = []
        self.log = log
        self.directory = directory
        self.open()
        self.program = os.open(self.output.fifo_path, os.O_WRONLY)

    def open(self, packed: dict | None = None) -> None:
        """As the next monitor does."""
        self.spool = Spool(os.path.join(self.directory, "spool"))
        self.output = Output(
            os.path.join(self.directory, "app.out"),
            self.log,
            self.tell,
            self.loop.after,
            self.spool,
            packed=packed,
        )
        self.output.file.prepare()

    def tell(self, event: str, **details) -> None:
        """The journal."""
        self.told.append({"event": event, **details})

    def write(self, data: bytes) -> None:
        """The program writes, and the monitor is woken."""
        assert os.write(self.program, data) == len(data)
        self.output.drain()

    def text(self) -> bytes:
        """What stands in the log."""
        with open(self.log.file, "rb") as file:
            return file.read()

    def close(self) -> None:
        """The end of the monitor."""
        self.output.close()
        self.spool.close()
        os.close(self.program)


@pytest.fixture
def hold(memory, tmp_path):
    made: list[Held] = []

    def make(**options) -> Held:
        made.append(Held(memory, Log(os.path.join(tmp_path, "app.log"), **options)))
        return made[-1]

    yield make
    for held in made:
        with contextlib.suppress(OSError, ValueError):
            held.close()


def everything(path: str) -> bytes:
    """A log with all its predecessors, the oldest first."""
    names = sorted(
        (name for name in os.listdir(os.path.dirname(path)) if name.startswith(os.path.basename(path))),
        key=lambda name: -int(name.rpartition(".")[2]) if name[-1].isdigit() else 0,
    )
    parts = []
    for name in names:
        with open(os.path.join(os.path.dirname(path), name), "rb") as file:
            parts.append(file.read())
    return b"".join(parts)


# Folded, and told.


def test_repeats_that_nothing_follows_are_told_after_a_second(hold):
    held = hold()
    seen = []
    held.output.followers.append(seen.append)
    held.write(b"trying again\n" * 500)
    assert held.text() == b"trying again\n" * 3
    while b"repeated" not in held.text():
        held.loop.run_once()  # the deadline is all that can wake it
    assert held.text() == b"trying again\n" * 3 + b"gimli: last line repeated 497 times\n"
    assert b"".join(seen) == held.text(), "followers see what the file sees"


def test_without_folding_every_line_is_written(hold):
    held = hold(fold=False)
    held.write(b"trying again\n" * 500)
    assert held.text() == b"trying again\n" * 500


def test_who_reads_the_end_sees_what_was_held(hold):
    """The last lines in a report, and `gimli logs`."""
    held = hold()
    held.write(b"trying again\n" * 500)
    held.output.flush()
    assert held.output.file.tail()[-1] == "gimli: last line repeated 497 times"


def test_what_is_held_is_written_at_the_end(hold):
    held = hold()
    held.write(b"trying again\n" * 500)
    held.close()
    assert b"repeated 497 times" in held.text()
    assert not os.listdir(held.directory), "FIFO, mark and spool are gone"


@pytest.mark.slow
def test_a_rate_drops_whole_lines_says_how_many_and_is_over_when_it_is_quiet(hold):
    held = hold(rate_bytes=100_000)
    lines = [b"line %d\n" % number for number in range(60_000)]
    for start in range(0, len(lines), 5000):
        held.write(b"".join(lines[start : start + 5000]))
    (told,) = held.told
    assert (told["event"], told["why"]) == ("output-lost", "rate 100 kB/s")
    while len(held.told) < 2:
        held.loop.run_once()
    assert held.told[1]["event"] == "output-resumed"
    kept = held.text().splitlines(keepends=True)
    written = [line for line in kept if line.startswith(b"line")]
    assert set(written) <= set(lines)
    assert held.told[1]["bytes"] == len(b"".join(lines)) - len(b"".join(written))
    assert held.told[1]["lines"] == len(lines) - len(written)
    notes = [line for line in kept if not line.startswith(b"line")]
    assert sum(int(re.search(rb"in (\d+) lines dropped", note)[1]) for note in notes) == held.told[1]["lines"]


def test_below_the_floor_nothing_is_written_and_it_is_said_once(hold):
    held = hold(floor_bytes=1 << 60)
    for number in range(3):
        held.write(b"line %d\n" % number)
    assert held.text() == b""
    assert [entry["event"] for entry in held.told] == ["output-lost"]
    assert held.output.file.tail() == []


# A full disk.


@pytest.fixture
def full_disk(tmp_path):
    """A file system of 2 MB, with a file that takes all of it."""
    directory = os.path.join(tmp_path, "disk")
    os.mkdir(directory)
    if os.geteuid():
        pytest.skip("mounting needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", directory], check=True)
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


@pytest.mark.parametrize("floor", [0, None])
def test_a_full_disk_is_said_once_and_once_more_when_there_is_room(memory, full_disk, floor):
    held = Held(memory, Log(os.path.join(full_disk, "app.log"), floor_bytes=floor))
    lines = [b"%0199d\n" % number for number in range(20_000)]
    for start in range(0, 20_000, 100):
        held.write(b"".join(lines[start : start + 100]))
    assert [entry["event"] for entry in held.told] == ["output-lost"]
    assert held.told[0]["why"] in {"No space left on device", "less is free on the disk than is to stay free"}
    info = os.statvfs(full_disk)
    assert floor == 0 or info.f_bavail * info.f_frsize >= 16_000, "the floor stays free"
    text = held.text()
    assert text == b"".join(lines[: len(text) // 200]), "whole lines, from the first one on"
    os.truncate(held.log.file, 0)  # somebody makes room
    while not held.text():
        held.write(b"room\n")
        held.loop.after(0.1, lambda: None)
        held.loop.run_once()
    while len(held.told) < 2:
        held.loop.run_once()
    assert held.told[1]["event"] == "output-resumed"
    note, after = held.text().splitlines()[:2]
    assert re.fullmatch(rb"gimli: [\d.]+ MB in \d+ lines dropped: .*", note)
    assert after == b"room"
    held.close()


# Taken over, and adopted.


def test_a_takeover_goes_on_where_the_last_image_was(hold):
    held = hold()
    held.write(b"trying again\n" * 100 + b"trying")
    packed = json.loads(json.dumps(held.output.pack()))
    held.open(packed)
    held.write(b" again\n" * 1 + b"done\n")
    assert held.text() == b"trying again\n" * 3 + b"gimli: last line repeated 98 times\ndone\n"


def test_a_takeover_makes_no_mark_for_who_has_written_nothing(hold):
    """4 kB of memory and 45 us each, of a thousand services that are silent."""
    held = hold()
    before = sorted(os.listdir(held.directory))
    held.open(json.loads(json.dumps(held.output.pack())))
    assert sorted(os.listdir(held.directory)) == before


def test_the_next_monitor_knows_the_last_lines_of_the_one_before(hold):
    held = hold()
    held.write(b"before the crash\n")
    held.open()
    assert held.output.file.tail() == ["before the crash"]


@pytest.mark.parametrize("damage", [b"", b"\0" * 4096, b"\xff" * 4096, os.urandom(4096)])
def test_a_mark_that_is_none_is_passed_over(hold, damage):
    held = hold()
    held.write(b"before\n")
    with open(os.path.join(held.directory, "app.mark"), "wb") as file:
        file.write(damage)
    held.open()
    held.write(b"after\n")
    assert held.text() == b"before\nafter\n"


def test_a_runtime_directory_without_room_costs_safety_and_no_output(tmp_path):
    held = Held(str(tmp_path), Log(os.path.join(tmp_path, "app.log")))
    held.output.close()
    held.spool.close()
    os.mkdir(os.path.join(tmp_path, "app.mark"))
    os.mkdir(os.path.join(tmp_path, "spool"))
    held.open()
    held.output._page.read()
    os.close(held.program)
    held.program = os.open(held.output.fifo_path, os.O_WRONLY)
    held.write(b"line\n")
    assert held.text() == b"line\n"


# With the real logrotate.


def logrotate(held: Held, *directives: str) -> None:
    directory = os.path.dirname(held.log.file)
    config = os.path.join(directory, "logrotate.conf")
    with open(config, "w", encoding="utf-8") as file:
        file.write("\n".join([f"{held.log.file} {{", "rotate 5", "su root root", *directives, "}\n"]))
    program = shutil.which("logrotate", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None or os.geteuid():
        pytest.skip("needs logrotate, and root")
    command = [program, "--force", "--state", os.path.join(directory, "status"), config]
    subprocess.run(command, check=True)


def test_logrotate_with_copytruncate_leaves_no_hole(hold):
    held = hold()
    for number in range(3):
        held.write(b"line %d\n" % number)
        logrotate(held, "copytruncate")
        assert held.text() == b""
    held.write(b"last\n")
    assert held.text() == b"last\n"
    assert everything(held.log.file) == b"line 0\nline 1\nline 2\nlast\n"


def test_logrotate_that_renames_and_sends_a_hup_loses_nothing(hold):
    held = hold()
    for number in range(3):
        held.write(b"line %d\n" % number)
        logrotate(held, "nocreate")
        held.write(b"between %d\n" % number)  # still to the renamed file, until the HUP
        held.output.file.reopen()
    held.write(b"last\n")
    text = b"".join(b"line %d\nbetween %d\n" % (number, number) for number in range(3)) + b"last\n"
    assert everything(held.log.file) == text


# Killed at any moment.


def in_a_child(work) -> int:
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(1)
    return pid


def blocks():
    """What the program writes: single lines, bursts, repeats, long lines. The same each time."""
    chance = random.Random(3)
    number = 0
    while True:
        lines = []
        for _ in range(chance.choice((1, 1, 2, 500, 3000))):
            lines.append(b"%d %s" % (number, b"." * chance.choice((0, 1, 40, 40, 40, 900))))
            lines += [b"trying again"] * chance.choice((0, 0, 0, 0, 9))
            number += 1
        yield b"\n".join(lines) + b"\n"


def write_blocks(fifo: str, stop_fd: int, done_fd: int) -> None:
    """As a service does: it holds the FIFO for reading too. Then it says how many blocks it wrote."""
    fd = os.open(fifo, os.O_RDWR)
    count = 0
    for block in blocks():
        count += 1
        data = block[os.write(fd, block[: count % 3]) :] if count % 3 else block  # single bytes too
        while data:
            data = data[os.write(fd, data) :]
        if select.select([stop_fd], [], [], 0)[0]:
            break
    os.write(done_fd, b"%d" % count)
    signal.pause()  # the FIFO lives as long as somebody holds it


def collect(directory: str, log: Log) -> None:
    """A monitor, as far as output is concerned."""
    spool = Spool(os.path.join(directory, "spool"))
    loop = Loop()
    output = Output(os.path.join(directory, "app.out"), log, lambda *_, **__: None, loop.after, spool)
    loop.watch(output.fd, output.drain)
    while True:
        loop.run_once()


@pytest.mark.slow
@pytest.mark.parametrize("fold", [True, False])
def test_killed_at_random_moments_all_output_is_in_the_log_once(memory, tmp_path, fold):
    log = Log(os.path.join(tmp_path, "app.log"), cap_bytes=3_000_000, keep=10_000, fold=fold)
    fifo = os.path.join(memory, "app.out")
    os.mkfifo(fifo)
    stop_read, stop = os.pipe()
    done, done_write = os.pipe()
    program = in_a_child(lambda: write_blocks(fifo, stop_read, done_write))
    chance = random.Random(5)
    try:
        for number in range(KILLS + 1):
            collector = in_a_child(lambda: collect(memory, log))
            if number < KILLS:
                time.sleep(chance.uniform(0.001, 0.009))  # the moment is what the test is about
            else:
                os.write(stop, b"x")
                assert select.select([done], [], [], 20)[0]
            os.kill(collector, signal.SIGKILL)
            os.waitpid(collector, 0)
        held = Held(memory, log)
        held.close()
    finally:
        os.kill(program, signal.SIGKILL)
        os.waitpid(program, 0)
        count = int(os.read(done, 20))
        for fd in (stop_read, stop, done, done_write):
            os.close(fd)
    expected = b"".join(itertools.islice(blocks(), count))
    text = everything(log.file)
    print(f"\n{len(expected) / 1e6:.0f} MB, {count} blocks, {len(text) / 1e6:.0f} MB in the log")
    first = next(
        (at for at, (x, y) in enumerate(zip(unfolded(text), expected, strict=False)) if x != y), None
    )
    assert unfolded(text) == expected, f"differs from byte {first} on"


def unfolded(text: bytes) -> bytes:
    return re.sub(
        rb"(trying again\n)gimli: last line repeated (\d+) times\n",
        lambda match: match[1] * (1 + int(match[2])),
        text,
    )
