"""A service that can testify: was it ever doubled, and did all of its output arrive?

As a program (``python witness.py DIRECTORY BEHAVIOUR [KEY=VALUE...]``) it takes a resource that only one copy
can have, an abstract unix socket of its name, and raises an alarm in DIRECTORY/alarms when it is taken. It
numbers each line it writes, and keeps the count of those it has written in a file that outlives it.

As a module it holds the other side: ``Account`` reads the lines that arrived, and says which are missing.
It needs no library, so that it starts fast and dies in the ways it is told to.
"""

from __future__ import annotations

import glob
import mmap
import os
import random
import re
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType
    from typing import NoReturn

PROGRAM = os.path.abspath(__file__)
EXIT_AS_TOLD = 7
"""The status with which a witness ends after USR1."""
EXIT_DOUBLED = 97
_LINE = re.compile(rb"(\S+) (\d+\.\d+) (\d+) (\d+) x*\n")
_COUNT = struct.Struct("=Q")
_STILL_BYTES = 1
_CHUNK_LINES = 20


def command(directory: str, behaviour: str = "steady", **told: float) -> list[str]:
    """The command of a witness.

    Args:
        directory: where its count and its alarms go.
        behaviour: steady, flood, crash, exit, hang, fork, or deaf.
        told: ``interval_s`` between lines, ``width`` of a line in bytes, ``seed``, ``trouble_s`` until it
            misbehaves (about).
    """
    pairs = (f"{key}={value}" for key, value in told.items())
    return [sys.executable, "-S", PROGRAM, directory, behaviour, *pairs]


def prepare(directory: str) -> str:
    """Make a directory for witnesses."""
    os.makedirs(os.path.join(directory, "counts"), exist_ok=True)
    with open(os.path.join(directory, "control"), "wb") as file:
        file.write(bytes(_STILL_BYTES))
    return directory


def be_still(directory: str, *, still: bool) -> None:
    """Have all witnesses do nothing, neither good nor bad; or go on."""
    with open(os.path.join(directory, "control"), "r+b") as file:
        file.write(bytes([still]))


def alarms(directory: str) -> list[str]:
    """What was cried out: each line is a second copy."""
    try:
        with open(os.path.join(directory, "alarms"), encoding="utf-8") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def counts(directory: str) -> dict[str, int]:
    """How many lines each instance has written, as far as it came to count them."""
    found = {}
    for path in glob.glob(os.path.join(directory, "counts", "*")):
        with open(path, "rb") as file:
            found[os.path.basename(path)] = _COUNT.unpack(file.read(_COUNT.size))[0]
    return found


# What arrived.


@dataclass(frozen=True, slots=True)
class Fault:
    """Lines of one instance that did not come as they were written."""

    instance: str
    what: str
    since_ms: int
    until_ms: int
    """On CLOCK_MONOTONIC: the last good line before, and the first after."""


@dataclass(slots=True)
class _Arrived:
    number: int = 0
    at_ms: int = 0


