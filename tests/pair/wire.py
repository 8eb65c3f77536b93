"""A throwaway node on a real link: the machine, the packets, a packet socket, and nothing else of a daemon.

Whoever takes part in a test has a file descriptor that is read when it is ready, and perhaps a time when it
is due; ``run_until`` waits for those and never sleeps.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import time
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from gimli.pair import carp, carp_actions, carp_events
from gimli.pair.announce import announcements
from gimli.pair.carp_actions import Timer
from gimli.pair.election import judge_advertisement
from gimli.pair.packet import PacketRefused, Refusal, pack_frame, parse_advertisement, virtual_mac

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gimli.lab.namespaces import Host
    from gimli.pair.authenticator import Authenticator
    from gimli.pair.packet import Address, Advertisement
    from gimli.pair.vhid import Vhid

PATIENCE_S = 30.0
_ETH_P_IP = 0x0800
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Party(Protocol):
    """Whoever takes part."""

    def fileno(self) -> int:
        """What is read when it is ready."""

    def read(self) -> None:
        """It is ready."""

    def due_s(self) -> float:
        """When it wants to be woken at the latest."""

    def wake(self) -> None:
        """It may be due."""


def run_until(condition: Callable[[], bool], *parties: Party) -> None:
    """Let the parties live until the condition holds, which it must."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        now_s = time.monotonic()
        assert now_s < deadline_s, "it does not come"
        until_s = min([deadline_s, *(party.due_s() for party in parties)])
        for party in select.select(parties, [], [], max(0.0, until_s - now_s))[0]:
            party.read()
        for party in parties:
            party.wake()


@contextlib.contextmanager
def inside(host: Host) -> Iterator[None]:
    """Sockets that are opened meanwhile are the host's."""
    with (
        open("/proc/thread-self/ns/net", encoding="ascii") as home,
        open(f"/proc/{host.pid}/ns/net", encoding="ascii") as there,
    ):
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):  # os.setns is of Python 3.12
        raise OSError(ctypes.get_errno(), "setns")


class Wire:
    """A packet socket: the IPv4 frames that arrive at a host's interface."""

    def __init__(self, host: Host, device: str) -> None:
        with inside(host):
            self.socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_IP)
            )
            self.socket.bind((device, _ETH_P_IP))
        self.frames: list[bytes] = []

    def fileno(self) -> int:
        """The socket."""
        return self.socket.fileno()

    def read(self) -> None:
        """Keep all that has come."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.hear(self.socket.recv(2048))

    def hear(self, frame: bytes) -> None:
        """Keep a frame."""
        self.frames.append(frame)

    def due_s(self) -> float:
        """It waits for nothing."""
        return float("inf")

    def wake(self) -> None:
        """It waits for nothing."""

    def close(self) -> None:
        """Leave the link."""
        self.socket.close()


class Node(Wire):
    """A node of one vhid that holds no addresses: elections are real, nothing else is."""

    def __init__(
        self, host: Host, device: str, vhid: Vhid, authenticator: Authenticator, vip: Address
    ) -> None:
        super().__init__(host, device)
        self.vhid = vhid
        self.authenticator = authenticator
        self.vip = vip
        self.cookie = 0x6769_6D6C_6900_0000
        self.timers: dict[Timer, tuple[float, float]] = {}
        self.told: list[str] = []
        self.sent = 0
        self.sent_s = 0.0
        self.refused: Counter[Refusal] = Counter()

    def hear(self, frame: bytes) -> None:
        """Judge an advertisement, or count why it was none."""
        try:
            heard = parse_advertisement(frame[14:])
            self.authenticator.verify(heard.advertisement, range(self.cookie, self.cookie + 1))
        except PacketRefused as refused:
            self.refused[refused.kind] += 1
        else:
            self.give(judge_advertisement(self.vhid, heard))

    def give(self, event: carp_events.Event) -> None:
        """Let an event happen."""
        self.vhid, actions = carp.step(self.vhid, event)
        for action in actions:
            match action:
                case carp_actions.SendAdvertisement(advbase, advskew, demotion):
                    self._send(self.authenticator.sign(advbase, advskew, demotion, self.cookie))
                case carp_actions.SendBowOut():
                    self._send(self.authenticator.bow_out(self.cookie))
                case carp_actions.Arm(timer, after_s):
                    now_s = time.monotonic()
                    self.timers[timer] = (now_s, now_s + after_s)
                case carp_actions.Disarm(timer):
                    self.timers.pop(timer, None)
                case carp_actions.Announce():
                    for announcement in announcements([self.vip], virtual_mac(self.vhid.vhid), router=False):
                        self.socket.send(announcement)
                case carp_actions.Tell(_, why):
                    self.told.append(why)
                case carp_actions.TellDeaf(_, why):
                    self.told.append(why)

    def due_s(self) -> float:
        """The next timer."""
        return min([until_s for _, until_s in self.timers.values()], default=float("inf"))

    def wake(self) -> None:
        """Let the timers run out that are due."""
        now_s = time.monotonic()
        for timer, (armed_s, until_s) in list(self.timers.items()):
            if until_s <= now_s and self.timers.pop(timer, None):
                self.give(
                    {
                        Timer.MASTER_DOWN: carp_events.MasterDownExpired(now_s - armed_s),
                        Timer.ADVERTISE: carp_events.AdvertiseDue(),
                        Timer.ANNOUNCE: carp_events.AnnounceDue(),
                    }[timer]
                )

    def _send(self, advertisement: Advertisement) -> None:
        self.socket.send(pack_frame(advertisement, self.vhid.source, virtual_mac(self.vhid.vhid)))
        self.sent += 1
        self.sent_s = time.monotonic()


class Program:
    """A real program, seen through what it says."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        stream = process.stderr or process.stdout
        assert stream is not None
        self._stream = stream
        os.set_blocking(stream.fileno(), False)
        self.said = ""

    def fileno(self) -> int:
        """Where it says it."""
        return self._stream.fileno()

    def read(self) -> None:
        """Keep what it says."""
        said = self._stream.read()
        assert said, f"{self.process.args} has ended: {self.said}"
        self.said += said.decode()

    def due_s(self) -> float:
        """It has a clock of its own."""
        return float("inf")

    def wake(self) -> None:
        """It has a clock of its own."""

    def count(self, words: str) -> int:
        """How often it has said that."""
        return self.said.count(words)

    def close(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._stream.close()


def start_ucarp(host: Host, device: str, source: str, *options: str, password: str, vip: Address) -> Program:
    """The real one, without scripts that would take the address."""
    return Program(
        host.start(
            *("ucarp", "-i", device, "-s", source, "-p", password, "-a", str(vip)),
            *("-u", "/bin/true", "-d", "/bin/true", "-z", "-n", *options),
            stderr=subprocess.PIPE,
        )
    )
