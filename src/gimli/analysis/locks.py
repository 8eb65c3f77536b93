"""Which pthread lock does a native stack wait for, and who holds it?

The owner stands in the lock itself, at an offset that is part of glibc's ABI, so neither glibc's debug
information nor its private headers are needed.
"""

from __future__ import annotations

import re

import drgn

from gimli.analysis.evidence import LockWait
from gimli.analysis.source import source_line
from gimli.analysis.variables import UNREADABLE, symbol_at

# glibc sysdeps/nptl/bits/struct_mutex.h: __lock, __count, __owner; struct_rwlock.h: six ints, __cur_writer.
_OWNER_OFFSET = {"mutex": 8, "rwlock": 24}
_LOCKING = re.compile(
    r"^_*(?:GI_+)?pthread_(?P<kind>mutex|rwlock)_(?:(?:timed|clock|cond_)?(?:rd|wr)?lock)\w*?(?:@.*)?$"
)
_CALL = re.compile(r"(?:pthread_\w*lock|mtx_lock|lock)\s*\(\s*&?\s*(?P<expression>[^(),]+?)\s*[,)]")
_INNERMOST_FRAMES = 6
_OWNER_MAX = (
    1 << 22
)  # PID_MAX_LIMIT: the owner word of a lock that nobody holds, or of robust ones, is no tid
_ARGUMENT_REGISTERS = ("rdi", "x0")


def lock_wait(program: drgn.Program, frames: list[drgn.StackFrame]) -> LockWait | None:
    """The lock that a thread with these frames waits for; None when it waits for none."""
    for at, frame in enumerate(frames[:_INNERMOST_FRAMES]):
        match = _LOCKING.match(frame.name)
        if match and not frame.is_inline:
            kind = match["kind"]
            address = _address(frame, kind) or _futex_address(frames[0], kind)
            if address is None:
                return None
            owner = _owner(program, address + _OWNER_OFFSET[kind])
            return LockWait(kind, address, owner, _name(program, address, frames[at + 1 :]))
    return None


def _address(frame: drgn.StackFrame, parameter: str) -> int | None:
    """The lock's address from the parameter, when glibc's debug information is installed."""
    try:
        found = frame[parameter]
        return None if found.absent_ else int(found.value_())
    except UNREADABLE:
        return None


def _futex_address(innermost: drgn.StackFrame, kind: str) -> int | None:
    """Else the futex word that the thread sleeps on, which is a mutex's first field."""
    if kind != "mutex":
        return None
    for register in _ARGUMENT_REGISTERS:
        try:
            return int(innermost.register(register))
        except (ValueError, LookupError):
            continue
    return None


def _owner(program: drgn.Program, address: int) -> int | None:
    try:
        owner = program.read_u32(address)
    except drgn.FaultError:
        return None
    return owner if 0 < owner < _OWNER_MAX else None


def _name(program: drgn.Program, address: int, callers: list[drgn.StackFrame]) -> str:
    """The lock as its program calls it: a global by its symbol, another by the expression that locks it."""
    if symbol := symbol_at(program, address):
        return symbol
    for frame in callers[:2]:
        try:
            found = frame.source()
        except LookupError:
            continue
        if match := _CALL.search(source_line(found.filename, found.line)):
            return match["expression"]
    return f"lock {address:#x}"
