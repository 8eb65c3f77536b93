"""``gimli up``: all services of a file."""

from __future__ import annotations

import os

import click

from gimli import paths
from gimli.cli import launch
from gimli.monitor.config_file import load_whole


@click.command("up")
@click.option(
    "-f", "--file", "path", default="gimli.toml", show_default=True, metavar="FILE", help="The configuration."
)
@click.option("--detach", is_flag=True, help="Go to the background once the monitor stands.")
@click.option("--state-dir", metavar="DIR", help="Where reports, logs and journals are kept.")
def command(*, path: str, detach: bool, state_dir: str | None) -> None:
    """Run all services of a gimli.toml under one monitor, until `gimli down`.

    \b
    [service.web]
    command = ["gunicorn", "shop:app"]
    watchdog = "30s"
    """  # noqa: D301 - \b is click's mark for a paragraph that is not wrapped
    state = os.path.abspath(state_dir) if state_dir else paths.state_dir()
    services, limits = load_whole(path, state)
    told = launch.monitor_config(services, instance="up", state_dir=state, foreground=False, **limits)
    if detach:
        pid = launch.detach(told)
        click.echo(f"monitor runs as pid {pid} with {len(services)} services; see: gimli ps")
    else:
        launch.become(told)
