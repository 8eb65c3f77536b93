"""What does the kernel's trace say of signals, victims and births?

Pure. The text is ``trace_pipe``'s, and the names in it are chosen by whoever runs a program: 15 bytes of
anything, also line ends and words of our own. So a record is found as a whole, by what stands around the
names, and never by splitting lines; what is not a record is passed over.

Source: include/trace/events/signal.h, oom.h, sched.h; kernel/trace/trace_output.c (trace_print_context).
"""

from __future__ import annotations

import re

from gimli.value import value

UNKNOWN_NAME = "<...>"
"""The trace's word for a sender whose name the kernel has not noted, or has forgotten."""
_HEAD = rb"(.{1,16}?)-(\d{1,10}) +(?:\( *[-\d]{1,10}\) +)?\[\d{3,6}\] \S{1,8} +(\d{1,12})\.(\d{6}): "
_SIGNAL = re.compile(
    _HEAD + rb"signal_generate: sig=(\d{1,3}) errno=-?\d{1,10} code=(-?\d{1,10}) "
    rb"comm=(?:.{0,63}?) pid=(\d{1,10}) grp=\d res=(\d)\n",
    re.DOTALL,
)
_VICTIM = re.compile(
    rb"\d: mark_victim: pid=(\d{1,10})(?: comm=.{0,63}? total-vm=\d+kB anon-rss=(\d{1,15})kB)?", re.DOTALL
)
_LOST = re.compile(rb"^CPU:\d{1,6} \[LOST (\d{1,15}) EVENTS\]$", re.MULTILINE)
_FORK = rb" sched_process_fork: comm=(.{0,63}?) pid=(\d{1,10}) child_comm=(.{0,63}?) child_pid=%d\n"
_EXEC = re.compile(rb"\d: sched_process_exec: filename=(.*) pid=(\d{1,10}) old_pid=\d{1,10}$")
_NAME_BYTES = 15
_ALREADY_PENDING = 2


@value
class Generated:
    """One signal, as the kernel generated it."""

    at_ns: int
    """On the clock of the trace: CLOCK_BOOTTIME."""
    sender_pid: int
    """Who ran when it was generated: for a code above 0 that is not who wanted it."""
    sender_comm: str
    """Empty when the kernel does not know it any more."""
    signo: int
    code: int
    pid: int
    """The task it is for."""
    result: int

    @property
    def is_merged(self) -> bool:
        """The same signal was pending already: the receiver sees one of the two."""
        return self.result == _ALREADY_PENDING

    @property
    def by_kernel(self) -> bool:
        """Not sent by a process: a fault, a limit, the OOM killer (si_code above 0, sigaction(2))."""
        return self.code > 0


@value
class Victim:
    """A process that the kernel's OOM killer has chosen."""

    pid: int
    anon_rss_bytes: int | None
    """What it held; kernels before 6.10 do not say."""


@value
class Birth:
    """Who started a process, which may be gone."""

    parent_pid: int
    parent_comm: str
    comm: str
    """The child's name at its birth: its parent's."""
    program: str
    """What it executed since, as the kernel then names it; empty when it did not."""


def parse_signals(text: bytes) -> list[Generated]:
    """The signals that were generated, oldest first."""
    return [_generated(match) for match in _SIGNAL.finditer(text)]


def parse_victims(text: bytes) -> list[Victim]:
    """The OOM killer's victims, oldest first."""
    return [
        Victim(int(match[1]), int(match[2]) * 1024 if match[2] else None) for match in _VICTIM.finditer(text)
    ]


def count_lost(text: bytes) -> int:
    """How many records the kernel has overwritten before they were read."""
    return sum(int(match[1]) for match in _LOST.finditer(text))


def find_birth(text: bytes, pid: int) -> Birth | None:
    """The last birth of ``pid`` in the trace; None when it is not, or no longer, there."""
    # A plain search for its end first: 100 times faster than the pattern on all of the text.
    end = text.rfind(b" child_pid=%d\n" % pid)
    if end < 0:
        return None
    start = text.rfind(b" sched_process_fork: comm=", max(0, end - 200), end)
    match = re.compile(_FORK % pid, re.DOTALL).match(text, start) if start >= 0 else None
    if match is None:
        return None
    return Birth(int(match[2]), _name(match[1]), _name(match[3]), _program_of(text[match.end() :], pid))


def _program_of(text: bytes, pid: int) -> str:
    """The last program that ``pid`` executed.

    A path is 4095 bytes of anything, so also whole records of ours. The trace's filter keeps those with a
    line end out (``monitor.trace``): what is between two of them is one record, and its end the kernel's.
    """
    ends = b" pid=%d old_pid=" % pid
    at = len(text)
    while (at := text.rfind(ends, 0, at)) >= 0:
        line = text[text.rfind(b"\n", 0, at) + 1 : text.find(b"\n", at)]
        match = _EXEC.search(line)
        if match and int(match[2]) == pid:
            return _name(match[1].rpartition(b"/")[2][:_NAME_BYTES])
    return ""


def _generated(match: re.Match[bytes]) -> Generated:
    name, sender, seconds, microseconds, signo, code, pid, result = match.groups()
    return Generated(
        at_ns=int(seconds) * 1_000_000_000 + int(microseconds) * 1000,
        sender_pid=int(sender),
        sender_comm=_name(name.lstrip(b" ")),
        signo=int(signo),
        code=int(code),
        pid=int(pid),
        result=int(result),
    )


def _name(raw: bytes) -> str:
    name = raw.decode(errors="replace")
    return "" if name == UNKNOWN_NAME else name
