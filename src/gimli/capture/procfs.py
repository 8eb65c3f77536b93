"""What does /proc say of a process?

Read as bytes of a hostile author: a process names itself, its threads, its files and its environment as it
likes, and may end in the middle of any read. Nothing here raises for either: what cannot be read is empty.

Source: proc(5).
"""

from __future__ import annotations

import errno
import os
import struct

from gimli.capture.elfcore import Mapping
from gimli.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FDS_MAX = 4096
"""Descriptors whose targets are read: 5 us each while the service is down."""

_SECRET_NAMES = ("PASSWORD", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "PASSWD", "AUTH", "DSN", "COOKIE")
_MASK = "***"
_READ_BYTES = 1 << 16


@value
class ThreadFacts:
    """One thread before it was stopped: afterwards its state and place in the kernel are those of a stop."""

    tid: int
    comm: str
    state: str
    wchan: str


@value
class ProcessFacts:
    """What is read of a process while it lives; parsed when it has been let go."""

    status: dict[str, str]
    stat: tuple[str, ...]
    exe: str
    cwd: str
    comm: bytes
    cmdline: bytes
    auxv: bytes
    environ: bytes
    limits: str
    cgroup: str
    oom_score: str
    statm: str
    fds: tuple[tuple[int, str], ...]
    sections: bytes
    notes: tuple[str, ...]


def read_process(pid: int) -> ProcessFacts:
    """All of it, in about 1 ms."""
    proc = f"/proc/{pid}"
    notes: list[str] = []
    return ProcessFacts(
        status=parse_status(read_text(f"{proc}/status")),
        stat=parse_stat(_read(f"{proc}/stat", notes))[1],
        exe=_read_link(f"{proc}/exe", notes),
        cwd=_read_link(f"{proc}/cwd", notes),
        comm=_read(f"{proc}/comm", notes).rstrip(b"\n"),
        cmdline=_read(f"{proc}/cmdline", notes),
        auxv=_read(f"{proc}/auxv", notes),
        environ=_read(f"{proc}/environ", notes),
        limits=read_text(f"{proc}/limits"),
        cgroup=read_text(f"{proc}/cgroup"),
        oom_score=read_text(f"{proc}/oom_score").strip(),
        statm=read_text(f"{proc}/statm"),
        fds=tuple(_read_fds(pid, notes)),
        sections=section_names(pid),
        notes=tuple(notes),
    )


def read_threads(pid: int) -> list[ThreadFacts]:
    """Every thread, by tid; 30 us each."""
    threads = []
    for tid in thread_ids(pid):
        comm, fields = parse_stat(_read_bytes(f"/proc/{pid}/task/{tid}/stat"))
        state = fields[0] if fields else "X"
        wchan = read_text(f"/proc/{pid}/task/{tid}/wchan")
        threads.append(ThreadFacts(tid, comm, state, "" if wchan == "0" else wchan))
    return threads


def thread_ids(pid: int) -> list[int]:
    """The tids of a process; empty when it is gone."""
    try:
        return sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return []


def thread_state(pid: int, tid: int) -> str:
    """``R``, ``S``, ``D``, ``Z`` ...; empty when the thread is gone."""
    fields = parse_stat(_read_bytes(f"/proc/{pid}/task/{tid}/stat"))[1]
    return fields[0] if fields else ""


def thread_by_inner_tid(pid: int, inner_tid: int) -> int | None:
    """The thread that is ``inner_tid`` in its own pid namespace: the number a program in a container sees."""
    for tid in thread_ids(pid):
        numbers = parse_status(read_text(f"/proc/{pid}/task/{tid}/status")).get("NSpid", "").split()
        if numbers and numbers[-1] == str(inner_tid):
            return tid
    return None


