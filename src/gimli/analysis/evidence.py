"""What did the readers of a core see?

The values that go from the readers (native, python, facts) to what merges and explains them. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gimli.report import Frame


@dataclass(frozen=True, slots=True)
class Note:
    """What could not be had, and why; ends in the report's notes."""

    text: str


@dataclass(frozen=True, slots=True)
class AbortMessage:
    """What glibc was about to say when it called abort: a failed assertion, a damaged heap."""

    text: str


@dataclass(frozen=True, slots=True)
class Pointer:
    """A pointer near the fault: the expression that holds it and its value."""

    expression: str
    value: int
    dereferenced: bool
    """The source line that faulted follows this pointer; else it is only a variable of that frame."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What the crashed thread's registers and memory say of the fault."""

    stack_pointer: int | None = None
    pointers: tuple[Pointer, ...] = ()
    permissions: str | None = None
    """Of the mapping at the fault's address, as in /proc/PID/maps: ``r--``; None when nothing is there."""
    file: str | None = None
    """The file that is mapped at the fault's address."""
    room_bytes: int | None = None
    """From the stack pointer down to the end of its mapping; None when it points outside of any."""
    depth: int = 0
    """Calls on the stack, before any were left out."""
    recursion: str = ""
    """The functions that call each other over and over, as ``walk`` or ``even <- odd``."""
    recursion_calls: int = 0


@dataclass(frozen=True, slots=True)
class LockWait:
    """The pthread lock that a thread waits for."""

    kind: str
    """``mutex`` or ``rwlock``."""
    address: int
    owner_tid: int | None
    """Thread that holds it; None when the lock does not say."""
    name: str


@dataclass(frozen=True, slots=True)
class NativeThread:
    """One thread as drgn sees it."""

    tid: int
    frames: tuple[Frame, ...] = ()
    lock: LockWait | None = None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class PythonFrame:
    """A Python call; ``entry`` when the interpreter's C code was entered anew for it."""

    frame: Frame
    entry: bool
    last_line: int
    """The last line of the statement that runs; ``frame.line`` is its first."""


@dataclass(frozen=True, slots=True)
class PythonThread:
    """One thread as pystack sees it, innermost frame first."""

    tid: int
    name: str | None = None
    frames: tuple[PythonFrame, ...] = ()
    holds_gil: bool = False
    collecting: bool = False


@dataclass(frozen=True, slots=True)
class Syscall:
    """What the kernel says a thread was called for."""

    name: str
    number: int = -1
    arguments: tuple[int, ...] = ()
    file: str | None = None


@dataclass(frozen=True, slots=True)
class KernelThread:
    """One thread as /proc saw it at the capture."""

    tid: int
    comm: str = ""
    state: str = ""
    wchan: str = ""
    syscall: Syscall | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was seen of one report's process."""

    facts: dict[str, Any] = field(default_factory=dict)
    kernel: dict[int, KernelThread] = field(default_factory=dict)
    native: dict[int, NativeThread] = field(default_factory=dict)
    python: dict[int, PythonThread] = field(default_factory=dict)
    abort_message: str | None = None
    notes: tuple[str, ...] = ()
