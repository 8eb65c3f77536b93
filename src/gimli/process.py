"""Who is a process, and how did it end?

A pid alone names nobody: it is reused. A process is its pid and its start time, on one boot.
"""

from __future__ import annotations

import os
import signal

from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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

    Both are None when nobody could learn it: it was not our child, or ended while no monitor ran.
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

    @classmethod
    def from_wait_status(cls, status: int) -> ExitStatus:
        """From the status word of ``wait4``, which the kernel also shows in other places."""
        if os.WIFSIGNALED(status):
            return cls(signo=os.WTERMSIG(status), core_dumped=os.WCOREDUMP(status))
        return cls(code=os.WEXITSTATUS(status))

    @property
    def is_known(self) -> bool:
        """Somebody saw how it ended."""
        return self.code is not None or self.signo is not None

    @property
    def shell_status(self) -> int:
        """The status a shell reports: the code, or 128 plus the signal; 1 where nobody knows."""
        if self.signo is not None:
            return 128 + self.signo
        return 1 if self.code is None else self.code

    @property
    def is_fault(self) -> bool:
        """The program died by a signal that its own fault raises."""
        return self.signo in CRASH_SIGNALS

    def __str__(self) -> str:
        """``exit 3`` or ``SIGSEGV``, for the journal and for people."""
        if self.signo is not None:
            return signal_name(self.signo)
        return "an unknown status" if self.code is None else f"exit {self.code}"


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


def status_of_zombie(pid: int) -> ExitStatus | None:
    """How a process ended that nobody has reaped yet; None of any other.

    Source: proc(5), /proc/pid/stat, field 52 (exit_code), as waitpid(2) has it. It reads 0 for those who may
    not trace it, so that only what root or the same user reads is taken.
    """
    stat = _read(f"/proc/{pid}/stat")
    fields = parse_stat(stat) if stat else []
    if len(fields) <= _EXIT_CODE or fields[0] != b"Z" or os.geteuid() not in {0, owner_of(pid)}:
        return None
    return ExitStatus.from_wait_status(int(fields[_EXIT_CODE]))


def parent_of(pid: int) -> int | None:
    """The parent's pid, or None when the process is gone."""
    stat = _read(f"/proc/{pid}/stat")
    return int(parse_stat(stat)[1]) if stat else None


def state_of(pid: int) -> str:
    """The kernel's letter for what a process does (R, S, D, T, t, Z, X); empty when it is gone."""
    stat = _read(f"/proc/{pid}/stat")
    return parse_stat(stat)[0].decode() if stat else ""


def session_of(pid: int) -> int | None:
    """The session that a process is in; None when it is gone."""
    stat = _read(f"/proc/{pid}/stat")
    return int(parse_stat(stat)[3]) if stat else None


def children_of(pid: int) -> list[int]:
    """The children of a process's main thread, zombies included.

    Source: proc(5), /proc/PID/task/TID/children.
    """
    return [int(child) for child in _read(f"/proc/{pid}/task/{pid}/children").split()]


def all_pids() -> list[int]:
    """Every process that can be seen."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def environment(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty when it is gone, not ours to read, or overwritten."""
    pairs = (
        part.decode(errors="replace").partition("=") for part in _read(f"/proc/{pid}/environ").split(b"\0")
    )
    return {name: text for name, equals, text in pairs if equals}


_EXIT_CODE = 49  # field 52, counted from the third
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


_ARGUMENTS_MAX = 32
_ARGUMENT_CHARS_MAX = 200
_ANCESTORS_MAX = 3


def describe_sender(pid: int, uid: int | None) -> dict[str, Any]:
    """Who sent a signal: ``pid, uid, comm, cmdline, parent``; of one that is gone, what is left.

    One reading of /proc/PID/stat for each process: a restart waits for this.

    Args:
        pid: 0 for the kernel.
        uid: as the signal itself says; None to ask for the process's owner.
    """
    if pid == 0:
        return {"pid": 0, "uid": 0, "comm": "kernel", "cmdline": [], "parent": None}
    comm, parent = _name_and_parent(pid)
    arguments = command_line(pid)[:_ARGUMENTS_MAX]
    return {
        "pid": pid,
        "uid": owner_of(pid) if uid is None else uid,
        "comm": comm,
        "cmdline": [argument[:_ARGUMENT_CHARS_MAX] for argument in arguments],
        "parent": describe_ancestors(parent),
    }


def describe_ancestors(pid: int | None, generations: int = _ANCESTORS_MAX) -> dict[str, Any] | None:
    """A process and who started it, and so on: ``pid, comm, parent``. The first process is nobody's news."""
    if not pid or not generations:
        return None
    comm, grandparent = _name_and_parent(pid)
    older = describe_ancestors(grandparent, generations - 1) if grandparent != 1 else None
    return {"pid": pid, "comm": comm, "parent": older}


def _name_and_parent(pid: int) -> tuple[str, int | None]:
    """The kernel's name of a process and its parent; empty and None when it is gone."""
    stat = _read(f"/proc/{pid}/stat")
    if not stat:
        return "", None
    return stat[stat.index(b"(") + 1 : stat.rindex(b")")].decode(errors="replace"), int(parse_stat(stat)[1])


def sender_in_words(sender: dict[str, Any]) -> str:
    """``sh (pid 4121) of cron (pid 633)``; of a sender without a name, its pid."""
    if sender.get("oom"):
        return "the kernel, which was out of memory"
    if sender.get("pid") == 0:
        return "the kernel"
    parent = sender.get("parent")
    of = f" of {_in_words(parent)}" if isinstance(parent, dict) and parent.get("pid") != 1 else ""
    return _in_words(sender) + of


def _in_words(process: dict[str, Any]) -> str:
    return f"{process.get('comm') or 'a process'} (pid {process.get('pid', '?')})"


def owner_of(pid: int) -> int | None:
    """The user that a process runs as; None when it is gone."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def describe_command(command: list[str]) -> str:
    """A command as a person would type it, with quotes only where a shell needs them."""
    import shlex  # noqa: PLC0415 - 4 ms of import that only messages need

    return shlex.join(command)


def read_kernel_file(path: str) -> bytes:
    """A file of /proc or /sys whole. By four calls: a file object makes seven, and a restart reads a dozen.

    Raises:
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, _READ_BYTES)
        while data and (more := os.read(fd, _READ_BYTES)):
            data += more
    finally:
        os.close(fd)
    return data


_READ_BYTES = 16_384


def _read(path: str) -> bytes:
    """A /proc file whole, or nothing when the process is gone or not ours to read."""
    try:
        return read_kernel_file(path)
    except OSError:
        return b""
