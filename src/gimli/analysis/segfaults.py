"""What does the address of a segmentation fault mean?

Pure. In order: the end of the stack, null, memory that may not be used so, and addresses that are nothing.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gimli.analysis.cause import Cause
    from gimli.analysis.crashsite import CrashSite
    from gimli.analysis.evidence import Pointer

_NULL_PAGES_BYTES = 65536
"""What follows null is never mapped (vm.mmap_min_addr): a member of a structure at null is in there."""
_OBJECT_BYTES_MAX = 65536
"""How far from a pointer's value a fault may be and still be by that pointer."""
_GUARD_BYTES = 1 << 20
"""How far below a stack's end one large frame may reach."""
_DEPTH_OF_OVERFLOW = 200
_CIRCLE_NAMES_MAX = 4
_SEGV_ACCERR = 2
_SI_KERNEL = 0x80
"""The code of a fault without an address: x86-64 does not tell addresses that are not canonical."""


def explain_segv(site: CrashSite) -> Cause:
    """The cause that the address and the pointers at the site speak for."""
    address = site.signal.address
    if address is None or site.signal.code == _SI_KERNEL:
        return _not_canonical(site)
    if is_stack_overflow(site, address):
        return _stack_overflow(site, address)
    if _was_jumped_to(site, address):
        return _jump(site, address)
    if address < _NULL_PAGES_BYTES:
        return _null(site, address)
    if site.signal.code == _SEGV_ACCERR and site.fault.permissions:
        return _forbidden(site, address, site.fault.permissions)
    return _wild(site, address)


def is_stack_overflow(site: CrashSite, address: int) -> bool:
    """The fault is next to the stack pointer, and the stack has no room left or is very deep."""
    fault = site.fault
    if fault.stack_pointer is None or abs(address - fault.stack_pointer) > _GUARD_BYTES:
        return False
    is_spent = fault.room_bytes is None or fault.room_bytes < _OBJECT_BYTES_MAX
    return is_spent and (fault.depth >= _DEPTH_OF_OVERFLOW or fault.permissions in {None, "---"})


def _stack_overflow(site: CrashSite, address: int) -> Cause:
    fault = site.fault
    deep = f"{fault.depth} calls deep" if fault.depth < 1000 else "more than 1000 calls deep"
    evidence = (
        f"the fault at {address:#x} is at the stack pointer, {fault.stack_pointer:#x}, at the stack's end",
        deep,
    )
    circle = _python_circle(site) or list(filter(None, fault.recursion.split(" <- ")))
    if not circle:
        return site.cause(
            "stack-overflow",
            0.85,
            text=f"Stack overflow in {site.where} ({deep}).",
            summary=f"stack overflow in {site.where}",
            evidence=evidence,
        )
    who = _circle_in_words(circle)
    return site.cause(
        "stack-overflow",
        0.97,
        text=f"Stack overflow: {who} without end ({deep}), last in {site.where}.",
        summary=f"stack overflow: {who} without end",
        evidence=evidence,
        # Sorted and without the innermost function: whichever of the circle had the last drop is chance.
        key=("recursion", *sorted(circle)),
    )


def _python_circle(site: CrashSite) -> list[str]:
    """The Python functions that recurse: the interpreter's own calls only follow them."""
    frames = site.thread.frames
    for before, frame in itertools.pairwise(frames):
        _, found, names = frame.function.partition(" more calls of ")
        if frame.language == "marker" and before.language == "python" and found:
            return names.split(" <- ")
    return []


def _circle_in_words(circle: list[str]) -> str:
    """The recursion as ``walk() calls itself``, or ``even(), odd() call each other``."""
    if len(circle) == 1:
        return f"{circle[0]}() calls itself"
    names = ", ".join(f"{each}()" for each in circle[:_CIRCLE_NAMES_MAX])
    more = f" and {len(circle) - _CIRCLE_NAMES_MAX} more" if len(circle) > _CIRCLE_NAMES_MAX else ""
    return f"{names}{more} call each other"


