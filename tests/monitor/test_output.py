"""A service's output on its way to the log: nothing lost, nothing twice, whatever happens to the monitor."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import select
import shutil
import signal
import tempfile
import time

import pytest

from gimli.monitor.config import Log
from gimli.monitor.loop import Loop
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
        self.spool = Spool(os.path.join(self.directory, "spool"))
        self.output = Output(
            os.path.join(self.directory, "app.out"), self.log, self.tell, self.loop.after, self.spool, packed
        )

    def tell(self, event: str, **details) -> None:
        self.told.append({"event": event, **details})

    def write(self, data: bytes) -> None:
        assert os.write(self.program, data) == len(data)
        self.output.drain()

    def text(self) -> bytes:
        with open(self.log.file, "rb") as file:
            return file.read()

    def close(self) -> None:
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
