"""How do frames leave, and how is CARP heard?

By packet sockets: whole Ethernet frames, whatever a firewall on this host thinks of protocol 112, and from
a MAC that is not the interface's.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct

from gimli.errors import GimliError
from gimli.pair import bpf

_ETH_P_ALL = 0x0003
_SOL_PACKET = 263
_ADD_MEMBERSHIP, _MR_MULTICAST = 1, 0
_IGNORE_OUTGOING = 23  # PACKET_IGNORE_OUTGOING, Linux 4.20
_FRAME_BYTES = 2048
_FRAMES_AT_ONCE = 64
_GROUPS = (bytes.fromhex("01005e000012"), bytes.fromhex("333300000012"))
_IPV6_GROUP = "ff02::12"

_ONLY_CARP: bpf.Program = (
    (bpf.LOAD_BYTE, 0, 0, bpf.VLAN_TAG_PRESENT),
    (bpf.JUMP_EQUAL, 0, 10, 0),  # another VLAN's: its own interface hears it
    (bpf.LOAD_HALF, 0, 0, 12),
    (bpf.JUMP_EQUAL, 0, 5, 0x0800),
    (bpf.LOAD_BYTE, 0, 0, 23),  # IPv4: protocol
    (bpf.JUMP_EQUAL, 0, 6, 112),
    (bpf.LOAD_HALF, 0, 0, 20),
    (bpf.JUMP_ANY_BIT, 4, 0, 0x1FFF),  # not the first fragment: no header in it
    (bpf.RETURN, 0, 0, bpf.WHOLE),
    (bpf.JUMP_EQUAL, 0, 2, 0x86DD),
    (bpf.LOAD_BYTE, 0, 0, 20),  # IPv6: next header
    (bpf.JUMP_EQUAL, 1, 0, 112),
    (bpf.RETURN, 0, 0, 0),
    (bpf.RETURN, 0, 0, bpf.WHOLE),
)


class WireRefused(GimliError):
    """No packet socket can be had on the interface."""


class Sender:
    """Sends Ethernet frames from one interface.

    Args:
        interface: its name.

    Raises:
        WireRefused: no such interface, or no right to.
    """

    def __init__(self, interface: str) -> None:
        self._socket = _packet_socket(interface, 0)  # protocol 0 receives nothing

    def send(self, frame: bytes) -> OSError | None:
        """Send a frame, without waiting.

        Returns:
            Why it was not sent, None when it was. ENOBUFS is also how the guard says no.
        """
        try:
            self._socket.send(frame)
        except OSError as error:
            return error
        return None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Receiver:
    """Hears CARP on one interface: IPv4 and IPv6, to the group or to us, never what we sent.

    Args:
        interface: its name.

    Raises:
        WireRefused: no such interface, or no right to.
    """

    def __init__(self, interface: str) -> None:
        self._socket = _packet_socket(interface, 0)
        index = socket.if_nametoindex(interface)
        bpf.attach(self._socket, _ONLY_CARP)
        self._socket.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        for group in _GROUPS:
            # packet_mreq: index, type, length, address
            wish = struct.pack("=iHH8s", index, _MR_MULTICAST, len(group), group)
            self._socket.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, wish)
        self._socket.bind((interface, _ETH_P_ALL))
        # A switch that snoops on MLD sends ff02::12 to those who have asked for it, which the kernel does.
        self._asking = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) if socket.has_ipv6 else None
        if self._asking is not None:
            wish = socket.inet_pton(socket.AF_INET6, _IPV6_GROUP) + struct.pack("=I", index)
            with contextlib.suppress(OSError):  # no IPv6 on this interface
                self._asking.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, wish)

    def fileno(self) -> int:
        """To be watched for reading."""
        return self._socket.fileno()

    def receive(self) -> list[bytes]:
        """The frames that have come, at most 64, without waiting."""
        frames: list[bytes] = []
        while len(frames) < _FRAMES_AT_ONCE:
            try:
                frames.append(self._socket.recv(_FRAME_BYTES))
            except BlockingIOError:
                break
            except OSError as error:
                # The interface has gone down or away. This socket hears it once; linkwatch.py tells it.
                if error.errno != errno.ENETDOWN:
                    raise
        return frames

    def close(self) -> None:
        """Close the sockets; the memberships end."""
        self._socket.close()
        if self._asking is not None:
            self._asking.close()


def _packet_socket(interface: str, protocol: int) -> socket.socket:
    try:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        made.bind((interface, protocol))
    except OSError as error:
        raise WireRefused(
            f"cannot open a packet socket on {interface}",
            why=str(error),
            fix="it takes root (CAP_NET_RAW)" if error.errno == errno.EPERM else "see: ip link",
        ) from error
    return made
