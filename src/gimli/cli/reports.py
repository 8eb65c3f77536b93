"""``gimli reports``: which reports there are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from gimli import paths, report
from gimli.cli import when
from gimli.cli.lines import safe
from gimli.cli.terminal import console
from gimli.store.index import Store
from gimli.value import fields_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gimli.store.index import Entry, Group


@click.command("reports")
@click.argument("service", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON document, schema 1.")
@click.option("--group", is_flag=True, help="One line per cause: reports of one signature together.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the newest N.")
@click.option("--state-dir", metavar="DIR", help="Where reports are kept.")
def command(
    *, service: str | None, as_json: bool, group: bool, limit: int | None, state_dir: str | None
) -> None:
    """List the reports of all services or of SERVICE, the newest last.

    COUNT is how many reports have the same signature: the same cause, as far as stacks can tell.
    """
    store = Store(state_dir or paths.state_dir())
    groups = store.groups(service)[-(limit or 0) :] if group else []
    entries = [] if group else store.entries(service, limit)
    if as_json:
        rows: dict[str, Any] = {"groups": groups} if group else {"reports": entries}
        named = {name: [fields_of(row) for row in found] for name, found in rows.items()}
        click.echo(json.dumps({"schema": report.SCHEMA, **named}, indent=2))
    elif groups or entries:
        console().print(_table_of_groups(groups) if group else _table_of_entries(entries))
    else:
        _say_there_are_none(store, service)


def _table_of_entries(entries: Sequence[Entry]) -> Table:
    table = _table("ID", "TIME", "SERVICE", "REASON", "COUNT", "SUMMARY")
    for entry in entries:
        damaged = f"damaged: {entry.damage}"
        summary = Text(safe(damaged), style="red") if entry.damage else Text(safe(entry.summary))
        table.add_row(
            *_cells(entry.id, when.short(entry.time), entry.service, entry.reason, entry.count), summary
        )
    return table


def _table_of_groups(groups: Sequence[Group]) -> Table:
    table = _table("LATEST", "FIRST", "LAST", "SERVICE", "REASON", "COUNT", "SUMMARY")
    for group in groups:
        first, last = when.short(group.first), when.short(group.last)
        cells = _cells(group.latest_id, first, last, group.service, group.reason, group.count)
        table.add_row(*cells, Text(safe(group.summary)))
    return table


def _table(*headings: str) -> Table:
    """A table whose last column alone is wrapped: every other cell is whole on one line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        is_count = heading == "COUNT"
        table.add_column(
            heading,
            justify="right" if is_count else "left",
            no_wrap=heading != headings[-1],
            overflow="fold",
        )
    return table


def _cells(*items: object) -> list[Text]:
    """Cells without markup or control characters; an empty one, as of a damaged report, is a dash."""
    return [Text(safe(str(item)) or "-") for item in items]


def _say_there_are_none(store: Store, service: str | None) -> None:
    """To standard error: an empty list is no failure, and a pipe gets nothing."""
    services = sorted({entry.service for entry in store.entries() if entry.service}) if service else []
    if services:
        click.echo(f"no report of {service!r}; there are some of: {', '.join(map(safe, services))}", err=True)
        return
    click.echo(f"no report yet in {store.state_dir}", err=True)
    click.echo("  one is made when a service crashes or hangs; see it done: gimli demo", err=True)
