"""Who is a process, and how did it end?

A pid alone names nobody: it is reused. A process is its pid and its start time, on one boot.
"""

from __future__ import annotations

import os
import signal

from gimli.value import value

Signals = signal.Signals
"""The kernel's numbers by name, for modules that are pure and import nothing that acts."""

CRASH_SIGNALS = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGSYS}
)
"""Signals that a program is sent for its own fault: their deaths get a report."""


@value
class ProcessId:
    """One process, for ever: the pid may be reused, the pair is not (on one boot)."""

    pid: int
    start_ticks: int


@value
class ExitStatus:
    """How a process ended: by exiting with ``code``, or by ``signo``; the other is None.

    Both are None of a process that was not our child, and whose status nobody has told us.
    """

    code: int | None = None
    signo: int | None = None
    core_dumped: bool = False

    @classmethod
    def from_waitid(cls, si_code: int, si_status: int) -> ExitStatus:
        """From the two fields of ``waitid``'s siginfo_t."""
        if si_code == os.CLD_EXITED:
            return cls(code=si_status)
        return cls(signo=si_status, core_dumped=si_code == os.CLD_DUMPED)

    @property
    def shell_status(self) -> int:
        """The status a shell reports: the code, or 128 plus the signal."""
        return 128 + self.signo if self.signo is not None else self.code or 0

    @property
    def is_fault(self) -> bool:
        """The program died by a signal that its own fault raises."""
        return self.signo in CRASH_SIGNALS

    def __str__(self) -> str:
        """``exit 3`` or ``SIGSEGV``, for the journal and for people."""
        if self.signo is not None:
            return signal_name(self.signo)
        return "status unknown" if self.code is None else f"exit {self.code}"


def signal_name(signo: int) -> str:
    """``SIGSEGV``; real-time signals as ``SIGRTMIN+3``; a number the kernel does not have as itself."""
    try:
        return signal.Signals(signo).name
    except ValueError:
        if signal.SIGRTMIN < signo < signal.SIGRTMAX:
            return f"SIGRTMIN+{signo - signal.SIGRTMIN}"
        return f"signal {signo}"


def parse_signal(text: str) -> int:
    """The number of a signal written as ``HUP``, ``SIGHUP``, ``sighup`` or ``1``.

    Raises:
        ValueError: there is no such signal.
    """
    name = text.strip().upper()
    if name.isdecimal():
        return int(signal.Signals(int(name)))
    try:
        return int(signal.Signals[name if name.startswith("SIG") else f"SIG{name}"])
    except KeyError:
        raise ValueError(f"{text!r} is not a signal") from None


def parse_stat(text: bytes) -> list[bytes]:
    """Fields of ``/proc/PID/stat`` from the third (state) on: the name may hold spaces and brackets.

    Raises:
        ValueError: the text is not a stat line.
    """
    _, bracket, rest = text.rpartition(b")")
    if not bracket:
        raise ValueError("no process name in stat line")
    return rest.split()


def identify(pid: int) -> ProcessId | None:
    """The process that has this pid now, or None.

    Source: proc(5), /proc/pid/stat, field 22 (starttime).
    """
    stat = _read(f"/proc/{pid}/stat")
    if not stat:
        return None
    return ProcessId(pid, int(parse_stat(stat)[19]))


def parent_of(pid: int) -> int | None:
    """The parent's pid, or None when the process is gone."""
    stat = _read(f"/proc/{pid}/stat")
    return int(parse_stat(stat)[1]) if stat else None


_GENERATIONS_MAX = 64


def belongs_to(pid: int, leader: int) -> bool:
    """Whether a process is in the session that ``leader`` leads, or descends from it."""
    return leader in kin_of(pid)


def kin_of(pid: int) -> tuple[int, ...]:
    """The leader of a process's session, and its forebears, nearest first; empty when it is gone."""
    stat = _read(f"/proc/{pid}/stat")
    kin = [int(parse_stat(stat)[3])] if stat else []
    for _ in range(_GENERATIONS_MAX):
        parent = parent_of(pid)
        if not parent:
            break
        kin.append(parent)
        pid = parent
    return tuple(kin)


def command_line(pid: int) -> list[str]:
    """The arguments of a process; empty when it is gone or a kernel thread."""
    text = _read(f"/proc/{pid}/cmdline")
    return [part.decode(errors="replace") for part in text.split(b"\0")[:-1]]


def command_name(pid: int) -> str:
    """The kernel's 15-byte name of a process; empty when it is gone."""
    return _read(f"/proc/{pid}/comm").rstrip(b"\n").decode(errors="replace")


def describe_command(command: list[str]) -> str:
    """A command as a person would type it, with quotes only where a shell needs them."""
    import shlex  # noqa: PLC0415 - 4 ms of import that only messages need

    return shlex.join(command)


def _read(path: str) -> bytes:
    """A /proc file whole, or nothing when the process is gone or not ours to read."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""
