"""How does a variable of a native frame read?

Formats drgn objects on one line, in the words of C: structures by member, enums by name, characters as
strings, a pointer with its symbol and, once, what it points to. Nothing here raises for what memory holds:
what cannot be read says so in its place, and does not take its neighbours with it.
"""

from __future__ import annotations

import os
from typing import Any

import drgn
from drgn import Object, StackFrame, TypeKind

from gimli.report import Variable

VALUE_CHARS_MAX = 2000
_DEPTH_MAX = 5
_MEMBERS_MAX = 64
_ELEMENTS_MAX = 32
_STRING_BYTES_MAX = 512
_VARIABLES_MAX = 64
_PAGE_BYTES = 4096
_ABSENT = "<optimized out>"
_CHARACTERS = {"char", "signed char", "unsigned char"}
_COMPOUND = {TypeKind.STRUCT, TypeKind.UNION, TypeKind.CLASS}
# drgn raises a plain Exception (a private BadDataError in newer versions) for debug information that it does
# not know, besides FaultError, LookupError, TypeError and more: a variable, never the report, is lost by any.
UNREADABLE = Exception


def variables_of(frame: StackFrame, *, arguments_only: bool) -> tuple[Variable, ...]:
    """Variables of a frame, formatted, in the order of the debug information.

    Args:
        frame: a frame whose function has debug information.
        arguments_only: leave the locals out, as for the C library, whose arguments alone tell something.
    """
    try:
        names = frame.locals()
    except UNREADABLE:
        return ()
    arguments = _argument_names(frame)
    wanted = [name for name in names if name in arguments] if arguments_only else names
    made = (_variable(frame, name, argument=name in arguments) for name in wanted[:_VARIABLES_MAX])
    return tuple(each for each in made if each is not None)


def format_object(found: Object) -> str:
    """One object on one line, at most ``VALUE_CHARS_MAX`` characters."""
    text = _format(found, depth=0, follow=True)
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 1] + "…"


def _argument_names(frame: StackFrame) -> frozenset[str]:
    """Names of the parameters, from the function's type."""
    try:
        name = frame.function_name
        parameters = frame[name].type_.parameters if name else ()
    except UNREADABLE:
        return frozenset()
    return frozenset(each.name for each in parameters if each.name)


def _variable(frame: StackFrame, name: str, *, argument: bool) -> Variable | None:
    try:
        found = frame[name]
    except UNREADABLE as error:
        return Variable(name, "", f"<cannot read: {error}>", argument)
    if found.type_.kind == TypeKind.FUNCTION or name == "__PRETTY_FUNCTION__":
        return (
            None  # declared in the block, or made by the compiler for assert(): no variables of the program
        )
    return Variable(name, found.type_.type_name(), format_object(found), argument)


def _format(found: Object, *, depth: int, follow: bool) -> str:
    if found.absent_:
        return _ABSENT
    try:
        return _format_kind(found, _unaliased(found.type_), depth, follow=follow)
    except drgn.FaultError as error:
        return f"<cannot read {error.address:#x}>"
    except UNREADABLE as error:
        return f"<cannot read: {error}>"


def _unaliased(kind: drgn.Type) -> drgn.Type:
    while kind.kind == TypeKind.TYPEDEF:
        kind = kind.type
    return kind


def _format_kind(found: Object, kind: drgn.Type, depth: int, *, follow: bool) -> str:
    if kind.kind in _COMPOUND:
        return _format_members(found, kind, depth, follow=follow)
    if kind.kind == TypeKind.ARRAY:
        return _format_array(found, kind, depth, follow=follow)
    if kind.kind == TypeKind.POINTER:
        return _format_pointer(found, kind, depth, follow=follow)
    if kind.kind == TypeKind.ENUM:
        return _format_enum(found, kind)
    if kind.kind == TypeKind.BOOL:
        return "true" if found.value_() else "false"
    if kind.kind == TypeKind.INT:
        return _format_integer(int(found.value_()), kind)
    if kind.kind == TypeKind.FLOAT:
        return f"{found.value_():.9g}" if kind.size <= 4 else repr(found.value_())
    return str(found.format_(type_name=False, dereference=False))


def _format_members(found: Object, kind: drgn.Type, depth: int, *, follow: bool) -> str:
    if depth >= _DEPTH_MAX:
        return "{…}"
    members = kind.members or ()
    parts = [_format_member(found, each, depth, follow=follow) for each in members[:_MEMBERS_MAX]]
    if len(members) > _MEMBERS_MAX:
        parts.append("…")
    return "{" + ", ".join(parts) + "}"


def _format_member(found: Object, member: drgn.TypeMember, depth: int, *, follow: bool) -> str:
    if not member.name:
        # A structure without a name inside of another: drgn finds its members as the outer one's own.
        return _format_members(found, _unaliased(member.type), depth + 1, follow=follow)
    try:
        value = found.member_(member.name)
    except UNREADABLE as error:
        return f"{member.name} = <cannot read: {error}>"
    return f"{member.name} = {_format(value, depth=depth + 1, follow=follow and depth == 0)}"


