"""A FIFO is read at once, or after a pause when its program keeps writing; nothing is left in it."""

from __future__ import annotations

import os
import time

import pytest

from gimli.loop import Loop
from gimli.monitor.pace import Pace


class Sink:
    """Takes what is in a pipe, and remembers how much at a time."""

    def __init__(self) -> None:
        self.fd, self.program = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.pieces: list[int] = []

    def drain(self, least: int = 1) -> int:
        """As ``Output.drain``."""
        assert least > 1
        try:
            taken = len(os.read(self.fd, 65_536))
        except BlockingIOError:
            return 0
        self.pieces.append(taken)
        return taken


@pytest.fixture
def sink():
    made = Sink()
    yield made
    os.close(made.fd)
    os.close(made.program)


class Clock:
    """Time that passes when it is told to; the loop does not sleep before a deadline of it."""

    now_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ns


def test_a_line_that_comes_alone_is_taken_at_once(sink):
    clock = Clock()
    loop = Loop(now_ns=clock)
    Pace(loop, sink)
    for _ in range(3):
        os.write(sink.program, b"line\n")
        loop.run_once()
        clock.now_ns += 10_000_000
    assert sink.pieces == [5, 5, 5]


def test_lines_close_together_are_taken_together_and_the_last_is_not_forgotten(sink):
    """The second of two wakes the monitor once more; what follows waits for the pause."""
    clock = Clock()
    loop = Loop(now_ns=clock)
    pace = Pace(loop, sink)
    for _ in range(2):
        os.write(sink.program, b"line\n")
        loop.run_once()
    assert sink.pieces == [5, 5]
    for _ in range(10):
        os.write(sink.program, b"line\n")
    clock.now_ns += 5_000_000
    loop.run_once()
    assert sink.pieces == [5, 5, 50]
    clock.now_ns += 5_000_000
    loop.run_once()  # nothing came: from now on it is woken again
    os.write(sink.program, b"line\n")
    loop.run_once()
    assert sink.pieces == [5, 5, 50, 5]
    pace.close()


def test_the_pause_is_short_when_much_has_come(sink):
    """Else the FIFO would be full, and the program would have to wait."""
    clock = Clock()
    loop = Loop(now_ns=clock)
    Pace(loop, sink)
    for _ in range(2):
        os.write(sink.program, b"." * 60_000)
        loop.run_once()
    os.write(sink.program, b"line\n")
    clock.now_ns += 1_000_000
    loop.run_once()
    assert sink.pieces == [60_000, 60_000, 5]


def test_a_pace_that_is_closed_in_a_pause_reads_no_more(sink):
    clock = Clock()
    loop = Loop(now_ns=clock)
    pace = Pace(loop, sink)
    for _ in range(2):
        os.write(sink.program, b"line\n")
        loop.run_once()
    pace.close()
    os.write(sink.program, b"line\n")
    clock.now_ns += 5_000_000
    loop.after(0.0, lambda: None)
    loop.run_once()
    assert sink.pieces == [5, 5]


def test_a_stream_wakes_the_monitor_a_few_hundred_times_a_second_at_most(sink):
    """The claim itself, on the real clock."""
    loop = Loop()
    Pace(loop, sink)
    began_s = time.monotonic()
    written = 0
    while (passed_s := time.monotonic() - began_s) < 0.1:
        os.write(sink.program, b"line\n")
        written += 5
        loop.run_once()
    assert sum(sink.pieces) >= written - 5
    assert len(sink.pieces) < 4 + passed_s / 0.004