def _null(site: CrashSite, address: int) -> Cause:
    nulls = [each for each in site.fault.pointers if each.value == 0]
    followed = [each for each in nulls if each.dereferenced]
    offset = f", used {address} bytes into what it should point to" if address else ""
    evidence = (f"fault at address {address:#x}",)
    chosen = followed or nulls
    if not chosen:
        return site.cause(
            "null-pointer",
            0.75,
            text=f"A null pointer was followed in {site.where}{offset}.",
            summary=f"null pointer in {site.where}",
            evidence=evidence,
        )
    names = ", ".join(f"`{each.expression}`" for each in chosen[:4])
    is_one = len(chosen) == 1
    return site.cause(
        "null-pointer",
        _confidence_of_null(is_one=is_one, is_followed=bool(followed)),
        text=f"Null pointer: {names if is_one else f'one of {names}'} is null in {site.where}{offset}.",
        summary=f"null pointer {names} in {site.where}",
        evidence=(*evidence, *(f"{each.expression} = 0x0" for each in chosen[:4])),
        key=tuple(each.expression for each in chosen[:1]),
    )


def _confidence_of_null(*, is_one: bool, is_followed: bool) -> float:
    if is_one:
        return 0.96 if is_followed else 0.8
    return 0.7


def _forbidden(site: CrashSite, address: int, permissions: str) -> Cause:
    pointer = _pointer_to(site, address)
    via = f" through `{pointer.expression}`" if pointer else ""
    memory = f"memory of {site.fault.file}" if site.fault.file else "memory"
    evidence = (f"{address:#x} is mapped {permissions}",)
    if permissions.startswith("r-"):
        return site.cause(
            "read-only",
            0.9 if pointer else 0.8,
            text=f"Write to read-only {memory}{via} in {site.where}: a string literal or a constant.",
            summary=f"write to read-only memory{via} in {site.where}",
            evidence=evidence,
        )
    return site.cause(
        "protected",
        0.8,
        text=f"Use of {memory}{via}, which is mapped {permissions}, in {site.where}.",
        summary=f"use of protected memory{via} in {site.where}",
        evidence=evidence,
    )


def _jump(site: CrashSite, address: int) -> Cause:
    is_null = address < _NULL_PAGES_BYTES
    what = "null function pointer" if is_null else f"function pointer to {address:#x}, which is no code,"
    return site.cause(
        "null-call" if is_null else "wild-jump",
        0.9 if is_null else 0.8,
        text=f"A {what} was called from {site.where}.",
        summary=f"{'null' if is_null else 'wild'} function pointer called in {site.where}",
        evidence=(f"the instruction pointer is {address:#x}",),
    )


def _not_canonical(site: CrashSite) -> Cause:
    pointer = next(
        (each for each in site.fault.pointers if each.dereferenced and _is_not_canonical(each.value)), None
    )
    if pointer is None:
        return _wild_pointer(site, "an address that no program can have", None, evidence=())
    return _wild_pointer(site, f"{pointer.value:#x}, which no program can have", pointer, evidence=())


def _wild(site: CrashSite, address: int) -> Cause:
    where = f"{address:#x}, where nothing is mapped" if site.fault.permissions is None else f"{address:#x}"
    return _wild_pointer(
        site, where, _pointer_to(site, address), evidence=(f"fault at address {address:#x}",)
    )


def _wild_pointer(
    site: CrashSite, leads_to: str, pointer: Pointer | None, *, evidence: tuple[str, ...]
) -> Cause:
    guess = "it was freed, overwritten or never set"
    if pointer is None:
        return site.cause(
            "wild-pointer",
            0.65,
            text=f"Wild pointer in {site.where}: it leads to {leads_to}; {guess}.",
            summary=f"wild pointer in {site.where}",
            evidence=evidence,
        )
    return site.cause(
        "wild-pointer",
        0.88,
        text=f"Wild pointer: `{pointer.expression}` in {site.where} leads to {leads_to}; {guess}.",
        summary=f"wild pointer `{pointer.expression}` in {site.where}",
        evidence=(*evidence, f"{pointer.expression} = {pointer.value:#x}"),
        key=(pointer.expression,),
    )


def _pointer_to(site: CrashSite, address: int) -> Pointer | None:
    """The pointer that the line follows and whose value leads to the address."""
    for each in site.fault.pointers:
        if each.dereferenced and each.value and 0 <= address - each.value < _OBJECT_BYTES_MAX:
            return each
    return None


def _is_not_canonical(value: int) -> bool:
    return 1 << 47 <= value < (1 << 64) - (1 << 47)


def _was_jumped_to(site: CrashSite, address: int) -> bool:
    first = site.thread.frames[0] if site.thread.frames else None
    return first is not None and (first.address or 0) == address and first.function.startswith(("0x", "???"))
