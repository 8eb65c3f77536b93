"""New connections at a rate, and how long until another kernel has them.

python bench/sync_generator.py RATE SECONDS REPLICA-PID PROBES

Runs in the owner's namespace and inserts connections as raw ctnetlink messages. Every 10 ms it takes one as a
probe (PROBES 1), and asks the kernel in the namespace of that process until it has it. Says ``ready``, waits
for a line, and prints what it did as JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import sys
import time
from collections import deque

from gimli.pair import ctmessage, netlink

_CLONE_NEWNET = 0x40000000
_BATCH_S = 0.001
_PROBE_EVERY_S = 0.01
_PATIENCE_S = 20.0


def main() -> None:
    """The command line."""
    rate, seconds, pid, with_probes = (
        int(sys.argv[1]),
        float(sys.argv[2]),
        int(sys.argv[3]),
        sys.argv[4] == "1",
    )
    os.setpriority(os.PRIO_PROCESS, 0, -20)  # to keep the rate on a machine that has other work
    messages = [insertion(number) for number in range(int(rate * seconds))]
    here = netlink_socket()
    there = socket_of(pid)
    there.setblocking(False)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(generate(messages, rate, here, there if with_probes else None)), flush=True)


def generate(
    messages: list[bytes], rate: int, here: socket.socket, there: socket.socket | None
) -> dict[str, object]:
    """Insert, at a rate or as fast as it goes, and probe meanwhile; then wait for the last probes."""
    lags: list[float] = []
    probes: deque[tuple[float, bytes]] = deque()
    begin_s = time.monotonic()
    sent, next_probe_s = 0, begin_s
    while sent < len(messages):
        now_s = time.monotonic()
        wanted = min(len(messages), int((now_s - begin_s) * rate) + 1)
        batch = messages[sent : min(wanted, sent + 100)]
        if batch:
            here.send(b"".join(batch))
            sent += len(batch)
            if there and now_s >= next_probe_s:
                next_probe_s = now_s + _PROBE_EVERY_S
                probes.append((now_s, question(batch[-1])))
        if there:
            look(probes, there, lags)
        if sent == wanted:
            time.sleep(_BATCH_S)
    took_s = time.monotonic() - begin_s
    give_up_s = time.monotonic() + _PATIENCE_S
    while there and probes and time.monotonic() < give_up_s:
        look(probes, there, lags)
        time.sleep(_BATCH_S)
    return {"generated": sent, "rate": sent / took_s, "lags_s": lags, "never": len(probes)}


def look(probes: deque[tuple[float, bytes]], there: socket.socket, lags: list[float]) -> None:
    """Ask for the oldest probes, a few at once: a replica that lags must not slow the generator down."""
    for _ in range(4):
        if not probes:
            return
        since_s, message = probes[0]
        there.send(message)
        kind = netlink.HEADER.unpack_from(there.recv(4096))[1]
        if kind == netlink.ERROR:
            return
        lags.append(time.monotonic() - since_s)
        probes.popleft()


def insertion(number: int) -> bytes:
    """An established TCP connection, each another."""
    client = struct.pack(">I", 0x0A010000 + number)
    server, ports = bytes((192, 0, 2, 1 + number % 7)), (1024 + number % 60_000, 443)

    def tuple_of(kind: int, source: bytes, destination: bytes, from_port: int, to_port: int) -> bytes:
        return netlink.nest(
            kind,
            netlink.nest(1, netlink.attribute(1, source), netlink.attribute(2, destination)),
            netlink.nest(
                2,
                netlink.attribute(1, b"\x06"),
                netlink.attribute(2, struct.pack(">H", from_port)),
                netlink.attribute(3, struct.pack(">H", to_port)),
            ),
        )

    tcp = netlink.nest(
        1,
        netlink.attribute(1, b"\x03"),  # ESTABLISHED
        *(netlink.attribute(kind, b"\x07") for kind in (2, 3)),  # window scales
        *(netlink.attribute(kind, b"\x03\x03") for kind in (4, 5)),  # flags, and that they are meant
    )
    body = b"".join(
        [
            tuple_of(1, client, server, *ports),
            tuple_of(2, server, client, *reversed(ports)),
            netlink.attribute(ctmessage.STATUS, struct.pack(">I", 0xE)),  # confirmed, seen reply, assured
            netlink.attribute(ctmessage.TIMEOUT, struct.pack(">I", 432_000)),
            netlink.nest(ctmessage.PROTOINFO, tcp),
        ]
    )
    flags = netlink.REQUEST | netlink.CREATE
    return netlink.HEADER.pack(ctmessage.BODY + len(body), ctmessage.NEW, flags, 0, 0) + b"\x02\0\0\0" + body


def question(message: bytes) -> bytes:
    """Ask for the connection of a message."""
    key = ctmessage.key_of(message)
    header = netlink.HEADER.pack(ctmessage.BODY + len(key), ctmessage.GET, netlink.REQUEST, 1, 0)
    return header + b"\x02\0\0\0" + key


def netlink_socket() -> socket.socket:
    """A ctnetlink socket of this namespace."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    made.bind((0, 0))
    return made


def socket_of(pid: int) -> socket.socket:
    """One of another process's namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    away = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    assert libc.setns(away, _CLONE_NEWNET) == 0
    try:
        return netlink_socket()
    finally:
        assert libc.setns(home, _CLONE_NEWNET) == 0


if __name__ == "__main__":
    main()
