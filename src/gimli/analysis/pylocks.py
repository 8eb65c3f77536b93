"""Which Python locks does a thread wait for, and which does it hold?

A ``threading.Lock`` does not record its owner, but the source does: a thread that stands at ``with second:``
waits for it, and holds what the ``with`` statements around that line took. Which object a name means is
told by the variables of the frame, as far as they reach. Pure: the source comes in as text.
"""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gimli.analysis.evidence import PythonFrame
    from gimli.report import Frame

_ADDRESS = re.compile(r" at (0x[0-9a-f]+)")
_LOCKING = re.compile(r"acquire_lock|lock_acquire|rlock_acquire|PyMutex_Lock|lock_PyThread|acquire_timed")
_STANDARD_LOCKS = re.compile(r"/threading\.py$")

Key = tuple[str, ...]
"""What identifies a lock: an object's address, ``("attribute", "0x7f..", ".lock")``, ``("name", "lock")``."""

# How sure two sightings are of the same lock when they share a key of this kind.
SURE = {"object": 0.97, "attribute": 0.96, "global": 0.95, "name": 0.6}
_EXPLICIT = 0.75
"""``acquire()`` before a line, with no ``release()`` between: the path that was taken is not known."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A lock as one line of source names it."""

    name: str
    keys: tuple[Key, ...]
    frame: Frame
    line: int
    confidence: float
    """Of the line's waiting for it or holding it, apart from which object it is."""


def is_lock_wait(frames: Sequence[Frame]) -> bool:
    """The calls above the innermost Python one take a Python lock."""
    for frame in frames:
        if frame.language == "python":
            return False
        if _LOCKING.search(frame.function):
            return True
    return False


def waits(python: Sequence[PythonFrame], source: Callable[[str], str]) -> list[Sighting]:
    """Locks that the innermost frame's line may be waiting for; usually one.

    Args:
        python: the thread's frames, innermost first.
        source: the text of a source file, empty when it cannot be read.
    """
    if not python or _STANDARD_LOCKS.search(python[0].frame.file or ""):
        return []  # A condition, an event, a queue: waiting there is not waiting for an owner.
    frame = python[0].frame
    return [_sight(use, frame) for use in _taken_at(source(frame.file or ""), frame.line or 0)]


def holds(python: Sequence[PythonFrame], source: Callable[[str], str]) -> list[Sighting]:
    """What may be locks, taken by all frames of a thread around the lines where they stand."""
    return [
        _sight(use, each.frame)
        for each in python
        for use in _held_at(source(each.frame.file or ""), each.frame.line or 0)
    ]


@dataclass(frozen=True, slots=True)
class _Use:
    """An expression that is taken as a lock, in the source alone."""

    node: ast.expr
    line: int
    confidence: float


# Many threads stand at few lines, and looking through a large module takes milliseconds.
@functools.lru_cache(maxsize=4096)
def _taken_at(text: str, line: int) -> tuple[_Use, ...]:
    """What a line takes."""
    found: list[_Use] = []
    for node in ast.walk(_parse(text)):
        if isinstance(node, ast.With) and _in_header(node, line):
            items = [item.context_expr for item in node.items if _names_object(item.context_expr)]
            found += [_Use(each, line, 1.0 if len(items) == 1 else 0.8) for each in items]
        elif isinstance(node, ast.Call) and node.lineno <= line <= (node.end_lineno or 0):
            lock = _method_target(node, "acquire")
            # With arguments it may have a time limit, and then it is not stuck for ever.
            found += [_Use(lock, line, 0.6 if node.args or node.keywords else 0.95)] if lock else []
    return tuple(found)


@functools.lru_cache(maxsize=4096)
def _held_at(text: str, line: int) -> tuple[_Use, ...]:
    """What a function has taken, and not given back, where it stands at a line."""
    function = _enclosing(_parse(text), line)
    if function is None:
        return ()
    found = [
        _Use(item.context_expr, node.lineno, 1.0)
        for node in _statements(function)
        if isinstance(node, ast.With) and _in_body(node, line)
        for item in node.items
        if _names_object(item.context_expr)
    ]
    return (*found, *_acquired_before(function, line))


