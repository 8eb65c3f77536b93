"""What has the kernel counted for a thread: how long it ran, waited for a CPU, was held back?

Files of /proc and of the control groups' file system are read when a deadline passes, never in between.
Whatever cannot be read counts as nothing: a thread of which nothing is known is judged as before.
"""

from __future__ import annotations

import os
import time

from gimli import clock, process
from gimli.monitor.lateness import Figures

_CGROUPS = "/sys/fs/cgroup"
_CGROUP_DEPTH_MAX = 16


def read_figures(pid: int, tid: int, *, throttled_ns: int) -> Figures | None:
    """The figures of a thread now; None when it is gone, or is no thread of that process.

    Source: Documentation/scheduler/sched-stats.rst, /proc/<pid>/schedstat.
    """
    numbers = _read(f"/proc/{pid}/task/{tid}/schedstat").split()
    if len(numbers) < 3:
        return None
    now_ns = clock.monotonic_ns()
    return Figures(
        at_ns=now_ns,
        asleep_ns=max(0, time.clock_gettime_ns(time.CLOCK_BOOTTIME) - now_ns),
        ran_ns=int(numbers[0]),
        waited_ns=int(numbers[1]),
        turns=int(numbers[2]),
        throttled_ns=throttled_ns,
    )


def read_state(pid: int, tid: int) -> str:
    """The state of a thread, one letter; empty when it is gone."""
    try:
        return process.parse_stat(_read(f"/proc/{pid}/task/{tid}/stat"))[0].decode("ascii", "replace")
    except (ValueError, IndexError):
        return ""


def is_frozen(pid: int) -> bool:
    """Its control group is frozen (``docker pause``, ``systemctl freeze``).

    Source: Documentation/admin-guide/cgroup-v2.rst, cgroup.events; cgroup-v1/freezer-subsystem.rst.
    """
    for directory in _cgroups(pid, b"freezer"):
        if b"frozen 1" in _read(f"{directory}/cgroup.events"):
            return True
        if _read(f"{directory}/freezer.state").strip() == b"FROZEN":
            return True
    return False


def stop_signal(pidfd: int) -> str:
    """The signal that has stopped our child, by name; empty when it is not stopped, or no child of ours."""
    try:
        # WNOWAIT: whoever else asks for this stop is told too.
        stopped = os.waitid(os.P_PIDFD, pidfd, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
    except OSError:
        return ""
    return process.signal_name(stopped.si_status) if stopped else ""


def throttled_ns(pid: int) -> int:
    """How long the control groups of a process have been held back by their CPU quotas, all together.

    Source: Documentation/admin-guide/cgroup-v2.rst, ``cpu.stat``; version 1 has ``throttled_time``, in ns.
    """
    total = 0
    for directory in _cgroups(pid, b"cpu"):
        for _ in range(_CGROUP_DEPTH_MAX):  # a quota binds all groups below it
            if len(directory) <= len(_CGROUPS):
                break
            total += parse_throttled_ns(_read(f"{directory}/cpu.stat"))
            directory = os.path.dirname(directory)  # noqa: PLW2901 - climbs
    return total


def _cgroups(pid: int, controller: bytes) -> list[str]:
    """Directories of the control groups of a process: version 2, and the controller's of version 1."""
    return [
        os.path.join(_CGROUPS, os.fsdecode(controllers)) + os.fsdecode(path)
        for controllers, path in parse_cgroups(_read(f"/proc/{pid}/cgroup"))
        if path != b"/" and (not controllers or controller in controllers.split(b","))
    ]


def parse_cgroups(text: bytes) -> list[tuple[bytes, bytes]]:
    """Controllers and path of each line of a ``/proc/PID/cgroup``; no controllers for version 2."""
    found = []
    for line in text.splitlines():
        fields = line.split(b":", 2)
        if len(fields) == 3 and fields[2].startswith(b"/") and b".." not in fields[2].split(b"/"):
            found.append((fields[1], fields[2]))
    return found


def parse_throttled_ns(text: bytes) -> int:
    """The time in a ``cpu.stat``; 0 when it has none."""
    units = {b"throttled_usec": 1000, b"throttled_time": 1}
    for line in text.splitlines():
        name, _, number = line.partition(b" ")
        if name in units and number.strip().isdigit():
            return int(number) * units[name]
    return 0


def _read(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""
