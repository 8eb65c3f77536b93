"""Which pointers does the line that faulted follow?

Finds the expressions of a C-like source line that are dereferenced (``route`` and ``route->next`` in
``route->next->id``, ``p`` in ``*p = 1``) and reads their values from the frame.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from drgn import Object, StackFrame, TypeKind

from gimli.analysis.evidence import Pointer
from gimli.analysis.variables import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHAIN = re.compile(
    r"(?P<star>\*\s*)?(?P<chain>[A-Za-z_]\w*(?:\s*(?:->|\.)\s*[A-Za-z_]\w*|\s*\[\s*\w+\s*\])*)"
)
_STEP = re.compile(r"(?P<how>->|\.)\s*(?P<member>[A-Za-z_]\w*)|\[\s*(?P<index>\w+)\s*\]")
_EXPRESSIONS_MAX = 40


def pointers_of(frame: StackFrame, source_line: str) -> tuple[Pointer, ...]:
    """Pointers that the line follows, first, then the other pointer variables of the frame."""
    found: dict[str, Pointer] = {}
    for match in list(_CHAIN.finditer(source_line))[:_EXPRESSIONS_MAX]:
        for pointer in _walk(frame, match["chain"], starred=bool(match["star"])):
            if pointer.expression not in found or pointer.dereferenced:
                found[pointer.expression] = pointer
    for name in _local_names(frame):
        if name not in found and (value := _pointer_value(_lookup(frame, name))) is not None:
            found[name] = Pointer(name, value, dereferenced=False)
    return tuple(sorted(found.values(), key=lambda each: not each.dereferenced))


def _walk(frame: StackFrame, chain: str, *, starred: bool) -> Iterator[Pointer]:
    """Every prefix of ``a->b[i].c`` that is a pointer, with its value."""
    head = re.match(r"\w+", chain)
    current = _lookup(frame, head[0]) if head else None
    at = head.end() if head else 0
    for step in _STEP.finditer(chain, at):
        value = _pointer_value(current)
        if value is not None:
            yield Pointer(chain[:at].strip(), value, dereferenced=step["how"] != ".")
        current = _step(frame, current, step)
        at = step.end()
    value = _pointer_value(current)
    if value is not None:
        yield Pointer(chain[:at].strip(), value, dereferenced=starred)


def _step(frame: StackFrame, current: Object | None, step: re.Match[str]) -> Object | None:
    if current is None:
        return None
    try:
        if step["member"]:
            return current.member_(step["member"])
        index = int(step["index"]) if step["index"].isdecimal() else _lookup(frame, step["index"])
        return current[index] if index is not None else None
    except UNREADABLE:
        return None


def _lookup(frame: StackFrame, name: str) -> Object | None:
    try:
        return frame[name]
    except UNREADABLE:
        return None


def _local_names(frame: StackFrame) -> list[str]:
    try:
        return list(frame.locals())
    except UNREADABLE:
        return []


def _pointer_value(found: Object | None) -> int | None:
    if found is None or found.absent_:
        return None
    kind = found.type_
    while kind.kind == TypeKind.TYPEDEF:
        kind = kind.type
    if kind.kind != TypeKind.POINTER:
        return None
    try:
        return int(found.value_())
    except UNREADABLE:
        return None
