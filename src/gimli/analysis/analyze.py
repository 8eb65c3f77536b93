"""How does a captured process become a report?

The analysis helper's main module: reads ``facts.json`` and ``core`` of one report directory, lets drgn and
pystack read the core in processes of their own, explains, and writes ``report.json`` whole or not at all.
What fails on the way is a note in the report (docs/reference/capture.md).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import json
import os
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gimli import report as reports
from gimli.analysis.corefile import Core, NotACore, read_core
from gimli.analysis.evidence import AbortMessage, Evidence, NativeThread, Note, PythonThread
from gimli.analysis.explain import explain
from gimli.analysis.facts import kernel_threads, read_facts, read_journal
from gimli.analysis.merge import is_interpreter
from gimli.analysis.source import source_line, source_text
from gimli.analysis.workers import Outcome, limit_self, run_steps
from gimli.errors import AnalysisUnavailable, GimliError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

STEP_LIMIT_S = 20.0
_ADDRESS_SPACE_BYTES = 4 << 30
_CPU_S = 60


def main(arguments: list[str]) -> int:
    """Analyse one report directory; the exit status."""
    parser = argparse.ArgumentParser(
        prog="gimli-analysis", description="Makes report.json of facts.json and core."
    )
    parser.add_argument("directory", metavar="REPORT_DIR")
    parser.add_argument("--journal", metavar="FILE", help="append the service's events after the capture")
    options = parser.parse_args(arguments)
    started_s = time.monotonic()
    try:
        limit_self(address_space_bytes=_ADDRESS_SPACE_BYTES + _core_bytes(options.directory), cpu_s=_CPU_S)
        facts = read_facts(options.directory)
        report = analyse(options.directory, facts, base_report(options.directory, facts))
        report = _with_journal(report, facts, options.journal)
        timings = {**report.timings_ms, "analysis": round((time.monotonic() - started_s) * 1000, 1)}
        write_report(options.directory, replace(report, timings_ms=timings))
    except (GimliError, OSError) as error:
        print(f"gimli-analysis: {error}", file=sys.stderr)  # noqa: T201 - a helper's message to its monitor
        return 1
    message = {"event": "analysed", "id": report.id, "signature": report.signature, "summary": report.summary}
    print(json.dumps(message), flush=True)  # noqa: T201 - the helper's one line of output
    return 0


def _core_bytes(directory: str) -> int:
    """The readers map the core into their memory, holes and all: that much more may be theirs."""
    try:
        return os.stat(os.path.join(directory, "core")).st_size
    except OSError:
        return 0


def base_report(directory: str, facts: dict[str, Any]) -> reports.Report:
    """The report that the facts make by themselves.

    Raises:
        AnalysisUnavailable: they are not what a capture writes.
    """
    try:
        return reports.from_facts(facts)
    except ValueError as error:
        raise AnalysisUnavailable(f"{directory}/facts.json is not a capture's", why=str(error)) from error


def analyse(directory: str, facts: dict[str, Any], base: reports.Report) -> reports.Report:
    """The report of a directory, made of whatever can be read."""
    try:
        evidence = gather(directory, base, facts)
        return explain(base, evidence, source_text=source_text, source_line=source_line)
    except Exception as error:  # noqa: BLE001 - our own bug must not cost the operator the facts
        traceback.print_exc()
        note = (
            f"the analysis failed ({type(error).__name__}: {error}): this report is made of the facts alone"
        )
        return replace(base, notes=(*base.notes, note))


def gather(directory: str, base: reports.Report, facts: dict[str, Any]) -> Evidence:
    """What can be seen of the process: facts, and the core if there is one."""
    evidence = Evidence(facts, kernel_threads(facts))
    if base.core is None:
        return evidence
    path = os.path.join(directory, os.path.basename(base.core))
    try:
        core = read_core(path)
    except NotACore as error:
        return replace(evidence, notes=(f"no stacks: {base.core} is not a core: {error}",))
    except OSError as error:
        return replace(
            evidence, notes=(f"no stacks: cannot read {base.core}: {os.strerror(error.errno or 0)}",)
        )
    outcomes = run_steps(_steps(path, core, base, facts), limit_s=STEP_LIMIT_S)
    return _sorted_out(evidence, outcomes)


def _steps(
    path: str, core: Core, base: reports.Report, facts: dict[str, Any]
) -> dict[str, Callable[[], Iterable[Any]]]:
    """The readers that this core needs: pystack only for Python."""
    steps: dict[str, Callable[[], Iterable[Any]]] = {
        "drgn": functools.partial(_read_native, path, core, base, facts)
    }
    interpreter = next((each for each in sorted(core.paths) if is_interpreter(each)), None)
    if interpreter:
        steps["pystack"] = functools.partial(_read_python, path, core, base)
    return steps


def _read_native(path: str, core: Core, base: reports.Report, facts: dict[str, Any]) -> Iterable[Any]:
    """In the child: drgn is imported there, and only there."""
    if importlib.util.find_spec("drgn") is None:
        return [_not_installed("drgn", "native stacks and variables")]
    from gimli.analysis.native import read_native  # noqa: PLC0415 - 20 ms, and native code: in the child only

    crash = facts.get("crash")
    address = (base.signal.address or 0) if base.reason == "crash" and base.signal else None
    on_stack = isinstance(crash, dict) and not crash.get("ucontext")
    return read_native(path, core, fault_address=address, handler_on_stack=on_stack)


def _read_python(path: str, core: Core, base: reports.Report) -> Iterable[Any]:
    if importlib.util.find_spec("pystack") is None:
        return [_not_installed("pystack", "Python stacks and variables")]
    from gimli.analysis.python import read_python  # noqa: PLC0415 - 60 ms, and native code: in the child only

    executable = base.process.get("exe")
    is_there = isinstance(executable, str) and os.path.exists(executable)
    return read_python(path, core, executable if is_there else None)


def _not_installed(name: str, what: str) -> Note:
    return Note(f"{name} is not installed: no {what}; run: pip install 'gimli-monitor[analysis]'")


def _sorted_out(evidence: Evidence, outcomes: dict[str, Outcome]) -> Evidence:
    """The readers' values by kind."""
    notes = list(evidence.notes)
    native: dict[int, NativeThread] = {}
    python: dict[int, PythonThread] = {}
    message = None
    for name, outcome in outcomes.items():
        for value in outcome.values:
            if isinstance(value, Note):
                notes.append(value.text)
            elif isinstance(value, AbortMessage):
                message = value.text
            elif isinstance(value, NativeThread):
                native[value.tid] = value
            elif isinstance(value, PythonThread):
                python[value.tid] = value
        if outcome.failure:
            notes.append(f"{name} could not read all of the core: {outcome.failure}")
    return replace(evidence, native=native, python=python, abort_message=message, notes=tuple(notes))


def _with_journal(report: reports.Report, facts: dict[str, Any], path: str | None) -> reports.Report:
    """The time line with what came after the capture: the exit, the restart."""
    since_ns = facts.get("monotonic_ns")
    if path is None or not isinstance(since_ns, int):
        return report
    after = read_journal(path, service=report.service, since_ns=since_ns)
    return replace(
        report, journal=(*report.journal, *(event for event in after if event not in report.journal))
    )


def write_report(directory: str, report: reports.Report) -> None:
    """Write ``report.json`` whole or not at all, for its owner only."""
    handle, temporary = tempfile.mkstemp(prefix=".report-", dir=directory)  # mode 0600
    try:
        with open(handle, "w", encoding="ascii") as file:
            json.dump(reports.to_json(report), file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, os.path.join(directory, "report.json"))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    directory_file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory_file)
    finally:
        os.close(directory_file)
