"""What is a frozen value of this project made of?

``@value`` is ``@dataclass(frozen=True, slots=True, kw_only=False)`` to a reader and to the type checker.
It exists because the monitor's image must stay small: importing ``dataclasses`` brings ``inspect`` and
with it 2.5 MB and 15 ms into a process whose whole budget is 12 MB (docs/decisions/0001-small-monitor.md).
Modules that the monitor does not load use ``dataclasses`` as everybody does.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar, dataclass_transform

    T = TypeVar("T")

    @dataclass_transform(frozen_default=True)
    def value(cls: type[T]) -> type[T]:
        """Make ``cls`` a frozen, slotted value with one argument per annotation."""
        raise NotImplementedError
else:

    def value(cls):  # noqa: ANN001, ANN201 - typed above, where the checker looks
        """Make ``cls`` a frozen, slotted value with one argument per annotation."""
        names = tuple(cls.__annotations__)
        namespace = dict(cls.__dict__)
        defaults = {name: namespace.pop(name) for name in names if name in namespace}
        for name in ("__dict__", "__weakref__"):
            namespace.pop(name, None)
        namespace |= {
            "__slots__": names,
            "__match_args__": names,
            "__init__": _initializer(names, defaults),
            "__setattr__": _refuse,
            "__delattr__": _refuse,
            "__eq__": _equals,
            "__hash__": _hash,
            "__repr__": _represent,
        }
        made = type(cls)(cls.__name__, cls.__bases__, namespace)
        made.__qualname__ = cls.__qualname__
        return made


def replace(instance: T, **changes: Any) -> T:
    """A copy of a value with some of its fields changed.

    Raises:
        TypeError: a name in ``changes`` is not a field.
    """
    fields = {name: getattr(instance, name) for name in type(instance).__match_args__}  # type: ignore[attr-defined]  # set by @value
    return type(instance)(**(fields | changes))


def fields_of(instance: object) -> dict[str, Any]:
    """The fields of a value by name, in order, not recursive."""
    return {name: getattr(instance, name) for name in type(instance).__match_args__}  # type: ignore[attr-defined]  # set by @value


_PLAIN = frozenset({str, int, float, bool, type(None)})


def plain(item: Any) -> Any:
    """A value, and the values, enums and tuples in it, as JSON has them."""
    kind = type(item)
    if kind in _PLAIN:
        return item
    if kind is tuple or kind is list:
        return [plain(part) for part in item]
    names = getattr(kind, "__match_args__", None)
    if names is not None:
        return {name: plain(getattr(item, name)) for name in names}
    return item.value if hasattr(kind, "__members__") else item  # enum is not imported everywhere


def _initializer(names: tuple[str, ...], defaults: dict[str, Any]) -> Callable[..., None]:
    """Compile ``__init__``: a call of plain code, as fast as one written by hand."""
    arguments = ", ".join(f"{name}=_defaults[{name!r}]" if name in defaults else name for name in names)
    body = "".join(f"\n    _set(self, {name!r}, {name})" for name in names) or "\n    pass"
    scope: dict[str, Any] = {"_defaults": defaults, "_set": object.__setattr__}
    exec(f"def __init__(self{', ' if arguments else ''}{arguments}):{body}", scope)  # noqa: S102 - the text is made of identifiers only
    initializer: Callable[..., None] = scope["__init__"]
    return initializer


def _refuse(self: object, name: str, *_: object) -> None:
    raise AttributeError(f"{type(self).__name__} is frozen: cannot set {name!r}")


def _equals(self: object, other: object) -> bool:
    return type(self) is type(other) and fields_of(self) == fields_of(other)


def _hash(self: object) -> int:
    return hash((type(self), *fields_of(self).values()))


def _represent(self: object) -> str:
    inside = ", ".join(f"{name}={item!r}" for name, item in fields_of(self).items())
    return f"{type(self).__qualname__}({inside})"
