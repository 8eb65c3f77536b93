"""Which features of a network card are on?

By the ioctl that ``ethtool -k`` uses, for the program is not on every host. Source: linux/ethtool.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import socket
import struct

_SIOCETHTOOL = 0x8946
_GSTRINGS, _GSSET_INFO, _GFEATURES = 0x1B, 0x37, 0x3A
_SET_OF_FEATURES = 4  # ETH_SS_FEATURES
_NAME_BYTES = 32


def features(interface: str) -> frozenset[str]:
    """The names of the features that are on; none when the device does not tell."""
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking,
    ):
        return _features(asking, interface)
    return frozenset()


def _features(asking: socket.socket, interface: str) -> frozenset[str]:
    told = _ask(asking, interface, struct.pack("=IIQI", _GSSET_INFO, 0, 1 << _SET_OF_FEATURES, 0))
    (count,) = struct.unpack_from("=I", told, 16)
    told = _ask(
        asking,
        interface,
        struct.pack("=III", _GSTRINGS, _SET_OF_FEATURES, count) + bytes(count * _NAME_BYTES),
    )
    names = [told[12 + at * _NAME_BYTES :][:_NAME_BYTES].rstrip(b"\0").decode() for at in range(count)]
    blocks = (count + 31) // 32
    told = _ask(asking, interface, struct.pack("=II", _GFEATURES, blocks) + bytes(blocks * 16))
    # Of each block: what is available, requested, active, never changed.
    active = [struct.unpack_from("=IIII", told, 8 + block * 16)[2] for block in range(blocks)]
    return frozenset(name for at, name in enumerate(names) if active[at // 32] >> at % 32 & 1)


def _ask(asking: socket.socket, interface: str, request: bytes) -> bytes:
    buffer = ctypes.create_string_buffer(request, len(request))
    fcntl.ioctl(asking, _SIOCETHTOOL, struct.pack("@16sP", interface.encode(), ctypes.addressof(buffer)))
    return buffer.raw
