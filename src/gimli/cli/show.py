"""``gimli show``: one report."""

from __future__ import annotations

import json
import linecache
import os
import time
from typing import TYPE_CHECKING

import click

from gimli import paths, report
from gimli.cli import launch, report_text, when
from gimli.cli.terminal import WIDTH, console
from gimli.errors import UsageError
from gimli.store.index import Store
from gimli.store.reading import read_report

if TYPE_CHECKING:
    from gimli.cli.stacks import SourceLine

_ANALYSIS_S = 3.0
"""Twice what an analysis may take; then the facts alone are shown."""
_LOOK_EVERY_S = 0.05
_SOURCE_BYTES_MAX = 5_000_000
_SOURCE_SUFFIXES = (
    *(".py", ".pyx", ".pxd", ".pyi"),
    *(".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx", ".ipp", ".inc"),
    *(".rs", ".go", ".s", ".S"),
)


@click.command("show")
@click.argument("name", metavar="[REPORT]", default="latest")
@click.argument("service", required=False)
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON document, schema 1.")
@click.option(
    "--all", "everything", is_flag=True, help="Every thread, frame, value, event and line of output."
)
@click.option("--state-dir", metavar="DIR", help="Where reports are kept.")
def command(
    *, name: str, service: str | None, as_json: bool, everything: bool, state_dir: str | None
) -> None:
    """Show a report: what happened, why, and every thread's stack.

    REPORT is an id of `gimli reports`, its beginning, the directory of a report, or `latest`, which it is
    by default; `latest SERVICE` is the latest of that service.
    """
    if service and name != "latest":
        raise UsageError(
            f"{name!r} names one report already, {service!r} is one word too many",
            why="only `latest` takes a service",
            fix=f"run: gimli show {name}, or: gimli show latest {service}",
        )
    store = Store(state_dir or paths.state_dir())
    outside = _directory(name)
    report_id = None if outside else store.find(name, service)
    directory = outside or store.path(report_id or "")
    _see_to_analysis(directory)
    found = read_report(directory)
    if as_json:
        # ASCII: any terminal takes it, and JSON may hold what UTF-8 cannot.
        click.echo(json.dumps(report.to_json(found), indent=2))
        return
    screen = console()
    around = report_text.Surroundings(
        alike=store.alike(report_id) if report_id else None,
        core_path=_core_path(directory, found.core),
        name=outside or found.id,
        everything=everything,
        width=min(screen.width, WIDTH),
        source=source_as_of(found.time),
    )
    for line in report_text.render(found, around):
        screen.print(line, soft_wrap=True)


def _see_to_analysis(directory: str) -> None:
    """Somebody who asks right after a crash means the report that is just being made.

    One that nobody makes any more is made now: the helper was killed, or its libraries were not installed.
    """
    analysed, facts = (os.path.join(directory, name) for name in ("report.json", "facts.json"))
    if os.path.exists(analysed) or not os.path.exists(facts):
        return
    if not launch.analysis_command():
        click.echo("gimli: the facts alone: no library that reads a core is installed", err=True)
        click.echo("  pip install 'gimli-monitor[analysis]'", err=True)
        return
    until_s = os.stat(facts).st_mtime + _ANALYSIS_S
    while time.time() < until_s:
        if os.path.exists(analysed):
            return
        time.sleep(_LOOK_EVERY_S)
    if os.access(directory, os.W_OK):
        launch.analyse(directory)


def _directory(name: str) -> str:
    """The directory of a report that was named by a path, to it or to a file in it; else nothing."""
    if os.path.isfile(name) and os.path.basename(name) in {"report.json", "facts.json", "core"}:
        return os.path.dirname(os.path.abspath(name))
    return name.rstrip("/") or "/" if os.sep in name and os.path.isdir(name) else ""


def _core_path(directory: str, core: str | None) -> str | None:
    """Where the core is, if it has not been pruned. Its name is of a report, which may lie: no path."""
    if not core:
        return None
    path = os.path.abspath(os.path.join(directory, os.path.basename(core)))
    return path if os.path.isfile(path) else None


def source_as_of(time: str) -> SourceLine:
    """Read lines of source files, but of none that was changed after the report: they would lie.

    The names come from a program's debug information, and this may run as root: only regular files with
    the name of a source file are opened.
    """
    moment = when.parse(time)
    usable: dict[str, bool] = {}

    def line_of(file: str, line: int) -> str | None:
        if file not in usable:
            usable[file] = _is_source(file, moment.timestamp() if moment else None)
        return linecache.getline(file, line).rstrip("\n") if usable[file] else None

    return line_of


def _is_source(path: str, not_after_s: float | None) -> bool:
    if not os.path.isabs(path) or not os.path.realpath(path).endswith(_SOURCE_SUFFIXES):
        return False
    try:
        info = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return False
    is_old_enough = not_after_s is None or info.st_mtime <= not_after_s
    return os.path.isfile(path) and info.st_size <= _SOURCE_BYTES_MAX and is_old_enough
