"""What does drgn see in a core?

Every thread's native stack with its variables, the faulting one first: whatever stops this reader, what it
has read so far is the most important. It yields values as it goes and explains nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from typing import TYPE_CHECKING, Any

import drgn

from gimli.analysis.demangle import demangle
from gimli.analysis.evidence import AbortMessage, Fault, NativeThread, Note
from gimli.analysis.expressions import pointers_of
from gimli.analysis.locks import lock_wait
from gimli.analysis.memory import add_file_segments
from gimli.analysis.merge import is_interpreter
from gimli.analysis.recursion import Omitted, fold, marker
from gimli.analysis.source import source_line
from gimli.analysis.stacks import is_system
from gimli.analysis.variables import UNREADABLE, place_in_module, read_c_string, variables_of
from gimli.report import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gimli.analysis.corefile import Core

_HEAD_FRAMES, _TAIL_FRAMES = 224, 32
_THREADS_WITH_VARIABLES = 64
_VARIABLES_S = 8.0
"""For the variables of all threads together; after that, stacks alone."""


def read_native(
    path: str, core: Core, *, fault_address: int | None, handler_on_stack: bool
) -> Iterator[NativeThread | Note | AbortMessage]:
    """Everything that drgn can say of the core at ``path``.

    Args:
        path: the core.
        core: its layout.
        fault_address: what the signal's siginfo names; None when the process did not crash.
        handler_on_stack: the first thread's registers are those of a signal handler, not of the fault.
    """
    logging.getLogger("drgn").setLevel(logging.CRITICAL)  # what it would say becomes notes
    program = drgn.Program()
    # Not debuginfod: a report must not wait for, nor tell, a server on the network.
    program.set_enabled_debug_info_finders(["standard"])
    program.set_core_dump(path)
    # Always raised, if only for the vdso; what matters of it is noted per module below.
    with contextlib.suppress(drgn.MissingDebugInfoError):
        program.load_default_debug_info()
    add_file_segments(program, core)
    reader = _Reader(program, core)
    if message := _abort_message(program):
        yield AbortMessage(message)
    for position, tid in enumerate(_thread_ids(program)):
        try:
            yield reader.read_thread(
                tid,
                fault_address=fault_address if position == 0 else None,
                drop_handler=handler_on_stack and position == 0,
                variables=position < _THREADS_WITH_VARIABLES,
            )
        except UNREADABLE as error:
            yield Note(f"no native stack of thread {tid}: {error}")
        if position == _THREADS_WITH_VARIABLES:
            yield Note(f"variables were read for the first {_THREADS_WITH_VARIABLES} threads only")
    yield from reader.notes()


def _thread_ids(program: drgn.Program) -> list[int]:
    """Every thread, the first of the core first: drgn's own order is that of its hash table."""
    first = program.crashed_thread().tid
    return sorted((each.tid for each in program.threads()), key=lambda tid: (tid != first, tid))


class _Reader:
    """A program with what is remembered from thread to thread."""

    def __init__(self, program: drgn.Program, core: Core) -> None:
        self._program = program
        self._core = core
        self._modules: dict[int, drgn.Module | None] = {}
        self._seen: dict[str, drgn.Module] = {}
        self._deadline_s = time.monotonic() + _VARIABLES_S
        self._late = False

    def read_thread(
        self, tid: int, *, fault_address: int | None, drop_handler: bool, variables: bool
    ) -> NativeThread:
        frames = list(self._program.stack_trace(tid))
        if frames and not frames[-1].name.strip("?"):
            frames.pop()  # The unwinder's stop above _start: no call.
        if drop_handler:
            frames = frames[_handler_frames(frames) :]
        keys = [_key(frame) for frame in frames]
        shown = fold(keys, head=_HEAD_FRAMES, tail=_TAIL_FRAMES)
        made = tuple(
            marker(each)
            if isinstance(each, Omitted)
            else self._frame(frames[each], keys[each], variables=variables)
            for each in shown
        )
        return NativeThread(
            tid,
            made,
            lock=lock_wait(self._program, frames),
            fault=None if fault_address is None else self._fault(frames, fault_address, shown),
        )

    def notes(self) -> Iterator[Note]:
        """What was missed, one sentence for each reason."""
        without = [name for name, module in self._seen.items() if _lacks_debug_info(module)]
        replaced = [name for name, module in self._seen.items() if _was_replaced(module)]
        gone = [name for name, module in self._seen.items() if _is_gone(module)]
        for names, text in (
            (replaced, "{} changed on disk since the program started: no functions or variables of it"),
            (gone, "{} cannot be read any more: no functions or variables of it"),
            (
                [each for each in without if each not in {*replaced, *gone}],
                "no debug information for {}: variables of it are missing",
            ),
        ):
            if names:
                yield Note(text.format(", ".join(os.path.basename(each) for each in names)))
        if self._late:
            yield Note(
                f"reading variables took longer than {_VARIABLES_S:.0f} s: the last threads have stacks only"
            )
        if self._core.truncated:
            yield Note("the core is cut off: some memory is missing from it")

    def _frame(self, frame: drgn.StackFrame, key: _Key, *, variables: bool) -> Frame:
        name, file, line, address = key
        module = self._module(address)
        if not frame.function_name and name.startswith("0x"):
            name = place_in_module(self._program, address) or name
        if variables and time.monotonic() > self._deadline_s:
            variables, self._late = False, True
        # The interpreter's own variables are not the program's: its frames give way to Python's.
        wanted = variables and frame.function_name and not is_interpreter(module and module.name)
        return Frame(
            language=_language(file, name),
            function=demangle(name),
            file=file,
            line=line,
            module=os.path.basename(module.name) if module else None,
            address=address or None,
            variables=variables_of(frame, arguments_only=is_system(module and module.name)) if wanted else (),
            inline=frame.is_inline,
        )

    def _module(self, address: int) -> drgn.Module | None:
        if address not in self._modules:
            try:
                module = self._program.module(address)
            except LookupError:
                module = None
            self._modules[address] = module
            if module is not None:
                self._seen.setdefault(module.name, module)
        return self._modules[address]

    def _fault(self, frames: list[drgn.StackFrame], address: int, shown: list[int | Omitted]) -> Fault:
        own = next((each for each in frames if _is_own(each, self._module(_pc(each)))), None)
        stack_pointer = _stack_pointer(frames)
        segment = self._core.segment_at(address)
        stack = None if stack_pointer is None else self._core.segment_at(stack_pointer)
        repeats = [each for each in shown if isinstance(each, Omitted) and each.group]
        longest = max(repeats, key=lambda each: each.count, default=Omitted(0))
        return Fault(
            stack_pointer=stack_pointer,
            pointers=() if own is None else pointers_of(own, _source_of(own)),
            permissions=segment.permissions if segment else None,
            file=self._core.file_at(address),
            room_bytes=stack_pointer - stack.start if stack and stack_pointer is not None else None,
            depth=len(frames),
            recursion=" <- ".join(_rotated([str(key[0]) for key in longest.group if isinstance(key, tuple)])),
            recursion_calls=longest.count + 3 * len(longest.group),
        )


