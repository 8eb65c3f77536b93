"""Registers of a fault, from a ucontext_t that the program may have overwritten."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from gimli.capture.registers import (
    ARCHITECTURES,
    NT_FPREGSET,
    NT_X86_XSTATE,
    Registers,
    pack_siginfo,
    program_counter,
    registers_of_fault,
    stack_pointer,
    with_x86_fpregs,
    without_unused_amx,
)

X86 = ARCHITECTURES["x86_64"]
ARM = ARCHITECTURES["aarch64"]
LIVE = Registers(7, struct.pack("<27Q", *range(27)), {NT_FPREGSET: bytes(512), NT_X86_XSTATE: bytes(2696)})


def ucontext(*, cs: int = 0x33, sp: int = 0x7FFF_1000, pc: int = 0x40_1000) -> bytes:
    """The gregs of mcontext_t: r8..r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags, csgsfs, ..."""
    words = [100 + index for index in range(15)] + [sp, pc, 0x246]
    return struct.pack("<18Q4H5Q", *words, cs, 0, 0, 0x2B, 1, 14, 0, 0xDEAD, 0x7FFF_2000)


def test_every_register_comes_from_the_fault_but_the_segment_bases():
    fault = registers_of_fault(X86, LIVE, ucontext())
    words = struct.unpack("<27Q", fault.general)
    assert stack_pointer(X86, fault.general) == 0x7FFF_1000
    assert program_counter(X86, fault.general) == 0x40_1000
    assert words[9] == 100  # r8
    assert words[0] == 107  # r15
    assert words[14] == 108  # rdi
    assert words[10] == 113  # rax
    assert words[15] == 2**64 - 1  # orig_rax: in no system call
    assert words[21:23] == (21, 22)  # fs_base, gs_base


def test_a_null_program_counter_is_a_crash_like_any_other():
    assert registers_of_fault(X86, LIVE, ucontext(pc=0)) is not None


def test_what_does_not_look_like_registers_is_refused():
    assert registers_of_fault(X86, LIVE, ucontext(cs=0)) is None
    assert registers_of_fault(X86, LIVE, ucontext(sp=0)) is None
    assert registers_of_fault(X86, LIVE, ucontext(sp=2**63)) is None
    assert registers_of_fault(X86, LIVE, ucontext()[:100]) is None


@given(st.binary(max_size=300))
def test_any_bytes_give_registers_or_none(raw):
    for architecture, live in ((X86, LIVE), (ARM, Registers(7, bytes(ARM.gregs_bytes), {}))):
        fault = registers_of_fault(architecture, live, raw)
        assert fault is None or len(fault.general) == architecture.gregs_bytes


def test_floating_point_registers_of_the_fault_are_marked_valid_in_the_extended_state():
    fpregs = bytes(range(256)) * 2
    thread = with_x86_fpregs(LIVE, fpregs)
    assert thread.sets[NT_FPREGSET] == fpregs
    assert thread.sets[NT_X86_XSTATE][:464] == fpregs[:464]
    assert thread.sets[NT_X86_XSTATE][512] == 3
    assert len(thread.sets[NT_X86_XSTATE]) == 2696


def test_amx_tiles_are_left_out_only_when_they_hold_nothing():
    unused = bytearray(11008)
    struct.pack_into("<Q", unused, 464, 0x600E7)
    assert len(without_unused_amx(bytes(unused))) == 2696
    assert struct.unpack_from("<Q", without_unused_amx(bytes(unused)), 464) == (0xE7,)
    struct.pack_into("<Q", unused, 512, 1 << 18)
    assert len(without_unused_amx(bytes(unused))) == 11008
    assert without_unused_amx(b"") == b""


def test_a_siginfo_is_made_of_the_records_fields():
    raw = pack_siginfo(11, 1, 0xDEAD)
    assert len(raw) == 128
    assert struct.unpack_from("<iii4xQ", raw) == (11, 0, 1, 0xDEAD)
