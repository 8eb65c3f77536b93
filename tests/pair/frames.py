"""Frames that a test sends by hand, and what comes back: no kernel's cache or retry stands between."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from ipaddress import ip_address

BROADCAST = b"\xff" * 6
_ARP, _IPV4, _IPV6 = 0x0806, 0x0800, 0x86DD


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _checksum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(destination: bytes, source: bytes, kind: int, payload: bytes) -> bytes:
    return destination + source + struct.pack(">H", kind) + payload


def ipv4(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    def header(checksum: int) -> bytes:
        return struct.pack(
            ">BBHHHBBH4s4s",
            *(0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, checksum),
            *(ip_address(source).packed, ip_address(destination).packed),
        )

    return header(_checksum(header(0))) + payload


def udp(source_port: int, destination_port: int) -> bytes:
    return struct.pack(">HHHH", source_port, destination_port, 12, 0) + b"data"


def ipv4_frame(mac: bytes, address: str, *, source_mac: bytes = b"\2\0\0\0\0\x99", port: int = 9) -> bytes:
    """A UDP datagram from 192.0.2.10 in a frame for any MAC."""
    return ethernet(mac, source_mac, _IPV4, ipv4("192.0.2.10", address, 17, udp(4000, port)))


def ipv6(source: str, destination: str) -> bytes:
    """A UDP datagram over IPv6."""
    payload = udp(4000, 9)
    addresses = ip_address(source).packed + ip_address(destination).packed
    return struct.pack(">IHBB", 0x60000000, len(payload), 17, 64) + addresses + payload


def ipv6_frame(mac: bytes, address: str, *, source_mac: bytes = b"\2\0\0\0\0\x99") -> bytes:
    return ethernet(mac, source_mac, _IPV6, ipv6("2001:db8::10", address))


def advertisement(source_mac: bytes, vhid: int, address: str = "192.0.2.2") -> bytes:
    """As much of a CARP advertisement as a guard looks at."""
    carp = bytes([0x21, vhid]) + bytes(34)
    return ethernet(mac_bytes("01:00:5e:00:00:12"), source_mac, _IPV4, ipv4(address, "224.0.0.18", 112, carp))


class Station:
    """A packet socket on an interface, to be made inside its host; it hears all that comes in."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._socket.bind((interface, 3))
        self.mac: bytes = self._socket.getsockname()[4]

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()

    def send(self, frame: bytes) -> None:
        """Send a frame as it is."""
        self._socket.send(frame)

    def hear(self, patience_s: float) -> bytes | None:
        """The next frame that comes in."""
        deadline_s = time.monotonic() + patience_s
        while (left_s := deadline_s - time.monotonic()) > 0 or patience_s == 0:
            if not select.select([self._socket], [], [], max(0.0, left_s))[0]:
                return None
            frame, details = self._socket.recvfrom(2048)
            if details[2] != socket.PACKET_OUTGOING:
                return frame
        return None

    def ask(self, address: str, own: str, patience_s: float) -> set[str]:
        """The MACs that answer for an address, IPv4 or IPv6, until time is up."""
        self.send(self.question(address, own))
        deadline_s = time.monotonic() + patience_s
        answered = set()
        while frame := self.hear(deadline_s - time.monotonic()):
            if mac := _answer(frame, address):
                answered.add(mac)
        return answered

    def ask_all(self, address: str, own: str, patience_s: float, quiet_s: float) -> set[str]:
        """The MACs that answer: the first one within ``patience_s``, the others soon after it."""
        self.send(self.question(address, own))
        answered: set[str] = set()
        deadline_s = time.monotonic() + patience_s
        while frame := self.hear(deadline_s - time.monotonic()):
            if mac := _answer(frame, address):
                if not answered:
                    deadline_s = time.monotonic() + quiet_s
                answered.add(mac)
        return answered

    def answers(self, address: str, own: str, patience_s: float) -> str | None:
        """The first MAC that answers."""
        self.send(self.question(address, own))
        deadline_s = time.monotonic() + patience_s
        while frame := self.hear(deadline_s - time.monotonic()):
            if mac := _answer(frame, address):
                return mac
        return None

    def question(self, address: str, own: str) -> bytes:
        """Who has the address? As a kernel asks, in its own name."""
        wanted, mine = ip_address(address).packed, ip_address(own).packed
        if len(wanted) == 4:
            arp = struct.pack(">HHBBH", 1, _IPV4, 6, 4, 1) + self.mac + mine + bytes(6) + wanted
            return ethernet(BROADCAST, self.mac, _ARP, arp)
        group = ip_address("ff02::1:ff00:0").packed[:13] + wanted[13:]
        body = struct.pack(">BBHI", 135, 0, 0, 0) + wanted + b"\1\1" + self.mac
        pseudo = mine + group + struct.pack(">II", len(body), 58)
        body = body[:2] + struct.pack(">H", _checksum(pseudo + body)) + body[4:]
        header = struct.pack(">IHBB", 0x60000000, len(body), 58, 255) + mine + group
        return ethernet(b"\x33\x33" + group[12:], self.mac, _IPV6, header + body)


def _answer(frame: bytes, address: str) -> str | None:
    """The MAC that an ARP reply or a neighbour advertisement gives for the address."""
    wanted = ip_address(address).packed
    with contextlib.suppress(IndexError, struct.error):
        (kind,) = struct.unpack_from(">H", frame, 12)
        if kind == _ARP and frame[20:22] == b"\0\2" and frame[28:32] == wanted:
            return frame[22:28].hex(":")
        if kind == _IPV6 and frame[20] == 58 and frame[54] == 136 and frame[62:78] == wanted:
            return frame[80:86].hex(":")
    return None
