"""``gimli lab``: incidents replayed, and explained by switching one cause at a time."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from gimli.cli import lab_search, lab_text
from gimli.cli.lab_options import JSON, SEED, progress
from gimli.cli.terminal import WIDTH, console
from gimli.errors import GimliError, UsageError
from gimli.lab import page
from gimli.lab.catalogue import find, names, text_of
from gimli.lab.network.scenario_schema import schema

if TYPE_CHECKING:
    from gimli.lab.scenario import Result

_GIMLI = (sys.executable, "-c", "from gimli.cli import main; main()")
_real = click.option("--real", "is_real", is_flag=True, help="Real programs instead of the simulation.")
_html = click.option("--html", metavar="FILE", help="Write a page with all pictures, - for the output.")
_pictures = click.option(
    "--pictures",
    "is_drawn",
    is_flag=True,
    help="Draw the network, the story, its windows, and spreads as text.",
)


@click.group("lab")
def command() -> None:
    """Replay incidents, and find their causes.

    The simulation is repeatable from its seed and needs nothing; --real runs real programs, in a directory or
    in network namespaces of their own, and leaves nothing behind. Networks need root.
    """


command.add_command(lab_search.command)


@command.command("list")
@JSON
def list_scenarios(*, as_json: bool) -> None:
    """List the scenarios that are shipped."""
    scenarios = [find(name) for name in names()]
    if as_json:
        listed = [{"name": scenario.name, "about": scenario.about} for scenario in scenarios]
        click.echo(json.dumps({"schema": 1, "scenarios": listed}, indent=2))
        return
    longest = max(len(scenario.name) for scenario in scenarios)
    for scenario in scenarios:
        click.echo(f"{scenario.name:<{longest}}  {scenario.about}")


@command.command("show")
@click.argument("scenario")
def show(*, scenario: str) -> None:
    """Print the file of a shipped SCENARIO, to begin one's own with."""
    click.echo(text_of(scenario), nl=False)


@command.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of a scenario file, for editors."""
    click.echo(json.dumps(schema(), indent=2))


@command.command("run")
@click.argument("scenario")
@SEED
@_real
@click.option("--pcap", metavar="DIR", default="", help="With --real: one pcapng file per host there.")
@_pictures
@JSON
@_html
def run(
    *, scenario: str, seed: int, is_real: bool, pcap: str, is_drawn: bool, as_json: bool, html: str | None
) -> int:
    """Play SCENARIO once, and say whether what was expected came.

    SCENARIO is a name that the list has, or a FILE.toml of your own.

    Exit status: 0 when every expectation holds, 1 when one does not or the scenario cannot be played here.
    """
    played = find(scenario)
    tell = progress()
    if pcap and not is_real:
        raise UsageError("--pcap needs --real", why="a simulation has no bytes", fix="add --real")
    result = played.real(seed, _GIMLI, tell, pcap) if is_real else played.simulate(seed)
    _show(result, is_drawn=is_drawn, as_json=as_json, html=html)
    return 0 if result.holds else 1


@command.command("explain")
@click.argument("scenario")
@SEED
@click.option(
    "--runs",
    type=click.IntRange(1, 100_000),
    help="Runs of each change, with the seeds from --seed on; each scenario has its own default.",
)
@_real
@_pictures
@JSON
@_html
def explain(
    *,
    scenario: str,
    seed: int,
    runs: int | None,
    is_real: bool,
    is_drawn: bool,
    as_json: bool,
    html: str | None,
) -> None:
    """Play SCENARIO again and again with one cause switched off at a time, and say which changes cure it.

    SCENARIO is a name that the list has, or a FILE.toml of your own.

    With --real each change is played three times, or --runs.
    """
    played = find(scenario)
    tell = progress()
    result = (
        played.explain_real(seed, runs, _GIMLI, tell)
        if is_real
        else played.explain(seed, runs or played.runs, tell)
    )
    _show(result, is_drawn=is_drawn, as_json=as_json, html=html)


def _show(result: Result, *, is_drawn: bool, as_json: bool, html: str | None) -> None:
    if html == "-":
        click.echo(page.render(result))
        return
    if html is not None:
        _write(html, page.render(result))
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
        return
    screen = console()
    for line in lab_text.render(result, min(screen.width, WIDTH), is_drawn=is_drawn):
        screen.print(line, soft_wrap=True)


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise GimliError(
            f"cannot write {path}",
            why=os.strerror(error.errno or 0),
            fix="name a file in a directory that is yours: --html /tmp/lab.html",
        ) from error
    click.echo(f"written: {path}", err=True)
