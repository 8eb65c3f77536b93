"""What does a service that never stops writing cost its supervisor?

A program writes lines of 200 bytes, all different, as fast as they are taken, into a log that is rotated at
10 MB. Measured is the CPU time of the monitor alone, per GB. The peer is supervisor, where it is installed.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING

from figures import Figure
from workbench import Effort, Up, Workbench, descendants, end, start, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

RATIO_MAX = 0.1
_ROTATE = 10_000_000
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LINE = 200
_TEXT = 5000 * _LINE
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
    supervisord = shutil.which("supervisord")
    note = "" if supervisord else "no supervisord on PATH to compare with: pip install supervisor"
    for piece, what in ((_LINE, "a line per write"), (_TEXT, "a MB per write")):
        ours, theirs = [], []
        for _ in range(effort.runs(5)):
            ours.append(_under_gimli(bench.place("output"), size, piece))
            if supervisord:
                theirs.append(_under_supervisor(bench.place("output"), supervisord, size, piece))
        yield Figure(
            f"CPU per GB of output, {what}",
            "s",
            tuple(ours),
            None,
            "supervisor" if theirs else "",
            tuple(theirs),
            RATIO_MAX if theirs else None,
            note,
        )


def _command(place: str, size: int, piece: int) -> list[str]:
    program = os.path.join(place, "writer.py")
    with open(program, "w", encoding="utf-8") as file:
        file.write(_PROGRAM)
    return [sys.executable, program, str(size), str(piece), os.path.join(place, "done")]


def _under_gimli(place: str, size: int, piece: int) -> float:
    command = str(_command(place, size, piece)).replace("'", '"')
    log = f'log = {{ file = "{place}/app.log", rotate = "{_ROTATE // 1_000_000}MB", keep = 1 }}'
    with Up(place, {"writer": f"command = {command}\npreload = false\n{log}"}) as up:
        return _seconds_per_gb(up.process.pid, place, size)


def _under_supervisor(place: str, supervisord: str, size: int, piece: int) -> float:
    file = os.path.join(place, "supervisord.conf")
    with open(file, "w", encoding="utf-8") as config:
        config.write(
            f"[supervisord]\nnodaemon=true\nlogfile={place}/supervisord.log\npidfile={place}/pid\n"
            f"[program:writer]\ncommand={' '.join(_command(place, size, piece))}\n"
            f"stdout_logfile={place}/app.log\nstdout_logfile_maxbytes={_ROTATE}\nstdout_logfile_backups=1\n"
        )
    process = start([supervisord, "-c", file], place)
    try:
        return _seconds_per_gb(process.pid, place, size)
    finally:
        end(process)


def _seconds_per_gb(pid: int, place: str, size: int) -> float:
    wait_for(lambda: descendants(pid), "the program")
    before_s = _cpu_s(pid)
    done = os.path.join(place, "done")
    wait_for(lambda: os.path.exists(done), "the program's last line", patience_s=120)
    time.sleep(0.1)  # what is still in the pipe
    return (_cpu_s(pid) - before_s) / (size / 1e9)


def _cpu_s(pid: int) -> float:
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
