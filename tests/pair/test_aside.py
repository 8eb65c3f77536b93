"""Work that a thread does for the loop."""

import select
import threading

import pytest

from gimli.pair.aside import Aside


def wait(aside):
    assert select.select([aside], [], [], 20)[0]


@pytest.fixture
def make():
    made = []

    def make_one(work):
        made.append(Aside("test", work))
        return made[-1]

    yield make_one
    for aside in made:
        aside.close()


def test_what_is_found_is_handed_over_in_order(make):
    numbers = iter(range(3))
    aside = make(lambda: next(numbers))
    seen = []
    for _ in range(3):
        aside.tell()
        wait(aside)
        seen += aside.take()
    assert seen == [0, 1, 2]
    assert aside.take() == []


def test_told_twice_before_it_has_begun_it_works_once(make):
    begun, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def work():
        begun.release()
        go_on.acquire()
        return "done"

    aside = make(work)
    aside.tell()
    begun.acquire()
    for _ in range(5):
        aside.tell()
    go_on.release()
    begun.acquire()
    go_on.release()
    wait(aside)
    while len(found := aside.take()) < 1:
        wait(aside)
    assert set(found) == {"done"}
    assert not begun.acquire(blocking=False)


def test_nothing_found_rings_no_bell(make):
    worked = threading.Event()
    aside = make(worked.set)
    aside.tell()
    assert worked.wait(20)
    assert not select.select([aside], [], [], 0)[0]


def test_work_that_fails_fails_in_the_loop(make):
    aside = make(lambda: 1 // 0)
    aside.tell()
    wait(aside)
    with pytest.raises(ZeroDivisionError):
        aside.take()
