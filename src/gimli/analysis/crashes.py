"""What does a fatal signal mean where it happened?

Pure. One function per signal; each looks at the crashed thread's first frames of the program's own, at the
pointers there, and at what the memory map says of the address.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gimli.analysis.cause import Cause
from gimli.analysis.stacks import own_frame, own_functions, place_of
from gimli.report import Finding

if TYPE_CHECKING:
    from collections.abc import Callable

    from gimli.analysis.evidence import Evidence, Fault, Pointer
    from gimli.report import Report, Signal, Thread

_NULL_PAGES_BYTES = 65536
"""What follows null is never mapped (vm.mmap_min_addr): a member of a structure at null is in there."""
_OBJECT_BYTES_MAX = 65536
_SI_KERNEL = 0x80
_SEGV_ACCERR = 2
_FRAMES_OF_OVERFLOW = 200
_GUARD_BYTES = 1 << 20


def explain_crash(
    report: Report, thread: Thread, evidence: Evidence, source_line: Callable[[str | None, int | None], str]
) -> list[Cause]:
    """Why the crashed thread was sent its signal, the surest first.

    Args:
        report: with its signal.
        thread: the one that crashed.
        evidence: what was read of it.
        source_line: one line of a source file, empty when it cannot be read.
    """
    signal = report.signal
    if signal is None:
        return []
    crash = _Crash(report, signal, thread, evidence, source_line)
    explain = _BY_SIGNAL.get(signal.name, _Crash.plain)
    return explain(crash)


class _Crash:
    """A crash with what its explanations need of it."""

    def __init__(
        self,
        report: Report,
        signal: Signal,
        thread: Thread,
        evidence: Evidence,
        source_line: Callable[[str | None, int | None], str],
    ) -> None:
        self._report = report
        self._signal = signal
        self._thread = thread
        self._evidence = evidence
        native = evidence.native.get(thread.tid)
        self._fault: Fault | None = native.fault if native else None
        self._frame = own_frame(thread.frames)
        self._where = place_of(self._frame) if self._frame else "an unknown place"
        self._line = source_line(self._frame.file, self._frame.line) if self._frame else ""

    def segv(self) -> list[Cause]:
        """SIGSEGV: the surest of what an address can mean."""
        address = self._signal.address
        if self._was_sent():
            return self.plain()
        if overflow := self._stack_overflow():
            return [overflow]
        if self._signal.code == _SI_KERNEL or address is None:
            return [self._wild(None)]
        if address < _NULL_PAGES_BYTES:
            return [self._null(address)]
        if self._signal.code == _SEGV_ACCERR and self._fault and self._fault.permissions:
            return [self._forbidden(address, self._fault)]
        return [self._wild(address)]

    def fpe(self) -> list[Cause]:
        """SIGFPE: almost always an integer divided by zero."""
        if self._signal.code != 1:  # FPE_INTDIV
            return self.plain()
        divisor = self._zero_divisor()
        what = f"division by zero: `{divisor}` is 0" if divisor else "division by zero"
        return [
            self._cause(
                "division-by-zero", f"Integer {what} in {self._where}.", f"{what} in {self._where}", 0.97
            )
        ]

    def abrt(self) -> list[Cause]:
        """SIGABRT: what the program, or the C library for it, said as it gave up."""
        message = self._evidence.abort_message
        if self._was_sent():
            return self.plain()
        functions = [frame.function for frame in self._thread.frames]
        for pattern, kind, words, confidence in _ABORTS:
            said = message if message and pattern.search(message) else self._said(pattern)
            if said:
                return [self._cause(kind, f"{words} in {self._where}: {said}", f"{words.lower()}: {said}", confidence,
                                    (f"message: {said}",))]  # fmt: skip
        if any("terminate" in name and ("std" in name or name.startswith("__")) for name in functions):
            return [self._cause("uncaught-exception", f"Uncaught C++ exception from {self._where}.",
                                f"uncaught C++ exception in {self._where}", 0.9)]  # fmt: skip
        words = f": {message}" if message else ""
        return [
            self._cause(
                "abort", f"abort() called by {self._where}{words}.", f"abort in {self._where}{words}", 0.9
            )
        ]

    def bus(self) -> list[Cause]:
        """SIGBUS: a page of a file that is not there any more, or an address not aligned."""
        file = self._fault.file if self._fault else None
        if self._signal.code == 1:  # BUS_ADRALN
            return [self._cause("alignment", f"Access to an address that is not aligned, in {self._where}.",
                                f"alignment fault in {self._where}", 0.9)]  # fmt: skip
        if self._signal.code == 2:  # BUS_ADRERR
            what = f"the file {file}" if file else "a mapped file"
            return [self._cause("file-truncated", f"{self._where} reads a page of {what} past the file's end: it was "
                                "truncated while mapped, or its disk is full.", f"mapped file truncated, in {self._where}",
                                0.85)]  # fmt: skip
        return self.plain()

    def ill(self) -> list[Cause]:
        """SIGILL: a compiler's trap, or code for another processor."""
        text = (f"Illegal instruction in {self._where}: a trap that the compiler put there (unreachable code, a failed "
                "check), or code for another processor.")  # fmt: skip
        return [self._cause("illegal-instruction", text, f"illegal instruction in {self._where}", 0.8)]

    def sys(self) -> list[Cause]:
        """SIGSYS: the seccomp filter."""
        text = f"A system call that the seccomp filter forbids, from {self._where}."
        return [self._cause("forbidden-syscall", text, f"forbidden system call in {self._where}", 0.9)]

    def plain(self) -> list[Cause]:
        """Any other signal: where it came."""
        name = self._signal.name
        if self._was_sent():
            sender = describe_sender(self._signal.sender or {})
            text = f"{name} was sent by {sender}: not a fault of the program's own. It was in {self._where}."
            return [self._cause("signal-sent", text, f"{name} sent by {sender}", 0.95)]
        return [self._cause("signal", f"{name} in {self._where}.", f"{name} in {self._where}", 0.7)]

    def _stack_overflow(self) -> Cause | None:
        fault, address = self._fault, self._signal.address
        if fault is None or fault.stack_pointer is None or address is None:
            return None
        near = abs(address - fault.stack_pointer) <= _GUARD_BYTES
        spent = fault.room_bytes is None or fault.room_bytes < _OBJECT_BYTES_MAX
        if not (near and spent) or (
            fault.depth < _FRAMES_OF_OVERFLOW and fault.permissions not in {None, "---"}
        ):
            return None
        calls = f"at least {fault.depth} calls deep"
        evidence = (f"the fault's address {address:#x} is next to the stack pointer {fault.stack_pointer:#x}, at the end of "
                    "the stack", calls)  # fmt: skip
        if fault.recursion:
            text = f"Stack overflow: {fault.recursion} calls itself without end ({calls}), last in {self._where}."
            if " <- " in fault.recursion:
                text = f"Stack overflow: {fault.recursion} call each other without end ({calls}), last in {self._where}."
            return self._cause("stack-overflow", text, f"stack overflow: recursion of {fault.recursion}", 0.97, evidence,
                               key=tuple(sorted(fault.recursion.split(" <- "))))  # fmt: skip
        return self._cause("stack-overflow", f"Stack overflow in {self._where} ({calls}).",
                           f"stack overflow in {self._where}", 0.85, evidence)  # fmt: skip

    def _null(self, address: int) -> Cause:
        nulls = [each for each in self._pointers() if each.value == 0]
        followed = [each for each in nulls if each.dereferenced]
        offset = f", {address} bytes into what it should point to" if address else ""
        if self._jumped(address):
            return self._cause("null-call", f"A null function pointer was called from {self._where}.",
                               f"null function pointer called in {self._where}", 0.9)  # fmt: skip
        if len(followed) == 1 or len(nulls) == 1:
            name = (followed or nulls)[0].expression
            text = f"Null pointer: `{name}` is null in {self._where}{offset}."
            evidence = (
                f"fault at address {address:#x}",
                f"{name} = 0x0",
                *([f"line: {self._line}"] if self._line else []),
            )
            return self._cause("null-pointer", text, f"null pointer `{name}` in {self._where}", 0.96 if followed else 0.8,
                               evidence, key=(name,))  # fmt: skip
        if nulls:
            names = ", ".join(f"`{each.expression}`" for each in (followed or nulls)[:4])
            return self._cause("null-pointer", f"Null pointer in {self._where}: one of {names}{offset}.",
                               f"null pointer ({names}) in {self._where}", 0.7)  # fmt: skip
        return self._cause("null-pointer", f"A null pointer was followed in {self._where}{offset}.",
                           f"null pointer in {self._where}", 0.75, (f"fault at address {address:#x}",))  # fmt: skip

    def _forbidden(self, address: int, fault: Fault) -> Cause:
        memory = f"memory of {fault.file}" if fault.file else f"memory at {address:#x}"
        name = self._pointing_to(address)
        via = f" through `{name}`" if name else ""
        if "w" not in (fault.permissions or "") and "r" in (fault.permissions or ""):
            text = f"{self._where} writes to read-only {memory}{via}, such as a string literal or a constant."
            return self._cause("read-only", text, f"write to read-only memory{via} in {self._where}", 0.9 if name else 0.8,
                               (f"{address:#x} is mapped {fault.permissions}",))  # fmt: skip
        text = f"{self._where} uses {memory}{via}, which is mapped {fault.permissions}."
        return self._cause("protected", text, f"access to protected memory{via} in {self._where}", 0.8)

    def _wild(self, address: int | None) -> Cause:
        name = self._pointing_to(address)
        if address is None:
            what = "an address that no program can have (not canonical)"
        else:
            what = f"{address:#x}, where nothing is mapped"
        if address is not None and self._jumped(address):
            return self._cause("wild-jump", f"Jump to {what}, from {self._where}: a damaged function pointer or stack.",
                               f"jump to a wild address in {self._where}", 0.8)  # fmt: skip
        if name:
            text = (
                f"Wild pointer: `{name}` in {self._where} leads to {what}: freed, overwritten or never set."
            )
            return self._cause(
                "wild-pointer", text, f"wild pointer `{name}` in {self._where}", 0.88, key=(name,)
            )
        text = f"Wild pointer: {self._where} uses {what}: a pointer freed, overwritten or never set."
        return self._cause("wild-pointer", text, f"wild pointer in {self._where}", 0.65)

    def _pointing_to(self, address: int | None) -> str:
        """The expression whose value leads to the address."""
        for each in self._pointers():
            if address is None:
                if 1 << 47 <= each.value < (1 << 64) - (1 << 47):
                    return each.expression
            elif each.value and 0 <= address - each.value < _OBJECT_BYTES_MAX and each.dereferenced:
                return each.expression
        return ""

    def _pointers(self) -> tuple[Pointer, ...]:
        return self._fault.pointers if self._fault else ()

    def _jumped(self, address: int) -> bool:
        first = self._thread.frames[0] if self._thread.frames else None
        return (
            first is not None and (first.address or 0) == address and first.function.startswith(("0x", "???"))
        )

    def _zero_divisor(self) -> str:
        """The variable after a ``/`` or ``%`` of the line that is 0."""
        zeros = {each.name for each in (self._frame.variables if self._frame else ()) if each.value == "0"}
        divisors = re.findall(r"[/%]=?\s*\(?\s*([A-Za-z_]\w*)", self._line)
        return next((name for name in divisors if name in zeros), "")

    def _said(self, pattern: re.Pattern[str]) -> str:
        """The last line of output that matches."""
        return next((line.strip() for line in reversed(self._report.output) if pattern.search(line)), "")

    def _was_sent(self) -> bool:
        """By another process: si_code is at most 0 for kill(2) and its kin, and the sender is not the program."""
        sender = self._signal.sender or {}
        by_call = self._signal.code is not None and self._signal.code <= 0
        return by_call and isinstance(sender.get("pid"), int) and sender["pid"] not in {self._report.pid, 0}

    def _cause(
        self, kind: str, text: str, summary: str, confidence: float, evidence: tuple[str, ...] = (), *,
        key: tuple[str, ...] | None = None,
    ) -> Cause:  # fmt: skip
        return Cause(
            Finding(kind, text, confidence, evidence),
            tids=(self._thread.tid,),
            summary=summary,
            key=(self._signal.name, kind, *(key or ()), *own_functions(self._thread.frames, 1 if key else 5)),
        )