def _acquired_before(function: ast.AST, line: int) -> list[_Use]:
    """Locks with an ``acquire()`` above the line and no ``release()`` in between."""
    taken: dict[str, _Use] = {}
    calls = [
        node for node in _statements(function) if isinstance(node, ast.Call) and (node.end_lineno or 0) < line
    ]
    for call in sorted(calls, key=lambda node: node.lineno):
        if lock := _method_target(call, "acquire"):
            taken[ast.unparse(lock)] = _Use(lock, call.lineno, _EXPLICIT)
        elif lock := _method_target(call, "release"):
            taken.pop(ast.unparse(lock), None)
    return list(taken.values())


@functools.lru_cache(maxsize=64)
def _parse(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module(body=[], type_ignores=[])


def _enclosing(tree: ast.Module, line: int) -> ast.AST | None:
    """The innermost function around a line, else the module; None when there is no source."""
    functions = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.lineno < line <= (node.end_lineno or 0)
    ]
    return max(functions, key=lambda node: node.lineno, default=tree if tree.body else None)


def _statements(function: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a function, but not those of functions defined within it: they run at another time."""
    pending = list(ast.iter_child_nodes(function))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        yield node
        pending += ast.iter_child_nodes(node)


def _in_header(node: ast.With, line: int) -> bool:
    return node.lineno <= line <= max(item.context_expr.end_lineno or 0 for item in node.items)


def _in_body(node: ast.With, line: int) -> bool:
    # The body of a one-line `with` stands on its header's line: there the thread waits, as far as is known.
    return not _in_header(node, line) and node.lineno < line <= (node.end_lineno or 0)


def _names_object(node: ast.expr) -> bool:
    """``lock``, ``self.lock``, ``locks[i]``: not a call, which makes something new."""
    return isinstance(node, ast.Name | ast.Attribute | ast.Subscript)


def _method_target(call: ast.Call, method: str) -> ast.expr | None:
    function = call.func
    return function.value if isinstance(function, ast.Attribute) and function.attr == method else None


def _sight(use: _Use, frame: Frame) -> Sighting:
    return Sighting(ast.unparse(use.node), _keys(use.node, frame), frame, use.line, use.confidence)


def _keys(node: ast.expr, frame: Frame) -> tuple[Key, ...]:
    """Everything that identifies the object an expression names, the surest first."""
    values = {variable.name: variable.value for variable in frame.variables}
    base, path = _split(node, values)
    keys: list[Key] = []
    if base is not None:
        value = values.get(base)
        address = _ADDRESS.search(value) if value else None
        if address:
            keys.append(("attribute", address[1], path) if path else ("object", address[1]))
        elif value is None:
            keys.append(("global", frame.file or "", base + path))
    keys.append(("name", ast.unparse(node).rpartition(".")[2]))
    return tuple(keys)


def _split(node: ast.expr, values: dict[str, str]) -> tuple[str | None, str]:
    """``self.locks[i].x`` as its first name and the rest, with the value of ``i`` in place of the name."""
    if isinstance(node, ast.Name):
        return node.id, ""
    if isinstance(node, ast.Attribute):
        base, path = _split(node.value, values)
        return base, f"{path}.{node.attr}"
    if isinstance(node, ast.Subscript):
        base, path = _split(node.value, values)
        index = ast.unparse(node.slice)
        return base, f"{path}[{values.get(index, index)}]"
    return None, ""


def same_lock(one: Sighting, other: Sighting) -> float:
    """How sure it is that two sightings are of one lock; 0.0 when nothing says so."""
    shared = {key[0] for key in one.keys} & {key[0] for key in other.keys if key in one.keys}
    for kind, sure in SURE.items():
        if kind not in shared:
            continue
        if kind == "name" and _known_different(one, other):
            return 0.0
        return sure
    return 0.0


def _known_different(one: Sighting, other: Sighting) -> bool:
    """Both are identified, in the same way, and not as the same."""
    strong_one = {key[0] for key in one.keys if key[0] != "name"}
    strong_other = {key[0] for key in other.keys if key[0] != "name"}
    return bool(strong_one & strong_other)
