"""Locks by source and variables."""

from __future__ import annotations

import pytest

from gimli.analysis import pylocks
from gimli.analysis.evidence import PythonFrame
from gimli.report import Frame, Variable

SOURCE = """\
def commit(self, order):
    with self.ledger:
        log(order)
        with self.index:
            store(order)

def explicit(a, b):
    a.acquire()
    b.acquire()
    b.release()
    work()

def both(x, y):
    with x, y:
        work()

def opened(path, lock):
    with open(path) as file, lock:
        work()

def nested(lock):
    with lock:
        def inner():
            work()
        work()

with table[key].lock:
    work()
"""


def frame(line: int, function: str = "f", file: str = "shop.py", **variables: str) -> PythonFrame:
    made = Frame(
        "python", function, file, line, variables=tuple(Variable(k, "", v) for k, v in variables.items())
    )
    return PythonFrame(made, entry=True, last_line=line)


def source(path: str) -> str:
    return SOURCE if path == "shop.py" else ""


def names(sightings) -> list[str]:
    return [each.name for each in sightings]


@pytest.mark.parametrize(
    ("line", "waits", "holds"),
    [
        (2, ["self.ledger"], []),
        (3, [], ["self.ledger"]),
        (4, ["self.index"], ["self.ledger"]),
        (5, [], ["self.ledger", "self.index"]),
        (8, ["a"], []),
        (9, ["b"], ["a"]),
        (11, [], ["a"]),
        (14, ["x", "y"], []),
        (15, [], ["x", "y"]),
        (19, [], ["lock"]),
        (24, [], []),  # an inner function runs at another time, without the lock around its definition
        (25, [], ["lock"]),
        (27, ["table[key].lock"], []),
        (28, [], ["table[key].lock"]),
        (999, [], []),
    ],
)
def test_a_line_waits_for_its_own_with_and_holds_those_around_it(line, waits, holds):
    assert names(pylocks.waits([frame(line)], source)) == waits
    assert sorted(names(pylocks.holds([frame(line)], source))) == sorted(holds)


def test_callers_hold_their_locks_too():
    stack = [frame(28, "g", file="gone.py"), frame(3)]
    assert names(pylocks.holds(stack, source)) == ["self.ledger"]


def test_a_wait_within_threading_is_for_no_owner():
    assert pylocks.waits([frame(2, file="/usr/lib/python3.11/threading.py")], lambda _: SOURCE) == []


def sighted(line: int, **variables: str) -> pylocks.Sighting:
    return pylocks.waits([frame(line, **variables)], source)[0]


def test_an_attribute_of_one_object_is_one_lock():
    one = sighted(2, self="<Shop at 0x7f10>")
    assert pylocks.same_lock(one, sighted(2, self="<Shop at 0x7f10>")) > 0.9
    assert pylocks.same_lock(one, sighted(2, self="<Shop at 0x7f20>")) == 0.0


def test_an_unknown_object_is_told_by_its_name_with_less_confidence():
    one, other = sighted(2, self="<Shop at 0x7f10>"), sighted(2)
    assert 0 < pylocks.same_lock(one, other) < 0.7


def test_an_index_counts_by_its_value():
    one = sighted(27, table="<dict at 0x1f>", key="1")
    assert pylocks.same_lock(one, sighted(27, table="<dict at 0x1f>", key="1")) > 0.9
    assert pylocks.same_lock(one, sighted(27, table="<dict at 0x1f>", key="2")) == 0.0


@pytest.mark.parametrize("text", ["def f(:", "\0", "x = " + "(" * 1000])
def test_source_that_is_no_python_says_nothing(text):
    assert pylocks.waits([frame(2)], lambda _: text) == []
    assert pylocks.holds([frame(2)], lambda _: text) == []
