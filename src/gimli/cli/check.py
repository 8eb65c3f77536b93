"""``gimli check``: is a gimli.toml right?"""

from __future__ import annotations

import click

from gimli import paths
from gimli.cli import launch
from gimli.monitor.config_file import load


@click.command("check")
@click.option(
    "-f", "--file", "path", default="gimli.toml", show_default=True, metavar="FILE", help="The configuration."
)
def command(*, path: str) -> None:
    """Check a gimli.toml: every key, every value, every command. Starts nothing."""
    services = load(path, paths.state_dir())
    for service in services:
        launch.check_command(service)
    click.echo(f"{path}: {len(services)} services, no error")