def describe_sender(sender: dict[str, object]) -> str:
    """``sh (pid 4121)``."""
    name = sender.get("comm") or sender.get("cmdline") or "a process"
    return f"{name} (pid {sender.get('pid', '?')})"


_ABORTS = (
    (re.compile(r"Assertion .* failed"), "assertion", "Assertion failed", 0.99),
    (re.compile(r"stack smashing detected"), "stack-corruption", "The stack was overwritten", 0.97),
    (re.compile(r"buffer overflow detected"), "buffer-overflow", "Buffer overflow", 0.97),
    (re.compile(r"free\(\)|malloc|realloc\(\)|corrupted|double free|munmap_chunk|unlink_chunk|tcache"),
     "heap-corruption", "The heap was damaged, found", 0.93),
    (re.compile(r"terminate called"), "uncaught-exception", "Uncaught C++ exception", 0.95),
    (re.compile(r"panicked at"), "panic", "Rust panic", 0.95),
    (re.compile(r"Fatal Python error"), "python-fatal", "Fatal Python error", 0.95),
)  # fmt: skip

_BY_SIGNAL: dict[str, Callable[[_Crash], list[Cause]]] = {
    "SIGSEGV": _Crash.segv,
    "SIGFPE": _Crash.fpe,
    "SIGABRT": _Crash.abrt,
    "SIGBUS": _Crash.bus,
    "SIGILL": _Crash.ill,
    "SIGSYS": _Crash.sys,
}
