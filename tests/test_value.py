"""``@value`` behaves as the dataclass that its readers and the type checker take it for."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from dataclasses import replace as dataclass_replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.value import fields_of, replace, value


@value
class Point:
    """A value with a default, a method, and a property."""

    x: int
    y: int = 2
    name: str | None = None

    @property
    def sum(self) -> int:
        """Both."""
        return self.x + self.y

    @classmethod
    def origin(cls) -> Point:
        """Made by the class."""
        return cls(0, 0)


@dataclass(frozen=True, slots=True)
class Same:
    """The dataclass that ``Point`` stands for."""

    x: int
    y: int = 2
    name: str | None = None


@value
class Other:
    """The same fields as ``Point``, and another thing."""

    x: int
    y: int = 2
    name: str | None = None


@value
class Empty:
    """No fields."""


numbers = st.integers(-3, 3)
arguments = st.one_of(
    st.tuples(numbers), st.tuples(numbers, numbers), st.tuples(numbers, numbers, st.none() | st.text())
)


@given(arguments, arguments)
def test_equality_hash_and_representation_are_a_dataclass_own(one, two):
    assert (Point(*one) == Point(*two)) == (Same(*one) == Same(*two))
    assert (hash(Point(*one)) == hash(Point(*two))) >= (Same(*one) == Same(*two))
    assert repr(Point(*one)) == repr(Same(*one)).replace("Same", "Point")
    assert fields_of(Point(*one)) == {name: getattr(Same(*one), name) for name in ("x", "y", "name")}


@given(arguments, numbers)
def test_replace_is_a_dataclass_own(given_arguments, changed):
    made = replace(Point(*given_arguments), y=changed)
    assert repr(made) == repr(dataclass_replace(Same(*given_arguments), y=changed)).replace("Same", "Point")


@pytest.mark.parametrize("arguments", [(), (1, 2, "a", 4)])
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(TypeError):
        Point(*arguments)
    with pytest.raises(TypeError):
        Point(1, z=3)
    with pytest.raises(TypeError):
        replace(Point(1), z=3)


def test_arguments_have_names_and_defaults():
    assert Point(y=3, x=1) == Point(1, 3)
    assert Point(1) == Point(1, 2, None)
    assert Point.origin().sum == 0


def test_values_of_two_classes_are_never_equal():
    """Events without fields would all be one otherwise."""
    assert Point(1) != Other(1)
    assert Point(1) != (1, 2, None)
    assert len({Point(1), Other(1), Point(1)}) == 2
    assert Empty() == Empty()
    assert repr(Empty()) == "Empty()"


@pytest.mark.parametrize("name", ["x", "z"])
def test_a_value_is_frozen(name):
    point = Point(1)
    with pytest.raises(AttributeError, match=f"Point is frozen: cannot set '{name}'"):
        setattr(point, name, 5)
    with pytest.raises(AttributeError):
        del point.x
    assert issubclass(FrozenInstanceError, AttributeError)  # so that nobody can tell the difference
    assert not hasattr(point, "__dict__")


def test_a_value_can_be_matched():
    match Point(1, 2):
        case Point(5, _):
            pytest.fail("5 is not 1")
        case Point(x, y=2):
            assert x == 1


def test_a_nested_value_has_its_qualified_name():
    class Outside:
        @value
        class Inside:
            x: int

    assert repr(Outside.Inside(1)).endswith("Outside.Inside(x=1)")


def test_a_value_with_something_mutable_has_no_hash():
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point([]))  # type: ignore[arg-type]  # that is the point
