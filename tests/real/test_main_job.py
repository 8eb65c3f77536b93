"""The main job on real programs: run, watch, catch, explain, restart; seen from the command line alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any

import pytest

from gimli import report as reports

pytestmark = [pytest.mark.real, pytest.mark.slow]

EXAMPLES = os.path.join(os.path.dirname(__file__), "..", "..", "examples")
HANG_NOTICED_MS_MAX = 100.0
"""The budget is 10 ms, measured by bench/; a busy CI machine gets more."""


def compile_example(gimli, source: str) -> str:
    """Compile an example as a user would; the path of the program."""
    program = os.path.join(gimli.directory, os.path.splitext(source)[0])
    flags = gimli.call("--cflags", "--libs").stdout.split()
    command = ["cc", "-g", "-O0", "-pthread", os.path.join(EXAMPLES, source), *flags, "-o", program]
    subprocess.run(command, check=True)
    return program


def report_of(gimli, running) -> reports.Report:
    """The first report, once it is analysed."""
    entry = running.wait_for("analysed")
    return reports.from_json(json.loads(gimli.call("show", entry["report"], "--json").stdout))


def values(frame: reports.Frame) -> dict[str, str]:
    """Variables of a frame by name."""
    return {variable.name: variable.value for variable in frame.variables}


def frame_of(report: reports.Report, function: str) -> reports.Frame:
    """The first frame of a function in the first thread."""
    return next(frame for frame in report.threads[0].frames if frame.function == function)


@pytest.fixture(scope="module")
def crash(tmp_path_factory) -> Any:
    """One crash of the pricing program, restarted, and its report; made once for the tests below."""
    from tests.conftest import Gimli  # noqa: PLC0415 - the fixture of that name lives for one test only

    directory = tmp_path_factory.mktemp("g", numbered=True)
    gimli = Gimli(str(directory))
    program = compile_example(gimli, "price_orders.c")
    running = gimli.run("--backoff", "60s", command=(program,))
    started = running.wait_for("started")
    crashed = running.wait_for("crash")
    again = running.wait_for("started")
    report = report_of(gimli, running)
    yield {"gimli": gimli, "report": report, "started": started, "crashed": crashed, "again": again}
    gimli.close()


def test_a_crash_names_signal_code_and_address(crash):
    signal = crash["report"].signal
    assert (signal.name, signal.number, signal.code_name) == ("SIGSEGV", 11, "SEGV_MAPERR")
    assert signal.address == 0x20, "the field that is 32 bytes into the structure nobody gave"


def test_the_faulting_thread_comes_first_and_is_deep(crash):
    first = crash["report"].threads[0]
    assert first.crashed
    names = [frame.function for frame in first.frames]
    assert names[0] == "percent_of"
    assert names.index("main") >= 8
    assert all(frame.file and frame.line for frame in first.frames[:9])


def test_the_values_of_arguments_and_locals_are_right(crash):
    report = crash["report"]
    fault = values(report.threads[0].frames[0])
    assert fault["campaign"] == "0x0"
    assert '"Durin & Sons"' in fault["who"], "a string is quoted"
    discount = values(frame_of(report, "voucher_amount"))["discount"]
    assert "kind = DISCOUNT_VOUCHER" in discount, "a pointer is followed, an enum is named, a union is shown"
    order = values(frame_of(report, "discounted"))["order"]
    assert "number = 3" in order
    for field in ("gift_wrapped = 1", "priority = 5", "loyalty_years = -1"):
        assert field in order, "bit-fields, signed ones too"
    assert values(frame_of(report, "with_wrapping"))["label"] == '"wrap-3"'
    assert values(frame_of(report, "with_wrapping"))["price"] == "{cents = 8940, currency = CURRENCY_EUR}"


def test_the_explanation_names_the_null_pointer(crash):
    finding = crash["report"].findings[0]
    assert finding.kind == "null-pointer"
    assert "`campaign`" in finding.text
    assert "percent_of" in finding.text
    assert finding.confidence > 0.9


def test_the_program_was_restarted(crash):
    assert crash["again"]["restarts"] == 1
    assert crash["again"]["pid"] != crash["started"]["pid"]
    events = [entry["event"] for entry in crash["report"].journal]
    assert events.index("crash") < events.index("exited"), "the journal goes on after the snapshot"


def test_gdb_reads_the_core(crash):
    """The core is a file like any other: gdb shows the frame of the fault, not the handler's."""
    gimli, report = crash["gimli"], crash["report"]
    core = os.path.join(gimli.state_dir, "reports", report.id, "core")
    program = os.path.join(gimli.directory, "price_orders")
    done = subprocess.run(
        ["gdb", "-batch", "-nx", "-c", core, program, "-ex", "bt", "-ex", "p $_siginfo.si_signo"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "#0" in done.stdout
    first = next(line for line in done.stdout.splitlines() if line.startswith("#0"))
    assert "percent_of (campaign=0x0" in first
    assert "main (" in done.stdout
    assert "$1 = 11" in done.stdout


def test_the_text_of_the_report_says_it_all(crash):
    gimli, report = crash["gimli"], crash["report"]
    text = gimli.call("show", report.id).stdout
    for words in (
        "WHY    Null pointer: `campaign`",
        "SIGSEGV (SEGV_MAPERR)",
        "restarted as pid",
        "[crashed]",
    ):
        assert words in text
    assert "\033" not in text, "no colour in a pipe"


def test_a_report_that_is_asked_for_at_once_is_waited_for(gimli):
    """Its facts are stored, its analysis takes a quarter of a second more."""
    running = gimli.run("--backoff", "60s", command=(compile_example(gimli, "price_orders.c"),))
    running.wait_for("report")
    assert "Null pointer" in gimli.call("show").stdout


def test_a_report_whose_analysis_was_lost_is_analysed_when_it_is_asked_for(crash, tmp_path):
    gimli, report = crash["gimli"], crash["report"]
    copy = shutil.copytree(os.path.join(gimli.state_dir, "reports", report.id), tmp_path / "copy")
    os.unlink(copy / "report.json")
    os.utime(copy / "facts.json", (0, 0))
    assert "Null pointer: `campaign`" in gimli.call("show", str(copy)).stdout
    assert (copy / "report.json").exists()


@pytest.mark.parametrize(("program", "status"), [("price_orders.c", 139)])
def test_the_signal_of_a_crash_is_the_exit_status(gimli, program, status):
    running = gimli.run("--restart", "never", command=(compile_example(gimli, program),))
    assert running.wait() == status


def test_a_stuck_thread_is_noticed_named_and_explained(gimli):
    """Its pulse alone is silent; the report names the pulse, the thread, the line, and who holds the lock."""
    running = gimli.run("--backoff", "60s", command=(compile_example(gimli, "stuck_worker.c"), "200"))
    hang = running.wait_for("hang", pulse="mailer")
    print(f"noticed {hang['late_ms']:.3f} ms after its deadline")
    assert 0 <= hang["late_ms"] < HANG_NOTICED_MS_MAX
    assert running.wait_for("started", restarts=1)
    report = report_of(gimli, running)
    assert report.hang
    assert report.hang["pulse"] == "mailer"
    culprit = report.threads[0]
    assert culprit.culprit
    assert culprit.name == "mailer"
    where = frame_of(report, "send_mail")
    assert where.file
    assert where.file.endswith("stuck_worker.c")
    why = report.findings[0].text
    assert '"mailer"' in why
    assert f"send_mail() at stuck_worker.c:{where.line}" in why
    assert 'held by "archiver"' in why


def test_a_python_deadlock_is_called_one(gimli):
    """Both threads with Python frames and locals, native frames beneath, and which lock who holds."""
    program = os.path.join(EXAMPLES, "deadlock.py")
    running = gimli.run("--backoff", "60s", command=(sys.executable, program))
    report = report_of(gimli, running)
    finding = report.findings[0]
    assert finding.kind == "deadlock"
    for words in ("Deadlock", '"writer"', '"reader"', "ledger", "index", "deadlock.py:"):
        assert words in finding.text
    culprits = [thread for thread in report.threads if thread.culprit]
    assert {thread.name for thread in culprits} == {"writer", "reader"}
    for thread in culprits:
        languages = [frame.language for frame in thread.frames]
        assert "python" in languages
        assert "c" in languages or "native" in languages
        python = next(frame for frame in thread.frames if frame.language == "python")
        assert python.file
        assert python.file.endswith("deadlock.py")
        assert values(python), "locals"


def test_the_demonstration_shows_why_each_program_went_down(gimli):
    began_s = time.monotonic()
    done = gimli.call("demo", "--keep", os.path.join(gimli.directory, "demo"))
    assert done.returncode == 0, done.stderr
    for words in ("Null pointer: `campaign`", 'held by "archiver"', "Deadlock:", "GIMLI_STATE_DIR="):
        assert words in done.stdout
    print(f"the demonstration took {time.monotonic() - began_s:.1f} s")


def test_the_demonstration_goes_without_a_compiler(gimli):
    """From a wheel on a machine without gcc: the Python program alone, and it says so."""
    empty = os.path.join(gimli.directory, "bin")
    os.mkdir(empty)
    done = gimli.call(
        "demo", "--keep", os.path.join(gimli.directory, "demo"), env=gimli.environment | {"PATH": empty}
    )
    assert done.returncode == 0, done.stderr
    assert "there is no C compiler" in done.stdout
    assert "Deadlock:" in done.stdout


def test_a_program_of_the_original_library_is_served_and_explained(gimli):
    """It tells nobody by which signal it crashed: the kernel's frame on its stack does."""
    program = os.path.join(gimli.directory, "original_client")
    source = os.path.join(os.path.dirname(__file__), "..", "programs", "original_client.c")
    subprocess.run(["cc", "-g", "-O0", source, "-o", program], check=True)
    running = gimli.run("--no-preload", "--restart", "never", command=(program, "crash"))
    report = report_of(gimli, running)
    assert running.wait() == 139
    assert report.signal
    assert report.signal.name == "SIGSEGV"
    assert report.threads[0].crashed
    names = [frame.function for frame in report.threads[0].frames]
    assert not any("handler" in name for name in names), "the fault is shown, not its handler"
    assert "main" in names


def test_without_the_libraries_for_analysis_a_report_stays_raw_and_says_so(gimli):
    """A plain installation: the core and the facts are there, and the way to the stacks."""
    program = compile_example(gimli, "price_orders.c")
    # Modules that are None in sys.modules cannot be imported, as if they were not installed.
    script = gimli.write(
        "sitecustomize.py", "import sys; sys.modules['drgn'] = None; sys.modules['pystack'] = None\n"
    )
    environment = gimli.environment | {"PYTHONPATH": os.path.dirname(script)}
    done = gimli.call("run", "--restart", "never", "--", program, env=environment)
    assert done.returncode == 139
    assert "stays raw" in done.stderr
    assert "pip install 'gimli-monitor[analysis]'" in done.stderr
    shown = gimli.call("show", env=environment)
    assert "SIGSEGV (SEGV_MAPERR)" in shown.stdout
    assert "pip install 'gimli-monitor[analysis]'" in shown.stderr
    assert gimli.call("demo", env=environment).returncode == 1
