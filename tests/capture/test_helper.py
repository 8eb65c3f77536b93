"""The helper as a process: what it says, and what it keeps out of its image."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from gimli.capture.memory import Copy, read_memory
from gimli.capture.pagemap import Pagemap
from gimli.capture.ptrace import Held
from gimli.capture.registers import ARCHITECTURES

from .conftest import HELPER, run_helper

pytestmark = pytest.mark.real

SLOW_MODULES = frozenset(
    [
        "re",
        "enum",
        "json",
        "dataclasses",
        "typing",
        "subprocess",
        "logging",
        "argparse",
        "signal",
        "socket",
        "collections",
        "contextlib",
        "functools",
        "pathlib",
        "threading",
        "sqlite3",
    ]
)


@pytest.mark.parametrize(
    "text", ["", "{", '{"id": "x"}', "[1]", "\ud800".encode(errors="surrogatepass").decode("latin-1")]
)
def test_a_malformed_request_gets_one_failed_line_and_no_traceback(text, tmp_path):
    outcome = run_helper(text, str(tmp_path))
    assert outcome.status == 1
    assert outcome.stderr == ""
    (message,) = outcome.messages
    assert message["event"] == "failed"
    assert message["what"]
    assert message["why"]
    assert message["fix"]
    assert not message["stored"]


def test_nothing_slow_is_imported_before_the_process_is_let_go():
    """Each of these costs 2 to 15 ms, while a service is down."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import gimli.capture.helper;"
        "import gimli.capture.request as r; r._parse_json('{}'); print(*sys.modules)"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(HELPER)))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, root], capture_output=True, check=True, text=True
    )
    assert SLOW_MODULES.isdisjoint(done.stdout.split())


def test_a_monitor_that_died_does_not_keep_the_report_from_being_stored(compiled, start, tmp_path):
    from .conftest import request_for  # noqa: PLC0415

    state = tmp_path / "state"
    request = json.dumps(request_for(start(compiled("threads")).pid, str(state)))
    with subprocess.Popen(
        [sys.executable, "-I", "-S", HELPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as helper:
        helper.stdout.close()
        helper.stdin.write(request)
        helper.stdin.close()
        assert helper.wait(timeout=30) == 0
    (report,) = (state / "reports").iterdir()
    assert (report / "core").exists()


def test_a_helper_that_is_killed_leaves_the_program_running(compiled, start):
    """The kernel lets a tracer's threads go when it ends: the last line of defence."""
    process = start(compiled("threads"))
    code = (
        "import sys,os; sys.path.insert(0, sys.argv[1]); from gimli.capture.ptrace import Held;"
        "held = Held(int(sys.argv[2])); held.stop(1.0); print('held', flush=True); sys.stdin.read()"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(HELPER)))
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code, root, str(process.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as helper:
        assert helper.stdout.readline() == b"held\n"
        assert state_of(process.pid) == "t"
        helper.kill()
        helper.wait()
    assert state_of(process.pid) in {"S", "R"}


def test_a_process_killed_while_it_is_held_is_noticed_at_every_step(compiled, start):
    process = start(compiled("threads"))
    held = Held(process.pid)
    tids: list[int] = []
    try:
        held.stop(1.0)
        tids = [tid for tid in held.tids if tid != process.pid]
        assert len(tids) == 3
        pagemap = Pagemap(process.pid)
        pointer = held.registers(process.pid, ARCHITECTURES[os.uname().machine])
        assert pointer is not None
        os.kill(process.pid, signal.SIGKILL)
        # Not the end of the process, which comes when its tracer lets it go, but of its first thread.
        while state_of(process.pid) not in {"Z", "X"}:
            os.sched_yield()
        assert held.registers(process.pid, ARCHITECTURES[os.uname().machine]) is None
        assert read_memory(process.pid, 0x1000, 8) == b""
        copy = Copy([(0x10000, 0x20000)])
        copy.fill(process.pid)
        assert copy.vanished
        assert copy.unreadable_bytes == 0x10000
        pagemap.close()
    finally:
        held.let_go()
        held.let_go_late()
        # This process is the tracer and lives on: a dead thread that it has not reaped holds back the end
        # of the whole process. A helper's own end does the same.
        until_s = time.monotonic() + 5
        while process.poll() is None and time.monotonic() < until_s:
            for tid in tids:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(tid, os.WNOHANG | 0x40000000)  # __WALL
    assert held.statuses == {}


def test_memory_that_cannot_be_read_is_zero_and_counted():
    import ctypes  # noqa: PLC0415
    import mmap  # noqa: PLC0415

    memory = mmap.mmap(-1, 8 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = b"x" * len(memory)
    anchor = ctypes.c_char.from_buffer(memory)
    start = ctypes.addressof(anchor)
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + 2 * 4096), 4096, 0) == 0
    copy = Copy([(start, start + 4 * 4096), (start + 5 * 4096, start + 8 * 4096)])
    copy.fill(os.getpid())
    page = b"x" * 4096
    assert bytes(copy.view()) == page * 2 + bytes(4096) + page + page * 3
    assert (copy.unreadable_bytes, copy.vanished) == (4096, False)
    ctypes.CDLL(None).mprotect(ctypes.c_void_p(start + 2 * 4096), 4096, 3)
    del anchor


def state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[0]