_Key = tuple[str, str | None, int | None, int]


def _key(frame: drgn.StackFrame) -> _Key:
    """Function, file, line and address: what makes a call the same as another."""
    try:
        source: Any = frame.source()
    except LookupError:
        source = None
    file = source.filename or None if source else None
    return frame.name, file, source.line or None if source else None, _pc(frame)


def _rotated(circle: list[str]) -> list[str]:
    """The same circle from its first name in the alphabet: where it was when the stack ended is chance."""
    start = circle.index(min(circle)) if circle else 0
    return circle[start:] + circle[:start]


def _pc(frame: drgn.StackFrame) -> int:
    try:
        return int(frame.pc)
    except LookupError:
        return 0


def _stack_pointer(frames: list[drgn.StackFrame]) -> int | None:
    try:
        return int(frames[0].sp) if frames else None
    except LookupError:
        return None


def _handler_frames(frames: list[drgn.StackFrame]) -> int:
    """How many innermost frames are a signal handler's: those above the frame that the signal interrupted."""
    called = False
    for at, frame in enumerate(frames):
        if not frame.interrupted:
            called = True
        elif called:
            return at
    return 0


_LANGUAGES = {".c": "c", ".h": "c", ".rs": "rust", ".go": "go", ".s": "assembly", ".zig": "zig", ".d": "d",
              ".f": "fortran", ".f90": "fortran", ".pyx": "cython"}  # fmt: skip
_RUST_HASH = re.compile(r"17h[0-9a-f]{16}E$")
_CPLUSPLUS = {".cc", ".cpp", ".cxx", ".c++", ".hh", ".hpp", ".hxx", ".tcc", ".inl"}


def _language(file: str | None, function: str) -> str:
    """The language of a frame, by its function's mangling or its file's place and suffix."""
    if function.startswith("_R") or (function.startswith("_ZN") and _RUST_HASH.search(function)):
        return "rust"
    suffix = os.path.splitext(file or "")[1].lower()
    if function.startswith("_Z") or suffix in _CPLUSPLUS or "/include/c++/" in (file or ""):
        return "c++"
    return _LANGUAGES.get(suffix, "native" if file is None else "c")


def _is_own(frame: drgn.StackFrame, module: drgn.Module | None) -> bool:
    """The frame is of code whose variables are known: not of the C library or the interpreter."""
    if module is None or not frame.function_name:
        return False
    return not is_system(module.name) and not is_interpreter(module.name)


def _source_of(frame: drgn.StackFrame) -> str:
    try:
        found = frame.source()
    except LookupError:
        return ""
    return source_line(found.filename, found.line)


def _lacks_debug_info(module: drgn.Module) -> bool:
    # Of the C library and the interpreter nobody misses variables: the note would be in every report.
    if isinstance(module, drgn.VdsoModule) or is_system(module.name) or is_interpreter(module.name):
        return False
    return bool(module.debug_file_status != drgn.ModuleFileStatus.HAVE)


def _was_replaced(module: drgn.Module) -> bool:
    return _lacks_file(module) and os.path.exists(module.name)


def _is_gone(module: drgn.Module) -> bool:
    return _lacks_file(module) and not os.path.exists(module.name)


def _lacks_file(module: drgn.Module) -> bool:
    """Whether drgn compared the build-id of the file with the core's and refused it."""
    if isinstance(module, drgn.VdsoModule):
        return False
    return bool(module.loaded_file_status != drgn.ModuleFileStatus.HAVE)


def _abort_message(program: drgn.Program) -> str | None:
    """What glibc left in ``__abort_msg``: a pointer to a size (of the mapping) and the text.

    Source: glibc include/assert.h, struct abort_msg_s.
    """
    try:
        pointer = program.read_u64(program.symbol("__abort_msg").address)
        text, _ = read_c_string(program, pointer + 4, 4096) if pointer else (b"", False)
    except (LookupError, drgn.FaultError):
        return None
    return text.decode(errors="replace").strip() or None
