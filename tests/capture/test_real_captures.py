"""Captures of real programs, read back with other people's debuggers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from gimli.heartbeat import PageFile
from gimli.process import identify

pytestmark = [pytest.mark.real, pytest.mark.slow]

FUNCTIONS = ("innermost", "middle", "outermost")


def gdb(core: str, program: str, *commands: str) -> str:
    if shutil.which("gdb") is None:
        pytest.skip("needs gdb: apt-get install gdb")
    arguments = [part for command in commands for part in ("-ex", command)]
    done = subprocess.run(
        ["gdb", "-batch", "-nx", *arguments, program, core],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


def state_of(pid: int) -> str:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_gdb_sees_every_thread_with_its_functions_and_variables(compiled, start, capture):
    program = compiled("threads")
    outcome = capture(start(program).pid)
    assert [message["event"] for message in outcome.messages] == ["released", "stored"]
    assert outcome.status == 0
    text = gdb(outcome.core, program, "thread apply all bt full", "print writable_global")
    for function in FUNCTIONS:
        assert len(re.findall(rf"^#\d+ .*\b{function} \(", text, re.MULTILINE)) == 4
    assert sorted(map(int, re.findall(r"local = (\d+)", text))) == [20, 1020, 2020, 3020]
    assert "$1 = 4711" in text


def test_eu_stack_reads_the_core(compiled, start, capture):
    if shutil.which("eu-stack") is None:
        pytest.skip("needs elfutils: apt-get install elfutils")
    program = compiled("threads")
    outcome = capture(start(program).pid)
    done = subprocess.run(
        ["eu-stack", "--core", outcome.core, "-e", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.count("innermost") == 4


def test_drgn_reads_the_core(compiled, start, capture):
    drgn = pytest.importorskip("drgn")
    program = compiled("threads")
    outcome = capture(start(program).pid)
    core = drgn.Program()
    core.set_core_dump(outcome.core)
    with contextlib.suppress(drgn.MissingDebugInfoError):  # of the vdso, always
        core.load_default_debug_info()
    stacks = [[frame.name for frame in core.stack_trace(thread.tid)] for thread in core.threads()]
    assert len(stacks) == 4
    assert all(set(FUNCTIONS) <= set(names) for names in stacks)


def test_pystack_sees_python_frames_with_locals(start, capture):
    """A Python program is captured whole: a capped core has no Python frame at all."""
    engine = pytest.importorskip("pystack.engine")
    code = (
        "import time\ndef innermost(n):\n    print('ready', flush=True)\n    time.sleep(n)\ninnermost(999)\n"
    )
    outcome = capture(start(sys.executable, "-c", code).pid)
    assert outcome.facts["core"]["policy"] == "full"
    executable = os.path.realpath(sys.executable)
    threads = list(
        engine.get_process_threads_for_core(
            outcome.core, executable, native_mode=engine.NativeReportingMode.ALL, locals=True
        )
    )
    frames = {frame.code.scope: frame for thread in threads for frame in thread.frames}
    assert frames["innermost"].arguments["n"] == "999"


def test_a_python_program_too_large_is_capped_and_the_report_says_what_to_do(start, capture):
    code = "x = b'x' * (600 << 20)\nprint('ready', flush=True)\ninput()"
    process = start(sys.executable, "-c", code)
    outcome = capture(process.pid)
    assert outcome.facts["core"]["policy"] == "capped"
    assert any(f"py-spy dump --pid {process.pid}" in note for note in outcome.facts["notes"])


@pytest.mark.parametrize(
    ("how", "function", "signo"),
    [
        ("null", "null_dereference", signal.SIGSEGV),
        ("thread", "null_dereference", signal.SIGSEGV),
        ("overflow", "overflow", signal.SIGSEGV),
        ("abort", "", signal.SIGABRT),
        ("jump", "??", signal.SIGSEGV),
    ],
)
def test_the_first_frame_is_the_fault_and_not_its_handler(
    compiled, start, capture, tmp_path, how, function, signo
):
    program = compiled("crash")
    page = new_page(tmp_path)
    process = start(program, how, page.path, line=b"crashed\n")
    outcome = capture(process.pid, reason="crash", crash=crash_of(page), page=page.path)

    assert process.wait(timeout=10) == -signo  # released, it died by its own signal
    assert outcome.last["event"] == "stored"
    assert outcome.facts["crash_tid"] == outcome.facts["crash"]["tid"]
    assert outcome.facts["signal"]["number"] == signo
    text = gdb(outcome.core, program, "bt 5", "bt -5", "print $_siginfo.si_signo")
    assert "on_fault" not in text
    assert f"terminated with signal {signal.Signals(signo).name}" in text
    assert f"$1 = {int(signo)}" in text
    if function:
        assert re.search(rf"^#0 .*{re.escape(function)} \(", text, re.MULTILINE), text
    if how != "thread":
        assert " in main (" in text


def test_registers_that_cannot_be_read_leave_the_handler_and_a_note(compiled, start, capture, tmp_path):
    program = compiled("crash")
    page = new_page(tmp_path)
    process = start(program, "null", page.path, line=b"crashed\n", env=os.environ | {"BAD_UCONTEXT": "1"})
    outcome = capture(process.pid, reason="crash", crash=crash_of(page), page=page.path)
    assert process.wait(timeout=10) == -signal.SIGSEGV
    assert any("signal handler" in note for note in outcome.facts["notes"])
    assert "on_fault" in gdb(outcome.core, program, "bt")


def test_an_abort_names_its_sender(compiled, start, capture, tmp_path):
    page = new_page(tmp_path)
    process = start(compiled("crash"), "abort", page.path, line=b"crashed\n")
    outcome = capture(process.pid, reason="crash", crash=crash_of(page), page=page.path)
    sender = outcome.facts["signal"]["sender"]
    assert (sender["pid"], sender["uid"]) == (process.pid, os.getuid())
    assert outcome.facts["signal"]["code_name"] == "SI_TKILL"


def test_a_stopped_program_stays_stopped(compiled, start, capture):
    process = start(compiled("threads"))
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    outcome = capture(process.pid)
    assert outcome.last["event"] == "stored"
    assert state_of(process.pid) == "T"
    assert {thread["state"] for thread in outcome.facts["threads"]} == {"T"}
    process.send_signal(signal.SIGCONT)
    os.waitid(os.P_PID, process.pid, os.WCONTINUED)
    assert state_of(process.pid) in {"R", "S"}


def test_a_program_blocked_in_read_goes_on(compiled, start, capture):
    process = start(compiled("blocked"), "read")
    outcome = capture(process.pid)
    (thread,) = outcome.facts["threads"]
    assert thread["syscall"]["name"] == "read"
    assert thread["syscall"]["file"].startswith("pipe:[")
    assert process.communicate(b"x", timeout=10)[0] == b"read returned 1: x\n"


def test_a_program_asleep_sleeps_on(compiled, start, capture):
    process = start(compiled("blocked"), "sleep")
    capture(process.pid)
    assert process.communicate(timeout=10)[0] == b"nanosleep returned 0\n"


def test_a_thread_that_cannot_be_stopped_is_noted_and_goes_on(compiled, start, capture):
    """The parent of a vfork sleeps uninterruptibly until its child is done."""
    process = start(compiled("vfork"))
    outcome = capture(process.pid, stop_timeout_s=0.1)
    assert outcome.last["event"] == "failed"
    assert outcome.last["stored"]
    assert "uninterruptible" in outcome.last["why"]
    assert [(thread["state"], thread["stopped"]) for thread in outcome.facts["threads"]] == [("D", False)]
    # The child ends when it reads; the parent is not held by a stop that nobody waits for any more.
    assert process.communicate(b"x", timeout=10)[0] == b"parent goes on\n"


def test_a_program_under_a_debugger_is_refused_with_the_debuggers_name(compiled, start, capture):
    program = compiled("threads")
    process = start(program)
    with subprocess.Popen(
        ["gdb", "-nx", "-q", "-p", str(process.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as debugger:
        debugger.stdin.write(b"echo attached\\n\n")
        debugger.stdin.flush()
        for line in debugger.stdout:
            if b"attached" in line:
                break
        outcome = capture(process.pid)
        debugger.communicate(b"detach\nquit\n", timeout=10)
    assert outcome.status == 0
    assert outcome.last["event"] == "failed"
    assert outcome.last["stored"]
    assert f"pid {debugger.pid} (gdb)" in outcome.last["why"]
    assert outcome.facts["process"]["exe"] == program


def test_a_reused_pid_is_refused(compiled, start, capture):
    process = start(compiled("threads"))
    outcome = capture(process.pid, start_ticks=identify(process.pid).start_ticks - 1)
    assert outcome.last["event"] == "failed"
    assert outcome.last["stored"]
    assert outcome.facts["process"] == {}


@pytest.mark.parametrize("pid", [0, "ended"])
def test_a_process_that_is_gone_still_gets_its_report(capture, pid):
    if pid == "ended":
        done = subprocess.Popen(["true"])
        done.wait()
        pid = done.pid
    outcome = capture(pid, signal=9, reason="crash")
    assert outcome.status == 0
    assert outcome.facts["core"] is None
    assert outcome.facts["signal"]["name"] == "SIGKILL"
    assert outcome.facts["output"] == ["last words"]
    assert outcome.facts["notes"]


@pytest.mark.parametrize("delay_loops", [0, 1, 2, 4, 8, 16])
def test_a_program_killed_in_the_middle_ends_in_a_report(compiled, start, capture, delay_loops):
    """Whenever SIGKILL comes, the helper ends by itself and the report is whole."""
    process = start(compiled("threads"), "64")
    # A shell that kills after so many of its own turns: at another moment of the capture each time.
    loops = f"i=0; while [ $i -lt {delay_loops * 300} ]; do i=$((i+1)); done; kill -9 {process.pid}"
    with subprocess.Popen(["sh", "-c", loops]):
        outcome = capture(process.pid)
    assert outcome.status == 0
    assert outcome.facts["id"] == outcome.last["id"]
    assert process.wait(timeout=10) == -signal.SIGKILL


def test_large_memory_does_not_make_the_pause_long(compiled, start, capture):
    """The budget is 15 ms on an idle host; the bound here only catches a copy that grows with the program."""
    process = start(compiled("threads"), "500")
    pauses_ms = sorted(
        capture(process.pid, id=f"01ARYZ6S4{digit}").messages[0]["pause_ms"] for digit in "ABCDE"
    )
    print(f"pause with 500 MB resident: {pauses_ms} ms")
    assert pauses_ms[0] < 250


def test_a_capped_mapping_says_so_and_keeps_the_stacks(compiled, start, capture):
    program = compiled("threads")
    outcome = capture(start(program, "64").pid, cap_bytes=1 << 20)
    assert outcome.facts["core"]["policy"] == "capped"
    assert outcome.facts["core"]["bytes"] < 8 << 20
    assert any("only a part" in note for note in outcome.facts["notes"])
    assert gdb(outcome.core, program, "thread apply all bt").count("innermost") == 4


def test_the_facts_of_the_process_are_there_with_secrets_masked(compiled, start, capture):
    program = compiled("threads")
    environment = {"HOME": "/srv", "DB_PASSWORD": "hunter2", "URL": "postgres://me:hunter2@db/x"}
    outcome = capture(start(program, env=environment).pid)
    process = outcome.facts["process"]
    assert process["environment"] == {"HOME": "/srv", "DB_PASSWORD": "***", "URL": "***"}
    assert process["exe"] == program
    assert process["cmdline"] == [program]
    assert process["threads"] == 4
    assert process["limits"]["Max core file size"][0] is not None
    assert {fd["fd"] for fd in process["fds"]} >= {0, 1, 2}
    assert "hunter2" not in json.dumps(outcome.facts)


def test_sockets_are_named_with_both_ends(start, capture):
    code = (
        "import socket,sys\n"
        "s=socket.create_server(('127.0.0.1',0)); c=socket.create_connection(s.getsockname())\n"
        "print('ready', flush=True); c.recv(1)"
    )
    outcome = capture(start(sys.executable, "-c", code).pid)
    targets = [fd["target"] for fd in outcome.facts["process"]["fds"]]
    listening = next(target for target in targets if ", listening" in target)
    port = re.match(r"tcp 127\.0\.0\.1:(\d+), listening \(socket:\[\d+\]\)", listening).group(1)
    connected = next(target for target in targets if f"-> 127.0.0.1:{port}" in target)
    assert outcome.facts["threads"][0]["syscall"]["file"] == connected


def test_a_full_disk_releases_the_program_and_leaves_the_facts(compiled, start, capture, tmp_path):
    """RLIMIT_FSIZE stands for a full disk that has room for the facts: the core does not fit."""
    import resource  # noqa: PLC0415

    page = new_page(tmp_path)
    process = start(compiled("crash"), "null", page.path, line=b"crashed\n")
    outcome = capture(
        process.pid,
        reason="crash",
        crash=crash_of(page),
        page=page.path,
        options={"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))},
    )
    assert process.wait(timeout=10) == -signal.SIGSEGV
    assert [message["event"] for message in outcome.messages] == ["released", "failed"]
    assert outcome.last["stored"]
    assert set(os.listdir(outcome.last["path"])) == {"facts.json", "maps"}
    assert os.listdir(os.path.join(outcome.state_dir, ".incoming")) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_disk_without_any_room_leaves_nothing_half_written(compiled, start, capture, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("may not mount here")
    try:
        (disk / "filler").write_bytes(bytes(48 << 10))
        process = start(compiled("threads"))
        outcome = capture(process.pid, state_dir=str(disk / "state"), journal=[{"event": "x" * 40_000}])
        assert outcome.status == 1
        assert outcome.last["event"] == "failed"
        assert not outcome.last["stored"]
        assert outcome.last["why"] == "No space left on device"
        assert outcome.last["fix"]
        assert os.listdir(disk / "state" / ".incoming") == []
        assert state_of(process.pid) == "S"
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_state_directory_that_cannot_be_made_is_said_after_the_release(compiled, start, capture, tmp_path):
    (tmp_path / "file").write_text("")
    process = start(compiled("threads"))
    outcome = capture(process.pid, state_dir=str(tmp_path / "file" / "state"))
    assert [message["event"] for message in outcome.messages] == ["released", "failed"]
    assert outcome.status == 1
    assert not outcome.last["stored"]
    assert state_of(process.pid) == "S"


def new_page(tmp_path) -> PageFile:
    page = PageFile(str(tmp_path / "page"))
    page.reset()
    return page


def crash_of(page: PageFile) -> dict[str, int]:
    crash = page.read().crash
    return {name: getattr(crash, name) for name in crash.__match_args__}
