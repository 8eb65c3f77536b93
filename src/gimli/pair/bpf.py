"""How does the kernel throw away what a socket does not want to hear?

By a classic BPF program, a tuple of instructions (operation, jump if true, jump if false, operand).
"""

from __future__ import annotations

import ctypes
import socket
import struct

Program = tuple[tuple[int, int, int, int], ...]

LOAD_WORD, LOAD_HALF, LOAD_BYTE = 0x20, 0x28, 0x30
JUMP_EQUAL, JUMP_ANY_BIT = 0x15, 0x45
RETURN = 0x06

WHOLE = 0xFFFF
"""To return: as much of the frame as there is."""

PACKET_TYPE = 0xFFFFF000 + 4  # SKF_AD_PKTTYPE
VLAN_TAG_PRESENT = 0xFFFFF000 + 48  # SKF_AD_VLAN_TAG_PRESENT

_SO_ATTACH_FILTER = 26


def attach(to: socket.socket, program: Program) -> None:
    """Filter what the socket receives from now on."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    to.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(buffer))
    )