def section_names(pid: int) -> bytes:
    """The section names of a process' executable, NUL after each; empty when it has none or cannot be read.

    Source: elf(5): the header says where the section headers are, and which of them has the names.
    """
    try:
        fd = os.open(f"/proc/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        header = os.pread(fd, 64, 0)
        (headers_at,) = struct.unpack_from("<Q", header, 0x28)
        entry_bytes, _, names_index = struct.unpack_from("<HHH", header, 0x3A)
        names_at, names_bytes = struct.unpack(
            "<QQ", os.pread(fd, 16, headers_at + names_index * entry_bytes + 0x18)
        )
        return os.pread(fd, min(names_bytes, _READ_BYTES), names_at)
    except (OSError, struct.error, OverflowError):
        return b""
    finally:
        os.close(fd)


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None when it is gone."""
    fields = parse_stat(_read_bytes(f"/proc/{pid}/stat"))[1]
    return number(fields[19]) if len(fields) > 19 else None  # field 22 of the line


def tracer_of(pid: int) -> int:
    """The pid of the debugger attached, or 0."""
    return number(parse_status(read_text(f"/proc/{pid}/status")).get("TracerPid", "0"))


def available_bytes() -> int:
    """Memory that can be had without swapping."""
    for line in read_text("/proc/meminfo").split("\n"):
        if line.startswith("MemAvailable:"):
            return number(line.split()[1]) << 10
    return 0


def read_maps(pid: int) -> str:
    """/proc/PID/maps, undecodable bytes as surrogates."""
    return _read_bytes(f"/proc/{pid}/maps").decode(errors="surrogateescape")


def parse_maps(text: str) -> list[Mapping]:
    """The mappings, in order of address. A line that is none is left out."""
    mappings: list[Mapping] = []
    for line in text.split("\n"):
        fields = line.split(None, 5)
        try:
            low, _, high = fields[0].partition("-")
            start, end, offset, inode = int(low, 16), int(high, 16), int(fields[2], 16), int(fields[4])
        except (ValueError, IndexError):
            continue
        # Sorted and disjoint by the kernel; a race with mmap may show one twice between two reads.
        if start < end and (not mappings or mappings[-1].end <= start):
            # A newline in a file's name is written as \012.
            name = fields[5].replace("\\012", "\n") if len(fields) > 5 else ""
            mappings.append(Mapping(start, end, fields[1], offset, inode, name))
    return mappings


def parse_status(text: str) -> dict[str, str]:
    """The fields of a status file by name."""
    pairs = (line.partition(":") for line in text.split("\n"))
    return {name: content.strip() for name, colon, content in pairs if colon}


def parse_stat(text: bytes) -> tuple[str, tuple[str, ...]]:
    """The name, and the fields from the third (state) on; both empty when the text is no stat line."""
    head, bracket, rest = text.rpartition(b")")
    if not bracket:
        return "", ()
    name = head.partition(b"(")[2].decode(errors="replace")
    return name, tuple(field.decode(errors="replace") for field in rest.split())


def parse_limits(text: str) -> dict[str, list[int | str]]:
    """Limits by name, each [soft, hard], a number or "unlimited"."""
    limits: dict[str, list[int | str]] = {}
    for line in text.split("\n")[1:]:
        # Names hold single spaces; columns are 26, 21 and 21 wide (fs/proc/base.c, proc_pid_limits).
        name, values = line[:26].strip(), line[26:].split()
        if name and len(values) >= 2:
            limits[name] = [int(limit) if limit.isdecimal() else limit for limit in values[:2]]
    return limits


def parse_environment(raw: bytes) -> dict[str, str]:
    """The environment a program was started with, secrets masked."""
    environment = {}
    for item in raw.split(b"\0"):
        name, equals, content = item.decode(errors="replace").partition("=")
        if equals and name:
            environment[name] = _MASK if is_secret(name, content) else content
    return environment


def is_secret(name: str, content: str) -> bool:
    """The name of a variable looks secret, or its value holds a URL with a password."""
    upper = name.upper()
    return any(word in upper for word in _SECRET_NAMES) or _holds_password_url(content)


def _holds_password_url(content: str) -> bool:
    """``scheme://user:password@host`` anywhere in the text."""
    for rest in content.split("://")[1:]:
        # Up to the path; a password may itself hold an @, a user name no colon.
        authority = rest.partition("/")[0]
        user_info, at, _ = authority.rpartition("@")
        if at and user_info.partition(":")[2]:
            return True
    return False


def number(text: str) -> int:
    """A decimal number, or 0."""
    try:
        return int(text)
    except ValueError:
        return 0


def read_text(path: str) -> str:
    """A /proc file as text; empty when it cannot be read."""
    return _read_bytes(path).decode(errors="replace")


def _read_fds(pid: int, notes: list[str]) -> Iterable[tuple[int, str]]:
    directory = f"/proc/{pid}/fd"
    try:
        numbers = sorted(int(name) for name in os.listdir(directory))
    except OSError as error:
        notes.append(_unreadable(directory, error))
        return
    if len(numbers) > FDS_MAX:
        notes.append(f"{len(numbers)} descriptors are open; the first {FDS_MAX} are listed.")
    for fd in numbers[:FDS_MAX]:
        try:
            yield fd, printable(os.readlink(f"{directory}/{fd}"))
        except OSError:  # closed meanwhile
            continue


def printable(text: str) -> str:
    """Text for JSON: surrogates, which stand for bytes that are not UTF-8, would not encode."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _read_link(path: str, notes: list[str]) -> str:
    try:
        return printable(os.readlink(path))
    except OSError as error:
        notes.append(_unreadable(path, error))
        return ""


def _read(path: str, notes: list[str]) -> bytes:
    try:
        return _read_whole(path)
    except OSError as error:
        notes.append(_unreadable(path, error))
        return b""


def _read_bytes(path: str) -> bytes:
    try:
        return _read_whole(path)
    except OSError:
        return b""


def _read_whole(path: str) -> bytes:
    """Without Python's file objects, which take three more system calls per file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts: list[bytes] = []
        while part := os.read(fd, _READ_BYTES):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def _unreadable(path: str, error: OSError) -> str:
    reason = "the process has ended" if error.errno in {errno.ENOENT, errno.ESRCH} else error.strerror
    return f"{path} could not be read: {reason}."


def fields(values: Sequence[str], *indexes: int) -> list[int]:
    """Some fields of a stat line as numbers, 0 for those it does not have."""
    return [number(values[index]) if index < len(values) else 0 for index in indexes]