@dataclass(slots=True)
class Account:
    """The lines of one service, in the order in which they arrived."""

    faults: list[Fault] = field(default_factory=list)
    lines: int = 0
    _instances: dict[str, _Arrived] = field(default_factory=dict)
    _is_open: bool = False
    """What came before is not known: an instance may begin with any number."""
    _rest: bytes = b""
    _at_ms: int = 0

    def feed(self, data: bytes) -> None:
        """Take what was appended to the log."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line + b"\n")

    def _take(self, line: bytes) -> None:
        match = _LINE.fullmatch(line)
        if not match:
            text = line[:120].decode(errors="replace")
            self.faults.append(Fault("", f"a damaged line: {text!r}", self._at_ms, self._at_ms))
            return
        self.lines += 1
        instance, number, at_ms = match[2].decode(), int(match[3]), int(match[4])
        first = number - 1 if self._is_open else 0
        before = self._instances.setdefault(instance, _Arrived(first, at_ms))
        if number > before.number + 1:
            what = f"lines {before.number + 1} to {number - 1} are missing"
            self.faults.append(Fault(instance, what, before.at_ms, at_ms))
        elif number <= before.number:
            what = f"line {number} came again after {before.number}"
            self.faults.append(Fault(instance, what, before.at_ms, at_ms))
        before.number, before.at_ms = max(number, before.number), at_ms
        self._at_ms = at_ms

    def forget(self) -> None:
        """Lines went by unseen: each instance may go on with any number."""
        self._instances.clear()
        self._rest = b""
        self._is_open = True

    def close(self, written: dict[str, int]) -> list[Fault]:
        """All faults, when nothing more will come.

        Args:
            written: how many lines each instance has counted. One that was killed between a line and its
                count has written one more.
        """
        now_ms = time.monotonic_ns() // 1_000_000
        ends = []
        for instance, count in written.items():
            arrived = self._instances.get(instance, _Arrived())
            if arrived.number < count:
                what = f"the last lines, {arrived.number + 1} to {count}, are missing"
                ends.append(Fault(instance, what, arrived.at_ms, now_ms))
        return self.faults + ends


def account_of(directory: str, log_paths: Iterable[str]) -> list[Fault]:
    """The faults of one service's whole output.

    Args:
        directory: of the one witness that wrote it.
        log_paths: its log files, oldest first; those that are not there are passed over.
    """
    account = Account()
    for path in log_paths:
        if os.path.exists(path):
            with open(path, "rb") as file:
                account.feed(file.read())
    return account.close(counts(directory))


# The program.


class Witness:
    """The program."""

    def __init__(self, directory: str, told: dict[str, float]) -> None:
        self.name = os.environ.get("GIMLI_SERVICE", "nobody")
        self.instance = f"{os.getpid()}.{time.monotonic_ns()}"
        self._directory = directory
        self._alone = self._claim()
        self.interval_s = told.get("interval_s", 0.001)
        self.trouble_s = told.get("trouble_s", 2.0)
        # Another course for each instance; the pid is the part that the kernel chooses.
        self.dice = random.Random(told.get("seed", 0) + os.getpid())
        self._width = int(told.get("width", 60))
        self._number = 0
        self._count = self._map(os.path.join("counts", self.instance), _COUNT.size)
        self._still = self._map("control", _STILL_BYTES)

    def _claim(self) -> socket.socket:
        alone = socket.socket(socket.AF_UNIX)
        try:
            alone.bind(f"\0gimli-witness-{self._directory}-{self.name}")
        except OSError:
            alarm = f"{time.monotonic_ns() // 1_000_000} a second copy of {self.name}: pid {os.getpid()}\n"
            with open(os.path.join(self._directory, "alarms"), "a", encoding="utf-8") as file:
                file.write(alarm)
            os._exit(EXIT_DOUBLED)
        return alone

    def give_up_claim(self) -> None:
        """This process is not the service."""
        self._alone.close()

    def _map(self, name: str, size_bytes: int) -> mmap.mmap:
        with open(os.path.join(self._directory, name), "a+b") as file:
            if not file.tell():
                file.truncate(size_bytes)
            return mmap.mmap(file.fileno(), size_bytes)

    @property
    def is_still(self) -> bool:
        """It was asked to do nothing."""
        return self._still[0] != 0

    def say(self) -> None:
        """One line, and its count. Shorter than PIPE_BUF: it is written whole or not at all."""
        number = self._number + 1
        head = f"{self.name} {self.instance} {number} {time.monotonic_ns() // 1_000_000} ".encode()
        os.write(1, head + b"x" * max(0, self._width - len(head) - 1) + b"\n")
        self._number = number
        _COUNT.pack_into(self._count, 0, number)

    def talk(self, seconds: float) -> None:
        """Lines for a while; without an end when it is asked to be still."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s or self.is_still:
            if self.is_still:
                time.sleep(0.05)
            else:
                self.say()
                time.sleep(self.interval_s)


def _steady(witness: Witness) -> None:
    while True:
        witness.talk(3600)


def _flood(witness: Witness) -> None:
    """Far more at once than a pipe holds."""
    while True:
        for _ in range(witness.dice.randrange(2000)):
            witness.say()
        witness.talk(witness.dice.random() * 0.4)


def _crash(witness: Witness) -> None:
    witness.talk(witness.dice.random() * 2 * witness.trouble_s)
    if witness.dice.random() < 0.5:
        os.kill(os.getpid(), signal.SIGSEGV)
    import ctypes  # noqa: PLC0415 - only this one dies by it, and the others start faster

    ctypes.string_at(0)


def _exit(witness: Witness) -> None:
    witness.talk(witness.dice.random() * 2 * witness.trouble_s)
    os._exit(witness.dice.randrange(4))


def _hang(witness: Witness) -> None:
    """Beats as the original's library does, by state and ticks; and then stops beating."""
    page = mmap.mmap(int(os.environ["GIMLI_HB_FD"]), 4096)
    healthy_until_s = time.monotonic() + witness.dice.random() * 2 * witness.trouble_s
    ticks = 0
    while time.monotonic() < healthy_until_s or witness.is_still:
        ticks += 1
        page[0:8] = struct.pack("=ii", 2, ticks)
        witness.talk(0.05) if not witness.is_still else time.sleep(0.05)
    while not witness.is_still:
        witness.say()
        time.sleep(0.05)
    _hang(witness)


def _fork(witness: Witness) -> None:
    """Children that outlive their parent's patience; it reaps none of them in a hurry."""
    while True:
        if not witness.is_still and os.fork() == 0:
            witness.give_up_claim()  # it is the main process that there is one of
            if witness.dice.random() < 0.3:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(witness.dice.random() * 2)
            os._exit(0)
        witness.talk(witness.dice.random())
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    break
            except ChildProcessError:
                break


def _deaf(witness: Witness) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _steady(witness)


BEHAVIOURS = {
    "steady": _steady,
    "flood": _flood,
    "crash": _crash,
    "exit": _exit,
    "hang": _hang,
    "fork": _fork,
    "deaf": _deaf,
}


def main() -> NoReturn:
    """Behave, for ever or until the trouble that was asked for."""

    def leave(_signo: int, _frame: FrameType | None) -> None:
        os._exit(0)

    def leave_as_told(_signo: int, _frame: FrameType | None) -> None:
        os._exit(EXIT_AS_TOLD)

    directory, behaviour, *pairs = sys.argv[1:]
    witness = Witness(directory, {key: float(value) for key, _, value in (p.partition("=") for p in pairs)})
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGUSR1, leave_as_told)
    BEHAVIOURS[behaviour](witness)
    os._exit(1)


if __name__ == "__main__":
    main()
