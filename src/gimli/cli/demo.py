"""``gimli demo``: three real programs go down, and why.

Nothing is staged: the programs are those in ``examples/``, compiled here when there is a compiler, run by a
monitor of their own in a directory of their own, and everything shown comes out of their reports.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

import gimli
from gimli import paths
from gimli.cli import launch, library, report_text
from gimli.cli.show import source_as_of
from gimli.cli.terminal import WIDTH, console
from gimli.control import client
from gimli.errors import GimliError
from gimli.monitor import config
from gimli.store.index import Store
from gimli.store.reading import read_report

if TYPE_CHECKING:
    from collections.abc import Iterator

_THREAD_LINES_MAX = 30
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class _Program:
    name: str
    source: str
    arguments: tuple[str, ...]
    about: str


_PROGRAMS = (
    _Program("pricing", "price_orders.c", (), "a C program that prices orders and crashes deep in its calls"),
    _Program("mailing", "stuck_worker.c", (), "a C program of four workers; one of them gets stuck"),
    _Program("ledger", "deadlock.py", (), "a Python program of two threads that wait for each other"),
)


@click.command("demo")
@click.option("--keep", metavar="DIR", help="Work in DIR instead of a new temporary directory.")
def command(*, keep: str | None) -> None:
    """Run three programs under gimli, let them go down, and show the essence of each report.

    Takes about ten seconds. Without a C compiler the Python program goes alone.
    """
    if not launch.analysis_command():
        raise GimliError(
            "the demonstration cannot explain anything here",
            why="no library that reads a core is installed",
            fix="pip install 'gimli-monitor[analysis]'",
        )
    directory = os.path.abspath(keep) if keep else tempfile.mkdtemp(prefix="gimli-demo-")
    paths.make_private_dir(directory)
    os.environ[paths.ENV_STATE_DIR] = os.path.join(directory, "state")
    os.environ[paths.ENV_RUNTIME_DIR] = os.path.join(directory, "run")
    began_s = time.monotonic()
    services = tuple(_services(directory))
    told = launch.monitor_config(services, instance="demo", state_dir=None, foreground=False)
    pid = launch.detach(told)
    click.echo(f"\nthe monitor runs as pid {pid} and holds {len(services)} programs\n")
    socket_path = os.path.join(told.instance_dir, client.SOCKET_NAME)
    try:
        reports = _watch(socket_path, {service.name for service in services})
        click.echo("\n$ gimli ps", nl=True)
        subprocess.run([*_gimli(), "ps"], check=False)
        for name, report_id in reports.items():
            _show_essence(name, report_id, told.state_dir)
    finally:
        for _ in client.follow(socket_path, "shutdown"):
            pass
    _say_where(directory, told.state_dir, time.monotonic() - began_s)


def _services(directory: str) -> Iterator[config.Service]:
    """The programs, compiled where that is needed and possible."""
    examples = _examples()
    compiler = shutil.which("cc") or shutil.which("gcc")
    for program in _PROGRAMS:
        # A copy beside the program, so that the stacks show short paths.
        source = shutil.copy(os.path.join(examples, program.source), directory)
        if program.source.endswith(".py"):
            run: tuple[str, ...] = (sys.executable, source)
        elif compiler:
            run = (_compile(compiler, source, os.path.join(directory, program.name)),)
        else:
            click.echo(f"{program.name}: left out, there is no C compiler (apt install gcc)")
            continue
        click.echo(f"{program.name:<8} {program.about}")
        yield config.Service(
            name=program.name,
            command=(*run, *program.arguments),
            cwd=directory,
            log=config.Log(os.path.join(directory, f"{program.name}.log")),
            # The second restart waits: one report of each tells the story.
            policy=config.Policy(
                config.Intervals(stop_s=5.0), config.Restart.ON_FAULT, config.Backoff(60.0, 60.0)
            ),
            environment=(("PYTHONPATH", os.path.dirname(os.path.dirname(os.path.abspath(gimli.__file__)))),),
        )


def _examples() -> str:
    """The example programs: in the installed package, or beside ``src`` in a checkout."""
    package = os.path.dirname(os.path.abspath(gimli.__file__))
    places = (os.path.join(package, "examples"), os.path.join(package, "..", "..", "examples"))
    for place in places:
        if os.path.isdir(place):
            return os.path.abspath(place)
    raise GimliError("the example programs are not installed", why=f"there is no {places[0]}")


def _compile(compiler: str, source: str, program: str) -> str:
    flags = f"{library.compiler_flags('cflags')} {library.compiler_flags('libs')}".split()
    done = subprocess.run(
        [compiler, "-g", "-O0", "-pthread", source, *flags, "-o", program],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise GimliError(f"cannot compile {source}", why=done.stderr.strip(), fix="apt install gcc libc6-dev")
    return program


def _watch(socket_path: str, expected: set[str]) -> dict[str, str]:
    """Follow the journal until each program went down, was restarted, and was explained."""
    reports: dict[str, str] = {}
    events = client.follow(socket_path, "events", timeout_s=_PATIENCE_S)
    restarted: set[str] = set()
    until_s = time.monotonic() + _PATIENCE_S
    for answer in events:
        entry: dict[str, Any] = answer.get("entry") or {}
        name = str(entry.get("service"))
        if entry.get("event") == "started" and entry.get("restarts"):
            restarted.add(name)
        if entry.get("event") in {"analysed", "analysis-failed"}:
            reports.setdefault(name, str(entry["report"]))
        if entry:
            _tell(entry)
        if restarted >= expected and set(reports) >= expected:
            return reports
        if time.monotonic() > until_s:
            break
    raise GimliError(
        "the demonstration did not come to its end",
        why=f"no report of {', '.join(sorted(expected - set(reports)))}",
        fix="see what happened: gimli events",
    )


def _tell(entry: dict[str, Any]) -> None:
    from gimli.monitor.narrator import describe  # noqa: PLC0415 - the monitor's own words

    if words := describe(entry):
        click.echo(f"  {str(entry['time'])[11:23]}  {words}")


def _show_essence(name: str, report_id: str, state_dir: str) -> None:
    """The head, the why, and the culprits of a report."""
    directory = Store(state_dir).path(report_id)
    screen = console()
    report = read_report(directory)
    around = report_text.Surroundings(
        name=report_id, width=min(screen.width, WIDTH), source=source_as_of(report.time)
    )
    lines = report_text.render(report, around)
    blanks = [number for number, line in enumerate(lines) if not line.plain]
    threads_from, threads_to = blanks[1] + 1, blanks[2]
    shown = lines[: min(threads_to, threads_from + _THREAD_LINES_MAX)]
    click.echo(f"\n$ gimli show latest {name}")
    for line in shown:
        screen.print(line, soft_wrap=True)
    if len(shown) < threads_to:
        click.echo("  ...")


def _say_where(directory: str, state_dir: str, took_s: float) -> None:
    click.echo(
        f"\nThat took {took_s:.1f} s. The whole of each report, and everything else:\n"
        f"  export {paths.ENV_STATE_DIR}={state_dir}\n"
        "  gimli reports          every report\n"
        "  gimli show latest pricing --all\n"
        "  gimli events           the time line\n"
        f"The programs and their output are in {directory}"
    )


def _gimli() -> tuple[str, ...]:
    return (sys.executable, "-c", "from gimli.cli import main; main()")
