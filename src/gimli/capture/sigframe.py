"""Where did the kernel put a signal's frame, in a program that waits in its handler and does not say?

A program linked with the original library stops itself inside its crash handler and tells nobody by which
signal. The kernel left everything on the handler's stack, below a return address that is easy to know:

    stack pointer --> frames of the handler ... | restorer's address | ucontext | siginfo | ...

x86-64 only; elsewhere the crashed thread is shown in its handler.

Source: arch/x86/include/asm/sigframe.h, struct rt_sigframe; glibc's __restore_rt.
"""

from __future__ import annotations

import struct

from gimli.capture.memory import read_memory
from gimli.capture.registers import SIGINFO_BYTES
from gimli.capture.request import CrashRecord
from gimli.process import CRASH_SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_RESTORER = bytes.fromhex("48c7c00f0000000f05")  # mov $__NR_rt_sigreturn, %rax; syscall
_UCONTEXT_BYTES = 304  # the kernel's struct ucontext: two words, a stack_t, a sigcontext, an 8-byte mask
_SCAN_BYTES = 16 * 1024
"""A crash handler's own frames are small."""
_FAULT = struct.Struct("<iii4xQ")  # siginfo_t of a fault: signo, errno, code, address


def find_crash(
    pid: int, tid: int, stack_pointer: int, executable: Sequence[tuple[int, int]]
) -> CrashRecord | None:
    """The crash whose handler a stopped thread is in, or None when it is in none.

    Args:
        pid: the process, which must not run.
        tid: the thread.
        stack_pointer: of the thread.
        executable: the executable mappings, as (start, end): only what points there is a return address.
    """
    stack = _read_upwards(pid, stack_pointer)
    for (word, *_), offset in zip(struct.iter_unpack("<Q", stack), range(0, len(stack), 8), strict=True):
        if not any(start <= word < end for start, end in executable):
            continue
        if read_memory(pid, word, len(_RESTORER)) != _RESTORER:
            continue
        ucontext = stack_pointer + offset + 8
        siginfo = read_memory(pid, ucontext + _UCONTEXT_BYTES, SIGINFO_BYTES)
        if len(siginfo) == SIGINFO_BYTES:
            signo, _, code, address = _FAULT.unpack_from(siginfo)
            if signo in CRASH_SIGNALS:
                where = address if code > 0 else 0  # a sent signal has its sender there
                return CrashRecord(signo, code, where, tid, ucontext, ucontext + _UCONTEXT_BYTES)
    return None


def _read_upwards(pid: int, address: int) -> bytes:
    """What the stack holds from ``address`` on, up to its end; whole words."""
    length = _SCAN_BYTES
    while length >= 8:
        if stack := read_memory(pid, address, length):
            return stack[: len(stack) & ~7]
        length //= 2
    return b""
