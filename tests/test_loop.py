"""The event loop, with pipes."""

from __future__ import annotations

import os

import pytest

from gimli import clock
from gimli.loop import READ, WRITE, Loop


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def pipes():
    made = [os.pipe() for _ in range(2)]
    yield made
    for fd in (fd for pipe in made for fd in pipe):
        os.close(fd)


def test_a_callback_is_called_while_its_descriptor_is_ready(loop, pipes):
    (read_fd, write_fd), _ = pipes
    called = []
    loop.watch(read_fd, called.append)
    os.write(write_fd, b"x")
    loop.run_once()
    loop.run_once()
    assert called == [READ, READ]
    loop.forget(read_fd)
    loop.forget(read_fd)  # twice is no mistake


def test_other_events_can_be_waited_for(loop, pipes):
    _, (_, write_fd) = pipes
    called = []
    loop.watch(write_fd, called.append, READ)
    loop.change(write_fd, WRITE)
    loop.run_once()
    assert called == [WRITE]


def test_a_number_that_was_closed_and_given_away_in_the_same_round_is_not_taken_for_the_old_one(loop, pipes):
    """The new owner's callback may wait for something that is not there: an exit, for one."""
    (first_fd, first_write_fd), (second_fd, second_write_fd) = pipes
    called = []

    def close_and_replace(own_fd: int, other_fd: int) -> None:
        called.append("one of the two")
        loop.forget(own_fd)
        loop.forget(other_fd)
        loop.watch(other_fd, lambda _: called.append("the new owner"))

    loop.watch(first_fd, lambda _: close_and_replace(first_fd, second_fd))
    loop.watch(second_fd, lambda _: close_and_replace(second_fd, first_fd))
    os.write(first_write_fd, b"x")
    os.write(second_write_fd, b"x")
    loop.run_once()
    assert called == ["one of the two"]
    loop.run_once()  # it was ready indeed, and is told so in its turn
    assert called == ["one of the two", "the new owner"]


def test_deadlines_come_in_their_order(loop):
    called = []
    now_ns = clock.monotonic_ns()
    for number in (3, 1, 2):
        loop.at(now_ns + number, lambda number=number: called.append(number))
    loop.run_once()
    assert called == [1, 2, 3]


def test_a_cancelled_deadline_does_not_come_and_wakes_nobody(loop):
    called = []
    loop.after(0, lambda: called.append("cancelled")).cancel()
    loop.after(0.001, lambda: called.append("kept"))
    loop.run_once()
    while not called:
        loop.run_once()
    assert called == ["kept"]


def test_deadlines_that_are_moved_again_and_again_do_not_pile_up(loop):
    """A program that rings for each of its jobs, under a watchdog of an hour."""
    called = []
    kept = [loop.at(number, lambda number=number: called.append(number)) for number in range(200, 0, -1)]
    for _ in range(10_000):
        loop.after(3600, lambda: called.append("moved")).cancel()
    assert len(loop._deadlines) <= 2 * len(kept) + 101
    loop.run_once()
    assert called == list(range(1, 201))


def test_a_deadline_that_cancels_the_next(loop):
    called = []
    second = loop.at(2, lambda: called.append("second"))
    loop.at(1, lambda: (called.append("first"), second.cancel()))
    loop.run_once()
    assert called == ["first"]


@pytest.mark.parametrize("delay_s", [0.0, 1.0, 30 * 86400.0, 2.0**64 / 1e9])
def test_any_deadline_is_a_time_that_epoll_can_wait(loop, delay_s):
    """`--watchdog 30d` is allowed, and a page may hold a pulse of centuries; epoll takes 24 days."""
    loop.after(delay_s, lambda: None)
    timeout_s = loop._timeout_s()
    assert 0 <= timeout_s <= min(delay_s, 24 * 86400)


def test_without_a_deadline_it_sleeps_for_ever(loop):
    assert loop._timeout_s() is None
    loop.after(5, lambda: None).cancel()
    assert loop._timeout_s() is None
