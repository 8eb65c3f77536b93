"""``gimli prune``: keep the reports to their quota now."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from gimli import paths
from gimli.clock import parse_duration
from gimli.monitor.gap import format_size
from gimli.store.pruning import prune, to_prune
from gimli.store.quota import Limits
from gimli.toml_file import parse_size
from gimli.value import fields_of, replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gimli.store.quota import Removal

_SCHEMA = 1


@click.command("prune")
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, schema 1.")
@click.option("--keep", type=click.IntRange(0), metavar="N", help="At most so many reports; by default 500.")
@click.option(
    "--max-size", metavar="SIZE", help="All reports together; by default 10 % of the disk, 2GB at most."
)
@click.option("--older-than", metavar="DURATION", help="Older ones go; by default 90d.")
@click.option("--state-dir", metavar="DIR", help="Where reports are kept.")
def command(
    *,
    dry_run: bool,
    as_json: bool,
    keep: int | None,
    max_size: str | None,
    older_than: str | None,
    state_dir: str | None,
) -> None:
    """Remove reports that are too old, too many or too large, and say why.

    Of reports of the same cause the first and the last core are kept. A monitor does the same each time it
    stores a report, by the limits of its gimli.toml.
    """
    limits = Limits()
    if keep is not None:
        limits = replace(limits, max_count=keep)
    if max_size is not None:
        limits = replace(limits, max_bytes=parse_size(max_size, "--max-size"))
    if older_than is not None:
        limits = replace(limits, max_age_s=parse_duration(older_than, "--older-than"))
    work = to_prune if dry_run else prune
    removals = work(state_dir or paths.state_dir(), limits, time.time())
    if as_json:
        rows = [fields_of(removal) for removal in removals]
        freed = {"dry_run": dry_run, "freed_bytes": sum(removal.size_bytes for removal in removals)}
        click.echo(json.dumps({"schema": _SCHEMA, **freed, "removed": rows}, indent=2))
    else:
        _print(removals, dry_run=dry_run)


def _print(removals: Sequence[Removal], *, dry_run: bool) -> None:
    for removal in removals:
        size = format_size(removal.size_bytes)
        click.echo(f"{removal.id}  {removal.what:<6}  {size:>8}  {removal.why}")
    verb = "would be removed" if dry_run else "removed"
    freed = format_size(sum(removal.size_bytes for removal in removals))
    click.echo(f"{verb}: {len(removals)}, {freed}" if removals else "nothing has to go", err=not removals)
