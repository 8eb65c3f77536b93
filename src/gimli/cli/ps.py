"""``gimli ps``: the services and how they are."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from gimli import status
from gimli.cli.terminal import console
from gimli.cli.unwatched import describe_unwatched
from gimli.clock import format_duration
from gimli.control import client

_COLOURS = {
    "running": "green",
    "failed": "bold red",
    "backoff": "yellow",
    "capturing": "yellow",
    "debugged": "cyan",
    "killing": "red",
}

_HEADINGS = ("SERVICE", "STATE", "PID", "UP", "RESTARTS", "BEAT", "LAST REPORT")


@click.command("ps")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, schema 1.")
def command(*, as_json: bool) -> None:
    """Show the services of all monitors of this user, and how they are.

    \b
    STATE     down, starting, running, capturing, stopping, killing, backoff, failed;
              debugged: it runs, and its watchdog waits until a debugger has let go
    BEAT      how long ago the program last beat; - when it has no heartbeat
    """  # noqa: D301 - \b is click's mark for a paragraph that is not wrapped
    monitors = [answer for _, answer in client.all_status()]
    services = [
        {**service, "monitor": found["monitor"]["pid"]} for found in monitors for service in found["services"]
    ]
    if as_json:
        heads = [found["monitor"] for found in monitors]
        document = {
            "schema": status.SCHEMA,
            "monitor": heads[0] if heads else None,
            "monitors": heads,
            "services": services,
        }
        click.echo(json.dumps(document, indent=2))
        return
    unwatched = describe_unwatched()
    for line in unwatched:
        click.echo(f"gimli: {line}", err=True)
    if not services and unwatched:
        return
    if not services:
        click.echo("no service: start one with `gimli run -- COMMAND` or `gimli up`", err=True)
        return
    console().print(_table(services))


def _table(services: list[dict[str, Any]]) -> Table:
    rows = [_cells(service) for service in services]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, heading in enumerate(_HEADINGS[:-1]):
        # A path in the remark is one long word: the other columns must not shrink for it.
        width = max(len(heading), *(len(cells[column]) for cells in rows))
        table.add_column(heading, no_wrap=True, min_width=width)
    table.add_column(_HEADINGS[-1], overflow="fold")
    for cells in rows:
        name, state, *rest = cells
        table.add_row(Text(name), Text(state, style=_COLOURS.get(state, "")), *map(Text, rest))
    return table


def _cells(service: dict[str, Any]) -> tuple[str, ...]:
    return (
        service["name"],
        _state(service),
        _or_dash(service["pid"]),
        _age(service["uptime_s"]),
        str(service["restarts"]),
        _age(service["beat_age_s"]),
        _remark(service),
    )


def _state(service: dict[str, Any]) -> str:
    """Its state; for a program that a debugger holds, that it does."""
    is_watched = service["state"] in {"starting", "running"}
    return "debugged" if is_watched and service.get("debugger") else str(service["state"])


def _remark(service: dict[str, Any]) -> str:
    parts = []
    if report := service["last_report"]:
        parts.append(f"{report['id']} {report['reason']}: {report['summary'] or 'being analysed'}")
    if service["because"] and service["state"] in {"backoff", "failed"}:
        parts.append(service["because"])
    if service["next_start_s"] is not None:
        parts.append(f"next try in {format_duration(service['next_start_s'])}")
    if debugger := service.get("debugger"):
        parts.append(f"watchdog paused: {status.describe_tracer(debugger)} attached")
    if late := service.get("late"):
        parts.append(f"beat late, not taken for a hang yet: {late}")
    if service["note"]:
        parts.append(f'"{service["note"]}"')
    return "; ".join(parts) or "-"


def _or_dash(item: object) -> str:
    return "-" if item is None else str(item)


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else format_duration(seconds)