def _format_array(found: Object, kind: drgn.Type, depth: int, *, follow: bool) -> str:
    element = _unaliased(kind.type)
    length = kind.length or 0
    if element.kind == TypeKind.INT and element.name in _CHARACTERS:
        raw = _array_bytes(found, min(length, _STRING_BYTES_MAX))
        text, end, _ = raw.partition(b"\0")
        return _quote(text, more=not end and length > _STRING_BYTES_MAX)
    if depth >= _DEPTH_MAX:
        return "{…}"
    shown = [
        _format(found[at], depth=depth + 1, follow=follow and depth == 0)
        for at in range(min(length, _ELEMENTS_MAX))
    ]
    parts = _fold_repeats(shown)
    if length > _ELEMENTS_MAX:
        parts.append(f"… {length - _ELEMENTS_MAX} more")
    return "{" + ", ".join(parts) + "}"


def _fold_repeats(parts: list[str]) -> list[str]:
    """``0, 0, 0, 0, 0`` as ``0 <5 times>``."""
    folded: list[str] = []
    at = 0
    while at < len(parts):
        end = at
        while end < len(parts) and parts[end] == parts[at]:
            end += 1
        run = end - at
        folded += [f"{parts[at]} <{run} times>"] if run > 3 else parts[at:end]
        at = end
    return folded


def _format_pointer(found: Object, kind: drgn.Type, depth: int, *, follow: bool) -> str:
    value = int(found.value_())
    if value == 0:
        return "0x0"
    target = _unaliased(kind.type)
    text = f"{value:#x}"
    if target.kind == TypeKind.INT and target.name in _CHARACTERS:
        return f"{text} {_read_string(found.prog_, value)}"
    if symbol := symbol_at(found.prog_, value):
        text += f" <{symbol}>"
    if not follow or target.kind in {TypeKind.VOID, TypeKind.FUNCTION}:
        return text
    is_pointer = target.kind == TypeKind.POINTER  # of `char **` the string is what matters
    return f"{text} -> {_format(found[0], depth=depth + 1, follow=is_pointer and depth == 0)}"


def symbol_at(program: drgn.Program, address: int) -> str:
    """``table`` or ``table+16``; without a symbol, as ``libpq.so.5+0x1f40``; outside of files, nothing."""
    try:
        symbol = program.symbol(address)
    except LookupError:
        return place_in_module(program, address)
    distance = address - symbol.address
    return symbol.name if distance == 0 else f"{symbol.name}+{distance}"


def place_in_module(program: drgn.Program, address: int) -> str:
    """An address that stays the same from run to run: the file and the distance from its start."""
    try:
        module = program.module(address)
    except LookupError:
        return ""
    start = min((low for low, _ in module.address_ranges or ()), default=0)
    return f"{os.path.basename(module.name)}+{address - start:#x}" if start else ""


def _format_enum(found: Object, kind: drgn.Type) -> str:
    value = int(found.value_())
    for each in kind.enumerators or ():
        if each.value == value:
            return str(each.name)
    return f"{value} <not in {kind.type_name()}>"


def _format_integer(value: int, kind: drgn.Type) -> str:
    if kind.name in _CHARACTERS and 32 <= value < 127:
        return f"{value} {chr(value)!r}"
    return str(value)


def _read_string(program: drgn.Program, address: int) -> str:
    try:
        raw, more = read_c_string(program, address, _STRING_BYTES_MAX)
    except drgn.FaultError as error:
        return f"<cannot read {error.address:#x}>"
    return _quote(raw, more=more)


def read_c_string(program: drgn.Program, address: int, bytes_max: int) -> tuple[bytes, bool]:
    """A string in memory up to its end or ``bytes_max``, and whether there is more of it.

    Page by page: drgn's own bounded read wants all of its bytes, and a string may end where its mapping does.

    Raises:
        drgn.FaultError: its first byte is not in the core.
    """
    found = b""
    while len(found) < bytes_max:
        at = address + len(found)
        count = min(_PAGE_BYTES - at % _PAGE_BYTES, bytes_max - len(found))
        try:
            piece = bytes(program.read(at, count))
        except drgn.FaultError:
            if not found:
                raise
            return found, True
        text, end, _ = piece.partition(b"\0")
        found += text
        if end:
            return found, False
    return found, True


def _array_bytes(found: Object, count: int) -> bytes:
    """The first bytes of an array: an array in registers has no address, but is small."""
    if found.address_ is None:
        return bytes(found.to_bytes_())[:count]
    return bytes(found.prog_.read(found.address_, count))


def _quote(raw: bytes, *, more: bool) -> str:
    text = raw.decode(errors="backslashreplace")
    escaped = "".join(_escape(character) for character in text)
    return f'"{escaped}"' + ("…" if more else "")


_ESCAPES: dict[str, Any] = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return str(_ESCAPES[character])
    return character if character.isprintable() else f"\\x{ord(character):02x}"
