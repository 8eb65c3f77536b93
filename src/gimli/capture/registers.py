"""What do a thread's registers say, and what did they say when its fault came?

Pure. A crashed thread is captured while it waits in its signal handler. The registers of the fault are in the
ucontext_t that the kernel gave the handler; put in the place of the live ones, they make a core in which the
crashed thread stands where it crashed, and the handler was never called.

Sources: sys/ucontext.h; the kernel's arch/x86/include/uapi/asm/{ptrace,sigcontext}.h and
arch/arm64/include/uapi/asm/sigcontext.h.
"""

from __future__ import annotations

import struct

from gimli.value import replace, value

NT_FPREGSET = 2
NT_X86_XSTATE = 0x202
NT_ARM_TLS = 0x401
NT_ARM_PAC_MASK = 0x406

SIGINFO_BYTES = 128

_SIGINFO_FAULT = struct.Struct("<iiixxxxQ")
_U64 = struct.Struct("<Q")

# x86-64: struct user_regs_struct (arch/x86/include/uapi/asm/ptrace.h) by index of 8-byte words.
_X86_USER_REGS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi",
    "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
)  # fmt: skip
# x86-64: gregs of mcontext_t (sys/ucontext.h), 40 bytes into a ucontext_t.
_X86_GREGS = (
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx",
    "rsp", "rip", "eflags",
)  # fmt: skip
_X86_USER_CS = frozenset({0x23, 0x33})
_X86_XSTATE_BV = 512  # offset of the bit map of valid components in an XSAVE area
_X86_LEGACY_BYTES = 464  # x87 and SSE; from here on the kernel's own words, first XCR0
_X86_AMX_STATES = 3 << 17  # XTILECFG and XTILEDATA
_X86_WITHOUT_AMX_BYTES = 2696  # the end of PKRU, on every machine that has AMX


@value
class Architecture:
    """How one machine lays out its registers."""

    machine: int
    """e_machine of the ELF header."""
    gregs_bytes: int
    """Size of NT_PRSTATUS' register set."""
    sp_offset: int
    pc_offset: int
    register_sets: tuple[int, ...]
    """NT_ numbers of the further register sets a core of this machine holds."""
    ucontext_offset: int
    """Where the general registers are in a ucontext_t."""
    ucontext_bytes: int
    address_max: int
    """The first address that no program has."""


ARCHITECTURES = {
    "x86_64": Architecture(62, 27 * 8, 19 * 8, 16 * 8, (NT_FPREGSET, NT_X86_XSTATE), 40, 24 * 8, 1 << 56),
    "aarch64": Architecture(
        183, 34 * 8, 31 * 8, 32 * 8, (NT_FPREGSET, NT_ARM_TLS, NT_ARM_PAC_MASK), 176 + 8, 34 * 8, 1 << 52
    ),
}
"""By os.uname().machine. An aarch64 mcontext_t begins with the fault address, then x0-x30, sp, pc, pstate."""


@value
class Registers:
    """One thread as it stood."""

    tid: int
    general: bytes
    """NT_PRSTATUS' pr_reg."""
    sets: dict[int, bytes]
    """The further register sets by NT_ number."""
    siginfo: bytes = bytes(SIGINFO_BYTES)


def stack_pointer(architecture: Architecture, general: bytes) -> int:
    """The stack pointer of a general register set."""
    return int(_U64.unpack_from(general, architecture.sp_offset)[0])


def program_counter(architecture: Architecture, general: bytes) -> int:
    """The program counter of a general register set."""
    return int(_U64.unpack_from(general, architecture.pc_offset)[0])


