"""What does a service that never stops writing cost its supervisor?

A program writes lines of 200 bytes, all different, as fast as they are taken, into a log that is rotated at
10 MB. Measured is the CPU time of the supervisor alone, per GB.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import peers
from figures import Figure
from workbench import Effort, Up, Workbench, cpu_ns, descendants, end, service_table, start, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

RATIO_MAX = 0.1
_LINE = 200
_TEXT = 5000 * _LINE
_ROTATE_MB = 10
_PROGRAM = f"""
import os, sys, time
size, piece = map(int, sys.argv[1:3])
text = b"".join(b"%09d %s\\n" % (number, b"." * {_LINE - 11}) for number in range({_TEXT // _LINE}))
pieces = [text[at : at + piece] for at in range(0, len(text), piece)]
for _ in range(size // len(text)):
    for piece in pieces:
        os.write(1, piece)
open(sys.argv[3], "w").close()
time.sleep(3600)
"""


def measure(bench: Workbench, effort: Effort) -> Iterator[Figure]:
    """The same program under both, in turns."""
    size = 200_000_000 if effort is Effort.QUICK else 1_000_000_000
    ways = {"gimli": _under_gimli}
    if peers.is_here("supervisor"):
        ways["supervisor"] = _under_supervisor
    note = "" if "supervisor" in ways else "without supervisor, not installed here"
    for piece, what in ((_LINE, "a line per write"), (_TEXT, "a MB per write")):
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(effort.runs(5)):
            for name, seconds in ways.items():
                taken[name].append(seconds(bench.place("output"), size, piece) / (size / 1e9))
        ours = taken.pop("gimli")
        ratios_max = dict.fromkeys(taken, RATIO_MAX)
        yield Figure(f"CPU per GB of output, {what}", "s", ours, None, taken, ratios_max, note)


def _under_gimli(place: str, size: int, piece: int) -> float:
    log = f'log = {{ file = "{place}/app.log", rotate = "{_ROTATE_MB}MB", keep = 1 }}'
    table = service_table(_command(place, size, piece), "preload = false", log)
    with Up(place, {"writer": table}) as up:
        return _seconds(up.process.pid, place)


def _under_supervisor(place: str, size: int, piece: int) -> float:
    log = (
        f"stdout_logfile={place}/app.log\n"
        f"stdout_logfile_maxbytes={_ROTATE_MB * 1_000_000}\nstdout_logfile_backups=1"
    )
    command = peers.supervisor_command(place, {"writer": _command(place, size, piece)}, log)
    process = start(command, place)
    try:
        return _seconds(process.pid, place)
    finally:
        end(process)


def _command(place: str, size: int, piece: int) -> list[str]:
    program = os.path.join(place, "writer.py")
    with open(program, "w", encoding="utf-8") as file:
        file.write(_PROGRAM)
    return [sys.executable, program, str(size), str(piece), _done(place)]


def _done(place: str) -> str:
    return os.path.join(place, "done")


def _seconds(pid: int, place: str) -> float:
    """CPU time of the supervisor from the program's start to its last line."""
    wait_for(lambda: descendants(pid), "the program")
    before_ns = cpu_ns(pid)
    wait_for(lambda: os.path.exists(_done(place)), "the program's last line", patience_s=120)
    time.sleep(0.1)  # what is still in the pipe
    return (cpu_ns(pid) - before_ns) / 1e9