def registers_of_fault(architecture: Architecture, live: Registers, ucontext: bytes) -> Registers | None:
    """A thread's registers as they were when its signal came, from the ucontext_t that its handler was given.

    Args:
        architecture: of the process.
        live: the registers now, in the handler; the segment bases stay as they are.
        ucontext: ``architecture.ucontext_bytes`` bytes from ``architecture.ucontext_offset`` on, as read
            from the process, which may have overwritten them.

    Returns:
        None when that memory does not look like registers.
    """
    if len(ucontext) < architecture.ucontext_bytes:
        return None
    if architecture.machine == ARCHITECTURES["x86_64"].machine:
        general = _x86_general(live.general, ucontext)
    else:
        general = ucontext[: architecture.gregs_bytes]
    if general is None or not _plausible(architecture, general):
        return None
    return replace(live, general=general)


def _x86_general(live: bytes, ucontext: bytes) -> bytes | None:
    registers = dict(zip(_X86_USER_REGS, struct.unpack("<27Q", live), strict=True))
    fault = struct.unpack_from("<18Q", ucontext)
    code_segment, gs, fs, stack_segment = struct.unpack_from("<4H", ucontext, 18 * 8)
    if code_segment not in _X86_USER_CS:
        return None
    registers.update(zip(_X86_GREGS, fault, strict=True))
    registers.update(
        cs=code_segment,
        gs=gs,
        fs=fs,
        # Kernels before 4.6 left it 0, and some handlers' frames still have it so.
        ss=stack_segment or registers["ss"],
        orig_rax=(1 << 64) - 1,  # not in a system call: a debugger must not wind back to restart one
    )
    return struct.pack("<27Q", *registers.values())


def _plausible(architecture: Architecture, general: bytes) -> bool:
    """Whether this can be a crash: a stack pointer in a guard page and a null program counter can."""
    stack = stack_pointer(architecture, general)
    return 0 < stack < architecture.address_max and (
        program_counter(architecture, general) < architecture.address_max
    )


def x86_fpregs_address(ucontext: bytes) -> int:
    """Where the floating-point registers of the fault are: mcontext_t's fpregs, after its 23 gregs."""
    return int(_U64.unpack_from(ucontext, 23 * 8)[0])


def with_x86_fpregs(thread: Registers, fpregs: bytes) -> Registers:
    """The thread with x87 and SSE registers of the fault.

    The upper halves of AVX registers stay the live ones: they are found only with CPUID's layout.
    """
    sets = dict(thread.sets)
    sets[NT_FPREGSET] = fpregs
    if len(xstate := sets.get(NT_X86_XSTATE, b"")) > _X86_XSTATE_BV + 8:
        (valid,) = _U64.unpack_from(xstate, _X86_XSTATE_BV)
        sets[NT_X86_XSTATE] = b"".join(
            (
                fpregs[:_X86_LEGACY_BYTES],
                xstate[_X86_LEGACY_BYTES:_X86_XSTATE_BV],
                _U64.pack(valid | 3),  # x87 and SSE hold values
                xstate[_X86_XSTATE_BV + 8 :],
            )
        )
    return replace(thread, sets=sets)


def without_unused_amx(xstate: bytes) -> bytes:
    """An XSAVE area without the 8 KB of AMX tiles, if the thread uses none.

    As most threads do not: it is 8 MB in the core of a thousand threads, and gdb before 14 warns of every
    one of them that its size is not what it expected.
    """
    if len(xstate) < _X86_WITHOUT_AMX_BYTES:
        return xstate
    enabled, *_ = _U64.unpack_from(xstate, _X86_LEGACY_BYTES)
    valid, *_ = _U64.unpack_from(xstate, _X86_XSTATE_BV)
    if not enabled & _X86_AMX_STATES or valid & _X86_AMX_STATES:
        return xstate
    kept = bytearray(xstate[:_X86_WITHOUT_AMX_BYTES])
    _U64.pack_into(kept, _X86_LEGACY_BYTES, enabled & ~_X86_AMX_STATES)
    return bytes(kept)


def pack_siginfo(signo: int, code: int, address: int) -> bytes:
    """A siginfo_t of a fault, for when the program's own cannot be read."""
    packed = _SIGINFO_FAULT.pack(signo, 0, code, address & (2**64 - 1))
    return packed.ljust(SIGINFO_BYTES, b"\0")
